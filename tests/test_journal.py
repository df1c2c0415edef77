"""Payloads on disk: durable before anything reads them, in order, and never another payload than was kept."""

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import keep

from worker.errors import JournalError
from worker.sync.journal import Journal

MIB = 1 << 20
PAYLOAD = b'[{"timestamp": "2026-08-22T12:00:00Z", "api_key": "sk-client-team-a-7Q2mX"}]'


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path, "default", MIB)


@pytest.fixture
def folder(tmp_path, journal):
    return tmp_path / "journal" / "default"


def payload(journal, entry):
    with journal.open(entry) as file:
        return file.read()


def payloads(journal):
    return [payload(journal, entry) for entry in journal.entries()]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def file_of(folder):
    (path,) = folder.iterdir()
    return path


# -- keeping and dropping ------------------------------------------------------------------------------------------


def test_what_is_kept_is_there_for_the_next_process(tmp_path, journal):
    kept = keep(journal, PAYLOAD)
    assert payload(journal, kept) == PAYLOAD
    assert list(Journal(tmp_path, "default", MIB).entries()) == [kept]


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
@example([b"", b"\n", b"\n\n{}\n", b"\0" * 100, PAYLOAD])
@example([bytes(range(256)) * 1000])
def test_any_bytes_come_back_as_they_were_and_in_order(tmp_path_factory, kept):
    place = tmp_path_factory.mktemp("journal")
    journal = Journal(place, "default", MIB)
    entries = [keep(journal, payload) for payload in kept]
    assert list(Journal(place, "default", MIB).entries()) == entries
    assert [payload(journal, entry) for entry in entries] == kept
    assert len({entry.entry_id for entry in entries}) == len(kept)


def test_the_oldest_comes_first_whoever_wrote_it(tmp_path, journal):
    other = Journal(tmp_path, "default", MIB)
    for i in range(12):
        keep((journal, other)[i % 2], b"%d" % i)
    assert payloads(journal) == payloads(other) == [b"%d" % i for i in range(12)]


def test_what_is_dropped_is_gone_and_nothing_else(tmp_path, journal):
    first, second, third = (keep(journal, p) for p in (b"1", b"2", b"3"))
    journal.drop(second)
    assert list(Journal(tmp_path, "default", MIB).entries()) == [first, third]
    journal.drop(second)  # another worker was faster
    assert list(journal.entries()) == [first, third]


def test_one_payload_twice_is_two_entries(journal):
    first, second = keep(journal, PAYLOAD), keep(journal, PAYLOAD)
    assert first.entry_id != second.entry_id
    journal.drop(first)
    assert list(journal.entries()) == [second]


def test_upstreams_do_not_see_each_others_entries(tmp_path, journal):
    other = Journal(tmp_path, "other", MIB)
    mine = keep(journal, b"mine")
    theirs = keep(other, b"theirs")
    assert list(journal.entries()) == [mine]
    assert list(other.entries()) == [theirs]


def test_an_entry_that_another_worker_drops_meanwhile_is_passed_over(tmp_path, journal):
    first, second, third = (keep(journal, p) for p in (b"1", b"2", b"3"))
    reader = Journal(tmp_path, "default", MIB).entries()
    assert next(reader) == first
    journal.drop(second)
    assert list(reader) == [third]


def test_an_empty_journal_is_empty(journal):
    assert list(journal.entries()) == journal.damaged() == []
    assert journal.backlog() == (0, 0)


def test_an_entry_shows_nothing_of_its_payload_in_its_repr(journal):
    assert "7Q2mX" not in repr(keep(journal, PAYLOAD))


# -- durability ----------------------------------------------------------------------------------------------------


def test_there_is_room_before_an_answer_is_asked_for_and_the_answer_before_it_is_kept(journal, folder, monkeypatch):
    seen, real = [], os.fsync

    def fsync(descriptor):
        what = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        (path,) = folder.iterdir()
        seen.append((what, path.suffix, msgspec.json.decode(path.read_bytes()[65:512])["state"]))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    room = journal.reserve(3 * MIB)
    assert seen == [("file", ".part", "reserved"), ("folder", ".part", "reserved")]
    assert file_of(folder).stat().st_blocks * 512 >= 3 * MIB  # the disk holds it, not only the size
    room.ask()
    assert seen[2:] == [("file", ".part", "asked")]
    room.write(PAYLOAD)
    room.keep()
    assert seen[3:] == [("file", ".part", "kept"), ("folder", ".entry", "kept")]
    assert file_of(folder).read_bytes()[512:] == PAYLOAD


DIES = """
import os, signal, sys
from pathlib import Path
from worker.sync.journal import Journal
journal = Journal(Path(sys.argv[1]), "default", 1 << 20)
def keep(payload):
    room = journal.reserve(len(payload))
    room.ask()
    room.write(payload)
    room.keep()
keep(b"before")
syncs, real = int(sys.argv[2]), os.fsync
def fsync(descriptor):
    global syncs
    syncs -= 1
    if not syncs:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)
os.fsync = fsync
keep(b"at death")
"""


@pytest.mark.parametrize(
    ("syncs", "found"),
    [(1, []), (2, []), (3, [b""]), (4, [b"at death"]), (5, [b"at death"])],
    ids=["reserving", "before the folder", "before asking", "before it has a name", "before the name is synced"],
)
def test_what_a_killed_worker_had_written_is_there_for_the_next_one(tmp_path, journal, syncs, found):
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), str(syncs)], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert payloads(journal) == [b"before", *found]
    assert journal.damaged() == []
    assert not list(journal.folder.glob("*.part"))


def test_what_was_on_its_way_when_a_worker_was_killed_is_told_as_interrupted(tmp_path, journal):
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), "4"], check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    assert [entry.interrupted for entry in journal.entries()] == [False, False]  # it was whole: only its name lacked
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), "3"], check=False, timeout=60)
    assert [entry.interrupted for entry in journal.entries()][-2:] == [False, True]


@contextlib.contextmanager
def longest_file(size):
    """Let the system refuse to make a file longer than this, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_without_room_is_told_before_anything_is_asked_for(journal, folder):
    kept = keep(journal, PAYLOAD)
    with (
        longest_file(MIB),
        pytest.raises(JournalError, match=r"no room on the disk .* bytes in .*default \(File"),
    ):
        journal.reserve(2 * MIB)
    assert [path.name for path in folder.iterdir()] == [kept.path.name]
    assert list(journal.entries()) == [kept]


def test_what_arrived_before_the_disk_refused_is_kept(journal, folder):
    room = journal.reserve(MIB)
    room.ask()
    room.write(b"x" * MIB)
    with (
        longest_file(2 * MIB),
        pytest.raises(JournalError, match=r"journal .*/default cannot be written: File"),
    ):
        room.write(b"y" * 2 * MIB)
    kept = room.keep(broken_off=True)
    assert kept.broken_off
    assert list(journal.entries()) == [kept]
    assert payload(journal, kept) == b"x" * MIB


def test_room_is_held_for_the_next_answer_and_given_back_at_the_end(journal, folder):
    room = journal.reserve(MIB)
    room.ask()
    room.write(b"[]")
    room.reset()
    assert journal.reserve(MIB) is room
    longer = journal.reserve(3 * MIB)
    assert longer is not room
    assert [path.suffix for path in folder.iterdir()] == [".part"]
    journal.close()
    assert list(folder.iterdir()) == []


def test_room_in_which_an_answer_may_be_is_never_used_again_nor_given_back(journal):
    room = journal.reserve(MIB)
    room.ask()
    room.write(PAYLOAD)  # and then something failed that nobody foresaw
    assert journal.reserve(MIB) is not room
    (entry,) = journal.entries()
    assert (payload(journal, entry), entry.interrupted) == (PAYLOAD, True)


def test_an_answer_longer_than_its_room_finds_more(journal):
    room = journal.reserve(MIB)
    room.ask()
    for _ in range(50):
        room.write(b"x" * 100_000)
    assert payload(journal, room.keep()) == b"x" * 5_000_000


# -- what a killed worker leaves behind ----------------------------------------------------------------------------


def left_behind(folder):
    """Make the newest entry what it was while it was being written, and return its whole content."""
    path = max(folder.glob("*.entry"))
    content = path.read_bytes()
    path.rename(f"{path}.part")
    return content


def test_a_file_that_is_being_written_is_no_entry_yet(tmp_path, journal, folder):
    whole = keep(journal, b"whole")
    room = journal.reserve(MIB)
    room.ask()
    room.write(PAYLOAD)
    other = Journal(tmp_path, "default", MIB)
    assert list(other.entries()) == list(journal.entries()) == [whole]
    assert journal.backlog()[0] == 1
    assert len(list(folder.glob("*.part"))) == 1
    room.keep()
    assert payloads(other) == [b"whole", PAYLOAD]


def test_a_file_that_a_reader_removes_while_it_is_being_made_is_made_anew(tmp_path, journal, folder, monkeypatch):
    real, readers = fcntl.flock, [Journal(tmp_path, "default", 1 << 30)]

    def lock(file, how):
        if readers:
            assert list(readers.pop().entries()) == []
        real(file, how)

    monkeypatch.setattr("worker.sync.journal.fcntl.flock", lock)
    entry = keep(journal, b"[1]")
    assert readers == []
    assert entry.path.exists()
    assert [found.path for found in journal.entries()] == [entry.path]


def test_a_whole_file_without_its_name_is_adopted(journal, folder):
    whole, kept = keep(journal, b"whole"), keep(journal, PAYLOAD)
    left_behind(folder)
    assert list(journal.entries()) == [whole, kept]
    assert sorted(path.name for path in folder.iterdir()) == [whole.path.name, kept.path.name]
    journal.drop(kept)
    assert list(journal.entries()) == [whole]


def test_a_file_cut_at_any_byte_is_adopted_as_far_as_it_got(journal, folder):
    kept = keep(journal, PAYLOAD)
    content = left_behind(folder)
    assert content[512:] == PAYLOAD
    for written in range(len(content)):
        (folder / f"{kept.path.name}.part").write_bytes(content[:written])
        found = list(journal.entries())
        if written < 512:  # no byte of the answer is there
            assert found == []
            assert list(folder.iterdir()) == []
        else:
            (entry,) = found
            assert (entry.entry_id, entry.interrupted) == (f"{kept.entry_id}:{written - 512}", True)
            assert payload(journal, entry) == content[512:written]
            journal.drop(entry)
    assert list(folder.iterdir()) == []


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.binary(max_size=300).filter(lambda b: not b.endswith(b"\0")), st.integers(0, 3))
def test_an_answer_that_was_on_its_way_is_adopted_up_to_its_last_byte(tmp_path_factory, came, zeros):
    journal = Journal(tmp_path_factory.mktemp("journal"), "default", MIB)
    room = journal.reserve(MIB)
    room.ask()
    room.write(came + b"\0" * zeros)
    room._close()  # as the system does with the file of a killed process
    (entry,) = Journal(journal.folder.parents[1], "default", MIB).entries()
    assert entry.interrupted
    assert payload(journal, entry).rstrip(b"\0") == came


def test_an_entry_of_the_first_version_is_still_read(journal, folder):
    header = msgspec.json.encode(
        {"version": 1, "entry_id": "abc", "payload_bytes": len(PAYLOAD), "sha256": sha256(PAYLOAD).hexdigest()}
    )
    first = sha256(header).hexdigest().encode() + b" " + header + b"\n" + PAYLOAD
    (folder / f"{1:020d}-abc.entry").write_bytes(first)
    (entry,) = journal.entries()
    assert (entry.entry_id, entry.encoding, entry.broken_off, entry.interrupted) == ("abc", "", False, False)
    assert payload(journal, entry) == PAYLOAD


# -- damage --------------------------------------------------------------------------------------------------------


def check_set_aside(journal, folder, sibling):
    assert list(journal.entries()) == [sibling]
    assert [path.suffix for path in journal.damaged()] == [".damaged"]
    assert journal.backlog()[0] == 1
    assert list(journal.entries()) == [sibling]  # and it stays so
    assert len(journal.damaged()) == 1
    assert len(list(folder.iterdir())) == 2  # nothing is thrown away


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content + b"x",
        lambda content: content.replace(b'"version":2', b'"version":3'),
        lambda content: content.replace(b'"sha256":"', b'"sha256":"0'),
        lambda content: content.partition(b"\n")[2],
        lambda content: b"{}\n" + content,
        lambda content: b"\0" * len(content),
        lambda content: b"[" * 100_000 + content,
    ],
    ids=["empty", "cut", "bit", "longer", "version", "digest", "no header", "other header", "zeros", "deep"],
)
def test_a_damaged_entry_is_set_aside_and_stands_in_no_way(journal, folder, spoil):
    keep(journal, PAYLOAD)
    path = file_of(folder)
    spoilt = spoil(path.read_bytes())
    sibling = keep(journal, b"sibling")
    path.write_bytes(spoilt)
    check_set_aside(journal, folder, sibling)
    assert journal.damaged()[0].read_bytes() == spoilt


def test_an_entry_of_another_version_is_set_aside(journal, folder, monkeypatch):
    monkeypatch.setattr("worker.sync.journal.VERSION", 3)
    newer = keep(journal, PAYLOAD)
    assert payloads(journal) == [PAYLOAD]
    monkeypatch.undo()
    check_set_aside(journal, folder, keep(journal, b"sibling"))
    assert journal.damaged()[0].stem == newer.path.name.removesuffix(".entry")


def test_every_flipped_bit_is_found(journal, folder):
    keep(journal, b'[{"a":1}]\n')
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
    keep(journal, b"x" * 1000)
    entry = keep(journal, b"y" * 500)
    assert journal.backlog() == (2, sum(path.stat().st_size for path in folder.iterdir()))
    assert 1500 <= journal.backlog()[1] - 2 * 512 < 1600
    journal.drop(entry)
    assert journal.backlog()[0] == 1


def test_a_full_journal_says_so_and_has_room_again_when_an_entry_is_dropped(tmp_path):
    journal = Journal(tmp_path, "default", 3000)
    first = keep(journal, b"x" * 1000)
    second = keep(journal, b"x" * 1800)
    assert journal.is_full()
    with pytest.raises(JournalError) as full:
        journal.reserve(1)
    for part in ("is full", "2 answers", "of 3000 bytes", "journal.max_bytes", str(tmp_path)):
        assert part in str(full.value)
    assert list(journal.entries()) == [first, second]  # what is kept can still be read
    journal.drop(first)
    assert not journal.is_full()
    journal.reserve(1)


def test_a_journal_is_full_at_its_limit(tmp_path):
    keep(Journal(tmp_path, "default", MIB), PAYLOAD)
    _, size = Journal(tmp_path, "default", MIB).backlog()
    assert not Journal(tmp_path, "default", size + 1).is_full()
    assert Journal(tmp_path, "default", size).is_full()


def test_what_cannot_be_read_counts_towards_the_limit_and_stays(tmp_path):
    journal = Journal(tmp_path, "default", 3000)
    path = journal.keep_unread(keep(journal, b"x" * 3000))
    assert journal.is_full()
    assert list(journal.entries()) == []
    (entry,) = journal.unread_entries()
    assert entry.path == path
    assert payload(journal, entry) == b"x" * 3000


# -- the folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_folder_and_entries(tmp_path, umask):
    before = os.umask(umask)
    try:
        journal = Journal(tmp_path / "new" / "data", "default", MIB)
        keep(journal, PAYLOAD)
    finally:
        os.umask(before)
    folder = tmp_path / "new" / "data" / "journal"
    assert mode(folder) == mode(folder / "default") == 0o700
    assert mode(file_of(folder / "default")) == 0o600
    file_of(folder / "default").write_bytes(b"")
    assert list(journal.entries()) == []
    assert mode(journal.damaged()[0]) == 0o600


def test_a_folder_that_is_there_is_used_as_it_is(tmp_path, journal):
    kept = keep(journal, PAYLOAD)
    assert list(Journal(tmp_path, "default", MIB).entries()) == [kept]


@pytest.mark.parametrize("at", ["data", "data/journal", "data/journal/default"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, at):
    (tmp_path / at).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / at).write_text("a file is in the way")
    with pytest.raises(JournalError, match=r"the journal folder .*/data/journal/default cannot be made .*data_dir"):
        Journal(tmp_path / "data", "default", MIB)


def test_a_folder_that_has_gone_is_told(journal, folder):
    shutil.rmtree(folder)
    with pytest.raises(JournalError, match=r"no room on the disk .*/default \(No such file or directory\)"):
        keep(journal, PAYLOAD)
    with pytest.raises(JournalError, match=r"journal/default"):
        list(journal.entries())


def test_what_is_none_of_the_journals_is_left_alone(journal, folder):
    for name in ("README", "x.entry.bak", ".hidden"):
        Path(folder, name).write_text("x")
    assert list(journal.entries()) == []
    assert journal.backlog() == (0, 0)
    assert sorted(path.name for path in folder.iterdir()) == [".hidden", "README", "x.entry.bak"]
