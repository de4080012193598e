"""The spool: whole files, bounds, one owner."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreshock.errors import SpoolError
from foreshock.sender.orphans import open_orphan
from foreshock.spool import Spool

BLOCK = 4096
ROOM = 1 << 20


def test_batches_come_back_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """The sender sees the oldest batch first, also after a reopening."""
    spool = Spool(tmp_path / "a", max_bytes=ROOM)
    for seq in (0, 1, 10, 2):
        spool.put(seq, 1, b"x")
    spool.close()
    again = Spool(tmp_path / "a", max_bytes=ROOM)
    seen = []
    while (batch := again.oldest()) is not None:
        seen.append(batch.seq)
        again.remove(batch)
    again.close()
    assert seen == [0, 1, 2, 10]


def test_the_bound_drops_the_oldest_and_counts_frames(tmp_path: Path) -> None:
    """Room is made by giving up the oldest batches; the number of lost frames is told."""
    spool = Spool(tmp_path / "a", max_bytes=2 * BLOCK)
    dropped = []
    for seq in range(4):
        dropped.append(sum(b.num_frames for b in spool.make_room(40)))
        assert spool.put(seq, 16, b"x" * 40)
    oldest = spool.oldest()
    files = sorted(p.name for p in spool.folder.glob("*.batch"))
    spool.close()
    assert dropped == [0, 0, 16, 16]
    assert oldest is not None
    assert (oldest.seq, len(files)) == (2, 2)


def test_the_batch_that_is_being_sent_is_not_dropped(tmp_path: Path) -> None:
    """Else it would be counted as dropped although it has arrived."""
    spool = Spool(tmp_path / "a", max_bytes=2 * BLOCK)
    spool.put(0, 16, b"x")
    sending = spool.oldest()
    spool.put(1, 16, b"x")
    assert [batch.seq for batch in spool.make_room(1)] == [1]
    assert sending is not None
    assert spool.read(sending) == b"x"
    spool.close()


def test_a_batch_larger_than_the_bound_is_dropped_alone(tmp_path: Path) -> None:
    """A giant does not evict what is there and would fit."""
    spool = Spool(tmp_path / "a", max_bytes=2 * BLOCK)
    spool.put(0, 1, b"x" * 50)
    assert spool.make_room(2 * BLOCK + 1) == []
    assert not spool.put(1, 5, b"x" * (2 * BLOCK + 1))
    assert len(spool) == 1
    spool.close()


def test_a_second_owner_is_refused_with_advice(tmp_path: Path) -> None:
    """Two processes with the same run, attempt and rank would send each other's batches."""
    spool = Spool(tmp_path / "a", max_bytes=ROOM)
    with pytest.raises(SpoolError, match="FORESHOCK_RANK"):
        Spool(tmp_path / "a", max_bytes=ROOM)
    spool.close()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """The message names the folder and the setting."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError, match="FORESHOCK_SPOOL_DIR"):
        Spool(tmp_path / "file" / "a", max_bytes=ROOM)


def test_a_living_process_is_no_orphan(tmp_path: Path) -> None:
    """The lock tells the spool of a living process from one left behind."""
    spool = Spool(tmp_path / "a", max_bytes=ROOM)
    spool.put(0, 1, b"x")
    assert open_orphan(tmp_path, max_bytes=ROOM) is None
    spool.close()
    orphan = open_orphan(tmp_path, max_bytes=ROOM)
    assert orphan is not None
    orphan.close()


def test_half_written_and_strange_files_are_left_alone(tmp_path: Path) -> None:
    """What a crash left unfinished, or a person put there, is never sent."""
    folder = tmp_path / "a"
    folder.mkdir()
    for name in ("000000000000-1.partial", "notes.batch", "x-y.batch"):
        (folder / name).write_bytes(b"half")
    spool = Spool(folder, max_bytes=ROOM)
    assert spool.oldest() is None
    spool.close()


def test_only_the_latest_refused_batches_are_kept(tmp_path: Path) -> None:
    """A service that refuses everything cannot fill the disk."""
    spool = Spool(tmp_path / "a", max_bytes=ROOM)
    for seq in range(40):
        spool.put(seq, 1, b"x")
        batch = spool.oldest()
        assert batch is not None
        spool.reject(batch)
    kept = sorted(p.name for p in (spool.folder / "rejected").iterdir())
    spool.close()
    assert (len(kept), kept[-1]) == (32, "000000000039-1.batch")


def test_numbers_go_on_after_a_reopening(tmp_path: Path) -> None:
    """A resumed attempt does not reuse the number of a batch that still waits."""
    spool = Spool(tmp_path / "a", max_bytes=ROOM, fsync=True)
    spool.put(4, 1, b"x")
    spool.close()
    again = Spool(tmp_path / "a", max_bytes=ROOM)
    assert again.next_seq() == 5
    again.close()
