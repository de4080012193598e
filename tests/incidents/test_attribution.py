"""Who is named: what cannot have made it is not."""

from __future__ import annotations

import pytest
from foreshock_service.domain.attention import is_in_attention
from foreshock_service.domain.incidents import Departure
from foreshock_service.incidents.attribution import attribute


def _left(series: str, step: int) -> Departure:
    return Departure(series=series, step=step, statistic="rms", ratio=8.0)


@pytest.mark.parametrize(
    ("series", "group"),
    [
        (["weight:embed.weight"], None),
        (["weight:embed.weight", "weight:blocks.1.attn.qkv.weight"], "blocks.1.attn.qkv"),
    ],
)
def test_of_attention_logits_only_attention_is_named(series: list[str], group: str | None) -> None:
    """An embedding that left its place before makes none."""
    cause = attribute(
        "attention_logit_growth",
        named=(),
        departures=[_left(name, 40 + number) for number, name in enumerate(series)],
        opens=True,
        step=60,
        num_series=40,
        num_updates=10,
    )
    assert cause.group == group


@pytest.mark.parametrize(
    ("name", "is_attention"),
    [
        ("blocks.3.attn.proj", True), ("layers.0.self_attn.q_proj", True), ("h.0.c_attn", True),
        ("encoder.query", True), ("to_qkv", True), ("embed", False), ("mlp.up", False),
        ("quality.head", False),
    ],
)  # fmt: skip
def test_attention_is_known_by_its_names(name: str, is_attention: bool) -> None:
    """Whole words of them."""
    assert is_in_attention(name) is is_attention
