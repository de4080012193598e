"""The demo's model: a small pre-LN transformer language model.

Shapes: N batch, C context, D width, H heads, K width of a head, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Sizes that train in a minute on one CPU core and still show what large models do."""

    vocabulary: int = 256
    num_layers: int = 4
    width: int = 64
    num_heads: int = 4
    context: int = 64


class Attention(nn.Module):
    """Causal self-attention that keeps the largest logit of its last forward pass.

    The logits are computed outright, not inside a fused kernel, because their growth is the first
    sign of the fault that the demo shows.
    """

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.num_heads = size.num_heads
        self.qkv = nn.Linear(size.width, 3 * size.width)
        self.proj = nn.Linear(size.width, size.width)
        self.logit_max = torch.zeros(())
        causal_CC = torch.ones(size.context, size.context, dtype=torch.bool).tril()
        self.register_buffer("causal_CC", causal_CC, persistent=False)

    def forward(self, x_NCD: torch.Tensor) -> torch.Tensor:
        """Mix the positions of `x_NCD`; same shape out."""
        n, c, d = x_NCD.shape
        heads = self.qkv(x_NCD).view(n, c, 3, self.num_heads, d // self.num_heads)
        query_NHCK, key_NHCK, value_NHCK = heads.permute(2, 0, 3, 1, 4)
        scale = 1.0 / math.sqrt(d // self.num_heads)
        logits_NHCC = query_NHCK @ key_NHCK.transpose(-2, -1) * scale
        causal_CC = self.get_buffer("causal_CC")[:c, :c]
        logits_NHCC = logits_NHCC.masked_fill(~causal_CC, float("-inf"))
        self.logit_max = logits_NHCC.detach().amax()
        mixed_NHCK = logits_NHCC.softmax(dim=-1) @ value_NHCK
        output_NCD: torch.Tensor = self.proj(mixed_NHCK.transpose(1, 2).reshape(n, c, d))
        return output_NCD


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a layer norm and added to the stream."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(size.width)
        self.attn = Attention(size)
        self.mlp_norm = nn.LayerNorm(size.width)
        self.mlp_up = nn.Linear(size.width, 4 * size.width)
        self.mlp_down = nn.Linear(4 * size.width, size.width)

    def forward(self, x_NCD: torch.Tensor) -> torch.Tensor:
        """Add what this block has to say to the residual stream `x_NCD`."""
        x_NCD = x_NCD + self.attn(self.attn_norm(x_NCD))
        hidden = functional.gelu(self.mlp_up(self.mlp_norm(x_NCD)))
        output_NCD: torch.Tensor = x_NCD + self.mlp_down(hidden)
        return output_NCD


class LanguageModel(nn.Module):
    """Next-byte prediction; the output layer has its own weights."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(size.vocabulary, size.width)
        self.position_embedding = nn.Embedding(size.context, size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.num_layers))
        self.final_norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, size.vocabulary, bias=False)
        self._initialise(size)

    def _initialise(self, size: ModelSize) -> None:
        """N(0, 0.02), and less by sqrt(2 L) where 2 L layers add to the residual stream, so that
        its variance does not grow with the depth (Radford et al. 2019, section 2.3)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                if name.endswith("bias"):
                    nn.init.zeros_(parameter)
                continue
            residual = name.endswith(("attn.proj.weight", "mlp_down.weight"))
            shrink = math.sqrt(2 * size.num_layers) if residual else 1.0
            nn.init.normal_(parameter, std=0.02 / shrink)

    def forward(self, tokens_NC: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] of the byte after each of `tokens_NC`, int64 [N, C]."""
        positions_C = torch.arange(tokens_NC.shape[1], device=tokens_NC.device)
        x_NCD = self.token_embedding(tokens_NC) + self.position_embedding(positions_C)
        for block in self.blocks:
            x_NCD = block(x_NCD)
        logits_NCV: torch.Tensor = self.head(self.final_norm(x_NCD))
        return logits_NCV

    def attn_logit_max(self) -> torch.Tensor:
        """Largest attention logit of the last forward pass over all blocks, float []."""
        seen = [module.logit_max for module in self.modules() if isinstance(module, Attention)]
        return torch.stack(seen).amax()
