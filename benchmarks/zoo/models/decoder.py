"""A decoder as language models are built now: RMS norms, rotary positions or linear biases, fewer
keys than queries, gated feed-forward layers, and an output that may share the embedding.

Shapes: N batch, C context, D width, H heads, G groups of keys.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import ALPHABET


def rotated(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """x [N, H, C, d] turned by its position, half against half (Su et al. 2021)."""
    half = x.shape[-1] // 2
    speeds = 100.0 ** (-torch.arange(half) / half)
    angles = positions[:, None] * speeds
    a, b = x[..., :half], x[..., half:]
    return torch.cat(
        [a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], dim=-1
    )


class GroupedAttention(nn.Module):
    """Causal attention in which several heads of queries share one of keys and values."""

    def __init__(self, width: int, heads: int, groups: int, *, rotary: bool) -> None:
        super().__init__()
        self.heads, self.groups, self.rotary = heads, groups, rotary
        self.depth = width // heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, groups * self.depth, bias=False)
        self.value = nn.Linear(width, groups * self.depth, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.scale, self.spacing, self.logit_max = self.depth**-0.5, 1.0, 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix the positions of x [N, C, D]."""
        n, c, _ = x.shape
        query = self.query(x).view(n, c, self.heads, self.depth).transpose(1, 2)
        key, value = (
            layer(x).view(n, c, self.groups, self.depth).transpose(1, 2)
            .repeat_interleave(self.heads // self.groups, dim=1)
            for layer in (self.key, self.value)
        )  # fmt: skip
        positions = torch.arange(c) * self.spacing
        if self.rotary:
            query, key = rotated(query, positions), rotated(key, positions)
        logits = query @ key.transpose(-2, -1) * self.scale
        if not self.rotary:  # linear biases (Press et al. 2021)
            slopes = 2.0 ** -torch.arange(1, self.heads + 1)
            logits = logits - slopes[:, None, None] * (positions[:, None] - positions).abs()
        self.logit_max = float(logits.detach().abs().amax())
        logits = logits.masked_fill(~torch.ones(c, c, dtype=torch.bool).tril(), float("-inf"))
        mixed = (logits.softmax(dim=-1) @ value).transpose(1, 2).reshape(n, c, -1)
        out: torch.Tensor = self.out(mixed)
        return out


class Gated(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        out: torch.Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


class DecoderLayer(nn.Module):
    """Attention and a gated layer, each behind an RMS norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, groups: int, *, rotary: bool) -> None:
        super().__init__()
        self.attn_norm, self.mlp_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attn = GroupedAttention(width, heads, groups, rotary=rotary)
        self.mlp = Gated(width, 2 * width)
        self.normed = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        x = x + self.attn(self.attn_norm(x))
        out: torch.Tensor = x + self.mlp(self.mlp_norm(x) if self.normed else x)
        return out


class Decoder(nn.Module):
    """A causal language model over `ALPHABET`; `tied` shares the embedding with the output."""

    def __init__(
        self,
        *,
        width: int = 32,
        layers: int = 3,
        heads: int = 4,
        groups: int = 2,
        rotary: bool = True,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(ALPHABET), width)
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, groups, rotary=rotary) for _ in range(layers)
        )
        self.norm = nn.RMSNorm(width)
        self.lm_head = nn.Linear(width, len(ALPHABET), bias=False)
        nn.init.normal_(self.embed.weight, std=0.2)
        if tied:
            self.lm_head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] for tokens [N, C]."""
        x = self.dropout(self.embed(tokens))
        for layer in self.layers:
            x = layer(x)
        out: torch.Tensor = self.lm_head(self.norm(x))
        return out

    def attentions(self) -> list[GroupedAttention]:
        """Every attention layer, the first one first."""
        return [m for m in self.modules() if isinstance(m, GroupedAttention)]

    def attn_logit_max(self) -> float:
        """The largest attention logit of the last forward pass, before masking."""
        return max(m.logit_max for m in self.attentions())
