"""`foreshock scan`: what it says, what it writes, and how it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from pathlib import Path

import numpy as np

from tests.commands.running import environment
from tests.scan.logs import BROKEN_AT, csv_of, losses
from tests.scan.running import COMMAND, scan, scan_alone


def test_a_quiet_run_ends_with_0_and_says_so(tmp_path: Path) -> None:
    """One line for the run, one for all."""
    (tmp_path / "sound.csv").write_text(csv_of(sick=False))

    done = scan(tmp_path / "sound.csv", "--jsonl", tmp_path / "told.jsonl")

    assert (done.status, done.errors, done.told) == (0, [], [])
    assert done.lines == [
        "sound: 160 rows, no incident.",
        "1 run scanned, 0 with incidents: no incident.",
    ]


def test_an_incident_ends_with_1_and_its_sentence(tmp_path: Path) -> None:
    """The sentence is the one that alerts carry; the line of JSON has what scorers read."""
    (tmp_path / "sick.csv").write_text(csv_of(sick=True))

    done = scan(tmp_path / "sick.csv", "--jsonl", tmp_path / "told.jsonl")

    sentence = f"The loss is not finite from step {10 * BROKEN_AT}"
    assert done.status == 1
    assert done.lines[0].startswith("sick: step 12")
    assert done.lines[0].endswith(f", critical, opened: {sentence}")
    told = done.told[0]
    assert (told["run"], told["kind"], told["severity"]) == ("sick", "non_finite", "critical")
    assert told["sentence"] == sentence
    assert told["series"] == []
    assert told["step"] >= told["opened_step"] >= told["onset_step"] == 10 * BROKEN_AT


def test_what_cannot_be_read_ends_with_2_and_the_rest_is_scanned(tmp_path: Path) -> None:
    """The reason is one line on stderr, with the file's name."""
    (tmp_path / "broken.csv").write_text("step,loss\n1,0.5\nnan,0.4\n")
    (tmp_path / "sick.csv").write_text(csv_of(sick=True))

    done = scan(tmp_path, "--jsonl", tmp_path / "told.jsonl")

    assert done.status == 2
    (line,) = done.errors
    assert line == (
        f"foreshock scan: {tmp_path / 'broken.csv'}: row 2: step 'nan' is no whole number from 0 up"
    )
    assert [told["run"] for told in done.told] == ["sick"]


def test_jsonl_on_stdout_is_alone_there(tmp_path: Path) -> None:
    """Sentences and summary go to stderr, so that a program can read what comes."""
    (tmp_path / "sick.csv").write_text(csv_of(sick=True))

    done = scan(tmp_path, "--jsonl", "-")

    assert [told["transition"] for told in done.told] == ["opened"]
    assert done.errors[-1].startswith("1 run scanned, 1 with incidents")


def test_the_lines_of_json_are_what_calls_a_person(tmp_path: Path) -> None:
    """An incident opens and gets graver; that the loss moved, or that it is over, is a sentence."""
    sound = losses(sick=False)
    rows = [f"{i},{loss},{500 if i == 60 else 1 + loss}\n" for i, loss in enumerate(sound)]
    (tmp_path / "spike.csv").write_text("step,loss,grad_norm\n" + "".join(rows))

    done = scan(tmp_path, "--jsonl", tmp_path / "told.jsonl")

    assert [told["transition"] for told in done.told] == ["opened"]
    assert set(done.told[0]) == {
        "run", "step", "kind", "severity", "series", "opened_step", "transition", "onset_step",
        "loss_step", "number", "group", "confidence", "sentence",
    }  # fmt: skip
    assert ["opened" in line or "recovered" in line for line in done.lines[:2]] == [True, True]


def test_a_configuration_changes_what_is_found(tmp_path: Path) -> None:
    """A detector that is left out finds nothing; a wrong configuration is refused in one line."""
    (tmp_path / "sick.csv").write_text(csv_of(sick=True))
    (tmp_path / "quiet.toml").write_text('disabled = ["non_finite", "loss"]\n')
    (tmp_path / "wrong.toml").write_text('sensitivity = "extreme"\n')

    quiet = scan(tmp_path / "sick.csv", "--config", tmp_path / "quiet.toml")
    wrong = scan(tmp_path / "sick.csv", "--config", tmp_path / "wrong.toml")

    assert quiet.status == 0
    assert wrong.status == 2
    assert wrong.errors == [
        f"foreshock scan: {tmp_path / 'wrong.toml'}: "
        "sensitivity must be one of low, normal, high, not 'extreme'"
    ]


def test_a_reader_that_has_enough_ends_it_quietly(tmp_path: Path) -> None:
    """As `| head -1` does."""
    for number in range(30):
        (tmp_path / f"{number}.csv").write_text(csv_of(sick=True))
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stderr is not None

    assert process.stdout.readline().startswith("0: step")
    process.stdout.close()

    assert process.wait() == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_ctrl_c_ends_it_with_130(tmp_path: Path) -> None:
    """Without a traceback."""
    (tmp_path / "a.csv").write_text(csv_of(sick=True))
    (tmp_path / "b.csv").write_text("loss\n" + "1\n2\n" * 500_000)
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout is not None
    process.stdout.readline()

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()

    assert (process.returncode, errors) == (130, "")


def test_a_name_that_several_runs_have_gets_its_folder(tmp_path: Path) -> None:
    """Only as much of it as it takes; a run is found once, however often it is named."""
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "log.csv").write_text("loss\n1\n")
    (tmp_path / "alone.csv").write_text("loss\n1\n")

    done = scan(tmp_path, tmp_path / "one" / "log.csv", tmp_path / "one")

    assert [line.partition(":")[0] for line in done.lines[:-1]] == ["alone", "one/log", "two/log"]


def test_folders_are_searched_and_other_files_passed_over(tmp_path: Path) -> None:
    """Silently but for their number; a link to nowhere and the file being written are nothing."""
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "log.csv").write_text("step,loss\n1,1\n")
    (tmp_path / "deep" / "table.csv").write_text("name,price\nx,1\n")
    (tmp_path / "README").write_text("hello")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    np.savez(tmp_path / "data.npz", x=np.zeros(3))

    done = scan(tmp_path, "--jsonl", tmp_path / "told.jsonl")

    assert (done.status, done.errors) == (0, [])
    assert done.lines == [
        "log: 1 row, no incident.",
        "1 run scanned, 0 with incidents: no incident. 4 other files passed over.",
    ]


def test_names_cannot_steer_a_terminal(tmp_path: Path) -> None:
    """Control characters of file names are replaced."""
    (tmp_path / "a\x1b[2Jb.csv").write_text("loss\n1\n")

    assert scan(tmp_path).lines[0] == "a\ufffd[2Jb: 1 row, no incident."


def test_a_gradient_norm_that_nobody_computed_alarms_nobody(tmp_path: Path) -> None:
    """Some tools log 0 on every row."""
    sound = csv_of(sick=False).splitlines()
    lines = [f"{sound[0]},grad_norm", *(f"{line},0.0" for line in sound[1:])]
    (tmp_path / "zero.csv").write_text("\n".join(lines))

    assert scan(tmp_path).status == 0


def test_a_place_that_cannot_be_written_is_told_before_the_scan(tmp_path: Path) -> None:
    """Nothing is scanned for nothing."""
    (tmp_path / "log.csv").write_text("loss\n1\n")

    done = scan_alone(tmp_path, "--jsonl", tmp_path / "absent" / "told.jsonl")

    assert (done.status, done.lines) == (2, [])
    assert "No such file or directory" in done.errors[0]


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    """On stderr; the lines on stdout are the same as without."""
    (tmp_path / "log.csv").write_text(csv_of(sick=False))
    terminal, other_end = pty.openpty()
    size = struct.pack("HHHH", 24, 100, 0, 0)
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, size)
    done = subprocess.run(
        [*COMMAND, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=other_end,
        text=True,
        env=environment(),
        check=False,
    )
    os.close(other_end)
    drawn = os.read(terminal, 1 << 16).decode()
    os.close(terminal)

    assert done.stdout.splitlines()[0] == "log: 160 rows, no incident."
    assert "0/1" in drawn
    assert "log, row 128" in drawn
