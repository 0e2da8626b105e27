# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it: every fault is named on the page, and nothing is left behind."""

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "shop" / "demo.py"
NEEDED = (
    "flask",
    "gunicorn",
    "requests",
    "sqlalchemy",
    "waitress",
    "opentelemetry.distro",
    "opentelemetry.instrumentation.flask",
    "opentelemetry.instrumentation.requests",
    "opentelemetry.instrumentation.sqlalchemy",
)
MARKER = "SHOP_DEMO_TEST"
RUN_S = 120


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


pytestmark = [
    pytest.mark.timeout(RUN_S + 60),
    pytest.mark.skipif(
        not all(is_installed(module) for module in NEEDED),
        reason="needs what examples/shop/requirements.txt lists",
    ),
]


@pytest.fixture
def environment(tmp_path):
    """A user's environment whose temporary folder is the test's, marked to find its processes."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    # Not measured: where a thread imports while the main one does, coverage may take the module
    # that is being loaded out of sys.modules: it looks for its sources anew when sys.path changes.
    plain = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    return {**plain, "TMPDIR": str(folder), MARKER: uuid.uuid4().hex}


def run_demo(fault, environment, *more):
    return subprocess.run(
        [sys.executable, str(DEMO), "--fault", fault, *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )


def marked_processes(environment):
    """Find the living processes that inherited the test's marker."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            marked = process.environ().get(MARKER) == environment[MARKER]
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def left_behind(environment):
    return marked_processes(environment), list(Path(environment["TMPDIR"]).glob("shop-demo-*"))


def first_issue(page):
    """Return the text of the first issue: from its heading to the next one."""
    return page.partition("\n## i-")[2].partition("\n## ")[0]


def first_id(page):
    return page.partition("\n## i-")[2][:10]


@pytest.mark.parametrize(
    ("fault", "state", "named"),
    [  # what the first issue names: the failure, and where it is in the service that has it
        ("pool", "FAILING", ["pool", "QueuePool limit of size 5", ".py:"]),
        ("slow-query", "DEGRADING", ["SELECT orders.id", "shop/reports.py:"]),
        ("missing-setting", "FAILING", ["PAYMENT_API_KEY", "KeyError", "shop/payments.py:"]),
        ("upstream", "FAILING", ["requests.exceptions.ConnectionError", "shop/supplier.py:"]),
        ("crash", "FAILING", ["holidays", "shop/discounts/seasonal.py:"]),
    ],
)
def test_first_issue_is_the_fault_that_was_switched_on(environment, fault, state, named):
    """Each fault ends in a page whose first issue names it, and in nothing left behind."""
    done = run_demo(fault, environment)

    assert done.returncode == 0, done.stderr
    assert f" · {state} · " in done.stdout.splitlines()[0]
    issue = first_issue(done.stdout)
    assert [text for text in named if text not in issue] == [], done.stdout
    assert issue.splitlines()[0].split(" · ")[3].startswith("shop: ")
    # Slowness needs a past in each worker of the gateway; where that is too short, none is said.
    symptom = re.search(r"gateway: .*; symptom of i-" + first_id(done.stdout), done.stdout)
    assert symptom or state == "DEGRADING", done.stdout
    assert left_behind(environment) == ([], [])


def test_a_second_run_remembers_the_first(environment):
    """The same fault again: the page names the run with it, and what changed since a good one."""
    done = run_demo("missing-setting", environment, "--runs", "2")

    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("\n# Briefing ")
    assert " · new · " in first_issue(first).splitlines()[0]
    assert " · regressed · " in first_issue(second).splitlines()[0]
    assert re.search(r"- Before: .* in 1 of 3 earlier runs: .* \(pid \d+\)", first_issue(second))
    assert "variables no longer set: PAYMENT_API_KEY" in first_issue(second)
    assert left_behind(environment) == ([], [])


def test_healthy_shop_has_no_issue(environment):
    """Without a fault the page says NO ISSUE SEEN and lists none."""
    done = run_demo("none", environment)

    assert done.returncode == 0, done.stderr
    assert " · NO ISSUE SEEN · " in done.stdout.splitlines()[0]
    assert "\n## i-" not in done.stdout
    assert left_behind(environment) == ([], [])


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_leaves_nothing_behind(environment, number, exit_code):
    """Ctrl-C or SIGTERM in the middle of the demo ends every process and removes its files."""
    command = [sys.executable, str(DEMO), "--fault", "pool"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert any("healthy traffic" in line for line in demo.stderr)
        running = marked_processes(environment)
        demo.send_signal(number)
        demo.communicate(timeout=30)

    assert len(running) >= 5, "the demo, supplier, shop, the gateway and its workers"
    assert demo.returncode == exit_code
    assert left_behind(environment) == ([], [])


def test_list_names_every_fault(environment):
    """`--list` prints the faults, one a line, without running anything."""
    done = subprocess.run(
        [sys.executable, str(DEMO), "--list"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=True,
    )

    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["pool", "slow-query", "missing-setting", "upstream", "crash"]
