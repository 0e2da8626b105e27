# SPDX-License-Identifier: Apache-2.0
"""Korean: the catalogue is complete, what we say is said in it, what others said is left alone."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "briefing"))

import stories

import catalogue_keys
from otel_briefing import EnhancedLoggingConfig, _cli_page, cli
from otel_briefing.briefing.budget import tokens
from otel_briefing.briefing.dashboard_json import dashboard
from otel_briefing.briefing.issue_page import render_issue
from otel_briefing.briefing.page import spoken
from otel_briefing.briefing.renderer import render_page
from otel_briefing.briefing.writer import PageWriter
from otel_briefing.events import Frame
from otel_briefing.issues.memory_companions import ContainerGrowth, OperationGrowth
from otel_briefing.issues.memory_facts import (
    Allocation,
    Ceiling,
    Surroundings,
    leak_facts,
    leak_text,
)
from otel_briefing.issues.memory_growth import Growth
from otel_briefing.issues.verify import Evidence, decide
from otel_briefing.language import figures_shown, phrase, say, shown, speaking
from otel_briefing.performance.departures import lines
from otel_briefing.performance.event_loops import LoopLag
from otel_briefing.performance.health_rules import HealthRules, Measured
from otel_briefing.performance.memory_optimizer import MemoryOptimizer
from otel_briefing.performance.metric_history import MetricHistory
from otel_briefing.telemetry.process_metrics import Figure
from otel_briefing.vitals import facts_of

GOLDEN = Path(__file__).parent / "briefing" / "golden"
# What stays English beside Korean: words that scripts and contracts know, and names.
STAYS = (
    r"# Briefing|Valid until|APP NOT RUNNING|NO ISSUE SEEN|Order of events|Other issues"
    r"|Since the last briefing|Not known|`[^`]*`|[\w/]+\.py\S*|python -m|env\b|p95|p50"
    r"|Stack \d of \d, where it was raised first|Texts, latest last|exit code|sys\.exit"
)

SAME = {  # no words in them, or none in Korean
    " and {runs}",
    " to {ended}",
    " (logger {logger})",
    " in {function}",
    " and ",
    " of {span}",
    "- {issues}: `otel-briefing issues`",
    ": {how_said}",
    "{maker_said}; {found_said}: {done_said}",
    "SDK provider",
    " of {name}",
    "{was_said} → {now_said}",
    "`host all all 0.0.0.0/0 trust`.",
    "verify_signature=False.",
    "@csrf_exempt.",
    "hung_task_timeout_secs=0.",
    "ALLOWED_HOSTS = ['*'].",
    "cluster-admin.",
    "FLUSHALL.",
    "spring.main.allow-circular-references=true.",
    "verify=False.",
}


@pytest.fixture
def korean():
    with speaking("ko"):
        yield


def sections():
    wanted, stored = catalogue_keys.keys(), catalogue_keys.catalogue()
    return [(name, wanted[name], stored[name]) for name in wanted]


# The catalogue.


def test_every_text_of_ours_is_in_the_catalogue():
    """A text that nobody translated is named with its place (tests/catalogue_keys.py adds it)."""
    missing = [
        f"{where}: no Korean for {key!r}"
        for _, wanted, stored in sections()
        for key, where in wanted.items()
        if not stored.get(key)
    ]
    assert not missing, "\n".join(missing)


def test_the_catalogue_holds_nothing_else():
    """A translation whose English is no longer said is dead weight, and hides a changed text."""
    excess = [key for _, wanted, stored in sections() for key in stored if key not in wanted]
    assert [] == excess
    assert {"said", "phrases", "advice"} == set(catalogue_keys.catalogue())


def test_the_placeholders_agree():
    """A translation fills in what the English does, in the same form."""
    for section, wanted, stored in sections():
        if section == "advice":
            continue  # whole texts: braces mean themselves
        for key in wanted:
            assert catalogue_keys.placeholders(key) == catalogue_keys.placeholders(stored[key]), key


def test_no_text_for_readers_goes_around_the_catalogue():
    """What a page or a command says passes through `say`, `phrase` or `many`."""
    found = list(catalogue_keys.texts_outside())
    assert not found, "\n".join(found)


def test_every_translation_is_korean():
    """Nothing was left as it is, but for what has no words of its own."""
    same = {
        key
        for _, _, stored in sections()
        for key, to in stored.items()
        if not re.search("[가-힣]", to)
    }
    assert same <= SAME, sorted(same - SAME)


def test_what_is_copied_into_a_command_is_the_same():
    """Code in backticks, settings and options stand in a translation as in the English."""
    for _, _, stored in sections():
        for key, to in stored.items():
            assert sorted(set(re.findall(r"`[^`]+`", key))) == sorted(
                set(re.findall(r"`[^`]+`", to))
            ), key


# Finished texts.


@pytest.mark.parametrize("english", [k for k in catalogue_keys.keys()["phrases"] if "{" in k])
def test_a_finished_text_is_recognised(english, korean):
    """A phrase with values in it is shown as its translation with the same values."""
    values = {
        name: 1234 if spec else f"value-{n}"
        for n, (name, spec) in enumerate(catalogue_keys.placeholders(english))
    }
    expected = catalogue_keys.catalogue()["phrases"][english].format(**values)
    assert expected == shown(english.format(**values))


def test_a_text_within_a_text_is_translated_too(korean):
    """A value that is a phrase of ours is shown in Korean, a name as it is."""
    details = phrase(
        "{calls_said}; {who} answers there",
        calls_said=phrase("{failed:d} of {tried:d} calls failed", failed=3, tried=9),
        who="inventory",
    )
    assert "호출 9회 중 3회 실패; 응답하는 서비스 inventory" == shown(details)


def test_what_is_none_of_ours_stays(korean):
    """Text of the running system, near misses and endless texts come out as they went in."""
    for text in ("boom", "", "no issue seen!", "exit code x", "signal " + "x" * 5_000):
        assert text == shown(text)


def test_processes_are_named_before_a_sentence_and_evidence_after_it(korean):
    """Who says it, and what a receiver answered, stays; the sentence between is Korean."""
    said = spoken("shop pid 801, cart pid 9 (+2): Last internal error:\nValueError: nothing waits")
    assert "shop pid 801, cart pid 9 (+2): 마지막 내부 오류:\nValueError: nothing waits" == said


def test_english_is_what_stands_in_the_code():
    """Without a language, or with one that has no catalogue, nothing is looked up."""
    for language in ("en", "", "xx", "../ko"):
        with speaking(language):
            assert "3 of 9" == say("{n} of {m}", n=3, m=9)
            assert "silent" == say("silent")
            assert "no issue seen" == shown(phrase("no issue seen"))


# What is measured.

MB = 1_000_000
HELD = [ContainerGrowth(f"shop.{name}", 900, 20.0, 50_000.0) for name in ("ORDERS", "ROWS", "LOG")]
CALLS = [OperationGrowth("GET /", 200, 9_000.0), OperationGrowth("PUT /", 100, 9_000.0)]
GROWTH = Growth(MB, 100.0, 40.0, 125 * MB, 42 * MB)
LIMIT = Ceiling("the control group's limit", 512 * MB, 360 * MB, 360.0)
KEPT = Allocation(Frame("shop.py", "buy", 9, True), 3 * MB, 700)
LEAKS = {
    "bare": (GROWTH, Surroundings()),
    "outlived": (GROWTH._replace(survived=3), Surroundings("shop", traced=True)),
    "held": (
        GROWTH._replace(containers=(HELD[0],), operations=(CALLS[0],)),
        Surroundings("shop", "17:41:03Z", LIMIT, "17:47:03Z", bound=90_000, allocations=(KEPT,)),
    ),
    "several": (
        GROWTH._replace(containers=tuple(HELD[:2]), operations=tuple(CALLS)),
        Surroundings("shop", "17:41:03Z", LIMIT._replace(left=0)),
    ),
    "slow": (
        GROWTH._replace(bytes_per_s=50.0, containers=(HELD[0]._replace(per_s=0.05),)),
        Surroundings("shop", "17:41:03Z", LIMIT._replace(in_s=9e5, name="the machine's memory")),
    ),
}
# Names of the program and of the tools to look with.
NAMES = r"`[^`]*`|shop\.\w+|(?:GET|PUT) /|\{call\}|py-spy [\w-]+(?: --pid)?|ls -l \S+"


def assert_korean(texts):
    for text in texts:
        assert re.search("[가-힣]", text), text
        assert [] == re.findall(r"[A-Za-z]{2,} [a-z]{3,}", re.sub(NAMES, "·", text)), text


def words_of(facts):
    readings = [word for reading in facts.readings for word in (reading.text, reading.wrong_if)]
    return [w for w in (facts.title, facts.not_a_fix, *facts.checks, *readings) if w]


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_told_in_korean(leak, korean):
    """Figures, readings, checks and advice, whatever is known of it."""
    figures, words = leak_text(*LEAKS[leak]), words_of(leak_facts(*LEAKS[leak]))
    assert_korean([*figures_shown(figures).split("; "), *map(shown, words)])


def test_the_figures_of_a_leak_are_the_same_in_korean(korean):
    """Each stands in its place."""
    assert (
        "메모리 증가 속도 1 MB/s (60 MB/min), 17:41:03Z부터: 현재까지 42 MB, 사용량 125 MB; "
        "cgroup 한도(512 MB) 도달까지 약 6 min, 예상 시각 17:47:03Z; shop.ORDERS: 항목 900개; "
        "호출당 9 kB: GET /"
    ) == figures_shown(leak_text(*LEAKS["held"]))


def test_what_hurts_is_told_in_korean(korean):
    """The findings of the monitor and of the memory optimizer."""
    measured = Measured(
        (
            Figure("briefing.gc.pause.utilization", 0.3),
            Figure("process.cpu.utilization", 1.0),
            Figure("process.open_file_descriptor.count", 1_000),
        ),
        (LoopLag("MainThread", 20, 0.3, 0.4, (("shop.py", "buy", 9),)),),
        file_limit=1_024,
    )
    rules = HealthRules()
    found = [rules.judge(measured) for _ in range(6)][-1]
    optimizer = MemoryOptimizer(100, report=found.append, used_bytes=lambda: 200 * MB)
    optimizer.check()
    assert 5 == len(found)
    for finding in found:
        words = words_of(facts_of(finding, "shop"))
        assert_korean([*figures_shown(finding.text).split("; "), *map(shown, words)])


def test_what_left_its_range_is_told_in_korean(korean):
    """With the names of processes, and those of the program's own metrics, as they are."""
    said = "shop pid 5: memory: 500.0 MB (normal: 80.0 MB to 90.0 MB) (kind=rss)"
    assert "shop pid 5: 메모리: 500.0 MB (정상 범위: 80.0 MB ~ 90.0 MB) (kind=rss)" == spoken(said)
    history = MetricHistory(1_000)
    for at, value in enumerate([1.0] * 40 + [9.0] * 3):
        history.add(at, "process.cpu.utilization", value, "1", "system")
        history.add(at, "queue.size", value, "", "shop")
    assert [
        "CPU: 900.0 % (정상 범위: 100.0 % ~ 100.0 %)",
        "queue.size: 9 (정상 범위: 1 ~ 1)",
    ] == [spoken(line) for line in lines(history)]


# Pages.


def korean_page(story):
    with speaking("ko"):
        return render_page(story, marker="k7f2", source_line=stories.source_line)


def texts_in(value):
    """Yield every text of a snapshot: the stories' own words are none of ours."""
    if isinstance(value, str):
        yield value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from texts_in(getattr(value, field.name))
    elif isinstance(value, dict):
        yield from texts_in([*value, *value.values()])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts_in(each)


def english_in(page, snapshot):
    """Return what is left of English sentences: two words in a row, outside of what may stay."""
    lines = [line for line in page.splitlines() if not line.startswith("    k7f2|")]
    left = "\n".join(lines)
    for text in sorted({t.rstrip(".") for t in texts_in(snapshot) if len(t) > 3}, key=len)[::-1]:
        left = left.replace(text, "")
    return re.findall(r"[A-Za-z]{2,}[,:;]? [a-z]{3,}", re.sub(STAYS, "·", left))


@pytest.mark.parametrize("name", stories.STORIES)
def test_no_english_sentence_of_ours_is_left_on_a_page(name):
    """Page and issue files of every story are Korean, but for what must stay."""
    snapshot = stories.STORIES[name]()
    assert [] == english_in(korean_page(snapshot), snapshot)
    for issue in snapshot.issues:
        with speaking("ko"):
            text = render_issue(issue, snapshot, marker="k7f2")
        assert [] == english_in(text, snapshot)


@pytest.mark.parametrize("name", ["pool_exhaustion", "import_crash", "slow_query"])
def test_the_korean_page_is_as_stored(name):
    """Three stories' pages, to the letter (WRITE_GOLDEN=1 stores them anew)."""
    text = korean_page(stories.STORIES[name]())
    path = GOLDEN / f"{name}.ko.md"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", stories.STORIES)
def test_scripts_read_a_korean_page_as_an_english_one(name):
    """Title line and evidence are the same; headings open with the English; the end is found."""
    snapshot = stories.STORIES[name]()
    english = render_page(snapshot, marker="k7f2", source_line=stories.source_line)
    page = korean_page(snapshot)

    def headings(text):
        found = [line for line in text.splitlines() if line.startswith("## ")]
        return [h.partition(" · ")[0] for h in found]

    assert english.splitlines()[0] == page.splitlines()[0]
    assert headings(english) == headings(page)
    assert _cli_page._valid_until_of(english) == _cli_page._valid_until_of(page) is not None
    marked = [line for line in page.splitlines() if line.startswith("    k7f2|")]
    assert set(marked) <= {line for line in english.splitlines() if line.startswith("    k7f2|")}


@pytest.mark.parametrize("budget", [1500, 2000, 4000])
def test_a_korean_page_keeps_to_its_budget(budget):
    """Hangul counts a token a character; more issues than fit become lines and counts."""
    one = stories.pool_exhaustion()
    issues = [
        dataclasses.replace(issue, id=f"i-{n:08x}")
        for n, issue in enumerate([one.issues[0], *([one.issues[1]] * 60)])
    ]
    snapshot = dataclasses.replace(one, issues=issues)
    with speaking("ko"):
        page = render_page(snapshot, marker="k7f2", max_tokens=budget)
    assert budget * 0.7 < tokens(page) <= budget
    assert "그 밖의 이슈" in page or "한 줄씩" in page


def test_the_dashboard_has_korean_sentences_and_english_words_for_programs(korean):
    """Keys and enumerations are what programs compare; sentences are for people."""
    data = dashboard(stories.import_crash())
    assert "잡히지 않은 ModuleNotFoundError 예외 후 종료 코드 1" == data["process"]["ended"]["how"]
    assert "APP NOT RUNNING" == data["page"]["state"]
    with speaking("en"):
        english = dashboard(stories.import_crash())
    assert list(english) == list(data)
    assert english["active_issues"][0].keys() == data["active_issues"][0].keys()
    for word in ("state", "priority", "category", "trend", "id"):
        assert english["active_issues"][0][word] == data["active_issues"][0][word]


def test_the_language_changes_while_it_runs(tmp_path):
    """The page after an assignment is in the other language, and back."""
    config = EnhancedLoggingConfig()
    writer = PageWriter(tmp_path / "state", config)
    found = []
    for language in ("en", "ko", "en"):
        config.language = language
        assert writer.write(stories.pool_exhaustion()), writer.last_error
        page = (tmp_path / "state" / "briefing.md").read_text(encoding="utf-8")
        issue = next((tmp_path / "state" / "issues").glob("*.md")).read_text(encoding="utf-8")
        found.append(("횟수" in page, "횟수" in issue))
    assert [(False, False), (True, True), (False, False)] == found


# Commands.


@pytest.fixture
def commands(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("OTEL_BRIEFING_LANGUAGE", "ko")

    def run(*arguments):
        code = cli.main(["--state-dir", str(tmp_path / "none"), *arguments])
        out, err = capsys.readouterr()
        return code, out + err

    return run


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([command, "--help"] for command in ("show", "issues", "issue", "verify", "diff")),
        ["doctor", "--help"],
        ["check-config", "--help"],
        ["show"],
        ["issues"],
        ["issue", "i-1"],
        ["verify", "i-1"],
    ],
    ids=" ".join,
)
def test_a_command_speaks_korean(arguments, commands):
    """Help and answers are Korean; only names, words of verdicts and commands are not."""
    _, text = commands(*arguments)
    assert re.search("[가-힣]", text)
    stays = r"`[^`]*`|otel-briefing .*?  |STILL FAILING|NOT TESTED|OLD CODE|APP NOT RUNNING|usage"
    left = re.sub(stays, "·", text)
    assert [] == re.findall(r"[a-z]{2,} [a-z]{3,} [a-z]{3,}", left)


def test_doctor_speaks_korean(commands):
    """Findings and headings are Korean."""
    code, text = commands("doctor")
    assert 1 == code
    for word in ("브리핑이 없음", "설치", "상태 폴더", "버전"):
        assert word in text


def test_check_config_refuses_in_korean(commands, tmp_path):
    """What is wrong with a file, what was found and what is allowed."""
    file = tmp_path / "app.yaml"
    file.write_text("briefing:\n  max_tokens: lots\n  max_issue: 3\n")
    code, text = commands("check-config", str(file))
    assert 2 == code
    assert "briefing.max_tokens: 발견된 값: 'lots' (텍스트); 허용: " in text
    assert "사이의 정수" in text
    assert "알 수 없는 키 'briefing.max_issue'; 가장 가까운 키: briefing.max_issues" in text


def test_the_language_comes_from_the_file_that_the_environment_names(monkeypatch, capsys, tmp_path):
    """A command speaks the language of the configuration, as the page does."""
    file = tmp_path / "app.yaml"
    file.write_text("language: ko\n")
    monkeypatch.setenv("OTEL_BRIEFING_CONFIG_FILE", str(file))
    assert 3 == cli.main(["--state-dir", str(tmp_path / "none"), "show"])
    assert "브리핑이 없음" in capsys.readouterr().err
    monkeypatch.setenv("OTEL_BRIEFING_LANGUAGE", "en")
    assert 3 == cli.main(["--state-dir", str(tmp_path / "none"), "show"])
    assert "no briefing in" in capsys.readouterr().err


def test_a_verdict_has_an_english_word_and_a_korean_reason(korean):
    """The word is for scripts."""
    verdict = decide(
        Evidence(
            now_ns=10**12, starts=(10**9,), operations=("POST /orders",), tried=400, affected=1
        )
    )
    assert "FIXED" == verdict.word
    assert "이번 실행에서 발생 없음, POST /orders 호출 400회 중 400회" == verdict.why


def test_english_reads_no_catalogue():
    """A program that speaks English pays nothing for the others."""
    program = (
        "import otel_briefing.language as l; l.json = None; p = l.catalogue_of('en');"
        "import sys; print(p, l.catalogue_of.cache_info().currsize, 'json' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "None" == done.stdout.split()[0]


def test_the_stored_form_is_one_that_can_be_reviewed():
    """English above, Korean below, in the order of the code: what `catalogue_keys` writes."""
    text = catalogue_keys.STORED.read_text(encoding="utf-8")
    assert json.loads(text) == catalogue_keys.catalogue()
    assert max(len(line) for line in text.splitlines()) < 3_500
