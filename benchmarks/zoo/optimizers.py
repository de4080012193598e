"""Optimizers that PyTorch lacks, in their plainest form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, *, decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.99), "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.lerp(p.grad, momentum, beta1).sign())
                momentum.lerp_(p.grad, 1 - beta2)


class OrthogonalMomentum(torch.optim.Optimizer):
    """Muon: the momentum of a matrix made orthogonal by Newton-Schulz steps (Jordan 2024); what is
    no matrix takes plain momentum."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, *, orthogonal: bool = True
    ) -> None:
        super().__init__(params, {"lr": lr, "orthogonal": orthogonal})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.1)
                direction = momentum
                if p.dim() == 2 and group["orthogonal"]:
                    direction = newton_schulz(momentum) * max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                p.sub_(group["lr"] * direction)


def newton_schulz(matrix: torch.Tensor, *, num_steps: int = 5) -> torch.Tensor:
    """The nearest orthogonal matrix, roughly, by Jordan's quintic iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(num_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: torch.Tensor = x.T if tall else x
    return out


class SignMomentum(torch.optim.Optimizer):
    """Each weight moves by the rate, in the direction of its momentum's sign (Bernstein 2018)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group, p in _learning(self):
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.lerp_(p.grad, 1 - group["momentum"])
            p.sub_(group["lr"] * momentum.sign())


class AdaBelief(torch.optim.Optimizer):
    """Adam whose second moment is that of the gradient's distance from its mean (Zhuang 2020)."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, *, beta2: float = 0.999, eps: float = 1e-12
    ) -> None:
        super().__init__(params, {"lr": lr, "beta2": beta2, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group, p in _learning(self):
            state = self.state[p]
            mean = state.setdefault("mean", torch.zeros_like(p))
            spread = state.setdefault("spread", torch.zeros_like(p))
            state["num"] = num = state.get("num", 0) + 1
            mean.lerp_(p.grad, 0.1)
            spread.lerp_((p.grad - mean).square() + group["eps"], 1 - group["beta2"])
            unbiased = (spread / (1 - group["beta2"] ** num)).sqrt() + group["eps"]
            p.sub_(group["lr"] / (1 - 0.9**num) * mean / unbiased)


class LayerwiseScaled(torch.optim.Optimizer):
    """LARS: momentum, each tensor's rate in proportion to its own size (You et al. 2017). A tensor
    whose size is below `least` is scaled as if it had that size."""

    def __init__(self, params: Any, lr: float, *, least: float = 1e-1) -> None:
        super().__init__(params, {"lr": lr, "least": least})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group, p in _learning(self):
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            trust = p.norm().clamp(min=group["least"]) / (p.grad.norm() + 1e-12)
            momentum.mul_(0.9).add_(trust * p.grad)
            p.sub_(group["lr"] * momentum)


class RootPreconditioned(torch.optim.Optimizer):
    """Shampoo: a matrix's gradient between the inverse fourth roots of its two sums of squares,
    which are taken anew every `every` steps (Gupta et al. 2018); what is no matrix takes Adagrad's
    root."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, *, every: int = 10) -> None:
        super().__init__(params, {"lr": lr, "every": every})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group, p in _learning(self):
            state = self.state[p]
            state["num"] = num = state.get("num", -1) + 1
            if p.dim() != 2:
                total = state.setdefault("total", torch.zeros_like(p))
                total.add_(p.grad.square())
                p.sub_(group["lr"] * p.grad / (total.sqrt() + 1e-6))
                continue
            sides = state.setdefault("sides", [torch.zeros(n, n) for n in p.shape])
            sides[0].add_(p.grad @ p.grad.T)
            sides[1].add_(p.grad.T @ p.grad)
            if num % group["every"] == 0:
                state["roots"] = [_inverse_root(side) for side in sides]
            left, right = state["roots"]
            p.sub_(group["lr"] * left @ p.grad @ right)


def _inverse_root(side: torch.Tensor, *, damping: float = 1e-4) -> torch.Tensor:
    """The inverse fourth root of a symmetric matrix [n, n]."""
    values, vectors = torch.linalg.eigh(side + damping * torch.eye(len(side)))
    out: torch.Tensor = vectors @ torch.diag(values.clamp(min=damping) ** -0.25) @ vectors.T
    return out


class Lookahead:
    """Slow weights that follow every `every` steps, and fast ones that go back to them (Zhang et
    al. 2019); to be called behind the optimizer's step."""

    def __init__(self, model: nn.Module, *, every: int = 6, share: float = 0.5) -> None:
        self.model, self.every, self.share = model, every, share
        self.slow = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def __call__(self, step: int) -> None:
        """Meet, on every `every`-th step."""
        if step % self.every == self.every - 1:
            for slow, fast in zip(self.slow, self.model.parameters(), strict=True):
                slow.lerp_(fast, self.share)
                fast.copy_(slow)


class SharpnessAware:
    """SAM: the gradient is taken where the loss is worst nearby (Foret et al. 2021). To be called
    between the backward pass and the optimizer; `again` is the loss on the same batch."""

    def __init__(self, model: nn.Module, again: Callable[[], torch.Tensor], *, rho: float) -> None:
        self.model, self.again, self.rho = model, again, rho
        self.comes_back = True

    def __call__(self, step: int) -> None:
        """Climb, take the gradient there, and come back."""
        slopes = [(p, p.grad) for p in self.model.parameters() if p.grad is not None]
        size = torch.stack([slope.norm() for _, slope in slopes]).norm()
        before = [p.detach().clone() for p, _ in slopes]
        with torch.no_grad():
            for p, slope in slopes:
                p.add_(self.rho / (size + 1e-12) * slope)
        self.model.zero_grad()
        torch.autograd.backward(self.again())
        if self.comes_back:
            with torch.no_grad():
                for (p, _), was in zip(slopes, before, strict=True):
                    p.copy_(was)


def _learning(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every parameter that has a gradient, with its group."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is not None:
                yield group, p


class LayerwiseAdam(torch.optim.Optimizer):
    """LAMB: Adam's step, scaled by the size of the tensor over that of the step (You et al. 2020).
    A tensor of nought is not scaled, unless `zero_safe` is False."""

    def __init__(
        self, params: Any, lr: float, *, decay: float = 0.01, zero_safe: bool = True
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": decay, "zero_safe": zero_safe})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group, p in _learning(self):
            state = self.state[p]
            mean = state.setdefault("mean", torch.zeros_like(p))
            square = state.setdefault("square", torch.zeros_like(p))
            state["num"] = num = state.get("num", 0) + 1
            mean.lerp_(p.grad, 0.1)
            square.lerp_(p.grad.square(), 0.01)
            step = mean / (1 - 0.9**num) / ((square / (1 - 0.99**num)).sqrt() + 1e-6)
            step = step + group["weight_decay"] * p
            size = float(p.norm().clamp(max=10.0))
            trust = size / (float(step.norm()) + 1e-12)
            p.sub_(group["lr"] * (1.0 if size == 0 and group["zero_safe"] else trust) * step)


class ScheduleFree(torch.optim.Optimizer):
    """Adam without a schedule: gradients are taken between a fast point and its running mean
    (Defazio et al. 2024). The weights are the point where gradients are taken."""

    def __init__(self, params: Any, lr: float, *, momentum: float = 0.9, warmup: int = 20) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "warmup": warmup})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group, p in _learning(self):
            state = self.state[p]
            fast = state.setdefault("fast", p.detach().clone())
            mean = state.setdefault("mean", p.detach().clone())
            square = state.setdefault("square", torch.zeros_like(p))
            state["num"] = num = state.get("num", 0) + 1
            square.lerp_(p.grad.square(), 0.01)
            rate = group["lr"] * min(1.0, num / group["warmup"])
            fast.sub_(rate * p.grad / ((square / (1 - 0.99**num)).sqrt() + 1e-8))
            mean.lerp_(fast, 1 / num)
            p.copy_(torch.lerp(fast, mean, group["momentum"]))


class Adan(torch.optim.Optimizer):
    """Adam with a momentum of the gradient's change (Xie et al. 2022)."""

    def __init__(self, params: Any, lr: float, *, decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group, p in _learning(self):
            state = self.state[p]
            last = state.setdefault("last", p.grad.clone())
            mean, change, square = (
                state.setdefault(name, torch.zeros_like(p)) for name in ("mean", "change", "square")
            )
            state["num"] = num = state.get("num", 0) + 1
            moved = p.grad - last
            mean.lerp_(p.grad, 0.02)
            change.lerp_(moved, 0.08)
            square.lerp_((p.grad + 0.92 * moved).square(), 0.01)
            ahead = mean / (1 - 0.98**num) + 0.92 * change / (1 - 0.92**num)
            p.sub_(group["lr"] * ahead / ((square / (1 - 0.99**num)).sqrt() + 1e-8))
            p.div_(1 + group["lr"] * group["weight_decay"])
            last.copy_(p.grad)
