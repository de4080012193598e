"""What is of attention, by its name: modules that make queries and keys, and scalars that are the
largest logit."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_WORDS: Final = frozenset(
    {"attn", "attention", "mha", "q", "k", "kv", "qk", "qkv", "wq", "wk", "wqkv"}
    | {"query", "queries", "key", "keys"}
)
_OF_ATTENTION: Final = frozenset({"attn", "attention"})
_LARGEST: Final = frozenset({"max", "maximum", "largest"})
_BESIDE: Final = frozenset(
    {"", "logit", "logits", "score", "scores", "layer", "layers", "block", "blocks", "h", "train"}
)
_OF_SCALARS: Final = re.compile(r"[^a-z]+")
_SEPARATORS: Final = re.compile(r"[._\[\]]+")


def is_in_attention(name: str) -> bool:
    """Whether a name says so, as `blocks.3.attn.proj`, `layers.0.q_proj.weight` and `c_attn` do."""
    return not _WORDS.isdisjoint(_SEPARATORS.split(name.lower()))


@lru_cache(maxsize=4096)
def is_largest_logit(scalar: str) -> bool:
    """Whether a scalar's name says so, as `attn_logit_max`, `attention/max_score/3` and `attn_max`
    do."""
    words = set(_OF_SCALARS.split(scalar.lower()))
    named = not words.isdisjoint(_OF_ATTENTION) and not words.isdisjoint(_LARGEST)
    return named and words <= _OF_ATTENTION | _LARGEST | _BESIDE
