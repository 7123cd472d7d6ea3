"""Files are written whole or not at all, and what killed processes left goes with the next write."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import nnarray as nn
from nnarray.backends import atomic
from nnarray.backends.atomic import write_atomically

HOLDS = """
import os, sys, time
from nnarray.backends import atomic
def wait(file):
    print("written", flush=True)
    time.sleep(60)
os.fsync = wait
atomic.write_atomically(sys.argv[1], b"x" * 1000)
"""


def begin_to_write(path: Path) -> "subprocess.Popen[str]":
    """A process in the middle of a write to `path`."""
    code = [sys.executable, "-c", HOLDS, str(path)]
    environment = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)}
    process = subprocess.Popen(code, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


needs_locks = pytest.mark.skipif(atomic.fcntl is None, reason="no locks on files here")


@needs_locks
def test_what_a_killed_save_left_goes_with_the_next_one(tmp_path) -> None:
    network, path = nn.Network((2, 3, 1)), tmp_path / "model.safetensors"
    for process in [begin_to_write(path) for _ in range(3)]:
        kill(process)
    assert len(os.listdir(tmp_path)) == 3
    nn.save(path, network, network.init(0))
    assert os.listdir(tmp_path) == [path.name]


@needs_locks
def test_what_a_living_process_writes_stays(tmp_path) -> None:
    writing = begin_to_write(tmp_path / "one")
    try:
        left = os.listdir(tmp_path)
        write_atomically(tmp_path / "two", b"2")
        assert sorted(os.listdir(tmp_path)) == sorted([*left, "two"])
    finally:
        kill(writing)
    write_atomically(tmp_path / "two", b"3")
    assert os.listdir(tmp_path) == ["two"]


def test_other_files_stay(tmp_path) -> None:
    names = [".nnarray-0123.tmp", "nnarray-0123456789abcdef.tmp", ".nnarray-0123456789abcdef.tmp2", "a.tmp"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / ".nnarray-0123456789abcdee.tmp").mkdir()
    (tmp_path / ".nnarray-0123456789abcded.tmp").symlink_to("a.tmp")
    os.mkfifo(tmp_path / ".nnarray-0123456789abcdec.tmp")
    before = sorted(os.listdir(tmp_path))
    write_atomically(tmp_path / "new", b"content")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "new"])


def test_many_writers_at_once(tmp_path) -> None:
    """Each takes the others' new files for abandoned now and then; all end, and one content is there."""
    contents = [bytes([i]) * 5000 for i in range(8)]

    def work(i: int) -> None:
        for _ in range(40):
            write_atomically(tmp_path / f"file{i % 2}", contents[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(os.listdir(tmp_path)) == ["file0", "file1"]
    assert (tmp_path / "file0").read_bytes() in contents[::2]
    assert (tmp_path / "file1").read_bytes() in contents[1::2]


class TestPictures:
    history = nn.History([nn.training.Epoch(1, 0.5, 0.1, 0.1), nn.training.Epoch(2, 0.4, 0.1, 0.2)])

    @pytest.mark.parametrize(
        ("name", "written", "begins"),
        [
            ("a.png", "a.png", b"\x89PNG"),
            ("a.PNG", "a.PNG", b"\x89PNG"),
            ("a", "a.png", b"\x89PNG"),
            ("a.b.pdf", "a.b.pdf", b"%PDF"),
            ("a.svg", "a.svg", b"<?xml"),
        ],
    )
    def test_the_name_says_the_format(self, name, written, begins, tmp_path) -> None:
        pytest.importorskip("matplotlib")
        self.history.plot(tmp_path / name)
        assert os.listdir(tmp_path) == [written]
        assert (tmp_path / written).read_bytes().startswith(begins)

    def test_a_full_disk_leaves_the_old_one(self, tmp_path, monkeypatch) -> None:
        pytest.importorskip("matplotlib")
        path = tmp_path / "a.png"
        path.write_bytes(b"old")

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            self.history.plot(path)
        assert (os.listdir(tmp_path), path.read_bytes()) == (["a.png"], b"old")

    def test_a_format_that_there_is_none_of_writes_nothing(self, tmp_path) -> None:
        pytest.importorskip("matplotlib")
        with pytest.raises(ValueError, match="nonsense"):
            self.history.plot(tmp_path / "a.nonsense")
        assert os.listdir(tmp_path) == []


WITHOUT_RIGHTS = """
import ctypes, os, struct, sys
def unprivileged():
    if os.geteuid() == 0:  # who may do everything by capabilities, of which it then has none
        header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
        assert ctypes.CDLL(None, use_errno=True).syscall(CAPSET, header, none) == 0
"""


def without_rights(code: str, *arguments: object) -> str:
    """What a process prints that may do what a file's owner may, and no more."""
    numbers = {"x86_64": 126, "aarch64": 91}
    if sys.platform != "linux" or os.uname().machine not in numbers:
        pytest.skip("root's capabilities are Linux's")
    code = WITHOUT_RIGHTS.replace("CAPSET", str(numbers[os.uname().machine])) + code
    environment = os.environ | {"PYTHONPATH": str(Path(nn.__file__).parent.parent)}
    call = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, env=environment, check=True, timeout=120).stdout


REQUIRES = """
from nnarray.backends.atomic import require_writable, write_atomically
unprivileged()
for path in sys.argv[1:]:
    for write in (require_writable, lambda path: write_atomically(path, b"new")):
        try:
            print(write(path))
        except OSError as error:
            print(error.strerror, error.filename == path)
"""


def test_what_cannot_be_written_is_known_before(tmp_path) -> None:
    for folder, mode in {"kept": 0o555, "hidden": 0o600, "sticky": 0o1777, "open": 0o755}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old").write_bytes(b"old")
        (tmp_path / folder).chmod(mode)
    paths = [tmp_path / folder / name for folder in ("kept", "hidden", "open") for name in ("old", "new")]
    if os.geteuid() == 0:
        paths.append(tmp_path / "sticky" / "old")
        for path in (paths[-1], paths[-1].parent):
            os.chown(path, 12345, 12345)
    told = without_rights(REQUIRES, *paths).splitlines()
    denied, nothing = "Permission denied True", "None"
    assert told[:12] == [denied] * 8 + [nothing] * 4
    assert told[12:] == ["Operation not permitted True"] * 2 * (os.geteuid() == 0)
    (tmp_path / "hidden").chmod(0o755)
    contents = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    olds = {f"{folder}/old": b"old" for folder in ("kept", "hidden", "sticky")}
    assert contents == {"open/old": b"new", "open/new": b"new", **olds}


TRAINS = """
import nnarray as nn
unprivileged()
try:
    nn.train(nn.Network((1, 1)), [[0.0, 1.0]], [[0.0, 1.0]], epochs=1, checkpoint=sys.argv[1], callback=print)
except PermissionError as error:
    print(error.strerror, error.filename == sys.argv[1])
"""


def test_a_run_does_not_begin_where_its_checkpoint_cannot_be_written(tmp_path) -> None:
    tmp_path.chmod(0o555)
    assert without_rights(TRAINS, tmp_path / "run") == "Permission denied True\n"
