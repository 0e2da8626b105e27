# SPDX-License-Identifier: Apache-2.0
"""One host, many processes: one page, every count exact, and always somebody who writes it."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from peers import PROGRAMS, free_port, wait_for

BIN = Path(sys.executable).parent


@pytest.fixture
def start(tmp_path):
    """Start programs that share a state directory; end them all when the test is over."""
    running = []
    errors = (tmp_path / "stderr").open("w")

    def begin(*command, **env):
        process = subprocess.Popen(
            command,
            cwd=PROGRAMS,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("OTEL_")},
                "OTEL_SERVICE_NAME": "shop",
                "OTEL_LOGS_EXPORTER": "none",
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_BRIEFING_STATE_DIR": str(tmp_path / "state"),
                "OUT": str(tmp_path),
                "PYTHONPATH": str(PROGRAMS),
                **env,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    errors.close()


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def dashboard(state):
    try:
        return json.loads((state / "dashboard.json").read_text())
    except (OSError, ValueError):
        return {}


def page(state):
    try:
        return (state / "briefing.md").read_text()
    except OSError:
        return ""


def count_of(state, text):
    """Sum the counts of the issues that mention `text`."""
    issues = dashboard(state).get("active_issues", [])
    return sum(issue["count"] for issue in issues if text in json.dumps(issue))


def is_whole(text):
    """Tell a page from half of one: its first and its last section are there."""
    return text.startswith("# Briefing ") and "\n## Deeper\n" in text


# --- workers that real servers fork


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_gunicorns_workers_are_one_page(start, state, preload):
    """Three workers, and their failures on one page, whoever served them."""
    port = free_port()
    command = [str(BIN / "opentelemetry-instrument"), str(BIN / "gunicorn"), "wsgi_app:app"]
    command += ["--workers", "3", "--bind", f"127.0.0.1:{port}", *["--preload"] * preload]
    server = start(*command)
    served = set()

    def ask(path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    wait_for(lambda: ask("/"))
    failures = 0
    with ThreadPoolExecutor(6) as clients:
        # The kernel chooses who serves: it may be one of them for quite a while.
        while failures < 60 or (len(served) < 2 and failures < 3_000):
            served.update(clients.map(ask, ["/fail"] * 20))
            failures += 20
    wait_for(lambda: count_of(state, "no shelf") == failures)
    assert len(served) > 1
    assert [path.name for path in state.glob("briefing*.md")] == ["briefing.md"]
    server.send_signal(signal.SIGTERM)
    server.wait(60)
    wait_for(lambda: "APP NOT RUNNING" in page(state))
    assert count_of(state, "no shelf") == failures
    assert all(f"{pid} (ended)" in page(state) for pid in served if pid in page(state))


def test_celerys_workers_are_one_page(start, state, tmp_path):
    """Two prefork workers, twenty tasks that fail."""
    command = [str(BIN / "opentelemetry-instrument"), str(BIN / "celery")]
    command += ["--app", "celery_app", "worker", "--pool", "prefork", "--concurrency", "2"]
    worker = start(*command, "--loglevel", "INFO", C_FORCE_ROOT="1")
    wait_for(lambda: "ready" in (tmp_path / "stderr").read_text())
    send = "import celery_app\nfor _ in range(20): celery_app.restock.delay()"
    start(sys.executable, "-c", send).wait(60)
    wait_for(lambda: count_of(state, "no shelf") == 20)
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    assert count_of(state, "no shelf") == 20


@pytest.mark.parametrize("service", ["shop", ""])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver", "thread"])
def test_children_count_with_their_parent(start, state, method, service):
    """Four children and their parent, ten failures each; a child that ends at once loses none.

    Without a name for the service each process is called by its command, and still belongs there.
    """
    command = [sys.executable, str(PROGRAMS / "many_children.py"), method]
    program = start(*command, OTEL_SERVICE_NAME=service)
    assert program.wait(60) == 0
    wait_for(lambda: count_of(state, "no shelf") == 50)
    assert "APP NOT RUNNING" in page(state)


@pytest.mark.parametrize("door", ["instrument", "configure"])
def test_greenlets_are_never_stopped_and_never_stop_us(start, state, tmp_path, door):
    """The page comes while no greenlet yields; a locked hub holds up none; every count is exact."""
    pytest.importorskip("gevent")
    command = [sys.executable, str(PROGRAMS / "green.py"), door]
    if door == "instrument":
        command.insert(0, str(BIN / "opentelemetry-instrument"))
    program = start(*command)
    wait_for(lambda: count_of(state, "no shelf") == 1)
    db = sqlite3.connect(state / "state.db", isolation_level=None, timeout=10)
    db.execute("BEGIN IMMEDIATE")
    (tmp_path / "go").touch()
    assert program.stdout.readline() == "done\n"
    db.execute("COMMIT")
    db.close()
    (tmp_path / "end").touch()
    assert program.wait(60) == 0
    wait_for(lambda: "APP NOT RUNNING" in page(state))
    assert count_of(state, "no shelf") == 201


# --- who renders


def beat(start, number):
    process = start(sys.executable, str(PROGRAMS / "beat.py"), str(number))
    assert process.stdout.readline() == "up\n"
    return process


def holder(state):
    """Return the pid of the process that renders, as the hub has it; 0 while nobody does."""
    query = "SELECT pid FROM processes p JOIN lease l ON l.holder = p.id WHERE l.until_ns > ?"
    with sqlite3.connect(f"file:{state / 'state.db'}?mode=ro", uri=True, timeout=5) as db:
        row = db.execute(query, (time.time_ns(),)).fetchone()
    return row[0] if row else 0


def number_of(text):
    found = re.match(r"# Briefing (\d+) ", text)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_another_writes_the_page_when_its_writer_is_gone(start, state, number):
    """The page goes on, whole at every look, with the counts of those that are left."""
    others = {process.pid: process for process in (beat(start, n) for n in range(3))}
    wait_for(lambda: all(count_of(state, f"beat of {n}") for n in range(3)))
    first = wait_for(lambda: holder(state))
    os.kill(first, number)
    before = number_of(page(state))

    def goes_on():
        text = page(state)
        assert is_whole(text)
        return number_of(text) > before and holder(state) not in {0, first}

    wait_for(goes_on)
    if number == signal.SIGSTOP:
        os.kill(first, signal.SIGCONT)
        after = number_of(page(state))
        wait_for(lambda: is_whole(page(state)) and number_of(page(state)) > after + 3)
    else:
        wait_for(lambda: f"{first} (ended)" in page(state))
        del others[first]
    counts = [int(process.communicate()[0]) for process in others.values()]
    wait_for(lambda: "APP NOT RUNNING" in page(state))
    assert count_of(state, "beat of") >= sum(counts)


def test_a_hub_that_somebody_keeps_locked_stops_nobody(start, state):
    """All go on in memory and say so; when the lock goes, every count is there."""
    processes = [beat(start, n) for n in range(2)]
    wait_for(lambda: all(count_of(state, f"beat of {n}") for n in range(2)))
    db = sqlite3.connect(state / "state.db", isolation_level=None, timeout=10)
    db.execute("BEGIN IMMEDIATE")
    wait_for(lambda: "has kept it locked" in page(state))
    assert all(psutil.pid_exists(process.pid) for process in processes)
    db.execute("COMMIT")
    db.close()
    wait_for(lambda: "has kept it locked" not in page(state))
    counts = [int(process.communicate()[0]) for process in processes]
    wait_for(lambda: "APP NOT RUNNING" in page(state))
    assert count_of(state, "beat of") == sum(counts)
