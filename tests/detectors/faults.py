"""One fault for each detector: the healthy run of `traces`, broken in the way it watches for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from foreshock.wire import FrameFlag
from foreshock_service.domain.facts import RunFacts

from tests.detectors.traces import Trace, healthy

LAYER: Final = "blocks.1.mlp.up"
WEIGHT: Final = f"weight:{LAYER}.weight"
GRADIENT: Final = f"gradient:{LAYER}.weight"
UPDATE: Final = f"update:{LAYER}.weight"
FIRST_LAYER: Final = "activation:blocks.0.attn.qkv"
FIRST: Final = 60
"""The row at which most faults begin."""
SUNK: Final = 61
"""The first row on which `sunk_logits` are more than two below nought."""


def small_updates(num_rows: int = 200) -> Trace:
    """A healthy run whose updates are a thousandth of its weights."""
    trace = healthy(num_rows)
    for name in trace.names("update"):
        trace.scale(name, 0.1)
    return trace


def corrupt_weight() -> Trace:
    """A weight trebles between two steps, beyond anything that its update allows."""
    trace = small_updates(120)
    trace.scale(WEIGHT, 3.0, FIRST)
    return trace


def doubtful_weight(
    changes: Iterable[tuple[int, float]] = ((FIRST, 1.5), (FIRST + 1, 1.5)),
) -> Trace:
    """On some rows a gain changes by so many times what its update allows, and stays there."""
    trace = small_updates(120)
    trace.describe(WEIGHT, shape=(1024,))
    for row, allowances in changes:
        own = float(trace.stats[row - 1, trace.index(WEIGHT), 2])
        update = float(trace.stats[row, trace.index(UPDATE), 2])
        trace.scale(WEIGHT, 1.0 + allowances * (3.0 * update / own + 0.003), row)
    return trace


def parted_replicas() -> Trace:
    """Two ranks whose checksums are one number until a step, and two from there on."""
    trace = healthy(100)
    trace.scalars["weight_checksum_rank0"] = np.linspace(1.0, 2.0, 100)
    trace.scalars["weight_checksum_rank1"] = np.linspace(1.0, 2.0, 100)
    trace.scalars["weight_checksum_rank1"][FIRST:] += 0.25
    return trace


def decayed_below_zero() -> Trace:
    """A linear decay that nobody stopped: below zero from row 61 on."""
    trace = healthy(100)
    trace.scalars["lr"] = 1e-3 * (1 - np.arange(100) / FIRST)
    return trace


def early_jump() -> Trace:
    """The gradient norm is 200 times its usual size on row 20, the loss from row 14 on."""
    trace = healthy(60)
    trace.scalars["grad_norm"] = np.where(np.arange(60) == 20, 200.0, 1.0)
    trace.scalars["loss"][14:18] = 900.0
    return trace


def grown_updates() -> Trace:
    """All updates are eight times as large from row 100 on."""
    trace = small_updates()
    for name in trace.names("update"):
        trace.scale(name, 8.0, 100)
    return trace


def rounded_updates() -> Trace:
    """The updates of five matrices change almost no element."""
    trace = small_updates(120)
    for name in trace.names("update")[:5]:
        trace.put(name, "zero_frac", 0.97, slice(FIRST, None))
    return trace


def saturated_tanh(module_type: str = "Tanh", layer: str = LAYER) -> Trace:
    """An output that sits at -1 and 1, in a run that learns no more."""
    trace = healthy(120)
    trace.scalars["loss"][FIRST - 32 :] = trace.scalars["loss"][FIRST - 32]
    name = f"activation:{layer}"
    trace.describe(name, module_type=module_type)
    for statistic, before, after in (("std", 0.6, 0.98), ("min", -0.99, -1.0), ("max", 0.99, 1.0)):
        trace.put(name, statistic, before, slice(None))
        trace.put(name, statistic, after, slice(FIRST, None))
    return trace


def collapsed_batch(num_rows: int = 120) -> Trace:
    """A layer answers every sample alike; the others go on telling them apart."""
    trace = healthy(num_rows)
    for name in trace.names("activation"):
        size = trace.stats[:, trace.index(name), 2]
        trace.put(name, "batch_std", 0.5 * size, slice(None))
    trace.put(f"activation:{LAYER}", "batch_std", 1e-4, slice(FIRST, None))
    return trace


def copied_weights(num_rows: int = 120, first: int = 80) -> Trace:
    """Two weights, one of each of two replicas in one process, that move as one until a row."""
    trace = healthy(num_rows)
    size = 1.0 + 1e-3 * np.arange(num_rows)
    for copy in range(2):
        trace.describe(f"weight:blocks.{copy}.mlp.up.weight", name=f"replica{copy}.up.weight")
        trace.put(f"weight:replica{copy}.up.weight", "std", size, slice(None))
    trace.scale("weight:replica1.up.weight", 1.0001, first)
    return trace


def massive_element(layer: str = LAYER) -> Trace:
    """One element of an activation stands 32 times above the rms of all."""
    trace = healthy(120)
    name = f"activation:{layer}"
    largest = 32.0 * trace.stats[FIRST:, trace.index(name), 2]
    trace.put(name, "max", largest, slice(FIRST, None))
    trace.put(name, "kurtosis", 900.0, slice(FIRST, None))
    return trace


def lost_expert(*, routed: bool = True) -> Trace:
    """Of three siblings each is now and then passed over, and one is for good from row 60 on."""
    trace = healthy(120)
    if routed:
        for row, block in ((12, 0), (25, 1), (31, 2), (40, 1)):
            idle(trace, f"gradient:blocks.{block}.mlp.up.weight", slice(row, row + 2))
    idle(trace, GRADIENT, slice(FIRST, None))
    return trace


def idle(trace: Trace, series: str, rows: slice) -> None:
    """A tensor that does not exist on some rows."""
    trace.stats[rows, trace.index(series), :] = np.nan


def adam_run(num_rows: int = 140) -> Trace:
    """A healthy run of Adam, whose updates are about a third of its learning rate."""
    trace = healthy(num_rows)
    trace.facts = RunFacts(optimizer="AdamW")
    trace.scalars["lr"] = np.full(num_rows, 1e-3)
    for name in trace.names("update"):
        size = trace.stats[:, trace.index(name), 2].mean()
        trace.scale(name, 0.3e-3 / float(size))
    return trace


def lost_rate() -> Trace:
    """The updates of one matrix fade by a fifth a step from row 60 on."""
    trace = adam_run()
    trace.scale(UPDATE, np.exp2(-0.3 * np.maximum(np.arange(140) - FIRST + 1, 0)))
    return trace


def tiny_gradients() -> Trace:
    """All gradients lie far below epsilon from the first row on."""
    trace = adam_run(80)
    trace.facts = RunFacts(optimizer="AdamW", eps=1e-8, betas=(0.9, 0.95))
    for name in trace.names("gradient"):
        trace.scale(name, 1e-14)
    return trace


def forgetful_run(levels: tuple[float, ...] = (0.3, 0.7, 1.4, 2.0)) -> Trace:
    """A task every 100 rows, each learned down to the next level; units fall silent on the way."""
    trace = healthy(100 * (len(levels) + 1))
    rows = np.arange(len(trace.steps))
    floors = np.array([0.3, *levels])[rows // 100]
    noise = np.random.default_rng(5).normal(0, 0.02, len(rows))
    trace.scalars["loss"] = floors + (3.0 - floors) * np.exp(-(rows % 100) / 8) + noise
    share = np.clip((rows - 100) / 300, 0.0, 0.8)
    trace.put(f"activation:{LAYER}", "inactive_unit_frac", share, slice(None))
    return trace


def lost_in_rounding(num_rows: int = 260) -> Trace:
    """Updates of bfloat16 weights below half a unit in the last place, and a loss that stands."""
    trace = healthy(num_rows)
    trace.scalars["loss"] = 3.0 + np.random.default_rng(3).normal(0, 0.01, num_rows)
    trace.scalars["loss"][:12] = 5.0
    for name in trace.names("weight"):
        trace.describe(name, dtype="bfloat16")
        update = name.replace("weight:", "update:")
        trace.scale(update, 100 * 2.0**-12)
        trace.put(update, "zero_frac", 0.8, slice(None))
    return trace


def on_a_grid(num_tensors: int = 3, *, steps: int = 7) -> Trace:
    """The largest elements of some gradients are a few of float16's smallest steps, of which a loss
    scale of 4096 was taken out."""
    trace = healthy(120)
    for name in trace.names("gradient")[:num_tensors]:
        counts = np.random.default_rng(5).integers(1, steps + 1, 120 - FIRST)
        for statistic, sign in (("std", 0.3), ("min", -1.0), ("max", 1.0)):
            trace.put(name, statistic, sign * counts * 2.0**-36, slice(FIRST, None))
    return trace


def rising_gradient(*, num_rows: int = 60, straight: bool = True, first: int = 0) -> Trace:
    """The gradient of a layer rises on each of some rows: by its first size, or by a sixteenth."""
    trace = healthy(120)
    trace.scalars["loss"] = 2.0 + 0.1 * np.sin(np.arange(120))
    rows = np.clip(np.arange(120) - first, 0, num_rows)
    size = 1.0 + rows if straight else 1.0625**rows
    trace.put(GRADIENT, "std", 1e-3 * size, slice(None))
    trace.put(GRADIENT, "mean", 0.0, slice(None))
    return trace


def sunk_logits(least: float = -20.0) -> Trace:
    """log Z falls by a tenth a row, to `least`, while the loss falls as well."""
    trace = healthy(120)
    trace.scalars["loss"] = np.linspace(8.0, 2.0, 120)
    trace.scalars["log_z"] = np.maximum(4.0 - 0.1 * np.arange(120), least)
    return trace


def drifting_logits() -> Trace:
    """log Z rises without end once the loss has come to rest."""
    trace = healthy(400)
    trace.scalars["log_z"] = 10.0 + 0.08 * np.maximum(np.arange(400) - 200, 0)
    return trace


def running_outputs(*, spread: float = 0.1, num_rows: int = 200) -> Trace:
    """The head's mean doubles every 16 rows from row 60 on, and its spread does not."""
    trace = healthy(num_rows)
    trace.scalars["loss"][:] = 2 + np.random.default_rng(3).normal(0, 0.03, num_rows)
    mean = 0.2 * np.exp2(np.maximum(np.arange(num_rows) - FIRST, 0) / 16)
    std = spread * (mean / 0.2 if spread > 1 else 1.0)
    for statistic, value in (("mean", mean), ("std", std), ("max", mean + 4 * std)):
        trace.put("activation:head", statistic, value, slice(None))
    return trace


def stuck_loss(num_rows: int = 200) -> Trace:
    """A loss that only has noise."""
    trace = small_updates(num_rows)
    trace.scalars["loss"] = 5.0 + np.random.default_rng(3).normal(0, 0.03, num_rows)
    return trace


def stopped_weight() -> Trace:
    """The updates of one matrix are exactly zero from row 60 on."""
    trace = small_updates(120)
    trace.scale(UPDATE, 0.0, FIRST)
    return trace


def left_out_weight() -> Trace:
    """One matrix has gradients, and neither it nor its update is watched."""
    trace = small_updates(60)
    for series in (WEIGHT, UPDATE):
        trace.drop(series)
    return trace


def unreached_weights(first: int = 6, last: int = 7) -> Trace:
    """Some matrices, counted from the input, have no gradient from row 60 on; their modules run."""
    trace = healthy(120)
    for name in trace.names("gradient")[first:last]:
        idle(trace, name, slice(FIRST, None))
    return trace


def zero_gradients(first: int = FIRST) -> Trace:
    """All gradients are exactly zero from a row on."""
    trace = healthy(120)
    for name in trace.names("gradient"):
        trace.scale(name, 0.0, first)
    return trace


def never_reached(num_matrices: int = 4) -> Trace:
    """The gradients of the first of 13 matrices are exactly zero from the first row on."""
    trace = healthy(60)
    for name in trace.names("gradient")[:num_matrices]:
        trace.scale(name, 0.0)
    return trace


def skipped_steps(num_rows: int = 16, first: int = FIRST) -> Trace:
    """Loss scaling skips all steps of some rows, and halves its scale after each fourth."""
    trace = healthy(120)
    skipped = np.clip(np.arange(120) - first + 1, 0, num_rows)
    trace.scalars["loss_scale"] = 4096.0 * np.power(0.5, skipped // 4, dtype=np.float64)
    trace.flags[first : first + num_rows] |= int(FrameFlag.SKIPPED)
    return trace


def unheeded_overflows(*, every: int = 3, lowers: bool = False) -> Trace:
    """From a row on loss scaling skips each third step; whether its scale comes down for it."""
    trace, rows = healthy(140), np.arange(140)
    skipped = (rows >= FIRST) & (rows % every == 0)
    trace.flags[skipped] |= int(FrameFlag.SKIPPED)
    # It is tried again at once, as a scaler does whose growth interval is a row.
    trace.scalars["loss_scale"] = np.where(skipped & lowers, 2.0**15, 2.0**16)
    return trace


def half_rounded_updates(*, num_matrices: int = 13, zeros: float = 0.6) -> Trace:
    """From a row on more than half of the elements of matrices do not change any more."""
    trace = small_updates(120)
    for name in trace.names("update")[:num_matrices]:
        trace.put(name, "zero_frac", zeros, slice(FIRST, None))
    return trace


def worn_rate(*, share: float = 0.9) -> Trace:
    """A schedule takes a tenth of the learning rate on each row, and the loss stays at two."""
    trace, rows = small_updates(260), np.arange(260)
    trace.scalars["lr"] = 1e-3 * np.power(share, rows, dtype=np.float64)
    trace.scalars["loss"] = 2.2 + np.random.default_rng(5).normal(0, 0.05, 260)
    return trace


def climbing_rate(*, factor: float = 1.03, level_rows: int = 0) -> Trace:
    """The learning rate rises by the same factor on each row, from one on that may come late."""
    trace = healthy(200)
    rows = np.clip(np.arange(200) - level_rows, 0, None)
    trace.scalars["lr"] = 1e-3 * np.power(factor, rows, dtype=np.float64)
    return trace


def larger_input(*, factor: float = 6.0, first: int = FIRST) -> Trace:
    """What the first layer puts out is six times as large, its weight as before."""
    trace = healthy(160)
    trace.scale(FIRST_LAYER, factor, first)
    return trace


def climbing_loss(*, factor: float = 1.03) -> Trace:
    """The loss rises by 3 % a row from the first one on, and the gradient norm with it."""
    trace, rows = healthy(120), np.arange(120)
    noise = np.exp(np.random.default_rng(8).normal(0, 0.05, 120))
    trace.scalars["loss"] = 5.0 * np.power(factor, rows, dtype=np.float64) * noise
    trace.scalars["grad_norm"] = np.power(factor, rows / 2, dtype=np.float64)
    return trace


def boundless_loss(*, gathers: bool = True) -> Trace:
    """A loss falls below nought ever faster, or ever more slowly, and an output grows with it."""
    trace, rows = healthy(200), np.clip(np.arange(200) - FIRST, 0, None)
    fall = np.exp(rows / 40) - 1 if gathers else 8 * np.log1p(rows / 10)
    trace.scalars["loss"] = 2.0 - fall + np.random.default_rng(9).normal(0, 0.03, 200)
    trace.scale("activation:head", np.exp2(rows / 30))
    return trace


def vanished_at_once() -> Trace:
    """All gradients are 2000 times smaller from one row to the next, the loss stays."""
    trace = healthy(160)
    trace.scalars["loss"] = 2.2 + np.random.default_rng(5).normal(0, 0.05, 160)
    for name in trace.names("gradient"):
        trace.scale(name, 5e-4, 100)
    return trace


def overwritten_weights() -> Trace:
    """Updates as large as the weights from the first row on."""
    trace = healthy(100)
    for kind in ("update", "weight"):
        for name in trace.names(kind):
            trace.put(name, "std", 1.0, slice(None))
    return trace


def alike_units(num_rows: int = 100) -> Trace:
    """A matrix that began with one number in every element, and gradients that are one as well."""
    trace = small_updates(num_rows)
    for kind, size in (("weight", 0.02), ("gradient", 1e-3), ("update", 1e-4)):
        name = f"{kind}:{LAYER}.weight"
        for statistic, value in (("mean", size), ("std", 0.0), ("min", size), ("max", size)):
            trace.put(name, statistic, value, slice(None))
    return trace


def _not_a_number() -> Trace:
    trace = healthy(100)
    trace.put(WEIGHT, "nan_count", 3, slice(FIRST, None))
    return trace


def _growing_weight() -> Trace:
    trace = healthy(200)
    trace.scale(WEIGHT, np.exp2(np.maximum(np.arange(200) - 90, 0) / 9))
    return trace


def _spiking_gradient() -> Trace:
    trace = healthy(120)
    trace.scale(GRADIENT, np.where(np.arange(120) == FIRST, 200.0, 1.0))
    return trace


def _vanished_gradient() -> Trace:
    trace = healthy(120)
    trace.scale(GRADIENT, 0.0, FIRST)
    return trace


def _risen_loss() -> Trace:
    trace = healthy(220)
    trace.scalars["loss"][120:] += 2.5
    return trace


def lifted_losses(
    rises: Iterable[tuple[int, float]] = ((150, 0.9), (220, 0.9)), num_rows: int = 7
) -> Trace:
    """From a row on some losses are larger by as much, in a noise of which none stands out."""
    trace = healthy(300)
    trace.scalars["loss"] += 0.1 * np.random.default_rng(2).standard_t(3, 300)
    for row, rise in rises:
        trace.scalars["loss"][row : row + num_rows] += rise
    return trace


def jumping_activation(rows: Iterable[int] = (160, 163), *, factor: float = 6.0) -> Trace:
    """A layer puts out so much more on some rows, and neither gradients nor loss follow."""
    trace = healthy(200)
    trace.scalars["loss"][:] = 2.0
    trace.scale(f"activation:{LAYER}", np.where(np.isin(np.arange(200), list(rows)), factor, 1.0))
    return trace


def lonely_update() -> Trace:
    """One matrix' updates are sixteen times as large from a row on, all others as before."""
    trace = small_updates(160)
    trace.scale(UPDATE, 16.0, FIRST)
    return trace


def shifted_updates() -> Trace:
    """All updates, noisy as they are, are four times as large from row 100 on."""
    trace = small_updates()
    noise = np.exp2(np.random.default_rng(2).normal(0, 0.4, 200))
    for name in trace.names("update"):
        trace.scale(name, noise)
        trace.scale(name, 4.0, 100)
    return trace


def gone_rate() -> Trace:
    """The learning rate, and all updates with it, fall to a millionth."""
    trace = small_updates(100)
    trace.scalars["lr"] = np.where(np.arange(100) < FIRST, 1e-3, 1e-9)
    for name in trace.names("update"):
        trace.scale(name, trace.scalars["lr"] / 1e-3)
    return trace


def creeping_rate() -> Trace:
    """The learning rate rises by 5 % a row from row 100 on, and all updates with it."""
    trace = small_updates(200)
    rows = np.clip(np.arange(200) - 100, 0, None)
    trace.scalars["lr"] = 1e-3 * np.power(1.05, rows, dtype=np.float64)
    for name in trace.names("update"):
        trace.scale(name, trace.scalars["lr"] / 1e-3)
    return trace


def decaying_weights(share: float = 0.9) -> Trace:
    """All weights keep this share of themselves on each of a hundred rows."""
    trace = small_updates(160)
    rows = np.clip(np.arange(160) - FIRST, 0, 100)
    for name in trace.names("weight"):
        trace.scale(name, np.power(share, rows, dtype=np.float64))
    return trace


def rarely_measured_collapse() -> Trace:
    """Of activations that are measured on every fourth row one answers every sample alike from row
    144 on."""
    trace, name = collapsed_batch(200), f"activation:{LAYER}"
    for other in trace.names("activation"):
        trace.stats[np.arange(200) % 4 != 0, trace.index(other)] = np.nan
    trace.put(name, "batch_std", 0.5, slice(0, 144, 4))
    trace.put(name, "batch_std", 1e-4, slice(144, None, 4))
    return trace


def fading_weight() -> Trace:
    """A weight loses a tenth a row until an eighth is left."""
    trace = small_updates(160)
    rows = np.clip(np.arange(160) - FIRST, 0, 20)
    trace.scale(WEIGHT, np.power(0.9, rows, dtype=np.float64))
    return trace


def too_easy_data() -> Trace:
    """Loss and gradient norm fall to a tenth within ten rows, after a hundred steady ones."""
    trace = healthy(200)
    ease = 0.1 ** np.clip((np.arange(200) - 120) / 10, 0, 1)
    trace.scalars["loss"] = (2 + np.random.default_rng(5).normal(0, 0.05, 200)) * ease
    trace.scalars["grad_norm"] = ease
    return trace


def easy_loss(*, spread: float = 0.5, noise: float = 0.02) -> Trace:
    """The same, beside what the first layer sees; `spread` and `noise` are from row 120 on."""
    trace = too_easy_data()
    rng, eased = np.random.default_rng(6), np.arange(200) >= 120
    share = np.where(eased, spread, 0.5) + np.where(eased, noise, 0.02) * rng.normal(size=200)
    size = np.hypot(*(trace.stats[:, trace.index(FIRST_LAYER), i] for i in (1, 2)))
    trace.put(FIRST_LAYER, "batch_std", share * size, slice(None))
    return trace


def fallen_loss(*, row: int = 120, size: float = 1.0) -> Trace:
    """A loss that has come down to two is less by `size` from one row to the next."""
    trace, rows = healthy(200), np.arange(200)
    noise = np.random.default_rng(4).normal(0, 0.03, 200)
    trace.scalars["loss"] = 2 + 3 * np.exp(-rows / 12) + noise - np.where(rows < row, 0.0, size)
    return trace


def runaway_values(*, first: int = FIRST, doubling_rows: float = 12.0) -> Trace:
    """Outputs double again and again, and the loss with them."""
    trace, rows = healthy(160), np.arange(160)
    growth = np.exp2(np.clip(rows - first, 0, None) / doubling_rows)
    trace.scalars["loss"] = (1.0 + 0.02 * np.random.default_rng(3).normal(size=160)) * growth
    trace.scale("activation:head", growth)
    return trace


def stale_table() -> Trace:
    """Updates of a look-up table fall to a thousandth; its gradients and its rate are as before."""
    trace = small_updates(160)
    trace.facts = RunFacts(optimizer="Adagrad")
    trace.scalars["lr"] = np.full(160, 1e-3)
    for kind in ("activation", "gradient", "weight", "update"):
        tail = "" if kind == "activation" else ".weight"
        trace.describe(f"{kind}:{LAYER}{tail}", module_type="Embedding")
    trace.scale(f"update:{LAYER}.weight", 1e-3, FIRST)
    return trace


def risen_norm(factor: float = 3.0, *, of: str = "") -> Trace:
    """All gradients, or one of them, are three times as large from row 140 on."""
    trace = healthy(200)
    for name in trace.names("gradient"):
        if of in ("", name):
            trace.scale(name, factor, 140)
    return trace


def outlier_weight(factor: float = 2.5, first: int = 150) -> Trace:
    """The largest element of a weight is a multiple of what it was, and its rms is not."""
    trace = healthy(200)
    for statistic, side in (("min", -4.0), ("max", 4.0)):
        size = trace.stats[first, trace.index(WEIGHT), 2]
        trace.put(WEIGHT, statistic, side * factor * size, slice(first, None))
    return trace


def clipped_updates(optimizer: str = "SGD") -> Trace:
    """All updates are a third of what they were from row 140 on, and the gradients are not."""
    trace = healthy(200)
    trace.facts = RunFacts(optimizer=optimizer)
    trace.scalars["lr"] = np.full(200, 0.1)
    for name in trace.names("update"):
        trace.scale(name, 1 / 3, 140)
    return trace


def softmax_twice(lowest: float = 2.55, spread: float = 3.0) -> Trace:
    """A loss that goes from log 32, for the 32 units of the head, to where a softmax of
    probabilities ends, and logits that it drives apart."""
    trace, rows = healthy(160), np.arange(160)
    rng = np.random.default_rng(4)
    start = float(np.log(32.0))
    trace.scalars["loss"] = (
        lowest + (start - lowest) * np.exp(-rows / 40) + rng.uniform(0, 0.01, 160)
    )
    trace.put("activation:head", "batch_std", np.minimum(spread, 0.05 * rows), slice(None))
    return trace


FAULTS: Final[dict[str, Callable[[], Trace]]] = {
    "non_finite": _not_a_number,
    "identity": corrupt_weight,
    "replicas": parted_replicas,
    "rate": decayed_below_zero,
    "early": early_jump,
    "growth": _growing_weight,
    "steady": rising_gradient,
    "spike": _spiking_gradient,
    "swell": risen_norm,
    "inputs": larger_input,
    "lone": lonely_update,
    "outliers": outlier_weight,
    "optimizer_health": lost_rate,
    "clipped": clipped_updates,
    "stopped": stopped_weight,
    "epsilon": tiny_gradients,
    "updates": grown_updates,
    "shift": shifted_updates,
    "overwrite": overwritten_weights,
    "vanishing": _vanished_gradient,
    "unreached": unreached_weights,
    "experts": lost_expert,
    "precision": rounded_updates,
    "grid": on_a_grid,
    "formats": lost_in_rounding,
    "saturation": saturated_tanh,
    "collapse": collapsed_batch,
    "fading": fading_weight,
    "symmetry": alike_units,
    "massive": massive_element,
    "plasticity": forgetful_run,
    "drift": drifting_logits,
    "offset": running_outputs,
    "runaway": runaway_values,
    "plateau": stuck_loss,
    "doubled": softmax_twice,
    "loss": _risen_loss,
    "climb": climbing_loss,
    "windfall": too_easy_data,
    "cliff": fallen_loss,
}
