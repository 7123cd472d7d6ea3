"""Opening a table's file: its format is detected before it is read, and decompression is bounded."""

import bz2
import codecs
import gzip
import io
import lzma
import os
import stat
import sys
from typing import IO, Any

from nnarray.cli.errors import CommandError

STANDARD_INPUT = "-"

PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
"""The compression of a file by its first bytes."""

HARMLESS, DENSEST = 2**26, 100
"""Bytes to which any file may decompress, and the highest compression ratio of a longer stretch."""

FIRST_LOOK, PLAINLY_TEXT = 2**24, DENSEST // 4
"""Bytes unpacked after which a start that is packed less densely than this is that of an ordinary table."""


def require_file(path: str) -> None:
    """Raise as `open` does, and CommandError for a pipe or a device, which could keep us waiting for ever."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        msg = f"{path} is a folder, not a table"
        raise CommandError(msg)
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "no regular file"
        msg = f"{path} is {kind}: pipe a table to standard input and name it -"
        raise CommandError(msg)


def read_standard_input() -> bytes:
    """All of standard input."""
    if sys.stdin is None or _is_device(sys.stdin):
        msg = "- stands for a table that is piped to standard input, and nothing is"
        raise CommandError(msg)
    return sys.stdin.buffer.read()


def _is_device(stream: Any) -> bool:
    """Whether a stream is a terminal, or another device, such as /dev/zero, which may never end."""
    try:
        return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    except OSError:  # none of the system's: a test's
        return False


class Source:
    """A table's bytes, unpacked, from a file or standard input; they can be read several times."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == STANDARD_INPUT else path
        self._content = read_standard_input() if path == STANDARD_INPUT else None
        if self._content is None:
            require_file(path)
        self._is_looked_through = False

    def open(self) -> Any:
        """The unpacked bytes, from the first on. Reading them raises CommandError where they are none of a table."""
        packed = self._packed()
        try:
            stream: Any = io.BufferedReader(self._unpacked(packed), 2**20)
            if stream.peek(3).startswith(codecs.BOM_UTF8):
                stream.read(3)
        except BaseException:
            packed.close()
            raise
        return stream

    def _unpacked(self, packed: IO[bytes]) -> "Unpacked":
        start = packed.read(6)
        packed.seek(0)
        kind = next((kind for magic, kind in PACKED.items() if start.startswith(magic)), None)
        if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
            msg = f"{self.name} is a zip archive or a spreadsheet: unpack it, or export it as CSV"
            raise CommandError(msg)
        if kind is not None and not self._is_looked_through:
            self._look_through(kind)
            self._is_looked_through = True
        return Unpacked(self.name, packed, kind)

    def _look_through(self, kind: str) -> None:
        """Decompress and discard the start, as long as it is dense. Raises CommandError for what is no table.

        A file that declares a far larger size than tables have is decompressed to its end. In others, a dense stretch
        further on is refused when it is reached.
        """
        chunk = bytearray(2**20)
        with self._packed() as packed:
            is_suspect = _told(self.name, packed, kind) > most_unpacked(packed.seek(0, os.SEEK_END))
            packed.seek(0)
            with Unpacked(self.name, packed, kind) as unpacking:
                while unpacking.readinto(chunk) and (is_suspect or unpacking.is_dense):
                    pass

    def _packed(self) -> IO[bytes]:
        return open(self.path, "rb") if self._content is None else io.BytesIO(self._content)

    def open_packed(self) -> IO[bytes]:
        """The bytes as they are, for formats that are packed inside."""
        return self._packed()

    def start(self, count: int) -> bytes:
        """The first `count` bytes."""
        with self.open() as stream:
            content: bytes = stream.read(count)
            return content


def _told(name: str, packed: IO[bytes], kind: str) -> int:
    """The size that a file says it unpacks to; 0 where it says none."""
    if kind == "gzip" and packed.seek(0, os.SEEK_END) > 4:
        packed.seek(-4, os.SEEK_END)
        return int.from_bytes(packed.read(4), "little")
    if kind == "zstd":
        zstandard = _zstandard(name)
        try:
            packed.seek(0)
            told: int = zstandard.frame_content_size(packed.read(32))
        except zstandard.ZstdError:  # told where it is unpacked
            return 0
        return told
    return 0


def unpacked(name: str, packed: IO[bytes], kind: str | None) -> Any:
    """A stream of what the file holds, unpacked by what its first bytes say."""
    if kind == "gzip":
        return gzip.GzipFile(fileobj=packed)
    if kind == "bzip2":
        return bz2.BZ2File(packed)
    if kind == "xz":
        return lzma.LZMAFile(packed)
    if kind == "zstd":
        return _zstandard(name).ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    return packed


def most_unpacked(size: int) -> int:
    """The most bytes that what is packed in so many may hold."""
    return max(HARMLESS, DENSEST * size)


def refuse_dense(name: str, unpacked_size: int, size: int) -> None:
    """Raise CommandError for what unpacks to far more than tables do."""
    if unpacked_size > most_unpacked(size):
        msg = (
            f"{name} unpacks to more than {DENSEST} times its size, which tables do not: if it is one all the same, "
            "save it unpacked"
        )
        raise CommandError(msg)


def _zstandard(name: str) -> Any:
    try:
        import zstandard
    except ImportError:
        msg = f"{name} is packed with zstd, which needs zstandard: pip install zstandard (nnarray's extra [tables])"
        raise CommandError(msg) from None
    return zstandard


class Unpacked(io.RawIOBase):
    """A stream that refuses what is no text, and a stretch that is packed more densely than text is."""

    def __init__(self, name: str, packed: IO[bytes], kind: str | None) -> None:
        self.name, self._packed, self._kind = name, packed, kind
        self._stream = unpacked(name, packed, kind)
        self._given = self._stretch_given = self._stretch_packed = 0

    @property
    def is_dense(self) -> bool:
        """Whether what was given so far is packed so densely that it may be no table."""
        return self._given > PLAINLY_TEXT * self._packed.tell() or self._given < FIRST_LOOK

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer."""
        try:
            content = self._stream.read(len(buffer))
        except (EOFError, OSError, ValueError, lzma.LZMAError, ArithmeticError) as error:
            msg = f"{self.name} cannot be unpacked as {self._kind}: {error}"
            raise CommandError(msg) from error
        except Exception as error:
            if type(error).__module__.split(".")[0] not in {"zstandard", "zlib"}:
                raise
            msg = f"{self.name} cannot be unpacked as {self._kind}: {error}"
            raise CommandError(msg) from error
        if self._kind is not None:
            self._look_at_stretch(len(content))
        buffer[: len(content)] = content
        return len(content)

    def _look_at_stretch(self, count: int) -> None:
        """Raise CommandError where the last HARMLESS bytes came from too few."""
        self._given += count
        if self._given - self._stretch_given <= HARMLESS:
            return
        at = self._packed.tell()
        refuse_dense(self.name, self._given - self._stretch_given, at - self._stretch_packed)
        self._stretch_given, self._stretch_packed = self._given, at

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._stream.close()
            self._packed.close()
        super().close()
