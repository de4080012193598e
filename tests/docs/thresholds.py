"""docs/thresholds.md as the code has it; `python -m tests.docs.thresholds` writes it."""

from __future__ import annotations

from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.detectors.thresholds import STRETCH, Sensitivity

from tests.docs.markdown import ROOT

PAGE = ROOT / "docs" / "thresholds.md"
HEAD = """# Thresholds

Every number of every rule, by its detector, as a [configuration](detection.md#configuration) names
it. An octave is a factor of two; sigmas are multiples of a series' own spread or noise; times is a
factor; a share lies between 0 and 1; rows are frames on which the tensor was measured.

Sensitivity stretches octaves and sigmas, and the logarithm of times, by {low:g} when it is `low`
and by {high:g} when it is `high`. Guards, which keep a rule quiet, and all other units stay as they
are.
"""


def page() -> str:
    """The whole page."""
    text = HEAD.format(low=STRETCH[Sensitivity.LOW], high=STRETCH[Sensitivity.HIGH])
    for name, detector in DETECTORS.items():
        described = detector.thresholds.described()
        if not described:
            continue
        text += f"\n## {name}\n\n| Threshold | Default | Unit | |\n|---|---|---|---|\n"
        for item in described:
            unit = f"{item.unit}, guard" if item.guard else item.unit
            text += f"| `{item.name}` | {item.default:.4g} | {unit} | {item.sentence} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
