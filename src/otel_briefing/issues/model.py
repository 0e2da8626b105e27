# SPDX-License-Identifier: Apache-2.0
"""What is wrong, as data: issues, operations, components, and the snapshot of it all."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from otel_briefing.events import ERROR
from otel_briefing.language import phrase

if TYPE_CHECKING:
    import datetime as dt

    from otel_briefing.events import FailureSite, Frame
    from otel_briefing.issues.findings import AttachedFinding

PRIORITIES = ("HIGH", "MEDIUM", "LOW")


class IssueState(str, enum.Enum):
    """Where an issue is in its life."""

    NEW = "new"
    ONGOING = "ongoing"
    REGRESSED = "regressed"
    RESOLVED = "resolved"


class Confidence(str, enum.Enum):
    """How sure a statement is: mechanical, two independent signs, or coincidence in time only."""

    PROVEN = "PROVEN"
    LIKELY = "LIKELY"
    GUESS = "GUESS"


class Exemplar(NamedTuple):
    """One occurrence that can be looked up: its trace, its text, its top frame."""

    time_ns: int
    text: str
    trace_id: str = ""
    span_id: str = ""
    frame: Frame | None = None


class Impact(NamedTuple):
    """How an operation fares: of `tried`, `affected` ran into the issue and `failed` failed."""

    service: str
    operation: str
    affected: int
    failed: int
    tried: int


class Reading(NamedTuple):
    """A statement about a cause, how sure it is, and what would show it wrong."""

    confidence: Confidence
    text: str
    wrong_if: str = ""
    frame: Frame | None = None  # the place in the code that the text speaks of
    call: str = ""  # the call that stands for `{call}` in the text: its name came from outside
    caller: Frame | None = None  # who calls `frame`


class EarlierRun(NamedTuple):
    """A run of the program before this one, and how often an issue occurred in it."""

    started_ns: int
    ended_ns: int  # 0 when the end was not seen
    pid: int
    times: int


class History(NamedTuple):
    """What is remembered of an issue from before.

    `runs` counts the earlier runs that are remembered, `occurred` lists those with the issue, the
    latest first. `gap_ns` is the quiet time before it came back; `gone_ns` the start of a good run
    in which it was absent, between its last occurrence and now.
    """

    runs: int = 0
    occurred: tuple[EarlierRun, ...] = ()
    gap_ns: int = 0
    gone_ns: int = 0
    here: bool = True  # it occurred in a run that is the latest of its program
    total: int = 0  # over all runs that are remembered
    tried_since: int = 0  # how often its operations went well after its last occurrence


NO_HISTORY = History()


@dataclass(slots=True, eq=False)
class SystemIssue:
    """One thing that is wrong. Times are aware UTC datetimes; `estimated_time` is minutes.

    The first nine fields are the guide's. `trend` counts the last whole minutes, oldest first;
    `count` is that of the present run, or of all remembered ones when it is absent from this run.
    """

    id: str
    title: str
    description: str
    priority: str
    category: str
    affected_components: list[str]
    suggested_actions: list[str]
    estimated_time: int
    detection_time: dt.datetime
    fingerprint: str = ""
    state: IssueState = IssueState.NEW
    count: int = 1
    first_seen: dt.datetime | None = None
    last_seen: dt.datetime | None = None
    trend: tuple[int, ...] = ()
    rate_per_minute: float = 0.0
    exemplars: tuple[Exemplar, ...] = ()
    cause_id: str = ""
    symptom_ids: tuple[str, ...] = ()
    confidence: Confidence | None = None
    service: str = ""
    severity: int = 17
    pattern: str = ""  # the known pattern that recognised it; "" when nothing did
    link: str = ""  # documentation of the pattern
    not_a_fix: str = ""
    site: FailureSite | None = None
    call_site: Frame | None = None
    template: str | None = None  # the logging literal, when the issue is a log line
    logger: str = ""
    messages: tuple[str, ...] = ()  # distinct texts, most recent last, bounded
    message_kinds: int = 1  # how many distinct texts were seen (stops counting at 100)
    uncaught: str = ""
    impacts: tuple[Impact, ...] = ()  # most affected first
    readings: tuple[Reading, ...] = ()
    passing_trace: str = ""  # a trace of the same operation that did not fail
    history: History = NO_HISTORY
    changes: tuple[str, ...] = ()  # since the last good run of its service
    peer: str = ""  # whom the call that failed went to
    over: bool = False  # it came often, and has not come for much longer than was usual
    findings: tuple[AttachedFinding, ...] = ()  # of debugging tools, the latest first


class Operation(NamedTuple):
    """An entry operation (SERVER, CONSUMER or root span) or an outgoing call. Times in ms."""

    service: str
    name: str
    kind: str  # ENTRY, DB, CLIENT or PRODUCER
    tried: int
    failed: int
    first_failed_ns: int = 0
    last_ns: int = 0
    tried_before_first: int = 0  # how many went well before the first failure
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    normal_p95_ms: float = 0.0  # over the time before it went out of range; 0 when not known


class Component(NamedTuple):
    """A service or a peer, as the page lists it."""

    name: str
    status: str  # OK, WARNING, ERROR, LIMITED
    details: str
    last_seen_ns: int
    issue_count: int = 0
    silent: bool = False


NOT_WATCHED = phrase("not watched any more: it was told to stop watching, and may go on")
VANISHED = phrase("vanished: killed or crashed, its end was not seen")


class Ending(NamedTuple):
    """How a process ended. `exit_code` is None where it could not be seen."""

    at_ns: int
    how: str  # a sentence: "exit code 1 after an uncaught ValueError", "signal SIGTERM"
    exit_code: int | None = None
    signal: str = ""
    said: str = ""  # the program's own last word, as it gave it to `sys.exit`

    @property
    def by_itself(self) -> bool:
        """Whether nobody stopped it, as far as was seen."""
        return not self.signal and self.how != VANISHED

    @property
    def went_well(self) -> bool:
        """Whether it ended by itself without an error that was seen."""
        return self.by_itself and not self.exit_code


class ProcessRun(NamedTuple):
    """One process that is or was watched."""

    pid: int
    service: str
    command: str
    cwd: str
    started_ns: int
    environment: str = ""  # deployment.environment.name
    version: str = ""  # service.version
    ending: Ending | None = None
    create_time: float = 0.0  # s since the epoch, as the system tells it; 0 when not known
    parent_pid: int = 0
    family: str = ""  # forked children have their parent's


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the verdict rests on: how much was seen."""

    records: dict[str, int] = field(default_factory=dict)  # by severity: DEBUG … FATAL
    spans: int = 0
    first_ns: int = 0
    last_ns: int = 0


class Moment(NamedTuple):
    """One line of the order of events."""

    at_ns: int
    text: str
    issue_id: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a page, a dashboard or a command says, at one instant.

    `issues` are ranked, causes first. `not_known` are whole sentences; words that came from
    outside follow theirs after a line break. `root` is the folder that
    file names are relative to. Immutable by convention: whoever gets one may read it on any thread.
    """

    number: int
    at_ns: int
    title: str
    run: ProcessRun
    root: str
    issues: list[SystemIssue] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    moments: list[Moment] = field(default_factory=list)
    other_runs: list[ProcessRun] = field(default_factory=list)
    not_known: list[str] = field(default_factory=list)
    performance: list[str] = field(default_factory=list)
    drops: dict[str, int] = field(default_factory=dict)
    door: dict[str, str] = field(default_factory=dict)  # signal → what was found and done
    changes: tuple[str, ...] = ()  # since the last good run of the program that `run` belongs to

    @property
    def active(self) -> list[SystemIssue]:
        """The issues of now, in rank order: neither resolved nor of an earlier run alone."""
        return [i for i in self.issues if i.state is not IssueState.RESOLVED and i.history.here]

    @property
    def state(self) -> str:
        """FAILING, DEGRADING, NO ISSUE SEEN or APP NOT RUNNING: the first word of the page."""
        if self.run.ending is not None:
            return "APP NOT RUNNING"
        active = self.active
        if not active:
            return "NO ISSUE SEEN"
        degrading = all(issue.category == "Latency" or issue.severity < ERROR for issue in active)
        return "DEGRADING" if degrading else "FAILING"
