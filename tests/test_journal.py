"""Payloads on disk: durable before anything reads them, in order, and never another payload than was kept."""

import fcntl
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.errors import JournalError
from worker.journal import Journal

MIB = 1 << 20
PAYLOAD = b'[{"timestamp": "2026-08-22T12:00:00Z", "api_key": "sk-client-team-a-7Q2mX"}]'


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path, "default", MIB)


@pytest.fixture
def folder(tmp_path, journal):
    return tmp_path / "journal" / "default"


def payloads(journal):
    return [entry.payload for entry in journal.entries()]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def file_of(folder):
    (path,) = folder.iterdir()
    return path


# -- keeping and dropping ------------------------------------------------------------------------------------------


def test_what_is_kept_is_there_for_the_next_process(tmp_path, journal):
    kept = journal.keep(PAYLOAD)
    assert kept.payload == PAYLOAD
    assert list(Journal(tmp_path, "default", MIB).entries()) == [kept]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
@example([b"", b"\n", b"\n\n{}\n", b"\0" * 100, PAYLOAD])
@example([bytes(range(256)) * 1000])
def test_any_bytes_come_back_as_they_were_and_in_order(tmp_path_factory, kept):
    place = tmp_path_factory.mktemp("journal")
    journal = Journal(place, "default", MIB)
    entries = [journal.keep(payload) for payload in kept]
    assert list(Journal(place, "default", MIB).entries()) == entries
    assert [entry.payload for entry in entries] == kept
    assert len({entry.entry_id for entry in entries}) == len(kept)


def test_the_oldest_comes_first_whoever_wrote_it(tmp_path, journal):
    other = Journal(tmp_path, "default", MIB)
    for i in range(12):
        (journal, other)[i % 2].keep(b"%d" % i)
    assert payloads(journal) == payloads(other) == [b"%d" % i for i in range(12)]


def test_what_is_dropped_is_gone_and_nothing_else(tmp_path, journal):
    first, second, third = (journal.keep(p) for p in (b"1", b"2", b"3"))
    journal.drop(second)
    assert list(Journal(tmp_path, "default", MIB).entries()) == [first, third]
    journal.drop(second)  # another worker was faster
    assert list(journal.entries()) == [first, third]


def test_one_payload_twice_is_two_entries(journal):
    first, second = journal.keep(PAYLOAD), journal.keep(PAYLOAD)
    assert first.entry_id != second.entry_id
    journal.drop(first)
    assert list(journal.entries()) == [second]


def test_upstreams_do_not_see_each_others_entries(tmp_path, journal):
    other = Journal(tmp_path, "other", MIB)
    mine = journal.keep(b"mine")
    theirs = other.keep(b"theirs")
    assert list(journal.entries()) == [mine]
    assert list(other.entries()) == [theirs]


def test_an_entry_that_another_worker_drops_meanwhile_is_passed_over(tmp_path, journal):
    first, second, third = (journal.keep(p) for p in (b"1", b"2", b"3"))
    reader = Journal(tmp_path, "default", MIB).entries()
    assert next(reader) == first
    journal.drop(second)
    assert list(reader) == [third]


def test_an_empty_journal_is_empty(journal):
    assert list(journal.entries()) == journal.damaged() == []
    assert journal.backlog() == (0, 0)


def test_an_entry_shows_nothing_of_its_payload_in_its_repr(journal):
    assert "7Q2mX" not in repr(journal.keep(PAYLOAD))


# -- durability ----------------------------------------------------------------------------------------------------


def test_a_payload_is_synced_before_it_gets_its_name_and_the_name_before_it_is_kept(journal, folder, monkeypatch):
    seen, real = [], os.fsync

    def fsync(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        names = [path.suffix for path in folder.iterdir()]
        seen.append(("folder" if is_folder else "file", os.fstat(descriptor).st_size >= len(PAYLOAD), names))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.keep(PAYLOAD)
    assert [(what, names) for what, _, names in seen] == [("file", [".part"]), ("folder", [".entry"])]
    assert seen[0][1]  # all of it was written when it was synced


DIES = """
import os, signal, sys
from pathlib import Path
from worker.journal import Journal
journal = Journal(Path(sys.argv[1]), "default", 1 << 20)
journal.keep(b"before")
syncs, real = int(sys.argv[2]), os.fsync
def fsync(descriptor):
    global syncs
    syncs -= 1
    if not syncs:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
journal.keep(b"at death")
"""


@pytest.mark.parametrize("syncs", [1, 2], ids=["before it has a name", "before the name is synced"])
def test_what_a_killed_worker_had_written_is_there_for_the_next_one(tmp_path, journal, syncs):
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), str(syncs)], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert payloads(journal) == [b"before", b"at death"]
    assert journal.damaged() == []


def test_a_disk_that_refuses_is_told_and_leaves_nothing_half_written(journal, folder):
    kept = journal.keep(PAYLOAD)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
    try:
        with pytest.raises(JournalError, match=r"the journal .*/default cannot be written: File too large"):
            journal.keep(b"x" * 2 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in folder.iterdir()] == [kept.name]
    assert list(journal.entries()) == [kept]


# -- what a killed worker leaves behind ----------------------------------------------------------------------------


def left_behind(folder):
    """Make the newest entry what it was while it was being written, and return its whole content."""
    path = max(folder.glob("*.entry"))
    content = path.read_bytes()
    path.rename(f"{path}.part")
    return content


def test_a_file_that_is_being_written_is_no_entry_yet(journal, folder):
    whole = journal.keep(b"whole")
    journal.keep(PAYLOAD)
    left_behind(folder)
    writer = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(writer, fcntl.LOCK_SH)  # as a living writer does
        assert list(journal.entries()) == [whole]
        assert journal.backlog()[0] == 1
        assert len(list(folder.glob("*.part"))) == 1
    finally:
        os.close(writer)
    assert payloads(journal) == [b"whole", PAYLOAD]


def test_a_whole_file_without_its_name_is_adopted(journal, folder):
    whole, kept = journal.keep(b"whole"), journal.keep(PAYLOAD)
    left_behind(folder)
    assert list(journal.entries()) == [whole, kept]
    assert sorted(path.name for path in folder.iterdir()) == [whole.name, kept.name]
    journal.drop(kept)
    assert list(journal.entries()) == [whole]


def test_a_file_cut_at_any_byte_is_adopted_as_far_as_it_got(journal, folder):
    kept = journal.keep(PAYLOAD)
    content = left_behind(folder)
    head = content.index(b"\n") + 1
    assert content[head:] == PAYLOAD
    for written in range(len(content)):
        (folder / f"{kept.name}.part").write_bytes(content[:written])
        found = list(journal.entries())
        if written < head:  # no byte of the payload is there
            assert found == []
            assert list(folder.iterdir()) == []
        else:
            (entry,) = found
            assert (entry.entry_id, entry.payload) == (f"{kept.entry_id}:{written - head}", content[head:written])
            journal.drop(found[0])
    assert list(folder.iterdir()) == []


# -- damage --------------------------------------------------------------------------------------------------------


def check_set_aside(journal, folder, sibling):
    assert payloads(journal) == [sibling.payload]
    assert [path.suffix for path in journal.damaged()] == [".damaged"]
    assert journal.backlog()[0] == 1
    assert payloads(journal) == [sibling.payload]  # and it stays so
    assert len(journal.damaged()) == 1
    assert len(list(folder.iterdir())) == 2  # nothing is thrown away


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content + b"x",
        lambda content: content.replace(b'"version":1', b'"version":2'),
        lambda content: content.replace(b'"sha256":"', b'"sha256":"0'),
        lambda content: content.partition(b"\n")[2],
        lambda content: b"{}\n" + content,
        lambda content: b"\0" * len(content),
        lambda content: b"[" * 100_000 + content,
    ],
    ids=["empty", "cut", "bit", "longer", "version", "digest", "no header", "other header", "zeros", "deep"],
)
def test_a_damaged_entry_is_set_aside_and_stands_in_no_way(journal, folder, spoil):
    journal.keep(PAYLOAD)
    path = file_of(folder)
    spoilt = spoil(path.read_bytes())
    sibling = journal.keep(b"sibling")
    path.write_bytes(spoilt)
    check_set_aside(journal, folder, sibling)
    assert journal.damaged()[0].read_bytes() == spoilt


def test_an_entry_of_another_version_is_set_aside(journal, folder, monkeypatch):
    monkeypatch.setattr("worker.journal.VERSION", 2)
    newer = journal.keep(PAYLOAD)
    assert payloads(journal) == [PAYLOAD]
    monkeypatch.undo()
    check_set_aside(journal, folder, journal.keep(b"sibling"))
    assert journal.damaged()[0].stem == newer.name.removesuffix(".entry")


def test_every_flipped_bit_is_found(journal, folder):
    journal.keep(b'[{"a":1}]\n')
    path = file_of(folder)
    content = path.read_bytes()
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert payloads(journal) == []
        journal.damaged()[0].unlink()
    path.write_bytes(content)
    assert payloads(journal) == [b'[{"a":1}]\n']


# -- room ----------------------------------------------------------------------------------------------------------


def test_the_backlog_counts_entries_and_their_bytes(journal, folder):
    journal.keep(b"x" * 1000)
    entry = journal.keep(b"y" * 500)
    assert journal.backlog() == (2, sum(path.stat().st_size for path in folder.iterdir()))
    assert 1500 < journal.backlog()[1] < 2500
    journal.drop(entry)
    assert journal.backlog()[0] == 1


def test_a_full_journal_says_so_and_has_room_again_when_an_entry_is_dropped(tmp_path):
    journal = Journal(tmp_path, "default", 3000)
    journal.require_room()
    first = journal.keep(b"x" * 1000)
    journal.require_room()
    second = journal.keep(b"x" * 1800)
    with pytest.raises(JournalError) as full:
        journal.require_room()
    for part in ("is full", "2 payloads", "of 3000 bytes", "journal.max_bytes", str(tmp_path)):
        assert part in str(full.value)
    assert list(journal.entries()) == [first, second]  # what is kept can still be read
    journal.drop(first)
    journal.require_room()


def test_a_journal_is_full_at_its_limit(tmp_path):
    Journal(tmp_path, "default", MIB).keep(PAYLOAD)
    _, size = Journal(tmp_path, "default", MIB).backlog()
    Journal(tmp_path, "default", size + 1).require_room()
    with pytest.raises(JournalError, match="is full"):
        Journal(tmp_path, "default", size).require_room()


# -- the folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_folder_and_entries(tmp_path, umask):
    before = os.umask(umask)
    try:
        journal = Journal(tmp_path / "new" / "data", "default", MIB)
        journal.keep(PAYLOAD)
    finally:
        os.umask(before)
    folder = tmp_path / "new" / "data" / "journal"
    assert mode(folder) == mode(folder / "default") == 0o700
    assert mode(file_of(folder / "default")) == 0o600
    file_of(folder / "default").write_bytes(b"")
    assert list(journal.entries()) == []
    assert mode(journal.damaged()[0]) == 0o600


def test_a_folder_that_is_there_is_used_as_it_is(tmp_path, journal):
    kept = journal.keep(PAYLOAD)
    assert list(Journal(tmp_path, "default", MIB).entries()) == [kept]


@pytest.mark.parametrize("at", ["data", "data/journal", "data/journal/default"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, at):
    (tmp_path / at).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / at).write_text("a file is in the way")
    with pytest.raises(JournalError, match=r"the journal folder .*/data/journal/default cannot be made .*data_dir"):
        Journal(tmp_path / "data", "default", MIB)


def test_a_folder_that_has_gone_is_told(journal, folder):
    shutil.rmtree(folder)
    with pytest.raises(JournalError, match=r"the journal .*/default cannot be written: No such file or directory"):
        journal.keep(PAYLOAD)
    with pytest.raises(JournalError, match=r"journal/default"):
        list(journal.entries())


def test_what_is_none_of_the_journals_is_left_alone(journal, folder):
    for name in ("README", "x.entry.bak", ".hidden"):
        Path(folder, name).write_text("x")
    assert list(journal.entries()) == []
    assert journal.backlog() == (0, 0)
    assert sorted(path.name for path in folder.iterdir()) == [".hidden", "README", "x.entry.bak"]
