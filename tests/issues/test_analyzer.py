# SPDX-License-Identifier: Apache-2.0
"""One engine: what counts as one failure, whose it is, what it is called, and what is slow."""

import itertools
import threading

import pytest

from otel_briefing.briefing import SystemStatusTracker
from otel_briefing.events import (
    ERROR,
    FATAL,
    INFO,
    WARN,
    FailureSite,
    Frame,
    LogEvent,
    Raised,
    SpanEvent,
)
from otel_briefing.exceptions import PatternError
from otel_briefing.issues.analyzer import MAX_FINDINGS, MAX_PENDING, IssueAnalyzer
from otel_briefing.issues.deltas import IssueFacts
from otel_briefing.issues.model import ProcessRun
from otel_briefing.state.store import SharedStore

S = 1_000_000_000
T0 = 1_800_000_000 * S
TRACE = "a" * 32
clock = itertools.count(T0, 1000)


def frame(function="load", line=10, file="shop/db.py", in_app=True):
    return Frame(file, function, line, in_app, "/srv/" + file)


def raised(kind="ValueError", message="bad total", *frames):
    return Raised(kind, message, frames or (frame(),))


def log(**kwargs):
    defaults = {"time_ns": next(clock), "severity": ERROR, "body": "it failed", "service": "shop"}
    return LogEvent(**{**defaults, **kwargs})


def span(name="GET /x", *, kind="SERVER", ms=10, end_ns=None, **kwargs):
    end = end_ns or next(clock)
    return SpanEvent(name, kind, end - ms * 1_000_000, end, **{"service": "shop", **kwargs})


class World:
    """An analyzer and a store, as the engine joins them."""

    def __init__(self, **kwargs):
        self.analyzer = IssueAnalyzer(**kwargs)
        self.store = SharedStore(None, ProcessRun(1, "shop", "python -m shop", "/", T0))

    def see(self, *events):
        for event in events:
            self.analyzer.observe(event)
        return self

    def tick(self, now_ns):
        self.analyzer.tick(now_ns)
        return self

    def picture(self):
        self.store.apply(self.analyzer.drain())
        return self.store.picture(next(clock) + S)

    @property
    def issues(self):
        return self.picture().issues


def test_the_same_exception_at_the_same_place_is_one_issue():
    """Line numbers and messages move; the failure stays the same."""
    world = World().see(
        log(site=FailureSite((raised("ValueError", "order 17", frame(line=10)),))),
        log(site=FailureSite((raised("ValueError", "order 99", frame(line=12)),))),
    )
    (issue,) = world.issues
    assert issue.count == 2
    assert issue.messages == ("order 17", "order 99")


def test_different_functions_are_different_issues():
    """Where it is raised is part of what it is."""
    world = World().see(
        log(site=FailureSite((raised("ValueError", "x", frame("load")),))),
        log(site=FailureSite((raised("ValueError", "x", frame("store")),))),
    )
    assert len(world.issues) == 2


def test_the_depth_of_a_recursion_does_not_matter():
    """Three or thirty levels of the same recursion are one issue."""
    world = World()
    for depth in (3, 30):
        frames = [frame("walk")] * depth + [frame("main")]
        world.see(log(site=FailureSite((raised("RecursionError", "deep", *frames),))))
    assert len(world.issues) == 1


def test_one_failure_told_by_log_and_spans_counts_once():
    """A log record, the inner span and the outer span of one trace tell one failure."""
    site = FailureSite((raised("sqlite3.OperationalError", "no such table: orders"),))
    short = FailureSite((raised("OperationalError", "no such table: orders"),))
    world = World().see(
        log(site=short, trace_id=TRACE, span_id="1" * 16),
        span("query", kind="CLIENT", failed=True, exceptions=(site,), trace_id=TRACE),
        span("POST /o", failed=True, entry=True, exceptions=(site,), trace_id=TRACE),
    )
    (issue,) = world.issues
    assert issue.count == 1
    assert [(i.operation, i.affected, i.failed, i.tried) for i in issue.impacts] == [
        ("POST /o", 1, 1, 1)
    ]


def test_a_wrapped_exception_is_its_cause():
    """The innermost exception decides, whichever of the chain is told first."""
    inner = raised("KeyError", "'TOKEN_KEY'", frame("token"))
    outer = raised("PaymentError", "payment failed", frame("pay"))
    world = World().see(
        span(
            "pay", kind="INTERNAL", failed=True, exceptions=(FailureSite((inner,)),), trace_id=TRACE
        ),
        log(site=FailureSite((inner, outer)), trace_id=TRACE),
    )
    (issue,) = world.issues
    assert issue.count == 1
    assert issue.site.root.type == "KeyError"


def test_a_log_line_that_only_quotes_the_exception_is_not_another_failure():
    """`log.error("failed: %s", e)` after the span told the exception counts nothing."""
    site = FailureSite((raised("TimeoutError", "no answer from stock after 4 s"),))
    world = World().see(
        span("ask", kind="INTERNAL", failed=True, exceptions=(site,), trace_id=TRACE),
        log(body="failed: no answer from stock after 4 s", trace_id=TRACE),
    )
    assert [issue.count for issue in world.issues] == [1]


def test_the_same_object_logged_by_two_places_counts_once():
    """Without a trace, an exception handed upwards is known by its identity."""
    site = FailureSite((raised(),))
    lower, upper = frame("lower", 3), frame("upper", 9)
    world = World().see(
        log(site=site, failure_token=7, call_site=lower),
        log(site=site, failure_token=7, call_site=upper),
    )
    assert [issue.count for issue in world.issues] == [1]


def test_a_loop_that_logs_counts_every_turn():
    """Addresses are used again: the same place logging the same address is a new failure."""
    site = FailureSite((raised(),))
    world = World().see(
        *(log(site=site, failure_token=7, call_site=frame("loop")) for _ in range(5))
    )
    assert [issue.count for issue in world.issues] == [5]


def test_a_crash_that_was_logged_before_is_one_issue_and_comes_first():
    """log.exception(); raise — then the process dies of it."""
    site = FailureSite((raised(),))
    world = World().see(
        *(log(body=f"noise {word}", call_site=frame(word)) for word in ("a", "b")),
        log(site=site, failure_token=7, call_site=frame("main")),
        log(site=site, failure_token=7, uncaught="main", severity=FATAL),
    )
    first = world.issues[0]
    assert (first.count, first.uncaught, first.title) == (1, "main", "ValueError in load")


def test_a_crash_that_overtakes_its_record_is_one_issue():
    """The more urgent of the two is analysed first when both wait and there is much to do."""
    site = FailureSite((raised(),))
    record = log(site=site, failure_token=7, call_site=frame("main"))
    crash = log(site=site, failure_token=7, uncaught="main", severity=FATAL)
    (issue,) = World().see(crash, record).issues
    assert (issue.count, issue.uncaught) == (1, "main")


def test_a_crash_that_its_span_told_before_is_one_issue():
    """The root span of a script records what then ends the script."""
    site = FailureSite((raised(),))
    world = World().see(
        span("job", kind="INTERNAL", entry=True, failed=True, exceptions=(site,), trace_id=TRACE),
        log(site=site, failure_token=7, uncaught="main", severity=FATAL),
    )
    (issue,) = world.issues
    assert (issue.count, issue.uncaught) == (1, "main")


def test_a_record_after_its_span_is_over_tells_the_same_failure():
    """The span ends with the exception, the handler around it logs: one a turn, not two."""
    site = FailureSite((raised(),))
    world = World()
    for number in range(5):
        world.see(
            span("job", entry=True, failed=True, exceptions=(site,), trace_id=f"{number:032x}"),
            log(site=site, failure_token=7, call_site=frame("loop")),
        )
    assert [issue.count for issue in world.issues] == [5]


def test_the_same_record_through_two_providers_counts_once():
    """A program's own provider and ours both hand over the record: same time, logger and text."""
    record = {"time_ns": T0, "body": "disk gone", "logger": "app"}
    world = World().see(log(**record, source=1), log(**record, source=2))
    assert [issue.count for issue in world.issues] == [1]


def test_what_opentelemetry_says_of_itself_is_no_issue_of_the_app():
    """Exporter trouble is pipeline health."""
    world = World().see(log(logger="opentelemetry.exporter.otlp", body="Transient error 14"))
    assert world.issues == []
    assert sum(world.analyzer.pipeline_trouble.values()) == 1


def test_a_failed_call_without_exception_is_an_issue_when_nothing_explains_it():
    """A 503 from a peer, and nobody logged anything."""
    call = span(
        "GET",
        kind="CLIENT",
        failed=True,
        trace_id=TRACE,
        attributes={"url.full": "http://pay:9/charge/7", "http.response.status_code": 503},
    )
    world = World().see(call, span("POST /o", entry=True, failed=True, trace_id=TRACE))
    (issue,) = world.issues
    assert issue.title == "GET pay:9/charge/<*> failed: 503"
    assert issue.impacts[0].operation == "POST /o"


def test_a_failed_call_affects_its_operation_once():
    """The call and the operation around it fail without a word: one run ran into it."""
    world = World()
    for number in range(3):
        trace = f"{number:032x}"
        call = {"http.response.status_code": 503, "url.full": "http://pay:9/charge"}
        world.see(
            span("GET", kind="CLIENT", failed=True, trace_id=trace, attributes=call),
            span("POST /o", entry=True, failed=True, trace_id=trace),
        )
    (issue,) = world.issues
    assert [(i.affected, i.failed, i.tried) for i in issue.impacts] == [(3, 3, 3)]


def test_a_failed_call_that_a_log_line_explains_is_not_another_issue():
    """The call fails, the app logs the exception: one failure."""
    call = span("GET", kind="CLIENT", failed=True, trace_id=TRACE, status_description="refused")
    site = FailureSite((raised("ConnectionError", "connection refused by pay:9"),))
    world = World().see(
        call,
        log(site=site, trace_id=TRACE),
        span("POST /o", entry=True, failed=True, trace_id=TRACE),
    )
    assert [issue.count for issue in world.issues] == [1]


def test_a_failed_call_without_an_exception_names_who_made_it():
    """A 503 raises nothing by itself: the stack below the call is all that says where."""
    caller = (frame("request", file="requests/api.py", in_app=False), frame("price"))
    world = World().see(
        span("GET", kind="CLIENT", failed=True, called_from=caller, trace_id=TRACE),
        span("GET /x", failed=True, entry=True, trace_id=TRACE),
    )
    (issue,) = world.issues
    assert issue.title == "GET failed: status ERROR"
    assert issue.call_site == frame("price")
    assert [raised.frames for raised in issue.site.chain] == [caller]


def test_a_failed_call_without_an_entry_span_is_counted_by_time():
    """A background thread's call has nobody to close its trace."""
    call = span("GET", kind="CLIENT", failed=True, trace_id=TRACE, status_description="refused")
    world = World().see(call)
    assert world.issues == []
    world.tick(call.end_ns + S)
    assert len(world.issues) == 1


def test_impact_counts_an_operation_once_however_many_failures_it_had():
    """failed-of-tried is about operations, not about records."""
    world = World()
    for number in range(10):
        trace = f"{number:032x}"
        if number < 3:
            site = FailureSite((raised(),))
            world.see(log(site=site, trace_id=trace), log(site=site, trace_id=trace))
        world.see(span("GET /x", entry=True, failed=number < 3, trace_id=trace))
    (issue,) = world.issues
    (impact,) = issue.impacts
    assert (issue.count, impact.affected, impact.failed, impact.tried) == (3, 3, 3, 10)
    assert issue.passing_trace == f"{9:032x}"


def test_a_loop_in_one_trace_counts_every_turn():
    """A batch job is one trace: a thousand items that fail alike are a thousand failures."""
    site = FailureSite((raised(),))
    record = {"site": site, "trace_id": TRACE, "call_site": frame("loop")}
    world = World().see(*(log(**record, failure_token=n) for n in range(1, 1001)))
    world.see(log(**{**record, "call_site": frame("main", line=99)}))
    world.see(span("job", entry=True, failed=True, exceptions=(site,), trace_id=TRACE))
    (issue,) = world.issues
    assert issue.count == 1000
    assert [(i.affected, i.failed, i.tried) for i in issue.impacts] == [(1, 1, 1)]


def test_retries_in_one_trace_are_each_a_failure():
    """Three attempts fail alike, then the caller logs it: three, not one and not four."""
    refused = (FailureSite((raised("ConnectionError", "connection refused"),)),)
    world = World()
    for _ in range(3):
        world.see(span("GET", kind="CLIENT", failed=True, exceptions=refused, trace_id=TRACE))
    world.see(log(site=refused[0], trace_id=TRACE, call_site=frame("fetch")))
    assert [issue.count for issue in world.issues] == [3]


def test_two_places_that_fail_alike_are_two_issues_whatever_address_is_used_again():
    """An exception's address is free for the next one: where it was raised tells them apart."""
    world = World()
    for _ in range(100):
        for name in ("read_a", "read_b"):
            site = FailureSite((raised("ConnectionError", "refused", frame(name)),))
            world.see(log(site=site, failure_token=7, call_site=frame(name, line=20)))
    assert sorted((issue.title, issue.count) for issue in world.issues) == [
        ("ConnectionError in read_a", 100),
        ("ConnectionError in read_b", 100),
    ]


def test_failed_calls_that_nobody_explains_are_counted_when_too_many_wait():
    """Their operation never ends; none of them may vanish."""
    world = World()
    for number in range(MAX_PENDING + 10):
        world.see(span("GET", kind="CLIENT", failed=True, trace_id=f"{number:032x}"))
    assert [issue.count for issue in world.issues] == [10]


def test_a_record_without_a_call_site_is_called_by_its_text():
    """The key of its template is for us alone."""
    (issue,) = World().see(log(body="disk 7 is full")).issues
    assert issue.title == "disk <*> is full"


def test_texts_of_one_logging_call_are_folded_when_they_never_repeat():
    """An f-string makes a new text each time; the page must not drown in them."""
    names = [chr(97 + i) * 6 for i in range(26)]
    world = World().see(*(log(body=f"user {n} failed", call_site=frame()) for n in names))
    issues = world.issues
    assert len(issues) <= 9
    assert sum(issue.count for issue in issues) == 26


def test_below_the_threshold_nothing_is_an_issue_unless_a_pattern_asks():
    """INFO and DEBUG are traffic."""
    assert World().see(log(severity=INFO, body="started")).issues == []


def test_warnings_rank_behind_failures():
    """A flood of warnings does not hide one error."""
    world = World().see(
        *(log(severity=WARN, body="slow disk", call_site=frame()) for _ in range(50))
    )
    world.see(log(body="order lost", call_site=frame("order")))
    assert [issue.title for issue in world.issues] == ["order lost", "slow disk"]


def test_a_known_failure_gets_its_title_checks_and_link():
    """The pool's own words are recognised, whoever logs them."""
    message = "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00"
    site = FailureSite((raised("sqlalchemy.exc.TimeoutError", message),))
    (issue,) = World().see(log(site=site)).issues
    assert issue.category == "DB"
    assert "pool" in issue.title.lower()
    assert issue.suggested_actions
    assert issue.link.startswith("https://")


def slow_world(key_kind="SERVER", **attributes):
    world = World()
    for number in range(60):
        end = T0 + number * S // 4
        world.see(*operation(number, end, 10, key_kind, attributes))
    return world


def operation(number, end, ms, kind, attributes):
    trace = f"{number:032x}"
    calls = (
        [
            span(
                "SELECT",
                kind="CLIENT",
                ms=ms - 1,
                end_ns=end,
                trace_id=trace,
                attributes=attributes,
            )
        ]
        if attributes
        else []
    )
    return [*calls, span("GET /find", kind=kind, ms=ms, end_ns=end + 1, entry=True, trace_id=trace)]


def test_an_operation_that_becomes_slow_is_an_issue_with_its_past():
    """Ten milliseconds before, two seconds now: nothing fails, and the page says it."""
    world = slow_world()
    world.tick(T0 + 15 * S)
    assert world.issues == []
    for number in range(100, 110):
        world.see(*operation(number, T0 + (16 * S) + number * S // 4, 2000, "SERVER", {}))
    world.tick(T0 + 60 * S)
    (issue,) = world.issues
    assert issue.category == "Latency"
    assert issue.title == "Slow operation, p95 11 ms → 2.0 s: GET /find"


def test_a_slow_query_is_named_instead_of_the_operations_that_wait_for_it():
    """The statement is the cause; the operation is its impact."""
    query = {"db.system": "sqlite", "db.statement": "SELECT * FROM items WHERE name = ?"}
    world = slow_world(**query)
    for number in range(100, 110):
        world.see(*operation(number, T0 + (16 * S) + number * S // 4, 2000, "SERVER", query))
    world.tick(T0 + 60 * S)
    (issue,) = world.issues
    assert "SELECT * FROM items WHERE name = ?" in issue.title
    assert [(i.operation, i.affected) for i in issue.impacts] == [("GET /find", 10)]


def test_an_operation_that_was_slow_first_is_a_symptom_of_its_call():
    """While others call it and are fast, the statement is not slow; later it is."""
    query = {"db.system": "sqlite", "db.statement": "SELECT * FROM items WHERE name = ?"}
    world = slow_world(**query)
    start = T0 + 16 * S
    for number in range(100, 104):
        world.see(*operation(number, start + number * S // 4, 2000, "SERVER", query))
        for fast in range(20):
            *calls, _ = operation(1000 * fast + number, start + number * S // 4, 10, "", query)
            world.see(*calls)
    (issue,) = world.tick(T0 + 45 * S).issues
    assert issue.title.startswith("Slow operation")
    for number in range(130, 150):
        world.see(*operation(number, start + number * S // 4, 2000, "SERVER", query))
    cause, symptom = world.tick(T0 + 60 * S).issues
    assert cause.title.startswith("Slow query")
    assert (symptom.id, symptom.cause_id) == (issue.id, cause.id)


def test_other_processes_learn_which_call_of_a_trace_was_slow():
    """The slow call's span is told, and the part of the trace that it belongs to."""
    call = {"url.full": "http://supplier:9/price"}
    world = slow_world(**call)
    for number in range(100, 104):
        entry = span(
            "GET /find",
            ms=2000,
            end_ns=T0 + (16 * S) + number * S // 4,
            entry=True,
            trace_id=f"{number:032x}",
        )
        made = entry._replace(
            kind="CLIENT", entry=False, name="SELECT", span_id="c" * 16, attributes=call
        )
        world.see(made, entry._replace(span_id="d" * 16, parent_id="e" * 16))
    world.analyzer.tick(T0 + 60 * S)
    told = world.analyzer.drain()
    assert [part.calls for part in told.failures] == [("c" * 16,)] * 4
    assert {part.parent for part in told.failures} == {"e" * 16}
    assert {part.fingerprint for part in told.failures} == set(told.issues)


def test_a_statement_that_alone_became_slow_is_suspected_of_its_plan():
    """Two signs: at once, and others keep their pace; without the others nothing is suspected."""
    for with_other in (True, False):
        other = {"db.system": "sqlite", "db.statement": "SELECT * FROM users"}
        query = {"db.system": "sqlite", "db.statement": "SELECT * FROM items WHERE name = ?"}
        world = slow_world(**query)
        for number in range(200, 260 if with_other else 200):
            world.see(*operation(number, T0 + number * S // 4, 10, "SERVER", other))
        for number in range(300, 310):
            world.see(*operation(number, T0 + number * S // 4, 2000, "SERVER", query))
        (issue,) = world.tick(T0 + 90 * S).issues
        assert any("index" in reading.text for reading in issue.readings) is with_other


def test_an_operation_that_runs_rarely_is_judged_by_its_last_runs():
    """Once in ten seconds is enough to notice."""
    world = slow_world()
    for number in range(100, 106):
        world.see(*operation(number, T0 + number * 10 * S, 2000, "SERVER", {}))
    assert len(world.tick(T0 + 1100 * S).issues) == 1


def test_waiting_that_ends_in_a_failure_is_a_symptom_of_it():
    """A second of waiting for the pool is the pool's issue; the operation itself is not slow."""
    query = {"db.system": "sqlite", "db.statement": "connect"}
    world = slow_world(**query)
    site = FailureSite((raised("TimeoutError", "no connection"),))
    for number in range(100, 110):
        world.see(log(site=site, trace_id=f"{number:032x}"))
        end = T0 + (16 * S) + number * S // 4
        world.see(*operation(number, end, 2000, "SERVER", query))
    failure, slow = world.tick(T0 + 60 * S).issues
    assert (slow.category, slow.cause_id) == ("Latency", failure.id)
    assert failure.symptom_ids == (slow.id,)


def test_a_failure_names_what_became_slow_before_it():
    """The holder of the connections is slow, then others find none."""
    calls = {"url.full": "http://supplier:9/price"}
    world = World()
    for number in range(60):
        world.see(*holding(number, T0 + number * S // 4, 10, calls))
    for number in range(100, 110):
        world.see(*holding(number, T0 + (16 * S) + number * S // 4, 3000, calls))
    message = "QueuePool limit of size 5 overflow 0 reached, connection timed out, timeout 1.00"
    world.see(log(time_ns=T0 + 40 * S, site=FailureSite((raised("TimeoutError", message),))))
    world.see(log(time_ns=T0 + 41 * S, site=FailureSite((raised("TypeError", "int"),))))
    failure, other = world.tick(T0 + 60 * S).issues[:2]
    assert other.readings == ()
    (reading,) = failure.readings
    assert reading.confidence == "LIKELY"
    assert "{call} became slow" in reading.text
    assert reading.call == "GET supplier:9/price"
    assert "also use the database" in reading.text


def holding(number, end, ms, call):
    """A query, then a call to somebody else, in one operation."""
    trace = f"{number:032x}"
    query = {"db.system": "sqlite", "db.statement": "SELECT 1"}
    return (
        span("SELECT", kind="CLIENT", ms=1, end_ns=end - 1, trace_id=trace, attributes=query),
        span("GET", kind="CLIENT", ms=ms - 2, end_ns=end, trace_id=trace, attributes=call),
        span("GET /quote", ms=ms, end_ns=end + 1, entry=True, trace_id=trace),
    )


def test_an_operation_that_was_always_slow_is_not_an_issue():
    """A report that takes three seconds took three seconds yesterday."""
    world = World()
    for number in range(60):
        world.see(*operation(number, T0 + number * S // 4, 3000, "SERVER", {}))
    assert world.tick(T0 + 60 * S).issues == []


def test_components_in_error_always_give_an_issue():
    """The guide's way in: statuses set by hand."""
    tracker = SystemStatusTracker()
    tracker.update_component_status(
        "Database",
        "ERROR",
        "QueuePool limit of size 5 overflow 5 reached, connection timed out, timeout 4.00",
    )
    tracker.update_component_status("Mystery", "ERROR", "odd")
    tracker.update_component_status("Fine", "OK", "")
    issues = IssueAnalyzer().analyze_for_issues(tracker)
    assert sorted(issue.category for issue in issues) == ["Application", "DB"]


def test_patterns_can_be_added_while_running():
    """Both of the guide's ways take effect on the next event."""
    world = World()
    world.analyzer.add_detection_pattern(
        "custom", r"Custom.*failed", "MEDIUM", "SERVICE", ["a"], 20
    )
    world.analyzer.ISSUE_PATTERNS["other"] = {
        "pattern": "Other.*timeout",
        "priority": "HIGH",
        "category": "NETWORK",
        "actions": ["b"],
        "estimated_time": 25,
    }
    world.see(log(body="CustomService failed"), log(body="OtherService timeout"))
    assert {issue.category for issue in world.issues} == {"SERVICE", "NETWORK"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pattern": "(?=x)"}, "look"),
        ({"pattern": 3}, "a string"),
        ({"priority": "URGENT"}, "HIGH, MEDIUM, LOW"),
        ({"estimated_time": -1}, "minutes"),
        ({"color": "red"}, "color"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused_at_the_assignment(change, said):
    """The error names what is wrong; the patterns that were there stay."""
    analyzer = IssueAnalyzer([])
    good = {"pattern": "x", "priority": "LOW", "category": "C", "actions": [], "estimated_time": 1}
    with pytest.raises(PatternError, match=said):
        analyzer.ISSUE_PATTERNS["bad"] = {**good, **change}
    assert len(analyzer.ISSUE_PATTERNS) == 0


def finding(title="Leak: 1.0 MB/s", **kwargs):
    return IssueFacts("f" * 16, title, "MEDIUM", "Memory", WARN, "shop", **kwargs)


def test_a_finding_is_an_issue_though_it_is_neither_log_nor_span():
    """It is counted each time, tells the latest figures, and is news once."""
    world = World()
    world.analyzer.report_finding(finding(), "grew by 10 MB", T0)
    world.analyzer.report_finding(finding("Leak: 1.2 MB/s"), "grew by 12 MB", T0 + S)
    deltas = world.analyzer.drain()
    world.store.apply(deltas)
    (issue,) = world.store.picture(T0 + 2 * S).issues
    assert (2, "Leak: 1.2 MB/s", "Memory") == (issue.count, issue.title, issue.category)
    assert "grew by 12 MB" == issue.description
    assert deltas.changed
    world.analyzer.report_finding(finding(), "grew by 10 MB", T0 + 3 * S)
    assert not world.analyzer.drain().changed


def test_findings_may_come_from_many_threads():
    """None is lost while the analysis thread drains."""
    world = World()
    facts = finding()

    def report():
        for n in range(200):
            world.analyzer.report_finding(facts, "x", T0 + n)

    reporters = [threading.Thread(target=report) for _ in range(4)]
    for reporter in reporters:
        reporter.start()
    while any(reporter.is_alive() for reporter in reporters):
        world.store.apply(world.analyzer.drain())
    world.store.apply(world.analyzer.drain())
    (issue,) = world.store.picture(T0 + S).issues
    assert (800, {}) == (issue.count, world.analyzer.lost)


def test_findings_that_nobody_drains_do_not_pile_up():
    """What does not fit is said."""
    analyzer = IssueAnalyzer([])
    for n in range(MAX_FINDINGS + 3):
        analyzer.report_finding(finding(), "x", T0 + n)
    assert {"findings beyond 1,000 at a time": 3} == analyzer.lost
    assert MAX_FINDINGS == analyzer.drain().issues["f" * 16].count
