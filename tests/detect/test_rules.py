"""Detection goes by what is set for a run, from the next rows on, and loses nothing by it."""

from __future__ import annotations

from typing import Any

from foreshock_service.detectors.config import EngineConfig
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.domain.detection_rules import RuleScope
from foreshock_service.domain.incidents import Incident
from foreshock_service.pipeline import tuning
from foreshock_service.pipeline.detect import Detection
from foreshock_service.pipeline.session import DetectionSession
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import detection
from foreshock_service.store.incidents import list_incidents
from foreshock_service.store.session import Store
from foreshock_service.store.tables import detection_rule
from sqlalchemy import update

from tests.detect.runs import drain, store_run
from tests.detectors.traces import healthy

QUIET = {"disabled": ["non_finite", "growth"]}


def found(store: Store, run: str) -> list[Incident]:
    """A run's incidents, the first one first."""
    with store.read() as session:
        return [item.incident for item in reversed(list_incidents(session, run))]


def put(store: Store, scope: RuleScope, name: str, document: dict[str, Any]) -> None:
    """Set a rule."""
    tuning.put(store, scope, name, document, by="me", now=0.0)


def config_of(document: dict[str, Any]) -> EngineConfig:
    """A configuration as it would be set."""
    return EngineConfig.from_document(document)


def remembered(session: DetectionSession) -> dict[str, Any]:
    """What each detector remembers, as plain values."""
    detectors: dict[str, Any] = session.engine.state()["detectors"]
    return {name: repr(state) for name, state in detectors.items()}


def one_commit(detection_: Detection) -> None:
    """Read as many rows as one commit takes."""
    assert detection_.run_once() > 0


def test_a_detector_that_the_project_leaves_out_says_nothing(store: Store) -> None:
    """Until the run itself says otherwise: its own rule comes first."""
    put(store, RuleScope.PROJECT, "default", QUIET)
    for run in ("quiet", "loud"):
        store_run(store, run, num_frames=80, nan_from=60)
    put(store, RuleScope.RUN, "loud", {"disabled": []})

    drain(Detection(store, ServiceSettings()))

    assert found(store, "quiet") == []
    assert [item.kind for item in found(store, "loud")] == ["non_finite"]


def test_a_change_counts_from_the_next_rows_on(store: Store) -> None:
    """In a worker that holds the run already, and in one that takes it up from the database."""
    for run in ("held", "taken"):
        store_run(store, run, num_frames=96, nan_from=20)
        put(store, RuleScope.RUN, run, QUIET)
    worker = Detection(store, ServiceSettings(), frames_a_commit=48)
    one_commit(worker)
    assert found(store, "held") == found(store, "taken") == []
    tuning.remove(store, RuleScope.RUN, "held", by="me", now=0.0)
    drain(worker)
    assert [item.opened_step for item in found(store, "held")] == [48]
    assert found(store, "taken") == []


def test_a_change_counts_for_a_worker_that_comes_later(store: Store) -> None:
    """It takes the run up from the database, with the state that the other had committed."""
    store_run(store, "taken", num_frames=96, nan_from=20)
    put(store, RuleScope.RUN, "taken", QUIET)
    first = Detection(store, ServiceSettings(), frames_a_commit=48)
    one_commit(first)
    first.close()
    tuning.remove(store, RuleScope.RUN, "taken", by="me", now=0.0)

    drain(Detection(store, ServiceSettings()))

    assert [item.opened_step for item in found(store, "taken")] == [48]


def test_a_change_loses_no_baseline(store: Store) -> None:
    """A layer that grows is found at the same step, although the rule was set anew on the way."""
    for run in ("left", "changed"):
        store_run(store, run, num_frames=440, grow_from=360)
    worker = Detection(store, ServiceSettings(), frames_a_commit=200)
    one_commit(worker)
    put(store, RuleScope.RUN, "changed", {"disabled": ["plateau"]})
    drain(worker)

    left, changed = found(store, "left"), found(store, "changed")
    assert [item.kind for item in left] == ["explosion"]
    assert [(i.kind, i.onset_step, i.opened_step) for i in left] == [
        (i.kind, i.onset_step, i.opened_step) for i in changed
    ]


def test_a_detector_that_is_enabled_again_starts_fresh() -> None:
    """What it had not seen it does not know; the others go on."""
    frames = list(healthy(120).frames())
    session = DetectionSession()
    for frame in frames:
        session.push(frame)
    state = remembered(session)
    without = DetectionSession(config_of({"disabled": ["loss"]}))
    without.restore(session.state())
    again = DetectionSession()
    again.restore(without.state())

    fresh = remembered(DetectionSession())["loss"]
    assert remembered(again)["loss"] == fresh
    assert state["loss"] != fresh
    assert remembered(again)["plateau"] == state["plateau"]


def test_every_threshold_can_change_under_a_run() -> None:
    """Windows grow and shrink, streaks get longer and shorter: the state is taken up under all."""
    frames = list(healthy(150).frames())
    session = DetectionSession()
    for frame in frames[:100]:
        session.push(frame)
    for factor in (0.5, 2.0):
        thresholds = {
            name: {
                item.name: max(1, round(item.default * factor))
                for item in make.thresholds().described()
                if item.unit == "rows"
            }
            for name, make in DETECTORS.items()
        }
        other = DetectionSession(config_of({"thresholds": thresholds}))
        other.restore(session.state())
        for frame in frames[100:]:
            other.push(frame)


def test_a_rule_that_this_version_does_not_know_costs_no_detection(store: Store) -> None:
    """Set by another version: the run is read by the defaults, and goes on."""
    store_run(store, "sick", num_frames=80, nan_from=60)
    put(store, RuleScope.RUN, "sick", QUIET)
    with store.write() as session:
        unknown = {"disabled": ["a_detector_of_the_future"]}
        session.connection.execute(update(detection_rule).values(document=unknown))

    drain(Detection(store, ServiceSettings()))

    assert [item.kind for item in found(store, "sick")] == ["non_finite"]
    with store.read() as session:
        assert detection.next_ord(session, "sick", 0) == 80
