# SPDX-License-Identifier: Apache-2.0
"""Whenever a process dies, and however much of its last write arrived: what was promised is there.

A kill keeps what `write` returned for. A power cut keeps what `sync` returned for, and of what
came after any beginning of each file.
"""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otel_briefing.telemetry.spool import RETRY_S, Spool
from otel_briefing.telemetry.spool_disk import Disk

EVERYTHING = 1 << 30


class Recorder(Disk):
    """Remember what was written where; fail when told to, after a part of a write."""

    def __init__(self):
        self.paths = {}
        self.writes = []  # path, bytes
        self.error = 0
        self.part = 0
        self.before_write = None

    def open_file(self, path, flags, mode=0o777):
        fd = super().open_file(path, flags, mode)
        self.paths[fd] = path
        return fd

    def write(self, fd, data):
        if self.before_write:
            self.before_write(self.paths[fd], data)
        if self.error:
            if not self.part:
                raise OSError(self.error, os.strerror(self.error))
            part, self.part = min(self.part, len(data) - 1), 0
            return os.write(fd, data[:part])
        return os.write(fd, data)


def reopen(root):
    """Return what a new process finds, and its spool."""
    spool = Spool(root)
    while spool.tend():
        pass
    assert not spool.pending().uncounted_bytes
    entries = []
    while batch := spool.read(EVERYTHING, 7):
        entries += batch
    assert len(entries) == sum(spool.pending().items)
    assert all(entry.context == b"context of " + entry.payload[:1] for entry in entries)
    return spool, [entry.payload for entry in entries]


def append(spool, number, priority=3, size=0, *, hold=False):
    payload = b"%d:%d " % (number % 3, number) + b"." * size
    context = b"context of " + payload[:1]
    return payload, spool.append(priority, payload, context, hold=hold)


def test_a_write_may_stop_at_every_byte(tmp_path):
    """At each write of a life, with each beginning of it on disk: nothing promised is missing."""
    disk = Recorder()
    root = tmp_path / "spool"
    spool = Spool(root, disk=disk, segment_bytes=160)
    images = []  # what is on disk, which path is being written, its bytes, what is promised
    promised, maybe = {}, set()

    def remember(path, data):
        files = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
        images.append((files, Path(path), data, set(promised), set(maybe)))

    disk.before_write = remember
    for number in range(6):
        payload, seq = append(spool, number, 2 + number % 2, size=number)
        promised[payload] = seq
        if number % 3 == 2:
            (payload, seq) = next(iter(promised.items()))
            del promised[payload]
            maybe = {payload}
            spool.ack([seq])
            maybe = set()
    tried = 0
    for number, (files, path, data, must, may) in enumerate(images):
        for length in range(len(data) + 1):
            copy = tmp_path / "copy" / f"{number}-{length}"
            for file, content in files.items():
                written = content + data[:length] if file == path else content
                target = copy / file.relative_to(tmp_path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(written)
            again, found = reopen(copy / "spool")
            assert must <= set(found)
            assert len(found) == len(set(found))
            new = set(found) - must - may
            assert len(new) <= (length == len(data))  # what arrived whole may come, too
            assert not sum(again.counts.corrupt)
            again.close()
            tried += 1
        shutil.rmtree(tmp_path / "copy")
    assert tried > 300


class Life(RuleBasedStateMachine):
    """A spool beside a model of it, through faults, kills and power cuts."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="spool-"))
        self.lives = 0
        self.number = 0

    @initialize()
    def begin(self):
        self.must = {}  # payload → sequence number, while it is known
        self.out = set()  # of these, payloads in our hands
        self.may = set()  # acknowledged, but a crash may bring them back
        self.synced = {}  # path → bytes that a power cut leaves
        self._start(self.folder / "0")

    def _start(self, root):
        self.root = root
        root.mkdir(exist_ok=True)
        self.disk = Recorder()
        self.now_s = 1000.0
        self.spool = Spool(root, disk=self.disk, segment_bytes=300, monotonic=lambda: self.now_s)

    @rule(
        priority=st.integers(1, 5),
        size=st.sampled_from([0, 3, 50, 400]),
        hold=st.booleans(),
        count=st.integers(1, 5),
    )
    def append(self, priority, size, hold, count):
        for _ in range(count):
            self.number += 1
            payload, seq = append(self.spool, self.number, priority, size, hold=hold)
            if seq is not None:
                self.must[payload] = seq
                if hold:
                    self.out.add(payload)

    @rule(items=st.integers(1, 6), size=st.sampled_from([1, 200, EVERYTHING]))
    def read(self, items, size):
        entries = self.spool.read(size, items)
        waiting = set(self.must) - self.out
        assert bool(entries) == bool(waiting)
        assert {entry.payload for entry in entries} <= waiting
        for entry in entries:
            self.must[entry.payload] = entry.seq
            self.out.add(entry.payload)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), way=st.sampled_from(["ack", "release", "reject"]))
    def settle(self, data, way):
        some = data.draw(st.sets(st.sampled_from(sorted(self.out)), min_size=1))
        seqs = [self.must[payload] for payload in some]
        self.out -= some
        if way == "release":
            self.spool.release(seqs)
            return
        if way == "ack":
            self.spool.ack(seqs)
        else:
            self.spool.reject(seqs, "refused")
        for payload in some:
            del self.must[payload]
        self.may |= some

    @rule()
    def tend(self):
        self.spool.tend()

    @rule()
    def sync(self):
        if self.spool.sync():
            self.synced = {path: path.stat().st_size for path in self.root.rglob("*.seg1")}
            self.synced_must = set(self.must)

    @rule(error=st.sampled_from([errno.EIO, errno.EROFS]), part=st.sampled_from([0, 1, 30]))
    def break_disk(self, error, part):
        self.disk.error, self.disk.part = error, part

    @rule()
    def mend_disk(self):
        self.disk.error = 0
        self.now_s += RETRY_S

    @rule(torn=st.binary(max_size=40))
    def kill(self, torn):
        """Die amid a write: all files are there, and one has some bytes more."""
        copy = self._copy()
        files = sorted(copy.rglob("*.seg1"))
        if files:
            with files[-1].open("ab") as file:
                file.write(torn)
        self._come_back(copy, set(self.must), counts_are_exact=True)

    @precondition(lambda self: self.synced)
    @rule(data=st.data())
    def cut_the_power(self, data):
        """Lose any part of what was not synced."""
        copy = self._copy()
        for path in sorted(copy.rglob("*.seg1")):
            size = path.stat().st_size
            safe = min(size, self.synced.get(self.root / path.relative_to(copy), 0))
            os.truncate(path, data.draw(st.integers(safe, size)))
        safe = self.synced_must & set(self.must)
        self.may |= set(self.must) - safe
        self._come_back(copy, safe, counts_are_exact=False)

    def _copy(self):
        self.lives += 1
        return Path(shutil.copytree(self.root, self.folder / str(self.lives), dirs_exist_ok=True))

    def _come_back(self, copy, must, *, counts_are_exact):
        old = self.spool
        self._start(copy)
        old.close()
        self.spool, found = reopen(copy)
        assert len(found) == len(set(found))
        assert must <= set(found)
        assert set(found) <= must | self.may
        if counts_are_exact:
            assert not sum(self.spool.counts.corrupt)
        self.spool.close()
        self._start(copy)
        self.spool.tend()
        self.must = dict.fromkeys(found)
        self.may -= set(found)
        self.out = set()
        self.synced = {}

    @invariant()
    def the_books_balance(self):
        if not hasattr(self, "spool"):
            return
        counts, pending = self.spool.counts, self.spool.pending()
        assert sum(pending.items) == len(self.must)
        gone = (counts.acked, counts.rejected, counts.evicted, counts.corrupt, counts.vanished)
        came = sum(counts.appended) + sum(counts.adopted)
        assert came == sum(map(sum, gone)) + sum(pending.items)
        on_disk = sum(path.stat().st_size for path in self.root.glob("*-*-*/*.seg1"))
        assert on_disk == pending.bytes

    def teardown(self):
        self.spool.close()
        shutil.rmtree(self.folder)


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
