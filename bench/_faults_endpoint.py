# SPDX-License-Identifier: Apache-2.0
"""Faults of the receiver that answers: it is slow, refuses, resets, hangs, or is not trusted."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import endpoint as receiver
from _chaos import pause
from _chaos_judge import Row, come_to_rest, finish, judge, probe_flush, rejected_numbers
from _chaos_records import PROTOCOLS, TIMEOUTS_MS, is_poison
from endpoint import Endpoint

POISON_EVERY = 60
PARTIAL = 2


def _misbehaving(scene, name, behave, *, finish_how=None, fault_s=5.0, rate=200, **asked):
    protocol = asked.pop("protocol", None) or scene.rng.choice(PROTOCOLS)
    row = Row(f"{name}, {protocol}")
    with (
        Endpoint(protocol) as endpoint,
        scene.program(protocol, endpoint.url, **asked) as program,
    ):
        scene.start(program, rate)
        endpoint.behaviour = behave
        _flush_for(scene, row, program, endpoint, scene.lasting(fault_s, 3))
        endpoint.behaviour = receiver.ok()
        pause(0.5)
        finish(row, program, endpoint, **(finish_how or {}))
    row.expect(not row.dropped, "something was dropped")
    return row


def _flush_for(scene, row, program, endpoint, seconds):
    """Flush now and then for a while, with timeouts of all kinds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pause(scene.rng.uniform(0.1, 0.6))
        probe_flush(row, program, scene.rng.choice(TIMEOUTS_MS), endpoint)


def slow(scene):
    return _misbehaving(scene, "slow", receiver.slow(scene.rng.uniform(0.3, 1.5)))


def throttled(scene):
    behave = receiver.status(429, retry_after=scene.rng.choice((1, 2, 3)))
    return _misbehaving(scene, "429, Retry-After", behave)


def unavailable(scene):
    return _misbehaving(scene, "503", receiver.status(503))


def stumbling(scene):
    return _misbehaving(scene, "500", receiver.status(500))


def reset_before(scene):
    return _misbehaving(scene, "reset, not taken", receiver.reset())


def reset_after(scene):
    return _misbehaving(scene, "reset, taken", receiver.reset(accept=True))


def half(scene):
    return _misbehaving(scene, "half a response", receiver.half_response())


def hang(scene):
    return _misbehaving(scene, "hang", receiver.hang(), timeout_s=2)


def partial(scene):
    behave = receiver.partial(PARTIAL, "two too many")
    return _misbehaving(scene, "partial success", behave, finish_how={"by_number": False})


def moody(scene):
    """Each request meets another behaviour."""
    moods = (
        *(receiver.ok(), receiver.slow(0.2), receiver.status(503)),
        *(receiver.reset(), receiver.status(429, retry_after=0.2)),
    )

    def behave(request):
        return scene.rng.choice(moods)(request)

    return _misbehaving(scene, "moody", behave, fault_s=8)


def poison(scene):
    """Some records are refused: those and no others end in `rejected/`."""
    protocol = scene.rng.choice(PROTOCOLS)
    row = Row(f"poison (400), {protocol}")
    root = scene.folder / "spool"
    with (
        Endpoint(protocol) as endpoint,
        scene.program(protocol, endpoint.url, poison_every=POISON_EVERY) as program,
    ):
        refuse = receiver.refuse_if(lambda bodies: any("poison" in body for body in bodies))
        endpoint.behaviour = refuse
        scene.start(program, 200)
        _flush_for(scene, row, program, endpoint, scene.lasting(4, 3))
        endpoint.stop()  # so that what is refused comes out of the spool, too
        pause(scene.lasting(2))
        endpoint.start()
        account = come_to_rest(row, program)
        program.do("say", POISON_EVERY)
        done = probe_flush(row, program, 10_000)
        row.expect(not done, "force_flush is true, and a record was refused")
        account = come_to_rest(row, program)
        judge(row, program, account, endpoint.bodies())
        program.do("shutdown")
    bad = [n for n in program.numbers(account) if is_poison(n, POISON_EVERY)]
    kept = rejected_numbers(root)
    row.expect(sorted(kept) == bad, f"{len(bad)} are poison, {len(kept)} in rejected/")
    row.expect(not row.dropped, "something was dropped")
    return row


def untrusted(scene):
    """The receiver has the wrong certificate, and gets the right one later."""
    protocol = scene.rng.choice(PROTOCOLS)
    row = Row(f"TLS failure, mended, {protocol}")
    with (
        Endpoint(protocol, tls=True) as endpoint,
        Endpoint(protocol, tls=True) as other,
    ):
        trusted = scene.folder / "trusted.pem"
        shutil.copy(endpoint.certificate, trusted)
        pairs = [
            (other.certificate, endpoint.certificate),
            (other.private_key, endpoint.private_key),
        ]
        with scene.program(protocol, endpoint.url, certificate=str(trusted)) as program:
            scene.start(program, 200)
            _swap(endpoint, pairs)
            _flush_for(scene, row, program, endpoint, scene.lasting(4, 3))
            _swap(endpoint, pairs)
            # It is tried every half a minute by itself; who flushes tries at once.
            probe_flush(row, program, 5_000, endpoint)
            finish(row, program, endpoint)
    row.expect(not row.dropped and not row.rejected, "something was given up")
    return row


def _swap(endpoint, pairs):
    """Exchange files, and let the endpoint come back with what is there now."""
    endpoint.stop()
    for pair in pairs:
        first, second = (Path(path).read_bytes() for path in pair)
        Path(pair[0]).write_bytes(second)
        Path(pair[1]).write_bytes(first)
    endpoint.start()


ONE_BY_ONE = {
    "slow": slow,
    "429": throttled,
    "503": unavailable,
    "500": stumbling,
    "poison": poison,
    "reset-before": reset_before,
    "reset-after": reset_after,
    "half": half,
    "tls": untrusted,
    "partial": partial,
    "hang": hang,
    "moody": moody,
}
