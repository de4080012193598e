"""One training run of the demo: the recipe, the fault, and three lines that attach Foreshock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from tqdm import tqdm

import foreshock
from foreshock.demo.model import LanguageModel, ModelSize
from foreshock.demo.text import batches

WARMUP_STEPS = 40
PEAK_LEARNING_RATE = 1e-3
BATCH_SIZE = 16
INTENDED_QKV_FACTOR = math.exp(-1 / WARMUP_STEPS)
"""0.975 a step: somebody wanted the QKV learning rate to fade."""
MISTYPED_QKV_FACTOR = 1 / INTENDED_QKV_FACTOR
"""1.025 a step: what a slip of the finger made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What tells one run of the demo from another.

    `qkv_factor` multiplies the learning rate of the QKV weights once more at every step; 1 is
    none of it.
    """

    run: str
    seed: int
    num_steps: int
    qkv_factor: float = 1.0


def cosine(step: int, *, num_steps: int) -> float:
    """Share of the peak learning rate at `step`: linear warm-up, then half a cosine to nought."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, num_steps - WARMUP_STEPS)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def optimizer_of(
    model: LanguageModel, recipe: Recipe
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW without decay, and a schedule in which the QKV weights are a group of their own."""
    parameters = dict(model.named_parameters())
    qkv = [parameter for name, parameter in parameters.items() if name.endswith("attn.qkv.weight")]
    chosen = set(qkv)
    others = [parameter for parameter in parameters.values() if parameter not in chosen]
    optimizer = torch.optim.AdamW(
        [{"params": others}, {"params": qkv}],
        lr=PEAK_LEARNING_RATE,
        betas=(0.9, 0.999),
        weight_decay=0.0,
    )

    def everything(step: int) -> float:
        return cosine(step, num_steps=recipe.num_steps)

    def queries_keys_values(step: int) -> float:
        return everything(step) * recipe.qkv_factor**step

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [everything, queries_keys_values])
    return optimizer, schedule


def train(recipe: Recipe, *, text_B: torch.Tensor, url: str, spool_dir: Path) -> list[float]:
    """Train a fresh model with Foreshock attached; the loss of every step, in nats a byte.

    A real training gives `watch` no `spool_dir`: only the demo leaves nothing behind. Nor does it
    give a budget of 0: the demo measures as often on a slow machine, to tell the same story. The
    same recipe on the same machine gives the same losses.
    """
    size = ModelSize()
    torch.manual_seed(recipe.seed)
    model = LanguageModel(size)
    optimizer, schedule = optimizer_of(model, recipe)
    source = batches(text_B, seed=recipe.seed, batch_size=BATCH_SIZE, context=size.context)
    losses: list[float] = []
    with (
        foreshock.watch(
            model,
            optimizer,
            run=recipe.run,
            run_id=recipe.run,
            url=url,
            spool_dir=spool_dir,
            overhead_budget=0,
        ) as watch,
        tqdm(total=recipe.num_steps, desc=recipe.run, unit="step", leave=True) as bar,
    ):
        for _, (inputs_NC, targets_NC) in zip(range(recipe.num_steps), source, strict=False):
            logits_NCV = model(inputs_NC)
            loss = functional.cross_entropy(logits_NCV.flatten(0, 1), targets_NC.flatten())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            watch.log(
                attn_logit_max=model.attn_logit_max(),
                log_z=logits_NCV.detach().logsumexp(dim=-1).mean(),
            )
            optimizer.step()
            schedule.step()
            watch.step(loss=loss)
            losses.append(float(loss.detach()))
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
            bar.update()
    return losses
