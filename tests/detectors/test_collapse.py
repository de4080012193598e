"""Representation collapse: every sample of a batch is answered alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.detectors.faults import FIRST, LAYER, collapsed_batch, rarely_measured_collapse
from tests.detectors.traces import COLUMN, Trace, healthy, names_of, told_by

ACTIVATION = f"activation:{LAYER}"


def _with_share(share: np.ndarray | float) -> Trace:
    """The layer's spread over the batch as a share of its size."""
    trace = collapsed_batch()
    size = trace.stats[:, trace.index(ACTIVATION), COLUMN["std"]]
    trace.put(ACTIVATION, "batch_std", share * size, slice(None))
    return trace


def test_a_layer_that_answers_alike_is_named() -> None:
    """Critical, dated to the first row that told the samples apart no more."""
    trace = collapsed_batch()
    (finding,) = told_by("collapse", trace)
    assert (finding.kind, finding.severity) == ("representation_collapse", "critical")
    assert names_of([finding], trace) == [ACTIVATION]
    assert finding.onset_step == FIRST


def test_half_of_the_spread_is_enough_for_all() -> None:
    """A share that goes down to a half or a quarter still tells samples apart."""
    share = np.where(np.arange(120) < FIRST, 0.8, 0.3)
    assert told_by("collapse", _with_share(share)) == []


def test_a_layer_that_never_told_samples_apart_is_quiet() -> None:
    """A constant embedding in front of the network is made so."""
    assert told_by("collapse", _with_share(0.004)) == []


def test_a_few_rows_alike_are_quiet() -> None:
    """A batch may hold the same sample many times."""
    rows = np.arange(120)
    share = np.where((rows >= FIRST) & (rows < FIRST + 8), 1e-4, 0.5)
    assert told_by("collapse", _with_share(share)) == []


def test_a_run_that_does_not_measure_the_batch_is_quiet() -> None:
    """Without the statistic nothing is known, and nothing is said."""
    trace = collapsed_batch()
    kept = [name for name in trace.schema.statistics if name != "batch_std"]
    trace.stats = trace.stats[:, :, [COLUMN[name] for name in kept]]
    trace.schema = replace(trace.schema, statistics=tuple(kept))
    assert told_by("collapse", trace) == []


def test_activations_that_are_measured_every_fourth_step_are_enough() -> None:
    """Rows on which the layer was not due neither count nor break the count."""
    (finding,) = told_by("collapse", rarely_measured_collapse())
    assert (finding.onset_step, finding.step) == (144, 164)


def test_a_young_output_is_given_time() -> None:
    """A network learns the mean answer before it tells samples apart; sixty rows are too many."""
    share = np.where(np.arange(120) < 12, 0.8, 1e-3)
    trace = healthy(120)
    for name in trace.names("activation"):
        size = trace.stats[:, trace.index(name), COLUMN["std"]]
        trace.put(name, "batch_std", 0.8 * size, slice(None))
    size = trace.stats[:, trace.index("activation:head"), COLUMN["std"]]
    trace.put("activation:head", "batch_std", share * size, slice(None))
    trace.scalars["loss"][:] = 4.0
    (finding,) = told_by("collapse", trace)
    assert (finding.onset_step, finding.step) == (12, 71)
    trace.scalars["loss"] = np.linspace(5.0, 0.5, 120)
    assert told_by("collapse", trace) == []


def test_a_young_run_that_learns_the_mean_answer_is_quiet() -> None:
    """Its outputs become larger by a common value, and differ as they did."""
    trace = collapsed_batch()
    size = float(trace.stats[0, trace.index(ACTIVATION), COLUMN["std"]])
    trace.put(ACTIVATION, "batch_std", 0.5 * size, slice(None))
    assert told_by("collapse", trace) == []
    trace.scale(ACTIVATION, 40.0, 20)
    assert told_by("collapse", trace) == []
    trace.put(ACTIVATION, "batch_std", 0.2 * size, slice(20, None))
    assert names_of(told_by("collapse", trace), trace) == [ACTIVATION]


def test_an_expert_that_gets_one_sample_has_nothing_to_tell_apart() -> None:
    """It is measured where it was used, and the others on each row."""
    trace = collapsed_batch()
    trace.stats[np.arange(120) % 3 != 0, trace.index(ACTIVATION)] = np.nan
    assert told_by("collapse", trace) == []


def test_a_few_samples_of_many_have_little_to_tell_apart() -> None:
    """An expert that now gets an eighth of what it got, on each row."""
    trace = collapsed_batch()
    trace.put(ACTIVATION, "count", 128, slice(60, None))
    assert told_by("collapse", trace) == []
    trace.put(ACTIVATION, "count", 512, slice(60, None))
    assert names_of(told_by("collapse", trace), trace) == [ACTIVATION]


def test_a_critic_whose_values_lie_far_from_nought_tells_them_apart_still() -> None:
    """As returns do; in a game, and as long as a quarter of the spread is left."""
    trace = healthy(260)
    trace.put("activation:head", "batch_std", 0.1, slice(None))
    trace.put("activation:head", "mean", np.linspace(0.0, 20.0, 260), slice(None))
    assert names_of(told_by("collapse", trace), trace) == ["activation:head"]
    trace.scalars["episode_return"] = np.zeros(260)
    assert told_by("collapse", trace) == []
    trace.put("activation:head", "batch_std", 0.01, slice(100, None))
    assert names_of(told_by("collapse", trace), trace) == ["activation:head"]


def test_on_the_first_hundred_rows_it_takes_sixty() -> None:
    """A hidden layer says one thing of all samples as well, before it tells them apart."""
    trace = collapsed_batch()
    size = trace.stats[:, trace.index(ACTIVATION), 2]
    trace.put(ACTIVATION, "batch_std", 0.5 * size[95:], slice(95, None))
    trace.put(ACTIVATION, "batch_std", 1e-4, slice(40, 95))
    assert told_by("collapse", trace) == []
    trace.put(ACTIVATION, "batch_std", 1e-4, slice(20, 95))
    assert told_by("collapse", trace)[0].step == 79
