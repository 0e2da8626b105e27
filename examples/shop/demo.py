# SPDX-License-Identifier: Apache-2.0
"""Run the shop's three services, break one, and print the one briefing that results.

Progress goes to stderr, the page to stdout. Exit code 0: the page says what was to be shown.
"""

import argparse
import importlib.util
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from faults import FAULTS, Fault
from processes import DemoError, signals_deferred, wait_until
from system import ShopSystem
from traffic import Traffic

NEEDED = ("flask", "gunicorn", "sqlalchemy", "requests", "waitress", "otel_briefing")
HEALTHY_S = 6.0
QUIET_S = 8.0
GROW_S = 4.0
REPORT_S = 40.0
PAGE_S = 15.0

STARTED = time.monotonic()


def main() -> int:
    """Run the demo that the command line asks for; return the exit code."""
    options = parse_options()
    if options.list:
        for fault in FAULTS.values():
            print(f"{fault.name:16} {fault.story}")
        return 0
    require_packages()
    # Set, not taken as found: a shell starts background jobs with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _leave)
    try:
        with work_folder(keep=options.keep) as folder:
            for number in range(1, options.runs + 1):
                if options.runs > 1:
                    say(f"run {number} of {options.runs}")
                if code := run(ShopSystem(folder), FAULTS.get(options.fault)):
                    return code
            return 0
    except KeyboardInterrupt:
        say("interrupted; everything is stopped")
        return 130


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="demo.py", description="Run a small shop, switch a fault on, print the briefing."
    )
    parser.add_argument(
        "--fault",
        choices=[*FAULTS, "none"],
        default="pool",
        help="what goes wrong; none: nothing does (default: %(default)s)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the folder with page, logs and database"
    )
    parser.add_argument(
        "--runs",
        type=int,
        choices=range(1, 6),
        default=1,
        help="how often, with one memory: what was seen before is said (default: %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="list the faults and end")
    return parser.parse_args()


def require_packages() -> None:
    """Exit with what to install when something is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"demo: not installed: {', '.join(missing)}. From the root of the repository:\n"
            "  pip install -e . -r examples/shop/requirements.txt"
        )


def run(system: ShopSystem, fault: Fault | None) -> int:
    """Run the system through its day and print the page; whatever happens, stop everything."""
    traffic = Traffic(system.port)
    try:
        start(system)
        traffic.start()
        page = show_health(system) if fault is None else show_fault(system, fault)
        say(f"answers that the customers got: {traffic.summary()}")
        print(page, flush=True)
    except DemoError as error:
        say(f"FAILED: {error}")
        for process in (system.gateway, system.app, system.supplier):
            if process is not None:
                say(f"the last output of {process.name}:\n{process.last_output()}")
        return 1
    finally:
        traffic.stop()
        with signals_deferred():
            system.stop()
    return 0


def start(system: ShopSystem) -> None:
    """Bring the whole system up."""
    say("filling the database")
    system.fill_database()
    say("starting supplier, shop and gateway, under opentelemetry-instrument")
    system.start_supplier()
    system.start_app()
    system.wait_for_app()
    system.start_gateway()


def show_health(system: ShopSystem) -> str:
    """Let customers in for a while and return the page about it."""
    say(f"healthy traffic for {QUIET_S:.0f} s, then the next page")
    time.sleep(QUIET_S)
    # An unchanged page is only rewritten every ten seconds: an older one has seen less.
    return wait_for_page(system, "NO ISSUE SEEN|FAILING|DEGRADING", time.time(), PAGE_S)


def show_fault(system: ShopSystem, fault: Fault) -> str:
    """Let healthy traffic run, switch the fault on, and return the page that reports it."""
    say(f"healthy traffic for {HEALTHY_S:.0f} s")
    time.sleep(HEALTHY_S)
    say(f"fault {fault.name}: {fault.story}")
    since_s = time.time()
    fault.switch_on(system)
    wait_for_page(system, fault.states, since_s, REPORT_S, fault.named)
    say(f"the page reports it; {GROW_S:.0f} s more of it")
    time.sleep(GROW_S)
    return wait_for_page(system, fault.states, since_s, PAGE_S, fault.named)


def wait_for_page(
    system: ShopSystem, state: str, since_s: float, timeout_s: float, named: str = ""
) -> str:
    """Return the page once it is newer than `since_s` and in one of the states.

    `named` is what its first issue must speak of; in the state NO ISSUE SEEN there is none.
    """
    title = re.compile(rf"# Briefing .* · ({state}) · ")
    page = ""

    def reports() -> bool:
        nonlocal page
        if not system.page.exists() or system.page.stat().st_mtime < since_s:
            return False
        page = system.page.read_text(encoding="utf-8")
        found = title.match(page)
        first = page.partition("\n## i-")[2].partition("\n## ")[0]
        reported = bool(first) and named in first
        return found is not None and (found[1] == "NO ISSUE SEEN" or reported)

    if wait_until(reports, timeout_s):
        return page
    raise DemoError(
        f"within {timeout_s:.0f} s {system.page.name} did not say {state.replace('|', ' or ')}"
        + (f" of {named}" if named else "")
        + (f"; it says:\n{page}" if page else "; it was not written")
    )


@contextmanager
def work_folder(*, keep: bool) -> Iterator[Path]:
    """Give a folder for everything that the demo writes; remove it at the end unless kept."""
    folder = Path(tempfile.mkdtemp(prefix="shop-demo-"))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            with signals_deferred():
                shutil.rmtree(folder, ignore_errors=True)


def say(text: str) -> None:
    """Tell the person at the terminal what goes on."""
    print(f"demo {time.monotonic() - STARTED:4.1f} s  {text}", file=sys.stderr, flush=True)


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
