"""Each peer fires on what its published rule says, and not short of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from benchmarks.detection.peers.losses import (
    CumulativeSum,
    KillLossSpike,
    NanOnly,
    RollingZ,
    SpikeDetection,
)
from benchmarks.detection.peers.losslint import losslint_alerts
from benchmarks.detection.peers.norms import AdaGC, AutoClip, SixSigma, ZClip
from benchmarks.detection.peers.protocol import HOLD_ROWS, Alarm, Peer, rows_of
from benchmarks.detection.peers.registry import LOSSLINT, PEERS, peers_alerts
from benchmarks.detection.peers.sagemaker import SageMaker
from benchmarks.detection.recordings import Recording
from tests.benchmarks.runs import COLUMN, recording_from

CALM = [1.0, 1.2, 0.8, 1.1, 0.9]
"""Mean 1, population deviation sqrt(0.02)."""
SIGMA = math.sqrt(0.02)


def _rows(peer: Peer, run: Recording) -> list[int]:
    """Rows on which it triggers, without the wrapper."""
    return [seen.number for seen in rows_of(run) if list(peer.triggers(seen))]


def _of_losses(peer: Peer, losses: list[float]) -> list[int]:
    return _rows(peer, recording_from(loss=losses))


def _of_norms(peer: Peer, norms: list[float]) -> list[int]:
    return _rows(peer, recording_from(loss=[1.0] * len(norms), grad_norm=norms))


def test_nan_only_sees_nan_and_infinity() -> None:
    """And no finite loss, however large."""
    assert _of_losses(NanOnly(), [1.0, 1e30, math.nan, 1.0, math.inf]) == [2, 4]


def test_kill_loss_spike_waits_for_the_fifth_in_a_row() -> None:
    """Twice the mean of a window of 100, which takes the outliers up."""
    assert _of_losses(KillLossSpike(), [1.0] * 100 + [2.5] * 5) == [104]
    assert _of_losses(KillLossSpike(), [1.0] * 100 + [1.9] * 10) == []


def test_kill_loss_spike_sees_half_a_window_above_its_cap() -> None:
    """From twice the window on."""
    assert _of_losses(KillLossSpike(), [11.0] * 202)[0] == 200
    assert _of_losses(KillLossSpike(), [9.0] * 300) == []


def test_rolling_z_compares_with_the_last_fifty() -> None:
    """3 population deviations above the mean, once 20 are there."""
    assert _of_losses(RollingZ(3.0), CALM * 4 + [1 + 3.1 * SIGMA]) == [20]
    assert _of_losses(RollingZ(3.0), CALM * 4 + [1 + 2.9 * SIGMA]) == []
    assert _of_losses(RollingZ(3.0), CALM * 3 + [9.0]) == []


def test_spike_detection_asks_for_twice_the_mean_away_from_it() -> None:
    """Of the last 10; a loss that is not finite is a spike and is not averaged."""
    assert _of_losses(SpikeDetection(), [1.0] * 10 + [3.0]) == [10]
    assert _of_losses(SpikeDetection(), [1.0] * 10 + [2.9]) == []
    assert _of_losses(SpikeDetection(), [1.0] * 10 + [math.nan, 1.0]) == [10]


def test_the_cumulative_sum_adds_what_exceeds_one_sigma() -> None:
    """Six of them, after 30 losses; it begins anew; NaN is nothing to it."""
    spread = 1.4826 * 0.1
    calm = [1.0, 1.1, 0.9] * 10
    assert _of_losses(CumulativeSum(), [*calm, 1 + 7.1 * spread]) == [30]
    assert _of_losses(CumulativeSum(), [*calm, 1 + 6.9 * spread]) == []
    assert _of_losses(CumulativeSum(), [*calm, 1 + 7.1 * spread, 1.0, math.nan]) == [30]
    assert _of_losses(CumulativeSum(), [*calm, *[1 + 4.1 * spread] * 2]) == [31]


def test_zclip_clips_beyond_two_and_a_half() -> None:
    """From mean and variance of the first 25 norms on."""
    assert _of_norms(ZClip(), CALM * 5 + [1 + 2.6 * SIGMA]) == [25]
    assert _of_norms(ZClip(), CALM * 5 + [1 + 2.4 * SIGMA]) == []


def test_zclip_never_recovers_from_a_nan() -> None:
    """As published: the running averages take it up."""
    assert _of_norms(ZClip(), CALM * 5 + [math.nan, 100.0]) == []


def test_autoclip_compares_with_a_percentile_of_all_norms() -> None:
    """Its own percentile clips nearly always, a high one seldom; NaN is clipped and not kept."""
    assert _of_norms(AutoClip(10.0), [1.0, 2.0, 3.0]) == [1, 2]
    assert _of_norms(AutoClip(99.0, first=50), CALM * 10 + [5.0, math.nan]) == [50, 51]
    norms = np.random.default_rng(0).random(40)
    rows = [i for i in range(1, 40) if norms[i] > np.percentile(norms[: i + 1], 30)]
    assert _of_norms(AutoClip(30.0), list(norms)) == rows


def _gradients(sizes: list[float]) -> Recording:
    """Two gradients of 4 elements: one of norm 2, one of twice these sizes."""
    run = recording_from(
        series=[("gradient", "a"), ("gradient", "b")],
        loss=[1.0] * len(sizes),
        grad_norm=[0.5] * len(sizes),
    )
    stats = run.stats.copy()
    stats[:, 1, COLUMN["std"]] = sizes
    return replace(run, stats=stats)


def test_adagc_clips_a_tensor_beyond_its_average() -> None:
    """5 % above it, after 100 steps that keep the least norm; the tensor is named."""
    run = _gradients([1.0] * 100 + [1.04, 1.2])
    assert _rows(AdaGC(), run) == [101]
    assert _rows(AdaGC(alarm=10.0), run) == []
    alarm = Alarm("run", AdaGC())
    for seen in rows_of(run):
        alarm.push(seen)
    assert [alert["series"] for alert in alarm.alerts] == [["b"]]


def test_six_sigma_reads_loss_and_norm() -> None:
    """Sample deviation of up to 128 rows, 64 of which must be there."""
    calm = CALM * 13
    sigma = float(np.std(calm, ddof=1))
    assert _of_losses(SixSigma(), [*calm, 1 + 6.1 * sigma]) == [65]
    assert _of_losses(SixSigma(), [*calm, 1 + 5.9 * sigma]) == []
    assert _of_losses(SixSigma(), [*CALM * 12, 100.0]) == []
    assert _of_norms(SixSigma(), [*calm, 1 + 6.1 * sigma]) == [65]


def test_six_sigma_skips_on_while_a_nan_is_in_its_window() -> None:
    """128 steps, as published: no comparison with NaN holds."""
    losses = CALM * 20 + [math.nan] + CALM * 30
    assert _of_losses(SixSigma(), losses) == list(range(100, 229))


def _told(run: Recording, *, loss: bool = False) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    peer = SageMaker(loss=loss)
    for seen in rows_of(run):
        for trigger in peer.triggers(seen):
            rows.setdefault(trigger.rule, []).append(seen.number)
    return rows


def _with(kind: str, statistic: str, value: float, module_type: str = "Linear") -> Recording:
    """A weight and one more series of 20 rows, whose statistic changes on row 10."""
    run = recording_from(
        series=[("weight", "a.weight"), (kind, "a.weight")],
        module_type=module_type,
        loss=[1.0] * 20,
    )
    stats = run.stats.copy()
    stats[10, 1, COLUMN[statistic]] = value
    return replace(run, stats=stats)


def test_sagemaker_sees_exploding_tensors() -> None:
    """One NaN in any tensor, or a loss that is none."""
    assert _told(_with("gradient", "nan_count", 1)) == {"ExplodingTensor": [10]}
    assert _told(recording_from(loss=[1.0, math.inf])) == {"ExplodingTensor": [1]}


def test_sagemaker_sees_vanishing_gradients() -> None:
    """Below 1e-7."""
    assert _told(_with("gradient", "std", 9e-8)) == {"VanishingGradient": [10]}
    assert _told(_with("gradient", "std", 1.1e-7)) == {}


def test_sagemaker_sees_dead_units_of_a_relu() -> None:
    """More than half of the units where their share was measured, else three quarters of zeros."""
    assert _told(_with("activation", "zero_frac", 0.76, "ReLU")) == {"DeadRelu": [10]}
    assert _told(_with("activation", "zero_frac", 0.76, "GELU")) == {}
    assert _told(_with("activation", "inactive_unit_frac", 0.51, "ReLU")) == {"DeadRelu": [10]}
    assert _told(_with("activation", "inactive_unit_frac", 0.5, "ReLU")) == {}


def test_sagemaker_sees_ratios_of_update_to_weight() -> None:
    """Above 10, and below 1e-8 for what has moved before."""
    assert _told(_with("update", "std", 10.1)) == {"large ratio": [10]}
    assert _told(_with("update", "std", 9.9)) == {}
    assert _told(_with("update", "std", 0.0)) == {"small ratio": [10]}


def test_sagemaker_wants_a_lower_loss_every_ten_steps() -> None:
    """By 0.1 %."""
    falling = [2.0 * 0.999**row for row in range(31)]
    assert _told(recording_from(loss=falling), loss=True) == {}
    still = _told(recording_from(loss=[1.0] * 31), loss=True)
    assert still == {"LossNotDecreasing": [10, 20, 30]}
    assert _told(recording_from(loss=[1.0] * 31)) == {}


def test_losslint_is_asked_about_the_finished_log() -> None:
    """Its steps and severities: a NaN is critical, a spike of 10 times the median a warning."""
    losses = [1.0] * 60
    losses[20], losses[40] = 11.0, math.nan
    told = losslint_alerts(recording_from(loss=losses))
    assert {(a["step"], a["kind"], a["severity"]) for a in told} == {
        (20, "loss_spike", "warning"),
        (40, "non_finite", "critical"),
    }
    assert losslint_alerts(recording_from(loss=[2.0 - 0.01 * row for row in range(60)])) == []


def test_losslint_names_the_end_of_a_log_that_diverged() -> None:
    """It names no step, so that the alert stands where it measured."""
    told = losslint_alerts(recording_from(loss=[1.0] * 50 + [2.0] * 50))
    assert [(a["step"], a["kind"], a["severity"]) for a in told] == [(90, "divergence", "critical")]


def test_a_burst_is_one_alert() -> None:
    """A rule is told anew only after 25 rows of calm."""
    losses = [1.0] * 100
    for row in (10, 20, 10 + HOLD_ROWS + 10, 90):
        losses[row] = math.nan
    alarm = Alarm("run", NanOnly())
    for seen in rows_of(recording_from(loss=losses)):
        alarm.push(seen)
    assert [alert["step"] for alert in alarm.alerts] == [10, 90]


def test_every_peer_is_asked() -> None:
    """One pass over a run with a NaN, an answer from each."""
    found = peers_alerts(recording_from(loss=[1.0] * 50 + [math.nan]))
    assert found.keys() == PEERS.keys() | {LOSSLINT}
    assert {name for name, alerts in found.items() if alerts} >= {"NaN only", LOSSLINT}
