"""Numbers and times as a person reads them."""

from __future__ import annotations

import math

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_SMALL = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def whole(number: int) -> str:
    """A count or a step: `12,345`."""
    return f"{number:,}"


def steps(number: int) -> str:
    """A number of steps with its noun."""
    return "1 step" if number == 1 else f"{number:,} steps"


def measure(value: float | None) -> str:
    """A measured value with three digits; an absent one is a dash, what is not finite says so."""
    if value is None:
        return "\N{EN DASH}"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "\N{MINUS SIGN}inf"
    text = f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"
    return text.replace("-", "\N{MINUS SIGN}")


def ratio(value: float) -> str:
    """A factor over the baseline, below it as a fraction."""
    if not math.isfinite(value) or value <= 0:
        return measure(value)
    if value >= 1:
        return (
            f"{value:,.0f}\N{MULTIPLICATION SIGN}"
            if value >= 10
            else f"{value:.1f}\N{MULTIPLICATION SIGN}"
        )
    return (
        f"1/{1 / value:,.0f}\N{MULTIPLICATION SIGN}"
        if value <= 0.1
        else f"1/{1 / value:.1f}\N{MULTIPLICATION SIGN}"
    )


def ago(seconds: float) -> str:
    """How long ago, as coarsely as is useful."""
    if seconds < 2:
        return "now"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s ago"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min ago"
    if seconds < _DAY:
        return f"{seconds / _HOUR:.0f} h ago"
    days = int(seconds / _DAY)
    return "yesterday" if days == 1 else f"{days} d ago"


def lasting(seconds: float) -> str:
    """A time to come, as coarsely as is useful, and never as nothing."""
    if seconds < _HOUR - _MINUTE / 2:
        return f"{max(seconds / _MINUTE, 1):.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} d"


def pace(seconds_per_step: float | None) -> str:
    """Seconds a step, or steps a second where that is the larger number."""
    if seconds_per_step is None or not seconds_per_step > 0:
        return ""
    if seconds_per_step < 0.1:
        return f"{1 / seconds_per_step:,.0f} steps/s"
    return f"{seconds_per_step:.1f} s/step"


def headline(num_attention: int, num_runs: int) -> str:
    """What the Runs page says first."""
    if num_runs == 0:
        return "No run has reported yet"
    if num_attention == 0:
        return "No run needs attention"
    count = _SMALL[num_attention] if num_attention < len(_SMALL) else whole(num_attention)
    return f"{count} run needs attention" if num_attention == 1 else f"{count} runs need attention"
