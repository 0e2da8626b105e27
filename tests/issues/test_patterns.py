# SPDX-License-Identifier: Apache-2.0
"""Pattern packs and the set that matches them: every shipped pattern proves itself here."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from otel_briefing import events
from otel_briefing.exceptions import PatternError
from otel_briefing.issues.patterns import TEXT_CAP, Pattern, PatternSet, load_packs

if TYPE_CHECKING:
    from pathlib import Path

CATEGORIES = (
    *("DB", "Network", "TLS", "DNS", "Auth", "Memory", "Disk", "Config", "DI", "UI", "Queue"),
    *("Timeout", "RateLimit", "Concurrency", "LLM", "Kubernetes"),
)
SHIPPED = load_packs()
SHIPPED_SET = PatternSet(SHIPPED)
EACH = pytest.mark.parametrize("pattern", SHIPPED, ids=lambda p: p.name)


def make(pattern: str, name: str = "mine", priority: str = "HIGH", **more) -> Pattern:
    return Pattern(name, pattern, priority, "Custom", "A title", **more)


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


ENTRY = (
    "  - {name: till, pattern: 'till \\d+ jammed', priority: HIGH, category: POS, "
    "title: Till jammed"
)


@EACH
def test_example_is_recognised(pattern):
    """The line that the product prints is recognised, by this pattern before all others."""
    assert SHIPPED_SET.match(pattern.example) == pattern


@EACH
def test_example_is_recognised_inside_a_log_line(pattern):
    """It still is when the failing log line follows on a line of its own."""
    text = f"{pattern.example}\nrequest to /checkout failed"
    assert pattern in SHIPPED_SET.match_all(text)


@EACH
def test_lookalike_is_left_alone(pattern):
    """A similar line that tells of no failure matches no pattern at all."""
    assert [] == SHIPPED_SET.match_all(pattern.lookalike)


@EACH
def test_shipped_pattern_is_complete(pattern):
    """A shipped pattern says everything that a page needs of it."""
    assert pattern.category in CATEGORIES
    assert 2 <= len(pattern.checks) <= 4
    assert any("→" in check for check in pattern.checks), "no check says what its outcomes mean"
    assert pattern.link.startswith("https://")
    assert pattern.estimated_time > 0
    assert pattern.min_severity >= events.WARN
    assert all((pattern.title, pattern.example, pattern.source, pattern.lookalike))


def test_shipped_patterns_cover_the_field():
    """At least 70 patterns, their names unique, and each area has several."""
    assert len(SHIPPED) >= 70
    assert len({pattern.name for pattern in SHIPPED}) == len(SHIPPED)
    counts = {name: sum(p.category == name for p in SHIPPED) for name in CATEGORIES}
    assert min(counts.values()) >= 3, counts


@pytest.mark.parametrize(
    "line",
    [
        "INFO request completed in 31 ms, timeout 30 s, 0 errors",
        "connection established to db:5432, pool size 5",
        "Application startup complete.",
        "retry policy: 3 attempts, connect timeout 5 s",
        "token refreshed for user 42",
        "memory usage 120 MB of 512 MB, disk 40 % full",
        "queue orders has 0 messages",
        "GET /orders/429 HTTP/1.1 200 OK",
        "KeyError handling is on",
        "",
    ],
)
def test_ordinary_line_is_left_alone(line):
    """Ordinary lines that speak of the same things are not failures."""
    assert SHIPPED_SET.match(line) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ConnectionRefusedError: [Errno 111] Connection refused", "connection_refused"),
        ("httpx.ConnectError: [Errno 111] Connection refused", "connection_refused"),
        ("ConnectError: All connection attempts failed", "all_connection_attempts_failed"),
        (
            "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) database is locked\n[SQL]",
            "sqlite_locked",
        ),
        ("OperationalError: (sqlite3.OperationalError) interrupted", "sqlite_interrupted"),
        ("OperationalError: (sqlite3.OperationalError) no such table: orders", "table_missing"),
        (
            "TimeoutError: QueuePool limit of size 2 overflow 0 reached, connection timed out",
            "sqlalchemy_pool_exhausted",
        ),
        ("KeyError: 'PAYMENT_API_KEY'\ncheckout failed", "environment_variable_missing"),
        ("No module named 'payments'", "module_not_found"),
    ],
)
def test_same_failure_in_other_clothes(text, name):
    """A failure is recognised with a qualified type, an unqualified one, or wrapped."""
    assert SHIPPED_SET.match(text).name == name


def test_highest_priority_wins():
    """The best match has the highest priority, however long the others are."""
    patterns = PatternSet([make("boom and bust", "long", "LOW"), make("boom", "short", "HIGH")])
    assert patterns.match("boom and bust").name == "short"
    assert ["short", "long"] == [p.name for p in patterns.match_all("boom and bust")]
    assert ["short", "long"] == [p.name for p in patterns.patterns]


def test_longest_pattern_wins_within_a_priority():
    """Among equals the longer pattern text wins: it is the more specific one."""
    patterns = PatternSet([make("boom", "short"), make("boom and bust", "long")])
    assert patterns.match("boom and bust").name == "long"


def test_severity_passes_over_patterns_that_ask_for_more():
    """A pattern for errors does not speak for a warning; one that asks for INFO does."""
    patterns = PatternSet(
        [
            make("slow", "on_error", min_severity=events.ERROR),
            make("slow", "on_info", "LOW", min_severity=events.INFO),
        ]
    )
    assert patterns.match("slow", events.WARN).name == "on_info"
    assert ["on_info"] == [p.name for p in patterns.match_all("slow", events.WARN)]
    assert patterns.match("slow", events.ERROR).name == "on_error"
    assert patterns.match("slow", events.DEBUG) is None


def test_long_text_keeps_head_and_tail():
    """Of a long text head and tail are looked at, and nothing matches over the gap."""
    patterns = PatternSet([make("needle"), make(r"a.b", "gap")])
    filler = "x" * (2 * TEXT_CAP)
    assert patterns.match(f"needle{filler}").name == "mine"
    assert patterns.match(f"{filler}needle").name == "mine"
    assert patterns.match(f"{filler}needle{filler}") is None
    assert patterns.match("a" * TEXT_CAP + "b" * TEXT_CAP) is None


def test_lone_surrogates_do_not_raise():
    """Text that is not valid Unicode is matched all the same."""
    assert PatternSet([make("needle")]).match("\ud800 needle \udfff").name == "mine"


def test_empty_set_matches_nothing():
    """A set without patterns is allowed and matches nothing."""
    patterns = PatternSet([])
    assert len(patterns) == 0
    assert patterns.match("anything") is None
    assert patterns.match_all("anything") == []


def test_three_hundred_patterns_fit():
    """300 patterns, long alternatives among them, compile within the memory cap and all match."""
    extra = [
        make(rf"(?i)service-{n}: (?:{p.pattern})", f"{p.name}_{n}")
        for n in range(2)
        for p in SHIPPED
    ]
    chosen = [*SHIPPED, *extra][: max(300, len(SHIPPED) + 100)]
    patterns = PatternSet(chosen)
    assert len(patterns) >= 300
    for pattern in SHIPPED:
        assert pattern in patterns.match_all(pattern.example)
    assert patterns.match(f"SERVICE-0: {SHIPPED[0].example}") is not None


@pytest.mark.parametrize("bomb", ["(a+)+$", "(a|aa)+$", "(.*a){20}$"])
def test_catastrophic_pattern_is_harmless(bomb):
    """A pattern that would hang a backtracking engine simply returns."""
    assert PatternSet([make(bomb)]).match("a" * 4000 + "!") is None


@pytest.mark.parametrize(
    ("bad", "construct"),
    [
        (r"a(?=b)", "look-ahead"),
        (r"a(?!b)", "negative look-ahead"),
        (r"(?<=a)b", "look-behind"),
        (r"(?<!a)b", "negative look-behind"),
        (r"(a)\1", r"back-reference \\1"),
        (r"(?P<x>a)(?P=x)", "back-reference"),
        (r"(?>a)b", "atomic group"),
        (r"a++", "possessive"),
        (r"a\Z", r"write \\z"),
        (r"(unclosed", "missing \\)"),
        (r"[a", "missing ]"),
        ("", "empty"),
        ("x*", "matches the empty string"),
        ("boom|", "matches the empty string"),
        ("a\ud800", "not valid Unicode"),
    ],
)
def test_unusable_pattern_names_itself_and_the_reason(bad, construct, capfd):
    """What RE2 refuses is refused by name and construct, and the terminal stays clean."""
    with pytest.raises(PatternError, match=construct) as caught:
        PatternSet([make("fine", "good"), make(bad, "culprit")])
    assert "'culprit'" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_unknown_priority_is_refused():
    """A priority that is none of the three is refused, with the nearest one."""
    with pytest.raises(
        PatternError, match=r"'hihg'; allowed: HIGH, MEDIUM, LOW; did you mean 'HIGH'"
    ):
        PatternSet([make("boom", priority="hihg")])


def test_threads_share_one_set():
    """Many threads may match at once and all get the same answers."""
    examples = [pattern.example for pattern in SHIPPED]

    def names(_: int) -> list[str]:
        return [SHIPPED_SET.match(example).name for example in examples]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(names, range(32)))
    assert all(answer == [p.name for p in SHIPPED] for answer in answers)


FORKING = """
import os
from otel_briefing.issues.patterns import Pattern, PatternSet
patterns = PatternSet([Pattern("mine", "needle", "HIGH", "Custom", "A title")])
pid = os.fork()
if pid == 0:
    os._exit(3 if patterns.match("a needle") else 4)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the platform does not fork")
def test_forked_child_matches():
    """A child made by fork goes on matching with the set that its parent compiled."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "3\n"


def test_patterns_too_large_for_the_memory_cap_are_refused(capfd):
    """A set that RE2 cannot hold is refused when it is built; it never answers wrongly later."""
    with pytest.raises(PatternError, match=r"memory|too large"):
        PatternSet([make(rf"{n}\pL{{900}}", f"huge_{n}") for n in range(9)])
    assert capfd.readouterr() == ("", "")


def test_user_pack_is_added(tmp_path):
    """A user's pack needs no example; what it leaves out has a default."""
    packs = load_packs([write(tmp_path, f"patterns:\n{ENTRY}, min_severity: INFO}}\n")])
    mine = packs[-1]
    assert (mine.name, mine.category, mine.checks, mine.link) == ("till", "POS", (), "")
    assert mine.min_severity == events.INFO
    assert PatternSet(packs).match("till 4 jammed") == mine
    assert len(packs) == len(SHIPPED) + 1


def test_user_pack_replaces_a_shipped_pattern(tmp_path):
    """A user's pattern takes the place of the shipped one of the same name."""
    entry = ENTRY.replace("till,", "sqlite_locked,", 1)
    packs = load_packs([write(tmp_path, f"patterns:\n{entry}}}\n")])
    assert len(packs) == len(SHIPPED)
    assert [p.category for p in packs if p.name == "sqlite_locked"] == ["POS"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"patterns:\n{ENTRY}, chekcs: [a]}}", r"'till': key 'chekcs' .* did you mean 'checks'\?"),
        (
            f"patterns:\n{ENTRY}, estimated_time: soon}}",
            "'estimated_time' is 'soon'; allowed: whole",
        ),
        (
            f"patterns:\n{ENTRY}, estimated_time: 0}}",
            "'estimated_time' is 0; allowed: whole minutes",
        ),
        (f"patterns:\n{ENTRY}, estimated_time: true}}", "'estimated_time' is True"),
        (f"patterns:\n{ENTRY}, checks: look}}", "'checks' is 'look'; allowed: a list of texts"),
        (f"patterns:\n{ENTRY}, checks: [1]}}", "'checks' is"),
        (f"patterns:\n{ENTRY}, link: 5}}", "'link' is 5; allowed: text"),
        (
            f"patterns:\n{ENTRY}, min_severity: WARM}}",
            r"'WARM'; allowed: DEBUG.* did you mean 'WARN'\?",
        ),
        (f"patterns:\n{ENTRY}}}\n{ENTRY}}}", "'till': key 'name': this name is used twice"),
        (
            "patterns:\n  - {name: till}",
            "'till': key 'pattern' is missing; required: name, pattern",
        ),
        ("patterns:\n  - till", "'number 1': expected a mapping, found 'till'"),
        (
            "patterns:\n" + ENTRY.replace("HIGH", "URGENT") + "}",
            "'URGENT'; allowed: HIGH, MEDIUM, LOW",
        ),
        ("patterns:\n" + ENTRY.replace("Till jammed", "''") + "}", "key 'title' is empty"),
        (
            "patterns:\n" + ENTRY.replace("name: till", "name: 4") + "}",
            "'number 1': key 'name' is 4",
        ),
        (
            f"patterns:\n{ENTRY}, link: {'[' * 100}1{']' * 100}}}",
            r"'link' is \[+\.\.\.\]+; allowed: text",
        ),
        ("patterns: {}", "expected a mapping with one key, `patterns`"),
        ("- till", "expected a mapping with one key, `patterns`"),
        ("", "expected a mapping with one key, `patterns`"),
        ("patterns: []\npaterns: []", r"key 'paterns' is not known.*did you mean 'patterns'\?"),
        ("patterns:\n  - name: a\n\tb: c", r"mine\.yaml:3: not valid YAML"),
        ("patterns: [2024-13-45]", "not valid YAML"),
        ("#" * (1 << 20) + "\n", "at most 1,048,576 bytes"),
    ],
)
def test_bad_pack_says_what_is_wrong(tmp_path, text, said):
    """A bad pack is refused with file, pattern, key, what was found and what is allowed."""
    path = write(tmp_path, text)
    with pytest.raises(PatternError, match=said) as caught:
        load_packs([path])
    assert str(path) in str(caught.value)


def test_pack_that_cannot_be_read_says_why(tmp_path):
    """A missing file and one that is not UTF-8 are refused by name."""
    with pytest.raises(PatternError, match=r"absent\.yaml: cannot be read: No such file"):
        load_packs([tmp_path / "absent.yaml"])
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"patterns: [\xe9]")
    with pytest.raises(PatternError, match=r"latin\.yaml: not valid YAML"):
        load_packs([path])


def test_refused_regex_of_a_pack_names_the_file(tmp_path):
    """A regular expression that RE2 refuses is traced back to the pack that holds it."""
    path = write(tmp_path, "patterns:\n" + ENTRY.replace("till \\d+", "(?=till)") + "}\n")
    with pytest.raises(PatternError, match=r"mine\.yaml: pattern 'till': RE2 has no look-ahead"):
        PatternSet(load_packs([path]))
