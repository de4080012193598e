"""Data made in code: clusters, images, curves, text. Nothing is downloaded.

Shapes: N batch, F features, C context, V vocabulary, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """K classes of two clusters each in F dimensions, so that no linear layer is enough."""

    rng: torch.Generator
    centres_2KF: torch.Tensor
    noise: float = 0.7

    @classmethod
    def make(
        cls, rng: torch.Generator, *, classes: int = 8, features: int = 16, noise: float = 0.7
    ) -> Clusters:
        """Draw the centres."""
        centres = torch.randn(2, classes, features, generator=rng)
        return cls(rng=rng, centres_2KF=centres, noise=noise)

    def batch(self, num: int = 32) -> Batch:
        """Points [N, F] and their classes [N]."""
        _, classes, features = self.centres_2KF.shape
        labels_N = torch.randint(classes, (num,), generator=self.rng)
        halves_N = torch.randint(2, (num,), generator=self.rng)
        noise_NF = torch.randn(num, features, generator=self.rng)
        return self.centres_2KF[halves_N, labels_N] + self.noise * noise_NF, labels_N


def images(rng: torch.Generator, num: int = 16, *, size: int = 12, classes: int = 6) -> Batch:
    """Stripes [N, 1, size, size] at one of `classes` angles, with a random phase and noise."""
    labels_N = torch.randint(classes, (num,), generator=rng)
    angles_N = labels_N * (torch.pi / classes)
    line = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    phase = 2 * torch.pi * torch.rand(num, 1, 1, generator=rng)
    along = angles_N.cos()[:, None, None] * x + angles_N.sin()[:, None, None] * y
    noise = torch.randn(num, size, size, generator=rng)
    return (torch.sin(1.2 * along + phase) + 0.5 * noise)[:, None], labels_N


def curve(rng: torch.Generator, num: int = 32, *, features: int = 8, noise: float = 0.1) -> Batch:
    """Points [N, F] and a smooth function of them [N, 1], with noise."""
    x_NF = torch.randn(num, features, generator=rng)
    weights_F = torch.linspace(-1, 1, features)
    y_N1 = torch.sin(x_NF @ weights_F)[:, None] + 0.3 * x_NF[:, :1] * x_NF[:, 1:2]
    return x_NF, y_N1 + noise * torch.randn(num, 1, generator=rng)


_SUBJECTS = "the cat|a dog|my old friend|one bird|the captain|her brother|no one|every child"
_VERBS = "sees|follows|paints|forgets|wakes|carries|admires|hides"
_OBJECTS = "the river|a red boat|two stones|the moon|his own shadow|an empty house|the music"
ALPHABET = " .abcdefghijklmnopqrstuvwxyz"


def text(rng: torch.Generator, num_sentences: int = 2000) -> torch.Tensor:
    """Sentences of a small grammar as indices into `ALPHABET`, int64 [characters]."""
    parts = [part.split("|") for part in (_SUBJECTS, _VERBS, _OBJECTS)]
    drawn = torch.stack([torch.randint(len(p), (num_sentences,), generator=rng) for p in parts], 1)
    said = " ".join(
        " ".join(part[i] for part, i in zip(parts, row, strict=True)) + "."
        for row in drawn.tolist()
    )
    return torch.tensor([ALPHABET.index(c) for c in said])


def text_batches(rng: torch.Generator, *, num: int = 8, context: int = 24) -> Callable[[], Batch]:
    """A function that draws inputs [N, C] and the characters after them [N, C]."""
    characters = text(rng)

    def draw() -> Batch:
        starts = torch.randint(len(characters) - context - 1, (num,), generator=rng)
        rows = characters[starts[:, None] + torch.arange(context + 1)]
        return rows[:, :-1], rows[:, 1:]

    return draw


def copy_task(rng: torch.Generator, num: int = 16, *, length: int = 8, symbols: int = 8) -> Batch:
    """A sequence [N, C] and its reverse."""
    x = torch.randint(symbols, (num, length), generator=rng)
    return x, x.flip(1)
