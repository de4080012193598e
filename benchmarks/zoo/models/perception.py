"""Networks that look and listen: a detector, gated residual blocks, a glimpse, speech, voices.

Shapes: N batch, T time, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.models.conv import CNN


class Detector(nn.Module):
    """Centres of boxes as a heatmap of 8 by 8 cells, and the sizes of the boxes in cells. The
    heatmap's bias is that of rare objects."""

    def __init__(self, *, width: int = 12, prior: float = 0.02) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.body = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.neck = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.heat = nn.Conv2d(2 * width, 1, 1)
        self.size = nn.Conv2d(2 * width, 2, 1)
        nn.init.constant_(self.heat.get_parameter("bias"), math.log(prior / (1 - prior)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of centres [N, 8, 8] and sizes [N, 2, 8, 8] for images [N, 1, 16, 16]."""
        x = torch.relu(self.body(torch.relu(self.stem(x))))
        x = torch.relu(self.neck(x))
        return self.heat(x)[:, 0], self.size(x)


def scenes(rng: torch.Generator, num: int = 16, *, most: int = 3, empty: float = 0.1) -> tuple[
    torch.Tensor, torch.Tensor, torch.Tensor
]:  # fmt: skip
    """Images [N, 1, 16, 16] of up to `most` boxes, where their centres are [N, 8, 8], and their
    sizes there in cells [N, 2, 8, 8]. A share of them is empty."""
    cells = torch.randint(8, (num, most, 2), generator=rng)
    sizes = 0.6 + 1.9 * torch.rand(num, most, 2, generator=rng)
    there = torch.rand(num, most, generator=rng) < 0.6
    there &= torch.rand(num, 1, generator=rng) >= empty
    centres = 2 * cells + 1.0
    at = torch.arange(16) + 0.5
    inside_y = (at - centres[..., :1]).abs() < sizes[..., :1]
    inside_x = (at - centres[..., 1:]).abs() < sizes[..., 1:]
    drawn = inside_y[..., :, None] & inside_x[..., None, :] & there[..., None, None]
    x = drawn.any(dim=1).float() + 0.25 * torch.randn(num, 16, 16, generator=rng)
    heat, size = torch.zeros(num, 8, 8), torch.zeros(num, 2, 8, 8)
    image, box = there.nonzero(as_tuple=True)
    row, column = cells[image, box].unbind(-1)
    heat[image, row, column] = 1.0
    size[image, :, row, column] = sizes[image, box]
    return x[:, None], heat, size


def detection_loss(
    model: Detector, x: torch.Tensor, heat: torch.Tensor, size: torch.Tensor, *, least: float = 1.0
) -> torch.Tensor:
    """Focal loss of the centres and distances of the sizes, both for each object that there is;
    `least` is the number of objects it is never divided by less than."""
    logits, sizes = model(x)
    p = logits.sigmoid()
    missed = (1 - p).square() * functional.softplus(-logits) * heat
    invented = p.square() * functional.softplus(logits) * (1 - heat)
    off = ((sizes - size).abs() * heat[:, None]).sum()
    num = heat.sum().clamp(min=least)
    out: torch.Tensor = (missed.sum() + invented.sum() + 0.5 * off) / num
    return out


class SqueezeBlock(nn.Module):
    """Two convolutions beside a shortcut, each channel weighted by a gate that sees the whole
    image; left out altogether where `kept` is False."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.squeeze = nn.Linear(width, width // 2)
        self.excite = nn.Linear(width // 2, width)
        self.gate = nn.Sigmoid()
        self.kept = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        if not self.kept:
            return x
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        gate = self.gate(self.excite(torch.relu(self.squeeze(inner.mean(dim=(2, 3))))))
        out: torch.Tensor = torch.relu(x + gate[:, :, None, None] * inner)
        return out


class SqueezeNet(nn.Module):
    """A stem, gated residual blocks, a head."""

    def __init__(self, *, num: int = 4, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(SqueezeBlock(width) for _ in range(num))
        self.head = nn.Linear(width, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.head(x.mean(dim=(2, 3)))
        return out


class Glimpse(nn.Module):
    """A spatial transformer: a small network says where to look, a CNN what is there. It begins
    with the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.ModuleList([nn.Linear(144, 24), nn.Linear(24, 6)])
        self.reader = CNN(norm=False)
        last = self.locate[1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        where = self.locate[1](torch.relu(self.locate[0](x.flatten(1)))).view(-1, 2, 3)
        grid = functional.affine_grid(where, list(x.shape), align_corners=False)
        out: torch.Tensor = self.reader(functional.grid_sample(x, grid, align_corners=False))
        return out


class Spotter(nn.Module):
    """Convolutions and a GRU over frames [N, T, 8], and log odds of symbols and the blank."""

    def __init__(self, *, symbols: int = 6, width: int = 24) -> None:
        super().__init__()
        self.front = nn.Conv1d(8, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.rnn = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, symbols + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log odds [T, N, symbols + 1], the blank first."""
        x = torch.relu(self.norm(self.front(x.mT).mT))
        out: torch.Tensor = self.head(self.rnn(x)[0]).log_softmax(-1).transpose(0, 1)
        return out


class Separator(nn.Module):
    """Learned filters, dilated convolutions that draw a mask for each of two voices, and filters
    back."""

    def __init__(self, *, width: int = 24) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, width, 8, stride=4, padding=2)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=2**i, dilation=2**i) for i in range(3)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for _ in range(3))
        self.acts = nn.ModuleList(nn.PReLU() for _ in range(3))
        self.mask = nn.Conv1d(width, 2 * width, 1)
        self.decoder = nn.ConvTranspose1d(width, 1, 8, stride=4, padding=2)

    def forward(self, mixed: torch.Tensor) -> torch.Tensor:
        """Two voices [N, 2, T] of a mixture [N, T]."""
        seen = torch.relu(self.encoder(mixed[:, None]))
        x = seen
        for conv, norm, act in zip(self.convs, self.norms, self.acts, strict=True):
            x = x + act(norm(conv(x)))
        masks = self.mask(x).sigmoid().chunk(2, dim=1)
        return torch.cat([self.decoder(mask * seen) for mask in masks], dim=1)


def decibels(made: torch.Tensor, true: torch.Tensor, *, eps: float = 1e-8) -> torch.Tensor:
    """How far `made` [..., T] is above its own error, whatever its scale."""
    made, true = made - made.mean(-1, keepdim=True), true - true.mean(-1, keepdim=True)
    share = (made * true).sum(-1, keepdim=True) / (true.square().sum(-1, keepdim=True) + eps)
    goal = share * true
    ratio = (goal.square().sum(-1) + eps) / ((made - goal).square().sum(-1) + eps)
    return 10 * torch.log10(ratio)
