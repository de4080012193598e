"""The number formats that tensors have: where each ends, and where it loses its precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFormat:
    """Powers of two: the largest value lies below 2^`top`, the least normal one is 2^`normal`,
    the least of all 2^`least`; `digits` are the bits of the significand, the hidden one among
    them."""

    top: int
    normal: int
    least: int
    digits: int


FORMATS: Final = {
    "float64": NumberFormat(top=1024, normal=-1022, least=-1074, digits=53),
    "float32": NumberFormat(top=128, normal=-126, least=-149, digits=24),
    "bfloat16": NumberFormat(top=128, normal=-126, least=-133, digits=8),
    "float16": NumberFormat(top=16, normal=-14, least=-24, digits=11),
    "float8_e5m2": NumberFormat(top=16, normal=-14, least=-16, digits=3),
    "float8_e4m3fn": NumberFormat(top=9, normal=-6, least=-9, digits=4),
}
"""By the name that PyTorch has for them. IEEE 754, and Micikevicius et al. 2022 (arXiv 2209.05433)
for the two of 8 bits."""
