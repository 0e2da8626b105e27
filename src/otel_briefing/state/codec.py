# SPDX-License-Identifier: Apache-2.0
"""Tallies and facts ↔ JSON: what stands in the rows of the hub. Bounded, whatever was handed in."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from otel_briefing.events import FailureSite, Frame, Raised
from otel_briefing.issues.changes import Circumstances
from otel_briefing.issues.deltas import IssueFacts, IssueTally, Occurred, OperationTally
from otel_briefing.issues.histogram import Histogram
from otel_briefing.issues.model import Confidence, Ending, Exemplar, ProcessRun, Reading

_TEXT = 1_000  # characters of a message or an example that are kept
_FRAMES = 24  # frames of one exception that are kept
_CHAIN = 6


def issue_to_json(tally: IssueTally) -> str:
    """Write an issue's tally."""
    facts = tally.facts
    return _dump(
        {
            "facts": [
                *(facts.fingerprint, facts.title, facts.priority, facts.category),
                *(facts.severity, facts.service, facts.checks, facts.estimated_time),
                *(facts.pattern, facts.link, facts.not_a_fix, _site(facts.site)),
                *(facts.call_site, _clip(facts.template), facts.logger, facts.uncaught),
                *(facts.cause, [_reading(reading) for reading in facts.readings]),
            ],
            "peer": facts.peer,
            "component": facts.component,
            "count": tally.count,
            "first": tally.first_ns,
            "last": tally.last_ns,
            "slots": tally.slots,
            "exemplars": [e._replace(text=e.text[:_TEXT]) for e in tally.exemplars],
            "messages": [message[:_TEXT] for message in tally.messages],
            "kinds": list(tally.kinds),
            "runs": tally.runs,
            "gap": tally.gap_ns,
        }
    )


def issue_from_json(text: str) -> IssueTally:
    """Read an issue's tally. Raises ValueError, KeyError or TypeError for what is none."""
    data = json.loads(text)
    *first, site, call_site, template, logger, uncaught, cause, readings = data["facts"]
    fingerprint, title, priority, category, severity, service, checks, minutes, *known = first
    pattern, link, not_a_fix = known
    facts = IssueFacts(
        fingerprint=fingerprint,
        title=title,
        priority=priority,
        category=category,
        severity=severity,
        service=service,
        checks=tuple(checks),
        estimated_time=minutes,
        pattern=pattern,
        link=link,
        not_a_fix=not_a_fix,
        site=_read_site(site),
        call_site=_read_frame(call_site),
        template=template,
        logger=logger,
        uncaught=uncaught,
        cause=cause,
        readings=tuple(map(_read_reading, readings)),
        peer=data.get("peer", ""),
        component=data.get("component", ""),
    )
    return IssueTally(
        facts,
        data["count"],
        data["first"],
        data["last"],
        _counter(data["slots"]),
        [_read_exemplar(exemplar) for exemplar in data["exemplars"]],
        data["messages"],
        set(data["kinds"]),
        {int(run): Occurred(*occurred) for run, occurred in data["runs"].items()},
        data["gap"],
    )


def operation_to_json(tally: OperationTally) -> str:
    """Write an operation's tally."""
    return _dump(
        [
            *(tally.tried, tally.failed, tally.first_failed_ns, tally.tried_before_first),
            *(tally.last_ns, tally.durations.buckets, tally.affected, tally.passing_trace),
            *(tally.passing_ns, tally.peer, tally.normal_p95_ms, tally.slots, tally.failed_slots),
        ]
    )


def operation_from_json(text: str) -> OperationTally:
    """Read an operation's tally."""
    tried, failed, first, before, last, buckets, affected, trace, passing, *rest = json.loads(text)
    peer, normal, slots, failed_slots = rest
    durations = Histogram()
    durations.buckets = _counter(buckets)
    durations.count = sum(durations.buckets.values())
    return OperationTally(
        *(tried, failed, first, before, last, durations, Counter(affected), trace, passing),
        *(peer, normal, _counter(slots), _counter(failed_slots)),
    )


def process_to_json(run: ProcessRun) -> str:
    """Write what is known of a process."""
    return _dump(run._asdict() | {"ending": run.ending and list(run.ending)})


def process_from_json(text: str) -> ProcessRun:
    """Read what is known of a process."""
    data = json.loads(text)
    ending = data.pop("ending")
    return ProcessRun(**data, ending=Ending(*ending) if ending else None)


def circumstances_to_json(made_of: Circumstances) -> str:
    """Write what a run was made of."""
    return _dump(
        {
            "version": made_of.version,
            "commit": made_of.commit,
            "dirty": made_of.dirty,
            "sources": dict(made_of.sources),
            "packages": dict(made_of.packages),
            "variables": dict(made_of.variables),
        }
    )


def circumstances_from_json(text: str) -> Circumstances:
    """Read what a run was made of."""
    data = json.loads(text)
    return Circumstances(**{**data, "dirty": tuple(data.get("dirty", ()))})


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def _clip(text: str | None) -> str | None:
    return text[:_TEXT] if text is not None else None


def _counter(pairs: dict[str, int]) -> Counter[int]:
    return Counter({int(key): count for key, count in pairs.items()})


def _site(site: FailureSite | None) -> list[Any] | None:
    if site is None:
        return None
    chain = (
        site.chain
        if len(site.chain) <= _CHAIN
        else (*site.chain[:-1][: _CHAIN - 1], site.chain[-1])
    )
    return [[r.type, r.message[:_TEXT], _ends(r.frames)] for r in chain]


def _ends(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    if len(frames) <= _FRAMES:
        return frames
    return (*frames[: _FRAMES - 8], *frames[-8:])


def _read_site(data: list[Any] | None) -> FailureSite | None:
    if data is None:
        return None
    return FailureSite(
        tuple(Raised(kind, text, tuple(Frame(*frame) for frame in fs)) for kind, text, fs in data)
    )


def _read_frame(data: list[Any] | None) -> Frame | None:
    return Frame(*data) if data is not None else None


def _read_exemplar(data: list[Any]) -> Exemplar:
    at_ns, text, trace_id, span_id, frame = data
    return Exemplar(at_ns, text, trace_id, span_id, _read_frame(frame))


def _reading(reading: Reading) -> list[Any]:
    return [reading.confidence.value, *reading[1:]]


def _read_reading(data: list[Any]) -> Reading:
    confidence, text, wrong_if, frame, call, *caller = data  # the caller came later
    where, who = _read_frame(frame), _read_frame(caller[0]) if caller else None
    return Reading(Confidence(confidence), text, wrong_if, where, call, who)
