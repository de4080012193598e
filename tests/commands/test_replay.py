"""`foreshock replay` over a database that real batches filled; once as a process."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from foreshock_service.commands.replay import command
from foreshock_service.pipeline.detect import Detection
from foreshock_service.settings import ServiceSettings
from foreshock_service.store import runs
from foreshock_service.store.session import Store

from tests.commands.running import environment
from tests.commands.test_commands import FORESHOCK, run
from tests.detect.runs import drain, store_run
from tests.factories import make_batch
from tests.store.writing import write

QUIET = 'disabled = ["non_finite"]\n'

Replay = Callable[..., tuple[int, str, str]]


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str]) -> Replay:
    """The command in this process: its status, and what it said on stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        status = command.run(parser.parse_args(arguments))
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def folder(sqlite_store: Store, tmp_path: Path) -> tuple[str, str]:
    """The arguments that name a database with a sick run and one that is well."""
    store_run(sqlite_store, "sick", num_frames=96, nan_from=60)
    store_run(sqlite_store, "sick", num_frames=64, rank=1, seed=3)
    store_run(sqlite_store, "well", num_frames=96)
    with sqlite_store.write() as session:
        runs.describe(session, "well", name="nightly \x1b[31m", project="default", info={})
    drain(Detection(sqlite_store, ServiceSettings()))
    return "--data-dir", str(tmp_path)


def test_a_configuration_that_loses_the_incident_says_so(
    folder: tuple[str, str], tmp_path: Path
) -> None:
    """With the sentence of the incident, the rates of both, and status 0 within the budget."""
    config = tmp_path / "quiet.toml"
    config.write_text(QUIET)

    done = run("replay", "sick", "--config", str(config), "--budget", "20", *folder)

    assert done.returncode == 0, done.stderr
    assert "sick: 96 steps on 2 ranks\n" in done.stdout
    assert "  recorded: 1 incident; the one in force finds the same\n" in done.stdout
    assert "  in force: 1 incident, 10.4 alerts per 1000 steps\n" in done.stdout
    assert "    Lost: critical non_finite of step 60: First NaN or Inf in the" in done.stdout
    assert "10.4 alerts per 1000 steps before" in done.stdout
    assert "the budget of 20 is kept.\n" in done.stdout
    assert done.stderr == ""


def test_a_rate_above_the_budget_ends_with_status_1(
    folder: tuple[str, str], replay: Replay
) -> None:
    """Over all runs together: 1 alert on 192 steps is 5.2 per 1000."""
    kept, _, _ = replay("--all", "--budget", "6", *folder)
    exceeded, said, _ = replay("--all", *folder)

    assert (kept, exceeded) == (0, 1)
    assert said.endswith(
        "2 runs, 192 steps: 5.21 alerts per 1000 steps before, 5.21 after; the budget of 1 is "
        "exceeded.\n"
    )


def test_notifications_go_into_a_file(
    folder: tuple[str, str], tmp_path: Path, replay: Replay
) -> None:
    """Those of the new configuration, one a line."""
    told, quiet, config = tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "c.toml"
    config.write_text(QUIET)

    replay("sick", "--jsonl", str(told), *folder)
    replay("sick", "--config", str(config), "--jsonl", str(quiet), *folder)

    kinds = [json.loads(line)["kind"] for line in told.read_text().splitlines()]
    assert "non_finite" in kinds
    assert "non_finite" not in quiet.read_text()


def test_notifications_go_to_stdout_and_sentences_to_stderr(
    folder: tuple[str, str], replay: Replay
) -> None:
    """With `-`, for a program that reads them."""
    _, out, err = replay("sick", "--jsonl", "-", *folder)

    assert "non_finite" in [json.loads(line)["kind"] for line in out.splitlines()]
    assert "sick: 96 steps on 2 ranks\n" in err


def _started(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*FORESHOCK, "replay", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def test_a_reader_that_has_enough_ends_it_quietly(folder: tuple[str, str]) -> None:
    """As `| head -0` does."""
    process = _started("--all", *folder)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert process.wait() == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_ctrl_c_ends_it_with_130(folder: tuple[str, str], tmp_path: Path) -> None:
    """Without a traceback. It has begun once it opens its file, a pipe here."""
    pipe = tmp_path / "told.jsonl"
    os.mkfifo(pipe)
    process = _started("--all", "--jsonl", str(pipe), *folder)
    with pipe.open():
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()

    assert (process.returncode, errors) == (130, "")


def test_a_sound_run_is_found_by_its_name(folder: tuple[str, str], replay: Replay) -> None:
    """What would steer a terminal is not printed."""
    status, said, _ = replay("nightly \x1b[31m", *folder)

    assert status == 0
    assert "well (nightly \ufffd[31m): 96 steps\n" in said


def test_clipping_is_told_rule_by_rule(sqlite_store: Store, tmp_path: Path, replay: Replay) -> None:
    """From nothing but a logged norm: what could be replayed, and what not and why."""
    norms = np.full(40, 0.5)
    norms[33] = 5.0
    write(sqlite_store, make_batch("spiky", num_frames=40, scalars={"grad_norm": norms}))
    folder = ("--data-dir", str(tmp_path))

    status, every, _ = replay("spiky", "--clipping", *folder)
    _, one, _ = replay(
        "spiky", "--clipping", "--algorithm", "fixed", "--set", "max_norm=0.1", *folder
    )

    assert status == 0
    assert "  fixed would have clipped 1 of 40 steps (2.5 %), at step 33, " in every
    assert "  fira is not available: it needs the norm of each gradient" in every
    assert "nobody can say from it" in every
    assert "  fixed would have clipped 40 of 40 steps (100 %), at steps 0 to 39" in one
    assert "zclip" not in one


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "there is no run with the id or name 'absent'"),
        ([], "name the runs to replay, or say --all"),
        (["well", "--all"], "name the runs to replay, or say --all"),
        (["well", "--budget", "nan"], "--budget must be a number"),
        (["well", "--budget", "-1"], "--budget must be a number"),
        (["well", "--config", "absent.toml"], "absent.toml: No such file"),
        (["well", "--jsonl", "/absent/out.jsonl"], "/absent/out.jsonl"),
        (["well", "--set", "alpha=1"], "belong to --clipping"),
        (["well", "--clipping", "--set", "alpha=1"], "--set needs --algorithm"),
        (["well", "--clipping", "--algorithm", "zclip", "--set", "alpha"], "write NAME=VALUE"),
        (["well", "--clipping", "--algorithm", "zclip", "--set", "alpha=7"], "between 0 and 1"),
        (["well", "--clipping", "--jsonl", "x"], "leave out --config and --jsonl"),
        (["well", "--clipping", "--rank", "9"], "rank 9"),
    ],
)
def test_what_cannot_be_done_is_refused_with_status_2(
    folder: tuple[str, str], replay: Replay, arguments: list[str], message: str
) -> None:
    """In one line that says what to do."""
    status, _, said = replay(*arguments, *folder)

    assert status == 2
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("disabled = [", "quiet.toml: "),
        ('disabled = ["noise"]', "no detector is called noise; there are non_finite"),
        ("colour = 1", "unknown key colour"),
        ("[thresholds.loss]\nsigmas = 'many'", "thresholds.loss"),
        ("\udcff", "quiet.toml: "),
        ("a = " + "[" * 5000, "quiet.toml: "),
    ],
)
def test_a_configuration_that_is_none_is_refused(
    folder: tuple[str, str], tmp_path: Path, replay: Replay, text: str, message: str
) -> None:
    """With the name of the file, and what is wrong in it."""
    config = tmp_path / "quiet.toml"
    config.write_bytes(text.encode("utf-8", "surrogateescape"))

    status, _, said = replay("well", "--config", str(config), *folder)

    assert status == 2
    assert message in said


def test_no_database_is_made_or_migrated(
    tmp_path: Path, empty_sqlite_url: str, replay: Replay
) -> None:
    """A replay looks: a folder without one is told, and one without tables is to be migrated."""
    nowhere = replay("--all", "--data-dir", str(tmp_path / "nowhere"))
    bare = replay("--all", "--database-url", empty_sqlite_url)

    assert (nowhere[0], bare[0]) == (2, 2)
    assert "there is no database in" in nowhere[2]
    assert not (tmp_path / "nowhere").exists()
    assert "foreshock migrate" in bare[2]
