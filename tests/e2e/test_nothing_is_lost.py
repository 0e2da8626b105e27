# SPDX-License-Identifier: Apache-2.0
"""How a process ends, and what of its logs arrives: real programs, real servers, a real receiver.

Each program logs at INFO and at ERROR. An ERROR whose log call has returned arrives, however the
process ends, if need be with the next one; of INFO, only a kill may take those of the last batch.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from peers import PROGRAMS, ROOT, wait_for

import endpoint as receivers

BIN = Path(sys.executable).parent
PATIENCE_S = 60.0
NO_SCHEDULE = {"OTEL_BLRP_SCHEDULE_DELAY": "600000"}  # what is not urgent leaves at the end only
LATE = Counter(["INFO late 0"])  # logged just before a program ends by SIGTERM
MARKED = re.compile(r"(INFO|ERROR) .*\d")


class Programs:
    """Starts programs that share a state directory and a receiver."""

    def __init__(self, environment, receiver):
        self.environment = environment
        self.receiver = receiver
        self.running = []

    def start(self, *command, fds=(), **env):
        """Start a command as a user who exports logs by OTLP."""
        grpc = self.receiver.protocol == "grpc"
        wanted = {
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc" if grpc else "http/protobuf",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": self.receiver.url,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "120",  # longer than any test waits
            "OTEL_BRIEFING_BRIEFING_UPDATE_INTERVAL": "1",
            "NO_PROXY": "*",
        }
        process = subprocess.Popen(
            command,
            cwd=PROGRAMS,
            env=self.environment.environ({**wanted, **env}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=fds,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def ending(self, *words, before=(), instrument=True, **env):
        """Start `programs/ending.py`."""
        command = self.environment.command("ending.py", *words, instrument=instrument)
        return self.start(*before, *command, **env)

    def start_here(self, tool, *words, instrument=True, fds=(), **env):
        """Start a tool of the test's own environment, which has the servers."""
        command = [str(BIN / tool), *words]
        if instrument:
            command.insert(0, str(BIN / "opentelemetry-instrument"))
        path = os.pathsep.join([str(ROOT / "src"), str(PROGRAMS)])
        return self.start(*command, fds=fds, PYTHONPATH=path, **env)

    def bodies(self):
        """Count what has arrived of what the programs have logged, but for who speaks besides."""
        return Counter(filter(MARKED.fullmatch, self.receiver.bodies()))

    def wait_for(self, wanted):
        """Wait until all that is wanted has arrived."""
        with suppress(AssertionError):
            wait_for(lambda: wanted <= self.bodies(), timeout_s=PATIENCE_S / 2)
        assert wanted - self.bodies() == Counter()

    def next_start(self, wanted):
        """Let another program start, and end when all that is wanted has arrived."""
        program = self.ending("obey")
        assert program.stdout.readline() == "up\n"
        self.wait_for(wanted)
        assert ended(program) == (0, "", "")

    def kill_all(self):
        for process in self.running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def ended(process):
    """Return the exit status of a program and what it has said, when it is over."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def logged(*names, levels=("INFO", "ERROR")):
    """Return what `programs/ending.py` logs under these names."""
    return Counter(f"{level} {name} {n}" for name in names for level in levels for n in range(3))


def numbered(count, levels=("INFO", "ERROR")):
    return Counter(f"{level} {number}" for number in range(count) for level in levels)


@pytest.fixture
def make(with_distro):
    """Make programs around a receiver; end them all when the test is over."""
    open_ends = []

    def begin(protocol="http"):
        receiver = receivers.Endpoint(protocol)
        programs = Programs(with_distro, receiver)
        open_ends.append(programs)
        receiver.start()
        return programs

    yield begin
    for programs in open_ends:
        programs.kill_all()
        programs.receiver.__exit__()


@pytest.fixture
def programs(make):
    return make()


@pytest.fixture(scope="session")
def as_pid_1():
    """Return what runs a command as PID 1 of its own world, where the machine allows that."""
    for how in (["unshare"], ["unshare", "--user", "--map-root-user"]):
        command = [*how, "--pid", "--fork", "--kill-child"]
        with suppress(OSError):
            if not subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
                return command
    return pytest.skip("the machine allows no new PID namespace")


# --- the receiver is there


@pytest.mark.parametrize(
    ("protocol", "ending", "status"),
    [
        ("http", "return", 0),
        ("http", "raise", 1),
        ("http", "exit", 3),
        ("http", "terminate", -signal.SIGTERM),
        ("http", "interrupt", -signal.SIGINT),
        ("http", "handler", 5),
        ("http", "thread", 0),
        ("grpc", "return", 0),
        ("grpc", "terminate", -signal.SIGTERM),
    ],
)
def test_all_arrives_and_the_end_is_what_it_is_without_us(make, protocol, ending, status):
    """Exit status and console are those of the bare program."""
    programs = make(protocol)
    bare = ended(programs.ending(ending, "main", instrument=False))
    assert bare == ended(programs.ending(ending, "main", **NO_SCHEDULE))
    assert bare[0] == status
    more = {"handler": Counter(["ERROR handler 0"]), "thread": logged("thread"), "terminate": LATE}
    assert logged("main") + more.get(ending, Counter()) == programs.bodies()


def test_a_daemon_thread_that_logs_on_holds_nothing_up(programs):
    """It is still at it when the process ends: what was logged before is out, and once."""
    status, out, err = ended(programs.ending("daemon", "main"))
    assert (status, out) == (0, "")
    assert set(err.splitlines()) == {"ERROR on", *logged("main", levels=["ERROR"])}
    assert logged("main") == programs.bodies()
    assert 0 < programs.receiver.bodies().count("ERROR on") <= err.count("ERROR on")


@pytest.mark.parametrize(
    ("protocol", "ending", "status"),
    [
        ("http", "_exit", 4),
        ("http", "kill", -signal.SIGKILL),
        ("grpc", "kill", -signal.SIGKILL),
    ],
)
def test_a_kill_takes_no_error(make, protocol, ending, status):
    """What the log call returned for comes with the next start; INFO comes or is gone."""
    programs = make(protocol)
    assert status == ended(programs.ending(ending, "main"))[0]
    programs.next_start(logged("main", levels=["ERROR"]))
    assert programs.bodies() <= logged("main") + logged("main", levels=["ERROR"])


def test_pid_1_is_no_other(programs, as_pid_1):
    """Its SIGTERM does nothing, as without us; its SIGKILL takes no ERROR; its return nothing."""
    assert ended(programs.ending("return", "first", before=as_pid_1))[0] == 0
    assert logged("first") == programs.bodies()
    assert ended(programs.ending("_exit", "second", before=as_pid_1))[0] == 4
    third = programs.ending("obey", before=as_pid_1)
    assert third.stdout.readline() == "up\n"
    (pid_1,) = psutil.Process(third.pid).children()
    pid_1.send_signal(signal.SIGTERM)
    tell(third, "third")
    pid_1.send_signal(signal.SIGKILL)
    ended(third)
    programs.next_start(logged("second", "third", levels=["ERROR"]))


def tell(program, name):
    """Let a program that obeys log under a name."""
    program.stdin.write(f"{name}\n")
    program.stdin.flush()
    assert program.stdout.readline() == "done\n"


# --- the receiver is not there


@pytest.mark.parametrize(
    ("protocol", "trouble", "ending", "status"),
    [
        ("http", None, "return", 0),
        ("http", None, "terminate", -signal.SIGTERM),
        ("http", receivers.hang(), "return", 0),
        ("http", receivers.hang(), "terminate", -signal.SIGTERM),
        ("http", receivers.status(503), "raise", 1),
        ("grpc", None, "return", 0),
        ("grpc", receivers.hang(), "terminate", -signal.SIGTERM),
    ],
    ids=lambda value: getattr(value, "__qualname__", str(value)).partition(".")[0],
)
def test_without_a_receiver_all_is_kept(make, protocol, trouble, ending, status):
    """The end comes long before a request would time out; the next start delivers everything."""
    programs = make(protocol)
    if trouble is None:
        programs.receiver.stop()
    else:
        programs.receiver.behaviour = trouble
    bare = ended(programs.ending(ending, "main", instrument=False))
    began = time.monotonic()
    assert bare == ended(programs.ending(ending, "main", **NO_SCHEDULE))
    assert bare[0] == status
    assert time.monotonic() - began < PATIENCE_S / 2
    programs.receiver.behaviour = receivers.ok()
    programs.receiver.start()
    wanted = logged("main") + (LATE if ending == "terminate" else Counter())
    programs.next_start(wanted)
    assert wanted == programs.bodies()


def test_a_next_program_that_ends_at_once_delivers_too(programs):
    """Jobs that run for a moment are all that some machines ever start."""
    programs.receiver.stop()
    ended(programs.ending("return", "main"))
    programs.receiver.start()
    assert ended(programs.ending("return")) == (0, "", "")
    assert logged("main") == programs.bodies()


def make_garbage(spool):
    """Fill a spool's folder with what nobody has ever put there."""
    spool.mkdir(parents=True)
    (spool / "notes.txt").write_text("mine")
    (spool / "1-1-00000000").write_text("a file where a process would have its folder")
    (spool / "2-2-00000000").mkdir()
    (spool / "3-3-00000000").symlink_to(spool / "nowhere")
    (spool / "4-4-00000000").symlink_to(spool)
    for number, make_lock in enumerate([Path.mkdir, Path.touch, os.mkfifo], 5):
        home = spool / f"{number}-{number}-00000000"
        home.mkdir()
        make_lock(home / "lock")
        segment = f"4-{number:020}-00000000.seg1"
        (home / segment).write_bytes(os.urandom(5000))
        (home / segment.replace("4-", "3-", 1)).touch()
        (home / segment.replace("4-", "2-", 1)).mkdir()
        os.mkfifo(home / segment.replace("4-", "5-", 1))
        (home / segment.replace("4-", "1-", 1)).symlink_to("/dev/zero")
        (home / "elsewhere").symlink_to("/")
        unreadable = home / f"4-{number:020}-ffffffff.seg1"
        unreadable.write_bytes(b"x" * 100)
        unreadable.chmod(0)


def test_nothing_in_the_spools_folder_hinders_a_start(programs):
    """Garbage, folders, pipes, links: all is delivered beside it, and what is not ours stays."""
    spool = programs.environment.tmp / "state" / "spool"
    make_garbage(spool)
    bare = ended(programs.ending("return", "main", instrument=False))
    assert bare == ended(programs.ending("return", "main"))
    assert logged("main") == programs.bodies()
    programs.ending("kill", "killed").wait(PATIENCE_S)
    programs.next_start(logged("killed", levels=["ERROR"]))
    assert (spool / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("in_the_way", ["spool", "spool/rejected", "state"])
def test_a_file_where_a_folder_belongs_hinders_no_start(programs, in_the_way):
    """Nothing can be kept then, and what the receiver takes needs no keeping."""
    place = programs.environment.tmp / "state"
    place = place if in_the_way == "state" else place / in_the_way
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    status, out, _ = ended(programs.ending("return", "main"))
    assert (status, out) == (0, "")
    assert logged("main") == programs.bodies()


# --- more than one process


@pytest.mark.parametrize("ending", ["fork", "fork_exit"])
def test_a_forked_child_exports_its_own_and_nothing_twice(programs, ending):
    """What its parent had in memory at the fork is the parent's alone."""
    assert ended(programs.ending(ending, "parent"))[0] == 0
    mine = logged("child", levels=["ERROR"] if ending == "fork_exit" else ["INFO", "ERROR"])
    programs.next_start(logged("parent", "after") + mine)  # what a busy machine put off
    assert logged("parent", "after") + mine == programs.bodies()


@pytest.mark.parametrize("end", ["close", "terminate"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_loses_no_error(programs, method, end):
    """`with Pool()` ends its workers by SIGTERM: what they leave behind, their parent delivers."""
    command = programs.environment.command("pools.py", method, end)
    pool = programs.start(*command)
    assert pool.stdout.readline() == "joined\n"
    wanted = numbered(20, ["ERROR"] if end == "terminate" else ["INFO", "ERROR"])
    programs.wait_for(wanted)
    assert ended(pool)[0] == 0
    found = programs.bodies()
    assert set(found) <= set(numbered(20))
    if end == "close":
        assert found == wanted


@pytest.mark.parametrize(
    ("ending", "trouble"),
    [("fork", receivers.ok()), ("fork_exit", receivers.hang()), ("terminate", receivers.hang())],
    ids=["fork", "fork_exit-hang", "terminate-hang"],
)
def test_greenlets_lose_nothing_and_send_nothing_twice(programs, ending, trouble):
    """A forked child goes on with its parent's greenlets; their work stays the parent's."""
    pytest.importorskip("gevent")
    programs.receiver.behaviour = trouble
    bare = ended(programs.ending(ending, "main", instrument=False))
    program = [str(PROGRAMS / "green_ending.py"), ending, "main"]
    soon = {"OTEL_BLRP_SCHEDULE_DELAY": "100"}  # a real thread's flush does not wake a greenlet
    assert bare == ended(programs.start_here("python", *program, instrument=False, **soon))
    programs.receiver.behaviour = receivers.ok()
    wanted = logged("main")
    if ending == "terminate":
        wanted += LATE
    else:
        levels = ["ERROR"] if ending == "fork_exit" else ["INFO", "ERROR"]
        wanted += logged("after") + logged("child", levels=levels)
    programs.next_start(wanted)
    assert wanted == programs.bodies()


def listening():
    """Return a socket of the loopback interface; nobody else gets its port meanwhile."""
    return socket.create_server(("127.0.0.1", 0))


def ask(port, path):
    """Return what a server has answered, "" when it has not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


@pytest.mark.parametrize("kind", ["sync", "gevent", "uvicorn"])
def test_gunicorns_workers_lose_nothing(programs, kind):
    """Two workers, replaced after seven requests each and ended by SIGTERM."""
    app, worker = "numbered_app:app", kind
    if kind == "gevent":
        pytest.importorskip("gevent")
    if kind == "uvicorn":
        pytest.importorskip("uvicorn_worker")
        app, worker = "numbered_app:asgi_app", "uvicorn_worker.UvicornWorker"
    with listening() as server:
        fd, port = server.fileno(), server.getsockname()[1]
        options = ["--workers", "2", "--max-requests", "7", "--bind", f"fd://{fd}"]
        options += ["--worker-class", worker]
        gunicorn = programs.start_here("gunicorn", app, *options, fds=[fd])
        wait_for(lambda: ask(port, "/"))
        workers = []

        def are_enough():
            workers.append(ask(port, f"/{len(workers)}"))
            return len(workers) >= 40 and len({*workers, ""}) > 4

        wait_for(are_enough)
        gunicorn.send_signal(signal.SIGTERM)
        status, _, err = ended(gunicorn)
    assert status == 0, err
    possible, found = numbered(len(workers)), programs.bodies()
    missing = {int(body.split()[1]) for body in possible - found}
    assert not any(workers[number] for number in missing), err
    assert found <= possible


def test_celerys_workers_lose_nothing(programs, tmp_path):
    """Two prefork workers, replaced after three tasks each."""
    options = ["--app", "celery_app", "worker", "--pool", "prefork", "--concurrency", "2"]
    options += ["--max-tasks-per-child", "3", "--loglevel", "INFO"]
    worker = programs.start_here("celery", *options, C_FORCE_ROOT="1")
    send = "import celery_app\nfor number in range(20): celery_app.number.delay(number)"
    sender = programs.start_here("python", "-c", send, instrument=False)
    assert ended(sender)[0] == 0
    programs.wait_for(numbered(20))
    worker.send_signal(signal.SIGTERM)
    _, _, err = ended(worker)
    assert numbered(20) == programs.bodies(), err


# --- the account


def delivery(programs):
    """Return where the records are, as the page of now says."""
    with suppress(OSError, ValueError):
        path = programs.environment.tmp / "state" / "dashboard.json"
        return json.loads(path.read_text(encoding="utf-8"))["delivery"]
    return {}


def summed(found, *names):
    whole = Counter()
    for name in names:
        parts = found[name].values() if name == "dropped" else [found[name]]
        for part in parts:
            whole.update(part)
    return +whole


def wait_for_account(programs, level="ERROR", **wanted):
    """Wait until the page says so of a level; whatever it says meanwhile, the sum comes out."""

    def said():
        found = delivery(programs)
        return {name: found.get(name, {}).get(level, 0) for name in wanted}

    def says_so():
        if found := delivery(programs):
            came = summed(found, "emitted", "adopted")
            there = summed(found, "delivered", "rejected", "spooled", "queued", "dropped")
            assert came == there
        return found and said() == wanted

    with suppress(AssertionError):
        wait_for(says_so, timeout_s=PATIENCE_S / 2)
    assert wanted == said()


def test_the_account_of_a_living_process_comes_out(programs):
    """Logged, arrived, refused, on disk, adopted: each is what the others know of it."""
    programs.receiver.stop()
    ended(programs.ending("return", "dead"))
    program = programs.ending("obey")
    assert program.stdout.readline() == "up\n"
    tell(program, "kept")
    wait_for_account(programs, emitted=3, adopted=3, spooled=6, queued=0, delivered=0)
    programs.receiver.start()
    programs.wait_for(logged("dead", "kept"))
    wait_for_account(programs, emitted=3, adopted=3, spooled=0, queued=0, delivered=6)
    programs.receiver.behaviour = receivers.refuse_if(lambda bodies: "INFO bad 1" in bodies)
    tell(program, "bad")
    wait_for_account(programs, emitted=6, adopted=3, delivered=9, spooled=0, queued=0, rejected=0)
    # Of INFO there are also the events of components' status.
    wait_for_account(programs, "INFO", rejected=1, spooled=0, queued=0)
    assert {} == delivery(programs)["dropped"]
    assert logged("dead", "kept", "bad") - Counter(["INFO bad 1"]) == programs.bodies()
    assert ended(program)[0] == 0
