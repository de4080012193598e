"""What people guess, mistake or mistype in the public API is answered, and never costs a frame."""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import foreshock
import httpx
import pytest
import torch
from foreshock.demo.server import DemoServer
from foreshock.errors import SettingError

from tests.client.conftest import Attach
from tests.client.models import perceptron, train


class Unspeakable:
    """Something that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoServer]:
    with DemoServer(tmp_path_factory.mktemp("service")) as running:
        yield running


ONES = torch.ones(2)
BAD: Any = Unspeakable()
MISUSES: dict[str, Callable[[Any], object]] = {
    "observe: arguments swapped": lambda w: w.observe(ONES, "name"),
    "observe: no name": lambda w: w.observe(None, ONES),
    "observe: a name without a text": lambda w: w.observe(BAD, ONES),
    "observe: an empty name": lambda w: w.observe("", ONES),
    "observe: a long name": lambda w: w.observe("x" * 5000, ONES),
    "observe: half a character": lambda w: w.observe("\ud800", ONES),
    "observe: a NUL in the name": lambda w: w.observe("a\0b", ONES),
    "observe: an array": lambda w: w.observe("x", ONES.numpy()),
    "observe: integers": lambda w: w.observe("x", torch.ones(2, dtype=torch.int64)),
    "observe: nothing in it": lambda w: w.observe("x", torch.ones(0)),
    "observe: the name of a module": lambda w: w.observe("0", ONES),
    "log: a dictionary": lambda w: w.log({"a": 1.0}),
    "log: names that are no text": lambda w: w.log({1: 2.0, None: 3.0}),
    "log: half a character": lambda w: w.log({"\ud800": 1.0}),
    "log: a NUL in the name": lambda w: w.log({"a\0b": 1.0}),
    "log: a long name": lambda w: w.log({"x" * 5000: 1.0}),
    "log: a number": lambda w: w.log(3.0),
    "log: no text": lambda w: w.log(a=BAD),
    "log: a huge number": lambda w: w.log(a=10**5000),
    "log: a vector": lambda w: w.log(a=ONES),
    "log: a thousand names": lambda w: w.log(**{f"a{i}": i for i in range(3000)}),
    "step: a dictionary as the loss": lambda w: w.step({"loss": 1.0}),
    "step: a negative number": lambda w: (w.step(step=-5), w.note("there")),
    "step: a huge number": lambda w: w.step(step=10**5000),
    "step: no text": lambda w: w.step(batch_id=BAD),
    "step: NUL in the batch": lambda w: w.step(batch_id="a\0b"),
    "step: half a character": lambda w: w.step(batch_id="\ud800"),
    "note: no text": lambda w: w.note(BAD),
    "note: a number": lambda w: w.note(5),
    "note: long": lambda w: w.note("é" * 1_000_000),
    "note: half a character": lambda w: w.note("\ud800 and \0"),
    "note: very many": lambda w: [w.note("é" * 2000) for _ in range(900)],
    "checkpoint: nothing": lambda w: w.checkpoint(None),
    "grads_ready: early and twice": lambda w: (w.grads_ready(), w.grads_ready()),
    "flush: a text": lambda w: w.flush("soon"),
    "flush: not a number": lambda w: w.flush(float("nan")),
    "flush: the past": lambda w: w.flush(-1.0),
}


@pytest.mark.parametrize("mistake", MISUSES)
def test_a_mistake_costs_no_frame(mistake: str, server: DemoServer) -> None:
    """Nothing raises, and the service has every step of the run, those of the mistake too."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = "mistake-" + str(list(MISUSES).index(mistake))
    with foreshock.watch(
        model, optimizer, url=server.url, run_id=run, batch_seconds=0.1, activation_every=1
    ) as watch:
        train(model, optimizer, watch, num_steps=1)
        MISUSES[mistake](watch)
        train(model, optimizer, watch, num_steps=2)
        assert watch.flush(20)
    found = httpx.get(f"{server.url}/api/v1/runs/{run}", trust_env=False).json()
    counters = found["head"]["counters"]
    assert found["head"]["next_ord"] == counters["frames_measured"]
    assert counters["frames_measured"] == (4 if mistake.startswith("step") else 3)
    assert (counters["frames_dropped"], counters["batches_rejected"]) == (0, 0)
    assert [event["kind"] for event in found["events"]][-1] == "finished"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model",), "needs a torch.nn.Module first, not str"),
        ((perceptron(), "adam"), "str is no torch.optim.Optimizer"),
        ((perceptron(), 5), "int is no torch.optim.Optimizer"),
        ((perceptron(), perceptron().parameters()), "Parameter is no torch.optim.Optimizer"),
    ],
)
def test_a_wrong_model_or_optimizer_is_named(arguments: tuple[Any, ...], message: str) -> None:
    """At the start, with what belongs there."""
    with pytest.raises(SettingError, match=message):
        foreshock.watch(*arguments)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"config": 5}, "give a dictionary"),
        ({"transport": "http://x"}, "is the argument url"),
        ({"run": 5}, "run must be of type str"),
    ],
)
def test_a_wrong_argument_says_what_belongs_there(given: dict[str, Any], message: str) -> None:
    """At the start, before anything is hooked."""
    with pytest.raises(SettingError, match=message):
        foreshock.watch(perceptron(), **given)


@pytest.mark.parametrize(("is_own", "told"), [(False, 1), (True, 0)])
def test_an_optimizer_of_another_model_is_told(
    is_own: bool, told: int, attach: Attach, caplog: pytest.LogCaptureFixture
) -> None:
    """It trains that one without any error; one that holds a part of this model is as meant."""
    model, other = perceptron(), perceptron()
    held = [*other.parameters(), *list(model.parameters())[: int(is_own)]]
    with caplog.at_level(logging.WARNING, logger="foreshock"):
        attach(model, torch.optim.SGD(held, lr=0.1))
    assert sum("holds a parameter of the model" in r.message for r in caplog.records) == told


@dataclass
class Config:
    """Settings of a training as people keep them."""

    lr: float = 0.5


@pytest.mark.parametrize("config", [{"lr": 0.5}, Config(), argparse.Namespace(lr=0.5)])
def test_a_config_may_be_kept_in_any_usual_way(config: Any, attach: Attach) -> None:
    """A dictionary, a dataclass and parsed arguments say the same."""
    watch, transport = attach(perceptron(), config=config)
    watch.close()
    assert transport.events[0].data["config"] == {"lr": 0.5}


def test_a_huge_config_is_cut(attach: Attach) -> None:
    """However it is nested, what travels stays within its bound, and the run is seen."""
    deep: Any = "x" * 3000
    for _ in range(4):
        deep = [deep] * 40
    config = {"texts": ["x" * 3000] * 500, "int": 10**5000, "bad": BAD, "deep": deep}
    watch, transport = attach(perceptron(), config=config)
    watch.close()
    told = transport.events[0].data["config"]
    assert len(str(told)) < 200_000
    assert told["texts"][0] == "x" * 2000


def test_calls_after_close_do_nothing(attach: Attach) -> None:
    """Every one of them, and a second close: the run stays as it was."""
    watch, transport = attach(perceptron())
    watch.close()
    num_posts = transport.num_posts
    for call in MISUSES.values():
        call(watch)
    watch.close()
    with watch:
        watch.step(loss=1.0)
    assert (watch.run_id, watch.url, watch.flush()) == (None, None, True)
    assert transport.num_posts == num_posts


def test_another_thread_may_call_while_training_runs(attach: Attach) -> None:
    """Scalars, observations and notes of a loader's thread: no frame is lost, nothing fails."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            watch.log(waited=0.1)
            watch.observe("inputs", ONES)
            watch.note("shard")

    thread = threading.Thread(target=load)
    thread.start()
    train(model, optimizer, watch, num_steps=20)
    over.set()
    thread.join()
    watch.close()
    assert transport.steps == list(range(20))
    assert transport.batches[-1].counters.errors == 0
    assert transport.scalar("waited")
