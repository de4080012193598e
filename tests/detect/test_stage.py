"""The stage on both databases: frames in, incidents, findings, alerts and a cursor out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from foreshock.wire import FrameFlag
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.pipeline.detect import Detection
from foreshock_service.pipeline.ingest import Ingest
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.detection import next_ord
from foreshock_service.store.frames import read_frames
from foreshock_service.store.incidents import list_incidents
from foreshock_service.store.session import Store

from tests.detect.runs import drain, settings_with_webhook, store_run
from tests.factories import ALL_MEASURED, make_batch


def test_a_sick_run_becomes_one_incident(store: Store) -> None:
    """A tensor that turns NaN opens one incident, named, and the cursor is at the end."""
    store_run(store, "sick", nan_from=60, num_frames=80)
    drain(Detection(store, settings_with_webhook()))
    with store.read() as session:
        (found,) = list_incidents(session, "sick")
        assert next_ord(session, "sick", 0) == 80
    assert found.incident.kind == "non_finite"
    assert found.incident.root_series == "activation:layers.1"
    assert found.incident.onset_step == 60


def test_a_healthy_run_says_nothing(store: Store) -> None:
    """Frames are read, and nothing is told."""
    store_run(store, "well", num_frames=80)
    assert drain(Detection(store, ServiceSettings())) == 80
    with store.read() as session:
        assert list_incidents(session, "well") == []


def test_in_a_run_of_several_ranks_the_sick_one_is_named(store: Store) -> None:
    """With its host, in the sentence and the evidence; a run of one rank needs no such words."""
    store_run(store, "r", num_frames=80)
    store_run(store, "r", num_frames=80, nan_from=60, rank=1)
    store_run(store, "alone", num_frames=80, nan_from=60)
    drain(Detection(store, settings_with_webhook()))
    with store.read() as session:
        (found,) = list_incidents(session, "r")
        (other,) = list_incidents(session, "alone")
    assert (found.rank, found.incident.evidence["rank"]) == (1, 1)
    assert found.sentence == (
        "First NaN or Inf in the activation of layers.1 at step 60 (rank 1); the loss has not moved"
    )
    assert other.sentence == found.sentence.replace(" (rank 1)", "")


def test_an_announced_change_is_read_with_its_frame(store: Store) -> None:
    """From batches, and from the blocks that compaction makes of them: a replay sees it too."""
    flags = np.full(300, int(ALL_MEASURED), np.uint32)
    flags[200] |= int(FrameFlag.ANNOUNCED)
    batch = make_batch("changed", num_frames=300)
    ingest = Ingest(store, ServiceSettings())
    ingest.start()
    ingest.submit(replace(batch, flags=flags)).result(timeout=30)
    ingest.stop()

    def announced() -> list[int]:
        with store.read() as session:
            return [f.ord for f in read_frames(session, "changed", 0, 0, 300) if f.announced]

    assert announced() == [200]
    drain(Detection(store, ServiceSettings()))
    assert compact_once(store) > 0
    assert announced() == [200]
