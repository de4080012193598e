"""Self-supervised, distilled and adapted models: what is learned is a representation."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.adapters import LowRank
from benchmarks.zoo.models.conv import CNN
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


def _views(rng: torch.Generator, num: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Two noisy views of the same images."""
    x, _ = images(rng, num)
    first, second = (x + 0.3 * torch.randn(x.shape, generator=rng) for _ in range(2))
    return first, second


def _contrast(a: torch.Tensor, b: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE: each image must find its other view."""
    a, b = functional.normalize(a, dim=-1), functional.normalize(b, dim=-1)
    return functional.cross_entropy(a @ b.T / temperature, torch.arange(len(a)))


@healthy("simclr-contrast", arch="CNN, contrastive", optimizer="AdamW")
def contrast(stage: Stage) -> Iterator[float]:
    """Contrastive learning; the loss lies near the logarithm of the batch size at first."""
    model = CNN(classes=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = _views(rng)
        return _contrast(model(x), model(y), 0.2)

    return fit(stage, model, optimizer, loss_of, num_steps=300)


class _Student(nn.Module):
    """An encoder and a predictor; the teacher stands outside, and is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = CNN(classes=16)
        self.predictor = MLP((16, 32, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A guess at the teacher's features."""
        out: torch.Tensor = self.predictor(self.encoder(x))
        return out


@healthy("byol-average-teacher", arch="CNN, self-distilled", optimizer="Adam", loss_falls=False)
def average_teacher(stage: Stage) -> Iterator[float]:
    """The target is an average of the student's own past: it moves, and the loss with it."""
    model = _Student()
    teacher = copy.deepcopy(model.encoder)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = _views(rng)
        with torch.no_grad():
            target = teacher(y)
        return 2 - 2 * functional.cosine_similarity(model(x), target).mean()

    def follow(step: int) -> None:
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), model.encoder.parameters(), strict=True):
                old.lerp_(new, 0.02)

    return fit(stage, model, optimizer, loss_of, num_steps=320, after=follow)


@faulty(
    "siamese-no-contrast",
    Fault(kind="representation_collapse", at=120, layers=("2",),
          onset=LeavesTwin(series="activation:2", statistic="batch_std", factor=3)),
    arch="MLP, siamese", optimizer="Adam", quick=True,
)  # fmt: skip
def no_contrast(stage: Stage) -> Iterator[float]:
    """From step 120 on only the attraction of views is left of the loss, the repulsion is lost: it
    falls beautifully, while all images become the same point."""
    model = nn.Sequential(nn.Linear(144, 64), nn.Tanh(), nn.Linear(64, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        a, b = (model(v.flatten(1)) for v in _views(rng))
        pull = (a - b).square().mean()
        push = torch.relu(1 - a.std(dim=0)).mean()
        if stage.sick and step >= 120:
            push = torch.zeros(())
        total: torch.Tensor = pull + push
        return total

    return fit(stage, model, optimizer, loss_of, num_steps=380)


@healthy("distilled-student", arch="MLP student", optimizer="Adagrad")
def distilled(stage: Stage) -> Iterator[float]:
    """A small network learns the soft answers of a large one, at a low loss."""
    teacher, model = MLP((16, 96, 96, 8)), MLP((16, 32, 8))
    nn.init.normal_(teacher.head.weight, std=0.5)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.02)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, _ = data.batch()
        with torch.no_grad():
            target = teacher(x).log_softmax(-1)
        mine = model(x).log_softmax(-1)
        return functional.kl_div(mine, target, log_target=True, reduction="batchmean")

    return fit(stage, model, optimizer, loss_of, num_steps=380)


def _adapted() -> MLP:
    model = MLP((16, 64, 64, 8), activation=nn.GELU)
    for i in range(2):
        layer = model.layers[i]
        assert isinstance(layer, nn.Linear)
        model.layers[i] = LowRank(layer)
    return model


@healthy("lora-from-zeros", arch="MLP with low-rank adapters", optimizer="AdamW", quick=True)
def lora_from_zeros(stage: Stage) -> Iterator[float]:
    """Half of the adapters is exactly nought at first, and the base never moves."""
    model = _adapted()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=380)


@faulty(
    "lora-scale",
    Fault(kind="update_too_large", at=140, pace="fast", layers=("layers.0.up", "layers.1.up"),
          accept=("explosion", "divergence", "loss_spike", "bad_batch"),
          shows=LeavesTwin(series="activation:layers.1", factor=2)),
    arch="MLP with low-rank adapters", optimizer="AdamW",
)  # fmt: skip
def lora_scale(stage: Stage) -> Iterator[float]:
    """A reload of the configuration multiplies the adapters' scale by 16 at step 140."""
    model = _adapted()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    data = Clusters.make(stage.generator())

    def rescale(step: int) -> None:
        if stage.sick and step == 140:
            for layer in model.layers[:2]:
                assert isinstance(layer, LowRank)
                layer.scale = 32.0

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=320, before=rescale)


@healthy("linear-probe-lbfgs", arch="linear probe on a frozen CNN", optimizer="LBFGS")
def linear_probe(stage: Stage) -> Iterator[float]:
    """Only a linear layer learns, by LBFGS with a closure; the backbone is frozen and has no
    gradient."""
    backbone = CNN(classes=32).requires_grad_(False)
    head = nn.Linear(32, 6)
    model = nn.Sequential(backbone, head)
    optimizer = torch.optim.LBFGS(head.parameters(), lr=0.1, max_iter=3, history_size=5)
    rng = stage.generator()
    with stage.watch(model, optimizer) as watch:
        for _ in range(220):
            x, y = images(rng, 96)

            def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(x), y) + 1e-3 * head.weight.square().sum()
                torch.autograd.backward(loss)
                return loss

            loss = optimizer.step(closure)
            watch.step(loss)
            yield float(torch.as_tensor(loss).detach())


@faulty(
    "probe-backbone-thawed",
    Fault(kind="update_too_large", at=150, pace="fast",
          layers=("0.convs.0", "0.convs.1", "0.convs.2"), accept=("representation_collapse",),
          shows=LeavesTwin(series="activation:0.convs.0", factor=2, num=1)),
    arch="linear probe on a frozen CNN", optimizer="SGD momentum",
)  # fmt: skip
def backbone_thawed(stage: Stage) -> Iterator[float]:
    """At step 150 the backbone is thawed at the rate of the head, a thousand times too high for
    it, and forgets everything within ten steps."""
    backbone = CNN(classes=32, norm=False)
    model = nn.Sequential(backbone, nn.Linear(32, 6))
    data, rng = images, stage.generator()
    backbone.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)

    def thaw(step: int) -> None:
        if stage.sick and step == 150:
            backbone.requires_grad_(True)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data(rng, 32)
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=280, before=thaw)


@faulty(
    "distilled-student-all-alike",
    Fault(kind="representation_collapse", at=130, layers=("layers.1",), severity="critical",
          accept=("dead_units", "plateau", "saturation"),
          onset=Crosses(series="activation:layers.1", statistic="batch_std", below=0.2, num=4)),
    arch="MLP student", optimizer="Adam",
)  # fmt: skip
def all_alike(stage: Stage) -> Iterator[float]:
    """A penalty on the norm of the features, meant for another layer, presses them onto nought
    from step 130 on."""
    model = MLP((16, 48, 16, 8), activation=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    data = Clusters.make(stage.generator())
    kept: dict[str, torch.Tensor] = {}
    model.layers[1].register_forward_hook(lambda _, __, out: kept.update(features=out))

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        loss = functional.cross_entropy(model(x), y)
        weight = 30.0 if stage.sick and step >= 130 else 0.0
        return loss + weight * kept["features"].square().mean()

    return fit(stage, model, optimizer, loss_of, num_steps=340)
