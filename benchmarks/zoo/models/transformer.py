"""Transformers: causal language models, encoders, mixtures of experts.

Shapes: N batch, C context, D width, H heads, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import ALPHABET


class Attention(nn.Module):
    """Self-attention that keeps the largest of its last logits; `qk_norm` bounds them."""

    def __init__(self, width: int, heads: int, *, causal: bool, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads, self.causal, self.qk_norm = heads, causal, qk_norm
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.logit_max = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix the positions of x [N, C, D]."""
        n, c, d = x.shape
        qkv = self.qkv(x).view(n, c, 3, self.heads, d // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if self.qk_norm:
            query, key = (functional.normalize(t, dim=-1) * 3 for t in (query, key))
        logits = query @ key.transpose(-2, -1) / (d // self.heads) ** 0.5
        self.logit_max = float(logits.detach().abs().amax())
        if self.causal:
            logits = logits.masked_fill(~torch.ones(c, c, dtype=torch.bool).tril(), float("-inf"))
        mixed = (logits.softmax(dim=-1) @ value).transpose(1, 2).reshape(n, c, d)
        out: torch.Tensor = self.proj(mixed)
        return out


class FeedForward(nn.Module):
    """Wide in the middle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        out: torch.Tensor = self.down(self.act(self.up(x)))
        return out


class Block(nn.Module):
    """Attention and a feed-forward layer, normalised before (`pre`) or after they are added."""

    def __init__(
        self, width: int, heads: int, *, causal: bool, pre: bool, qk_norm: bool, inner: nn.Module
    ) -> None:
        super().__init__()
        self.pre = pre
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(width, heads, causal=causal, qk_norm=qk_norm)
        self.mlp = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        if self.pre:
            x = x + self.attn(self.norm1(x))
            out: torch.Tensor = x + self.mlp(self.norm2(x))
            return out
        x = self.norm1(x + self.attn(x))
        out = self.norm2(x + self.mlp(x))
        return out


class GPT(nn.Module):
    """A causal language model."""

    def __init__(
        self,
        *,
        vocabulary: int = len(ALPHABET),
        width: int = 32,
        layers: int = 3,
        heads: int = 4,
        context: int = 64,
        causal: bool = True,
        pre: bool = True,
        qk_norm: bool = False,
        inner: Callable[[int], nn.Module] = FeedForward,
    ) -> None:
        super().__init__()
        self.tok = nn.Embedding(vocabulary, width)
        self.pos = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, causal=causal, pre=pre, qk_norm=qk_norm, inner=inner(width))
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width) if pre else nn.Identity()
        self.head = nn.Linear(width, vocabulary)
        nn.init.normal_(self.tok.weight, std=0.1)
        nn.init.normal_(self.pos.weight, std=0.1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] for tokens [N, C]."""
        x = self.tok(tokens) + self.pos(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.head(self.norm(x))
        return out

    def attn_logit_max(self) -> float:
        """The largest attention logit of the last forward pass, before masking."""
        return max(m.logit_max for m in self.modules() if isinstance(m, Attention))


class ViT(nn.Module):
    """Patches of an image [N, 1, 12, 12] through an encoder; a mean and a head."""

    def __init__(self, *, width: int = 24, layers: int = 3, classes: int = 6) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 3, stride=3)
        self.pos = nn.Parameter(0.1 * torch.randn(16, width))
        self.blocks = nn.ModuleList(
            Block(width, 3, causal=False, pre=True, qk_norm=False, inner=FeedForward(width))
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.0)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = self.dropout(self.patch(x).flatten(2).transpose(1, 2) + self.pos)
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.head(self.norm(x).mean(dim=1))
        return out


class Mixer(nn.Module):
    """Mixes tokens, then channels, in turn, without attention."""

    def __init__(self, *, width: int = 24, layers: int = 3, tokens: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 3, stride=3)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.token_mix = nn.ModuleList(FeedForward(tokens) for _ in range(layers))
        self.channel_mix = nn.ModuleList(FeedForward(width) for _ in range(layers))
        self.head = nn.Linear(width, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        for i, (tokens, channels) in enumerate(zip(self.token_mix, self.channel_mix, strict=True)):
            x = x + tokens(self.norms[2 * i](x).transpose(1, 2)).transpose(1, 2)
            x = x + channels(self.norms[2 * i + 1](x))
        out: torch.Tensor = self.head(x.mean(dim=1))
        return out


class Experts(nn.Module):
    """A feed-forward layer of which a router picks one in `num` for each token (Switch: the gate
    scales the output; an auxiliary loss keeps the load even)."""

    def __init__(self, width: int, num: int = 4) -> None:
        super().__init__()
        self.router = nn.Linear(width, num)
        self.experts = nn.ModuleList(FeedForward(width) for _ in range(num))
        self.balance = torch.zeros(())
        self.load = torch.zeros(num)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        gates = self.router(x).softmax(dim=-1)
        best, chosen = gates.max(dim=-1)
        shares = functional.one_hot(chosen, gates.shape[-1]).float()
        self.load = shares.mean(dim=(0, 1)).detach()
        self.balance = (self.load * gates.mean(dim=(0, 1))).sum() * gates.shape[-1]
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            mask = chosen == i
            if mask.any():
                out[mask] = expert(x[mask]) * best[mask][:, None]
        return out
