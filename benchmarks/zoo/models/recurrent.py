"""Recurrent and state-space language models over `ALPHABET`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from benchmarks.zoo.data import ALPHABET


class Recurrent(nn.Module):
    """An embedding, a recurrent network, a head."""

    def __init__(
        self, cell: Literal["rnn", "lstm", "gru"], *, width: int = 40, layers: int = 1
    ) -> None:
        super().__init__()
        kinds = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
        self.tok = nn.Embedding(len(ALPHABET), 24)
        self.rnn = kinds[cell](24, width, layers, batch_first=True)
        self.head = nn.Linear(width, len(ALPHABET))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] for tokens [N, C]."""
        out: torch.Tensor = self.head(self.rnn(self.tok(tokens))[0])
        return out


class StateSpaceLayer(nn.Module):
    """A diagonal linear recurrence h = a h + b x with a gate, in a residual stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, 2 * width)
        self.decay = nn.Parameter(torch.linspace(0.5, 0.95, width))
        self.leave = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x` [N, C, D]."""
        value, gate = self.enter(self.norm(x)).chunk(2, dim=-1)
        state, states = torch.zeros_like(value[:, 0]), []
        for t in range(x.shape[1]):
            state = self.decay * state + (1 - self.decay.abs()) * value[:, t]
            states.append(state)
        out: torch.Tensor = x + self.leave(torch.stack(states, 1) * torch.sigmoid(gate))
        return out


class StateSpace(nn.Module):
    """Two state-space layers between an embedding and a head."""

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.tok = nn.Embedding(len(ALPHABET), width)
        self.layers = nn.ModuleList(StateSpaceLayer(width) for _ in range(2))
        self.head = nn.Linear(width, len(ALPHABET))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] for tokens [N, C]."""
        x = self.tok(tokens)
        for layer in self.layers:
            x = layer(x)
        out: torch.Tensor = self.head(x)
        return out
