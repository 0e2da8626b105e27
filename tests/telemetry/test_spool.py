# SPDX-License-Identifier: Apache-2.0
"""The spool keeps what it took, says what it lost, and survives its disk. Real files throughout."""

import base64
import errno
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import pytest

from otel_briefing.exceptions import StateError
from otel_briefing.telemetry import spool_aside, spool_frames, spool_keeper
from otel_briefing.telemetry.spool import RETRY_S, Spool
from otel_briefing.telemetry.spool_disk import Disk

CONTEXT = b"resource and scope"
HOUR_NS = 3600 * 10**9
EVERYTHING = 1 << 30


class Clock:
    """Wall and monotonic time that move when told, and a little at every look."""

    def __init__(self):
        self.now_ns = 1_790_000_000 * 10**9

    def time_ns(self):
        self.now_ns += 1000
        return self.now_ns

    def monotonic(self):
        return self.now_ns / 1e9


class FaultyDisk(Disk):
    """A disk on which some calls fail, or write only a part."""

    def __init__(self):
        self.error = 0
        self.calls = ()
        self.room = None  # bytes until it is full
        self.on_rename = lambda: None

    def _maybe(self, call):
        if self.error and call in self.calls:
            raise OSError(self.error, os.strerror(self.error))

    def open_file(self, *args):
        self._maybe("open_file")
        return super().open_file(*args)

    def make_folder(self, *args):
        self._maybe("make_folder")
        super().make_folder(*args)

    def unlink(self, path):
        self._maybe("unlink")
        if self.room is not None:
            self.room += Path(path).stat().st_size
        super().unlink(path)

    def rename(self, *args):
        self._maybe("rename")
        self.on_rename()
        super().rename(*args)

    def sync_file(self, fd):
        self._maybe("sync_file")
        os.fsync(fd)

    def write(self, fd, data):
        self._maybe("write")
        if self.room is None:
            return os.write(fd, data)
        part = data[: self.room]
        if not part:
            raise OSError(errno.ENOSPC, "full")
        self.room -= len(part)
        return os.write(fd, part)


def make(tmp_path, **settings):
    clock = settings.pop("clock", None) or Clock()
    defaults = {"time_ns": clock.time_ns, "monotonic": clock.monotonic}
    return Spool(tmp_path / "spool", **defaults | settings)


def fill(spool, count, priority=3, size=20):
    """Append numbered payloads; return them."""
    payloads = [b"%d-%06d" % (priority, n) + b"." * (size - 8) for n in range(count)]
    for payload in payloads:
        assert spool.append(priority, payload, CONTEXT) is not None
    return payloads


def drain(spool):
    """Read everything; return the payloads."""
    payloads = []
    while entries := spool.read(10_000, 100):
        payloads += [entry.payload for entry in entries]
    return payloads


def settle(spool):
    while spool.tend():
        pass
    return spool


def segments(tmp_path):
    return sorted((tmp_path / "spool").glob("*-*-*/*.seg1"))


def balance(spool):
    """Return what came in and what can be accounted for, by priority."""
    counts = spool.counts
    came = [a + b for a, b in zip(counts.appended, counts.adopted, strict=True)]
    ways = (counts.acked, counts.rejected, counts.evicted, counts.expired)
    more = (counts.corrupt, counts.vanished, spool.pending().items)
    return came, [sum(column) for column in zip(*ways, *more, strict=True)]


def in_child(work):
    """Run `work` in a forked child; return its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def wait_for(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def leave(tmp_path, count, priority=3, **settings):
    """Let a process append and die without a word."""
    wait_for(in_child(lambda: fill(make(tmp_path, **settings), count, priority)))


# In and out.


def test_what_was_appended_is_read_oldest_first_and_once(tmp_path):
    """Over all priorities, each with its context."""
    spool = make(tmp_path)
    seqs = [spool.append(p, b"%d" % n, b"scope %d" % (n % 2)) for n, p in enumerate((3, 5, 1, 5))]
    entries = spool.read(EVERYTHING, 100)
    assert [(b"0", 3), (b"1", 5), (b"2", 1), (b"3", 5)] == [
        (e.payload, e.priority) for e in entries
    ]
    assert seqs == [entry.seq for entry in entries]
    assert [b"scope 0", b"scope 1"] * 2 == [entry.context for entry in entries]
    assert [] == spool.read(EVERYTHING, 100)
    spool.append(3, b"later", b"")
    assert [b"later"] == drain(spool)


def test_what_is_acknowledged_does_not_come_back(tmp_path):
    """Not after a release, not after a restart; doing it twice does not count twice."""
    spool = make(tmp_path)
    fill(spool, 10)
    seqs = [entry.seq for entry in spool.read(EVERYTHING, 6)]
    for _ in range(2):
        spool.ack(seqs)
    spool.release(seqs)
    assert 6 == sum(spool.counts.acked)
    assert 4 == sum(spool.pending().items)
    spool.close()
    assert 4 == len(drain(settle(make(tmp_path))))


def test_what_is_released_is_read_again(tmp_path):
    """In its old order, before what came later."""
    spool = make(tmp_path)
    payloads = fill(spool, 5)
    spool.release([entry.seq for entry in spool.read(EVERYTHING, 3)])
    assert payloads == drain(spool)


def test_what_is_held_is_only_read_when_it_is_released(tmp_path):
    """The live path has it in memory."""
    spool = make(tmp_path)
    held = spool.append(4, b"live", CONTEXT, hold=True)
    assert [] == drain(spool)
    assert 1 == spool.pending().items[4]
    spool.release([held])
    assert [b"live"] == drain(spool)


def test_reading_keeps_to_its_limits(tmp_path):
    """But what is larger than the limit alone is handed out alone."""
    spool = make(tmp_path)
    fill(spool, 10, size=100)
    assert 3 == len(spool.read(350, 100))
    assert 2 == len(spool.read(EVERYTHING, 2))
    assert 1 == len(spool.read(10, 100))


def test_a_context_is_written_once_a_segment(tmp_path):
    """A resource is larger than most records."""
    spool = make(tmp_path)
    context = os.urandom(5000)
    for _ in range(100):
        spool.append(3, b"x", context)
    (path,) = segments(tmp_path)
    assert path.stat().st_size < 10_000
    assert {context} == {entry.context for entry in spool.read(EVERYTHING, 1000)}


def test_a_segment_goes_when_all_of_it_is_acknowledged(tmp_path):
    """And at the end the directory too."""
    spool = make(tmp_path, segment_bytes=1000)
    fill(spool, 100)
    assert len(segments(tmp_path)) > 4
    while entries := spool.read(EVERYTHING, 7):
        spool.ack([entry.seq for entry in entries])
    assert 1 == len(segments(tmp_path))  # the one that is open
    assert segments(tmp_path)[0].stat().st_size == spool.pending().bytes
    spool.close()
    assert [] == list((tmp_path / "spool").iterdir())
    assert 0 == spool.pending().bytes


def test_only_the_owner_may_look_in(tmp_path):
    """Logs hold secrets: 0700 and 0600, whatever the umask."""
    before = os.umask(0)
    try:
        fill(make(tmp_path), 1)
    finally:
        os.umask(before)
    paths = [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {0o700, 0o600} == modes


def test_building_one_touches_no_disk(tmp_path):
    """A start is not slowed; the first append makes the folders."""
    made = []
    spool = make(tmp_path, prepare=lambda: made.append(1))
    assert [] == drain(spool)
    assert (0, False) == (spool.pending().bytes, spool.tend())
    assert [] == list(tmp_path.iterdir())
    fill(spool, 3)
    assert [1] == made


def test_a_bound_that_cannot_be_is_refused(tmp_path):
    """At the start, and never later."""
    with pytest.raises(ValueError, match="positive"):
        Spool(tmp_path, cap_bytes=0)


def test_after_close_nothing_is_taken(tmp_path):
    """It is refused, and counted."""
    spool = make(tmp_path)
    fill(spool, 1)
    spool.close()
    assert spool.append(3, b"x", CONTEXT) is None
    assert 1 == spool.counts.refused[3]
    assert not spool.tend()


# Loss is counted.


def test_at_the_cap_the_oldest_of_the_lowest_priority_goes_first(tmp_path):
    """And each is counted by its priority."""
    spool = make(tmp_path, cap_bytes=32_000, segment_bytes=2000)
    fill(spool, 100, priority=2, size=100)
    important = fill(spool, 100, priority=5, size=100)
    fill(spool, 200, priority=2, size=100)
    assert spool.pending().bytes <= 32_000
    assert spool.counts.evicted[2] > 150
    assert 0 == spool.counts.evicted[5]
    came, accounted = balance(spool)
    assert came == accounted
    left = drain(spool)
    assert important == [payload for payload in left if payload.startswith(b"5")]
    assert b"2-000199" == left[-1][:8]


def test_when_only_more_urgent_ones_are_there_a_lesser_one_is_refused(tmp_path):
    """It must not push them out."""
    spool = make(tmp_path, cap_bytes=16_000)
    while not spool.counts.evicted[5]:
        spool.append(5, b"x" * 100, CONTEXT)
    spool.append(5, b"x" * 700, CONTEXT)
    evicted = spool.counts.evicted[5]
    refused = sum(spool.append(1, b"y" * 900, CONTEXT) is None for _ in range(10))
    assert refused == spool.counts.refused[1] > 0
    assert evicted == spool.counts.evicted[5]


def test_all_directories_share_one_cap(tmp_path):
    """Two spools, as two processes: the lesser records of the one give way to the other's."""
    one = make(tmp_path, cap_bytes=64_000, segment_bytes=2000)
    two = make(tmp_path, cap_bytes=64_000, segment_bytes=2000)
    fill(one, 550, priority=2, size=70)
    fill(two, 400, priority=4, size=70)
    for spool in (two, one):
        spool.tend()
    on_disk = sum(path.stat().st_size for path in segments(tmp_path))
    assert on_disk <= 64_000
    assert on_disk == one.pending().bytes + two.pending().bytes
    assert (0, 400) == (two.counts.evicted[4], two.pending().items[4])
    assert one.counts.evicted[2] > 0
    for spool in (one, two):
        came, accounted = balance(spool)
        assert came == accounted


def test_what_is_adopted_pushes_nothing_out_before_it_is_counted(tmp_path):
    """An append while a large backlog moves in: there was room for both all the time."""
    disk = FaultyDisk()
    one = make(tmp_path, cap_bytes=64_000, segment_bytes=4000, disk=disk)
    two = make(tmp_path, cap_bytes=64_000, segment_bytes=4000)
    fill(two, 400, size=70)
    kept = fill(one, 30, priority=2, size=70)
    one.tend()
    two.close()
    disk.on_rename = lambda: kept.extend(fill(one, 1, priority=2, size=70))
    settle(one)
    assert 0 == sum(one.counts.evicted) + sum(one.counts.refused)
    assert (len(kept), 400) == (one.pending().items[2], one.pending().items[3])
    assert len(kept) > 40


def test_more_segments_than_can_be_looked_after_are_not_kept(tmp_path, monkeypatch):
    """A thousand short-lived processes leave a thousand small files."""
    monkeypatch.setattr(spool_keeper, "MAX_SEGMENTS", 5)
    spool = make(tmp_path, segment_bytes=100)
    fill(spool, 20)
    spool.tend()
    assert 5 == len(segments(tmp_path))
    assert 5 * spool.counts.evicted[3] == 15 * sum(spool.pending().items)


def test_what_is_too_old_expires(tmp_path):
    """Whole segments by housekeeping, single entries when they are read."""
    clock = Clock()
    spool = make(tmp_path, clock=clock, max_age_s=3600)
    fill(spool, 10, priority=4)
    fill(spool, 5, priority=2)
    clock.now_ns += HOUR_NS
    fill(spool, 3, priority=2)
    spool.tend()
    assert (10, 0) == (spool.counts.expired[4], spool.counts.expired[2])
    assert 3 == len(drain(spool))
    assert (5, 3) == (spool.counts.expired[2], spool.pending().items[2])
    came, accounted = balance(spool)
    assert came == accounted


def test_what_goes_while_it_is_delivered_counts_as_what_becomes_of_it(tmp_path):
    """Delivered after all, or given back when there is no file any more."""
    spool = make(tmp_path, cap_bytes=16_000, segment_bytes=1000)
    first = [spool.append(1, b"%d" % n, CONTEXT, hold=True) for n in range(10)]
    fill(spool, 300, priority=2, size=60)
    assert 0 == spool.counts.evicted[1]
    spool.ack(first[:4])
    assert (4, 0, 6) == (spool.counts.acked[1], spool.counts.evicted[1], spool.pending().items[1])
    spool.release(first)
    assert (4, 6, 0) == (spool.counts.acked[1], spool.counts.evicted[1], spool.pending().items[1])


def test_what_will_never_be_taken_is_kept_with_the_reason(tmp_path):
    """In a form that any tool reads; within bounds."""
    spool = make(tmp_path)
    fill(spool, 5)
    seqs = [entry.seq for entry in spool.read(EVERYTHING, 2)]
    spool.reject(seqs, "400 Bad Request")
    assert (2, 3) == (spool.counts.rejected[3], spool.pending().items[3])
    (path,) = (tmp_path / "spool" / "rejected").iterdir()
    first, second = map(json.loads, path.read_text().splitlines())
    assert ("400 Bad Request", 3) == (first["reason"], first["priority"])
    assert b"3-000001" == base64.b64decode(second["payload"])[:8]
    assert CONTEXT == base64.b64decode(second["context"])
    for _ in range(spool_aside.MAX_FILES + 10):
        spool.reject([spool.append(3, b"x", CONTEXT)], "no")
    assert spool_aside.MAX_FILES == len(list((tmp_path / "spool" / "rejected").iterdir()))
    came, accounted = balance(spool)
    assert came == accounted


# Damage.


def test_a_damaged_frame_costs_only_itself(tmp_path):
    """It is counted and set aside; its neighbours are delivered."""
    leave(tmp_path, 9)
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"3-000004") + 3] ^= 0xFF
    path.write_bytes(data)
    spool = settle(make(tmp_path))
    assert (8, 1) == (spool.pending().items[3], spool.counts.corrupt[3])
    assert [0, 1, 2, 3, 5, 6, 7, 8] == [int(p[2:8]) for p in drain(spool)]
    (aside,) = (tmp_path / "spool" / "corrupt").iterdir()
    assert b"0004..." in aside.read_bytes()


def test_damage_to_a_living_segment_is_counted_too(tmp_path):
    """The bytes went bad between writing and reading."""
    spool = make(tmp_path)
    fill(spool, 9)
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    start = data.index(b"3-000004")
    path.write_bytes(data[:start] + bytes(60) + data[start + 60 :])
    assert 9 > len(drain(spool)) >= 6
    came, accounted = balance(spool)
    assert came == accounted


def test_entries_without_their_context_are_corrupt(tmp_path):
    """Nobody could say whose they are."""
    leave(tmp_path, 3)
    (path,) = segments(tmp_path)
    path.write_bytes(path.read_bytes().replace(CONTEXT, b"?" * len(CONTEXT)))
    spool = settle(make(tmp_path))
    assert [] == drain(spool)
    assert 3 == spool.counts.corrupt[3]
    assert [] == segments(tmp_path)


def test_a_frame_cannot_be_forged_inside_a_payload(tmp_path):
    """Who chooses what is logged does not know the marker of the segment."""
    leave(tmp_path, 1)
    (path,) = segments(tmp_path)
    forged = path.read_bytes()
    path.unlink()
    spool = make(tmp_path)
    spool.append(3, b"head" + forged, CONTEXT)
    spool.append(3, b"tail", CONTEXT)
    (path,) = segments(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"head", b"HEAD"))
    assert [b"tail"] == drain(spool)


def test_what_is_no_segment_is_left_alone(tmp_path):
    """Files and folders of others, of later versions, of any name."""
    leave(tmp_path, 2)
    (home,) = [path.parent for path in segments(tmp_path)]
    later = home / segments(tmp_path)[0].name.replace("seg1", "seg2")
    later.write_text("a later format")
    (home / segments(tmp_path)[0].name.replace("3-", "4-", 1)).mkdir()
    (tmp_path / "spool" / "notes.txt").write_text("mine")
    (tmp_path / "spool" / "1-2-00000000").write_text("a file where a folder should be")
    spool = settle(make(tmp_path))
    assert 2 == len(drain(settle(spool)))
    assert "a later format" == later.read_text()


def test_mutated_segments_harm_nobody():
    """Two thousand of them; `bench/fuzz_spool.py` alone takes a hundred thousand."""
    script = Path(__file__).parents[2] / "bench" / "fuzz_spool.py"
    command = [sys.executable, script, "2000", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert "2,000 mutated segments" in done.stdout


# The disk.


@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ENOENT, errno.EACCES]
)
@pytest.mark.parametrize("call", ["write", "open_file", "make_folder"])
def test_a_failing_disk_refuses_and_is_tried_again(tmp_path, error, call):
    """Nothing is raised, no try is made for a while, and what was there is still there."""
    clock, disk = Clock(), FaultyDisk()
    spool = make(tmp_path, clock=clock, disk=disk, segment_bytes=300)
    fill(spool, 20 if call != "make_folder" else 0)
    kept = sum(spool.pending().items)
    disk.error, disk.calls = error, (call,)
    for _ in range(20):
        spool.append(3, b"lost" * 30, CONTEXT)
    assert 20 == sum(spool.counts.refused)
    assert spool.counts.disk_errors <= 2
    spool.tend()
    spool.ack([1])
    disk.error = 0
    clock.now_ns += int(RETRY_S * 1e9)
    assert spool.append(3, b"again", CONTEXT) is not None
    assert kept + 1 == sum(spool.pending().items)
    assert kept + 1 == len(drain(settle(spool)))


def test_a_disk_that_fills_up_leaves_no_torn_frame(tmp_path):
    """Half a frame is taken back; lesser records make room for a greater one."""
    clock, disk = Clock(), FaultyDisk()
    spool = make(tmp_path, clock=clock, disk=disk, segment_bytes=400)
    fill(spool, 10, priority=1)
    disk.room = 30
    assert spool.append(4, b"error" * 9, CONTEXT) is not None
    assert (0, 0) == (spool.counts.refused[4], spool.counts.evicted[4])
    assert spool.counts.evicted[1] > 0
    disk.room = 30
    while spool.counts.evicted[1] < 10:
        clock.now_ns += int(RETRY_S * 1e9)
        spool.append(4, b"error" * 9, CONTEXT)
        disk.room = 30
    assert spool.append(1, b"debug" * 9, CONTEXT) is None
    left = sum(spool.pending().items)
    shutil.copytree(tmp_path / "spool", tmp_path / "copy" / "spool")
    copy = settle(make(tmp_path / "copy"))
    assert (left, 0) == (sum(copy.pending().items), sum(copy.counts.torn))


def test_what_cannot_be_read_now_is_read_later(tmp_path):
    """Reading fails: nothing is raised or lost, and the disk has peace for a while."""
    leave(tmp_path, 5)
    clock, disk = Clock(), FaultyDisk()
    spool = make(tmp_path, clock=clock, disk=disk)
    spool.append(3, b"own", CONTEXT)
    disk.error, disk.calls = errno.EIO, ("open_file",)
    errors = spool.counts.disk_errors
    for _ in range(10):
        assert [] == drain(spool)
    assert spool.counts.disk_errors <= errors + 2
    disk.error = 0
    clock.now_ns += int(RETRY_S * 1e9)
    assert 6 == len(drain(settle(spool)))


def test_what_cannot_be_unlinked_is_tried_again(tmp_path):
    """A segment of which all is acknowledged stays until the disk lets go of it."""
    disk = FaultyDisk()
    spool = make(tmp_path, disk=disk, segment_bytes=100)
    fill(spool, 5)
    disk.error, disk.calls = errno.EACCES, ("unlink",)
    spool.ack([entry.seq for entry in spool.read(EVERYTHING, 10)])
    assert 5 == len(segments(tmp_path))
    disk.error = 0
    spool.tend()
    assert 1 == len(segments(tmp_path))


def test_acknowledgements_that_cannot_be_written_hold_in_memory(tmp_path):
    """They are counted: after a restart those entries would come again."""
    disk = FaultyDisk()
    spool = make(tmp_path, disk=disk)
    fill(spool, 5)
    disk.error, disk.calls = errno.EIO, ("write", "unlink")
    spool.ack([entry.seq for entry in spool.read(EVERYTHING, 5)])
    assert (5, 5) == (spool.counts.acked[3], spool.counts.unwritten_acks)
    assert [] == drain(spool)


def test_a_vanished_directory_is_made_anew(tmp_path):
    """What was in it is counted; what comes after the next sync is kept."""
    spool = make(tmp_path)
    fill(spool, 10)
    fill(spool, 3, priority=5)
    shutil.rmtree(tmp_path / "spool")
    assert spool.sync()
    assert spool.append(3, b"after", CONTEXT) is not None
    assert (10, 3) == (spool.counts.vanished[3], spool.counts.vanished[5])
    assert [b"after"] == drain(spool)
    assert b"after" in segments(tmp_path)[0].read_bytes()


@pytest.mark.parametrize("many", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("change", [lambda _: b"", lambda data: data + b"x" * 50])
def test_what_comes_after_somebody_has_changed_a_file_is_kept(tmp_path, change, many):
    """One that was truncated, or written to, is not written to any more."""
    spool = make(tmp_path)
    fill(spool, 5)
    (segment,) = segments(tmp_path)
    changed = change(segment.read_bytes())
    with segment.open("r+b") as file:
        file.truncate(0)
        file.write(changed)
    fill(spool, 2)
    if many:
        assert None not in spool.append_many(3, [(b"late %d" % n, CONTEXT) for n in range(3)])
    else:
        for n in range(3):
            assert spool.append(3, b"late %d" % n, CONTEXT) is not None
    found = drain(spool)
    assert {b"late 0", b"late 1", b"late 2"} <= set(found)
    pending = spool.pending().items[3] + spool.counts.corrupt[3]
    assert pending == spool.counts.appended[3] == 10


def test_a_directory_that_vanishes_while_nothing_is_appended_is_noticed(tmp_path):
    """By housekeeping, and by reading."""
    spool = make(tmp_path)
    fill(spool, 10)
    shutil.rmtree(tmp_path / "spool")
    assert [] == drain(spool)
    assert (10, 0) == (spool.counts.vanished[3], spool.pending().bytes)


def test_a_state_directory_that_cannot_be_is_a_refusal(tmp_path):
    """The error of another room does not come out either."""

    def prepare():
        raise StateError("not ours")

    spool = make(tmp_path, prepare=prepare)
    assert spool.append(3, b"x", CONTEXT) is None


def test_a_file_of_the_program_is_never_written_to(tmp_path):
    """A program that closes all descriptors gets our numbers for its own files."""
    spool = make(tmp_path)
    fill(spool, 3)
    fds = {}
    for fd in Path("/proc/self/fd").iterdir():
        target = os.path.realpath(fd)
        if target.startswith(str(tmp_path)):
            fds[int(fd.name)] = target
    victim = tmp_path / "database"
    with victim.open("wb") as file:
        for fd in fds:
            os.dup2(file.fileno(), fd)
    fill(spool, 1)
    payloads = fill(spool, 2, priority=4)
    spool.tend()
    spool.close()
    assert b"" == victim.read_bytes()
    for fd in fds:
        os.close(fd)  # raises if somebody closed the program's descriptor
    assert payloads == drain(settle(make(tmp_path)))[-2:]


def test_sync_says_whether_the_medium_has_it(tmp_path):
    """And an entry that is gone in the meantime needs none."""
    disk = FaultyDisk()
    spool = make(tmp_path, disk=disk, segment_bytes=100)
    assert spool.sync()
    fill(spool, 10)
    spool.ack([entry.seq for entry in spool.read(EVERYTHING, 3)])
    assert spool.sync()
    fill(spool, 1)
    disk.error, disk.calls = errno.EIO, ("sync_file",)
    assert not spool.sync()


def test_an_append_that_must_be_on_the_medium_is_refused_when_it_is_not(tmp_path):
    """With `sync_each_append`."""
    disk = FaultyDisk()
    spool = make(tmp_path, disk=disk, sync_each_append=True)
    fill(spool, 2)
    disk.error, disk.calls = errno.EIO, ("sync_file",)
    assert spool.append(3, b"x", CONTEXT) is None
    disk.error = 0
    assert 2 == len(drain(spool))


def test_without_record_locks_it_keeps_its_own_and_adopts_nobody(tmp_path):
    """On Windows, where there is no `fcntl`; also on file systems without locks."""
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from otel_briefing.telemetry.spool import Spool\n"
        f"spool = Spool({str(tmp_path / 'spool')!r})\n"
        "assert spool.append(3, b'x', b'')\n"
        "other = Spool(spool._settings.root); other.tend()\n"
        "assert not other.pending().bytes\n"
        "assert len(spool.read(10, 10)) == 1 and not spool.tend()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Threads, signals, processes.


def test_many_threads_lose_nothing(tmp_path):
    """While one reads, acknowledges and keeps house."""
    spool = make(tmp_path, segment_bytes=2000)

    def work(priority):
        fill(spool, 300, priority)

    threads = [threading.Thread(target=work, args=(p,)) for p in (1, 2, 3, 3, 4, 5)]
    for thread in threads:
        thread.start()
    got = 0
    while any(thread.is_alive() for thread in threads) or sum(spool.pending().items):
        entries = spool.read(EVERYTHING, 50)
        got += len(entries)
        spool.ack([entry.seq for entry in entries])
        spool.tend()
    for thread in threads:
        thread.join()
    assert (1800, 1800) == (got, sum(spool.counts.acked))


def test_a_signal_handler_that_logs_amid_an_append_is_refused(tmp_path):
    """It must not wait for the very thread that it interrupts."""
    answers = []

    def time_ns():
        if len(answers) < 2:
            answers.append("asked")
            answers.append(spool.append(4, b"inner", CONTEXT))
        return clock.time_ns()

    clock = Clock()
    spool = make(tmp_path, time_ns=time_ns)
    assert spool.append(3, b"outer", CONTEXT) is not None
    assert answers == ["asked", None]
    assert 1 == spool.counts.refused[4]
    assert [b"outer"] == drain(spool)


def test_an_exception_amid_an_append_confuses_no_numbers(tmp_path):
    """Ctrl-C after the write and before the count: later entries are not mistaken for that one."""

    class Interrupted(Disk):
        def write(self, fd, data):
            os.write(fd, data)
            if b"interrupted" in data:
                raise KeyboardInterrupt
            return len(data)

    spool = make(tmp_path, disk=Interrupted())
    fill(spool, 2)
    with pytest.raises(KeyboardInterrupt):
        spool.append(3, b"interrupted", CONTEXT)
    spool.append(3, b"next", CONTEXT)
    assert [b"3-", b"3-", b"ne"] == [payload[:2] for payload in drain(spool)]


def test_a_killed_process_is_adopted_at_once_with_all_it_appended(tmp_path):
    """SIGKILL; the number that `append` returned is the promise."""
    read_fd, write_fd = os.pipe()

    def work():
        spool = make(tmp_path)
        fill(spool, 50, priority=4)
        spool.ack([entry.seq for entry in spool.read(EVERYTHING, 20)])
        os.write(write_fd, b"!")
        signal.pause()

    pid = in_child(work)
    os.read(read_fd, 1)
    spool = make(tmp_path)
    spool.tend()
    assert [] == drain(spool)  # it lives
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    settle(spool)
    assert (30, 30) == (spool.counts.adopted[4], spool.pending().items[4])
    assert list(range(20, 50)) == [int(payload[2:8]) for payload in drain(spool)]
    for fd in (read_fd, write_fd):
        os.close(fd)


def test_a_fork_child_leaves_its_parents_segments_alone(tmp_path):
    """It opens a directory of its own at its first append, and counts only its own."""
    spool = make(tmp_path)
    seqs = [spool.append(4, b"parent %d" % n, CONTEXT, hold=True) for n in range(3)]
    before = segments(tmp_path)[0].read_bytes()

    def work():
        assert sum(spool.counts.appended) == sum(spool.pending().items) == 0
        spool.ack(seqs)
        spool.release(seqs)
        assert drain(settle(spool)) == []
        fill(spool, 2)
        assert len(segments(tmp_path)) == 2
        assert len(drain(spool)) == 2

    wait_for(in_child(work))
    assert before in [path.read_bytes() for path in segments(tmp_path)]
    settle(spool)
    assert (3, 2) == (spool.pending().items[4], spool.pending().items[3])


def test_a_fork_amid_an_append_of_another_thread_blocks_nobody(tmp_path):
    """The child's copy of the mutex is held by a thread that it does not have."""
    inside, forked = threading.Event(), threading.Event()
    clock = Clock()

    def time_ns():
        if threading.current_thread() is thread and not inside.is_set():
            inside.set()
            forked.wait()
        return clock.time_ns()

    spool = make(tmp_path, time_ns=time_ns)
    thread = threading.Thread(target=lambda: spool.append(4, b"parent", CONTEXT))
    thread.start()
    inside.wait()

    def work():
        signal.alarm(20)
        fill(spool, 2)
        assert len(drain(spool)) == 2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = in_child(work)
    wait_for(pid)
    forked.set()
    thread.join()
    assert [b"parent"] == drain(spool)


def test_a_fork_without_hooks_is_noticed_too(tmp_path):
    """As some servers fork; descriptors may be somebody else's by then, and stay open."""
    spool = make(tmp_path)
    seqs = [spool.append(4, b"parent", CONTEXT, hold=True)]
    before = segments(tmp_path)[0].read_bytes()
    spool._pid = -1  # what a child finds when no hook ran
    spool.ack(seqs)
    spool.append(4, b"child", CONTEXT)
    assert 2 == len(segments(tmp_path))
    assert before in [path.read_bytes() for path in segments(tmp_path)]
    assert [b"child"] == drain(spool)


def test_a_dead_parent_is_adopted_while_its_child_lives(tmp_path):
    """An inherited descriptor does not keep the lock; the child's own directory stays its own."""
    to_child, from_child = os.pipe(), os.pipe()

    def parent():
        spool = make(tmp_path)
        fill(spool, 5, priority=4)

        def child():
            os.close(to_child[1])
            fill(spool, 2, priority=2)
            os.write(from_child[1], b"!")
            os.read(to_child[0], 1)  # until the test is through

        in_child(child)

    pid = in_child(parent)
    os.close(to_child[0])
    os.read(from_child[0], 1)
    wait_for(pid)
    spool = settle(make(tmp_path))
    assert (5, 0) == (spool.pending().items[4], spool.pending().items[2])
    os.close(to_child[1])
    for fd in from_child:
        os.close(fd)


def test_of_many_who_want_to_adopt_each_directory_gets_one(tmp_path):
    """Eight processes at once, four directories: every entry is adopted exactly once."""
    for _ in range(4):
        leave(tmp_path, 25)
    go, gone = os.pipe(), os.pipe()

    def adopt():
        os.read(go[0], 1)
        spool = settle(make(tmp_path))
        os.write(gone[1], b"%4d" % sum(spool.counts.adopted))

    pids = [in_child(adopt) for _ in range(8)]
    os.write(go[1], b"!" * 8)
    for pid in pids:
        wait_for(pid)
    adopted = [int(os.read(gone[0], 4)) for _ in pids]
    assert sum(adopted) >= 100  # those that ended early were adopted in turn
    assert 100 == len(drain(settle(make(tmp_path))))
    for fd in (*go, *gone):
        os.close(fd)


def test_two_spools_of_one_process_do_not_adopt_each_other(tmp_path):
    """A record lock does not keep its own process out."""
    one, two = make(tmp_path), make(tmp_path)
    fill(one, 3)
    settle(two)
    assert (3, 0) == (sum(one.pending().items), sum(two.pending().items))
    one.close()
    settle(two)
    assert 3 == sum(two.pending().items)


def test_a_directory_that_cannot_be_adopted_now_is_adopted_later(tmp_path):
    """The move fails halfway; nothing is lost and nothing doubled."""
    leave(tmp_path, 30, segment_bytes=400)
    disk = FaultyDisk()
    spool = make(tmp_path, disk=disk)
    disk.error, disk.calls = errno.EIO, ("rename",)
    settle(spool)
    assert 0 == sum(spool.pending().items)
    disk.error = 0
    assert list(range(30)) == [int(payload[2:8]) for payload in drain(settle(spool))]


def test_a_backlog_is_read_without_being_loaded(tmp_path):
    """Twenty megabytes of it, with less than half of that in memory."""
    code = (
        "import tracemalloc; from otel_briefing.telemetry.spool import Spool\n"
        f"spool = Spool({str(tmp_path / 'spool')!r}, max_age_s=1e9)\n"
        "tracemalloc.start()\n"
        "while spool.tend(): pass\n"
        "read = 0\n"
        "while batch := spool.read(100_000, 100):\n"
        "    read += len(batch)\n"
        "    spool.ack([entry.seq for entry in batch])\n"
        "assert read == 5000, read\n"
        "print(tracemalloc.get_traced_memory()[1])\n"
    )
    payload = os.urandom(4000)

    def work():
        spool = make(tmp_path)
        for n in range(5000):
            spool.append(1 + n % 5, payload, CONTEXT)

    wait_for(in_child(work))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10_000_000


# The format.


def test_the_format_is_what_it_says(tmp_path):
    """Segments outlive the version that wrote them: this one must always be readable."""
    created_ns = 1_790_000_000 * 10**9
    name = spool_frames.Name(4, created_ns, b"\xde\xad\xbe\xef")
    assert "4-01790000000000000000-deadbeef.seg1" == str(name)

    def frame(kind, number, context, payload):
        rest = struct.pack("<IIQHBx", len(payload), number, created_ns, context, kind) + payload
        return name.marker + struct.pack("<I", zlib.crc32(rest)) + rest

    home = tmp_path / "spool" / "1-1-00000000"
    home.mkdir(parents=True)
    (home / "lock").touch()
    content = [
        frame(2, 0, 7, b"context"),
        frame(1, 0, 7, b"done"),
        frame(1, 1, 7, b"waits"),
        frame(99, 0, 0, b"of a later version"),
        frame(3, 0, 0, struct.pack("<II", 0, 1)),
    ]
    (home / str(name)).write_bytes(b"".join(content))
    (entry,) = settle(make(tmp_path)).read(EVERYTHING, 10)
    assert (4, b"context", b"waits", created_ns) == entry[1:]


def test_runs_of_acknowledgements_are_bounded():
    """Four bytes can say four thousand million."""
    payload = struct.pack("<IIII", 5, 2**32 - 1, 1, 2**32 - 1)
    assert spool_frames.MAX_ENTRIES == sum(map(len, spool_frames.decode_acks(payload)))


def test_bounds_may_change(tmp_path):
    """A smaller cap takes effect at the next housekeeping, a shorter life as well."""
    spool = Spool(tmp_path / "spool", cap_bytes=1 << 20, segment_bytes=4_000)
    for _ in range(100):
        spool.append(2, b"x" * 300, b"context")
    spool.limit(cap_bytes=16_000, max_age_s=3600.0, sync_each_append=False)
    spool.tend()
    assert spool.pending().bytes <= 16_000
    assert sum(spool.counts.evicted) + sum(spool.pending().items) == 100
    spool.limit(cap_bytes=16_000, max_age_s=1e-9, sync_each_append=False)
    spool.tend()
    assert sum(spool.pending().items) == 0


def test_many_are_appended_as_one_by_one(tmp_path):
    """Over several segments and contexts, with what is too large among them."""
    spool = Spool(tmp_path / "spool", segment_bytes=2_000)
    entries = [(b"%d " % n + b"x" * (n % 7 * 50), b"context %d" % (n % 3)) for n in range(100)]
    entries.insert(50, (b"y" * (5 << 20), b"context"))
    seqs = spool.append_many(2, entries)
    assert [index for index, seq in enumerate(seqs) if seq is None] == [50]
    assert (spool.counts.appended[2], spool.counts.refused[2]) == (100, 1)
    found = {}
    while read := spool.read(1 << 20, 1000):
        found.update({entry.seq: (entry.payload, entry.context) for entry in read})
        spool.ack([entry.seq for entry in read])
    assert found == {seq: entry for seq, entry in zip(seqs, entries, strict=True) if seq}


def test_many_meet_the_cap_as_one_by_one(tmp_path):
    """The lowest priority gives way for them, and they are refused when nothing does."""
    spool = Spool(tmp_path / "spool", cap_bytes=20_000, segment_bytes=1_000)
    low = spool.append_many(1, [(b"x" * 300, b"context")] * 30)
    high = spool.append_many(4, [(b"x" * 300, b"context")] * 100)
    assert None not in low
    assert spool.counts.evicted[1] == 30
    assert spool.pending().bytes <= 20_000
    kept = spool.pending().items[4]
    assert kept + spool.counts.evicted[4] + spool.counts.refused[4] == len(high) == 100


def test_a_disk_that_fails_amid_many_refuses_and_counts(tmp_path):
    """What was appended before stays; the rest is refused, and nothing is torn."""
    disk = Disk()
    spool = Spool(tmp_path / "spool", disk=disk)
    assert None not in spool.append_many(2, [(b"before", b"context")] * 3)
    disk.write = lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken"))
    assert spool.append_many(2, [(b"lost", b"context")] * 5) == [None] * 5
    assert spool.counts.refused[2] == 5
    assert [entry.payload for entry in spool.read(1 << 20, 100)] == [b"before"] * 3
