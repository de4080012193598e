"""Small real models and the training loops that watch them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from foreshock.watching import Watch
from torch import nn
from torch.nn import functional

Loss = Callable[[nn.Module, int], torch.Tensor]


class TiedTransformer(nn.Module):
    """A transformer encoder whose output layer shares the embedding's weights, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 17, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, 17] of tokens [N, C]."""
        output: torch.Tensor = self.head(self.encoder(self.embedding(tokens)))
        return output


class Recurrent(nn.Module):
    """An LSTM, which returns nested tuples, and a linear layer on its last output."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 6, batch_first=True)
        self.out = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, 2] of x [N, T, 3]."""
        sequence, _ = self.lstm(x)
        output: torch.Tensor = self.out(sequence[:, -1])
        return output


def convolutional() -> nn.Module:
    """Convolution, batch norm and a ReLU that overwrites its input."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 2)
    )


def perceptron() -> nn.Module:
    """Two linear layers with a ReLU between."""
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))


def half_frozen() -> nn.Module:
    """A perceptron whose first layer does not learn."""
    model = perceptron()
    for parameter in next(model.children()).parameters():
        parameter.requires_grad_(False)
    return model


def loss_of(model: nn.Module, index: int) -> torch.Tensor:
    """The loss of one random batch, made from the global generator as a real loop would."""
    if isinstance(model, TiedTransformer):
        tokens = torch.randint(0, 17, (2, 5))
        return functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
    first = next(model.modules())
    if isinstance(first, Recurrent):
        return torch.as_tensor(model(torch.randn(2, 4, 3))).square().mean()
    if isinstance(next(model.children()), nn.Conv2d):
        return torch.as_tensor(model(torch.randn(3, 3, 6, 6))).square().mean()
    return torch.as_tensor(model(torch.randn(4, 5))).square().mean()


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    watch: Watch | None,
    *,
    num_steps: int = 6,
    micro_batches: int = 1,
    clip: float | None = None,
) -> list[torch.Tensor]:
    """Train for some steps; the losses."""
    losses = []
    for index in range(num_steps):
        optimizer.zero_grad()
        for _ in range(micro_batches):
            loss = loss_of(model, index)
            loss.backward()
        if clip is not None:
            if watch is not None:
                watch.grads_ready()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if watch is not None:
            watch.step(loss=loss)
        losses.append(loss.detach().clone())
    return losses
