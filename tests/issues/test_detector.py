# SPDX-License-Identifier: Apache-2.0
"""Issues of plain log text: the same engine, each call by itself."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_briefing.events import ERROR, WARN
from otel_briefing.issues.analyzer import IssueAnalyzer
from otel_briefing.issues.detector import MAX_ISSUES, IssueDetector
from otel_briefing.issues.model import IssueState

UTC = dt.timezone.utc
MIXED = """\
web-1  | 2024-05-01 10:00:00,000 - shop - INFO - order 1 placed
web-1  | 2024-05-01 10:00:01,000 - shop - ERROR - order 2 failed
web-1  | Traceback (most recent call last):
db-1   | 2024-05-01 10:00:02.000 UTC [12] FATAL:  sorry, too many clients already
web-1  |   File "/srv/shop/orders.py", line 20, in total
web-1  |     raise ValueError("bad total 2")
web-1  | ValueError: bad total 2
web-1  | 2024-05-01 10:00:03,000 - shop - ERROR - order 3 failed
web-1  | Traceback (most recent call last):
web-1  |   File "/srv/shop/orders.py", line 21, in total
web-1  |     raise ValueError("bad total 3")
web-1  | ValueError: bad total 3
web-1  | 2024-05-01 10:00:04,000 - shop - WARNING - order 4 took 3 s
"""


@pytest.fixture
def detector():
    return IssueDetector(zone=UTC)


def told(issues):
    return [(issue.title, issue.service, issue.count) for issue in issues]


def test_a_mixed_stream_gives_its_issues_most_urgent_first(detector):
    """Two services, two formats: failures before warnings, the same failure once."""
    issues = detector.detect_issues(MIXED)
    assert {("ValueError in total", "web", 2)} < set(told(issues))
    assert [ERROR, WARN] == sorted({min(i.severity, ERROR) for i in issues}, reverse=True)
    assert ["web"] == issues[-1].affected_components
    assert WARN == issues[-1].severity
    (database,) = [issue for issue in issues if issue.service == "db"]
    assert database.pattern


def test_each_call_stands_by_itself(detector):
    """Windows that overlap do not count twice, and ids stay what they were."""
    first, second = detector.detect_issues(MIXED), detector.detect_issues(MIXED)
    assert told(first) == told(second)
    assert [issue.id for issue in first] == [issue.id for issue in second]
    assert [] == detector.detect_issues([])


def test_lines_of_one_template_keep_their_id_from_window_to_window(detector):
    """What is learnt of a template in one call holds in the next."""
    lines = [f"ERROR:shop:user {name} has no seat left" for name in ("ann", "bob", "eve", "joe")]
    (first,) = detector.detect_issues(lines[:3])
    (second,) = detector.detect_issues(lines[2:])
    assert (first.id, 3, 2) == (second.id, first.count, second.count)


@pytest.mark.parametrize("form", [str.splitlines, iter, lambda t: t.splitlines(keepends=True)])
def test_lines_come_in_any_form(detector, form, tmp_path):
    """A list with or without line ends, an iterator, an open file, one string: the same."""
    expected = told(detector.detect_issues(MIXED))
    if form is not iter:
        assert expected == told(detector.detect_issues(form(MIXED)))
        return
    file = tmp_path / "app.log"
    file.write_text(MIXED, encoding="utf-8")
    with file.open(encoding="utf-8") as lines:
        assert expected == told(detector.detect_issues(lines))
    assert expected == told(detector.detect_issues(iter(MIXED.split("\n"))))


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        (None, "log_lines is a NoneType"),
        (7, "log_lines is a int"),
        (b"ERROR x", "log_lines is a bytes"),
        ({"a": 1}, "log_lines is a dict"),
        (["ok", b"no"], r"log_lines\[1\] is a bytes"),
    ],
)
def test_a_wrong_type_is_named_and_what_is_allowed(detector, given_, named):
    """The error says which, what it is, and what may stand there."""
    with pytest.raises(TypeError, match=f"{named}; allowed: a list .* of str, or one str"):
        detector.detect_issues(given_)


def test_the_latest_line_is_now(detector):
    """An old log is judged as of its end: what was quiet for long before it is over."""
    (last, early) = detector.detect_issues(
        [
            "2020-05-01 10:00:00 ERROR disk is full",
            "2020-05-01 12:00:00 ERROR door is open, really",
        ]
    )
    assert (IssueState.RESOLVED, IssueState.NEW) == (early.state, last.state)
    assert dt.datetime(2020, 5, 1, 12, tzinfo=UTC) == last.last_seen


def test_a_line_without_a_severity_may_tell_a_known_failure(detector):
    """The kernel's and a program's prints carry no level: a pattern speaks for them."""
    (issue,) = detector.detect_issues(
        [
            "May  1 10:00:00 web kernel: Out of memory: Killed process 7 (python3)",
            "May  1 10:00:01 web systemd[1]: Started Session 17 of user root.",
        ]
    )
    assert ("Memory", ERROR) == (issue.category, issue.severity)
    assert [] == detector.detect_issues(["all is well", "nothing to see"])


def test_requests_that_fail_are_told_apart_by_operation(detector):
    """Two routes are two issues, two orders of one route are one."""
    line = '1.2.3.4 - - [01/May/2024:10:00:00 +0000] "GET {} HTTP/1.1" {} 1'
    paths = [("/o/1", 500), ("/o/2", 500), ("/cart", 503), ("/o/3", 404), ("/", 200)]
    issues = detector.detect_issues([line.format(*path) for path in paths])
    assert [("GET /o/<*>", 2), ("GET /cart", 1)] == [(i.logger, i.count) for i in issues]


def test_the_patterns_of_an_analyzer_may_be_used():
    """What the user taught the engine holds for text too."""
    analyzer = IssueAnalyzer([])
    analyzer.add_detection_pattern("till_stuck", "till .* stuck", "HIGH", "Shop", ["Kick it"], 5)
    (issue,) = IssueDetector(analyzer.ISSUE_PATTERNS).detect_issues(["the till 3 is stuck"])
    assert ("Shop", "HIGH", ["Kick it"]) == (
        issue.category,
        issue.priority,
        issue.suggested_actions,
    )


def test_the_number_of_issues_is_bounded():
    """However many different failures there are, the most severe are kept."""
    lines = (f"CRITICAL:shop.{n}:x" if n == 7 else f"ERROR:shop.{n}:x" for n in range(25_000))
    issues = IssueDetector([]).detect_issues(lines)
    assert MAX_ISSUES == len(issues)
    assert "shop.7" in {issue.logger for issue in issues}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(MIXED.split("\n")), st.text(max_size=60)), max_size=20))
def test_any_lines_give_a_list(lines):
    """Nothing that a log can hold raises."""
    issues = IssueDetector([], zone=UTC).detect_issues(lines)
    assert all(issue.count > 0 for issue in issues)
