"""Who left first: the root of an incident, what may be claimed of it, and how surely.

Rules, in this order:
1. Non-finite values: the first tensor in the flow that holds one (findings come in that order),
   unless a tensor that is still finite stands 256 times above its baseline: the first of those to
   leave is what overflowed further on.
2. Gradient spikes: the first activation that jumped with them, since gradients are made of what
   came forward; else the tensor with the largest ratio to its own normal, never the largest norm.
3. Everything else: the earliest departure. First come those that left together, in the order of the
   flow of a step: activations from the input up, gradients from the loss down, then updates and
   weights; the later ones follow by step.
   A parameter's departure counts before those of what is computed from it, so when a module's
   weight or update is among the first, the module is the root and not the logits behind it.

A module inside another one works before it, so of the two the inner one is named. When two blocks
or more lead together and share a family (`attn.qkv`), the family is claimed and no single block.
One series alone is named of a loss only on the row on which it is told, and if it left within 64
steps before. When half of all series leave
within the same steps, nobody is named: a learning rate or a batch is nobody's fault; nor is anybody
when half of all updates are too large. Confidence is the share of the leaders that belong to what
is claimed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from foreshock_service.domain.attention import is_in_attention
from foreshock_service.domain.incidents import Departure, latest_together
from foreshock_service.incidents.names import family_of, module_of

GLOBAL_SHARE: Final = 0.5
HUGE: Final = 256.0
STALE_STEPS: Final = 64
"""What one series did so long before the loss was told is another story."""
JUMP: Final = 4.0
"""What an activation must have grown by to explain a spike of the gradients."""
NOBODYS_KINDS: Final = frozenset({"plateau", "update_too_small"})
NAMED_BY_RULE: Final = frozenset(
    {
        "gradient_spike",
        "dead_units",
        "vanishing_gradient",
        "weight_corruption",
        "saturation",
        "precision_underflow",
        "output_logit_drift",
        "representation_collapse",
        "replica_divergence",
        "massive_activation",
        "loss_of_plasticity",
    }
)
"""Kinds whose rule names the culprits itself, foremost first."""
LOSS_KINDS: Final = frozenset({"loss_spike", "divergence"})


@dataclass(frozen=True, slots=True)
class Cause:
    """`group` is None when no layer can be named."""

    group: str | None
    root: str | None
    confidence: float


NOBODY: Final = Cause(None, None, 0.0)


def attribute(
    kind: str,
    *,
    named: Sequence[Departure],
    departures: Sequence[Departure],
    opens: bool,
    step: int,
    num_series: int,
    num_updates: int,
) -> Cause:
    """The cause of an incident of `kind` at `step`, on which it `opens` or which is a later one.

    `named` are the series that its findings name, foremost first; `departures` all that stand
    outside their baselines: those that left first, together, in the order of the flow, then the
    others.
    """
    if kind == "bad_batch":
        return _claim(named[:1]) if named else NOBODY
    if kind == "non_finite":
        # An overflow starts with what grew before it, not with the first NaN.
        huge = [d for d in departures if HUGE < d.ratio < math.inf]
        huge.sort(key=lambda d: d.step)
        return _claim(huge[:1] or named[:1]) if named else NOBODY
    if kind in NOBODYS_KINDS:
        # A rule that knows which of the matrices it was has named them; the others name none.
        return _claim(named[:1]) if named else NOBODY
    if kind == "gradient_spike":
        forward = [d for d in departures if d.series.startswith("activation:") and d.ratio >= JUMP]
        if forward:
            first = min(d.step for d in forward)
            return _claim([d for d in forward if d.step == first])
    if kind in NAMED_BY_RULE:
        if len(named) > 1 and len(named) >= GLOBAL_SHARE * num_series:
            return NOBODY
        return _claim(named[:1]) if named else NOBODY
    if kind == "attention_logit_growth":
        # What else has left its place makes no logits.
        departures = [d for d in departures if is_in_attention(module_of(d.series))]
    pool = list(departures) or list(named)
    if not pool:
        return NOBODY
    first = min(d.step for d in pool)
    leaders = [d for d in pool if d.step <= latest_together(first, step)]
    if kind in LOSS_KINDS and len(leaders) < 2 and not (opens and first > step - STALE_STEPS):
        return NOBODY
    if num_series > 4 and len(leaders) >= GLOBAL_SHARE * num_series:
        return NOBODY
    if kind == "update_too_large":
        updates = sum(d.series.startswith("update:") for d in pool)
        if updates >= max(2.0, GLOBAL_SHARE * num_updates):
            return NOBODY
    return _claim(leaders)


def _claim(leaders: Sequence[Departure]) -> Cause:
    modules = [module_of(d.series) for d in leaders]
    families: dict[str, set[str]] = {}
    for module in modules:
        family = family_of(module)
        if family is not None:
            families.setdefault(family, set()).add(module)
    counts = Counter(modules)
    if families:
        family, blocks = max(families.items(), key=lambda item: len(item[1]))
        share = sum(counts[m] for m in blocks) / len(modules)
        if len(blocks) >= 2 and share >= 0.5:
            root = next(d for d, m in zip(leaders, modules, strict=True) if m in blocks)
            return Cause(family, root.series, round(share, 3))
    # Order within a tie is the flow; a module whose own parameter left wins over what follows.
    parameters = [
        m
        for d, m in zip(leaders, modules, strict=True)
        if d.series.startswith(("weight:", "update:"))
    ]
    module = Counter(parameters).most_common(1)[0][0] if parameters else modules[0]
    first = next(d.step for d, m in zip(leaders, modules, strict=True) if m == module)
    inner = [
        m
        for d, m in zip(leaders, modules, strict=True)
        if d.step == first and m.startswith(f"{module}.")
    ]
    module = inner[0] if inner else module
    root = next(d for d, m in zip(leaders, modules, strict=True) if m == module)
    return Cause(module, root.series, round(counts[module] / len(modules), 3))
