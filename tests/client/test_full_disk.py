"""A disk that is full, read-only or not there: training goes on, and what can be sent is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreshock
import pytest
import torch
from foreshock.__main__ import main
from foreshock.errors import SpoolBusyError
from foreshock.logs import OncePer
from foreshock.sender.post import Backoff, Outcome, drain
from foreshock.spool import Spool
from foreshock.testing import RecordingTransport
from foreshock.transport import Answer

from tests.client.conftest import Attach
from tests.client.models import perceptron, train
from tests.client.service import little_service

FULL_AND_BACK = """
import os, resource, signal, sys, torch, foreshock
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
foreshock.watch(model, enabled=False), __import__("foreshock.reducers.cpu"), "".encode("idna")
if os.geteuid() == 0 and sys.argv[2] == "ordinary":
    os.setgid(65534), os.setuid(65534)  # after the imports, which may lie where only root reads
watch = foreshock.watch(model, optimizer, run_id="full", url="http://127.0.0.1:9",
                        batch_frames=1, batch_seconds=0.01, close_timeout_seconds=3.0)
def steps(count):
    for _ in range(count):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        watch.step(loss=1.0)
    global num_steps
    num_steps += count
    waiting = watch._parts.outbox._spool._batches
    while sum(batch.num_frames for batch in list(waiting.values())) < num_steps:
        watch.flush(0.05)
num_steps = 0
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
steps(3)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
steps(3)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
steps(3)
if sys.argv[1] == "ends":
    watch.close()
else:
    print("ready", flush=True)
    signal.pause()
"""
"""A disk refuses every byte between steps 3 and 6: a limit of the process on its files, which binds
root and ordinary users alike, and makes a write fail as a full disk does."""

ON_A_SMALL_DISK = """
import sys, torch, foreshock
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with foreshock.watch(model, optimizer, run_id="small", url=sys.argv[1], batch_frames=1,
                     batch_seconds=0.01) as watch:
    for _ in range(40):
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        watch.step(loss=1.0)
    print("filled", watch.flush(0.5), flush=True)
    sys.stdin.readline()
    print("sent", watch.flush(30), flush=True)
"""


def _users() -> list[str]:
    """Root is bound by a full disk, and not by permissions: as root, both are tried."""
    return ["as we are", "ordinary"] if os.geteuid() == 0 else ["as we are"]


def _trainer(script: str, *arguments: str, spool_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "FORESHOCK_SPOOL_DIR": str(spool_dir)},
        text=True,
    )


def _open_to_all(folder: Path) -> None:
    """Let an ordinary user reach a folder below pytest's own."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    for parent in folder.parents:
        if parent.owner() == folder.owner() and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o711)


@pytest.mark.parametrize("user", _users())
def test_what_a_full_disk_refused_is_written_once_there_is_room(user: str, spool_dir: Path) -> None:
    """Frames wait in memory while the disk is full, and reach it before the process ends."""
    _open_to_all(spool_dir)
    with _trainer(FULL_AND_BACK, "ends", user, spool_dir=spool_dir) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert told.count("cannot be written") == 1
    with little_service() as service:
        assert main(["flush", "--url", service.url, "--timeout", "20"]) == 0
    assert service.store.steps == list(range(9))
    errors = [e.data for e in service.store.events if e.kind == "client_error"]
    assert [data["part"] for data in errors] == ["spool"], errors


@pytest.mark.parametrize("user", _users())
def test_a_kill_after_a_full_disk_loses_nothing(user: str, spool_dir: Path) -> None:
    """What waited in memory goes to the disk as soon as that takes anything again."""
    _open_to_all(spool_dir)
    with _trainer(FULL_AND_BACK, "waits", user, spool_dir=spool_dir) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
    with little_service() as service:
        assert main(["flush", "--url", service.url, "--timeout", "20"]) == 0
    assert service.store.steps == list(range(9))


def _mounted(folder: Path) -> bool:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    try:
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_small_disk_fills_and_every_frame_still_arrives(tmp_path: Path) -> None:
    """On a disk of 48 KiB, or under a limit of 1 KiB a file where nothing can be mounted, frames
    spill into memory while the service is away, and arrive once it is there."""
    disk = tmp_path / "disk"
    mounted = _mounted(disk)
    limit = "import resource as r\nr.setrlimit(r.RLIMIT_FSIZE, (1024, r.RLIM_INFINITY))\n"
    script = ON_A_SMALL_DISK if mounted else limit + ON_A_SMALL_DISK
    try:
        with little_service() as service:
            port = int(service.url.rpartition(":")[2])
        with _trainer(script, f"http://127.0.0.1:{port}", spool_dir=disk / "spool") as process:
            assert process.stdout is not None
            assert process.stdin is not None
            assert process.stdout.readline() == "filled False\n"
            with little_service(port=port) as service:
                process.stdin.write("\n")
                process.stdin.flush()
                assert process.stdout.readline() == "sent True\n"
                _, told = process.communicate(timeout=60)
        assert (process.returncode, told.count("cannot be written")) == (0, 1), told
        assert service.store.steps == list(range(40))
        assert service.store.batches[-1].counters.frames_dropped == 0
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("place", ["below a file", "on a read-only file system"])
def test_a_folder_that_cannot_be_made_costs_no_training(
    place: str,
    tmp_path: Path,
    attach: Attach,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """watch() does not raise: frames travel from memory, one warning and one event say so."""
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "spool" if place == "below a file" else Path("/proc/foreshock")
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer, spool_dir=folder, batch_frames=1)
    train(model, optimizer, watch, num_steps=5)
    watch.close()
    assert transport.steps == [0, 1, 2, 3, 4]
    (told,) = [e.data for e in transport.events if e.kind == "client_error"]
    assert told["part"] == "spool"
    assert "FORESHOCK_SPOOL_DIR" in told["error"]
    assert [r.levelname for r in caplog.records if "cannot be written" in r.message] == ["WARNING"]


UNWRITABLE = """
import os, sys, torch, foreshock
from foreshock.testing import RecordingTransport
model, transport = torch.nn.Linear(3, 2), RecordingTransport()
foreshock.watch(model, enabled=False), __import__("foreshock.reducers.cpu"), "".encode("idna")
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)  # after the imports, which may lie where only root reads
with foreshock.watch(model, transport=transport) as watch:
    watch.step(loss=1.0)
print([e.data["part"] for e in transport.events if e.kind == "client_error"], transport.steps)
"""


def test_a_folder_without_permission_costs_no_training(spool_dir: Path) -> None:
    """An ordinary user who may not write to the folder trains, and is told."""
    _open_to_all(spool_dir)
    spool_dir.chmod(0o555)
    with _trainer(UNWRITABLE, spool_dir=spool_dir) as process:
        output, told = process.communicate(timeout=60)
    assert output == "['spool'] [0]\n", told


def test_memory_that_stands_in_for_a_disk_is_bounded(
    tmp_path: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a disk the oldest frames go, beyond the bound, and are counted."""
    monkeypatch.setattr("foreshock.spool.MEMORY_BYTES", 64 << 10)
    (tmp_path / "file").write_text("in the way")
    spool = Spool.in_memory(tmp_path / "file" / "a", max_bytes=1 << 20, error=OSError("no disk"))
    dropped = 0
    for seq in range(100):
        dropped += sum(b.num_frames for b in spool.make_room(4096))
        assert spool.put(seq, 16, bytes(4096))
    assert (len(spool), dropped) == (16, 84 * 16)
    assert spool.close() == 16 * 16


def test_two_processes_with_one_rank_are_still_a_mistake(attach: Attach) -> None:
    """A disk may fail; the same run, attempt and rank twice is a setting, refused at the start."""
    settings: dict[str, Any] = {"run_id": "same", "attempt": 1}
    attach(perceptron(), **settings)
    with pytest.raises(SpoolBusyError, match="FORESHOCK_RANK"):
        foreshock.watch(perceptron(), **settings)


def test_flush_says_what_it_cannot_open(
    spool_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that cannot be locked is not silently left out: the exit status is 1."""
    folder = spool_dir / "run.1.0"
    (folder / "lock").mkdir(parents=True)
    (folder / "000000000000-1.batch").write_bytes(b"x")
    assert main(["flush", "--url", "http://127.0.0.1:9", "--timeout", "1"]) == 1
    assert "run.1.0" in capsys.readouterr().err


def test_a_batch_that_somebody_deleted_is_counted_as_lost(tmp_path: Path) -> None:
    """It is not taken for sent, and the one behind it arrives."""
    spool, transport, outcome = Spool(tmp_path, max_bytes=1 << 20), Taking(), Outcome()
    spool.put(0, 3, b"first")
    spool.put(1, 5, b"second")
    (tmp_path / "000000000000-3.batch").unlink()
    _drain(spool, transport, outcome)
    assert (transport.messages, outcome.frames_lost) == ([b"second"], 3)


def test_a_disk_that_does_not_give_back_for_a_moment_loses_nothing(tmp_path: Path) -> None:
    """Too many open files, say, is no reason to delete a batch."""
    spool, transport, outcome = Spool(tmp_path, max_bytes=1 << 20), Taking(), Outcome()
    spool.put(0, 3, b"first")
    path = tmp_path / "000000000000-3.batch"
    path.rename(tmp_path / "kept")
    path.mkdir()  # reading it is an OSError, for root as well

    def mend(seconds: float) -> None:
        path.rmdir()
        (tmp_path / "kept").rename(path)

    _drain(spool, transport, outcome, wait=mend)
    assert (transport.messages, outcome.frames_lost) == ([b"first"], 0)


class Taking(RecordingTransport):
    """Takes anything."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[bytes] = []

    def post_frames(self, message: bytes) -> Answer:
        """Keep the message as it is."""
        self.messages.append(message)
        return Answer(status=200)


def _drain(
    spool: Spool,
    transport: Taking,
    outcome: Outcome,
    wait: Callable[[float], object] = lambda seconds: None,
) -> None:
    backoff = Backoff(0.01, 0.01)
    drain(spool, transport, backoff, lambda: False, wait, outcome, once_per=OncePer())
    spool.close()
