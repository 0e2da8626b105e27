# SPDX-License-Identifier: Apache-2.0
"""One issue on the page, in three lengths: a line, a few facts, everything that helps to act."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_briefing.briefing import safety
from otel_briefing.briefing.builtin_checks import CHECKS
from otel_briefing.briefing.history import past
from otel_briefing.briefing.page import (
    Lines,
    Page,
    in_app_frames,
    is_measured,
    seen_at,
    told_of,
)
from otel_briefing.briefing.wording import (
    OUTGOING,
    clock,
    direction,
    joined,
    many,
    millis,
    nanoseconds,
    share,
    span,
)
from otel_briefing.issues.causes import root_of
from otel_briefing.language import phrase, say, shown

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
    at = say(" at {place}", place=lines.name(page.place(frame))) if frame else ""
    root = root_of(issue, page.by_id)
    cause = say("; symptom of {cause}", cause=lines.name(root.id)) if root is not issue else ""
    lines.say(
        f"- {lines.name(issue.id)} · {lines.name(issue.priority)} · {issue.state.value} · "
        f"{_title(issue, page)}{at}; {many(issue.count, 'time')}{_last(issue, page)}"
        f"{_absent(issue)}{cause}"
    )
    return str(lines)


def _absent(issue: SystemIssue) -> str:
    return "" if issue.history.here else say("; not seen in this run")


def issue_short(issue: SystemIssue, page: Page) -> str:
    """Say where, what and what first."""
    lines = _heading(issue, page, first=False)
    _count(issue, page, lines)
    _breaks_at(issue, page, lines)
    _exception(issue, lines, evidence=1)
    _readings(issue, page, lines)
    checks = list(_checks(issue, page, lines))[:1]
    if checks:
        lines.say(say("- Check: {check}", check=checks[0]))
    return str(lines)


_UNCAUGHT = {
    "main": phrase("the main thread"),
    "thread": phrase("a thread, which ended with it"),
    "task": phrase("an asyncio task, which ended with it"),
    "unraisable": phrase("a finalizer or a callback"),
    "excepthook": phrase("code that shows exceptions by `sys.excepthook` and goes on"),
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
    lines.say(say("- Fixed when: {gone}", gone=fixed_when(issue, page, lines)))
    return str(lines)


def _title(issue: SystemIssue, page: Page) -> str:
    service = safety.identifier(issue.service) if issue.service else None
    title = page.title(issue)
    return f"{service}: {title}" if service and not title.startswith(service) else title


def _heading(issue: SystemIssue, page: Page, *, first: bool) -> Lines:
    lines = page.lines()
    start = say(" (start here)") if first else ""
    lines.say(
        f"## {lines.name(issue.id)} · {lines.name(issue.priority)} · {issue.state.value} · "
        f"{_title(issue, page)}{start}"
    )
    return lines


def _last(issue: SystemIssue, page: Page) -> str:
    return say(", last {last}", last=page.clock(issue.last_seen)) if issue.last_seen else ""


def _impact(issue: SystemIssue, page: Page, lines: Lines) -> None:
    parts = []
    for impact in issue.impacts[:_IMPACTS]:
        of = f"{lines.name(impact.service)} " if impact.service != issue.service else ""
        parts.append(f"{of}{lines.name(impact.operation)} {_fares(impact)}")
    if len(issue.impacts) > _IMPACTS:
        parts.append(f"{many(len(issue.impacts) - _IMPACTS, 'more operation')}")
    if issue.symptom_ids:
        symptoms = ", ".join(map(lines.name, issue.symptom_ids[:_IMPACTS]))
        parts.append(say("drags down {symptoms}", symptoms=symptoms))
    if issue.cause_id:
        parts.append(say("a symptom of {cause}: start there", cause=lines.name(issue.cause_id)))
    if issue.uncaught:
        ended = issue.uncaught == "main" and page.snapshot.run.ending is not None
        where = shown(_UNCAUGHT.get(issue.uncaught.partition(" ")[0], phrase("somewhere")))
        parts.append(
            say("nobody caught it in {where}", where=where)
            + (say("; it ended the program") if ended else "")
        )
    if parts:
        run = say("in this run: ") if issue.impacts else ""
        lines.say(say("- Impact: {run}{parts}", run=run, parts="; ".join(parts)))


def _fares(impact: Impact) -> str:
    if not impact.failed:
        part = share(impact.affected, impact.tried)
        return say(
            "{affected:,} of {tried:,} ran into this ({part}), none failed",
            affected=impact.affected,
            tried=impact.tried,
            part=part,
        )
    ran = (
        say(", {affected:,} ran into this", affected=impact.affected)
        if impact.affected != impact.failed
        else ""
    )
    part = share(impact.failed, impact.tried)
    return say(
        "{failed:,} of {tried:,} failed ({part}){ran}",
        failed=impact.failed,
        tried=impact.tried,
        part=part,
        ran=ran,
    )


def _count(issue: SystemIssue, page: Page, lines: Lines) -> None:
    if is_measured(issue):
        _measured(issue, page, lines)
        return
    first, last = issue.first_seen, issue.last_seen
    if first is None or last is None:
        lines.say(say("- Count: {count:,}", count=issue.count))
        return
    if issue.count == 1:
        lines.say(say("- Count: 1, at {first}", first=page.clock(first)))
        return
    lasted = nanoseconds(last) - nanoseconds(first)
    known = issue.rate_per_minute > 0 and lasted >= _RATE_NEEDS_NS
    rate = say(", {rate:,.1f} a minute", rate=issue.rate_per_minute) if known else ""
    within = (
        say("in {span}", span=span(lasted)) if lasted >= _SECOND_NS else say("within one second")
    )
    word = direction(issue.trend)
    minutes = ", ".join(f"{count:,}" for count in issue.trend[-6:])
    trend = (
        say(", {trend} ({minutes} in the last whole minutes)", trend=shown(word), minutes=minutes)
        if word
        else ""
    )
    lines.say(
        say(
            "- Count: {count:,} {within}{rate}{trend}; first {first}, last {last}{since}",
            count=issue.count,
            within=within,
            rate=rate,
            trend=trend,
            first=page.clock(first),
            last=page.clock(last),
            since=_since(issue, page, last),
        )
    )


def _measured(issue: SystemIssue, page: Page, lines: Lines) -> None:
    """Say the latest figures, and where what they speak of is made."""
    lines.say(
        say("- Measured {times}{at}:", times=many(issue.count, "time"), at=_last(issue, page))
    )
    lines.quote(told_of(issue, issue.description))
    if issue.call_site is not None:
        made = page.frame(issue.call_site, lines) + page.source(issue.call_site)
        lines.say(say("- Made at: {made}", made=made))


def _since(issue: SystemIssue, page: Page, last: dt.datetime) -> str:
    if not issue.over:
        return ""
    return say("; it has stopped, {span} ago", span=span(page.snapshot.at_ns - nanoseconds(last)))


def _before(issue: SystemIssue, page: Page, lines: Lines) -> None:
    """Say what is remembered: earlier runs with it, and what changed since one without failures."""
    if said := past(issue, page.snapshot.at_ns):
        lines.say(say("- Before: {said}", said=said))
    if issue.changes:
        lines.say(say("- Changed since the last good run:"))
        for change in issue.changes:
            lines.quote(shown(change))


def _slow(issue: SystemIssue, page: Page, lines: Lines) -> None:
    if issue.category != "Latency":
        return
    names = {(impact.service, impact.operation) for impact in issue.impacts}
    own = [o for o in page.snapshot.operations if (o.service, o.name) in names]
    if own:
        said = "; ".join(_pace(o, lines) for o in own[:_IMPACTS])
        lines.say(say("- Slow: {said}", said=said))
    mine = [o for o in page.snapshot.operations if o.service == issue.service and o not in own]
    calls = [o for o in mine if o.kind in OUTGOING and not _is_about(issue, o)]
    late = [o for o in calls if 0 < o.normal_p95_ms * _SLOWER_THAN_NORMAL < o.p95_ms]
    late.sort(key=lambda o: -o.p95_ms)
    if late:
        said = "; ".join(_pace(o, lines) for o in late[:_IMPACTS])
        lines.say(say("- Outgoing calls that became slow too: {said}", said=said))


def _is_about(issue: SystemIssue, operation: Operation) -> bool:
    name = issue.title.partition(": ")[2].rstrip("…")
    return bool(name) and operation.name.startswith(name)


def _pace(operation: Operation, lines: Lines) -> str:
    normal = (
        say(", normally {normal}", normal=millis(operation.normal_p95_ms))
        if operation.normal_p95_ms
        else ""
    )
    return say(
        "{name} p95 {p95}{normal}, p50 {p50} ({calls}, {failed:,} failed)",
        name=lines.name(operation.name),
        p95=millis(operation.p95_ms),
        normal=normal,
        p50=millis(operation.p50_ms),
        calls=many(operation.tried, "call"),
        failed=operation.failed,
    )


def _breaks_at(issue: SystemIssue, page: Page, lines: Lines) -> None:
    own = in_app_frames(issue)
    root = issue.site.root if issue.site else None
    frames = root.frames if root else ()
    raised = root is not None and bool(root.type)
    if own:
        path = page.frame(own[0], lines) + page.source(own[0])
        path += "".join(f" ← {page.frame(frame, lines)}" for frame in own[1:_FRAMES])
        more = say(" ← {more} more", more=len(own) - _FRAMES) if len(own) > _FRAMES else ""
        inner = ""
        if raised and not frames[0].in_app:
            inner = say(
                "; raised in library code that it called: {library}",
                library=_library(frames[0], lines),
            )
        elif not raised and (called := _called_by(own[0], frames)):
            inner = say("; it waits in {library}", library=_library(called, lines))
        lines.say(
            say("- Breaks at: {path}", path=f"{path}{more}{inner}")
            if raised
            else say("- Called at: {path}", path=f"{path}{more}{inner}")
        )
    elif frames:
        lines.say(
            say(
                "- Breaks at: library code {library}; no frame of your own code is on the stack",
                library=_library(frames[0], lines),
            )
        )
    elif issue.call_site is None:
        frame = seen_at(issue)
        if frame is not None:
            lines.say(
                say(
                    "- Seen at: {frame}{source}",
                    frame=page.frame(frame, lines),
                    source=page.source(frame),
                )
            )


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
    kinds = _kinds(issue)
    if issue.site is not None and issue.site.root.type:
        chain = lines.name(issue.site.root.type)
        for raised in issue.site.chain[1:_FRAMES]:
            chain += say(", then {type} because of it", type=lines.name(raised.type))
        lines.say(say("- Exception: {chain}", chain=chain + (f"; {kinds}" if kinds else "")))
    elif texts:
        lines.say(say("- Says: {kinds}", kinds=kinds) if kinds else say("- Says:"))
    for text in texts[:evidence]:
        lines.quote(text)


def _kinds(issue: SystemIssue) -> str:
    """Say how many texts the occurrences have."""
    if issue.count <= 1:
        return ""
    if issue.message_kinds >= _KINDS_STOP_AT:
        return say("100 or more different texts")
    if issue.message_kinds > 1:
        return say("{number} different texts", number=issue.message_kinds)
    if issue.site is not None and len(issue.site.chain) > 1:
        return say("the root's text is the same each time")
    return say("the same text each time")


def _texts(issue: SystemIssue) -> Iterator[str]:
    """Yield distinct texts: the chain's, root first, then messages latest first, then examples."""
    said: list[str] = []
    chain = issue.site.chain if issue.site else ()
    later = [*reversed(issue.messages), *(e.text for e in issue.exemplars)]
    if not chain and not any(later):
        later = [issue.description]
    for text in (*map(_raised_text, chain), *(told_of(issue, said) for said in later)):
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
    source = f" {safety.literal(safety.scrub(template))}" if template else ""
    logger = say(" (logger {logger})", logger=lines.name(issue.logger)) if issue.logger else ""
    lines.say(
        say(
            "- Logged at: {frame}{source}{logger}",
            frame=page.frame(issue.call_site, lines),
            source=source,
            logger=logger,
        )
    )
    if issue.site is not None and issue.site.root.type:
        raised = {link.message for link in issue.site.chain}
        said = next((e.text for e in reversed(issue.exemplars) if e.text not in raised), "")
        if said:
            lines.quote(said, 200)


def _advice(issue: SystemIssue, page: Page, lines: Lines) -> None:
    _readings(issue, page, lines)
    if not issue.readings:
        lines.say(say("- Reading: {said}", said=_what_is_sure(issue, lines)))
    checks = list(_checks(issue, page, lines))[:_CHECKS]
    about = (
        say(" (about {minutes} min)", minutes=issue.estimated_time)
        if issue.estimated_time > 0
        else ""
    )
    if checks:
        numbered = " ".join(f"{n}. {_stopped(check)}" for n, check in enumerate(checks, 1))
        lines.say(say("- Check: {numbered}{about}", numbered=numbered, about=about))
    if issue.not_a_fix:
        lines.say(say("- Not a fix: {said}", said=_stopped(safety.quiet(shown(issue.not_a_fix)))))
    link = safety.url(issue.link) if issue.link else None
    if link:
        lines.say(say("- About this failure: {link}", link=link))


def _readings(issue: SystemIssue, page: Page, lines: Lines) -> None:
    for reading in issue.readings:
        wrong = (
            say(" Wrong if {wrong_if}", wrong_if=safety.quiet(shown(reading.wrong_if)))
            if reading.wrong_if
            else ""
        )
        called = (
            say(" Called at {frame}", frame=page.frame(reading.frame, lines))
            if reading.frame
            else ""
        )
        called += f" ← {page.frame(reading.caller, lines)}" if reading.caller else ""
        called += "." if called else ""
        call = lines.name(reading.call) if reading.call else say("this call")
        text = _stopped(safety.quiet(shown(reading.text).replace("{call}", call))) + called
        said = f"{reading.confidence.value} {text}{wrong and _stopped(wrong)}"
        lines.say(say("- Reading: {said}", said=said))


def _what_is_sure(issue: SystemIssue, lines: Lines) -> str:
    where = say(" Where: PROVEN by the stack.") if in_app_frames(issue) else ""
    if issue.pattern:
        known = say(
            "a known failure, recognised by its text (pattern {pattern}).",
            pattern=lines.name(issue.pattern),
        )
        return say(
            "{known}{where} What led to it: not visible from here.", known=known, where=where
        )
    return say("cause not visible from here; what happened is in the evidence.{where}", where=where)


def _stopped(text: str) -> str:
    return text if text.endswith((".", "?", "!", "…")) else f"{text}."


def _checks(issue: SystemIssue, page: Page, lines: Lines) -> Iterator[str]:
    frame = seen_at(issue)
    if frame is not None:
        pointed = next((reading for reading in issue.readings if reading.frame), None)
        found = [frame, pointed.frame, pointed.caller] if pointed else [frame]
        apart = [f for n, f in enumerate(found) if f and not _near(f, found[:n])]
        yield say("read {places}", places=joined([_around(f, page, lines) for f in apart]))
    for action in issue.suggested_actions:
        yield safety.quiet(_filled(shown(action), issue, page))
    if issue.suggested_actions:
        return
    known = CHECKS.get(issue.site.root.short_type) if issue.site else None
    if frame is not None and page.source(frame).startswith(" `src raise"):
        known = phrase("that line raises on purpose: read the condition that leads to it")
    if known:
        yield shown(known)
    if issue.message_kinds > 1:
        yield say("compare the different texts: what varies in them says which input it is")
    failing = next((e.trace_id for e in issue.exemplars if _is_trace(e.trace_id)), "")
    if failing and _is_trace(issue.passing_trace):
        yield say("compare the failing trace with the passing one: the first span that differs")
    elif frame is not None and not known:
        yield say("find what the values in that line are when it fails, and where they come from")


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
        parts.append(
            say("slow trace {trace} {at}", trace=failing.trace_id, at=at)
            if issue.category == "Latency"
            else say("failing trace {trace} {at}", trace=failing.trace_id, at=at)
        )
    if _is_trace(issue.passing_trace):
        parts.append(say("passing trace {trace}", trace=issue.passing_trace))
    if parts:
        lines.say(say("- Examples: {parts}", parts=" · ".join(parts)))


def fixed_when(issue: SystemIssue, page: Page, lines: Lines) -> str:
    """Say what would show that the issue is gone."""
    word = safety.shell_word(issue.id)
    ask = say("`otel-briefing verify {word}` says FIXED: ", word=word) if word else ""
    return ask + _gone_when(issue, page, lines)


def _gone_when(issue: SystemIssue, page: Page, lines: Lines) -> str:
    if is_measured(issue):
        return say(
            "the same traffic runs after your change for half as long again as this took to show "
            "after the start, at least three minutes, and it is measured no more"
        )
    quiet = say("silence alone proves nothing")
    if issue.uncaught == "main" and page.snapshot.run.ending is not None:
        return say(
            "the program starts again and runs past this line; a page without this is no proof"
        )
    if issue.category == "Latency":
        for operation in page.snapshot.operations:
            same = any(
                (i.service, i.operation) == (operation.service, operation.name)
                for i in issue.impacts
            )
            if same and operation.normal_p95_ms:
                normal = millis(operation.normal_p95_ms)
                return say(
                    "{name} is back near p95 {normal} over as many calls after your "
                    "change; {quiet}",
                    name=lines.name(operation.name),
                    normal=normal,
                    quiet=quiet,
                )
        what = lines.name(issue.impacts[0].operation) if issue.impacts else say("the call")
        return say(
            "{what} is fast again over as many calls after your change; {quiet}",
            what=what,
            quiet=quiet,
        )
    if issue.impacts:
        return say(
            "{operation} succeeds again (N of N) with no new occurrence after your change; {quiet}",
            operation=lines.name(issue.impacts[0].operation),
            quiet=quiet,
        )
    return say(
        "the same code runs again with no new occurrence after your change; {quiet}", quiet=quiet
    )
