"""The trainings that are watched: a GPT, a small CNN and an LSTM, with data that all share.

Shapes: N sequences or images of a batch, T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One training. `num_steps` is how long it is measured by default, chosen so that all three
    take a few minutes together; `batch` makes the data of a step, the same for every caller."""

    name: str
    shape: str
    model: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    batch: Callable[[int], Batch]
    num_steps: int


class Block(nn.Module):
    """A pre-norm transformer block with fused causal attention."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.act, self.down = (
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, T, width] to the same."""
        heads = (
            self.qkv(self.norm1(x)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        query, key, value = heads.unbind()
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        after: torch.Tensor = x + self.down(self.act(self.up(self.norm2(x))))
        return after


class Gpt(nn.Module):
    """A decoder-only transformer, its output layer not tied to its embedding."""

    def __init__(self, *, vocabulary: int, width: int, num_layers: int, max_tokens: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(max_tokens, width)
        self.blocks = nn.ModuleList(Block(width, width // 32) for _ in range(num_layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, vocabulary, T] of tokens [N, T]."""
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.head(self.norm(x)).transpose(1, 2)
        return logits


class CharacterLstm(nn.Module):
    """A two-layer LSTM over characters."""

    def __init__(self, *, vocabulary: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, vocabulary, T] of tokens [N, T]."""
        states, _ = self.lstm(self.tokens(tokens))
        logits: torch.Tensor = self.head(states).transpose(1, 2)
        return logits


def _cnn(width: int) -> nn.Module:
    """Three stages of convolution, batch norm and ReLU, each halving the image."""

    def stage(channels_in: int, channels_out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )

    return nn.Sequential(
        stage(3, width),
        stage(width, 2 * width),
        stage(2 * width, 4 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def _text(num_sequences: int, num_tokens: int, vocabulary: int) -> Callable[[int], Batch]:
    """Sequences in which a token follows from the one before, so that there is much to learn."""

    def batch(step: int) -> Batch:
        draw = torch.Generator().manual_seed(step)
        first = torch.randint(vocabulary, (num_sequences, 1), generator=draw)
        tokens = (first + 7 * torch.arange(num_tokens + 1)) % vocabulary
        return tokens[:, :-1], tokens[:, 1:]

    return batch


def _images(num_images: int, size: int) -> Callable[[int], Batch]:
    """Noise in which the class is a brightness."""

    def batch(step: int) -> Batch:
        draw = torch.Generator().manual_seed(step)
        labels = torch.randint(10, (num_images,), generator=draw)
        noise = torch.randn(num_images, 3, size, size, generator=draw)
        return noise + labels[:, None, None, None] / 5, labels

    return batch


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=3e-4)


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)


def workloads() -> tuple[Workload, ...]:
    """The trainings of the published table."""
    return (
        Workload(
            name="gpt",
            shape="6 layers, 128 wide, 8 x 128 tokens, 1024 words, AdamW",
            model=lambda: Gpt(vocabulary=1024, width=128, num_layers=6, max_tokens=128),
            optimizer=_adamw,
            batch=_text(8, 128, 1024),
            num_steps=100,
        ),
        Workload(
            name="cnn",
            shape="6 convolutions of 32 to 128 channels, 32 images of 32 x 32, SGD",
            model=lambda: _cnn(32),
            optimizer=_sgd,
            batch=_images(32, 32),
            num_steps=100,
        ),
        Workload(
            name="lstm",
            shape="2 layers, 256 wide, 16 x 64 characters, AdamW",
            model=lambda: CharacterLstm(vocabulary=96, width=256),
            optimizer=_adamw,
            batch=_text(16, 64, 96),
            num_steps=100,
        ),
    )


def tiny() -> Workload:
    """A training that is over in an instant, for the test of the benchmark itself."""
    return Workload(
        name="tiny",
        shape="1 layer, 32 wide, 2 x 8 tokens",
        model=lambda: Gpt(vocabulary=16, width=32, num_layers=1, max_tokens=8),
        optimizer=_adamw,
        batch=_text(2, 8, 16),
        num_steps=20,
    )
