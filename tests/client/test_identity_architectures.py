"""Watching changes no bit of a training, whatever the model is made of."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from tests.client.identity import Case, Loop, assert_comparison_tells, assert_unchanged
from tests.client.models import (
    Recurrent,
    TiedTransformer,
    convolutional,
    half_frozen,
    loss_of,
    perceptron,
)


def fit(
    loop: Loop,
    model: nn.Module,
    loss_of_batch: Callable[[], torch.Tensor],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    **how: Any,
) -> None:
    """Four steps of AdamW, or of the optimizer given."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2)
    loop.watch(model, optimizer, **how)
    for _ in range(4):
        optimizer.zero_grad()
        loss = loss_of_batch()
        loss.backward()
        optimizer.step()
        loop.step(loss)


def known(make: Callable[[], nn.Module]) -> Case:
    """A case of a model in `models.py`."""

    def case(loop: Loop) -> None:
        model = make()
        fit(loop, model, lambda: loss_of(model, 0))

    return case


def of_input(make: Callable[[], nn.Module], *shape: int, **how: Any) -> Case:
    """A case of a model that maps one random tensor to another."""

    def case(loop: Loop) -> None:
        model = make()
        fit(loop, model, lambda: model(torch.randn(shape)).square().mean(), **how)

    return case


class SharedBlock(nn.Module):
    """A transformer whose one block is called three times, with tied embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TiedTransformer()
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, 17] of tokens [N, C]."""
        hidden = self.transformer.embedding(tokens)
        for _ in range(3):
            hidden = self.block(hidden)
        return torch.as_tensor(self.transformer.head(hidden))


def shared_block(loop: Loop) -> None:
    """One block called three times a forward, and the output layer tied to the embedding."""
    model = SharedBlock()
    fit(loop, model, lambda: model(torch.randint(0, 17, (2, 5))).logsumexp(-1).mean())


class Gru(nn.Module):
    """A two-layer bidirectional GRU with dropout between."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 4, num_layers=2, bidirectional=True, dropout=0.2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Last states [4, N, 4] of x [T, N, 3]."""
        return torch.as_tensor(self.gru(x)[1])


class Attention(nn.Module):
    """Self-attention, without its weights so that the fused kernel is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, C, 8] of x [N, C, 8]."""
        return torch.as_tensor(self.attention(x, x, x, need_weights=False)[0])


class LowRank(nn.Module):
    """A frozen layer and a low-rank correction whose second factor begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(5, 6).requires_grad_(False)
        self.down = nn.Linear(5, 2, bias=False)
        self.up = nn.Linear(2, 6, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, 6] of x [N, 5]."""
        return torch.as_tensor(self.base(x) + self.up(self.down(x)))


class Unused(nn.Module):
    """A layer that no forward calls, and one that only every other forward calls."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.never, self.sometimes = (nn.Linear(5, 5) for _ in range(3))
        self.num_calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, 5] of x [N, 5]."""
        self.num_calls += 1
        hidden = self.used(x)
        return torch.as_tensor(self.sometimes(hidden) if self.num_calls % 2 else hidden)


@dataclass
class Output:
    """What a model with a dataclass returns."""

    logits: torch.Tensor
    hidden: tuple[torch.Tensor, ...] = ()
    loss: torch.Tensor | None = None


class ModelOutput(OrderedDict[str, Any]):
    """An ordered dictionary with its items as attributes, as model libraries return it."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


class Structured(nn.Module):
    """A model and a block inside it that return their tensors in some structure."""

    def __init__(self, pack: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second = perceptron(), nn.Linear(2, 3)
        self.pack = pack

    def forward(self, x: torch.Tensor) -> Any:
        """Whatever `pack` makes of [N, 3] and [N, 2]."""
        hidden = self.first(x)
        return self.pack(self.second(hidden), hidden)


def structured(
    pack: Callable[[torch.Tensor, torch.Tensor], Any], logits: Callable[[Any], torch.Tensor]
) -> Case:
    """A case of a model that returns a structure."""

    def case(loop: Loop) -> None:
        model = nn.Sequential(Structured(pack))
        fit(loop, model, lambda: logits(model(torch.randn(4, 5))).square().mean())

    return case


def sparse_embedding(loop: Loop) -> None:
    """Sparse gradients, which have no statistics; the weights and updates have."""
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True))
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=1e-2)
    kinds = ("activation", "activation_grad", "weight", "update")
    fit(
        loop,
        model,
        lambda: model(torch.randint(0, 9, (3, 4))).square().mean(),
        optimizer=optimizer,
        kinds=kinds,
    )


class Complex(nn.Module):
    """A complex weight between two real layers."""

    def __init__(self) -> None:
        super().__init__()
        self.real = nn.Linear(5, 4)
        self.phase = nn.Parameter(torch.randn(4, dtype=torch.complex64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Magnitudes [N, 4] of x [N, 5]."""
        return torch.as_tensor((torch.fft.fft(self.real(x)) * self.phase).abs())


def of_dtype(dtype: torch.dtype) -> Case:
    """A case whose weights and inputs have one dtype."""

    def case(loop: Loop) -> None:
        model = perceptron().to(dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        fit(
            loop,
            model,
            lambda: model(torch.randn(4, 5).to(dtype)).square().mean(),
            optimizer=optimizer,
        )

    return case


def channels_last(loop: Loop) -> None:
    """Weights and images whose channels are last in memory, and a transposed view of an input."""
    model = nn.Sequential(convolutional()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it

    def loss() -> torch.Tensor:
        images = torch.randn(3, 3, 6, 6).transpose(2, 3)
        return torch.as_tensor(
            model(images.contiguous(memory_format=torch.channels_last)).square().mean()
        )

    fit(loop, model, loss)


def strided(loop: Loop) -> None:
    """A weight that is a transposed matrix, and inputs that skip every other element."""
    model = nn.Linear(5, 4)
    model.weight = nn.Parameter(torch.randn(5, 4).t())
    fit(loop, model, lambda: model(torch.randn(6, 10)[::2, ::2]).square().mean())


CASES: dict[str, Case] = {
    "in-place perceptron": of_input(
        lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(inplace=True), nn.Linear(7, 2)), 4, 5
    ),
    "convolution, batch norm, in-place": known(convolutional),
    "lstm": known(Recurrent),
    "gru": of_input(Gru, 4, 2, 3),
    "tied transformer": known(TiedTransformer),
    "shared block": shared_block,
    "attention": of_input(Attention, 2, 4, 8),
    "half frozen": known(half_frozen),
    "low rank from zero": of_input(LowRank, 3, 5),
    "unused layers": of_input(Unused, 3, 5),
    "tuple": structured(lambda a, b: (a, (b, None)), lambda out: out[0]),
    "dictionary": structured(lambda a, b: {"logits": a, "n": 1, "b": b}, lambda out: out["logits"]),
    "dataclass": structured(lambda a, b: Output(a, (b,)), lambda out: out.logits),
    "model output": structured(lambda a, b: ModelOutput(logits=a, h=(b,)), lambda out: out.logits),
    "weight norm": of_input(
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh()), 3, 5
    ),
    "spectral norm": of_input(
        lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 4)), nn.Tanh()), 3, 5
    ),
    "sparse embedding": sparse_embedding,
    "complex weight": of_input(Complex, 3, 5),
    "float64": of_dtype(torch.float64),
    "bfloat16": of_dtype(torch.bfloat16),
    "float16": of_dtype(torch.float16),
    "channels last": channels_last,
    "strided": strided,
}


@pytest.mark.parametrize("name", CASES)
def test_a_watched_model_trains_the_same(name: str) -> None:
    """Losses, weights, buffers, gradients, optimizer and generators are equal, and frames came."""
    assert_unchanged(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_change_is_seen(name: str) -> None:
    """One weight that is one unit in the last place off after the first step is not the same."""
    assert_comparison_tells(CASES[name])
