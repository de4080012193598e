"""Which runs are left out together.

Small groups share a fold, so that there are at most eight: more is left out at once than there
would have to be, and the search is over in minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.detection.collections import Labelled

MAX_FOLDS: Final = 8

FAMILIES: Final = {
    "generative": ("gan", "vae", "autoencoder", "diffusion", "denoiser", "flow", "siamese"),
    "transformer": ("gpt", "transformer", "vit", "attention"),
    "convolution": ("cnn", "conv", "resnet", "vgg", "u-net"),
    "recurrent": ("rnn", "lstm", "gru", "recurrent", "state space"),
    "perceptron": ("mlp", "linear"),
}
"""Architectures that are near relatives, by a word of their name, the first that fits: a GPT must
not be judged by thresholds that were chosen on another GPT."""

Folds = dict[str, tuple[int, ...]]
"""Places of the runs that are left out, by the fold's name; each run is in one fold."""


def by_source(runs: Sequence[Labelled]) -> Folds:
    """Families of architectures of traces, publishers of logs."""
    return _merged(_grouped(runs, family_of))


def family_of(labelled: Labelled) -> str:
    """The family of a trace's architecture, its own name if it has none; a log's publisher."""
    if labelled.windows is not None:
        return labelled.source
    words = labelled.source.lower()
    fitting = (family for family, names in FAMILIES.items() if any(n in words for n in names))
    return next(fitting, labelled.source)


def by_kind(runs: Sequence[Labelled]) -> Folds:
    """Kinds of faults, a run with several in the fold of its first. Healthy runs have none, and are
    dealt out in turn, so that each is scored by thresholds that have not seen it either."""
    kinds = _grouped(runs, lambda labelled: labelled.kinds[0] if labelled.kinds else "")
    healthy = kinds.pop("", ())
    folds = _merged(kinds) or {"healthy": ()}
    names = list(folds)
    for number, place in enumerate(healthy):
        name = names[number % len(names)]
        folds[name] = (*folds[name], place)
    return folds


def _grouped(runs: Sequence[Labelled], key: Callable[[Labelled], str]) -> Folds:
    folds: Folds = {}
    for index, labelled in enumerate(runs):
        name = key(labelled)
        folds[name] = (*folds.get(name, ()), index)
    return dict(sorted(folds.items()))


def _merged(groups: Folds) -> Folds:
    """The largest first, each into the fold that is smallest by then."""
    bins: list[list[str]] = [[] for _ in range(min(MAX_FOLDS, len(groups)))]
    sizes = [0] * len(bins)
    for name in sorted(groups, key=lambda name: (-len(groups[name]), name)):
        smallest = sizes.index(min(sizes))
        bins[smallest].append(name)
        sizes[smallest] += len(groups[name])
    return {", ".join(names): sum((groups[n] for n in names), ()) for names in bins}
