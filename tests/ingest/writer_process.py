"""Writes batches until it is killed, and tells which ones were acknowledged.

Run as a program: the URL of a migrated database, then the first sequence number.
"""

from __future__ import annotations

import sys
from collections import deque
from concurrent.futures import Future

from foreshock_service.pipeline.admission import Receipt
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store

from tests.factories import make_batch

IN_FLIGHT = 8
FRAMES = 3


def main(url: str, seq: int) -> None:
    """Keep a few batches in flight, and print each one's number once it is acknowledged."""
    ingest = Ingest(Store(url), ServiceSettings())
    ingest.start()
    waiting: deque[tuple[int, Future[Receipt]]] = deque()
    while True:
        waiting.append(
            (seq, ingest.submit(make_batch(seq=seq, first_step=seq * FRAMES, num_frames=FRAMES)))
        )
        seq += 1
        if len(waiting) == IN_FLIGHT:
            number, future = waiting.popleft()
            sys.stdout.write(f"{number} {future.result().ord0}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
