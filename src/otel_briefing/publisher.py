# SPDX-License-Identifier: Apache-2.0
"""When a page is due and what goes into it: the state of all processes, as a snapshot, to files."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from otel_briefing.briefing.finding_files import FindingFiles
from otel_briefing.briefing.render_clock import RenderClock
from otel_briefing.briefing.service import live
from otel_briefing.briefing.writer import PageWriter, valid_for_s
from otel_briefing.events import by_level
from otel_briefing.exceptions import StateError
from otel_briefing.issues.model import VANISHED, Component, IssueState, Snapshot, Traffic
from otel_briefing.language import phrase
from otel_briefing.state import folder
from otel_briefing.state.surroundings import Surroundings
from otel_briefing.telemetry import guard
from otel_briefing.telemetry.account import total

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from otel_briefing.briefing.status_tracker import ComponentStatus, SystemStatusTracker
    from otel_briefing.config import EnhancedLoggingConfig
    from otel_briefing.dashboard.live_alerts import LiveAlerts
    from otel_briefing.issues.model import ProcessRun, SystemIssue
    from otel_briefing.state.roster import Member
    from otel_briefing.state.store import SharedStore

FIRST_PAGE_S = 1.0  # nothing to say yet: the first page can wait until the program has started
LOOK_AROUND_S = 30.0  # how often sources that were loaded since are looked at
NO_SPANS_AFTER_NS = 10_000_000_000  # a program that ran shorter may have had no work yet
ADOPTED_AFTER_NS = 5_000_000_000  # by then another process has what a dead one left
ENDED_SHOWN_NS = 300_000_000_000  # for so long the end of one process among others is shown
_NAMED = 3  # of the processes that say the same
NEXT_STEPS = 5  # of a component
_DISTRIBUTIONS = (
    "otel-briefing",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation",
    "google-re2",
)


class PagePublisher:
    """Compose snapshots and have them written. The analysis thread uses it.

    `facts` returns what only the pipeline knows: door, exporters, seen, spans, drops, not_known,
    ending.
    """

    def __init__(  # noqa: PLR0917  # wired in one place
        self,
        config: EnhancedLoggingConfig,
        store: SharedStore,
        facts: Callable[[], Mapping[str, Any]],
        place: tuple[Path, Path],
        tracker: SystemStatusTracker,
        title: str = "",
    ) -> None:
        self._config = config
        self._store = store
        self._facts = facts
        self._folder, self._root = place
        self._title = title or self._root.name or "app"
        self._configured(frozenset())
        self.unsubscribe = config.subscribe(self._configured)
        self._started = time.monotonic()
        self._number = 0
        self._writer: PageWriter | None = None
        self._findings = FindingFiles(self._folder)
        self._around = Surroundings(self._root, self._folder, store.process.version)
        self._look_at = 0.0
        self.last_error = ""
        self._tracker = tracker
        self._alerts: LiveAlerts | None = None

    def make_live(self, analyzer: Any) -> None:
        """Let `LLMBriefingService` speak of this process."""
        live.tracker, live.analyzer, live.snapshot = self._tracker, analyzer, self.snapshot
        live.folder, live.facts = self._folder, self._document_facts
        live.may_replace = self._store.may_replace

    def give_way(self) -> None:
        """Let nobody speak of this process any more."""
        self.unsubscribe()
        if live.tracker is self._tracker:
            live.clear()

    def _configured(self, _: frozenset[str]) -> None:
        self._clock = RenderClock(
            self._config.briefing_debounce_s, self._config.briefing_update_interval
        )

    def due(self, changed: bool) -> bool:
        """Tell whether a page must be written now, by this process."""
        now = time.monotonic()
        if not self._store.renders:
            if now - self._started > FIRST_PAGE_S:
                self._look_around(last=False)  # the one who renders needs to know
            return False
        if not changed and not self._number and now - self._started < FIRST_PAGE_S:
            return False
        return self._clock.due(now, changed)

    def due_in(self) -> float:
        """Return the seconds until a page is due if nothing else happens."""
        now = time.monotonic()
        return max(0.01, self._clock.next_due(now) - now)

    def publish(self) -> None:
        """Write the page, the dashboard and the issue files, if it is this process's turn."""
        ending = self._facts()["ending"]
        self._look_around(last=ending is not None)
        if ending is not None:
            self._store.end(ending)
        elif not self._store.me:
            self._store.sync()  # nobody has been asked yet who renders
        if not self._store.renders or not self._ready():
            return
        assert self._writer is not None  # noqa: S101  # _ready has seen to it
        began = time.thread_time()
        self._number = max(self._number + 1, self._writer.last_number() + 1)
        snapshot = self.snapshot()
        may_replace = self._store.may_replace
        if not self._writer.write(snapshot, extra=self._extra(), may_replace=may_replace):
            self.last_error = self._writer.last_error
        self._alert(snapshot)
        self._clock.took(time.thread_time() - began)
        if ending is not None:
            self._store.leave()
            if self._alerts is not None:
                self._alerts.last_chance()

    def _alert(self, snapshot: Snapshot) -> None:
        """Tell whoever asked for it that the health has changed."""
        if not self._config.alert_urls:
            return
        with guard.guarded(__name__):
            if self._alerts is None:
                from otel_briefing.dashboard.live_alerts import LiveAlerts  # noqa: PLC0415  # rarely

                self._alerts = LiveAlerts(
                    self._folder,
                    lambda: self._config.alert_urls,
                    lambda: self._config.alert_cooldown_s,
                )
            self._alerts.look(snapshot, self._store.may_replace)

    def _look_around(self, *, last: bool) -> None:
        now = time.monotonic()
        if last or now > self._look_at:
            self._look_at = now + LOOK_AROUND_S
            self._store.set_circumstances(self._around.now())

    def _ready(self) -> bool:
        """Create the folder where it is not there; tell whether there is anything to write."""
        if not (self._config.briefing_enabled or self._config.dashboard_enabled):
            return False
        try:
            folder.prepare(self._folder)
        except StateError as error:
            if not self.last_error and sys.stderr is not None:  # once: it is for whoever set it
                print(f"otel-briefing: no briefing is written: {error}", file=sys.stderr)  # noqa: T201
            self.last_error = str(error)
            return False
        if self._writer is None:
            self._writer = PageWriter(self._folder, self._config, tracker=self._tracker)
            self._writer.formatter = live.formatter
            live.writer = self._writer
        return True

    # What is said.

    def snapshot(self) -> Snapshot:
        """Return everything that is known now."""
        now_ns = time.time_ns()
        picture = self._store.picture(now_ns)
        mine = self._facts()
        self._tracker.update_from(picture.components, _next_steps(picture.issues))
        components = _with_reported(picture.components, self._tracker.reported())
        attached = self._findings.by_issue()
        for issue in picture.issues:
            issue.findings = attached.get(issue.id, ())
        members = self._store.members
        told = self._told(members, mine)
        run, others = self._watched(picture.issues, now_ns)
        return Snapshot(
            number=self._number,
            at_ns=now_ns,
            title=self._title,
            run=run,
            root=str(self._root),
            issues=picture.issues,
            operations=picture.operations,
            components=components,
            traffic=_traffic([facts for _, facts in told], run, now_ns),
            moments=picture.moments,
            other_runs=others,
            not_known=[
                *self._not_known(told, now_ns),
                *_levels_not_seen(),
                *(self._alerts.trouble() if self._alerts else ()),
            ],
            performance=_performance(told),
            drops=_drops([facts for _, facts in told], picture.dropped),
            door=mine["door"],
            changes=self._changes(run.service),
        )

    def _told(
        self, members: Iterable[Member], mine: Mapping[str, Any]
    ) -> list[tuple[ProcessRun, Mapping[str, Any]]]:
        """Return what every process of the present runs says of itself, this one first."""
        present = {run.number for run in self._store.runs if run.current}
        found: list[tuple[ProcessRun, Mapping[str, Any]]] = [(self._store.process, mine)]
        for member in members:
            if member.id != self._store.me and member.run in present:
                facts = json.loads(member.facts)
                found.append((member.process, facts if isinstance(facts, dict) else {}))
        return found

    def _watched(
        self, issues: list[SystemIssue], now_ns: int
    ) -> tuple[ProcessRun, list[ProcessRun]]:
        """Choose the process that the page is about, and list the others."""
        own = self._store.process
        everybody = [m.process for m in self._store.members if m.id != self._store.me] + [own]
        living = [process for process in everybody if process.ending is None]
        active = (i for i in issues if i.state is not IssueState.RESOLVED and i.history.here)
        service = next((issue.service for issue in active), own.service)
        best = [p for p in living or everybody if p.service == service] or living or everybody
        chosen = own if own in best else best[-1]
        present = {run.number for run in self._store.runs if run.current}
        since_ns = now_ns - ENDED_SHOWN_NS
        recent = [
            m.process
            for m in self._store.members
            if m.run in present and m.process.ending and m.process.ending.at_ns > since_ns
        ]
        return chosen, [p for p in [*living, *recent] if p.pid != chosen.pid]

    def _not_known(
        self, told: list[tuple[ProcessRun, Mapping[str, Any]]], now_ns: int
    ) -> list[str]:
        """Join what the processes cannot see; what not all of them say is said with their names."""
        who: dict[str, list[ProcessRun]] = {}
        for process, facts in told:
            for sentence in facts.get("not_known", ()):
                who.setdefault(str(sentence), []).append(process)
        for process in _without_spans(told):
            who.setdefault(_no_spans(process), []).append(process)
        last_ns = max(process.ending.at_ns if process.ending else now_ns for process, _ in told)
        for process, facts in told:
            for sentence in _delivery_of(process, facts, last_ns):
                who.setdefault(sentence, []).append(process)
        said = []
        for sentence, processes in who.items():
            said.append(sentence if len(processes) == len(told) else _by(processes, sentence))
        if trouble := self._store.trouble():
            said.insert(
                0,
                phrase(
                    "The hub that the processes share is not in use: only what this process has "
                    "seen is up to date."
                )
                + f"\n{trouble}",
            )
        return said

    def _changes(self, service: str) -> tuple[str, ...]:
        return tuple(self._store.changes(service))

    def facts_json(self) -> str:
        """Return what this process tells the others of itself."""
        return told_as_json(self._facts())

    def _delivery(self) -> dict[str, Any]:
        """Add up where the records of the living are; what the dead left, those have adopted."""
        living = [
            json.loads(m.facts)
            for m in self._store.members
            if not m.ended and m.id != self._store.me
        ]
        told = [facts.get("delivery") for facts in [self._facts(), *living]]
        return total(account for account in told if account)

    def _vitals(self) -> list[dict[str, Any]]:
        """List what the living measured of themselves, this one first."""
        told = [(self._store.process, self._facts())]
        told += [
            (m.process, json.loads(m.facts))
            for m in self._store.members
            if not m.ended and m.id != self._store.me
        ]
        return [
            {"service": process.service, "pid": process.pid, **facts["vitals"]}
            for process, facts in told
            if facts.get("vitals")
        ]

    def _document_facts(self) -> dict[str, Any]:
        """Return what the document holds beside a snapshot."""
        known = self._tracker.components.items()
        metrics = {name: component.metrics for name, component in known if component.metrics}
        return {
            "valid_for_s": valid_for_s(self._config),
            "component_metrics": metrics,
            **self._extra(),
        }

    def _extra(self) -> dict[str, Any]:
        return {
            "create_time": self._store.process.create_time,
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in _DISTRIBUTIONS},
            "exporters": self._facts()["exporters"],
            "hub": self._store.trouble() or "in use",
            "delivery": self._delivery(),
            "vitals": self._vitals(),
            "processes": [
                {"process": member.process, **json.loads(member.facts)}
                for member in self._store.members
                if not member.ended
            ],
        }


def _by(processes: list[ProcessRun], sentence: str) -> str:
    """Say who says it."""
    names = ", ".join(f"{p.service} pid {p.pid}" for p in processes[:_NAMED])
    more = f" (+{len(processes) - _NAMED})" if len(processes) > _NAMED else ""
    return f"{names}{more}: {sentence}"


def _next_steps(issues: Iterable[SystemIssue]) -> dict[str, list[str]]:
    """Return what to check next for each component, the most urgent issue's first."""
    found: dict[str, list[str]] = {}
    for issue in issues:
        if issue.state is IssueState.RESOLVED:
            continue
        for name in issue.affected_components:
            steps = found.setdefault(name, [])
            new = [step for step in issue.suggested_actions if step not in steps]
            steps += new[: NEXT_STEPS - len(steps)]
    return found


def _with_reported(
    derived: Iterable[Component], reported: Mapping[str, ComponentStatus]
) -> list[Component]:
    """Let what the program itself reports count beside, or instead of, what telemetry says."""
    found = {component.name: component for component in derived}
    for name, said in reported.items():
        known = found.get(name)
        seen_ns = int(said.last_updated.timestamp() * 1e9)
        last_ns = max(known.last_seen_ns, seen_ns) if known else seen_ns
        count = max(known.issue_count, said.issue_count) if known else said.issue_count
        found[name] = Component(name, said.status, said.details, last_ns, count)
    return list(found.values())


def _delivery_of(process: ProcessRun, facts: Mapping[str, Any], last_ns: int) -> list[str]:
    """Say what is in the way of a process's records, and what a killed one took along.

    What waited on the disk of one that ended well before the last is with its heirs.
    """
    told = facts.get("delivery")
    if not told:
        return []
    inherited = process.ending is not None and last_ns - process.ending.at_ns > ADOPTED_AFTER_NS
    said = [] if inherited else [str(text) for text in told["said"]]
    if process.ending is not None and process.ending.how == VANISHED:
        count = sum(told["queued"].values())
        said.append(
            phrase(
                "It was killed: lost may be the {count:,} log records that waited in its memory "
                "when it was last heard of, and what was not urgent of those it made after that.",
                count=count,
            )
        )
    return said


def _without_spans(told: list[tuple[ProcessRun, Mapping[str, Any]]]) -> list[ProcessRun]:
    """Name the processes of services of which no span came; what has ended beside others is not."""
    seen = {process.service for process, facts in told if facts.get("spans")}
    silent = [process for process, _ in told if process.service not in seen]
    return [p for p in silent if p.ending is None] if len(told) > 1 else silent


def _no_spans(process: ProcessRun) -> str:
    young = time.time_ns() - process.started_ns < NO_SPANS_AFTER_NS
    said = phrase(
        "No spans came: which operation a failure belongs to, out of how many, is not visible."
    )
    return (
        said
        if young
        else phrase(
            "{spans_said} `opentelemetry-bootstrap -a install` adds what makes them.",
            spans_said=said,
        )
    )


def told_as_json(facts: Mapping[str, Any]) -> str:
    """Write what a process tells of itself, without what only it needs."""
    told = {key: value for key, value in facts.items() if key != "ending"}
    return json.dumps(told, default=str)


def _traffic(told: list[Mapping[str, Any]], run: ProcessRun, now_ns: int) -> Traffic:
    seen: Counter[int] = Counter()
    for facts in told:
        seen.update(dict(enumerate(facts.get("seen", ()))))
    spans = sum(int(facts.get("spans", 0)) for facts in told)
    return Traffic(by_level(seen), spans, run.started_ns, now_ns)


def _performance(told: list[tuple[ProcessRun, Mapping[str, Any]]]) -> list[str]:
    """Join what left its normal range; where several processes are watched, with their names."""
    return [
        f"{process.service} pid {process.pid}: {line}" if len(told) > 1 else str(line)
        for process, facts in told
        if process.ending is None
        for line in facts.get("performance", ())
    ]


def _drops(told: list[Mapping[str, Any]], dropped: Mapping[str, int]) -> dict[str, int]:
    drops: Counter[str] = Counter(
        {phrase("store {key}", key=key): count for key, count in dropped.items()}
    )
    for facts in told:
        drops.update(facts.get("drops", {}))
    return dict(drops)


def _levels_not_seen() -> list[str]:
    level = logging.getLogger().getEffectiveLevel()
    if level <= logging.INFO:
        return []
    name = logging.getLevelName(level)
    return [phrase("Records below {level} are not made: the root logger's level.", level=name)]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
