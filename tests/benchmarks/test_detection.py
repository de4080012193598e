"""The benchmark of detection on runs that are trained in an instant: what it says it scored was
scored. No figure of speed is asserted."""

from __future__ import annotations

import json
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreshock_service.detectors.config import EngineConfig
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.domain.findings import Severity
from foreshock_service.incidents.lifecycle import KIND_RANK

from benchmarks.detection.__main__ import main
from benchmarks.detection.collections import Collection, Labelled, NoRunsError, collections
from benchmarks.detection.docs import PAGE, RULES, begin, block, replaced
from benchmarks.detection.judging import OURS, judge
from benchmarks.detection.logs import log_figures, score_log
from benchmarks.detection.out_of_fold.folds import by_kind, by_source
from benchmarks.detection.out_of_fold.grid import Axis, axes, document_of, middle, moved
from benchmarks.detection.out_of_fold.listening import listen, retell, rows_without_statistics
from benchmarks.detection.out_of_fold.search import Search
from benchmarks.detection.parts import PARTS
from benchmarks.detection.peers.registry import LOSSLINT, OF_TENSORS, PEERS
from benchmarks.detection.reading import read
from benchmarks.detection.speed import measure
from benchmarks.detection.tables import COLUMNS
from benchmarks.detection.told import alerts_of
from benchmarks.processes import processes
from benchmarks.zoo.score import Run, load_runs, score
from tests.benchmarks.runs import record_two

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of the zoo's part `look`, one healthy and one sick."""
    folder = tmp_path_factory.mktemp("zoo")
    record_two(folder)
    return folder


def _run(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    answer = folder / "figures" / "answer.txt"
    answer.parent.mkdir(exist_ok=True)
    places = ["--zoo", str(folder), "--shared", str(folder / "nothing"), "--json", str(answer)]
    code = main([*places, "--jobs", "1", *arguments])
    document: dict[str, Any] = json.loads(answer.read_text())
    return code, document


def test_every_method_is_scored(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours and each peer, on both runs; ours by what the zoo's own scorer says of what is told."""
    code, document = _run(recorded, "--part", "runs")
    figures = document["zoo-look"]
    assert code == 0
    assert list(figures) == [OURS, *PEERS, LOSSLINT]
    assert {(f["num_events"], f["num_healthy_runs"]) for f in figures.values()} == {(1, 1)}
    assert figures[OURS]["detected"] == 1.0
    told = [alert for path in recorded.glob("*.json") for alert in alerts_of(read(path))]
    expected = score(load_runs(recorded), told).figures["composite"]
    assert figures[OURS]["composite"] == expected > 0.5
    printed = capsys.readouterr().out
    assert all(name in printed for name in [OURS, *PEERS, LOSSLINT, *COLUMNS, "weight_corruption"])


def test_suites_and_speed_measure_something(recorded: Path, tmp_path: Path) -> None:
    """The healthy run is too short for splices, which is said rather than passed over."""
    code, document = _run(recorded, "--part", "suites")
    assert code == 1
    assert set(document["suites"]["odd"].values()) == {1}
    speed = measure(num_series=10, num_rows=4, num_warm_up=2)
    assert speed.num_alerts == 0
    assert speed.state_bytes > 100
    assert min(ratio.median for ratio in (speed.push, speed.save, speed.restore)) > 0


def test_nothing_scored_is_a_failure(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark of no run must not look like a good one."""
    assert _run(recorded, "--part", "runs", "--only", "corpus")[0] == 1
    assert "nothing was measured" in capsys.readouterr().err
    with pytest.raises(NoRunsError, match=r"benchmarks\.zoo run"):
        collections(shared=recorded / "nothing", zoo=recorded / "nothing")


def test_of_the_held_part_only_totals_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run of it is named, whatever became of it."""
    record_two(tmp_path, split="held")
    names = [path.stem for path in tmp_path.glob("*.json")]
    assert _run(tmp_path, "--part", "runs")[0] == 0
    said = capsys.readouterr()
    assert "zoo, `held`" in said.out
    assert not [name for name in names if name in said.out + said.err]


def test_another_scorer_that_disagrees_is_named(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures that two programs count differently are not to be believed."""
    other = recorded / "scorer.py"
    other.write_text(
        "import json, sys\nopen(sys.argv[4], 'w').write(json.dumps({'composite': 0.25}))\n"
    )
    found = [replace(c, scorer=other) for c in collections(shared=other, zoo=recorded)]
    monkeypatch.setattr("benchmarks.detection.__main__.collections", lambda **_: found)
    assert _run(recorded, "--part", "runs")[0] == 1
    assert "its own scorer says 0.2500" in capsys.readouterr().err


def _log(name: str, must: list[list[int]], may: list[list[int]], **more: Any) -> Labelled:
    label = {"name": name, "rows": 1000, "must": must, "may": may, **more}
    run = Run(id=name, steps=np.arange(1000), events=())
    return Labelled(path=Path(name), run=run, source=name, windows=label)


def _alert(step: int, severity: Severity = Severity.WARNING) -> dict[str, Any]:
    return {"run": "log", "step": step, "severity": str(severity)}


def test_a_log_is_scored_by_its_windows() -> None:
    """Found, allowed, false and spam, counted by hand."""
    sick = _log("log", [[10, 20], [50, 60]], [[0, 30]])
    scored = score_log(sick, [_alert(12), _alert(25), _alert(40), _alert(41, Severity.CRITICAL)])
    assert (scored.found, scored.critical, scored.warning) == (1, 1, 1)
    spam = score_log(_log("log", [[10, 20]], []), [_alert(step) for step in range(10, 17)])
    assert (spam.found, spam.critical, spam.warning) == (1, 0, 2)
    mild = _log("log", [], [[10, 20]], warning_only=True)
    assert score_log(mild, [_alert(12, Severity.CRITICAL)]).critical == 1
    figures = log_figures([scored, score_log(mild, [])])
    # Half found; one of one quiet log clean; a critical and a warning in 2000 rows.
    trust = 0.5 * 1 + 0.5 / (1 + 5 + 0.5 * 5)
    assert figures["composite"] == pytest.approx(2 * 0.5 * trust / (0.5 + trust))


def test_each_run_is_left_out_once(recorded: Path) -> None:
    """Folds part the runs, healthy ones too."""
    (collection,) = collections(shared=recorded / "nothing", zoo=recorded)
    for folds in (by_source(collection.runs), by_kind(collection.runs)):
        assert sorted(i for which in folds.values() for i in which) == [0, 1]
    assert by_kind(collection.runs).keys() == {"weight_corruption"}
    assert by_source(collection.runs).keys() == {"perceptron"}


def test_small_groups_share_a_fold() -> None:
    """At most eight, of nearly one size, and a group is never parted."""
    sources = [f"s{number}" for number in range(12) for _ in range(1 + number % 3)]
    runs = [replace(_log(f"{i}", [], []), source=source) for i, source in enumerate(sources)]
    folds = by_source(runs)
    assert len(folds) == 8
    assert {len(which) for which in folds.values()} == {3}
    for source in sources:
        assert sum(source in {sources[i] for i in which} for which in folds.values()) == 1


def test_the_grid_knows_of_a_default_only_its_order_of_magnitude() -> None:
    """Its middle is a power of two (of the odds, for a share), and each value can be set."""
    grid = axes(DETECTORS)
    described = {(d, t.name): t for d in DETECTORS for t in DETECTORS[d].thresholds.described()}
    assert len(grid) > 100
    for axis in grid:
        item = described[axis.detector, axis.name]
        odds = item.unit == "share" and 0 < item.default < 1
        size = axis.middle / (1 - axis.middle) if odds else axis.middle
        assert np.log2(size) == pytest.approx(round(np.log2(size)))
        assert axis.middle in axis.values
        for value in axis.values:
            EngineConfig.from_document(document_of(moved({}, axis, value)))


def test_what_is_heard_beside_a_session_is_what_the_session_tells(recorded: Path) -> None:
    """With the session's own thresholds, the shortcut of the search is no approximation."""
    point = middle(axes(DETECTORS))
    requests = [(d, tuple(point.get(d, {}).items())) for d in DETECTORS]
    told = []
    for path in sorted(recorded.glob("*.json")):
        heard = listen(path, 1000, document_of(point), requests)
        frames = rows_without_statistics(path, 1000)
        tables = [heard.tables[request] for request in requests]
        alerts = retell(path.stem, frames, tables, heard.departures)
        assert alerts == alerts_of(read(path), EngineConfig.from_document(document_of(point)))
        told += alerts
    assert told != []


@pytest.fixture(scope="module")
def pool() -> Any:
    """One process beside this one."""
    with processes(1) as made:
        yield made


def test_the_search_leaves_the_fold_alone(recorded: Path, pool: ProcessPoolExecutor) -> None:
    """Of two runs a threshold is chosen by the one outside the fold. Where that is the sick one,
    its fault is found again by a rule that had been deafened; where it is the healthy one, nothing
    is better than what is there, and the fold's own fault must not be known."""
    (collection,) = collections(shared=recorded / "nothing", zoo=recorded)
    search = Search(collection, pool, lambda text: None)
    (sick,) = [i for i, run in enumerate(collection.runs) if run.kinds]
    axis = Axis(detector="identity", name="updates", values=(3.0, 1e6), middle=1e6)
    search.grid = [axis]
    deaf = moved(search.start, axis, 1e6)
    chosen = search.choose({"sick": (sick,), "healthy": (1 - sick,)}, deaf)
    assert chosen["sick"]["identity"]["updates"] == 1e6
    assert chosen["healthy"]["identity"]["updates"] == 3.0
    assert search.composite(deaf, [sick]) < search.composite(chosen["healthy"], [sick])


def test_figures_go_between_the_marks() -> None:
    """Of their own section, whatever was there before; a page without marks is refused."""
    page = f"a\n{begin('runs')}\nold\n<!-- end of figures -->\nb\n"
    new = replaced(page, "runs", ["x", "y"])
    assert new == f"a\n{begin('runs')}\n\nx\ny\n\n<!-- end of figures -->\nb\n"
    assert replaced(new, "runs", ["z"]).count("end of figures") == 1
    with pytest.raises(ValueError, match="add them"):
        replaced(page, "speed", [])


def test_the_page_has_figures_of_every_part() -> None:
    """And it says of which commit the rules were."""
    page = (ROOT / PAGE).read_text()
    figures = {part: block(page, part) for part in PARTS}
    for part, text in figures.items():
        assert text.startswith("The rules are those of "), part


def test_the_page_knows_the_columns_methods_and_kinds() -> None:
    """What it shows exists: each method of the code has its row, each kind is one of the zoo's."""
    figures = block((ROOT / PAGE).read_text(), "runs")
    heads = [line for line in figures.splitlines() if line.startswith("| Method |")]
    assert heads != []
    for head in heads:
        assert set(head.strip("| ").split(" | ")[1:]) <= set(COLUMNS)
    kinds = re.findall(r"^\| `(\w+)` \|", figures, re.MULTILINE)
    assert kinds != []
    assert set(kinds) <= KIND_RANK.keys()
    for method in (OURS, *PEERS, LOSSLINT):
        tables = sum("hit@1" in head or method not in OF_TENSORS for head in heads)
        assert figures.count(f"| {method} |") == tables, method


def test_the_rules_that_a_commit_stands_for_are_there() -> None:
    """The folders whose newest change the page names."""
    assert [folder for folder in RULES if not (ROOT / folder).is_dir()] == []


def test_a_run_is_judged_by_all_methods(recorded: Path) -> None:
    """In one process, as the pool does it."""
    (path,) = [p for p in recorded.glob("*.json") if "sick" in p.stem]
    found = judge(path)
    assert found[OURS] == alerts_of(read(path)) != []
    assert list(found) == [OURS, *PEERS, LOSSLINT]


def test_a_collection_knows_whether_it_is_of_logs() -> None:
    """By its labels."""
    logs = Collection(name="logs", title="logs", folder=Path(), runs=[_log("a", [], [])])
    assert logs.is_logs
    assert not replace(logs, runs=[replace(logs.runs[0], windows=None)]).is_logs
