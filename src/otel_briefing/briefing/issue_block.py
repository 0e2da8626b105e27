# SPDX-License-Identifier: Apache-2.0
"""One issue on the page, in three lengths: a line, a few facts, everything that helps to act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_briefing.briefing import safety
from otel_briefing.briefing.builtin_checks import CHECKS
from otel_briefing.briefing.history import past
from otel_briefing.briefing.page import Lines, Page, in_app_frames, is_measured, seen_at
from otel_briefing.briefing.wording import (
    OUTGOING,
    clock,
    direction,
    many,
    millis,
    nanoseconds,
    share,
    span,
)
from otel_briefing.issues.causes import root_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Sequence

    from otel_briefing.events import Frame, Raised
    from otel_briefing.issues.model import Impact, Operation, SystemIssue

_FRAMES = 4
_IMPACTS = 3
_EVIDENCE = 4
_CHECKS = 6
_AROUND = 6  # lines of source to read on either side
_KINDS_STOP_AT = 100
_SECOND_NS = 1_000_000_000
_RATE_NEEDS_NS = 10 * _SECOND_NS  # below that a rate would be a guess
_SLOWER_THAN_NORMAL = 2.0
_HEX = frozenset("0123456789abcdef")


def issue_line(issue: SystemIssue, page: Page) -> str:
    """Say an issue in one line."""
    lines = page.lines()
    frame = seen_at(issue)
    at = f" at {lines.name(page.place(frame))}" if frame else ""
    root = root_of(issue, page.by_id)
    cause = f"; symptom of {lines.name(root.id)}" if root is not issue else ""
    lines.say(
        f"- {lines.name(issue.id)} · {lines.name(issue.priority)} · {issue.state.value} · "
        f"{_title(issue, page)}{at}; {many(issue.count, 'time')}{_last(issue, page)}"
        f"{_absent(issue)}{cause}"
    )
    return str(lines)


def _absent(issue: SystemIssue) -> str:
    return "" if issue.history.here else "; not seen in this run"


def issue_short(issue: SystemIssue, page: Page) -> str:
    """Say where, what and what first."""
    lines = _heading(issue, page, first=False)
    _count(issue, page, lines)
    _breaks_at(issue, page, lines)
    _exception(issue, lines, evidence=1)
    _readings(issue, page, lines)
    checks = list(_checks(issue, page, lines))[:1]
    if checks:
        lines.say(f"- Check: {checks[0]}")
    return str(lines)


_UNCAUGHT = {
    "main": "the main thread",
    "thread": "a thread, which ended with it",
    "task": "an asyncio task, which ended with it",
    "unraisable": "a finalizer or a callback",
    "excepthook": "code that shows exceptions by `sys.excepthook` and goes on",
}


def issue_full(issue: SystemIssue, page: Page, *, first: bool = False) -> str:
    """Say everything that helps to act."""
    lines = _heading(issue, page, first=first)
    _impact(issue, page, lines)
    _count(issue, page, lines)
    _before(issue, page, lines)
    _slow(issue, page, lines)
    _breaks_at(issue, page, lines)
    _exception(issue, lines, evidence=_EVIDENCE)
    _logged_at(issue, page, lines)
    _advice(issue, page, lines)
    _examples(issue, page, lines)
    lines.say(f"- Fixed when: {fixed_when(issue, page, lines)}")
    return str(lines)


def _title(issue: SystemIssue, page: Page) -> str:
    service = safety.identifier(issue.service) if issue.service else None
    title = page.title(issue)
    return f"{service}: {title}" if service and not title.startswith(service) else title


def _heading(issue: SystemIssue, page: Page, *, first: bool) -> Lines:
    lines = page.lines()
    start = " (start here)" if first else ""
    lines.say(
        f"## {lines.name(issue.id)} · {lines.name(issue.priority)} · {issue.state.value} · "
        f"{_title(issue, page)}{start}"
    )
    return lines


def _last(issue: SystemIssue, page: Page) -> str:
    return f", last {page.clock(issue.last_seen)}" if issue.last_seen else ""


def _impact(issue: SystemIssue, page: Page, lines: Lines) -> None:
    parts = []
    for impact in issue.impacts[:_IMPACTS]:
        of = f"{lines.name(impact.service)} " if impact.service != issue.service else ""
        parts.append(f"{of}{lines.name(impact.operation)} {_fares(impact)}")
    if len(issue.impacts) > _IMPACTS:
        parts.append(f"{many(len(issue.impacts) - _IMPACTS, 'more operation')}")
    if issue.symptom_ids:
        parts.append("drags down " + ", ".join(map(lines.name, issue.symptom_ids[:_IMPACTS])))
    if issue.cause_id:
        parts.append(f"a symptom of {lines.name(issue.cause_id)}: start there")
    if issue.uncaught:
        ended = issue.uncaught == "main" and page.snapshot.run.ending is not None
        where = _UNCAUGHT.get(issue.uncaught.partition(" ")[0], "somewhere")
        parts.append(f"nobody caught it in {where}" + ("; it ended the program" if ended else ""))
    if parts:
        run = "in this run: " if issue.impacts else ""
        lines.say(f"- Impact: {run}{'; '.join(parts)}")


def _fares(impact: Impact) -> str:
    if not impact.failed:
        part = share(impact.affected, impact.tried)
        return f"{impact.affected:,} of {impact.tried:,} ran into this ({part}), none failed"
    ran = f", {impact.affected:,} ran into this" if impact.affected != impact.failed else ""
    part = share(impact.failed, impact.tried)
    return f"{impact.failed:,} of {impact.tried:,} failed ({part}){ran}"


def _count(issue: SystemIssue, page: Page, lines: Lines) -> None:
    if is_measured(issue):
        _measured(issue, page, lines)
        return
    first, last = issue.first_seen, issue.last_seen
    if first is None or last is None:
        lines.say(f"- Count: {issue.count:,}")
        return
    if issue.count == 1:
        lines.say(f"- Count: 1, at {page.clock(first)}")
        return
    lasted = nanoseconds(last) - nanoseconds(first)
    known = issue.rate_per_minute > 0 and lasted >= _RATE_NEEDS_NS
    rate = f", {issue.rate_per_minute:,.1f} a minute" if known else ""
    within = f"in {span(lasted)}" if lasted >= _SECOND_NS else "within one second"
    word = direction(issue.trend)
    minutes = ", ".join(f"{count:,}" for count in issue.trend[-6:])
    trend = f", {word} ({minutes} in the last whole minutes)" if word else ""
    lines.say(
        f"- Count: {issue.count:,} {within}{rate}{trend}; "
        f"first {page.clock(first)}, last {page.clock(last)}{_since(issue, page, last)}"
    )


def _measured(issue: SystemIssue, page: Page, lines: Lines) -> None:
    """Say the latest figures, and where what they speak of is made."""
    at = f", last {page.clock(issue.last_seen)}" if issue.last_seen else ""
    lines.say(f"- Measured {many(issue.count, 'time')}{at}:")
    lines.quote(issue.description)
    if issue.call_site is not None:
        made = page.frame(issue.call_site, lines) + page.source(issue.call_site)
        lines.say(f"- Made at: {made}")


def _since(issue: SystemIssue, page: Page, last: dt.datetime) -> str:
    if not issue.over:
        return ""
    return f"; it has stopped, {span(page.snapshot.at_ns - nanoseconds(last))} ago"


def _before(issue: SystemIssue, page: Page, lines: Lines) -> None:
    """Say what is remembered: earlier runs with it, and what changed since one without failures."""
    if said := past(issue, page.snapshot.at_ns):
        lines.say(f"- Before: {said}")
    if issue.changes:
        lines.say("- Changed since the last good run:")
        for change in issue.changes:
            lines.quote(change)


def _slow(issue: SystemIssue, page: Page, lines: Lines) -> None:
    if issue.category != "Latency":
        return
    names = {(impact.service, impact.operation) for impact in issue.impacts}
    own = [o for o in page.snapshot.operations if (o.service, o.name) in names]
    if own:
        lines.say("- Slow: " + "; ".join(_pace(o, lines) for o in own[:_IMPACTS]))
    mine = [o for o in page.snapshot.operations if o.service == issue.service and o not in own]
    calls = [o for o in mine if o.kind in OUTGOING and not _is_about(issue, o)]
    late = [o for o in calls if 0 < o.normal_p95_ms * _SLOWER_THAN_NORMAL < o.p95_ms]
    late.sort(key=lambda o: -o.p95_ms)
    if late:
        said = "; ".join(_pace(o, lines) for o in late[:_IMPACTS])
        lines.say(f"- Outgoing calls that became slow too: {said}")


def _is_about(issue: SystemIssue, operation: Operation) -> bool:
    name = issue.title.partition(": ")[2].rstrip("…")
    return bool(name) and operation.name.startswith(name)


def _pace(operation: Operation, lines: Lines) -> str:
    normal = f", normally {millis(operation.normal_p95_ms)}" if operation.normal_p95_ms else ""
    return (
        f"{lines.name(operation.name)} p95 {millis(operation.p95_ms)}{normal}, "
        f"p50 {millis(operation.p50_ms)} ({many(operation.tried, 'call')}, "
        f"{operation.failed:,} failed)"
    )


def _breaks_at(issue: SystemIssue, page: Page, lines: Lines) -> None:
    own = in_app_frames(issue)
    root = issue.site.root if issue.site else None
    frames = root.frames if root else ()
    raised = root is not None and bool(root.type)
    if own:
        path = page.frame(own[0], lines) + page.source(own[0])
        path += "".join(f" ← {page.frame(frame, lines)}" for frame in own[1:_FRAMES])
        more = f" ← {len(own) - _FRAMES} more" if len(own) > _FRAMES else ""
        inner = ""
        if raised and not frames[0].in_app:
            inner = f"; raised in library code that it called: {_library(frames[0], lines)}"
        elif not raised and (called := _called_by(own[0], frames)):
            inner = f"; it waits in {_library(called, lines)}"
        lines.say(f"- {'Breaks' if raised else 'Called'} at: {path}{more}{inner}")
    elif frames:
        lines.say(
            f"- Breaks at: library code {_library(frames[0], lines)}; "
            "no frame of your own code is on the stack"
        )
    elif issue.call_site is None:
        frame = seen_at(issue)
        if frame is not None:
            lines.say(f"- Seen at: {page.frame(frame, lines)}{page.source(frame)}")


def _called_by(frame: Frame, frames: tuple[Frame, ...]) -> Frame | None:
    """Return what `frame` called, of a stack from the innermost frame outwards."""
    at = frames.index(frame) if frame in frames else 0
    return frames[at - 1] if at else None


def _library(frame: Frame, lines: Lines) -> str:
    return f"{lines.name(f'{frame.file}:{frame.line}')} {lines.name(frame.function)}"


def _exception(issue: SystemIssue, lines: Lines, *, evidence: int) -> None:
    if is_measured(issue):
        return
    texts = [text for text in _texts(issue) if not lines.holds(text)]
    kinds = ""
    if issue.count > 1:
        number = "100 or more" if issue.message_kinds >= _KINDS_STOP_AT else issue.message_kinds
        same = issue.message_kinds <= 1
        chained = issue.site is not None and len(issue.site.chain) > 1
        once = "the same text each time" if not chained else "the root's text is the same each time"
        kinds = once if same else f"{number} different texts"
    if issue.site is not None and issue.site.root.type:
        chain = lines.name(issue.site.root.type)
        for raised in issue.site.chain[1:_FRAMES]:
            chain += f", then {lines.name(raised.type)} because of it"
        lines.say(f"- Exception: {chain}{'; ' + kinds if kinds else ''}")
    elif texts:
        lines.say(f"- Says: {kinds}" if kinds else "- Says:")
    for text in texts[:evidence]:
        lines.quote(text)


def _texts(issue: SystemIssue) -> Iterator[str]:
    """Yield distinct texts: the chain's, root first, then messages latest first, then examples."""
    said: list[str] = []
    chain = issue.site.chain if issue.site else ()
    later = [*reversed(issue.messages), *(e.text for e in issue.exemplars)]
    if not chain and not any(later):
        later = [issue.description]
    for text in (*map(_raised_text, chain), *later):
        plain = safety.clean(text).strip()
        if plain and not any(plain in other for other in said):
            said.append(plain)
            yield text


def _raised_text(raised: Raised) -> str:
    return f"{raised.short_type}: {raised.message}" if raised.message else ""


def _logged_at(issue: SystemIssue, page: Page, lines: Lines) -> None:
    if issue.call_site is None or not (issue.template or issue.logger):
        return  # nothing was logged: a stack that was taken for another reason
    template = page.template(issue)
    shown = f" {safety.literal(safety.scrub(template))}" if template else ""
    logger = f" (logger {lines.name(issue.logger)})" if issue.logger else ""
    lines.say(f"- Logged at: {page.frame(issue.call_site, lines)}{shown}{logger}")
    if issue.site is not None and issue.site.root.type:
        raised = {link.message for link in issue.site.chain}
        said = next((e.text for e in reversed(issue.exemplars) if e.text not in raised), "")
        if said:
            lines.quote(said, 200)


def _advice(issue: SystemIssue, page: Page, lines: Lines) -> None:
    _readings(issue, page, lines)
    if not issue.readings:
        lines.say(f"- Reading: {_what_is_sure(issue, lines)}")
    checks = list(_checks(issue, page, lines))[:_CHECKS]
    about = f" (about {issue.estimated_time} min)" if issue.estimated_time > 0 else ""
    if checks:
        numbered = " ".join(f"{n}. {_stopped(check)}" for n, check in enumerate(checks, 1))
        lines.say(f"- Check: {numbered}{about}")
    if issue.not_a_fix:
        lines.say(f"- Not a fix: {_stopped(safety.quiet(issue.not_a_fix))}")
    link = safety.url(issue.link) if issue.link else None
    if link:
        lines.say(f"- About this failure: {link}")


def _readings(issue: SystemIssue, page: Page, lines: Lines) -> None:
    for reading in issue.readings:
        wrong = f" Wrong if {safety.quiet(reading.wrong_if)}" if reading.wrong_if else ""
        called = f" Called at {page.frame(reading.frame, lines)}" if reading.frame else ""
        called += f" ← {page.frame(reading.caller, lines)}" if reading.caller else ""
        called += "." if called else ""
        call = lines.name(reading.call) if reading.call else "this call"
        text = _stopped(safety.quiet(reading.text.replace("{call}", call))) + called
        lines.say(f"- Reading: {reading.confidence.value} {text}{wrong and _stopped(wrong)}")


def _what_is_sure(issue: SystemIssue, lines: Lines) -> str:
    where = " Where: PROVEN by the stack." if in_app_frames(issue) else ""
    if issue.pattern:
        known = f"a known failure, recognised by its text (pattern {lines.name(issue.pattern)})."
        return f"{known}{where} What led to it: not visible from here."
    return f"cause not visible from here; what happened is in the evidence.{where}"


def _stopped(text: str) -> str:
    return text if text.endswith((".", "?", "!", "…")) else f"{text}."


def _checks(issue: SystemIssue, page: Page, lines: Lines) -> Iterator[str]:
    frame = seen_at(issue)
    if frame is not None:
        told = next((reading for reading in issue.readings if reading.frame), None)
        found = [frame, told.frame, told.caller] if told else [frame]
        apart = [f for n, f in enumerate(found) if f and not _near(f, found[:n])]
        yield "read " + " and ".join(_around(f, page, lines) for f in apart)
    for action in issue.suggested_actions:
        yield safety.quiet(_filled(action, issue, page))
    if issue.suggested_actions:
        return
    known = CHECKS.get(issue.site.root.short_type) if issue.site else None
    if frame is not None and page.source(frame).startswith(" `src raise"):
        known = "that line raises on purpose: read the condition that leads to it"
    if known:
        yield known
    if issue.message_kinds > 1:
        yield "compare the different texts: what varies in them says which input it is"
    failing = next((e.trace_id for e in issue.exemplars if _is_trace(e.trace_id)), "")
    if failing and _is_trace(issue.passing_trace):
        yield "compare the failing trace with the passing one: the first span that differs"
    elif frame is not None and not known:
        yield "find what the values in that line are when it fails, and where they come from"


def _filled(action: str, issue: SystemIssue, page: Page) -> str:
    """Put what is known into the commands of a check: the process, and whom the call went to."""
    host, _, port = (safety.shell_word(part) for part in issue.peer.rpartition(":"))
    if host and port:
        action = action.replace("HOST PORT", f"{host} {port}")
    return action.replace("/proc/PID/", f"/proc/{page.process_of(issue.service).pid}/")


def _near(frame: Frame, others: Sequence[Frame | None]) -> bool:
    """Tell whether reading around one of `others` shows `frame` too."""
    same = (other for other in others if other and other.file == frame.file)
    return any(abs(other.line - frame.line) <= _AROUND for other in same)


def _around(frame: Frame, page: Page, lines: Lines) -> str:
    place = page.place(frame).rpartition(":")[0]
    start, end = max(1, frame.line - _AROUND), frame.line + _AROUND
    return lines.name(f"{place}:{start}-{end}")


def _is_trace(trace_id: str) -> bool:
    return len(trace_id) == 32 and _HEX.issuperset(trace_id)  # noqa: PLR2004 - hex digits of a trace


def _examples(issue: SystemIssue, page: Page, lines: Lines) -> None:
    failing = next((e for e in reversed(issue.exemplars) if _is_trace(e.trace_id)), None)
    parts = []
    if failing is not None:
        at = clock(failing.time_ns, page.snapshot.at_ns, millis=True)
        word = "slow" if issue.category == "Latency" else "failing"
        parts.append(f"{word} trace {failing.trace_id} {at}")
    if _is_trace(issue.passing_trace):
        parts.append(f"passing trace {issue.passing_trace}")
    if parts:
        lines.say(f"- Examples: {' · '.join(parts)}")


def fixed_when(issue: SystemIssue, page: Page, lines: Lines) -> str:
    """Say what would show that the issue is gone."""
    if is_measured(issue):
        return (
            "the same traffic runs after your change for minutes longer than this took to show "
            "after the start, and it is measured no more"
        )
    word = safety.shell_word(issue.id)
    ask = f"`otel-briefing verify {word}` says FIXED: " if word else ""
    return ask + _gone_when(issue, page, lines)


def _gone_when(issue: SystemIssue, page: Page, lines: Lines) -> str:
    quiet = "silence alone proves nothing"
    if issue.uncaught == "main" and page.snapshot.run.ending is not None:
        return "the program starts again and runs past this line; a page without this is no proof"
    if issue.category == "Latency":
        for operation in page.snapshot.operations:
            same = any(
                (i.service, i.operation) == (operation.service, operation.name)
                for i in issue.impacts
            )
            if same and operation.normal_p95_ms:
                normal = millis(operation.normal_p95_ms)
                return (
                    f"{lines.name(operation.name)} is back near p95 {normal} over as many calls "
                    f"after your change; {quiet}"
                )
        what = lines.name(issue.impacts[0].operation) if issue.impacts else "the call"
        return f"{what} is fast again over as many calls after your change; {quiet}"
    if issue.impacts:
        return (
            f"{lines.name(issue.impacts[0].operation)} succeeds again (N of N) with no new "
            f"occurrence after your change; {quiet}"
        )
    return f"the same code runs again with no new occurrence after your change; {quiet}"
