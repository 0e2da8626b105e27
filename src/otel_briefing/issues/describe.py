# SPDX-License-Identifier: Apache-2.0
"""Events → facts: which issue an event speaks of and what it is called. Pure functions of data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_briefing.events import ERROR, FATAL, FailureSite, Frame, LogEvent, Raised, SpanEvent
from otel_briefing.issues import fingerprint as fp
from otel_briefing.issues.deltas import IssueFacts, OperationKey
from otel_briefing.issues.model import Confidence, Reading
from otel_briefing.language import phrase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_briefing.issues.anomalies import Slowness
    from otel_briefing.issues.patterns import Pattern

_TITLE = 120
_ADDRESS = 260  # a host name has at most 253 characters
_STARVED = {"DB", "Timeout", "Queue", "Concurrency", "RateLimit"}
IN_CALLS = 0.5  # the share of the time from which a call explains its operation


def pattern_text(site: FailureSite | None, body: str) -> str:
    """Return what patterns are matched against: the root cause first, then what was logged."""
    if site is None:
        return body
    lines = [f"{raised.type}: {raised.message}" for raised in site.chain]
    return "\n".join([*lines, body])


def exception_facts(
    site: FailureSite, pattern: Pattern | None, *, severity: int, service: str, uncaught: str = ""
) -> IssueFacts:
    """Describe a failure by what was raised."""
    root = site.root
    place = next((frame for raised in site.chain for frame in raised.frames if frame.in_app), None)
    where = f" in {place.function}" if place else ""
    facts = IssueFacts(
        fingerprint=fp.of_exception(site, pattern.name if pattern else ""),
        title=f"{root.short_type}{where}",
        priority="HIGH" if severity >= ERROR else "LOW",
        category="Application",
        severity=FATAL if uncaught == "main" else severity,
        service=service,
        site=site,
        uncaught=uncaught,
    )
    return _recognised(facts, pattern)


def log_facts(event: LogEvent, text: str, pattern: Pattern | None, title: str = "") -> IssueFacts:
    """Describe a failure that was only logged, by its constant `text`, or what stands for it."""
    facts = IssueFacts(
        fingerprint=fp.of_log(event, text, pattern.name if pattern else ""),
        title=_clip(event.template or title or text),
        priority="MEDIUM" if event.severity >= ERROR else "LOW",
        category="Application",
        severity=event.severity,
        service=event.service,
        call_site=event.call_site,
        template=event.template,
        logger=event.logger,
    )
    return _recognised(facts, pattern)


def span_facts(event: SpanEvent, pattern: Pattern | None) -> IssueFacts:
    """Describe a span that failed without saying more than that."""
    error = span_error(event)
    client_error = error.isdigit() and error.startswith("4")
    facts = IssueFacts(
        fingerprint=fp.of_span(event, error, pattern.name if pattern else ""),
        title=_clip(f"{call_label(event)} failed: {error}"),
        priority="LOW" if client_error else "MEDIUM",
        category="Application",
        severity=ERROR - 4 if client_error else ERROR,
        service=event.service,
        peer=peer_of(event.attributes) if event.kind == "CLIENT" else "",
        **_caller(event.called_from),
    )
    return _recognised(facts, pattern)


def _caller(stack: tuple[Frame, ...]) -> dict[str, Any]:
    """Return the facts that say where a call is made: an issue without an exception has them."""
    if not stack:
        return {}
    return {
        "site": FailureSite((Raised("", "", stack),)),
        "call_site": next((frame for frame in stack if frame.in_app), None),
    }


def latency_facts(key: OperationKey, slow: Slowness, stack: tuple[Frame, ...]) -> IssueFacts:
    """Describe an operation that is slower than it was, or slower than anybody wants."""
    service, kind, operation = key
    pace = _ms(slow.recent_p95_ms)
    if slow.normal_p95_ms:
        was = _ms(slow.normal_p95_ms)
        pace = phrase("{was_said} → {now_said}", was_said=was, now_said=pace)
    what = {
        "DB": phrase(
            "Slow query, p95 {pace_said}: {operation}", pace_said=pace, operation=operation
        ),
        "ENTRY": phrase(
            "Slow operation, p95 {pace_said}: {operation}", pace_said=pace, operation=operation
        ),
    }.get(
        kind, phrase("Slow call, p95 {pace_said}: {operation}", pace_said=pace, operation=operation)
    )
    return IssueFacts(
        fingerprint=fp.of_latency(service, kind, operation),
        title=_clip(what),
        priority="HIGH",
        category="Latency",
        severity=ERROR - 4,
        service=service,
        estimated_time=30,
        checks=_latency_checks(kind),
        **_caller(stack),
        cause=slow.symptom_of,
        readings=_latency_readings(slow, kind),
    )


def may_starve(slow: Slowness, facts: IssueFacts) -> bool:
    """Tell whether waiting for a slow call can bring the failure about: it holds what others need.

    Two signs, not the time alone: the operations that wait also use the database, and the failure
    is one of having to wait for something.
    """
    return slow.holds and facts.category in _STARVED


def slowness_before(call: OperationKey, stack: tuple[Frame, ...], seconds: float) -> Reading:
    """Say of a failure that something had become slow shortly before it began."""
    own = [frame for frame in stack if frame.in_app][:2]
    return Reading(
        Confidence.LIKELY,
        phrase(
            "it begins with {issue}: {{call}} became slow {seconds:.1f} s before the first of "
            "these, in operations that also use the database: what they hold meanwhile, others "
            "lack.",
            issue=fp.issue_id(fp.of_latency(*call)),
            seconds=seconds,
        ),
        phrase("it goes on while that call is fast"),
        own[0] if own else None,
        call[2],
        own[1] if len(own) > 1 else None,
    )


_DB_CHECKS = (
    """Run EXPLAIN on this statement against the live schema: a scan of the whole table means that
    an index is missing or was dropped; compare with the migrations.""",
    """Plan uses an index: compare the row counts with those of a fast time; the data has grown, or
    the planner's statistics are stale (ANALYZE).""",
    """Plan is good and the table small: look for a lock that the statement waits for, or for a
    disk or host that is saturated.""",
)
_CALL_CHECKS = (
    """Call the peer by hand from this host and time it: slow there too means that the peer is the
    cause; fast means name resolution, connections or this process.""",
    """Read what the caller holds while it waits (a lock, a connection, a transaction) and give the
    call a timeout below what its own callers can wait for.""",
)
_ENTRY_CHECKS = (
    "Compare a slow trace with the passing one: the span that grew is where to look.",
    """No span grew: the time goes into this process's own code, a lock, or a queue before it; take
    a stack sample (py-spy dump) while it is slow.""",
)


def _latency_checks(kind: str) -> tuple[str, ...]:
    checks = {"DB": _DB_CHECKS, "CLIENT": _CALL_CHECKS}.get(kind, _ENTRY_CHECKS)
    return tuple(" ".join(check.split()) for check in checks)


def _latency_readings(slow: Slowness, kind: str) -> tuple[Reading, ...]:
    told = slow.measured if kind == "ENTRY" else bool(slow.share)
    readings = (_latency_reading(slow, kind),) if told else ()
    if kind != "DB" or not (slow.steady_others and slow.normal_p95_ms):
        return readings
    # Two signs: it alone, and at once. Data that grows slows a statement down over days.
    plan = Reading(
        Confidence.LIKELY,
        phrase(
            "this statement became slow at once while {others:d} other statements kept their "
            "pace: its plan changed, most often because an index on what it filters or joins by "
            "is missing or was dropped.",
            others=slow.steady_others,
        ),
        phrase("EXPLAIN shows an index in use; then a lock on its tables or other parameters"),
    )
    return (*readings, plan)


def _latency_reading(slow: Slowness, kind: str) -> Reading:
    """Say where the time of the slow operations goes."""
    if kind == "ENTRY" and slow.share < IN_CALLS:
        return Reading(
            Confidence.LIKELY,
            phrase(
                "{percent:d} % of the slow runs' time passes outside of every call that is seen: "
                "in this process's own code, in a lock, or waiting for a thread.",
                percent=round((1 - slow.share) * 100),
            ),
            phrase("a call that is not instrumented takes the time"),
        )
    return Reading(
        Confidence.LIKELY if slow.share >= 0.6 else Confidence.GUESS,  # noqa: PLR2004
        phrase(
            "{percent:d} % of the time of the slow operations passes in {{call}}.",
            percent=round(slow.share * 100),
        ),
        phrase("that call is as fast as before when made alone"),
        call=slow.where[2] if slow.where else "",
    )


def _recognised(facts: IssueFacts, pattern: Pattern | None) -> IssueFacts:
    """Give `facts` what is known about the pattern that was recognised."""
    if pattern is None:
        return facts
    facts.title = pattern.title
    # A warning stays one, whatever it warns of.
    facts.priority = pattern.priority if facts.severity >= ERROR else "LOW"
    facts.category = pattern.category
    facts.checks = pattern.checks
    facts.estimated_time = pattern.estimated_time
    facts.pattern = pattern.name
    facts.link = pattern.link
    facts.not_a_fix = pattern.not_a_fix
    return facts


def span_error(event: SpanEvent) -> str:
    """Return the kind of error of a failed span: a status code, a type, or its description."""
    attributes = event.attributes
    for key in ("http.response.status_code", "http.status_code", "error.type"):
        value = attributes.get(key)
        if value:
            return str(value)
    return fp.mask(event.status_description) or "status ERROR"


def peer_of(attributes: Mapping[str, Any]) -> str:
    """Name whom a CLIENT span calls: `host:port`, or the database."""
    for key in ("peer.service", "server.address", "net.peer.name"):
        if value := attributes.get(key):
            port = attributes.get("server.port", attributes.get("net.peer.port"))
            return f"{value}:{port}" if port else str(value)
    url = str(attributes.get("url.full") or attributes.get("http.url") or "")
    if "://" in url:
        return url.split("://", 1)[1].split("/", 1)[0].rpartition("@")[2]
    name = attributes.get("db.namespace") or attributes.get("db.name")
    system = attributes.get("db.system.name") or attributes.get("db.system")
    return " ".join(str(part) for part in (system, name) if part)


def served_at(attributes: Mapping[str, Any]) -> str:
    """Name the address, as callers write it, at which a SERVER span was reached; "" if not told."""
    host = str(attributes.get("server.address") or attributes.get("http.host") or "")[:_ADDRESS]
    port = attributes.get("server.port") or attributes.get("net.host.port")
    return f"{host}:{port}" if host and port and ":" not in host else host


def call_label(event: SpanEvent) -> str:
    """Name what a span does so that its like share the name: the statement, or method and path."""
    attributes = event.attributes
    statement = attributes.get("db.query.text") or attributes.get("db.statement")
    if statement:
        return " ".join(fp.mask(str(statement)).split())[:160]
    url = str(attributes.get("url.full") or attributes.get("http.url") or "")
    if event.kind == "CLIENT" and "://" in url:
        path = url.split("://", 1)[1].partition("/")[2].partition("?")[0]
        return f"{event.name.split(' ')[0]} {peer_of(attributes)}/{fp.mask(path)}"[:160]
    if event.kind == "CLIENT" and (peer := peer_of(attributes)):
        return f"{event.name} {peer}"[:160]
    return event.name[:160]


def call_text(event: SpanEvent) -> str:
    """Return what a span does in full: what the page shows as evidence."""
    statement = event.attributes.get("db.query.text") or event.attributes.get("db.statement")
    return " ".join(str(statement).split())[:600] if statement else call_label(event)


def call_kind(event: SpanEvent) -> str:
    """Tell entry operations, database calls and other outgoing calls apart."""
    if event.entry or event.kind in {"SERVER", "CONSUMER"}:
        return "ENTRY"
    is_query = "db.query.text" in event.attributes or "db.statement" in event.attributes
    return "DB" if is_query else event.kind


def _clip(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _TITLE else text[: _TITLE - 1] + "…"


def _ms(value: float) -> str:
    if value >= 1000:  # noqa: PLR2004
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 1 else phrase("under 1 ms")
