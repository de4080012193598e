"""`watch`: builds the parts, in the one place that knows them all."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import nn

from foreshock.errors import SettingError, SpoolBusyError, SpoolError
from foreshock.hooks.activations import ActivationHooks, named_modules, watched_modules
from foreshock.hooks.guard import Guard
from foreshock.hooks.meter import Meter
from foreshock.hooks.optimizers import OptimizerHooks, named_parameters
from foreshock.hooks.selection import Selection
from foreshock.hooks.series import SeriesTable
from foreshock.hooks.stale import StaleGraphs
from foreshock.logs import logger
from foreshock.reducers import select_reducer
from foreshock.sampling import cadence_of
from foreshock.sender import Outbox
from foreshock.settings import ClientSettings, Predicate, SettingArguments, load_settings
from foreshock.spool import Spool, folder_name
from foreshock.transport import HttpTransport, Transport
from foreshock.watching.budget import Budget
from foreshock.watching.described import origin_of, started
from foreshock.watching.handle import Parts, Watch
from foreshock.watching.lifetime import Account, end_later, follow
from foreshock.watching.plain import members, plain, readable
from foreshock.watching.recorder import Recorder
from foreshock.wire import Event, Origin


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    *,
    run: str | None = None,
    project: str | None = None,
    url: str | None = None,
    token: str | None = None,
    include: str | Sequence[str] | Predicate | None = None,
    exclude: str | Sequence[str] | Predicate | None = None,
    tags: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    transport: Transport | None = None,
    **settings: Unpack[SettingArguments],
) -> Watch:
    """Watch a model while it trains.

    The first of several optimizers is the clock: its step ends a training step where `step()` is
    never called. `config` and `tags` are shown with the run. Every field of `ClientSettings` may be
    given by name. Call it once the model is on its device, before the first compiled call.

    Raises:
        SettingError: a setting or an argument cannot be used.
        SpoolBusyError: another process has the same run, attempt and rank.
        ReducerError: no reducer can measure on the model's device.
    """
    known = load_settings(
        {
            "run": run,
            "project": project,
            "url": url,
            "token": token,
            "include": include,
            "exclude": exclude,
            **settings,
        }
    )
    optimizers = _checked(model, optimizer)
    if config is not None and members(config) is None:
        raise SettingError(
            f"config: give a dictionary, a dataclass or parsed arguments, not "
            f"{type(config).__name__}"
        )
    if transport is not None and not callable(getattr(transport, "post_frames", None)):
        raise SettingError(
            f"transport: {type(transport).__name__} has no post_frames(); the address of the "
            "service is the argument url"
        )
    if not known.enabled:
        return Watch(None)
    selection = Selection(known.include, known.exclude)
    names = named_parameters(model)
    _warn_of_strangers(names, optimizers)
    parameters = selection.parameters(names)
    modules = selection.modules(watched_modules(model))
    selection.warn_of_idle_patterns(
        [*(name for name, _ in watched_modules(model)), *names.values()]
    )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    reducer, origin = select_reducer(device), origin_of(known, device)
    about = started(known, model, optimizers, tags=tags, config=config or {}, reducer=reducer.name)
    transport = transport or HttpTransport(known)

    def report(part: str, error: Exception) -> None:
        told = f"{type(error).__name__}: {readable(error)}"
        data = plain({"part": part, "error": told})
        step = recorder.step
        event = Event(kind="client_error", wall_time=time.time(), step=step, data=data)
        outbox.put_event(event)

    def meet_again() -> dict[nn.Parameter, str]:
        series.add_modules(named_modules(model))
        activations.add(selection.modules(watched_modules(model)))
        return selection.parameters(named_parameters(model))

    guard = Guard(report)
    series = SeriesTable(named_modules(model), max_series=known.max_series)
    meter = Meter(reducer, series)
    budget = Budget(cadence_of(known), share=known.overhead_budget)
    recorder = Recorder(
        meter,
        guard,
        budget,
        first_step=known.first_step,
        room_for=3 * len(parameters) + 3 * len(modules) + 64,
        has_all_gradients=all(p in parameters for p in names if p.requires_grad),
    )
    # Late, because from here on there are a locked folder and threads.
    outbox = Outbox(known, origin, _spool(known, origin), transport, Account(recorder, reducer))
    hooks = OptimizerHooks(
        parameters,
        optimizers,
        meter,
        guard,
        update_every=known.update_every,
        rename=meet_again,
        before_step=recorder.before_optimizer,
        after_step=recorder.after_optimizer,
    )
    recorder.attach(outbox, hooks, optimizers)
    kinds = {kind for kind, every in budget.cadence.every.items() if every}
    activations = ActivationHooks(
        modules,
        meter,
        guard,
        selection=selection,
        on_forward=recorder.on_forward,
        kinds=kinds,
    )
    if kinds & {"activation", "activation_grad"}:
        stale = StaleGraphs(model)
        recorder.after_first_step = lambda: stale.check(activations.modules)
    recorder.event("started", about, with_step=False)
    handle = Watch(
        Parts(
            run_id=origin.run,
            settings=known,
            guard=guard,
            recorder=recorder,
            outbox=outbox,
            activations=activations,
            optimizers=hooks,
        ),
        on_drop=end_later,
    )
    recorder.owner = handle
    follow(handle)
    return handle


def _spool(settings: ClientSettings, origin: Origin) -> Spool:
    """The spool of this process. A disk that takes nothing is no reason not to train, now or
    later: then batches wait in memory, and the log and the service are told."""
    folder = settings.spool_folder() / folder_name(origin.run, origin.attempt, origin.rank)
    max_bytes = settings.spool_max_bytes
    try:
        return Spool(folder, max_bytes=max_bytes, fsync=settings.spool_fsync)
    except SpoolBusyError:
        raise
    except SpoolError as error:
        return Spool.in_memory(folder, max_bytes=max_bytes, error=error)


def _warn_of_strangers(
    parameters: Collection[nn.Parameter], optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """Say so when no optimizer holds any of the model's parameters: one built for another copy of
    a model trains that one, and the loss stays as it is without any error."""
    held = (p for o in optimizers for group in o.param_groups for p in group["params"])
    if optimizers and not any(parameter in parameters for parameter in held):
        logger.warning(
            "no optimizer given to watch() holds a parameter of the model: nothing of it is "
            "trained, unless they step copies of their own; give the optimizer this model's "
            "parameters(), after anything that makes new ones"
        )


def _checked(model: Any, optimizer: Any) -> list[torch.optim.Optimizer]:
    if not isinstance(model, nn.Module):
        raise SettingError(
            f"watch(model, optimizer) needs a torch.nn.Module first, not {type(model).__name__}"
        )
    if optimizer is None:
        return []
    if isinstance(optimizer, torch.optim.Optimizer):
        return [optimizer]
    optimizers = list(optimizer) if isinstance(optimizer, Iterable) else [optimizer]
    for item in optimizers:
        if not isinstance(item, torch.optim.Optimizer):
            raise SettingError(
                f"optimizer: {type(item).__name__} is no torch.optim.Optimizer; give one, or a "
                "list of them"
            )
    return optimizers
