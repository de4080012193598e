"""`foreshock scan`: what it says, what it writes, and how it ends."""

from __future__ import annotations

from pathlib import Path

from tests.scan.logs import BROKEN_AT, csv_of
from tests.scan.running import scan


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
