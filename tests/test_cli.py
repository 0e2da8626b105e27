# SPDX-License-Identifier: Apache-2.0
"""The command, run as a user runs it, on state directories written by hand."""

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from otel_briefing import _cli_doctor, cli
from otel_briefing.version import __version__

ISSUE = {
    "id": "i-90c4aa01",
    "title": "database pool exhausted",
    "description": "QueuePool limit reached",
    "priority": "HIGH",
    "category": "DB",
    "state": "new",
    "count": 594,
    "rate_per_minute": 262.0,
    "last_seen": "2026-11-22T14:30:14Z",
    "affected_components": ["inventory"],
    "file": "issues/i-90c4aa01.md",
}
OTHER = {**ISSUE, "id": "i-90d1bb02", "title": "slow query", "priority": "LOW"}
DEAD_PID = 2**31 - 5  # above any pid_max


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


def stamp(seconds_from_now):
    at = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=seconds_from_now)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def this_process():
    return {"pid": os.getpid(), "create_time": psutil.Process().create_time(), "ended": None}


class State:
    """A state directory that the tests write as the watched program would."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "issues").mkdir(parents=True)

    def write(self, *issues, state=None, valid_s=3600, process=None, **more):
        state = state or ("FAILING" if issues else "NO ISSUE SEEN")
        data = {
            "schema_version": 1,
            "timestamp": stamp(0),
            "valid_until": stamp(valid_s),
            "page": {"number": 97, "state": state, "title": "shop", "file": "briefing.md"},
            "process": {"service": "shop", **(process or this_process())},
            "active_issues": list(issues),
            **more,
        }
        (self.folder / "dashboard.json").write_text(json.dumps(data), encoding="utf-8")
        self.page(f"# Briefing 97 · shop · {state} · {stamp(0)}\nbody of the page\n")
        for issue in issues:
            text = f"# {issue['id']}\nfile of the issue\n"
            (self.folder / "issues" / f"{issue['id']}.md").write_text(text, encoding="utf-8")

    def page(self, text):
        (self.folder / "briefing.md").write_text(text, encoding="utf-8")


@pytest.fixture
def state(tmp_path):
    return State(tmp_path / "state")


@pytest.fixture
def run(state, capsys):
    """Run the command on the state directory; return exit code, standard output and error."""

    def run(*argv):
        code = cli.main(["--state-dir", str(state.folder), *argv])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


# --- show


def test_show_prints_the_page(run, state):
    """A live page without issues is printed as it is, and the code is 0."""
    state.write()
    code, out, err = run("show")
    assert (code, err) == (0, "")
    assert out == (state.folder / "briefing.md").read_text()


def test_show_says_by_its_code_that_there_are_issues(run, state):
    """A page with issues has code 1."""
    state.write(ISSUE)
    assert run("show")[0] == 1


def test_a_resolved_issue_is_none(run, state):
    """What is resolved neither counts nor is listed."""
    state.write({**ISSUE, "state": "resolved"}, state="NO ISSUE SEEN")
    code, out, _ = run("issues")
    assert (code, out) == (0, "No issue. The page says: NO ISSUE SEEN.\n")


@pytest.mark.parametrize(
    ("issues", "code"), [((), 3), ((ISSUE,), 1)], ids=["without issues", "with issues"]
)
@pytest.mark.parametrize(
    "process",
    [{"pid": DEAD_PID, "create_time": 1.0, "ended": None}, {**this_process(), "create_time": 1.0}],
    ids=["no such pid", "pid used again"],
)
def test_show_says_first_that_the_process_vanished(process, issues, code, run, state):
    """A page whose writer is gone without a word is history, and that stands above it."""
    state.write(*issues, process=process)
    found, out, _ = run("show")
    assert found == code
    first, _, rest = out.partition("\n\n")
    said = f"pid {process['pid']} vanished: killed or crashed; the page below is history."
    assert (said, "# Briefing 97") == (first, rest[:13])


def test_a_zombie_does_not_run(run, state):
    """A process that ended and was not yet waited for counts as gone."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    created = psutil.Process(child.pid).create_time()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        state.write(process={"pid": child.pid, "create_time": created, "ended": None})
        assert f"pid {child.pid} vanished" in run("show")[1]
    finally:
        child.wait()


def test_show_adds_nothing_to_a_page_that_tells_of_the_end(run, state):
    """APP NOT RUNNING speaks for itself; no issue is known, but nothing is live: code 3."""
    ended = {"at": stamp(0), "how": "exit code 0", "exit_code": 0, "signal": ""}
    state.write(state="APP NOT RUNNING", process={**this_process(), "ended": ended})
    code, out, _ = run("show")
    assert (code, out) == (3, (state.folder / "briefing.md").read_text())


def test_show_tells_of_an_end_that_the_page_does_not(run, state):
    """When the data know of the end and the page does not yet, the data are believed."""
    ended = {"at": stamp(0), "how": "signal SIGTERM", "exit_code": None, "signal": "SIGTERM"}
    state.write(process={**this_process(), "ended": ended})
    code, out, _ = run("show")
    assert code == 3
    assert out.startswith(f"pid {os.getpid()} ended (signal SIGTERM); the page below is history.")


def test_show_says_first_that_the_page_is_overdue(run, state):
    """A page that was not rewritten in time is history, even when the process runs."""
    state.write(valid_s=-60)
    code, out, _ = run("show")
    assert code == 3
    assert out.startswith("The page below is history: it was valid until 20")
    assert f"pid {os.getpid()} runs, but may hang." in out.partition("\n\n")[0]


@pytest.mark.parametrize(
    ("state_word", "valid_s", "code"),
    [("NO ISSUE SEEN", 3600, 0), ("FAILING", 3600, 1), ("NO ISSUE SEEN", -60, 3)],
)
def test_show_goes_by_the_page_when_there_is_no_dashboard(state_word, valid_s, code, run, state):
    """With the dashboard switched off, state and validity come from the page's first two lines."""
    until = stamp(valid_s)
    written = stamp(min(0, valid_s))
    state.page(
        f"# Briefing 9 · shop · {state_word} · {written}\nValid until {until[11:]}; rewritten …\n"
    )
    found, out, err = run("show")
    assert found == code
    assert "dashboard.json cannot be read" in err
    assert ("is history" in out) is (code == 3)


def test_show_json_is_the_dashboard_and_whether_it_lives(run, state):
    """`--json` prints what dashboard.json holds, plus `alive`."""
    state.write(ISSUE)
    code, out, _ = run("show", "--json")
    data = json.loads((state.folder / "dashboard.json").read_text())
    assert (code, json.loads(out)) == (1, {**data, "alive": True})
    state.write(process={"pid": DEAD_PID, "create_time": 1.0, "ended": None})
    assert json.loads(run("show", "--json")[1])["alive"] is False


@pytest.mark.parametrize("command", [["show"], ["issues"], ["issue", "i-1"]])
def test_no_state_is_said_with_what_to_do(command, run, state):
    """Nothing there yet: code 3, where was looked, and how to get a briefing."""
    code, out, err = run(*command)
    assert (code, out) == (3, "")
    assert f"no briefing in {state.folder}" in err
    assert "opentelemetry-instrument python app.py" in err
    code, out, err = run(*command, "--json")
    assert (code, err) == (3, "")
    assert "no briefing in" in json.loads(out)["error"]


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, ""])
def test_a_broken_dashboard_is_said(content, run, state):
    """What cannot be read is named; nothing raises."""
    (state.folder / "dashboard.json").write_text(content)
    state.page("# Briefing 1 · shop · FAILING · 2026-11-22T14:30:15Z\n")
    assert run("show")[0] == 1
    code, _, err = run("issues")
    assert (code, "dashboard.json" in err) == (3, True) if content else (3, False)


@pytest.mark.parametrize("data", [{"page": 1, "process": [], "active_issues": {}, "drops": "x"}])
def test_a_dashboard_with_other_types_breaks_nothing(data, run, state):
    """Fields of the wrong type are taken for missing ones."""
    (state.folder / "dashboard.json").write_text(json.dumps(data))
    assert [run(*argv)[0] for argv in (["show"], ["issues"], ["doctor"])] == [3, 3, 1]


def test_a_newer_schema_is_mentioned(run, state):
    """A file that a newer version wrote is shown with a word of warning."""
    state.write(schema_version=2)
    assert "schema 2, this command knows 1" in run("show")[2]


def test_nothing_reaches_the_terminal_that_it_would_obey(run, state):
    """Escape sequences, control, bidi and zero-width characters are removed; words stay."""
    hostile = "red\x1b[31m \x1b]0;title\x07bell\x07 \u202ebidi \u200bzero \x9bcsi \x7fdel 한국어\r"
    shown = "red bell bidi zero csi del 한국어"
    state.write({**ISSUE, "title": hostile})
    state.page(f"# Briefing 1 · x · FAILING · now\n{hostile}\n")
    for argv in (["show"], ["issues"]):
        out = run(*argv)[1]
        assert shown in out
        assert [char for char in out if not char.isprintable() and char != "\n"] == []
    assert json.loads(run("issues", "--json")[1])["issues"][0]["title"] == hostile
    assert run("issues", "--json")[1].isascii()


# --- show --watch


@pytest.fixture
def between_polls(monkeypatch):
    """Run a list of steps, one in each pause between two looks; then the user presses Ctrl-C."""
    steps = []

    def pause(_):
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr("time.sleep", pause)
    return steps


def test_watch_prints_again_when_the_page_changes(run, state, between_polls):
    """Each change is printed once, no change is not printed, and Ctrl-C ends it with code 0."""
    state.write()
    between_polls += [
        lambda: None,
        lambda: state.page("# second\n"),
        lambda: None,
        lambda: state.page("# third\n"),
    ]
    code, out, err = run("show", "--watch")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == ["body of the page", "# second", "# third"]


def test_watch_waits_for_the_first_page(run, state, between_polls):
    """Before there is a page it says where it looks, once."""
    between_polls += [lambda: None, lambda: state.page("# first\n")]
    out = run("show", "--watch")[1].splitlines()
    assert f"Waiting for the first briefing in {state.folder}" == out[0]
    assert out[-1] == "# first"


def test_watch_notices_that_the_process_vanished(run, state, between_polls):
    """The same page is printed again, with the warning above it, when its process is gone."""
    state.write()
    gone = {"pid": DEAD_PID, "create_time": 1.0, "ended": None}
    between_polls.append(lambda: state.write(process=gone))
    assert f"pid {DEAD_PID} vanished" in run("show", "--watch")[1]


def test_watch_as_json_prints_one_document_a_line(run, state, between_polls):
    """A script reads a stream of lines, each a whole dashboard."""
    state.write()
    between_polls.append(lambda: state.write(ISSUE))
    lines = run("show", "--watch", "--json")[1].splitlines()
    assert [len(json.loads(line)["active_issues"]) for line in lines] == [0, 1]


# --- issues


def test_issues_lists_them(run, state):
    """A line each under a heading, in the page's order; code 1."""
    state.write(ISSUE, OTHER)
    code, out, _ = run("issues")
    head, first, second = out.splitlines()
    assert (code, head.split()[:4]) == (1, ["ID", "PRIORITY", "STATE", "COUNT"])
    assert first.startswith("i-90c4aa01  HIGH      new    594")
    assert second.endswith("slow query")


def test_issues_as_json(run, state):
    """The issues' data, and whether the app lives."""
    state.write(ISSUE)
    code, out, _ = run("issues", "--json")
    assert code == 1
    assert json.loads(out) == {"alive": True, "state": "FAILING", "issues": [ISSUE]}


def test_issues_of_an_ended_app_are_history(run, state):
    """The list says first that the app has ended, which only the page says by itself."""
    ended = {"at": stamp(0), "how": "exit code 1", "exit_code": 1, "signal": ""}
    state.write(ISSUE, state="APP NOT RUNNING", process={**this_process(), "ended": ended})
    code, out, _ = run("issues")
    assert code == 1
    assert out.startswith(f"pid {os.getpid()} ended (exit code 1); what is below is history.")


def test_issues_all_says_why_each_is_called_what_it_is(run, state):
    """Those of now, then resolved ones and earlier runs', each with what its state rests on."""
    kinds = {
        "new": "not in the one earlier run that is remembered",
        "regressed": "it is back after 20 min of quiet",
        "resolved": "no occurrence for a long time, and nothing shows that its code ran since",
        "ongoing": "not seen in this run; in 1 of 1 earlier run",
    }
    new, back, gone, old = (
        {**ISSUE, "id": f"i-{number}", "state": kind, "why": why}
        for number, (kind, why) in enumerate(kinds.items())
    )
    state.write(new, back, other_issues=[gone, old])
    code, out, _ = run("issues", "--all")
    lines = out.splitlines()[1:]
    assert code == 1
    assert [line.split()[:3:2] for line in lines[::2]] == [
        [f"i-{number}", kind] for number, kind in enumerate(kinds)
    ]
    assert [line.strip() for line in lines[1::2]] == list(kinds.values())
    assert [i["why"] for i in json.loads(run("issues", "--all", "--json")[1])["issues"]] == list(
        kinds.values()
    )
    assert [line.split()[0] for line in run("issues")[1].splitlines()] == ["ID", "i-0", "i-1"]


def test_issues_all_of_a_page_that_is_fine(run, state):
    """What is resolved is listed and makes no alarm."""
    state.write(other_issues=[{**ISSUE, "state": "resolved", "why": "quiet"}])
    code, out, _ = run("issues", "--all")
    assert (code, "resolved" in out, out.endswith("    quiet\n")) == (0, True, True)


# --- issue ID


@pytest.mark.parametrize("asked", ["i-90c4aa01", "90c4aa01", "i-90c", "90c4", "I-90C4"])
def test_issue_prints_its_file(asked, run, state):
    """An id may be cut short and stand without `i-`."""
    state.write(ISSUE, OTHER)
    assert run("issue", asked) == (0, "# i-90c4aa01\nfile of the issue\n", "")


def test_issue_as_json_has_data_and_text(run, state):
    """The data of the dashboard and the file's text in one object."""
    state.write(ISSUE)
    code, out, _ = run("issue", "i-90c4aa01", "--json")
    text = "# i-90c4aa01\nfile of the issue\n"
    assert (code, json.loads(out)) == (0, {**ISSUE, "markdown": text, "alive": True})


def test_issue_that_left_the_page_is_found_by_its_file(run, state):
    """A file outlives its place on the page."""
    state.write()
    (state.folder / "issues" / "i-0ld1.md").write_text("old one\n")
    assert run("issue", "0ld")[:2] == (0, "old one\n")


def test_issue_without_a_file_is_told_from_its_data(run, state):
    """What the dashboard knows of it is printed."""
    state.write(ISSUE)
    (state.folder / "issues" / "i-90c4aa01.md").unlink()
    out = run("issue", "i-90c4aa01")[1]
    assert "title: database pool exhausted\n" in out
    assert "affected_components: inventory\n" in out


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("i-ffff", "no issue i-ffff; known: i-90c4aa01, i-90d1bb02"),
        ("i-90", "i-90 may be any of i-90c4aa01, i-90d1bb02: say more"),
        ("../dashboard", "'../dashboard' is not an issue's id; known: i-90c4aa01"),
        ("/etc/passwd", "is not an issue's id"),
        ("i-90c4aa01\0", "is not an issue's id"),
        ("", "is not an issue's id"),
        ("\x1b[31m", r"'\x1b[31m' is not an issue's id"),
    ],
)
def test_issue_that_is_not_known(asked, said, run, state):
    """An unknown, ambiguous or strange id is refused with those known; code 2."""
    state.write(ISSUE, OTHER)
    code, out, err = run("issue", asked)
    assert (code, out) == (2, "")
    assert said in err


def test_an_id_in_the_data_cannot_name_another_file(run, state):
    """What the dashboard calls an id is no path."""
    (state.folder / "secret.md").write_text("secret")
    state.write({**OTHER, "id": "i-1"})
    broken = json.loads((state.folder / "dashboard.json").read_text())
    broken["active_issues"][0]["id"] = "../secret"
    (state.folder / "dashboard.json").write_text(json.dumps(broken))
    code, out, _ = run("issue", "../secret")
    assert (code, out) == (2, "")


# --- verify, diff: see also faces/test_queries.py and e2e/test_verify.py


@pytest.mark.parametrize("command", [["verify", "i-1"], ["diff", "--since", "1h"]])
def test_without_a_hub_nothing_can_be_asked(command, run, state):
    """A page alone does not remember; what to do is said, as text or as JSON."""
    state.write(ISSUE)
    code, out, err = run(*command)
    assert (code, out, "no briefing in" in err) == (3, "", True)
    code, out, err = run(*command, "--json")
    assert (code, err, "no briefing in" in json.loads(out)["error"]) == (3, "", True)


@pytest.mark.parametrize("command", [["verify", "i-1"], ["diff", "--since", "1h"]])
def test_a_hub_that_is_none_is_said(command, run, state):
    """What cannot be read is named; nothing raises, and nothing is repaired by a reader."""
    (state.folder / "state.db").write_text("no database" * 1000)
    code, out, err = run(*command)
    assert (code, out, "not a database" in err) == (3, "", True)
    assert (state.folder / "state.db").read_text().startswith("no database")


@pytest.mark.parametrize(
    ("asked", "seconds_ago"),
    [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("1.5 h", 5400), ("0s", 0)],
)
def test_since_takes_how_long_ago(asked, seconds_ago, monkeypatch):
    """Seconds, minutes, hours, days; a part of them, too."""
    monkeypatch.setattr("time.time_ns", lambda: 1_800_000_000 * 10**9)
    assert (1_800_000_000 - seconds_ago) * 10**9 == cli._moment(asked)


@pytest.mark.parametrize(
    "asked", ["2026-11-22T14:30:00Z", "2026-11-22T15:30:00+01:00", "2026-11-22T14:30", "2026-11-22"]
)
def test_since_takes_a_time(asked):
    """Of ISO 8601; without a zone it is UTC."""
    at = dt.datetime.fromtimestamp(cli._moment(asked) / 1e9, dt.timezone.utc)
    assert at.date() == dt.date(2026, 11, 22)
    assert (at.hour, at.minute) == ((14, 30) if ":" in asked else (0, 0))


@pytest.mark.parametrize(
    "argv",
    [
        *(["diff", "--since", asked] for asked in ("last run", "10", "9" * 400 + "d", "")),
        *(["verify", "i-1", "--wait", asked] for asked in ("soon", "-1", "nan", "1e9", "")),
    ],
    ids=lambda argv: argv[-1][:10],
)
def test_a_wrong_time_is_refused_with_what_is_allowed(argv, run):
    """The message names what was given and what may be; code 2."""
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert argv[-1] in err
    assert ("0 to 86400 seconds" if argv[0] == "verify" else "90s, 10m, 2h, 1d; or a time") in err


# --- doctor


@pytest.fixture
def port():
    """A port of the loopback interface on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    """A port of the loopback interface that is held, and on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def installed(monkeypatch):
    """Make the installation look complete; entries may be added to its groups."""
    points = {f"opentelemetry_{hook}_instrument": ["otel_briefing"] for hook in ("pre", "post")}
    make = _cli_doctor.metadata.EntryPoint
    monkeypatch.setattr(
        _cli_doctor.metadata,
        "entry_points",
        lambda group: [make(name, "x:y", group) for name in points.get(group, [])],
    )
    monkeypatch.setattr(_cli_doctor.metadata, "version", lambda _: __version__)
    return points


def test_doctor_finds_nothing_amiss(run, state, installed, port):
    """A live process, an exporter that answers, everything installed: code 0, and the facts."""
    endpoint = f"http://127.0.0.1:{port}"
    state.write(
        door={"entry": "pre_instrument hook", "logs": "processor added"},
        exporters=[{"signal": "logs", "kind": "OTLP (grpc)", "endpoint": endpoint}],
        versions={"otel-briefing": __version__},
        drops={"analysis": 0},
    )
    code, out, _ = run("doctor")
    assert code == 0
    assert out.startswith("Nothing found amiss.\n")
    assert "entry: pre_instrument hook" in out
    assert f"endpoint: {endpoint}, reachable: yes" in out
    assert f"path: {state.folder}" in out


def test_doctor_names_an_exporter_that_cannot_be_reached(run, state, installed, closed_port):
    """Each signal's exporter is named with endpoint and reason; code 1."""
    endpoint = f"127.0.0.1:{closed_port}"
    state.write(exporters=[{"signal": "traces", "kind": "OTLP", "endpoint": endpoint}])
    code, out, _ = run("doctor", "--json")
    report = json.loads(out)
    assert (code, report["ok"], report["exporters"][0]["reachable"]) == (1, False, False)
    (finding,) = report["findings"]
    assert finding.startswith(f"traces exporter OTLP: {endpoint} cannot be reached from here (")


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://localhost:4317", ("localhost", 4317)),
        ("https://otlp.example.com/v1/logs", ("otlp.example.com", 443)),
        ("http://[::1]:4318/v1/traces", ("::1", 4318)),
        ("collector:4317", ("collector", 4317)),
        ("dns:///collector:4317", ("collector", 4317)),
        ("unix:///run/otel.sock", None),
        ("localhost", None),
        ("http://localhost:99999", None),
        ("http://[bad", None),
        ("", None),
    ],
)
def test_endpoints_as_they_are_written(endpoint, address):
    """URL, host and port, gRPC target: host and port are found, or that there are none."""
    assert address == _cli_doctor.parse_endpoint(endpoint)


def test_doctor_says_how_things_stand_when_nothing_ran(run, installed):
    """Without any state it still looks at installation, configuration and folder."""
    code, out, _ = run("doctor")
    assert code == 1
    assert "! No briefing in" in out
    assert f"otel-briefing {__version__}" in out


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ({"opentelemetry_pre_instrument": []}, "Our pre_instrument entry point is not installed"),
        ({"opentelemetry_post_instrument": ["x"]}, "Our post_instrument entry point is not"),
        ({"opentelemetry_distro": ["a", "b"]}, "2 distros are installed (a, b), and only one"),
        ({"opentelemetry_configurator": ["a", "b"]}, "choose with OTEL_PYTHON_CONFIGURATOR"),
    ],
)
def test_doctor_looks_at_entry_points(points, said, run, state, installed):
    """A hook that is missing and a distro or configurator too many are findings."""
    state.write()
    installed.update(points)
    code, out, _ = run("doctor")
    assert (code, said in out) == (1, True)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("OTEL_BRIEFING_LANGUAGE=fr", "The configuration cannot be used: environment: OTEL_"),
        ("OTEL_BRIEFING_LANGAGE=ko", "OTEL_BRIEFING_LANGAGE is not read by anything"),
        ("OTEL_BRIEFING_ENABLED=false", "Switched off: enabled is false, from environment OTEL"),
        ("OTEL_SDK_DISABLED=true", "OpenTelemetry is switched off"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_doctor_looks_at_the_configuration(setting, said, run, state, monkeypatch):
    """A configuration that keeps us out, or says nothing to anybody, is a finding."""
    state.write()
    monkeypatch.setenv(*setting.split("="))
    code, out, _ = run("doctor")
    assert (code, said in out) == (1, True)


def test_doctor_tells_of_drops_a_vanished_process_and_the_others(run, state, installed):
    """What was lost, who is gone, who else writes here, and which version it was."""
    gone = {"pid": DEAD_PID, "create_time": 1.0, "ended": None}
    other = {"pid": DEAD_PID, "create_time": 1.0, "service": "pay", "door": {"logs": "left"}}
    state.write(
        process=gone,
        processes=[other],
        hub="disk I/O error",
        drops={"analysis queue": 1234},
        versions={"otel-briefing": "0.0.1"},
    )
    report = json.loads(run("doctor", "--json")[1])
    assert report["processes"] == [
        {"pid": str(DEAD_PID), "service": "pay", "alive": False, "logs": "left"}
    ]
    said = "\n".join(report["findings"])
    assert "The hub of the processes is not in use: disk I/O error." in said
    assert "1,234 dropped: analysis queue." in said
    assert f"pid {DEAD_PID} vanished: killed or crashed; its page is history." in said
    assert "The process ran otel-briefing 0.0.1" in said


def test_doctor_tells_of_an_end_without_alarm(run, state, installed):
    """An app that ended in order and said so is a fact with its time, and its page is history."""
    ended = {"at": "2026-11-22T14:00:00Z", "how": "exit code 0", "exit_code": 0, "signal": ""}
    state.write(state="APP NOT RUNNING", process={**this_process(), "ended": ended})
    code, out, _ = run("doctor")
    assert code == 0
    assert "ended: 2026-11-22T14:00:00Z exit code 0" in out


def test_doctor_names_what_is_not_installed(run, state, installed, monkeypatch):
    """A distribution of the core that is missing is a finding, an optional one is not."""

    def version(name):
        if name in ("google-re2", "opentelemetry-distro"):
            raise _cli_doctor.metadata.PackageNotFoundError
        return __version__

    monkeypatch.setattr(_cli_doctor.metadata, "version", version)
    state.write()
    report = json.loads(run("doctor", "--json")[1])
    assert report["findings"] == ["google-re2 is not installed in this environment."]


# --- check-config


def test_check_config_prints_every_option(run, tmp_path):
    """Each option, its value and where it comes from; code 0."""
    path = tmp_path / "app.yaml"
    path.write_text("briefing:\n  max_tokens: 300\n")
    code, out, err = run("check-config", str(path))
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in out.splitlines()}
    assert (code, err) == (0, "")
    assert rows["briefing.max_tokens"] == ["300", f"{path}:2"]
    assert rows["language"] == ['"en"', "default"]
    options = json.loads(run("check-config", "--json", str(path))[1])["options"]
    assert {"key": "briefing.max_tokens", "value": 300, "source": f"{path}:2"} in options
    assert len(rows) == len(options)


def test_check_config_says_what_is_wrong(run, tmp_path):
    """A file that cannot be used: the error, nothing else, code 2."""
    path = tmp_path / "app.yaml"
    path.write_text("language: fr\n")
    said = f"{path}:1: language: found 'fr' (text); allowed: en, ko"
    assert run("check-config", str(path)) == (2, "", f"otel-briefing: {said}\n")
    code, out, _ = run("check-config", str(path), "--json")
    assert (code, json.loads(out)) == (2, {"error": said})


def test_check_config_mentions_variables_that_nothing_reads(run, tmp_path, monkeypatch):
    """A slip in a variable's name does not make the file wrong, and is said."""
    path = tmp_path / "app.yaml"
    path.write_text("")
    monkeypatch.setenv("OTEL_BRIEFING_LANGAGE", "ko")
    code, _, err = run("check-config", str(path))
    assert (code, "nearest known: OTEL_BRIEFING_LANGUAGE" in err) == (0, True)


# --- the command itself


def test_help_documents_commands_and_codes(run):
    """Help and version have code 0; the exit codes are documented."""
    code, out, _ = run("--help")
    assert code == 0
    for word in ("show", "issues", "issue ", "doctor", "check-config", "--state-dir"):
        assert word in out
    for number in "0123":
        assert f"\n  {number}  " in out
    assert run("--version") == (0, f"otel-briefing {__version__}\n", "")


@pytest.mark.parametrize(
    "command", ["show", "issues", "issue", "verify", "diff", "doctor", "check-config"]
)
def test_each_command_has_a_help_of_its_own(command, run):
    """What it does, its options, its codes; `verify` explains its words."""
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert all(word in out for word in ("--json", "--state-dir", "exit codes: 0 "))
    for word in ("FIXED", "STILL FAILING", "CHANGED", "MASKED", "NOT TESTED", "OLD CODE"):
        assert (f"\n  {word}  " in out) is (command == "verify")


@pytest.mark.parametrize("argv", [[], ["shwo"], ["issue"], ["show", "--nope"]])
def test_wrong_usage(argv, run):
    """A call that is not understood prints the usage to standard error; code 2."""
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert "usage: otel-briefing" in err


def test_the_state_dir_may_be_named_before_and_after_the_command(state, capsys):
    """People put a global option on either side."""
    state.write()
    assert cli.main(["show", "--state-dir", str(state.folder)]) == 0
    assert cli.main(["--state-dir", str(state.folder), "show"]) == 0


def test_the_state_dir_is_found_as_the_program_finds_it(tmp_path, state, capsys, monkeypatch):
    """The environment's, else that of the repository around the working directory."""
    (tmp_path / ".git").mkdir()
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    State(tmp_path / ".otel-briefing").write()
    assert cli.main(["show"]) == 0
    state.write(ISSUE)
    monkeypatch.setenv("OTEL_BRIEFING_STATE_DIR", str(state.folder))
    assert cli.main(["show"]) == 1
    monkeypatch.setenv("OTEL_BRIEFING_LANGUAGE", "fr")
    assert cli.main(["show"]) == 1
    assert "the configuration cannot be used" in capsys.readouterr().err


def command(*argv, **options):
    """Start the command in a process of its own."""
    program = [sys.executable, "-m", "otel_briefing.cli", *argv]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_a_closed_pipe_is_no_traceback(state):
    """`otel-briefing show | head -1` is quiet."""
    state.write()
    state.page("# x\n" + "line\n" * 200_000)
    with command("--state-dir", str(state.folder), "show") as process:
        assert process.stdout.readline() == b"# x\n"
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")


def test_a_terminal_that_is_not_utf8_gets_the_page(state):
    """Characters that an encoding lacks are escaped, and nothing fails."""
    state.write()
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with command("--state-dir", str(state.folder), "show", env=environment) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(rb"# Briefing 97 \xb7 shop")


def test_watch_ends_quietly_on_ctrl_c(state):
    """A real interrupt ends a real watch with code 0 and no traceback."""
    state.write()
    with command("--state-dir", str(state.folder), "show", "--watch") as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_the_command_loads_no_opentelemetry():
    """Reading a page starts nothing of the SDK."""
    program = (
        "import sys; from otel_briefing.cli import main; main(['--version']);"
        "print(*[m for m in sys.modules if m.startswith(('opentelemetry', 'psutil', 'yaml'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"otel-briefing {__version__}\n\n"


def test_check_config_reads_the_pattern_packs_too(tmp_path, capsys):
    """A pack that cannot be used is said here, not only on the page."""
    pack = tmp_path / "mine.yaml"
    pack.write_text(
        "patterns:\n  - {name: a, pattern: '(?=x)', priority: LOW, category: C, title: t}\n"
    )
    config = tmp_path / "briefing.yaml"
    config.write_text(f"analysis:\n  pattern_packs: [{pack}]\n")
    assert cli.main(["check-config", str(config)]) == 2
    assert "look-ahead" in capsys.readouterr().err
    config.write_text(f"analysis:\n  pattern_packs: [{tmp_path / 'gone.yaml'}]\n")
    assert cli.main(["check-config", str(config)]) == 2
    assert "gone.yaml" in capsys.readouterr().err


def test_the_command_runs_as_a_module():
    """Where the script is not on the PATH."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_briefing", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("otel-briefing ")
