"""Networks over sequences and sets: attention between two recurrent nets, pointers, dilated and
gated convolutions, linear attention, a reservoir, graph attention, pooled sets.

Shapes: N batch, C steps or members, D width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Translator(nn.Module):
    """A GRU reads, another writes with additive attention on what was read (Bahdanau 2015)."""

    def __init__(self, *, symbols: int = 8, width: int = 32) -> None:
        super().__init__()
        self.symbols = symbols
        self.embed = nn.Embedding(symbols + 1, width)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.GRUCell(2 * width, width)
        self.query, self.memory = nn.Linear(width, width), nn.Linear(width, width)
        self.energy = nn.Linear(width, 1)
        self.out = nn.Linear(width, symbols)

    def forward(self, source: torch.Tensor, goal: torch.Tensor, own: float) -> torch.Tensor:
        """Logits [N, C, symbols]; each step is fed the true symbol before it or, with odds `own`,
        the one that it wrote itself."""
        read, state = self.encoder(self.embed(source))
        state, keys = state[0], self.memory(read)
        last = torch.full((len(source),), self.symbols)
        written = []
        for t in range(goal.shape[1]):
            scores = self.energy(torch.tanh(keys + self.query(state)[:, None]))[..., 0]
            context = (scores.softmax(-1)[..., None] * read).sum(1)
            state = self.decoder(torch.cat([self.embed(last), context], dim=-1), state)
            written.append(self.out(state))
            mine = torch.rand(()) < own
            last = written[-1].detach().argmax(-1) if mine else goal[:, t]
        return torch.stack(written, dim=1)


class Pointer(nn.Module):
    """Sorts numbers by pointing at them (Vinyals et al. 2015)."""

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.enter = nn.Linear(1, width)
        self.encoder = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTMCell(2 * width, width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(2 * width, width)
        self.sharpness, self.logit_max = 1.0, 0.0

    def forward(self, x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Scores [N, C, C] of each number at each place, taught by the true order [N, C]."""
        read, _ = self.encoder(torch.tanh(self.enter(x[..., None])))
        keys, rows = self.key(read), torch.arange(len(x))
        fed, state, scores = read.mean(1), None, []
        for t in range(x.shape[1]):
            state = self.decoder(fed, state)
            scores.append(torch.einsum("ncd,nd->nc", keys, self.query(state[0])))
            fed = read[rows, order[:, t]]
        out = torch.stack(scores, dim=1) * self.sharpness
        self.logit_max = float(out.detach().abs().amax())
        return out


class Dilated(nn.Module):
    """Causal convolutions with doubling gaps and gates, each beside a shortcut (WaveNet-like)."""

    def __init__(self, *, inputs: int = 1, width: int = 16, levels: int = 4) -> None:
        super().__init__()
        self.enter = nn.Conv1d(inputs, width, 1)
        self.filters = nn.ModuleList(
            nn.Conv1d(width, 2 * width, 2, dilation=2**i) for i in range(levels)
        )
        self.mixes = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(levels))
        self.leave = nn.Conv1d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The next value [N, 1, C] at each step of x [N, inputs, C]."""
        x = self.enter(x)
        for level, (both, mix) in enumerate(zip(self.filters, self.mixes, strict=True)):
            value, gate = both(functional.pad(x, (2**level, 0))).chunk(2, dim=1)
            x = x + mix(torch.tanh(value) * torch.sigmoid(gate))
        out: torch.Tensor = self.leave(x)
        return out


class LinearAttention(nn.Module):
    """A memory of outer products that fades, read by queries (Katharopoulos 2020, with decay)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fade = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x` [N, C, D]."""
        query, key, value = self.qkv(self.norm(x)).chunk(3, dim=-1)
        query, key = functional.elu(query) + 1, functional.elu(key) + 1
        age = torch.arange(x.shape[1])
        distance = (age[:, None] - age).clamp(min=0)
        keep = torch.sigmoid(self.fade) ** distance * torch.ones(len(age), len(age)).tril()
        weights = (query @ key.transpose(1, 2)) * keep
        mixed = weights @ value / (weights.sum(-1, keepdim=True) + 1e-6)
        out: torch.Tensor = x + self.proj(mixed)
        return out


class LinearReader(nn.Module):
    """Linear attention and feed-forward layers on tokens."""

    def __init__(self, vocabulary: int, *, width: int = 24, layers: int = 2) -> None:
        super().__init__()
        self.tok = nn.Embedding(vocabulary, width)
        self.mixers = nn.ModuleList(LinearAttention(width) for _ in range(layers))
        self.ffs = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 48), nn.GELU(), nn.Linear(48, width)
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] for tokens [N, C]."""
        x = self.tok(tokens)
        for mixer, ff in zip(self.mixers, self.ffs, strict=True):
            x = mixer(x)
            x = x + ff(x)
        out: torch.Tensor = self.head(x)
        return out


class Reservoir(nn.Module):
    """A fixed random recurrent net, of which only the readout learns (Jaeger 2001)."""

    def __init__(self, *, size: int = 80, radius: float = 0.9) -> None:
        super().__init__()
        inner = torch.randn(size, size) / size**0.5
        self.register_buffer("inner", radius * inner)
        self.register_buffer("enter", torch.randn(size))
        self.readout = nn.Linear(size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The next value [N, C] at each step of x [N, C]."""
        inner, enter = self.get_buffer("inner"), self.get_buffer("enter")
        state, states = torch.zeros(len(x), len(enter)), []
        for t in range(x.shape[1]):
            state = torch.tanh(state @ inner + x[:, t, None] * enter)
            states.append(state)
        out: torch.Tensor = self.readout(torch.stack(states, dim=1))[..., 0]
        return out


class GraphAttention(nn.Module):
    """Each node mixes its neighbours by a learned score (Velickovic et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, *, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(inputs, heads * outputs, bias=False)
        self.source = nn.Parameter(0.3 * torch.randn(heads, outputs))
        self.target = nn.Parameter(0.3 * torch.randn(heads, outputs))
        self.logit_max = 0.0

    def forward(self, x: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """New features [nodes, heads * outputs]; `near` is the adjacency with loops."""
        h = self.project(x).view(len(x), self.heads, -1)
        ends = [torch.einsum("nhd,hd->hn", h, side) for side in (self.source, self.target)]
        scores = functional.leaky_relu(ends[0][:, :, None] + ends[1][:, None], 0.2)
        self.logit_max = float(scores.detach().abs().amax())
        shares = scores.masked_fill(near == 0, float("-inf")).softmax(-1)
        return torch.einsum("hnm,mhd->nhd", shares, h).reshape(len(x), -1)


class SetNet(nn.Module):
    """The same network for each member, pooled, and a network for the whole (Zaheer 2017)."""

    def __init__(self, *, inputs: int = 3, width: int = 32, classes: int = 4) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.rho = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K] of sets [N, C, inputs]."""
        out: torch.Tensor = self.rho(self.phi(x).sum(dim=1))
        return out
