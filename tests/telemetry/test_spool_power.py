# SPDX-License-Identifier: Apache-2.0
"""At every system call of a spool's life, a kill and a power cut: what was promised is there.

The file system here is a journaling one. A kill keeps all that was done, and any beginning of the
write that was under way. A power cut keeps what was on the medium when a sync returned; of what
came later it keeps any beginning: of the changes to folders in their order, and of each file on
its own, where the rest may be missing or be zeros.
"""

import errno
import os
import random
import shutil

import pytest

from otel_briefing.telemetry.spool import Spool
from otel_briefing.telemetry.spool_disk import Disk

EVERYTHING = 1 << 30
LEAST, COMMON, URGENT = 1, 3, 4


class Content:
    """What is in a file, and how much of it the medium has."""

    def __init__(self):
        self.data = b""
        self.safe = 0


class Medium(Disk):
    """Real files, and beside them what a power cut would leave; `at_step` before each change."""

    def __init__(self):
        self.journal = []  # changes to folders: what, path, and where to or what
        self.committed = 0  # how many of them the medium has
        self.files = {}  # path → Content
        self.open = {}  # descriptor → path
        self.error = 0
        self.syncs = 0
        self.names_go_along = False  # as with ext4 and XFS: the sync of a file takes its name along
        self.at_step = lambda _: None

    def _note(self, *change):
        self.journal.append(change)

    def open_file(self, path, flags, mode=0o777):
        if flags & os.O_CREAT:
            self.at_step(None)
        fd = super().open_file(path, flags, mode)
        self.open[fd] = path
        if path not in self.files and not os.path.isdir(path):  # noqa: PTH112
            self.files[path] = Content()
            self._note("create", path, self.files[path])
        return fd

    def write(self, fd, data):
        path = self.open[fd]
        self.at_step((path, data))
        written = super().write(fd, data)
        self.files[path].data += data[:written]
        return written

    def truncate(self, fd, size):
        self.at_step(None)
        super().truncate(fd, size)
        content = self.files[self.open[fd]]
        content.data = content.data[:size]
        content.safe = min(content.safe, size)

    def make_folder(self, path, mode=0o777):
        self.at_step(None)
        super().make_folder(path, mode)
        self._note("make", path, None)

    def remove_folder(self, path):
        self.at_step(None)
        super().remove_folder(path)
        self._note("remove", path, None)

    def rename(self, source, target):
        self.at_step(None)
        super().rename(source, target)
        self.files[target] = self.files.pop(source)
        self._note("rename", source, target)

    def unlink(self, path):
        self.at_step(None)
        super().unlink(path)
        del self.files[path]
        self._note("unlink", path, None)

    def sync_file(self, fd):
        self.at_step(None)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        content = self.files[self.open[fd]]
        content.safe = len(content.data)
        if self.names_go_along:
            self.committed = len(self.journal)
        self.syncs += 1

    def sync_folder(self, _path):
        self.at_step(None)
        self.committed = len(self.journal)

    def replay(self, count):
        """Return the folders, and the contents by path, after so many changes to folders."""
        folders, files = set(), {}
        for what, path, other in self.journal[:count]:
            if what == "make":
                folders.add(path)
            elif what == "remove":
                folders.discard(path)
            elif what == "create":
                files[path] = other
            elif what == "rename":
                files[other] = files.pop(path)
            else:
                del files[path]
        return folders, files


class Witness:
    """Try what a crash leaves, at each step of a life, against what was promised until then."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.root = folder / "spool"
        self.disk = Medium()
        self.disk.at_step = self.look
        self.chance = random.Random(seed)  # noqa: S311  # the same in every run
        self.must = set()  # appended, and not acknowledged
        self.may = set()  # an append or an acknowledgement of it is under way, or it may give way
        self.own = set()  # of this process, not of a dead one
        self.synced = set()
        self.ever = set()
        self.tried = {"kill": set(), "power": set()}
        self.number = 0
        self.spool = None

    def start(self, **settings):
        self.spool = Spool(self.root, disk=self.disk, segment_bytes=200, **settings)

    # A life.

    def append(self, priority=COMMON, size=0):
        self.number += 1
        payload = b"%d:%d " % (self.number % 2, self.number) + b"." * size
        self.ever.add(payload)
        self.own.add(payload)
        self.may.add(payload)
        seq = self.spool.append(priority, payload, b"context of " + payload[:1])
        assert seq is not None
        if priority != LEAST:  # such may give way at any time
            self.must.add(payload)
            self.may.discard(payload)
        self.look(None)
        return payload, seq

    def settle(self, done, finish):
        payloads = {payload for payload, _ in done}
        self.must -= payloads
        self.may |= payloads
        finish([seq for _, seq in done])
        self.may -= payloads
        self.look(None)

    def sync(self):
        assert self.spool.sync()
        self.synced |= self.must & self.own
        self.look(None)

    def read(self, items=1 << 20):
        return [(entry.payload, entry.seq) for entry in self.spool.read(EVERYTHING, items)]

    def hand_over(self):
        """End, and let another take what is left."""
        self.spool.close()
        self.own = set()
        self.start()
        while self.spool.tend():
            pass

    # The crashes.

    def look(self, write):
        path, data = write or (None, b"")
        for length in sorted({0, min(1, len(data)), len(data) // 2, max(0, len(data) - 1)}):
            self._kill(path, data[:length])
        journal = self.disk.journal
        for count in {
            self.disk.committed,
            self.chance.randint(self.disk.committed, len(journal)),
            len(journal),
        }:
            for keep in (lambda _: 0, lambda size: self.chance.randint(0, size), lambda size: size):
                for zeros in (False, True):
                    self._cut(count, keep, zeros, path, data)

    def _kill(self, path, torn):
        folders, files = self.disk.replay(len(self.disk.journal))
        image = {p: c.data + (torn if p == path else b"") for p, c in files.items()}
        self._try("kill", folders, image, self.must, self.must | self.may)

    def _cut(self, count, keep, zeros, path, data):
        folders, files = self.disk.replay(count)
        image = {}
        for one, content in files.items():
            whole = content.data + (data if one == path else b"")
            kept = content.safe + keep(len(whole) - content.safe)
            image[one] = whole[:kept] + bytes(len(whole) - kept if zeros else 0)
        self._try("power", folders, image, self.synced & self.must, self.ever)

    def _try(self, kind, folders, image, must, most):
        key = hash((frozenset(image.items()), frozenset(must), frozenset(most)))
        if key in self.tried[kind]:
            return
        self.tried[kind].add(key)
        copy = self.folder / "copy"
        copy.mkdir()
        for folder in folders:
            (copy / os.path.relpath(folder, self.root)).mkdir(parents=True, exist_ok=True)
        for path, content in image.items():
            target = copy / os.path.relpath(path, self.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        found = self._found(copy, kind)
        assert len(found) == len(set(found))
        assert must <= set(found) <= most
        shutil.rmtree(copy)

    def _found(self, root, kind):
        spool = Spool(root)
        while spool.tend():
            pass
        entries = spool.read(EVERYTHING, 1 << 20)
        assert all(entry.context == b"context of " + entry.payload[:1] for entry in entries)
        assert len(entries) == sum(spool.pending().items)
        assert kind == "power" or not sum(spool.counts.corrupt)
        spool.close()
        return [entry.payload for entry in entries]


@pytest.fixture
def witness(tmp_path):
    made = Witness(tmp_path, seed=1)
    yield made
    made.spool.close()
    assert len(made.tried["kill"]) > 20
    assert len(made.tried["power"]) > 20


def test_appended_acknowledged_and_synced(witness):
    """Segments begin, fill, and go when all of them is acknowledged; syncs lie in between."""
    witness.start()
    entries = [witness.append(COMMON + n % 2, size=7 * n) for n in range(6)]
    witness.sync()
    witness.settle(entries[:1], witness.spool.ack)
    entries += [witness.append() for _ in range(3)]
    witness.settle(entries[1:5], witness.spool.ack)
    witness.sync()
    witness.settle(entries[5:], witness.spool.ack)
    witness.append()


def test_adopted_and_acknowledged_there(witness):
    """Segments are renamed into another's folder, and the folder they come from is removed."""
    witness.start()
    entries = [witness.append(COMMON + n % 2) for n in range(5)]
    witness.settle(entries[:2], witness.spool.ack)
    witness.sync()
    witness.append()
    witness.hand_over()
    entries = witness.read()
    assert 4 == len(entries)
    witness.settle(entries[:1], witness.spool.ack)
    witness.append()
    witness.sync()
    witness.hand_over()
    witness.settle(witness.read(2), witness.spool.ack)


def test_what_gives_way_takes_nothing_else_along(witness):
    """Room is made by unlinking the least urgent; what is more urgent stays through all of it."""
    witness.start(cap_bytes=1_600)
    for _ in range(3):
        witness.append(URGENT)
        for _ in range(3):
            witness.append(LEAST, size=200)
        witness.sync()
    assert sum(witness.spool.counts.evicted)
    witness.spool.tend()


def test_rejected_ones_are_acknowledged_too(witness):
    """They are written down first; a crash in between brings them again."""
    witness.start()
    witness.append()
    witness.append(URGENT)
    witness.sync()
    witness.append()
    some = witness.read(2)
    witness.settle(some, lambda seqs: witness.spool.reject(seqs, "refused"))
    witness.append()


def test_an_append_that_waits_for_the_medium_survives_a_power_cut(witness):
    """With `sync_each_append` nothing else has to be called, where a file takes its name along."""
    witness.disk.names_go_along = True
    witness.start(sync_each_append=True)
    for _ in range(6):
        witness.append()
        witness.synced = set(witness.must)
        witness.look(None)


def test_a_sync_that_failed_is_not_forgotten(tmp_path):
    """The next one must not say that all is on the medium before it is."""
    disk = Medium()
    spool = Spool(tmp_path / "spool", disk=disk)
    spool.append(COMMON, b"payload", b"context")
    disk.error = errno.EIO
    assert not spool.sync()
    disk.error = 0
    assert spool.sync()
    assert disk.syncs == 1
    spool.close()
