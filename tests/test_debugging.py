# SPDX-License-Identifier: Apache-2.0
"""The debugging tools around real work: what they find, and that the block never notices them."""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_briefing import debugging
from otel_briefing.config import EnhancedLoggingConfig
from otel_briefing.debugging import profile_block, profilers, track_allocations
from otel_briefing.events import Frame, LogEvent
from otel_briefing.issues import findings as rules
from otel_briefing.issues.findings import Finding
from otel_briefing.pipeline import Pipeline
from otel_briefing.telemetry import guard

T0 = 1_800_000_000_000_000_000
PROFILERS = ("pyinstrument", "cProfile")


@pytest.fixture(autouse=True)
def _nothing_is_left_behind():
    yield
    assert sys.getprofile() is None
    assert not tracemalloc.is_tracing()


@pytest.fixture(params=PROFILERS)
def profiler(request, monkeypatch):
    """Each profiler in turn: without the extra an import of it fails as it does where it is not."""
    if request.param == "cProfile":
        monkeypatch.setitem(sys.modules, "pyinstrument", None)
    return request.param


def spin(rounds: int) -> int:
    return sum(len(str(number)) for number in range(rounds))


def much() -> int:
    return sum(spin(2_000) for _ in range(100))


def little() -> int:
    return spin(2_000)


def names(findings):
    return [hot.frame.function for hot in findings.hottest]


# --- profiling -----------------------------------------------------------------------------------


def test_the_hottest_function_is_the_one_that_takes_the_time(profiler):
    """Where the work is done a hundred times comes before where it is done once."""
    with profile_block("work") as findings:
        much()
        little()
    assert profiler == findings.profiler
    assert findings.is_complete
    assert "" == findings.problem
    assert findings.hottest[0].frame.file.endswith("test_debugging.py")
    # The generator inside `spin` is a function of its own.
    assert findings.hottest[0].frame.function in {"spin", "<genexpr>"}
    assert sum(hot.share for hot in findings.hottest) <= 1.0001
    assert "spin" in findings.report
    assert findings.summary()[0].startswith("work at ")


def test_time_in_a_library_counts_for_the_function_that_called_it(profiler):
    """`json` is not the program's: whoever called it is named."""

    def serialise():
        for _ in range(200):
            json.dumps([list(range(200))], indent=1)

    with profile_block() as findings:
        serialise()
    assert "serialise" == names(findings)[0]
    assert findings.hottest[0].share > 0.5


def test_a_block_without_a_name_is_named_after_its_place(profiler):
    """The file, the line and the function of the `with` statement."""
    with profile_block() as findings:
        little()
    assert findings.name == str(findings.place)
    assert "test_a_block_without_a_name_is_named_after_its_place" == findings.place.function


def test_a_decorated_function_is_profiled_at_each_call(profiler):
    """What it takes and returns stays; its findings come to `on_findings`, one a call."""
    found = []

    @profile_block(on_findings=found.append)
    def add(a, *, b):
        """Add."""
        much()
        return a + b

    assert [3, 5] == [add(1, b=2), add(2, b=3)]
    assert ("add", "Add.") == (add.__name__, add.__doc__)
    assert 2 == len(found)
    assert all(f.name.endswith("add") and f.place.function == "add" for f in found)
    assert all(f.hottest for f in found)


def test_a_coroutine_function_stays_one_and_its_waiting_is_its_own(profiler):
    """The time of an await counts for the coroutine that awaits, with pyinstrument."""
    found = []

    @profile_block("waits", on_findings=found.append)
    async def wait():
        await asyncio.sleep(0.05)
        return "done"

    assert asyncio.iscoroutinefunction(wait)
    assert "done" == asyncio.run(wait())
    assert found[0].duration_s >= 0.05
    if profiler == "pyinstrument":
        assert "wait" == names(found[0])[0]


def test_two_tasks_on_one_thread_do_not_disturb_each_other(profiler):
    """Both finish with findings; with cProfile, which knows no tasks, the second says so."""
    found = {}

    async def work(name):
        with profile_block(name) as findings:
            await asyncio.sleep(0)
            much()
            await asyncio.sleep(0)
        found[name] = findings

    async def both():
        await asyncio.gather(work("a"), work("b"))

    asyncio.run(both())
    problems = {f.problem for f in found.values()}
    assert all(f.is_complete for f in found.values())
    expected = {""} if profiler == "pyinstrument" else {"", profilers.TAKEN}
    assert expected == problems


def test_a_block_in_a_block_is_part_of_the_outer_one(profiler):
    """The inner one says why it has its duration only; the outer one has it all."""
    with profile_block("outer") as outer:
        with profile_block("inner") as inner:
            much()
        much()
    assert ("", profilers.TAKEN) == (outer.problem, inner.problem)
    assert 0 < inner.duration_s < outer.duration_s
    assert outer.hottest


def test_what_the_block_raises_passes_through(profiler):
    """The very exception; its type stands in the findings."""
    error = LookupError("mine")
    with pytest.raises(LookupError) as caught, profile_block() as findings:
        raise error
    assert caught.value is error
    assert "LookupError" == findings.exception
    assert findings.is_complete


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_program_passes_through_too(profiler, leaving):
    """Not only an Exception."""
    with pytest.raises(leaving), profile_block() as findings:
        raise leaving
    assert findings.exception == leaving.__name__


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="cProfile has a place of its own there")
def test_a_profiler_that_is_active_stays_so(profiler):
    """The program's own cProfile sees all of the block; ours measures the duration."""
    own = cProfile.Profile()
    own.enable()
    before = sys.getprofile()
    with profile_block() as findings:
        little()
    after = sys.getprofile()
    own.disable()
    assert before is after
    assert profilers.TAKEN == findings.problem
    assert findings.duration_s > 0
    own.create_stats()
    assert any(function == "little" for _, _, function in own.stats)


def test_a_profile_function_that_took_over_is_given_back(profiler):
    """`sys.setprofile` inside the block holds after it."""
    seen = []

    def mine(_frame, event, _arg):
        seen.append(event)

    with profile_block() as findings:
        sys.setprofile(mine)
        little()
    kept = sys.getprofile()
    sys.setprofile(None)
    assert kept is mine
    if profiler == "pyinstrument" or sys.version_info < (3, 12):
        assert profilers.OVERTAKEN == findings.problem
    assert seen


def test_a_block_that_ends_on_another_thread_says_so(profiler):
    """The thread that it ends on keeps what it has; pyinstrument then leaves the other one."""
    tool, entered, leave = profile_block(), threading.Event(), threading.Event()
    left = []

    def begin():
        tool.__enter__()
        entered.set()
        assert leave.wait(30)
        much()
        left.append(sys.getprofile())

    thread = threading.Thread(target=begin)
    thread.start()
    assert entered.wait(30)
    findings = tool._findings
    before = sys.getprofile()
    tool.__exit__(None, None, None)
    assert before is sys.getprofile()
    leave.set()
    thread.join(30)
    assert profilers.MOVED == findings.problem
    assert findings.is_complete
    if profiler == "pyinstrument":
        assert [None] == left


def test_a_tool_that_fails_is_counted_and_the_block_goes_on(monkeypatch):
    """Neither the start nor the end of a tool, nor a callback, reaches the program."""
    monkeypatch.setattr(guard, "raise_errors", False)
    before = guard.swallowed.total

    class Broken:
        name = "broken"

        def start(self, _caller):
            return ""

        def stop(self, _place):
            raise ZeroDivisionError("in stop")

    monkeypatch.setattr(profilers, "new_profiler", lambda _interval: Broken())

    def complain(_findings):
        raise ValueError("callback")

    with profile_block(on_findings=complain) as findings:
        ran = True
    assert ran
    assert "ZeroDivisionError: in stop" == findings.problem
    assert before + 2 == guard.swallowed.total


def test_memory_of_a_long_profile_is_bounded():
    """Equal stacks are folded, rare ones beyond the bound go, and the time of the others stays."""
    common = [(["main\0a.py\0001", "work\0a.py\0002"], 1.0)] * 10
    rare = [([f"once\0b.py\0{number}"], 0.001) for number in range(2 * profilers.MAX_STACKS)]
    folded = profilers._folded(common + rare)
    assert profilers.MAX_STACKS == len(folded)
    assert (common[0][0], 10.0) == folded[0]


def test_pyinstrument_folds_through_the_method_that_it_calls(monkeypatch):
    """The bound rests on a name inside pyinstrument: this fails when that is another one."""
    monkeypatch.setattr(profilers, "MAX_STACKS", 4)
    tool = profilers.SamplingProfiler(0.0001)
    assert "" == tool.start(sys._getframe())
    much()
    kept = len(tool._profiler._active_session.frame_records)
    times, _, _ = tool.stop(Frame("a.py", "f", 1, in_app=True))
    assert kept <= 8
    assert times


# --- allocations ---------------------------------------------------------------------------------


def test_the_line_that_holds_memory_is_named_with_current_and_peak():
    """1 MB stays, 8 MB came and went."""
    with track_allocations("hold") as findings:
        kept = [bytes(1_000) for _ in range(1_000)]
        gone = bytes(8_000_000)
        del gone
    assert 1_000 == len(kept)
    site = findings.sites[0]
    assert site.frame.file.endswith("test_debugging.py")
    assert site.frame.line == findings.place.line + 1
    assert 1_000_000 <= site.grown_bytes < 1_200_000
    assert 1_000_000 <= findings.grown_bytes < 1_300_000
    assert findings.peak_bytes >= 9_000_000
    assert findings.peak_is_exact
    assert not findings.was_tracing


def test_an_allocation_in_a_library_counts_for_the_line_that_called_it():
    """`json.loads` makes the objects, this file asked for them."""
    text = json.dumps([{"key": "x" * 50} for _ in range(2_000)])
    with track_allocations() as findings:
        kept = json.loads(text)
    assert kept
    assert findings.sites[0].frame.file.endswith("test_debugging.py")


def test_what_the_tools_allocate_is_not_among_the_sites():
    """A profile of the same block makes objects by the thousand."""
    with track_allocations(top=100) as memory, profile_block():
        much()
    tools = ("otel_briefing/", "pyinstrument/")
    assert not [site for site in memory.sites if site.frame.file.startswith(tools)]


def test_tracing_that_was_on_is_left_on_and_its_peak_alone():
    """The program's own peak is not set back, so a block below it has a peak of at least …."""
    tracemalloc.start()
    try:
        high = bytes(5_000_000)
        del high
        before = tracemalloc.get_traced_memory()[1]
        with track_allocations() as findings:
            kept = bytes(1_000_000)
        assert kept
        assert tracemalloc.is_tracing()
        assert tracemalloc.get_traced_memory()[1] >= before >= 5_000_000
        assert findings.was_tracing
        assert not findings.peak_is_exact
        assert 1_000_000 <= findings.peak_bytes < 5_000_000
        assert "peak at least" in findings.summary()[1]
        with track_allocations() as above:
            higher = bytes(20_000_000)
            del higher
        assert above.peak_is_exact
        assert above.peak_bytes >= 20_000_000
    finally:
        tracemalloc.stop()


def test_nested_and_concurrent_blocks_have_peaks_of_their_own():
    """What was before a block, or after it, is not in its peak; tracing ends with the last."""
    inside, leave = threading.Event(), threading.Event()
    found = []

    def beside():
        with track_allocations("beside") as findings:
            inside.set()
            assert leave.wait(30)
        found.append(findings)

    thread = threading.Thread(target=beside)
    with track_allocations("outer") as outer:
        big = bytes(6_000_000)
        del big
        with track_allocations("inner") as inner:
            small = bytes(1_000_000)
            del small
        thread.start()
        assert inside.wait(30)
    assert tracemalloc.is_tracing()
    leave.set()
    thread.join(30)
    assert outer.peak_bytes >= 6_000_000
    assert 1_000_000 <= inner.peak_bytes < 3_000_000
    assert found[0].peak_bytes < 3_000_000


def test_tracing_stopped_by_the_block_is_said():
    """Nothing can be known then, and nothing breaks."""
    with track_allocations() as findings:
        tracemalloc.stop()
    assert "tracemalloc was stopped while the block ran" == findings.problem


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_forgets_the_blocks_of_other_threads(tmp_path):
    """The child of a thread without a block does not go on tracing for its parent's."""
    program = tmp_path / "forks.py"
    program.write_text(
        "import os, threading, tracemalloc\n"
        "from otel_briefing.debugging import track_allocations\n"
        "inside, leave = threading.Event(), threading.Event()\n"
        "def beside():\n"
        "    with track_allocations():\n"
        "        inside.set(); leave.wait(30)\n"
        "thread = threading.Thread(target=beside); thread.start(); inside.wait(30)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    traced = tracemalloc.is_tracing()\n"
        "    with track_allocations() as found: kept = bytes(100_000)\n"
        "    os._exit(10 * traced + (found.grown_bytes < 100_000))\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "leave.set(); thread.join(); print(code, tracemalloc.is_tracing())\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False, timeout=60
    )
    assert "0 False\n" == done.stdout, done.stderr


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: profile_block(""), ValueError, "name must be text.*found ''"),
        (lambda: profile_block(3), ValueError, "name must be text.*found 3"),
        (lambda: profile_block(little), ValueError, r"write @profile_block\(\)"),
        (lambda: profile_block(interval_s=0), ValueError, "from 0.0001 to 1.0 s, found 0"),
        (lambda: profile_block(interval_s=float("nan")), ValueError, "found nan"),
        (lambda: profile_block(interval_s="1"), TypeError, "number of seconds, found '1'"),
        (lambda: profile_block(on_findings=1), TypeError, "callable or None, found 1"),
        (lambda: track_allocations(frames=0), ValueError, "frames .* 1 to 32, found 0"),
        (lambda: track_allocations(top=True), ValueError, "top .* 1 to 100, found True"),
        (lambda: profile_block()(None), TypeError, "found None"),
    ],
)
def test_bad_input_is_named(call, error, says):
    """What was wrong, what was found, what is allowed."""
    with pytest.raises(error, match=says):
        call()


def test_a_generator_is_refused():
    """Its work is done after the call: findings of the call would mislead."""
    with pytest.raises(TypeError, match="a generator"):

        @profile_block()
        def numbers():
            yield 1


def test_one_tool_goes_around_one_block_at_a_time():
    """Entered again it says what to do; used again afterwards it works."""
    tool = track_allocations("x")
    with tool, pytest.raises(RuntimeError, match="make one for each block"), tool:
        pass
    with tool as findings:
        pass
    assert findings.is_complete


# --- in a running system -------------------------------------------------------------------------


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    config = EnhancedLoggingConfig(state_dir=str(tmp_path / "state"))
    running = Pipeline(config)
    monkeypatch.setattr(debugging, "live_keeper", lambda: running)
    running.start()
    yield running
    running.stop()


def test_a_running_system_keeps_the_findings(pipeline, tmp_path):
    """With no issue there, the file says of no issue."""
    with profile_block("kept") as findings:
        little()
    assert pipeline.flush(30)
    data = json.loads(findings.path.read_text())
    assert findings.path.parent == tmp_path / "state" / "findings"
    assert ("kept", "profile", {}) == (data["name"], data["tool"], data["issues"])
    assert list(findings.summary()) == data["summary"]


def test_a_block_within_a_span_knows_its_trace(pipeline):
    """The id stands in the findings and in the file; outside of a span there is none."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    with tracer.start_as_current_span("work") as span, track_allocations() as findings:
        pass
    with track_allocations() as outside:
        pass
    assert pipeline.flush(30)
    trace = f"{span.get_span_context().trace_id:032x}"
    assert (trace, "") == (findings.trace_id, outside.trace_id)
    assert trace == json.loads(findings.path.read_text())["trace_id"]


def test_a_service_that_the_program_names_itself_is_its_own(pipeline):
    """Its provider's resource says another name than the environment: issues carry that one."""
    event = LogEvent(T0, 17, "till is stuck", logger="till", service="named-by-the-program")
    with profile_block("looking") as findings:
        now_ns = time.time_ns()
        pipeline.put(event._replace(time_ns=now_ns), 4)
    assert pipeline.flush(30)
    assert [rules.SEEN] == list(json.loads(findings.path.read_text())["issues"].values())


def test_what_is_not_kept_is_said_among_the_losses(pipeline):
    """The page counts it, as it counts all that was dropped."""
    now = time.time_ns()  # what has just ended is not settled for two seconds
    found = [Finding(f"f{number}", "profile", "work", now, now) for number in range(20)]
    kept = [pipeline.keep_finding(one, []) for one in found]
    assert None in kept
    lost = kept.count(None)
    assert lost == pipeline._facts()["drops"]["findings of debugging tools"]


def test_without_a_running_system_there_are_only_the_findings(tmp_path, monkeypatch):
    """Nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    with track_allocations() as findings:
        pass
    assert findings.is_complete
    assert findings.path is None
    assert [] == list(tmp_path.iterdir())


def test_the_findings_stand_in_the_issues_own_file(tmp_path):
    """A program under `opentelemetry-instrument` looks into its own error; an agent reads both."""
    state = tmp_path / "state"
    program = str(Path(__file__).parent / "e2e" / "programs" / "debugged.py")
    scripts = str(Path(sys.executable).parent)
    env = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    env |= {f"OTEL_{name}_EXPORTER": "none" for name in ("TRACES", "METRICS", "LOGS")}
    env |= {"OTEL_BRIEFING_STATE_DIR": str(state), "PATH": scripts + os.pathsep + env["PATH"]}
    done = subprocess.run(
        ["opentelemetry-instrument", sys.executable, program],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert 0 == done.returncode, done.stderr
    dashboard = json.loads((state / "dashboard.json").read_text())
    ids = {i["title"]: i["id"] for i in dashboard["active_issues"]}
    priced = next(name for title, name in ids.items() if "no price" in title)
    settled = next(name for title, name in ids.items() if "LookupError" in title)

    def ask(*words):
        command = ["otel-briefing", "issue", *words]
        shown = subprocess.run(
            command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
        )
        return shown.stdout

    def asked(issue_id):
        return ask(issue_id).partition("## Findings of debugging tools")[2]

    profile, allocations = asked(priced), asked(settled)
    path = Path(done.stdout.strip())
    assert "profile of quoting" in profile
    assert rules.SEEN in profile
    assert path.name in profile
    assert "debugged.py:13 quote" in profile
    assert "allocations of settling" in allocations
    assert rules.RAISED in allocations
    assert "hunter2" not in allocations + path.read_text()
    (told,) = json.loads(ask(priced, "--json"))["findings"]
    assert told == f"profile of quoting; {rules.SEEN}: {path}"
