# SPDX-License-Identifier: Apache-2.0
"""The thread that delivers: what is offered live first, then what the spool holds, oldest first.

It alone talks to the receiver. When that does not answer it waits, longer each time; what is
offered meanwhile goes to the spool, which is somebody else's work.
"""

from __future__ import annotations

import math
import random
import threading
import time
from _queue import SimpleQueue
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value

from otel_briefing.exceptions import WireError
from otel_briefing.telemetry import guard, threads
from otel_briefing.telemetry.otlp import join_request
from otel_briefing.telemetry.parcel import Item, Parcel, chunks, to_context, to_origin
from otel_briefing.telemetry.sender import Outcome
from otel_briefing.telemetry.spool import RETRY_S
from otel_briefing.telemetry.suspicion import Suspicion
from otel_briefing.telemetry.wakeup import Wakeup

if TYPE_CHECKING:
    from otel_briefing.telemetry.account import Tally
    from otel_briefing.telemetry.sender import Answer, Sender
    from otel_briefing.telemetry.spool import Entry, Spool

PATIENCE_S: Final = 0.25  # what is not delivered by then is better kept on disk
MAX_LIVE: Final = 8  # parcels
REPLAY_PER_S: Final = 2_000  # records, of what waits in the spool
REPLAY_BYTES: Final = 1 << 20
TEND_S: Final = 2.0
FORK_WAIT_S: Final = 0.25
FIRST_BACKOFF_S: Final = 0.25
LONGEST_BACKOFF_S: Final = 10.0
BARRED_S: Final = 30.0  # credentials and paths do not mend themselves
MAX_REFUSALS: Final = 64  # in a row: then all of it is bad, and is not taken apart any further


class Flush:
    """Somebody waits until all that was taken before is delivered."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.tried = False  # an attempt is under way that began after this
        self.complete = False
        self.done = threading.Event()


class Courier:
    """Deliver over one sender, from one thread. Every method is safe for any thread.

    `fsync_s` is the interval at which the spool is synced; infinite for never.
    """

    def __init__(self, sender: Sender, spool: Spool, tally: Tally) -> None:
        self._sender = sender
        self._spool = spool
        self._tally = tally
        self.fsync_s = math.inf
        self._forked = False
        self._forks = threading.local()  # two threads may fork at once
        self._begin()

    def _begin(self) -> None:
        self._sending = threads.new_lock()  # held over every attempt
        self._live: deque[Parcel] = deque()
        self._flushes: deque[Flush] = deque()
        self._wakeup = Wakeup(SimpleQueue)  # the C queue: see the thread
        self._failures = 0  # attempts in a row
        self._refusals = 0  # in a row
        self._retry_at = 0.0
        self._throttled = False  # the receiver has named that time itself
        self._replay_at = 0.0
        self._tend_at = 0.0
        self._sync_at = 0.0
        self._stop_at = math.inf
        self._ended = False
        self._busy_since = math.inf
        self._suspicion = Suspicion()
        self.trouble = ""  # why nothing can be delivered now
        self.trouble_since_ns = 0
        # A real one also under gevent: a forked child goes on with its parent's greenlets, and they
        # with its parent's connections. Those who wait for it may be greenlets.
        self._thread = threads.OwnThread(self._run)
        self._over = threading.Event()
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending: what comes goes to the spool
            self._over.set()

    def before_fork(self) -> None:
        """Let no attempt be under way; wait for that a little.

        gRPC may crash a child that was forked amid one, and a pool of connections be locked there.
        """
        self._forks.held = self._sending.acquire(timeout=FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if getattr(self._forks, "held", False):
            self._sending.release()

    def after_fork(self) -> None:
        """Begin anew in a forked child: what is under way is the parent's."""
        self._forked = True
        if self._stop_at == math.inf:
            self._begin()
            return
        self._over = threading.Event()  # somebody may have been inside the old one
        self._over.set()

    # Any thread.

    def offer(self, parcel: Parcel) -> float:
        """Take a parcel to be sent; return for how many seconds it is worth to wait for that."""
        self._live.append(parcel)
        self._wakeup.wake()
        if self._failures or self._ended or self._over.is_set():
            return 0.0
        busy_s = time.monotonic() - self._busy_since  # infinitely negative when it is not
        return max(0.0, PATIENCE_S - max(0.0, busy_s))

    def is_away(self, now: float) -> bool:
        """Tell whether the receiver takes nothing at this time, by the monotonic clock."""
        return self._failures > 0 or now - self._busy_since > PATIENCE_S

    @property
    def is_crowded(self) -> bool:
        """Whether as much waits for it in memory as should."""
        return len(self._live) > MAX_LIVE

    def withdraw(self, parcel: Parcel) -> None:
        """Forget a parcel that was not begun."""
        with suppress(ValueError):
            self._live.remove(parcel)

    def wake(self) -> None:
        """Look for work."""
        self._wakeup.wake()

    def flush(self, timeout_s: float) -> bool:
        """Try to deliver all of this process; false when an attempt fails or time runs out."""
        flush = Flush(self.lost)
        self._flushes.append(flush)
        self._wakeup.wake()
        if self._ended or self._over.is_set():
            return False
        flush.done.wait(max(0.0, timeout_s))
        return flush.complete

    @property
    def lost(self) -> int:
        """How many records will never be delivered."""
        counts, tally = self._spool.counts, self._tally
        by_us = (tally.rejected, tally.given_up, tally.too_large, tally.too_late)
        in_spool = (
            counts.rejected,
            counts.evicted,
            counts.expired,
            counts.corrupt,
            counts.vanished,
        )
        return sum(map(sum, by_us + in_spool))

    def stop(self, timeout_s: float) -> None:
        """Deliver what can be in that time, then end."""
        deadline = time.monotonic() + timeout_s
        self._stop_at = min(self._stop_at, deadline)
        self._wakeup.wake()
        if not self._thread.is_current():
            self._over.wait(max(0.0, deadline - time.monotonic()))

    # The thread.

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._over.set()

    def _work(self) -> None:
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        if self._forked:
            self._sender.renew()
        while self._stop_at == math.inf:
            self._wakeup.wait(self._is_due, self._pause_s())
            self._guarded_round()
        self._deliver_last()
        self._ended = True
        while self._live:
            parcel = self._live.popleft()
            self._finish(parcel, parcel.items, [])
        while self._flushes:
            self._flushes.popleft().done.set()

    def _deliver_last(self) -> None:
        """Try once more, and go on for as long as that succeeds and there is time."""
        if not self._throttled:
            self._failures, self._retry_at = 0, 0.0
        self._replay_at = 0.0
        while not self._failures and (self._live or self._spool.waiting()):
            now = time.monotonic()
            if now >= self._stop_at or (not self._live and now < self._replay_at):
                return
            self._guarded_round()

    def _guarded_round(self) -> None:
        try:
            self._round()
        except Exception:  # noqa: BLE001  # whatever it is, what can be delivered goes on
            self._failures += 1
            self._retry_at = time.monotonic() + LONGEST_BACKOFF_S
            guard.swallowed.add(__name__)

    def _is_due(self) -> bool:
        return self._pause_s() <= 0.0

    def _pause_s(self) -> float:
        """Return how long there is nothing to do; not positive when there is."""
        now = time.monotonic()
        at = min(self._tend_at, self._sync_at if self._spool.is_dirty else math.inf)
        if self._live:
            at = min(at, self._retry_at)
        if self._spool.holds_any():
            at = min(at, max(self._retry_at, self._replay_at))
        if self._stop_at < math.inf or any(not flush.tried for flush in list(self._flushes)):
            return 0.0
        return max(0.0, at - now)

    def _round(self) -> None:
        """Send once, if it is time; see to the spool."""
        flushes = list(self._flushes)
        hurry = any(not flush.tried for flush in flushes) and not self._throttled
        for flush in flushes:
            flush.tried = True
        now = time.monotonic()
        if hurry or now >= self._retry_at:
            if self._live:
                self._send_live()
            elif now >= self._replay_at and self._spool.holds_any():
                self._replay()
        self._answer(flushes)
        self._upkeep()

    def _answer(self, flushes: list[Flush]) -> None:
        """Answer those whose records are out, or cannot be."""
        out = not self._live and not self._spool.waiting()
        for flush in flushes:
            if out or self._failures:
                flush.complete = out and flush.lost == self.lost
                self._flushes.remove(flush)
                flush.done.set()

    def _upkeep(self) -> None:
        now = time.monotonic()
        if now >= self._tend_at:
            self._tend_at = now + (0.0 if self._spool.tend() else TEND_S)
        if now >= self._sync_at:
            self._sync_at = now + self.fsync_s
            if self.fsync_s < math.inf:
                self._spool.sync()

    # Sending.

    def _send_live(self) -> None:
        try:
            parcel = self._live.popleft()
        except IndexError:  # it was withdrawn
            return
        with parcel.lock:
            parcel.begun = True
            items = parcel.items
        failed, rejected = items, list[tuple[Item, str]]()
        try:
            failed, rejected = self._send(items)
        finally:
            self._finish(parcel, failed, rejected)

    def _finish(self, parcel: Parcel, failed: list[Item], rejected: list[tuple[Item, str]]) -> None:
        """Write down what became of a parcel. Whoever waits for it may spool its items until then.

        What failed and is not in the spool is left to the one who waits.
        """
        with parcel.lock:
            if parcel.abandoned:
                parcel.items = [item for item in parcel.items if item.seq is not None]
                rejected = [(item, why) for item, why in rejected if item.seq is not None]
            self._settle(parcel.items, failed, rejected)
            parcel.failed = [item for item in failed if item.seq is None]
            if parcel.last_try:
                for item in parcel.failed:
                    self._tally.too_large[item.priority] += 1
            parcel.settled.set()

    def _replay(self) -> None:
        stuck = self._suspicion.suspects
        limit = 2 if stuck else self._suspicion.limit
        entries = self._spool.read(min(REPLAY_BYTES, self._sender.max_bytes), limit)
        items = [item for entry in entries if (item := self._item_of(entry)) is not None]
        failed, rejected = items, list[tuple[Item, str]]()
        try:
            failed, rejected = self._send(items[::-1], alone=True) if stuck else self._send(items)
        finally:
            self._settle(items, failed, rejected)
        hurried = self._flushes or self._stop_at < math.inf
        pause_s = (len(items) - len(failed)) / REPLAY_PER_S if not hurried else 0.0
        self._replay_at = time.monotonic() + (pause_s if items else RETRY_S)

    def _item_of(self, entry: Entry) -> Item | None:
        try:
            return Item(entry.priority, to_origin(entry.context), entry.payload, entry.seq)
        except WireError as error:  # another version's, or somebody else's
            self._spool.reject([entry.seq], str(error))
            return None

    def _settle(
        self, items: list[Item], failed: list[Item], rejected: list[tuple[Item, str]]
    ) -> None:
        delivered = items
        if failed or rejected:
            others = {id(item) for item in failed} | {id(item) for item, _ in rejected}
            delivered = [item for item in items if id(item) not in others]
        self._spool.ack([item.seq for item in delivered if item.seq is not None])
        for item in delivered:
            if item.seq is None:
                self._tally.delivered[item.priority] += 1
        self._spool.release([item.seq for item in failed if item.seq is not None])
        for item, reason in rejected:
            self._reject(item, reason)

    def _reject(self, item: Item, reason: str) -> None:
        """Set aside, with its reason, what nobody will ever take."""
        seq = item.seq
        if seq is None:
            context = to_context(item.origin)
            seq = self._spool.append(item.priority, item.data, context, hold=True)
        if seq is None:
            self._tally.rejected[item.priority] += 1
        else:
            self._spool.reject([seq], reason)

    def _send(
        self, items: list[Item], *, alone: bool = False
    ) -> tuple[list[Item], list[tuple[Item, str]]]:
        """Send items; return those to be sent again, and those that are refused, with the reason.

        A request that is refused is halved, until what is wrong stands alone.
        """
        rejected: list[tuple[Item, str]] = []
        todo = list(chunks(items, 0 if alone else self._sender.max_bytes))[::-1]
        while todo:
            chunk = todo.pop()
            answer = self._attempt(chunk)
            if answer.repeated:
                self._tally.doubtful += len(chunk)
            if answer.outcome is Outcome.DELIVERED:
                self._recover(chunk, answer, rejected)
                continue
            poison = answer.vague and self._suspicion.is_poison(chunk)
            if answer.outcome in {Outcome.RETRY, Outcome.BARRED} and not poison:
                self._back_off(answer, len(chunk))
                return chunk + [item for rest in reversed(todo) for item in rest], rejected
            self._refusals += 1
            if len(chunk) > 1 and self._refusals <= MAX_REFUSALS:
                middle = len(chunk) // 2
                todo += [chunk[middle:], chunk[:middle]]
            else:
                rejected += [(item, answer.reason) for item in chunk]
        return [], rejected

    def _attempt(self, chunk: list[Item]) -> Answer:
        left_s = self._stop_at - time.monotonic()
        request = join_request((item.origin, item.data) for item in chunk)
        timeout_s = max(0.05, min(self._sender.timeout_s, left_s))
        self._busy_since = time.monotonic()
        try:
            with self._sending:
                return self._sender.send(request, len(chunk), timeout_s)
        finally:
            self._busy_since = math.inf

    def _recover(self, chunk: list[Item], answer: Answer, rejected: list[tuple[Item, str]]) -> None:
        self._failures = self._refusals = 0
        self._retry_at, self._throttled = 0.0, False
        self.trouble = ""
        self._suspicion.delivered(chunk)
        if answer.rejected > 0:
            # It does not say which: the least important are taken to be those.
            few = sorted(chunk, key=lambda item: item.priority)[: answer.rejected]
            reason = f"{answer.rejected} of {len(chunk)} refused (which is not said)"
            rejected += [(item, f"{reason}: {answer.reason}") for item in few]

    def _back_off(self, answer: Answer, count: int) -> None:
        if answer.doubtful:
            self._tally.doubtful += count
        if not self.trouble:
            self.trouble_since_ns = time.time_ns()
        self.trouble = answer.reason or answer.outcome.name
        longest_s = LONGEST_BACKOFF_S
        delay_s = min(longest_s, FIRST_BACKOFF_S * 2.0 ** min(self._failures, 30))
        if answer.outcome is Outcome.BARRED:
            delay_s = BARRED_S
        self._failures += 1
        delay_s *= random.uniform(0.5, 1.0)  # noqa: S311  # many processes fail at the same time
        self._throttled = answer.retry_after_s is not None
        if answer.retry_after_s is not None:
            delay_s = max(delay_s, answer.retry_after_s)
        elif self._stop_at == math.inf:
            self._sender.renew()
        self._retry_at = time.monotonic() + delay_s
