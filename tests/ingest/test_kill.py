"""kill -9 in the middle of writing: every acknowledged batch is stored exactly once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.frames import read_frames
from foreshock_service.store.session import Store

from tests.factories import make_batch
from tests.ingest.writer_process import FRAMES

ROOT = Path(__file__).parents[2]
ROUNDS = 3
ACKNOWLEDGED_PER_ROUND = 40


def _write_and_kill(url: str, seq: int) -> dict[int, int]:
    """Acknowledged batches and their ords, told by a process that was killed."""
    command = [sys.executable, "-m", "tests.ingest.writer_process", url, str(seq)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(ACKNOWLEDGED_PER_ROUND)]
        process.kill()
        lines += [line for line in process.stdout if line.endswith("\n")]
    return {int(number): int(ord0) for number, ord0 in (line.split() for line in lines)}


def test_acknowledged_batches_survive_a_kill(database_url: str) -> None:
    """Each round kills a writer with batches in flight; then the client sends all of them again."""
    acknowledged: dict[int, int] = {}
    for _ in range(ROUNDS):
        acknowledged |= _write_and_kill(database_url, len(acknowledged))
    store = Store(database_url)
    ingest = Ingest(store, ServiceSettings())
    ingest.start()
    try:
        futures = [
            ingest.submit(make_batch(seq=seq, first_step=seq * FRAMES, num_frames=FRAMES))
            for seq in sorted(acknowledged)
        ]
        receipts = [future.result(30) for future in futures]
        with store.read() as session:
            frames = read_frames(session, "run-1", 0, 0, 1_000_000)
    finally:
        ingest.stop()
        store.close()
    assert {receipt.status for receipt in receipts} == {"duplicate"}
    assert {receipt.seq: receipt.ord0 for receipt in receipts} == acknowledged
    assert [frame.ord for frame in frames] == list(range(len(frames)))
    steps = [frame.step for frame in frames]
    assert len(set(steps)) == len(steps)
    assert set(steps) >= {seq * FRAMES + i for seq in acknowledged for i in range(FRAMES)}
