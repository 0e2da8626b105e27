# SPDX-License-Identifier: Apache-2.0
"""What nobody caught is reported, and the app ends as it would without us."""

import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import types

import pytest
from opentelemetry.sdk._logs import LoggerProvider

from otel_briefing.telemetry import crashes, guard
from otel_briefing.telemetry.crashes import CrashHooks, End
from otel_briefing.telemetry.handler import BriefingLoggingHandler

PRELUDE = """
import atexit, json, os, sys
told = os.open(os.environ['TOLD'], os.O_WRONLY | os.O_APPEND)
from otel_briefing.telemetry.crashes import CrashHooks
from otel_briefing import stack_traces

def report(crash):
    site = stack_traces.to_site(crash.raised)
    root = site.root
    facts = [crash.where, root.type, root.message, root.frames[0].function, crash.is_exit]
    os.write(told, ("crash " + json.dumps(facts) + "\\n").encode())

hooks = CrashHooks(report)
hooks.install()
atexit.register(lambda: os.write(told, ("end " + json.dumps(hooks.ending()[:3]) + "\\n").encode()))
"""
WITHOUT = "import types; hooks = types.SimpleNamespace(tick=lambda: None)\n"


def run(program, *, prelude=PRELUDE):
    """Run a program as a user would; give what it told in a file, and how it ended."""
    with tempfile.NamedTemporaryFile("r") as told:
        done = subprocess.run(
            [sys.executable, "-c", prelude + textwrap.dedent(program)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=dict(os.environ, TOLD=told.name),
        )
        return told.read().splitlines(), done


NOT_SEEN = 'end ["' + crashes.NOT_SEEN.how + '", null, ""]'

PROGRAMS = {
    "main": (
        "def pay(): raise ValueError('no money')\npay()",
        [
            'crash ["main", "ValueError", "no money", "pay", true]',
            'end ["exit code 1 after an uncaught ValueError", 1, ""]',
        ],
    ),
    "cause": (
        """
        def load():
            raise OSError('disk')
        try:
            load()
        except OSError as error:
            raise RuntimeError('no config') from error
        """,
        [
            'crash ["main", "OSError", "disk", "load", true]',
            'end ["exit code 1 after an uncaught RuntimeError", 1, ""]',
        ],
    ),
    "import": (
        "import no_such_module",
        [
            (
                'crash ["main", "ModuleNotFoundError", "No module named \'no_such_module\'", '
                '"<module>", true]'
            ),
            'end ["exit code 1 after an uncaught ModuleNotFoundError", 1, ""]',
        ],
    ),
    "interrupt": (
        "raise KeyboardInterrupt",
        ['end ["signal SIGINT", null, "SIGINT"]'],
    ),
    "exit": ("import sys\nsys.exit(3)", ['end ["exit code 3", 3, ""]']),
    "exit without a code": ("import sys\nsys.exit()", ['end ["exit code 0", 0, ""]']),
    "exit with a text": (
        "import sys\nsys.exit('no such file')",
        ['end ["exit code 1 after sys.exit with a text", 1, ""]'],
    ),
    "exit beyond a byte": ("import sys\nsys.exit(300)", ['end ["exit code 44", 44, ""]']),
    "caught exit": (
        """
        import sys
        try:
            sys.exit(3)
        except SystemExit:
            print('going on')
        """,
        [NOT_SEEN],
    ),
    "caught exit that is kept": (
        """
        import sys
        try:
            sys.exit(3)
        except SystemExit as error:
            kept = error
        """,
        ['end ["exit code 3", 3, ""]'],
    ),
    "exception shown by hand": (
        """
        import sys
        def fail():
            raise KeyError('k')
        try:
            fail()
        except KeyError:
            sys.excepthook(*sys.exc_info())
        """,
        ['crash ["excepthook", "KeyError", "\'k\'", "fail", false]', NOT_SEEN],
    ),
    "an exception that nobody can ask": (
        """
        class Odd(Exception):
            def __getattr__(self, name):
                raise KeyError(name)
        def fail():
            raise Odd('x')
        fail()
        """,
        [
            'crash ["main", "Odd", "x", "fail", true]',
            'end ["exit code 1 after an uncaught Odd", 1, ""]',
        ],
    ),
    "returned": (
        "print('done')",
        [NOT_SEEN],
    ),
    "raised exit": (
        "raise SystemExit(4)",
        [NOT_SEEN],
    ),
    "caught exit, then a crash": (
        """
        import sys
        try:
            sys.exit(2)
        except SystemExit:
            pass
        def fail():
            raise KeyError('k')
        fail()
        """,
        [
            'crash ["main", "KeyError", "\'k\'", "fail", true]',
            'end ["exit code 1 after an uncaught KeyError", 1, ""]',
        ],
    ),
    "hook of the app after ours": (
        """
        import sys
        def fail():
            raise KeyError('k')
        sys.excepthook = lambda kind, error, trace: print('mine', kind.__name__)
        fail()
        """,
        [
            'crash ["main", "KeyError", "\'k\'", "fail", true]',
            'end ["exit code 1 after an uncaught KeyError", 1, ""]',
        ],
    ),
    "thread": (
        """
        import threading, sys
        def work():
            raise LookupError('gone')
        def leave():
            sys.exit(5)
        for target in (work, leave):
            thread = threading.Thread(target=target, name='worker-1')
            thread.start()
            thread.join()
        """,
        [
            'crash ["thread worker-1", "LookupError", "gone", "work", false]',
            NOT_SEEN,
        ],
    ),
    "unraisable": (
        """
        class Held:
            def __del__(self):
                raise ValueError('late')
        held = Held()
        del held
        """,
        [
            'crash ["unraisable", "ValueError", "late", "__del__", false]',
            NOT_SEEN,
        ],
    ),
    "task": (
        """
        import asyncio, gc
        hooks.tick()
        hooks.tick()
        async def fetch():
            raise ConnectionError('refused')
        async def main():
            task = asyncio.create_task(fetch(), name='fetcher')
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            del task
            gc.collect()
        asyncio.run(main())
        """,
        [
            'crash ["task fetcher", "ConnectionError", "refused", "fetch", false]',
            NOT_SEEN,
        ],
    ),
    "callback": (
        """
        import asyncio
        hooks.tick()
        def late():
            raise ConnectionError('refused')
        async def main():
            asyncio.get_running_loop().call_soon(late)
            await asyncio.sleep(0)
        asyncio.run(main())
        """,
        [
            'crash ["task callback", "ConnectionError", "refused", "late", false]',
            NOT_SEEN,
        ],
    ),
}


@pytest.mark.parametrize(("program", "expected"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_crash_and_the_end_are_reported(program, expected):
    """Each way of dying is reported with its place, and the end says how."""
    told, _done = run(program)
    assert expected == told


@pytest.mark.parametrize("program", [row[0] for row in PROGRAMS.values()], ids=PROGRAMS)
def test_the_app_ends_as_without_us(program):
    """Exit status, stdout and stderr are those of the program without our hooks."""
    _, without = run(program, prelude=WITHOUT + "\n" * (PRELUDE.count("\n") - 1))
    _, with_us = run(program)
    assert without.returncode == with_us.returncode
    assert without.stdout == with_us.stdout
    assert _without_addresses(without.stderr) == _without_addresses(with_us.stderr)


def _without_addresses(text):
    return re.sub(r"0x[0-9a-f]+|(?<=refcount : )\d+", "…", text)


def test_hooks_are_chained_and_given_back():
    """A hook that was there is called after ours; uninstalling gives every hook back."""
    before = sys.excepthook, threading.excepthook, sys.unraisablehook, sys.exit
    reported, called = [], []
    hooks = CrashHooks(reported.append)
    sys.excepthook = lambda *facts: called.append(facts[1])
    theirs = sys.excepthook
    try:
        hooks.install()
        hooks.install()
        error = ValueError("x")
        sys.excepthook(ValueError, error, None)
        hooks.uninstall()
        hooks.uninstall()
        assert theirs is sys.excepthook
    finally:
        sys.excepthook = before[0]
    assert [error] == called
    assert ["excepthook"] == [crash.where for crash in reported]
    assert before == (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.exit)


def test_sys_exit_is_still_sys_exit():
    """The wrapped `sys.exit` raises the same SystemExit and knows what it wraps."""
    stock = sys.exit
    hooks = CrashHooks(lambda _crash: None)
    hooks.install()
    try:
        with pytest.raises(SystemExit) as caught:
            sys.exit("text")
        assert "text" == caught.value.code
        assert stock is sys.exit.__wrapped__
        assert "exit" == sys.exit.__name__
    finally:
        hooks.uninstall()


def test_a_hook_under_somebody_elses_only_passes_on():
    """After uninstalling, a hook that another one wraps reports nothing and still passes on."""
    before = sys.unraisablehook
    reported, called = [], []
    sys.unraisablehook = called.append
    hooks = CrashHooks(reported.append)
    hooks.install()
    ours = sys.unraisablehook
    try:
        sys.unraisablehook = lambda facts: ours(facts)  # noqa: PLW0108
        hooks.uninstall()
        facts = types.SimpleNamespace(exc_value=ValueError("x"), exc_traceback=None)
        sys.unraisablehook(facts)
    finally:
        sys.unraisablehook = before
    assert [facts] == called
    assert [] == reported


def test_a_report_that_fails_does_not_reach_the_app(monkeypatch):
    """What our own reporting raises is counted, and the hook before ours still runs."""
    monkeypatch.setattr(guard, "raise_errors", False)
    guard.swallowed.clear()
    called = []
    monkeypatch.setattr(sys, "excepthook", lambda *facts: called.append(facts[0]))
    hooks = CrashHooks(lambda _crash: 1 / 0)
    hooks.install()
    try:
        sys.excepthook(ValueError, ValueError("x"), None)
    finally:
        hooks.uninstall()
    assert [ValueError] == called
    assert {"crashes.main": 1} == guard.swallowed.by_place


def test_a_thread_of_ours_is_not_a_crash_of_the_app(monkeypatch):
    """An exception in a thread of ours is passed on, and not reported as the app's."""
    reported, called = [], []
    monkeypatch.setattr(threading, "excepthook", lambda args: called.append(args.exc_type))
    hooks = CrashHooks(reported.append)
    hooks.install()

    def work():
        guard.mark_thread()
        raise ValueError("ours")

    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        hooks.uninstall()
    assert [ValueError] == called
    assert [] == reported


def test_a_logged_exception_is_recognised_when_it_crashes():
    """Log record and crash of one exception object carry the same token."""
    reported, aside = [], []
    emitter = BriefingLoggingHandler(
        logger_provider=LoggerProvider(shutdown_on_exit=False), sink=aside.append
    )
    logger = logging.Logger("alone")  # noqa: LOG001
    logger.addHandler(logging.NullHandler())
    hooks = CrashHooks(reported.append)
    error = ValueError("x")
    emitter.observe(logger, logger.makeRecord("a", 40, "f", 1, "m", (), (ValueError, error, None)))
    hooks._on_main(error, None)
    assert aside[0].failure_token == reported[0].failure_token > 0


def test_a_signal_outweighs_every_other_end():
    """Once the process ends by a signal, nothing else is its end."""
    hooks = CrashHooks(lambda _crash: None)
    hooks.mark_signal("SIGTERM")
    assert End("signal SIGTERM", None, "SIGTERM") == hooks.ending()


# -- SIGTERM ---------------------------------------------------------------------------------------

TERM = """
import signal, time
def flush(timeout_s):
    os.write(told, f"flush {timeout_s} {hooks.ending().signal}\\n".encode())
    {flush}
print(hooks.install_sigterm(flush), flush=True)
{app}
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(60)
"""


def terminated(flush="pass", app="pass"):
    return run(TERM.replace("{flush}", flush).replace("{app}", app))


def test_sigterm_flushes_and_then_kills():
    """The flush runs with its time limit, the end is marked, and the process dies of SIGTERM."""
    told, done = terminated()
    assert ["flush 2.0 SIGTERM"] == told
    assert -signal.SIGTERM == done.returncode


def test_a_flush_that_hangs_does_not_keep_the_process():
    """After two seconds the process dies of SIGTERM whatever the flush does."""
    _, done = terminated(flush="time.sleep(50)")
    assert -signal.SIGTERM == done.returncode


def test_a_flush_that_fails_does_not_keep_the_process():
    """What the flush raises changes nothing."""
    _, done = terminated(flush="1 / 0")
    assert -signal.SIGTERM == done.returncode


def test_a_flush_may_take_a_lock_that_the_main_thread_holds():
    """The flush waits on another thread: the interrupted main thread can give the lock back."""
    app = "import threading; lock = threading.Lock(); lock.acquire()"
    told, done = terminated(
        flush="os.write(told, str(lock.acquire(timeout=0.1)).encode())", app=app
    )
    assert ["flush 2.0 SIGTERM", "False"] == told
    assert -signal.SIGTERM == done.returncode


def test_a_second_sigterm_kills_at_once():
    """Who sends the signal twice is not made to wait for the flush."""
    app = "import threading; threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()"
    _, done = terminated(flush="time.sleep(50)", app=app)
    assert -signal.SIGTERM == done.returncode


def test_a_handler_that_the_app_sets_is_the_apps():
    """A handler set after us replaces ours; the app ends as it says."""
    told, done = terminated(app="signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))")
    assert ['end ["exit code 7", 7, ""]'] == told
    assert 7 == done.returncode


@pytest.mark.parametrize(
    "before",
    [
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "signal.signal(signal.SIGTERM, lambda *_: 0)",
    ],
)
def test_a_handler_that_was_there_stays(before):
    """Where the default action did not stand, nothing is changed."""
    program = f"""
    import signal
    {before}
    before = signal.getsignal(signal.SIGTERM)
    print(hooks.install_sigterm(print), signal.getsignal(signal.SIGTERM) is before)
    """
    assert "False True\n" == run(program)[1].stdout


RAISING = """
import signal
signal.signal(signal.SIGTERM, lambda *_: 0)
def flush(timeout_s):
    os.write(told, f"flush {timeout_s} {hooks.ending().signal}\\n".encode())
hooks.install_sigterm(flush)
signal.signal(signal.SIGTERM, signal.{handler})
signal.raise_signal({number})
os.write(told, b"goes on\\n")
os._exit(5)
"""


@pytest.mark.parametrize(
    ("handler", "number", "said", "status"),
    [
        ("SIG_DFL", "signal.SIGTERM", ["flush 2.0 SIGTERM"], -signal.SIGTERM),
        ("SIG_IGN", "signal.SIGTERM", ["goes on"], 5),
        ("SIG_DFL", "signal.SIGCHLD", ["goes on"], 5),
        ("SIG_DFL", "int(signal.SIGHUP)", ["flush 2.0 SIGHUP"], -signal.SIGHUP),
    ],
)
def test_who_raises_the_signal_that_ends_him_is_flushed_before(handler, number, said, status):
    """As uvicorn does in gunicorn's workers, where SIGTERM was not ours to handle."""
    told, done = run(RAISING.replace("{handler}", handler).replace("{number}", number))
    assert said == told
    assert status == done.returncode


def test_only_the_main_thread_installs():
    """Off the main thread, where a handler cannot be set, nothing happens."""
    found = []
    hooks = CrashHooks(lambda _crash: None)
    thread = threading.Thread(target=lambda: found.append(hooks.install_sigterm(print)))
    thread.start()
    thread.join()
    assert [False] == found


def test_a_forked_child_dies_of_sigterm():
    """A child has no thread of ours; the default action is back in it."""
    program = """
    import signal
    hooks.install_sigterm(print)
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    hooks.uninstall()
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    """
    assert "-15\nTrue\n" == run(program)[1].stdout


def test_uninstalling_ends_the_thread():
    """After uninstalling no thread of ours waits for a signal."""
    hooks = CrashHooks(lambda _crash: None)
    assert hooks.install_sigterm(lambda _timeout_s: None) is True
    waiting = hooks._sigterm.thread
    hooks.uninstall()
    hooks.uninstall()
    assert waiting.join(10)
    assert signal.SIG_DFL == signal.getsignal(signal.SIGTERM)
