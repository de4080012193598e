"""Modules that make attention's queries and keys, by their names."""

from __future__ import annotations

import re
from typing import Final

_WORDS: Final = frozenset(
    {"attn", "attention", "mha", "q", "k", "kv", "qk", "qkv", "wq", "wk", "wqkv"}
    | {"query", "queries", "key", "keys"}
)
_SEPARATORS: Final = re.compile(r"[._\[\]]+")


def is_in_attention(name: str) -> bool:
    """Whether a name says so, as `blocks.3.attn.proj`, `layers.0.q_proj.weight` and `c_attn` do."""
    return not _WORDS.isdisjoint(_SEPARATORS.split(name.lower()))
