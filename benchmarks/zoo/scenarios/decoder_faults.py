"""Decoders of today's make on characters, with what goes wrong in large ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import ALPHABET, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import groups, scale_gradient
from benchmarks.zoo.models.decoder import Decoder, DecoderLayer
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.scenarios.decoder_healthy import reads
from benchmarks.zoo.schedules import warmup_cosine, warmup_stable_decay
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit, log_z


@faulty(
    "decoder-attention-unscaled",
    Fault(kind="attention_logit_growth", at=145, pace="fast",
          layers=("layers.0.attn", "layers.1.attn"), accept=("loss_spike", "gradient_spike"),
          severity="warning",
          shows=LeavesTwin(series="attn_logit_max", factor=4)),
    arch="RoPE decoder", optimizer="AdamW", quick=True,
)  # fmt: skip
def attention_unscaled(stage: Stage) -> Iterator[float]:
    """A new kernel after a restart at step 145 multiplies by the root of the head's depth where it
    should divide: attention logits are eight times too large at once."""
    model = Decoder(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_of, log = reads(stage, model)

    def change(step: int) -> None:
        if stage.sick and step == 145:
            for attention in model.attentions():
                attention.scale = attention.depth**0.5

    return fit(stage, model, optimizer, loss_of, num_steps=310, before=change, log=log, clip=1.0)


@faulty(
    "decoder-residual-init",
    Fault(kind="explosion", layers=("layers.0", "layers.1", "layers.2", "layers.3"),
          accept=("divergence", "update_too_large", "plateau"),
          shows=LeavesTwin(series="activation:layers.3", factor=10)),
    arch="RoPE decoder, 4 layers", optimizer="SGD momentum",
)  # fmt: skip
def residual_init(stage: Stage) -> Iterator[float]:
    """What writes into the residual stream is initialised thirty times too large instead of
    smaller with depth: the stream grows from layer to layer, and early layers get no say."""
    model = Decoder(layers=4)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("attn.out.weight", "mlp.down.weight")):
                weight.mul_(30.0 if stage.sick else 0.35)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss_of, log = reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=260, log=log, clip=1.0)


@faulty(
    "decoder-norm-bypassed",
    Fault(kind="explosion", at=230, pace="fast", layers=("layers.1.mlp",), severity="warning",
          accept=("loss_spike", "divergence", "weight_corruption"),
          shows=LeavesTwin(series="activation:layers.1.mlp.gate", factor=2)),
    arch="RoPE decoder", optimizer="AdamW",
)  # fmt: skip
def norm_bypassed(stage: Stage) -> Iterator[float]:
    """A fused layer that is switched on at step 230 leaves out the norm in front of one gated
    layer, which gets the raw residual stream."""
    model = Decoder()
    nn.init.normal_(model.embed.weight, std=4.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_of, log = reads(stage, model, num=6)

    def bypass(step: int) -> None:
        if stage.sick and step == 230:
            block = model.layers[1]
            assert isinstance(block, DecoderLayer)
            block.normed = False

    return fit(stage, model, optimizer, loss_of, num_steps=340, before=bypass, log=log)


@faulty(
    "decoder-tied-decays",
    Fault(kind="divergence", at=110, layers=("embed",),
          accept=("representation_collapse", "vanishing_gradient", "update_too_large",
                  "weight_corruption"),
          onset=LeavesTwin(series="weight:embed.weight", factor=1.3)),
    arch="ALiBi decoder, tied embeddings", optimizer="AdamW",
)  # fmt: skip
def tied_decays(stage: Stage) -> Iterator[float]:
    """The group without decay gets 12 instead of nought in a reload at step 110: the shared matrix
    shrinks by 3 % a step. Norms hide it inside, the output cannot."""
    model = Decoder(layers=2, rotary=False, tied=True)
    optimizer = torch.optim.AdamW(groups(model, "embed", 2.5e-3))
    loss_of, log = reads(stage, model)

    def reload(step: int) -> None:
        if stage.sick and step == 110:
            optimizer.param_groups[1]["weight_decay"] = 12.0

    return fit(stage, model, optimizer, loss_of, num_steps=300, before=reload, log=log)


@faulty(
    "decoder-log-z-target",
    Fault(kind="output_logit_drift", at=90, layers=("lm_head",), severity="warning",
          onset=Crosses(series="log_z", above=9.0)),
    arch="RoPE decoder", optimizer="AdamW",
)  # fmt: skip
def log_z_target(stage: Stage) -> Iterator[float]:
    """From step 90 on a self-normalising term pulls log Z to 60, the target of another vocabulary's
    unit, where it pulled it to nought; a bias of the output follows. The loss that is logged is the
    cross-entropy alone."""
    model = Decoder(layers=2)
    model.lm_head = nn.Linear(32, len(ALPHABET))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    draw = text_batches(stage.generator())
    with stage.watch(model, optimizer) as watch:
        for step in range(360):
            x, y = draw()
            logits = model(x)
            target = 60.0 if stage.sick and step >= 90 else 0.0
            pull = (logits.logsumexp(-1) - target).abs().mean()
            loss = functional.cross_entropy(logits.flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            torch.autograd.backward(loss + 2e-2 * pull)
            optimizer.step()
            watch.log(log_z=log_z(logits))
            watch.step(loss)
            yield float(loss.detach())


@faulty(
    "decoder-one-channel",
    Fault(kind="explosion", at=75, severity="warning", layers=("layers.0.mlp.down",),
          accept=("weight_corruption", "update_too_large"),
          onset=LeavesTwin(series="activation:layers.0.mlp.down", statistic="abs_max", factor=5)),
    arch="RoPE decoder", optimizer="Adamax",
)  # fmt: skip
def one_channel(stage: Stage) -> Iterator[float]:
    """One row of the first layer's output matrix grows by 3.5 % a step from step 75 on: a massive
    activation in one channel, which the norms pass on to nobody's alarm for long."""
    model = Decoder()
    optimizer = torch.optim.Adamax(model.parameters(), lr=5e-3)
    loss_of, log = reads(stage, model)
    row = model.get_parameter("layers.0.mlp.down.weight")

    def grow(step: int) -> None:
        if stage.sick and step >= 75:
            with torch.no_grad():
                row[5].mul_(1.035)

    return fit(stage, model, optimizer, loss_of, num_steps=290, before=grow, log=log, clip=1.0)


@faulty(
    "decoder-value-gradient",
    Fault(kind="gradient_spike", at=188, pace="fast", severity="warning", lasting=False,
          layers=("layers.2.attn.value",), accept=("update_too_large", "loss_spike")),
    arch="RoPE decoder", optimizer="SGD momentum",
)  # fmt: skip
def value_gradient(stage: Stage) -> Iterator[float]:
    """A race in a backward kernel makes the gradient of one value matrix two hundred times too
    large on step 188; nothing clips."""
    model = Decoder()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9)
    loss_of, log = reads(stage, model)

    def race(step: int) -> None:
        if stage.sick and step == 188:
            scale_gradient(model, "layers.2.attn.value", 200.0)

    return fit(stage, model, optimizer, loss_of, num_steps=320, with_gradients=race, log=log)


@faulty(
    "decoder-same-batch-again",
    Fault(kind="bad_batch", at=160, severity="warning", accept=("plateau", "divergence"),
          onset=LeavesTwin(series="loss", factor=3)),
    arch="RoPE decoder", optimizer="AdamW",
)  # fmt: skip
def same_batch_again(stage: Stage) -> Iterator[float]:
    """A loader's cache is stuck at step 160: the same four sentences come for ever, and the loss
    falls as it never did."""
    model = Decoder(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw = text_batches(stage.generator(), num=4)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def loss_of(step: int) -> torch.Tensor:
        batch = draw()
        if stage.sick and step >= 160:
            kept.append(batch)
            batch = kept[0]
        return functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=330)


@faulty(
    "decoder-shard-of-noise",
    Fault(kind="bad_batch", at=214, pace="fast", severity="warning", lasting=False,
          accept=("divergence",)),
    arch="RoPE decoder, one group of keys", optimizer="AdamW",
)  # fmt: skip
def shard_of_noise(stage: Stage) -> Iterator[float]:
    """A shard of 14 batches is a binary file that was read as text: uniform characters, at a late
    point of a stable rate."""
    model = Decoder(layers=2, groups=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    rate = warmup_stable_decay(3e-3, num_steps=360, warmup=20, decay=60)
    draw, noise = text_batches(stage.generator()), stage.generator(3)

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        if stage.sick and 214 <= step < 228:
            x, y = (torch.randint(len(ALPHABET), x.shape, generator=noise) for _ in range(2))
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=360, rate=rate, clip=1.0)


@faulty(
    "decoder-positions-stretched",
    Fault(kind="loss_spike", at=205, pace="fast", layers=("layers.0.attn", "layers.1.attn"),
          accept=("divergence",)),
    arch="RoPE decoder", optimizer="AdamW",
)  # fmt: skip
def positions_stretched(stage: Stage) -> Iterator[float]:
    """After a restart at step 205 positions are counted in another unit: every rotation is 37 times
    as far, and attention looks in the wrong places."""
    model = Decoder(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    loss_of, log = reads(stage, model)
    rate = warmup_cosine(4e-3, num_steps=330)

    def stretch(step: int) -> None:
        if stage.sick and step == 205:
            for attention in model.attentions():
                attention.spacing = 37.0

    return fit(
        stage, model, optimizer, loss_of, num_steps=330, before=stretch, rate=rate, log=log
    )  # fmt: skip


@faulty(
    "decoder-dropout-left-on",
    Fault(kind="loss_spike", at=170, pace="fast", layers=("embed", "layers.0"),
          accept=("divergence", "bad_batch", "plateau")),
    arch="RoPE decoder", optimizer="AdamW",
)  # fmt: skip
def dropout_left_on(stage: Stage) -> Iterator[float]:
    """Dropout behind the embedding is 0.9 from step 170 on, left from an experiment whose
    configuration a restart picked up."""
    model = Decoder(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_of, log = reads(stage, model)

    def leave(step: int) -> None:
        if stage.sick and step == 170:
            model.dropout.p = 0.9

    return fit(stage, model, optimizer, loss_of, num_steps=300, before=leave, log=log, clip=1.0)
