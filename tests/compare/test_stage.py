"""The comparison on both databases: frames of several ranks in, one incident out."""

from __future__ import annotations

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import State
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.pipeline.compare import Compare
from foreshock_service.pipeline.detect import Detection
from foreshock_service.settings import ServiceSettings
from foreshock_service.store.session import Store
from foreshock_service.store.tables import delivery, finding
from sqlalchemy import func, select

from tests.compare.runs import drain, store_ranks, told
from tests.detect.runs import drain as detect_all
from tests.detect.runs import settings_with_webhook, store_run
from tests.factories import ATTEMPT


def test_the_odd_rank_becomes_one_incident(store: Store) -> None:
    """Named with its host, the first layer, and an alert."""
    store_ranks(store, "r", odd=2)
    assert drain(Compare(store, settings_with_webhook())) > 0
    (found,) = told(store, "r")
    assert found.sentence == (
        "Rank 2 on node-2 no longer holds the weights of the other ranks from step 30, first in "
        "layers.1 (1 of 4 weights differ); the loss has not moved"
    )
    assert (found.rank, found.incident.severity) == (2, Severity.CRITICAL)
    with store.read() as session:
        alerts = session.connection.scalar(select(func.count()).select_from(delivery))
        findings = session.connection.scalar(select(func.count()).select_from(finding))
    assert (alerts, findings) == (1, 1)


def test_of_two_ranks_both_are_named(store: Store) -> None:
    """There is no majority."""
    store_ranks(store, "r", ranks=(0, 1), odd=1)
    drain(Compare(store, ServiceSettings()))
    (found,) = told(store, "r")
    assert found.sentence.startswith(
        "Ranks 0, 1 on node-0, node-1 no longer hold the same weights from step 30"
    )


def test_ranks_that_have_sent_nothing_are_waited_for(store: Store) -> None:
    """Two ranks of three alone have no majority; the wait for one that never comes ends."""
    store_ranks(store, "r", ranks=(1, 2), odd=1, world=3)
    store_ranks(store, "s", ranks=(0, 2), odd=2, world=3)
    now = 0.0
    compare = Compare(store, ServiceSettings(), clock=lambda: now)
    assert drain(compare) == 0
    store_ranks(store, "r", ranks=(0,), world=3)
    drain(compare)
    (found,) = told(store, "r")
    assert found.incident.evidence["ranks"] == "1"
    assert told(store, "s") == []
    now = 61.0
    drain(compare)
    (found,) = told(store, "s")
    assert found.incident.evidence["ranks"] == "0, 2"


def test_replicas_shards_and_single_ranks_are_quiet(store: Store) -> None:
    """Equal ranks, ranks that were never equal, and a run of one rank."""
    store_ranks(store, "equal")
    store_ranks(store, "sharded", sharded=True)
    store_run(store, "alone", num_frames=64)
    drain(Compare(store, ServiceSettings()))
    assert [told(store, run) for run in ("equal", "sharded", "alone")] == [[], [], []]


def test_only_steps_that_all_ranks_have_are_compared(store: Store) -> None:
    """A rank that begins late and one that measures its weights less often are no fault."""
    store_ranks(store, "r", num_frames=96, late={1: 16}, thinned=frozenset({2}))
    drain(Compare(store, ServiceSettings(), rows_a_unit=12))
    assert told(store, "r") == []
    store_ranks(store, "s", num_frames=96, late={1: 16}, thinned=frozenset({2}), odd=1, since=60)
    drain(Compare(store, ServiceSettings(), rows_a_unit=12))
    (found,) = told(store, "s")
    assert found.incident.evidence["ranks"] == "1"
    assert found.incident.onset_step == 60


def test_it_recovers_when_the_ranks_are_equal_again(store: Store) -> None:
    """After as many rows as every incident, here because the odd rank is itself no more."""
    store_ranks(store, "r", odd=2)
    store_ranks(store, "r", first=64, num_frames=48)
    drain(Compare(store, ServiceSettings()))
    assert [item.incident.state for item in told(store, "r")] == [State.RECOVERED]


def test_a_new_attempt_begins_anew(store: Store) -> None:
    """It may be sharded where the last one was not, and have other ranks."""
    store_ranks(store, "r")
    compare = Compare(store, ServiceSettings())
    drain(compare)
    store_ranks(store, "r", attempt=ATTEMPT + 1, ranks=(0, 1), sharded=True)
    drain(compare)
    assert told(store, "r") == []


def test_it_reads_what_compaction_has_moved(store: Store) -> None:
    """A comparison that is late finds the same."""
    store_ranks(store, "r", num_frames=320, odd=1, since=200)
    detect_all(Detection(store, ServiceSettings(), lease_seconds=0.0))
    assert compact_once(store) > 0
    drain(Compare(store, ServiceSettings()))
    (found,) = told(store, "r")
    assert found.incident.onset_step == 200


def test_detection_and_comparison_number_a_run_together(store: Store) -> None:
    """Each goes on where the other was, under one lease."""
    store_ranks(store, "r", num_frames=64, odd=1)
    detection = Detection(store, ServiceSettings(), frames_a_commit=16)
    compare = Compare(store, ServiceSettings(), owner=detection.owner)
    detection.run_once()
    drain(compare)
    detect_all(detection)
    assert [item.number for item in told(store, "r")] == [1]


def test_another_process_that_works_on_the_run_is_left_alone(store: Store) -> None:
    """The lease is one for detection and comparison."""
    store_ranks(store, "r", odd=1)
    Detection(store, ServiceSettings()).run_once()
    assert Compare(store, ServiceSettings()).run_once() == 0
