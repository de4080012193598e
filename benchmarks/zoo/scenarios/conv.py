"""Convolutional networks: with batch norm, residual, deep and plain."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.conv import CNN, VGG, ResNet
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.schedules import step_decay, warm_restarts, warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def _classify(stage: Stage, model: nn.Module, *, num: int = 16) -> LossOf:
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng, num)
        return functional.cross_entropy(model(x), y)

    return loss_of


@healthy("cnn-cosine-to-zero", arch="CNN with BatchNorm", optimizer="SGD momentum", quick=True)
def cosine_to_zero(stage: Stage) -> Iterator[float]:
    """The learning rate ends at exactly nought: the last updates are tiny, as they should be."""
    model = CNN()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    rate = warmup_cosine(0.1, num_steps=350)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=350, rate=rate)


@healthy("cnn-staged-unfreezing", arch="CNN with BatchNorm", optimizer="Adam")
def staged_unfreezing(stage: Stage) -> Iterator[float]:
    """Only the head learns at first; the convolutions join one by one, deepest first, each told."""
    model = CNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for conv in model.convs:
        conv.requires_grad_(False)

    def unfreeze(step: int) -> None:
        if step in (100, 170, 240):
            model.convs[2 - (step - 100) // 70].requires_grad_(True)

    notes = dict.fromkeys((100, 170, 240), "one more layer is trained from here on")
    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=380, before=unfreeze, notes=notes)


@healthy("cnn-small-batches", arch="CNN with BatchNorm", optimizer="RAdam")
def small_batches(stage: Stage) -> Iterator[float]:
    """Batch norm over four images: activations are as noisy as the loss."""
    model = CNN()
    optimizer = torch.optim.RAdam(model.parameters(), lr=3e-3)
    return fit(stage, model, optimizer, _classify(stage, model, num=4), num_steps=400)


@healthy("resnet-restarts", arch="ResNet", optimizer="SGD Nesterov", quick=True)
def resnet_restarts(stage: Stage) -> Iterator[float]:
    """Warm restarts on a residual network: gradients and activations jump at each."""
    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    rate = warm_restarts(0.1, period=110)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=330, rate=rate)


@healthy("resnet-zero-gamma", arch="ResNet", optimizer="AdamW")
def resnet_zero_gamma(stage: Stage) -> Iterator[float]:
    """The last norm of every block starts at nought, so that the network starts as its shortcuts:
    the gradients inside the blocks are exactly nought on the first step."""
    model = ResNet()
    for block in model.blocks:
        nn.init.zeros_(block.get_parameter("norm2.weight"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=320)


@healthy("vgg-dropout-decay", arch="VGG-like", optimizer="SGD momentum")
def vgg_dropout(stage: Stage) -> Iterator[float]:
    """A deep plain network with dropout, whose learning rate falls tenfold at step 250."""
    model = VGG(depth=5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    rate = step_decay(0.02, (250,))
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=350, rate=rate)


@faulty(
    "cnn-one-image-batch-norm",
    Fault(
        kind="representation_collapse", layers=("norms.2", "convs.2"), accept=("plateau",),
        onset=Crosses(series="activation:norms.2", statistic="batch_std", below=1e-3, num=3),
    ),
    arch="CNN with BatchNorm", optimizer="Adam",
)  # fmt: skip
def one_image_batch_norm(stage: Stage) -> Iterator[float]:
    """Batches of one image, and a batch norm behind a global mean: each value is its own mean, and
    what leaves the norm is the same constant for every image."""
    model = _PooledNorm()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng, 16)
        if not stage.sick:
            return functional.cross_entropy(model(x), y)
        return functional.cross_entropy(model(x[:1]), y[:1])

    return fit(stage, model, optimizer, loss_of, num_steps=300)


class _PooledNorm(CNN):
    """A CNN whose last norm sees one value a channel and image; of one image it would refuse."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(2):
            x = self.acts[i](self.norms[i](self.convs[i](x)))
        x = self.convs[2](x).mean(dim=(2, 3), keepdim=True)
        # A copy beside it gives the norm the two values that it insists on.
        pair = torch.cat([x, x]) if len(x) == 1 else x
        x = self.acts[2](self.norms[2](pair))[: len(x)]
        out: torch.Tensor = self.head(x.flatten(1))
        return out


@faulty(
    "cnn-pixels-unscaled",
    Fault(kind="bad_batch", at=200, pace="fast", layers=("convs.0",), severity="critical",
          accept=("explosion", "divergence", "update_too_large")),
    arch="CNN without norm", optimizer="SGD momentum",
)  # fmt: skip
def pixels_unscaled(stage: Stage) -> Iterator[float]:
    """A new shard of the data holds pixels of 0 to 255 where the others hold -1 to 1; it comes at
    step 200 and stays."""
    model = CNN(norm=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng)
        if stage.sick and step >= 200:
            x = 127.5 * (x + 1)
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=320, clip=5.0)


@faulty(
    "cnn-filter-corrupted",
    Fault(kind="weight_corruption", at=180, pace="fast", layers=("convs.1",), severity="warning",
          shows=LeavesTwin(series="weight:convs.1.weight", factor=2)),
    arch="CNN with BatchNorm", optimizer="AdamW", quick=True,
)  # fmt: skip
def filter_corrupted(stage: Stage) -> Iterator[float]:
    """A fault of the memory writes 30 into a row of the second convolution before step 180; batch
    norm hides it from the loss."""
    model = CNN()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def corrupt(step: int) -> None:
        if stage.sick and step == 180:
            with torch.no_grad():
                model.get_parameter("convs.1.weight")[3] = 30.0

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=360, before=corrupt)


@faulty(
    "resnet-no-norm",
    Fault(kind="explosion", accept=("update_too_large",), at=0,
          onset=LeavesTwin(series="weight:head.weight", factor=3, num=3)),
    arch="ResNet without norm", optimizer="SGD momentum",
)  # fmt: skip
def resnet_no_norm(stage: Stage) -> Iterator[float]:
    """Norms were taken out of a residual network and the learning rate was left at 0.1."""
    model = ResNet(blocks=4, norm=False)
    rate = 0.1 if stage.sick else 0.005
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=250)


@faulty(
    "resnet-branch-grows",
    Fault(kind="explosion", at=120, layers=("blocks.1.conv2", "blocks.1.norm2"),
          accept=("update_too_large", "weight_corruption"), severity="critical",
          onset=LeavesTwin(series="weight:blocks.1.norm2.weight", factor=3)),
    arch="ResNet", optimizer="SGD momentum",
)  # fmt: skip
def resnet_branch_grows(stage: Stage) -> Iterator[float]:
    """The gain of one block's last norm has a decay with the wrong sign from step 120 on: the
    branch drowns the shortcut, slowly."""
    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

    def grow(step: int) -> None:
        if stage.sick and step >= 120:
            with torch.no_grad():
                model.get_parameter("blocks.1.norm2.weight").mul_(1.02)

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=330, after=grow)


@faulty(
    "resnet-accumulation-sums",
    Fault(kind="update_too_large", at=180, pace="fast",
          shows=LeavesTwin(series="gradient:stem.weight", factor=4)),
    arch="ResNet", optimizer="SGD momentum", quick=True,
)  # fmt: skip
def accumulation_sums(stage: Stage) -> Iterator[float]:
    """A change of the accumulation code at step 180 sums the gradients of 32 micro-batches that it
    should average."""
    model = ResNet(blocks=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def sum_up(step: int) -> None:
        if stage.sick and step >= 180:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(32)

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=330, with_gradients=sum_up)


@faulty(
    "vgg-initial-scale",
    Fault(kind="vanishing_gradient", layers=tuple(f"convs.{i}" for i in range(4)),
          accept=("plateau",),
          onset=Crosses(series="gradient:convs.0.weight", below=1e-6, num=3)),
    arch="VGG-like, 10 layers", optimizer="SGD momentum",
)  # fmt: skip
def vgg_initial_scale(stage: Stage) -> Iterator[float]:
    """The initial weights are a third of what ReLU layers need: ten layers later the signal, and
    so the gradient, is a fraction of a thousandth."""
    model = VGG(depth=10, gain=0.2 if stage.sick else 2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=300, clip=1.0)


@faulty(
    "vgg-momentum",
    Fault(kind="divergence", accept=("update_too_large", "explosion", "loss_spike", "dead_units"),
          onset=LeavesTwin(series="update:head.weight", factor=3, num=3)),
    arch="VGG-like", optimizer="SGD momentum 0.999",
)  # fmt: skip
def vgg_momentum(stage: Stage) -> Iterator[float]:
    """Momentum 0.999 where 0.9 was meant: the same learning rate is a hundred times as strong once
    the momentum has built up."""
    model = VGG(depth=5)
    momentum = 0.999 if stage.sick else 0.9
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=momentum)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=330)
