# SPDX-License-Identifier: Apache-2.0
"""Is it fixed? Real programs that fail, are edited, started again, killed; and the word for it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from contextlib import suppress

import pytest
from peers import DEADLINE_S, wait_for

TILL = """
def prepare():
    pass

def succeed():
    pass

def fail():
    raise LookupError("no shelf holds it")

def refuse():
    raise ValueError("no price")

def swallow():
    try:
        fail()
    except LookupError:
        return "swallowed"
"""
CRASH = TILL.replace("    pass", "    return {}['eur']", 1)
OTHER_CRASH = TILL.replace("    pass", "    return open('/no/such/file')", 1)


class Shop:
    """The processes of one program, the source that they load, and the command that asks."""

    def __init__(self, environment, folder):
        self.environment = environment
        self.folder = folder
        self.running = []
        self.errors = (folder / "stderr").open("w")
        self.edit(TILL)

    def edit(self, source):
        (self.folder / "till.py").write_text(source)

    def start(self, *, crashes=False, **env):
        process = subprocess.Popen(
            self.environment.command("orders.py"),
            env=self.environment.environ(
                {"PYTHONPATH": str(self.folder), "OTEL_SERVICE_NAME": "shop", **env}
            ),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.running.append(process)
        if not crashes:
            assert process.stdout.readline() == "up\n"
        return process

    def crash(self):
        process = self.start(crashes=True)
        process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 1

    def do(self, process, *lines):
        for line in lines:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

    def stop(self, process):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_S)

    def issue(self, kind):
        """Return the id of the issue with an exception of this kind, as soon as it is on a page."""

        def found():
            with suppress(OSError, ValueError):
                data = json.loads((self.folder / "state" / "dashboard.json").read_text())
                for issue in data["active_issues"] + data["other_issues"]:
                    if any(raised["type"] == kind for raised in issue["exception"]):
                        return issue["id"]
            return ""

        return wait_for(found)

    def command(self, *words):
        return subprocess.Popen(
            [self.environment.tool("otel-briefing"), *words],
            env=self.environment.environ({}),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words):
        """Run the command; return exit code, standard output and error."""
        asked = self.command(*words)
        out, err = asked.communicate(timeout=2 * DEADLINE_S)
        return asked.returncode, out, err

    def verify(self, issue, code, *said, doing=()):
        """Ask until the answer has this code and says all this; before each time, do something."""
        last = []

        def answered():
            if doing:
                self.do(*doing)
            last[:] = self.ask("verify", issue)
            return last[0] == code and all(re.search(text, last[1]) for text in said)

        try:
            wait_for(answered)
        except AssertionError:
            pytest.fail(f"{last} does not say {said}, {code}")
        return last[1]


@pytest.fixture
def shop(with_distro, tmp_path):
    """A shop whose processes are gone when the test is over."""
    found = Shop(with_distro, tmp_path)
    yield found
    for process in found.running:
        process.kill()
        process.communicate()
    found.errors.close()


def failed(shop, *lines):
    """Let a first run fail; return it and the id of the issue."""
    process = shop.start()
    shop.do(process, *(lines or ["orders fail 3"]))
    return process, shop.issue("LookupError")


def test_from_failing_to_fixed(shop):
    """The whole way: failing, edited, stopped, started, tried a little, tried enough."""
    process, issue = failed(shop)
    again = (process, "orders fail")  # what is of now is a matter of seconds
    shop.verify(issue, 1, rf"{issue} STILL FAILING: \d+ times in the present run", doing=again)
    shop.edit(TILL.replace("fail():\n", "fail():\n    return\n"))
    shop.verify(issue, 3, "OLD CODE: till.py was edited after the process had started")
    shop.stop(process)
    said = shop.verify(issue, 3, r"APP NOT RUNNING: no process of shop runs \(the last one: signal")
    count = re.search(r"seen (\d+) times", said)[1]
    assert "till.py was edited since it started" in said
    process = shop.start()
    shop.verify(issue, 3, "NOT TESTED: orders succeeded 0 of 0 times since; 5 would tell")
    shop.do(process, "orders fail 4")
    shop.verify(issue, 3, "NOT TESTED: orders succeeded 4 of 4", f"in {count} of {count} calls")
    shop.do(process, "orders fail")
    shop.verify(issue, 0, "FIXED: no occurrence in the present run in 5 of 5 calls of orders")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["orders fail 2"], "STILL FAILING: 2 times in the present run"),
        (["orders refuse 2"], "CHANGED: no occurrence in the present run, yet 2 of 2 of orders"),
        (["orders swallow 2"], "MASKED: no occurrence in the present run, yet 2 of 2 of orders"),
        (["orders succeed 7", "orders swallow"], "MASKED"),
        (["orders succeed 7", "orders refuse"], "CHANGED"),
    ],
)
def test_a_restart_that_has_not_mended_it(shop, lines, said):
    """The same failure, another one, or one that does not say what it is; all have code 1."""
    process, issue = failed(shop)
    shop.stop(process)
    shop.do(shop.start(), *lines)
    answer = shop.verify(issue, 1, said)
    if "CHANGED" in said:
        assert f"now of {shop.issue('ValueError')}" in answer


def test_a_failure_that_was_there_before_does_not_hide_a_fix(shop):
    """Two failures of one operation, of which one is mended."""
    process, issue = failed(shop, "orders fail 3", "orders refuse 3", "orders fail")
    other = shop.issue("ValueError")
    shop.stop(process)
    shop.do(shop.start(), "orders refuse 3", "orders succeed 20")
    said = shop.verify(issue, 0, "FIXED", "20 of 23 calls of orders succeeded, 3 failed as before")
    assert said.endswith(f"{other}\n")
    shop.verify(other, 1, "STILL FAILING", doing=(shop.running[-1], "orders refuse"))


def test_a_rare_failure_wants_many_successes(shop):
    """Three in a hundred: a hundred and fifty calls without it tell, a hundred do not."""
    process, issue = failed(shop, "orders fail", "orders succeed 97", "orders fail 2")
    shop.stop(process)
    process = shop.start()
    shop.do(process, "orders succeed 100")
    shop.verify(issue, 3, "NOT TESTED: orders succeeded 100 of 100", "152 would", "3 of 100 calls")
    shop.do(process, "orders succeed 52")
    shop.verify(issue, 0, "FIXED", "152 of 152")


@pytest.mark.parametrize("how", ["loop", "thread"])
def test_what_has_no_operation_is_not_fixed_by_silence(shop, how):
    """Calls of something else say nothing of it."""
    process, issue = failed(shop, f"{how} fail 3")
    shop.verify(issue, 1, r"STILL FAILING: \d+ times", doing=(process, f"{how} fail"))
    shop.stop(process)
    process = shop.start()
    shop.do(process, "orders succeed 50", f"{how} succeed 50")
    said = shop.verify(issue, 3, "NOT TESTED: no occurrence in the present run", r"before: \d+ in")
    assert "no operation is known to lead there" in said
    shop.do(process, f"{how} fail")
    shop.verify(issue, 1, "STILL FAILING: once in the present run")


def test_a_crash_at_start(shop):
    """Again, otherwise, and past it: the last is waited for and is no matter of calls."""
    shop.edit(CRASH)
    shop.crash()
    issue = shop.issue("KeyError")
    shop.verify(issue, 3, "APP NOT RUNNING", "exit code 1 after an uncaught KeyError")
    shop.crash()
    shop.verify(issue, 1, "STILL FAILING: once in the present run, the last", "KeyError")
    shop.edit(OTHER_CRASH)
    shop.verify(issue, 3, "APP NOT RUNNING", "till.py was edited since it started")
    shop.crash()
    other = shop.issue("FileNotFoundError")
    shop.verify(issue, 1, f"CHANGED: its last run ended of {other}", "FileNotFoundError")
    shop.edit(TILL)
    process = shop.start()
    code, said, _ = shop.ask("verify", issue, "--wait", "100")
    assert (code, "FIXED: the program has been running for" in said) == (0, True)
    process.communicate(timeout=DEADLINE_S)  # it ends where its input does
    shop.verify(issue, 0, "FIXED: its last run went on to its end")


def test_one_of_two_processes_runs_old_code(shop):
    """A fix that only half of them have is none yet."""
    old, issue = failed(shop)
    shop.edit(f"{TILL}# mended\n")
    new = shop.start()
    shop.do(new, "orders succeed 20")
    shop.verify(issue, 3, "OLD CODE: till.py was edited after 1 of 2 processes had started")
    shop.stop(old)
    shop.verify(issue, 0, "FIXED: no occurrence in the present run in 20 of 20 calls")


def test_a_source_that_is_not_on_the_stack(shop):
    """What fails while another loaded source is newer than the process is old code, too."""
    (shop.folder / "prices.py").write_text("EUR = 1\n")
    shop.edit(f"import prices\n{TILL}")
    process, issue = failed(shop)
    shop.verify(issue, 1, "STILL FAILING", doing=(process, "orders fail"))
    (shop.folder / "prices.py").write_text("EUR = 2\n")
    shop.verify(issue, 3, "OLD CODE: prices.py was edited after")
    shop.stop(process)


def test_a_program_that_was_killed(shop):
    """Nobody wrote its end down: the command says that it vanished, whoever asks first."""
    process, issue = failed(shop)
    process.kill()
    process.wait(DEADLINE_S)
    shop.verify(issue, 3, "APP NOT RUNNING", "vanished: killed or crashed")
    code, said, _ = shop.ask("diff", "--since", "1h")
    assert code == 0
    assert re.search(rf"ended .* shop pid {process.pid}: vanished", said)


def test_waiting_ends_with_the_word(shop):
    """Asked before anybody has tried, it answers when enough calls have gone well."""
    process, issue = failed(shop)
    shop.stop(process)
    process = shop.start()
    asked = shop.command("verify", issue, "--wait", "3600", "--json")
    shop.do(process, "orders succeed 5")
    out, err = asked.communicate(timeout=DEADLINE_S)
    answer = json.loads(out)
    assert (asked.returncode, err) == (0, "")
    assert {"id": issue, "verdict": "FIXED", "why": answer["why"]} == answer
    assert "5 of 5 calls" in answer["why"]


def test_waiting_outlasts_a_restart(shop):
    """Neither old code nor a program that does not run is an answer while there is time."""
    process, issue = failed(shop)
    shop.edit(f"{TILL}# mended\n")
    asked = shop.command("verify", issue, "--wait", "3600")
    shop.stop(process)
    shop.do(shop.start(), "orders refuse")
    out, _ = asked.communicate(timeout=DEADLINE_S)
    assert (asked.returncode, "CHANGED" in out) == (1, True)


def test_waiting_ends_with_its_time(shop):
    """What is not settled by then is said as it is."""
    process, issue = failed(shop)
    shop.stop(process)
    code, said, _ = shop.ask("verify", issue, "--wait", "0.3")
    assert (code, "APP NOT RUNNING" in said) == (3, True)


def test_ids(shop):
    """A start of an id will do; what is unknown or not clear is refused with those known."""
    process, issue = failed(shop, "orders fail", "orders refuse")
    other = shop.issue("ValueError")
    shop.stop(process)
    for word in (issue, issue.removeprefix("i-"), issue[:7].upper()):
        assert shop.ask("verify", word)[1].startswith(f"{issue} APP NOT RUNNING")
    code, out, err = shop.ask("verify", "i-")
    assert (code, out) == (2, "")
    assert all(text in err for text in ("may be any of", issue, other))
    code, out, err = shop.ask("verify", "i-zzz")
    assert (code, out) == (2, "")
    assert all(text in err for text in ("no issue i-zzz; known: ", issue, other))


def test_an_issue_of_an_earlier_run(shop):
    """It can be asked for, and `issues --all` says where it was seen."""
    process, issue = failed(shop)
    wait_for(lambda: re.search(rf"{issue} .* new +3 ", shop.ask("issues", "--all")[1]))
    shop.stop(process)
    process = shop.start()
    shop.do(process, "orders succeed 9")
    shop.verify(issue, 0, "9 of 9")
    wait_for(lambda: issue not in shop.ask("issues")[1])
    code, said, _ = shop.ask("issues", "--all")
    assert (code, "not seen in this run; in 1 of 1 earlier run: 3 times" in said) == (0, True)


def test_the_states_of_an_issue_and_why(shop):
    """Resolved after its quiet time, though nothing was tried; regressed when it is back."""
    process = shop.start(OTEL_BRIEFING_RESOLVE_AFTER_S="8")

    def listed(*lines):
        shop.do(process, *lines)
        return shop.ask("issues", "--all")[1]

    shop.do(process, "orders fail")
    wait_for(
        lambda: re.search(
            r" resolved .* LookupError.*\n    no occurrence for a long time, and nothing shows",
            listed(),
        )
    )
    assert shop.ask("issues")[0] == 0
    wait_for(
        lambda: re.search(
            r" regressed .* LookupError.*\n    it is back after \d.* s of quiet",
            listed("orders fail"),
        )
    )
    assert shop.ask("issues")[0] == 1


@pytest.mark.parametrize("command", [["verify", "i-1"], ["diff", "--since", "1h"]])
def test_a_folder_with_nothing_in_it(shop, command):
    """What is missing, and how to get it."""
    os.makedirs(shop.folder / "state")  # noqa: PTH103
    code, out, err = shop.ask(*command)
    assert (code, out) == (3, "")
    assert f"no briefing in {shop.folder / 'state'}" in err
