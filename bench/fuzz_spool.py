# SPDX-License-Identifier: Apache-2.0
"""Mutate segments of the spool: nothing is raised, and no entry is lost that is still whole.

Every round, a dead process's directory holds intact and mutated segments. All entries of the intact
ones must come out; of those mutated in place, every entry whose bytes (and whose context's) are
untouched; and nothing that was never put in.
Usage: python bench/fuzz_spool.py [MUTATIONS] [--seed SEED]
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from otel_briefing.telemetry import spool_frames as frames
from otel_briefing.telemetry.spool import Spool

INTACT, MUTATED = 2, 20  # segments a round
NOW_NS = 1_790_000_000 * 10**9


def make_segment(rng, name, number):
    """Return the bytes of a segment, and of each entry its place and that of its context."""
    data, places, contexts, acked = b"", {}, {}, set()

    def add(kind, index, context, payload):
        nonlocal data
        start = len(data)
        data += frames.encode(name.marker, kind, index, NOW_NS, context, payload)
        return range(start, len(data))

    for index in range(rng.randrange(1, 25)):
        context = rng.randrange(3)
        if context not in contexts:
            contexts[context] = add(frames.CONTEXT, 0, context, b"context %d" % context)
        payload = b"%d/%d " % (number, index) + rng.randbytes(rng.randrange(60))
        places[payload] = (index, context, add(frames.ENTRY, index, context, payload))
        if rng.random() < 0.2:
            acked.add(payload)
            add(frames.ACK, 0, 0, frames.encode_acks([index]))
    return data, places, contexts, acked


def mutate(rng, data):
    """Return mutated bytes, and which bytes were touched; None when they have moved."""
    changed = bytearray(data)
    kind = rng.randrange(7)
    at = rng.randrange(len(data))
    many = min(len(data) - at, rng.choice((1, 2, 8, 40, 200)))
    if kind == 0:  # flip a bit
        changed[at] ^= 1 << rng.randrange(8)
        return bytes(changed), range(at, at + 1)
    if kind == 1:  # a block of noise or of zeros
        changed[at : at + many] = rng.choice((bytes(many), rng.randbytes(many)))
        return bytes(changed), range(at, at + many)
    if kind == 2:  # cut off
        return bytes(changed[:at]), range(at, len(data))
    if kind == 3:  # bytes are missing
        del changed[at : at + many]
    elif kind == 4:  # bytes are doubled
        changed[at:at] = changed[at : at + many]
    elif kind == 5:  # bytes come in between
        changed[at:at] = rng.randbytes(many)
    else:  # a stretch of the same file over another
        source = rng.randrange(len(data))
        piece = changed[source : source + many]
        changed[at : at + len(piece)] = piece
        del changed[len(data) :]
    return bytes(changed), None


def one_round(rng, root):
    """Return how many entries came out of how many segments."""
    home = root / "1-1-00000000"
    home.mkdir(parents=True)
    (home / "lock").touch()
    must, may = set(), set()
    for number in range(INTACT + MUTATED):
        name = frames.Name(rng.randint(1, 5), NOW_NS + number, rng.randbytes(4))
        data, places, contexts, acked = make_segment(rng, name, number)
        touched = range(0)
        if number >= INTACT:
            data, touched = mutate(rng, data)
        for payload, (_, context, place) in places.items():
            may.add((payload, b"context %d" % context))
            whole = touched is not None and all(
                at not in touched for part in (place, contexts[context]) for at in part
            )
            if whole and payload not in acked:
                must.add((payload, b"context %d" % context))
        (home / str(name)).write_bytes(data)
    spool = Spool(root, time_ns=lambda: NOW_NS + 1000)
    while spool.tend():
        pass
    entries = []
    while batch := spool.read(10_000, 50):
        entries += batch
        spool.ack([entry.seq for entry in batch])
    found = [(entry.payload, entry.context) for entry in entries]
    assert len(found) == len(set(found)), "an entry came out twice"
    assert must <= set(found), f"lost: {must - set(found)}"
    assert set(found) <= may, f"invented: {set(found) - may}"
    counts = spool.counts
    assert sum(counts.adopted) == sum(counts.acked) + sum(counts.corrupt), "not all is counted"
    spool.close()
    return len(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mutations", nargs="?", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    rng = random.Random(args.seed)
    began, delivered, done = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "spool"
        while done < args.mutations:
            delivered += one_round(rng, root)
            done += MUTATED
            shutil.rmtree(root)
    took_s = time.monotonic() - began
    print(
        f"{done:,} mutated segments beside {done * INTACT // MUTATED:,} intact ones: nothing"
        f" raised, nothing whole lost, {delivered:,} entries delivered, {took_s:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
