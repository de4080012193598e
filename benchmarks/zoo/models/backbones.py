"""More image networks on [N, 1, 12, 12]: inverted residuals, ConvNeXt, dense blocks, capsules,
masked pixels, a small segmenter, a cellular automaton.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Inverted(nn.Module):
    """A narrow input, wide depthwise filters, a narrow output, a shortcut (Sandler et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 3 * width
        self.expand, self.norm1 = nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.project, self.norm3 = nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        inner = functional.relu6(self.norm1(self.expand(x)))
        inner = functional.relu6(self.norm2(self.depthwise(inner)))
        out: torch.Tensor = x + self.norm3(self.project(inner))
        return out


class Mobile(nn.Module):
    """A stem, inverted residuals, a head."""

    def __init__(self, *, width: int = 10, blocks: int = 3, classes: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Inverted(width) for _ in range(blocks))
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.classifier(x.mean(dim=(2, 3)))
        return out


class NextBlock(nn.Module):
    """Depthwise, norm, wide, narrow, and a gain on each channel that starts near nought."""

    def __init__(self, width: int, gain: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.pw1, self.pw2 = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        self.gain = nn.Parameter(torch.full((width,), gain))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        inner = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        inner = self.gain * self.pw2(functional.gelu(self.pw1(inner)))
        out: torch.Tensor = x + inner.permute(0, 3, 1, 2)
        return out


class ConvNext(nn.Module):
    """Patches, blocks, a norm, a head (Liu et al. 2022)."""

    def __init__(self, *, width: int = 16, blocks: int = 3, gain: float = 1e-3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 2, stride=2)
        self.stages = nn.ModuleList(NextBlock(width, gain) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = self.stem(x)
        for block in self.stages:
            x = block(x)
        out: torch.Tensor = self.head(self.norm(x.mean(dim=(2, 3))))
        return out


class DenseNet(nn.Module):
    """Each layer reads everything before it; group norm instead of batch norm."""

    def __init__(self, *, growth: int = 8, layers: int = 4) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        sizes = [8 + growth * i for i in range(layers + 1)]
        self.norms = nn.ModuleList(nn.GroupNorm(4, s) for s in sizes[:-1])
        self.convs = nn.ModuleList(nn.Conv2d(s, growth, 3, padding=1) for s in sizes[:-1])
        self.fc = nn.Linear(sizes[-1], 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = self.enter(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(torch.relu(norm(x)))], dim=1)
        out: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return out


def squashed(x: torch.Tensor) -> torch.Tensor:
    """Vectors with the same direction and a length below 1 (Sabour et al. 2017)."""
    square = x.square().sum(-1, keepdim=True)
    return x * square / (1 + square) / (square + 1e-8).sqrt()


class Capsules(nn.Module):
    """Primary capsules from a convolution, routed by agreement to one of length [N, K] a class."""

    def __init__(self, *, classes: int = 6, rounds: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 4, stride=2)
        self.primary = nn.Conv2d(16, 16, 3, stride=2)
        self.votes = nn.Parameter(0.2 * torch.randn(16, classes, 4, 6))
        self.rounds, self.sharpness = rounds, 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The length of each class's capsule [N, K]."""
        x = self.primary(torch.relu(self.conv(x)))
        capsules = squashed(x.flatten(2).transpose(1, 2).reshape(len(x), -1, 4))
        predicted = torch.einsum("ncd,ckde->ncke", capsules, self.votes)
        agreed = torch.zeros(predicted.shape[:3])
        out = predicted.mean(1)
        for _ in range(self.rounds):
            shares = (self.sharpness * agreed).softmax(dim=-1)
            out = squashed((shares[..., None] * predicted).sum(1))
            agreed = agreed + (predicted * out[:, None]).sum(-1)
        length: torch.Tensor = out.norm(dim=-1)
        return length


class Segmenter(nn.Module):
    """Down, up, and a side branch at full size; a logit [N, 1, 12, 12] for each pixel."""

    def __init__(self, *, width: int = 10) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, dilation=2, padding=2), nn.ReLU(),
        )  # fmt: skip
        self.side = nn.Conv2d(1, width, 3, padding=1)
        self.mask = nn.Conv2d(2 * width, 1, 1)
        self.side_weight = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A logit of each pixel."""
        coarse = functional.interpolate(self.encoder(x), scale_factor=2.0)
        both = torch.cat([coarse, self.side_weight * torch.relu(self.side(x))], dim=1)
        out: torch.Tensor = self.mask(both)
        return out


class MaskedConv(nn.Conv2d):
    """Sees only the pixels above and to the left (van den Oord et al. 2016)."""

    def __init__(self, a: int, b: int, size: int, *, centre: bool) -> None:
        super().__init__(a, b, size, padding=size // 2)
        keep = torch.zeros(size * size)
        keep[: size * size // 2 + centre] = 1
        self.register_buffer("keep", keep.view(size, size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolved with what is masked set to nought."""
        kernel = self.weight * self.get_buffer("keep")
        return functional.conv2d(x, kernel, self.bias, padding=self.padding)


class PixelNet(nn.Module):
    """An autoregressive model of binary images: a logit [N, 1, H, W] for each pixel."""

    def __init__(self, *, width: int = 12) -> None:
        super().__init__()
        self.first = MaskedConv(1, width, 5, centre=False)
        self.rest = nn.ModuleList(MaskedConv(width, width, 3, centre=True) for _ in range(3))
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(4))
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A logit of each pixel."""
        x = self.first(x)
        for conv, act in zip(self.rest, self.acts, strict=False):
            x = x + conv(act(x))
        out: torch.Tensor = self.out(self.acts[-1](x))
        return out


class Automaton(nn.Module):
    """A cell's update from itself and its neighbours, applied over and over (Mordvintsev 2020)."""

    def __init__(self, *, channels: int = 8) -> None:
        super().__init__()
        self.perceive = nn.Conv2d(channels, 24, 3, padding=1, padding_mode="circular")
        self.update = nn.Conv2d(24, channels, 1)
        nn.init.zeros_(self.update.weight)

    def forward(self, cells: torch.Tensor, rounds: int) -> torch.Tensor:
        """The cells after some rounds."""
        for _ in range(rounds):
            cells = cells + self.update(torch.relu(self.perceive(cells)))
        return cells
