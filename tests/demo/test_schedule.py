"""The demo's fault is one mistyped factor, on the QKV weights alone."""

from __future__ import annotations

import math

import pytest
import torch
from foreshock.demo.model import LanguageModel, ModelSize
from foreshock.demo.training import (
    INTENDED_QKV_FACTOR,
    MISTYPED_QKV_FACTOR,
    PEAK_LEARNING_RATE,
    WARMUP_STEPS,
    Recipe,
    cosine,
    optimizer_of,
)


def rates_at(step: int, *, qkv_factor: float) -> tuple[float, float]:
    """Learning rates of everything else and of the QKV weights at `step`."""
    model = LanguageModel(ModelSize(num_layers=1, width=8, num_heads=2))
    recipe = Recipe(run="r", seed=0, num_steps=360, qkv_factor=qkv_factor)
    optimizer, schedule = optimizer_of(model, recipe)
    for _ in range(step):
        optimizer.step()
        schedule.step()
    others, qkv = (float(group["lr"]) for group in optimizer.param_groups)
    return others, qkv


def test_warm_up_rises_to_the_peak_and_the_cosine_falls_to_nought() -> None:
    """The schedule is 1 at the end of the warm-up and 0 at the end of the run."""
    shares = [cosine(step, num_steps=360) for step in range(361)]
    assert shares[0] == 1 / WARMUP_STEPS
    assert shares[WARMUP_STEPS] == 1.0
    assert shares[360] == pytest.approx(0.0)
    assert shares[WARMUP_STEPS:] == sorted(shares[WARMUP_STEPS:], reverse=True)


def test_a_healthy_recipe_treats_all_weights_alike() -> None:
    """Without the fault both groups have the same learning rate."""
    others, qkv = rates_at(100, qkv_factor=1.0)
    assert others == qkv


def test_the_fault_grows_the_qkv_rate_alone() -> None:
    """After 80 steps the QKV weights learn e^2 times as fast, everything else as before."""
    others, qkv = rates_at(80, qkv_factor=MISTYPED_QKV_FACTOR)
    assert qkv / others == pytest.approx(math.exp(2))
    assert others == pytest.approx(PEAK_LEARNING_RATE * cosine(80, num_steps=360))


def test_the_fault_is_a_typing_error() -> None:
    """1.025 was typed where 0.975 was meant."""
    assert (round(INTENDED_QKV_FACTOR, 3), round(MISTYPED_QKV_FACTOR, 3)) == (0.975, 1.025)


def test_the_qkv_group_holds_the_qkv_weights_of_every_block() -> None:
    """The second group is one weight a block, and nothing is left out of both groups."""
    model = LanguageModel(ModelSize())
    optimizer, _ = optimizer_of(model, Recipe(run="r", seed=0, num_steps=360))
    others, qkv = (group["params"] for group in optimizer.param_groups)
    assert [tuple(parameter.shape) for parameter in qkv] == [(192, 64)] * 4
    assert len(others) + len(qkv) == len(list(model.parameters()))
    assert isinstance(optimizer, torch.optim.AdamW)
