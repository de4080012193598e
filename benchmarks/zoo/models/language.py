"""Networks of language: an encoder with a decoder and learned distances, a selective scan, two
experts a token, exponential gates, a memory of segments, a chain of tags, and small parts that are
put into a trained network.

Shapes: N batch, C context, D width, H heads, V vocabulary, S state, K tags.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import ALPHABET
from benchmarks.zoo.models.decoder import Decoder, Gated


class DistanceAttention(nn.Module):
    """Attention with a learned bias for each distance and head (Raffel et al. 2020)."""

    def __init__(self, width: int, heads: int, *, causal: bool = False, reach: int = 12) -> None:
        super().__init__()
        self.heads, self.causal, self.reach = heads, causal, reach
        self.query, self.key, self.value, self.out = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.bias = nn.Embedding(2 * reach + 1, heads)
        nn.init.normal_(self.bias.weight, std=0.1)
        self.logit_max = 0.0

    def forward(self, x: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """Mix `read` [N, R, D] for each place of x [N, C, D]."""
        n, c, d = x.shape
        query, key, value = (
            layer(t).view(n, t.shape[1], self.heads, -1).transpose(1, 2)
            for layer, t in ((self.query, x), (self.key, read), (self.value, read))
        )
        far = torch.arange(read.shape[1]) - torch.arange(c)[:, None]
        bias = self.bias(far.clamp(-self.reach, self.reach) + self.reach).permute(2, 0, 1)
        logits = query @ key.transpose(-2, -1) / (d // self.heads) ** 0.5 + bias
        self.logit_max = float(logits.detach().abs().amax())
        if self.causal:
            logits = logits.masked_fill(far > 0, float("-inf"))
        mixed = (logits.softmax(dim=-1) @ value).transpose(1, 2).reshape(n, c, d)
        out: torch.Tensor = self.out(mixed)
        return out


class ReadingLayer(nn.Module):
    """Attention to itself, in a decoder also to what was read, and a gated layer."""

    def __init__(self, width: int, heads: int, *, decoder: bool) -> None:
        super().__init__()
        self.norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attn = DistanceAttention(width, heads, causal=decoder)
        self.cross_norm = nn.RMSNorm(width) if decoder else None
        self.cross = DistanceAttention(width, heads) if decoder else None
        self.mlp = Gated(width, 2 * width)

    def forward(self, x: torch.Tensor, read: torch.Tensor | None = None) -> torch.Tensor:
        """Same shape as `x`."""
        inner = self.norm(x)
        x = x + self.attn(inner, inner)
        if self.cross is not None and self.cross_norm is not None and read is not None:
            x = x + self.cross(self.cross_norm(x), read)
        out: torch.Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class EncoderDecoder(nn.Module):
    """Reads tokens and writes tokens, as T5 does; token `symbols` is padding and begins a text."""

    def __init__(self, *, symbols: int, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.symbols = symbols
        self.embed = nn.Embedding(symbols + 1, width)
        self.encoder = nn.ModuleList(
            ReadingLayer(width, 4, decoder=False) for _ in range(layers)
        )  # fmt: skip
        self.decoder = nn.ModuleList(ReadingLayer(width, 4, decoder=True) for _ in range(layers))
        self.norm, self.read_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.head = nn.Linear(width, symbols + 1, bias=False)
        nn.init.normal_(self.embed.weight, std=0.3)

    def forward(self, source: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] of the goal [N, C], each place seeing those before it."""
        read = self.embed(source)
        for layer in self.encoder:
            read = layer(read)
        read = self.read_norm(read)
        x = self.embed(functional.pad(goal[:, :-1], (1, 0), value=self.symbols))
        for layer in self.decoder:
            x = layer(x, read)
        out: torch.Tensor = self.head(self.norm(x))
        return out

    def attn_logit_max(self) -> float:
        """The largest attention logit of the last forward pass, before masking."""
        return max(m.logit_max for m in self.modules() if isinstance(m, DistanceAttention))


class SelectiveLayer(nn.Module):
    """A recurrence whose step size, input and output depend on the token (Gu and Dao 2023)."""

    def __init__(self, width: int, *, states: int = 4) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.enter = nn.Linear(width, 2 * width)
        self.delta = nn.Linear(width, width)
        self.write, self.read = nn.Linear(width, states), nn.Linear(width, states)
        self.log_rate = nn.Parameter(torch.arange(1, states + 1).log().repeat(width, 1))
        self.leave = nn.Linear(width, width)
        nn.init.uniform_(self.delta.bias, -3.0, -0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x` [N, C, D]."""
        value, gate = self.enter(self.norm(x)).chunk(2, dim=-1)
        delta = functional.softplus(self.delta(value))
        keep = torch.exp(-delta[..., None] * self.log_rate.exp())
        fed = (delta * value)[..., None] * self.write(value)[:, :, None]
        read = self.read(value)
        state, mixed = torch.zeros_like(fed[:, 0]), []
        for t in range(x.shape[1]):
            state = keep[:, t] * state + fed[:, t]
            mixed.append((state * read[:, t, None]).sum(-1))
        out: torch.Tensor = x + self.leave(torch.stack(mixed, 1) * functional.silu(gate))
        return out


class ExponentialLayer(nn.Module):
    """A memory with an exponential input gate and a running maximum that keeps it in range (Beck
    et al. 2024); without `stable` the gate is taken as it is, in half precision."""

    def __init__(self, width: int, *, level: float = 9.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.value, self.enter = nn.Linear(width, width), nn.Linear(width, width)
        self.forget, self.show = nn.Linear(width, width), nn.Linear(width, width)
        self.leave = nn.Linear(width, width)
        self.stable = True
        nn.init.constant_(self.enter.bias, level)
        nn.init.constant_(self.forget.bias, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x` [N, C, D]."""
        inner = self.norm(x)
        value, enter = torch.tanh(self.value(inner)), self.enter(inner)
        forget = functional.logsigmoid(self.forget(inner))
        memory = weight = torch.zeros_like(x[:, 0])
        top, out = torch.full_like(memory, -1e4 if self.stable else 0.0), []
        for t in range(x.shape[1]):
            kept = forget[:, t] + top
            top = torch.maximum(kept, enter[:, t]).detach() if self.stable else top
            new = torch.exp(enter[:, t] - top)
            if not self.stable:
                new = new.half().float()
            old = torch.exp(kept - top)
            memory, weight = old * memory + new * value[:, t], old * weight + new
            out.append(memory / (weight + 1e-6))
        mixed: torch.Tensor = x + self.leave(torch.stack(out, 1) * torch.sigmoid(self.show(inner)))
        return mixed


class Stack(nn.Module):
    """An embedding, layers that keep the shape, a norm and a head, over `ALPHABET`."""

    def __init__(self, layers: list[nn.Module], *, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(ALPHABET), width)
        self.layers = nn.ModuleList(layers)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, len(ALPHABET))
        nn.init.normal_(self.embed.weight, std=0.3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] for tokens [N, C]."""
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        out: torch.Tensor = self.head(self.norm(x))
        return out


class TwoExperts(nn.Module):
    """A feed-forward layer in which each token is given to its two best experts, and to a shared
    one; an expert takes no more than `room` times its even share, and drops the rest."""

    def __init__(self, width: int, num: int = 4, *, room: float = 1.25) -> None:
        super().__init__()
        self.router = nn.Linear(width, num, bias=False)
        self.experts = nn.ModuleList(Gated(width, width) for _ in range(num))
        self.shared = Gated(width, width)
        self.room, self.jitter = room, 0.0
        self.balance, self.router_z = torch.zeros(()), torch.zeros(())
        self.load = torch.zeros(num)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x` [N, C, D]."""
        flat = x.reshape(-1, x.shape[-1])
        logits = self.router(flat)
        logits = logits + self.jitter * torch.randn_like(logits)
        gates = logits.softmax(dim=-1)
        num = gates.shape[-1]
        best, chosen = gates.topk(2, dim=-1)
        self.load = functional.one_hot(chosen, num).sum(1).float().mean(0).detach() / 2
        self.balance = (self.load * gates.mean(0)).sum() * num
        self.router_z = logits.logsumexp(-1).square().mean()
        most = int(self.room * 2 * len(flat) / num)
        out = self.shared(flat)
        for i, expert in enumerate(self.experts):
            rows, place = (chosen == i).nonzero(as_tuple=True)
            rows, place = rows[:most], place[:most]
            if len(rows):
                share = best[rows, place] / best[rows].sum(-1)
                out = out.index_add(0, rows, expert(flat[rows]) * share[:, None])
        mixed: torch.Tensor = out.view_as(x)
        return mixed


class Remembering(nn.Module):
    """A decoder that also attends to the last segment's states (Dai et al. 2019)."""

    def __init__(self, *, width: int = 32, layers: int = 2, reach: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(ALPHABET), width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.attns = nn.ModuleList(
            DistanceAttention(width, 4, causal=True, reach=reach) for _ in range(layers)
        )
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), Gated(width, 2 * width)) for _ in range(layers)
        )
        self.head = nn.Linear(width, len(ALPHABET))
        self.memory: list[torch.Tensor] = []

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V]; leaves this segment's states as the next one's memory."""
        x, kept = self.embed(tokens), []
        for i, (norm, attn, mlp) in enumerate(
            zip(self.norms, self.attns, self.mlps, strict=True)
        ):  # fmt: skip
            kept.append(x.detach())
            both = norm(torch.cat([self.memory[i], x], dim=1)) if self.memory else norm(x)
            # The memory's places are mixed too, for nothing, so that distances need no offset.
            x = x + attn(both, both)[:, -x.shape[1] :]
            x = x + mlp(x)
        self.memory = kept
        out: torch.Tensor = self.head(x)
        return out


class Chain(nn.Module):
    """A conditional random field along a sequence (Lafferty et al. 2001)."""

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(tags, tags))

    def forward(self, scores: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
        """The negative log likelihood [N] of tags [N, C] under scores [N, C, K]."""
        own = scores.gather(-1, tags[..., None])[..., 0].sum(-1)
        own = own + self.steps[tags[:, :-1], tags[:, 1:]].sum(-1)
        total = scores[:, 0]
        for t in range(1, scores.shape[1]):
            total = torch.logsumexp(total[:, :, None] + self.steps, dim=1) + scores[:, t]
        out: torch.Tensor = total.logsumexp(-1) - own
        return out


class Tagger(nn.Module):
    """Reads both ways; its scores go to a chain, or to a loss of its user's."""

    def __init__(self, inputs: int, outputs: int, *, width: int = 24, words: bool = True) -> None:
        super().__init__()
        self.enter = nn.Embedding(inputs, width) if words else nn.Linear(inputs, width)
        self.reader = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.scores = nn.Linear(2 * width, outputs)
        self.chain = Chain(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [N, C, K]."""
        out: torch.Tensor = self.scores(self.reader(self.enter(x))[0])
        return out


class Prompted(nn.Module):
    """A fixed decoder behind `num` learned vectors (Lester et al. 2021)."""

    def __init__(self, base: Decoder, *, num: int = 8) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.prompt = nn.Embedding(num, base.embed.embedding_dim)
        nn.init.normal_(self.prompt.weight, std=0.2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] for tokens [N, C]."""
        prompt = self.prompt(torch.arange(self.prompt.num_embeddings))
        x = torch.cat([prompt.expand(len(tokens), -1, -1), self.base.embed(tokens)], dim=1)
        for layer in self.base.layers:
            x = layer(x)
        x = x[:, self.prompt.num_embeddings :]
        out: torch.Tensor = self.base.lm_head(self.base.norm(x))
        return out
