"""Convolutional networks on images [N, 1, 12, 12]."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn


class CNN(nn.Module):
    """Three strided convolutions and a head, with or without batch norm."""

    def __init__(self, *, norm: bool = True, width: int = 8, classes: int = 6) -> None:
        super().__init__()
        sizes = (1, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(sizes)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) if norm else nn.Identity() for b in sizes[1:])
        self.acts = nn.ModuleList(nn.ReLU() for _ in sizes[1:])
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = act(norm(conv(x)))
        out: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return out


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int, *, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.norm2 = nn.BatchNorm2d(width) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        out: torch.Tensor = torch.relu(x + inner)
        return out


class ResNet(nn.Module):
    """A stem, residual blocks, a head."""

    def __init__(self, *, blocks: int = 3, width: int = 12, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, norm=norm) for _ in range(blocks))
        self.head = nn.Linear(width, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return out


class VGG(nn.Module):
    """Deep, without shortcuts or norms: everything depends on the initial scale."""

    def __init__(self, *, depth: int = 8, width: int = 12, gain: float = 2.0) -> None:
        super().__init__()
        sizes = [1] + [width] * depth
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, stride=2 if i in (0, 3) else 1)
            for i, (a, b) in enumerate(pairwise(sizes))
        )
        self.acts = nn.ModuleList(nn.ReLU() for _ in self.convs)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(width * 9, 32)
        self.head = nn.Linear(32, 6)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            fan_in = conv.in_channels * 9
            nn.init.normal_(conv.weight, std=(gain / fan_in) ** 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        for conv, act in zip(self.convs, self.acts, strict=True):
            x = act(conv(x))
        x = torch.relu(self.fc(self.dropout(x.flatten(1))))
        out: torch.Tensor = self.head(x)
        return out


class UNet(nn.Module):
    """One level down, one up, with a skip; predicts the noise in an image at a noise level."""

    def __init__(self, *, width: int = 12) -> None:
        super().__init__()
        self.time = nn.Linear(1, width)
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge = nn.Conv2d(2 * width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, 1, 3, padding=1)
        self.skip_scale = 1.0

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Noise [N, 1, size, size] in `x`; `level` is [N]."""
        first = torch.nn.functional.silu(
            self.enter(x) + self.time(level[:, None])[:, :, None, None]
        )
        low = torch.nn.functional.silu(self.down(first))
        low = low + torch.nn.functional.silu(self.middle(low))
        both = torch.cat([self.up(low), self.skip_scale * first], dim=1)
        out: torch.Tensor = self.leave(torch.nn.functional.silu(self.merge(both)))
        return out
