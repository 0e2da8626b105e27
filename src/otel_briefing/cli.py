# SPDX-License-Identifier: Apache-2.0
"""The command `otel-briefing`: parse, read the state directory, print; an exit code for scripts."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_briefing._cli_page import (
    FINE,
    ISSUES,
    NOTHING_LIVE,
    USAGE,
    Page,
    UnknownIssueError,
    moment,
    one_line,
    plain,
    read_page,
)
from otel_briefing.exceptions import BriefingError, ConfigError
from otel_briefing.language import phrase, say, shown, speaking
from otel_briefing.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_POLL_S = 0.5
_VERIFIED = {"FIXED": FINE, "STILL FAILING": ISSUES, "CHANGED": ISSUES, "MASKED": ISSUES}
_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|h|d)")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_WAIT_S = 86_400.0
_INTERRUPTED = 130  # 128 + SIGINT, as shells say it
_PIPE_CLOSED = 141  # 128 + SIGPIPE
_CLEAR = "\x1b[2J\x1b[H"

_EPILOG = phrase("""\
examples:
  otel-briefing show                     print the page of the running program
  otel-briefing show --watch             print it again whenever it changes
  otel-briefing issues --json            the issues, for a script
  otel-briefing issue i-90c4             everything about one issue; the start of its id will do
  otel-briefing verify i-90c4 --wait 30  is it fixed? asked again for up to 30 s
  otel-briefing diff --since 10m         what began, ended or was changed in the last ten minutes
  otel-briefing doctor                   how we got in, exporters, state folder, versions
  otel-briefing check-config app.yaml    every option, its value and where it comes from
  otel-briefing --state-dir /srv/x show  another folder than the one that is found from here

exit codes:
  0  fine: show, issues: a live page and no issue; issue, diff: printed; verify: FIXED; doctor:
     nothing amiss; check-config: the file can be used
  1  show, issues: there are issues (also when the app has ended since); verify: STILL FAILING,
     CHANGED or MASKED; doctor: something amiss
  2  the call or its input is wrong: arguments, an unknown issue, a file that cannot be used
  3  show, issues: no issue is known, but nothing live says so: no briefing found, the app has
     ended or vanished, or its page is overdue; issue, diff: no briefing found; verify: NOT TESTED,
     OLD CODE or APP NOT RUNNING
  130 interrupted (show --watch: 0); 141 the reader of the output went away
""")


_SHOW_HELP = phrase("""\
exit codes: 0 a live page and no issue; 1 there are issues; 3 no issue, but nothing live says so
""")

_ISSUE_HELP = phrase("""\
exit codes: 0 printed; 2 unknown or ambiguous id; 3 no briefing found
""")

_VERIFY_HELP = phrase("""\
the words, each with the counts behind it:
  FIXED            its operations succeed without it, often enough for how often they had failed;
                   or the program has got past where it had ended it
  STILL FAILING    it occurs in the code that runs
  CHANGED          gone, but another failure is in its place
  MASKED           its error is gone, but its operations still fail
  NOT TESTED       not seen, and too little was tried to tell: silence is never FIXED
  OLD CODE         a process that runs was started before the source was edited
  APP NOT RUNNING  no process of its program runs

exit codes: 0 FIXED; 1 STILL FAILING, CHANGED, MASKED; 2 unknown or ambiguous id;
3 NOT TESTED, OLD CODE, APP NOT RUNNING, or no briefing found; 130 interrupted
""")

_DIFF_HELP = phrase("""\
It lists issues that began, go on, or were last seen; processes that started or ended; and what a
run has that the last good run had not: edited sources, packages, settings.

exit codes: 0 printed, also when there is nothing; 2 wrong time; 3 no briefing found
""")

_DOCTOR_HELP = phrase("""\
exit codes: 0 nothing amiss; 1 something is
""")

_CHECK_HELP = phrase("""\
exit codes: 0 the file can be used; 2 it cannot
""")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. Reads only; connects only for `doctor`."""
    if hasattr(sys.stdout, "reconfigure"):  # a page is UTF-8, a terminal may be anything
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with speaking(_language()):
            code = _run(argv)
        sys.stdout.flush()  # so that a closed pipe shows here
    except BrokenPipeError:
        # The interpreter flushes once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        return _INTERRUPTED
    except SystemExit as done:  # argparse has printed help, version or what was wrong
        return done.code if isinstance(done.code, int) else USAGE
    return code


def _language() -> str:
    """Return the language to speak, without reading a file where none is named."""
    own = os.environ.get("OTEL_BRIEFING_LANGUAGE", "").strip().lower()
    if own or not os.environ.get("OTEL_BRIEFING_CONFIG_FILE"):
        return own
    from otel_briefing.config import EnhancedLoggingConfig  # noqa: PLC0415 (only where needed)

    with suppress(ConfigError):  # whoever needs the configuration says what is wrong with it
        return EnhancedLoggingConfig.from_environment().language
    return ""


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return USAGE
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The stock one, with its own words in the reader's language."""

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None = None) -> None:
        super().add_usage(usage, actions, groups, say("usage: ") if prefix is None else prefix)


def _help(parser: argparse.ArgumentParser) -> None:
    """Add what argparse adds, in the reader's language."""
    words = say("show this help message and exit")
    parser.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS, help=words)
    parser._positionals.title = say("positional arguments")  # noqa: SLF001 (no other way)
    parser._optionals.title = say("options")  # noqa: SLF001


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="otel-briefing",
        description=say("Read the live briefing of what is wrong with a running Python system."),
        epilog=shown(_EPILOG),
        formatter_class=_Formatter,
        add_help=False,
    )
    _help(parser)
    parser.add_argument(
        "--version",
        action="version",
        version=f"otel-briefing {__version__}",
        help=say("show program's version number and exit"),
    )
    where = say("folder of the state; else OTEL_BRIEFING_STATE_DIR, else found from here")
    parser.add_argument("--state-dir", metavar="DIR", default=None, help=where)
    # The global option is also taken after the command, where people put it; SUPPRESS keeps its
    # absence there from undoing what stood before.
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--state-dir", metavar="DIR", default=argparse.SUPPRESS, help=where)
    shared.add_argument("--json", action="store_true", help=say("print JSON"))

    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title=say("commands"))

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, more: str = "") -> Any:
        command = commands.add_parser(
            name,
            parents=[shared],
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=shown(more),
            formatter_class=_Formatter,
            add_help=False,
        )
        _help(command)
        command.set_defaults(run=run)
        return command

    def add_id(command: Any) -> None:
        command.add_argument("id", metavar="ID", help=say("id of an issue; its start will do"))

    show = add("show", _show, say("print the page"), _SHOW_HELP)
    show.add_argument(
        "--watch", action="store_true", help=say("print it again whenever it changes")
    )
    issues = add("issues", _issues, say("list the issues"), _SHOW_HELP)
    issues.add_argument(
        "--all",
        action="store_true",
        help=say(
            "also the resolved ones and those of earlier runs, each with why it is "
            "called new, ongoing, regressed or resolved"
        ),
    )
    add_id(add("issue", _issue, say("print everything about one issue"), _ISSUE_HELP))
    verify = add("verify", _verify, say("say whether an issue is fixed"), _VERIFY_HELP)
    add_id(verify)
    verify.add_argument(
        "--wait",
        metavar="S",
        type=_seconds,
        default=0.0,
        help=say(
            "ask again for up to S seconds, until the word is settled: NOT TESTED, OLD "
            "CODE and APP NOT RUNNING are waited for"
        ),
    )
    diff = add("diff", _diff, say("list what began, ended or was changed since a time"), _DIFF_HELP)
    diff.add_argument(
        "--since",
        metavar="T",
        type=_moment,
        required=True,
        help=say("how long ago: 90s, 10m, 2h, 1d; or a time, such as 2026-11-22T14:30:00Z"),
    )
    add("doctor", _doctor, say("look for what keeps us from working"), _DOCTOR_HELP)
    check = add("check-config", _check_config, say("check a configuration file"), _CHECK_HELP)
    check.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help=say("YAML, as OTEL_BRIEFING_CONFIG_FILE names it"),
    )
    check.add_argument(
        "--schema", action="store_true", help=say("print the JSON Schema of such a file")
    )
    return parser


def _state_dir(args: argparse.Namespace) -> Path:
    """Find the folder as the watched program does; a broken configuration must not hide it."""
    from otel_briefing.config import EnhancedLoggingConfig  # noqa: PLC0415 (only where needed)
    from otel_briefing.state.folder import find_state_dir  # noqa: PLC0415

    configured: str | None = args.state_dir
    if not configured:
        try:
            configured = EnhancedLoggingConfig.from_environment().state_dir
        except ConfigError as error:
            _warn(say("the configuration cannot be used: {error}", error=error))
            configured = os.environ.get("OTEL_BRIEFING_STATE_DIR")
    return find_state_dir(configured, Path.cwd())


def _warn(text: str) -> None:
    print(f"otel-briefing: {plain(text)}", file=sys.stderr)


def _fail(args: argparse.Namespace, text: str, code: int) -> int:
    """Say what is wrong, as JSON on standard output where JSON is read, else as text."""
    if args.json:
        _print_json({"error": text})
    else:
        _warn(text)
    return code


def _print_json(data: object) -> None:
    """Print ASCII only: what is unfit for a terminal is escaped, and nothing is lost."""
    print(json.dumps(data, indent=2).replace("\x7f", "\\u007f"))


def _no_page(page: Page) -> str:
    return say(
        "no briefing in {folder}. Run the program with `opentelemetry-instrument python "
        "app.py`, or call otel_briefing.configure() in it, below the same repository (or "
        "with OTEL_BRIEFING_STATE_DIR naming the same folder). `otel-briefing doctor` "
        "looks for what is in the way.",
        folder=page.folder,
    )


def _show(args: argparse.Namespace) -> int:
    if args.watch:
        return _watch(args)
    page = read_page(_state_dir(args))
    if not page.exists:
        return _fail(args, _no_page(page), NOTHING_LIVE)
    if args.json and not page.data:
        return _fail(args, page.problem, NOTHING_LIVE)
    if page.problem and not args.json:
        _warn(page.problem)
    print(_shown(page, as_json=args.json))
    return page.exit_code


def _shown(page: Page, *, as_json: bool) -> str:
    if as_json:
        return json.dumps({**page.data, "alive": page.alive}).replace("\x7f", "\\u007f")
    text = plain(page.text).rstrip("\n") or say(
        "{folder} holds no briefing.md (switched off?).", folder=page.folder
    )
    notice = page.notice()
    return f"{notice}\n\n{text}" if notice else text


def _watch(args: argparse.Namespace) -> int:
    """Print the page whenever it, or whether it is live, changes; until interrupted."""
    folder = _state_dir(args)
    clear = _CLEAR if sys.stdout.isatty() and not args.json else ""
    last = ""
    try:
        while True:
            page = read_page(folder)
            usable = page.data if args.json else page.exists
            text = _shown(page, as_json=args.json) if usable else ""
            if not usable and not last and not args.json:
                text = say("Waiting for the first briefing in {folder}", folder=page.folder)
            if text and text != last:
                print(f"{clear}{text}", flush=True)
                last = text
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return FINE


def _issues(args: argparse.Namespace) -> int:
    page = read_page(_state_dir(args))
    if not page.data:
        text = page.problem if page.exists else _no_page(page)
        return _fail(args, text, NOTHING_LIVE)
    if args.json:
        listed = page.all_issues if args.all else page.issues
        _print_json({"alive": page.alive, "state": page.state, "issues": listed})
        return page.exit_code
    notice = page.notice(say("what is below"))
    if notice:
        print(f"{notice}\n")
    listed = page.all_issues if args.all else page.issues
    shown = _table(listed, why=args.all)
    print(shown if listed else say("No issue. The page says: {state}.", state=page.state))
    return page.exit_code


def _table(issues: list[dict[str, Any]], *, why: bool) -> str:
    """Lay issues out in columns; the title last, because it is as long as it likes.

    With `why`, a line below each says what its state rests on.
    """
    heads = ("id", "priority", "state", "count", "rate_per_minute", "last_seen", "title")
    rows = [["ID", "PRIORITY", "STATE", "COUNT", "A MINUTE", "LAST SEEN", "TITLE"]]
    rows += [[one_line(issue.get(head)) for head in heads] for issue in issues]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if why:
        said = ["", *(one_line(issue.get("why")) for issue in issues)]
        lines = [
            f"{line}\n    {text}" if text else line for line, text in zip(lines, said, strict=True)
        ]
    return "\n".join(lines)


def _issue(args: argparse.Namespace) -> int:
    from otel_briefing.faces.queries import findings_of  # noqa: PLC0415 (the others do without it)

    page = read_page(_state_dir(args))
    if not page.exists:
        return _fail(args, _no_page(page), NOTHING_LIVE)
    try:
        issue_id = page.find_issue(args.id)
    except UnknownIssueError as error:
        return _fail(args, str(error), USAGE)
    text = page.issue_text(issue_id)
    found = (issue for issue in page.all_issues if issue.get("id") == issue_id)
    facts = next(found, {"id": issue_id})
    if findings := findings_of(page.folder, issue_id):
        facts = {**facts, "findings": findings}
    if args.json:
        _print_json({**facts, "markdown": text, "alive": page.alive})
    else:
        notice = page.notice(say("what is below"))
        body = plain(text).rstrip("\n") or _issue_lines(facts)
        print(f"{notice}\n\n{body}" if notice else body)
    return FINE


def _issue_lines(facts: dict[str, Any]) -> str:
    """Write an issue that has no file of its own from its data."""
    return "\n".join(
        f"{name}: {', '.join(map(one_line, value)) if isinstance(value, list) else one_line(value)}"
        for name, value in facts.items()
        if value not in (None, "", [])
    )


def _verify(args: argparse.Namespace) -> int:
    from otel_briefing.faces.queries import Queries  # noqa: PLC0415 (the others do without it)

    page = read_page(_state_dir(args))
    if not page.has_hub:
        return _fail(args, _no_page(page), NOTHING_LIVE)
    try:
        queries = Queries(page.folder)
        issue_id = page.find_issue(args.id, queries.ids())
        verdict = queries.verify(issue_id, args.wait)
    except UnknownIssueError as error:
        return _fail(args, str(error), USAGE)
    except KeyError:
        return _fail(
            args,
            say("{issue_id} is no longer remembered: only its file is left", issue_id=issue_id),
            USAGE,
        )
    except BriefingError as error:
        return _fail(args, str(error), NOTHING_LIVE)
    if args.json:
        _print_json({"id": issue_id, "verdict": verdict.word, "why": verdict.why})
    else:
        print(one_line(f"{issue_id} {verdict.word}: {verdict.why}"))
    return _VERIFIED.get(verdict.word, NOTHING_LIVE)


def _diff(args: argparse.Namespace) -> int:
    from otel_briefing.faces.queries import Queries  # noqa: PLC0415 (the others do without it)

    page = read_page(_state_dir(args))
    if not page.has_hub:
        return _fail(args, _no_page(page), NOTHING_LIVE)
    try:
        changes = Queries(page.folder).since(args.since)
    except BriefingError as error:
        return _fail(args, str(error), NOTHING_LIVE)
    rows = [(_iso(change.at_ns), change.what, one_line(change.text)) for change in changes]
    if args.json:
        _print_json([dict(zip(("at", "what", "text"), row, strict=True)) for row in rows])
        return FINE
    for at, what, text in rows:
        print(f"{at}  {shown(what):<9}  {text}")
    if not rows:
        print(say("Nothing began, ended or was changed since then."))
    return FINE


def _iso(at_ns: int) -> str:
    return dt.datetime.fromtimestamp(at_ns / 1e9, dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    """Read a number of seconds."""
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) <= _LONGEST_WAIT_S:
            return seconds
    raise argparse.ArgumentTypeError(
        say(
            "{text} is no waiting time; allowed: 0 to {longest:.0f} seconds",
            text=repr(one_line(text)),
            longest=_LONGEST_WAIT_S,
        )
    )


def _moment(text: str) -> int:
    """Read a time, or how long ago it was; in ns since the epoch."""
    if (ago := _AGO.fullmatch(text.strip())) is not None:
        return time.time_ns() - int(float(ago[1]) * _UNITS_S[ago[2]] * 1e9)
    at = moment(text.strip())
    if at is None:
        raise argparse.ArgumentTypeError(
            say(
                "{text} is no time; allowed: how long ago, as 90s, 10m, 2h, 1d; or a time, "
                "as 2026-11-22T14:30:00Z (without a zone it is UTC)",
                text=repr(one_line(text)),
            )
        )
    return int(at.timestamp() * 1e9)


def _doctor(args: argparse.Namespace) -> int:
    from otel_briefing import _cli_doctor  # noqa: PLC0415 (the other commands do without it)

    report = _cli_doctor.examine(read_page(_state_dir(args)))
    if args.json:
        _print_json({"ok": not report.findings, "findings": report.findings, **report.facts})
    else:
        print(_cli_doctor.render(report))
    return ISSUES if report.findings else FINE


def _check_config(args: argparse.Namespace) -> int:
    if args.schema:
        from otel_briefing._config_schema import as_text  # noqa: PLC0415

        print(as_text(), end="")
        return FINE
    if args.file is None:
        return _fail(args, say("check-config: a FILE is missing; or --schema"), USAGE)
    from otel_briefing.config import check_file, environment_warnings  # noqa: PLC0415

    try:
        rows = check_file(args.file)
    except BriefingError as error:
        return _fail(args, str(error), USAGE)
    for warning in environment_warnings():
        _warn(warning)
    packs = next((tuple(value) for key, value, _ in rows if key == "analysis.pattern_packs"), ())
    if packs:
        from otel_briefing.pipeline import check_packs  # noqa: PLC0415

        if refused := check_packs(packs):
            return _fail(args, refused, USAGE)
    if args.json:
        options = [dict(zip(("key", "value", "source"), row, strict=True)) for row in rows]
        _print_json({"file": args.file, "options": options})
        return FINE
    key_width = max(len(key) for key, _, _ in rows)
    shown = [json.dumps(value, ensure_ascii=False) for _, value, _ in rows]
    value_width = max(map(len, shown))
    for (key, _, source), value in zip(rows, shown, strict=True):
        print(plain(f"{key:<{key_width}}  {value:<{value_width}}  {source}"))
    return FINE


if __name__ == "__main__":
    raise SystemExit(main())
