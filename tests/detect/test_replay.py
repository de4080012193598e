"""A stored run replayed: what the live service recorded, and what another configuration would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from foreshock.wire import STATISTICS
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.domain.detection_rules import RuleScope
from foreshock_service.domain.incidents import IncidentChange, Transition
from foreshock_service.errors import Conflict, NotFound
from foreshock_service.incidents.comparison import compare
from foreshock_service.incidents.notification import notification
from foreshock_service.pipeline import tuning
from foreshock_service.pipeline.compact import compact_once
from foreshock_service.pipeline.detect import Detection
from foreshock_service.pipeline.replay import config_in_force, replay_run
from foreshock_service.pipeline.retain import retain_once
from foreshock_service.pipeline.triage import resolve
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import runs
from foreshock_service.store.session import Store

from tests.detect.runs import drain, settings_with_webhook, store_run
from tests.factories import ATTEMPT, make_batch, make_schema, make_stats
from tests.silent_client.runs import Place
from tests.store.writing import write

DEFAULT = EngineConfig()
DEAF = EngineConfig(disabled=frozenset({"non_finite"}))


def detect(store: Store) -> None:
    """Let the live stage read everything."""
    drain(Detection(store, ServiceSettings()))


def test_a_replay_finds_what_the_live_stage_recorded(store: Store) -> None:
    """Of two ranks that are sick in different ways, incident for incident, numbers and all."""
    store_run(store, "sick", num_frames=320, grow_from=100, nan_from=250)
    store_run(store, "sick", num_frames=200, nan_from=60, rank=1, seed=1)
    detect(store)

    replay = replay_run(store, "sick", [DEFAULT])

    assert replay.ranks == (0, 1)
    assert replay.replayed[0].num_steps == 320
    assert {item.rank for item in replay.recorded.incidents} == {0, 1}
    difference = compare(replay.recorded.incidents, replay.replayed[0].incidents)
    assert difference.sentences() == []
    assert replay.recorded.reasons == ()


def test_frames_in_blocks_are_replayed_like_hot_ones(sqlite_store: Store) -> None:
    """Compaction changes no incident."""
    store_run(sqlite_store, "sick", num_frames=600, grow_from=100, nan_from=430)
    hot = replay_run(sqlite_store, "sick", [DEFAULT])
    detect(sqlite_store)
    assert compact_once(sqlite_store)

    assert replay_run(sqlite_store, "sick", [DEFAULT]).replayed == hot.replayed


def test_configurations_are_compared_on_the_same_frames(sqlite_store: Store) -> None:
    """Without `non_finite` the NaN is not told, and the rate of alerts falls."""
    store_run(sqlite_store, "sick", num_frames=160, nan_from=60)
    detect(sqlite_store)

    before, after = replay_run(sqlite_store, "sick", [DEFAULT, DEAF]).replayed

    assert [item.incident.kind for item in before.incidents] == ["non_finite"]
    assert before.alerts_per_1000 == 1000 / 160
    difference = compare(before.incidents, after.incidents)
    assert "non_finite" in difference.sentences()[0]
    assert not any(item.incident.kind == "non_finite" for item in after.incidents)


def test_a_run_with_gaps_and_attempts_is_replayed_as_it_came(sqlite_store: Store) -> None:
    """Steps that are missing, and a second attempt that repeats some: the same incidents."""
    schema = make_schema()
    stats = make_stats(160, len(schema.series), seed=2)
    stats[140:, 1, STATISTICS.index("nan_count")] = 4096
    parts = [(0, 0, 0, 40), (0, 1, 50, 40), (1, 0, 60, 80)]
    first = 0
    for attempt, seq, step, count in parts:
        batch = make_batch(
            "gaps", attempt=ATTEMPT + attempt, seq=seq, first_step=step, num_frames=count,
            schema=schema, stats=stats[first : first + count],
        )  # fmt: skip
        write(sqlite_store, batch, schema=schema)
        first += count
    detect(sqlite_store)

    replay = replay_run(sqlite_store, "gaps", [DEFAULT])

    assert replay.replayed[0].num_steps == 160
    (found,) = replay.replayed[0].incidents
    assert (found.incident.kind, found.incident.onset_step) == ("non_finite", 120)
    assert compare(replay.recorded.incidents, replay.replayed[0].incidents).is_equal


def test_what_is_in_force_is_the_rule_of_the_run_over_that_of_its_project(
    sqlite_store: Store,
) -> None:
    """A replay under it finds what the live service did, which is not what the default would."""
    store_run(sqlite_store, "sick", num_frames=160, nan_from=60)
    for scope, name, document in (
        (RuleScope.PROJECT, "default", {"disabled": ["non_finite"], "sensitivity": "low"}),
        (RuleScope.RUN, "sick", {"sensitivity": "high"}),
    ):
        tuning.put(sqlite_store, scope, name, document, by="ada", now=0.0)
    detect(sqlite_store)

    config = config_in_force(sqlite_store, "sick")
    replay = replay_run(sqlite_store, "sick", [config])

    assert config == EngineConfig.from_document({"disabled": ["non_finite"], "sensitivity": "high"})
    assert compare(replay.recorded.incidents, replay.replayed[0].incidents).is_equal


def test_what_other_stages_tell_is_no_record_of_a_replay(sqlite_store: Store) -> None:
    """A silence: no frame holds it."""
    place = Place(sqlite_store)
    place.send("quiet")
    place.wait(300)
    assert len(place.incidents("quiet")) == 1

    assert replay_run(sqlite_store, "quiet", [DEFAULT]).recorded.incidents == ()


def test_why_a_record_may_differ_is_told(sqlite_store: Store) -> None:
    """Frames that nobody has read, incidents that a person resolved, statistics that are gone."""
    store_run(sqlite_store, "sick", num_frames=600, nan_from=60)
    assert replay_run(sqlite_store, "sick", [DEFAULT]).recorded.reasons == (
        "the service has not read 600 frames yet",
    )
    detect(sqlite_store)
    compact_once(sqlite_store)
    resolve(sqlite_store, settings_with_webhook(), "sick", 1, by="ada")
    retain_once(sqlite_store, ServiceSettings(retention_days=1e-6), 4e9)

    reasons = replay_run(sqlite_store, "sick", [DEFAULT]).recorded.reasons

    assert "statistics of 512 frames are not there" in reasons[0]
    assert reasons[1] == "incident 1 was resolved by ada"


def test_notifications_have_the_form_that_scorers_read(sqlite_store: Store) -> None:
    """The first one opens the incident, and names the modules, the root first."""
    store_run(sqlite_store, "sick", num_frames=160, nan_from=60)
    told: list[tuple[int, int, IncidentChange]] = []

    replay_run(sqlite_store, "sick", [DEFAULT, DEAF], on_change=lambda *item: told.append(item))

    _, rank, change = next(item for item in told if item[0] == 0)
    document: dict[str, Any] = {**notification("sick", change), "rank": rank}
    assert change.transition is Transition.OPENED
    assert {key: document[key] for key in ("run", "step", "kind", "severity", "series")} == {
        "run": "sick",
        "step": 60,
        "kind": "non_finite",
        "severity": "critical",
        "series": ["layers.1", "layers.2", "layers.3"],
    }
    assert document["opened_step"] == 60


def test_a_replay_writes_nothing(sqlite_store: Store) -> None:
    """The database is byte for byte what it was."""
    store_run(sqlite_store, "sick", num_frames=160, nan_from=60)
    with sqlite_store.read() as session:
        before = session.connection.exec_driver_sql("PRAGMA data_version").scalar()

    replay_run(sqlite_store, "sick", [DEFAULT])

    with sqlite_store.read() as session:
        assert session.connection.exec_driver_sql("PRAGMA data_version").scalar() == before
        assert session.connection.exec_driver_sql("SELECT count(*) FROM incident").scalar() == 0


def test_a_run_without_frames_has_no_alerts(sqlite_store: Store) -> None:
    """A rate of nothing is 0, and one of an unknown run an error."""
    write(sqlite_store, make_batch("empty", num_frames=0))

    assert replay_run(sqlite_store, "empty", [DEFAULT]).replayed[0].alerts_per_1000 == 0.0
    with pytest.raises(NotFound):
        replay_run(sqlite_store, "absent", [DEFAULT])


def test_a_replay_may_be_bounded(sqlite_store: Store) -> None:
    """12 series of 13 statistics count as 1000 a frame: of 600 frames one reading of 256 is
    enough, and of the other rank nothing is read."""
    store_run(sqlite_store, "long", num_frames=600)
    store_run(sqlite_store, "long", num_frames=40, rank=1)

    replay = replay_run(sqlite_store, "long", [DEFAULT], max_values=200_000)

    assert (replay.num_frames, replay.num_unread) == (256, 384)
    assert replay.replayed[0].num_steps == 256


def test_a_run_is_found_by_id_or_by_a_name_of_its_own(store: Store) -> None:
    """A name that two runs have is refused with their ids, and an id goes before a name."""
    store_run(store, "first", num_frames=16)
    store_run(store, "second", num_frames=16)
    with store.write() as session:
        runs.describe(session, "second", name="nightly", project="default", info={})
    with store.read() as session:
        assert runs.find(session, "nightly").run_id == "second"
        assert runs.find(session, "first").run_id == "first"
    with store.write() as session:
        runs.describe(session, "first", name="nightly", project="default", info={})

    with store.read() as session:
        with pytest.raises(Conflict, match=r"several runs are called 'nightly'.*first"):
            runs.find(session, "nightly")
        with pytest.raises(NotFound, match="nothing"):
            runs.find(session, "nothing")


def test_frames_whose_statistics_are_all_there_count_as_such(sqlite_store: Store) -> None:
    """A run of scalars has none to lose."""
    write(sqlite_store, make_batch("bare", num_frames=40, scalars={"loss": np.ones(40)}))
    detect(sqlite_store)

    assert replay_run(sqlite_store, "bare", [DEFAULT]).recorded.reasons == ()
