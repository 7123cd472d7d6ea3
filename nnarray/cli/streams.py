"""Opening a table's file: what it is is looked at before it is read, and unpacking has bounds."""

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
"""The first bytes of a file, and what packed it."""

HARMLESS, DENSEST = 2**27, 200
"""Bytes that may be unpacked from any file, and beyond which a file may unpack to at most so many times its size."""


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
    if sys.stdin is None or sys.stdin.isatty():
        msg = "- stands for a table that is piped to standard input, and nothing is"
        raise CommandError(msg)
    return sys.stdin.buffer.read()


class Source:
    """A table's bytes, unpacked, from a file or standard input; they can be read several times."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard input" if path == STANDARD_INPUT else path
        self._content = read_standard_input() if path == STANDARD_INPUT else None
        if self._content is None:
            require_file(path)

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
        size = os.fstat(packed.fileno()).st_size if self._content is None else len(self._content)
        self._drain_bomb(packed, kind, size)
        return Unpacked(self.name, packed, kind, size)

    def _drain_bomb(self, packed: IO[bytes], kind: str | None, size: int) -> None:
        """Unpack a file that tells that it unpacks to far more than tables do, which raises CommandError."""
        told = 0
        if kind == "gzip" and size > 4:
            packed.seek(-4, os.SEEK_END)
            told = int.from_bytes(packed.read(4), "little")
        elif kind == "zstd":
            told = _told_by_zstd(self.name, packed.read(32))
        packed.seek(0)
        if told > most_unpacked(size):
            chunk = bytearray(2**20)
            unpacking = Unpacked(self.name, packed, kind, size)
            while unpacking.readinto(chunk):
                pass
            packed.seek(0)

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


def _told_by_zstd(name: str, start: bytes) -> int:
    zstandard = _zstandard(name)
    try:
        told: int = zstandard.frame_content_size(start)
    except zstandard.ZstdError:  # told where it is unpacked
        return 0
    return told


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
    """The most bytes that a packed file of this size may hold."""
    return max(HARMLESS, DENSEST * size)


def _too_dense(name: str) -> str:
    return f"{name} unpacks to more than {DENSEST} times its size: this is no table"


def _zstandard(name: str) -> Any:
    try:
        import zstandard
    except ImportError:
        msg = f"{name} is packed with zstd, which needs zstandard: pip install zstandard (nnarray's extra [tables])"
        raise CommandError(msg) from None
    return zstandard


class Unpacked(io.RawIOBase):
    """A stream that counts what it gives, and refuses what is no text."""

    def __init__(self, name: str, packed: IO[bytes], kind: str | None, size: int) -> None:
        self.name, self._packed, self._kind = name, packed, kind
        self._stream = unpacked(name, packed, kind)
        self._most = most_unpacked(size) if kind else None
        self._given = 0

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
        self._given += len(content)
        if self._most is not None and self._given > self._most:
            raise CommandError(_too_dense(self.name))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._stream.close()
            self._packed.close()
        super().close()
