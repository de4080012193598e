"""Names of series, modules, families of modules and ranks, as sentences use them."""

from __future__ import annotations

from collections.abc import Mapping


def module_of(series: str) -> str:
    """`gradient:blocks.3.attn.qkv.weight` is about the module `blocks.3.attn.qkv`, and so is its
    first output of several, `activation:blocks.3.attn.qkv[0]`."""
    kind, _, name = series.partition(":")
    if kind in ("activation", "activation_grad"):
        return name.partition("[")[0]
    head, _, _ = name.rpartition(".")
    return head or name


def tensor_of(series: str) -> str:
    """A parameter's name, of which there may be several in a module; else the module's."""
    kind, _, name = series.partition(":")
    return module_of(series) if kind in ("activation", "activation_grad") else name


def family_of(module: str) -> str | None:
    """What a module is called in every block: `attn.qkv` for `blocks.3.attn.qkv`; None: no block.

    A plain stack (`layers.3`) has no family, because its number is all its name.
    """
    parts = module.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    if not numbers or numbers[-1] == len(parts) - 1:
        return None
    return ".".join(parts[numbers[-1] + 1 :])


def whose(evidence: Mapping[str, float | int | str]) -> str:
    """The rank that an incident is about, with its host; empty in a run of one rank."""
    if "rank" not in evidence:
        return ""
    host = evidence.get("host")
    return f" (rank {evidence['rank']} on {host})" if host else f" (rank {evidence['rank']})"
