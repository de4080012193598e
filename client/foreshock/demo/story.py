"""The demo from start to end: a service, a healthy run, its sick twin, and what was seen."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from foreshock.demo.incidents import IncidentTeller, SeenIncident
from foreshock.demo.server import DemoServer
from foreshock.demo.text import library_text
from foreshock.demo.training import MISTYPED_QKV_FACTOR, Recipe, train
from foreshock.demo.verdict import Verdict, judge, loss_moved_step


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `foreshock demo` was asked for; `port` 0 takes a free one."""

    seed: int = 0
    num_steps: int = 360
    port: int = 0
    keep_serving: bool = False


def tell_story(options: Options, *, say: Callable[[str], None] = tqdm.write) -> int:
    """Run the demo and say what happens; 0 if the service kept its promise, else 1.

    Everything is kept in a temporary folder that goes with the process.
    """

    def both(server: DemoServer) -> int:
        verdict = _both_runs(options, server=server, say=say)
        for line in _summary(verdict):
            say(line)
        return 1 if verdict.failures else 0

    return with_service(both, port=options.port, keep_serving=options.keep_serving, say=say)


def with_service(
    tell: Callable[[DemoServer], int],
    *,
    port: int,
    keep_serving: bool,
    say: Callable[[str], None] = tqdm.write,
) -> int:
    """Call `tell` with a service of the demo's own, keep that up afterwards if asked to, and return
    what `tell` did."""
    torch.set_num_threads(1)
    _forget_settings()
    # SIGTERM ends the demo as Ctrl-C does, so that its service and its folder go with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        tempfile.TemporaryDirectory(prefix="foreshock-demo-") as folder,
        DemoServer(Path(folder), port=port) as server,
    ):
        say(f"dashboard: {server.url}")
        status = tell(server)
        if keep_serving:
            say(f"still serving {server.url} - press Ctrl-C to end")
            _wait_for_interrupt(server)
    return status


def _both_runs(options: Options, *, server: DemoServer, say: Callable[[str], None]) -> Verdict:
    text_B = library_text()
    healthy = Recipe(run=f"healthy-{options.seed}", seed=options.seed, num_steps=options.num_steps)
    sick = Recipe(
        run=f"sick-{options.seed}",
        seed=options.seed,
        num_steps=options.num_steps,
        qkv_factor=MISTYPED_QKV_FACTOR,
    )
    say(f"{healthy.run}: a small transformer reads the Python library")
    twin_losses, healthy_incidents = _one_run(healthy, text_B=text_B, server=server, say=say)
    say(f"{sick.run}: the same, but a typing error grows the QKV learning rate by 2.5 % a step")
    losses, sick_incidents = _one_run(sick, text_B=text_B, server=server, say=say)
    return judge(
        healthy=healthy_incidents,
        sick=sick_incidents,
        loss_step=loss_moved_step(losses, twin_losses),
    )


def _one_run(
    recipe: Recipe, *, text_B: torch.Tensor, server: DemoServer, say: Callable[[str], None]
) -> tuple[list[float], list[SeenIncident]]:
    """Train one run while its incidents are told; its losses and every incident it ever had."""
    with IncidentTeller(url=server.url, run=recipe.run, tell=say) as teller:
        spool_dir = server.data_dir / "spool"
        losses = train(recipe, text_B=text_B, url=server.url, spool_dir=spool_dir)
        server.check()
        teller.wait_until_read(num_frames=recipe.num_steps)
    return losses, list(teller.incidents.values())


def _summary(verdict: Verdict) -> list[str]:
    lines = list(verdict.failures)
    first, moved = verdict.first_incident, verdict.loss_step
    if not verdict.failures and first is not None and moved is not None:
        lines.append(
            f"the first incident opened at step {first.opened_step}, "
            f"{moved - first.opened_step} steps before the loss left that of its healthy twin at "
            f"step {moved}; the healthy run raised none"
        )
    elif not verdict.failures:
        lines.append("too few steps for the fault to reach the loss: nothing to judge")
    return lines


def _forget_settings() -> None:
    """Make the demo deaf to `FORESHOCK_*`: a production address, token or run id is not for it."""
    for name in [name for name in os.environ if name.startswith("FORESHOCK_")]:
        del os.environ[name]


def _wait_for_interrupt(server: DemoServer) -> None:
    """Serve on until Ctrl-C or SIGTERM, or until the service ends by itself."""
    try:
        while True:
            server.check()
            time.sleep(1.0)
    except KeyboardInterrupt:
        return
