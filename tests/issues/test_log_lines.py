# SPDX-License-Identifier: Apache-2.0
"""Plain log text becomes events: each product's lines, stacks, and whatever else there may be."""

import datetime as dt
import io
import logging
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_briefing.events import DEBUG, ERROR, FATAL, INFO, WARN
from otel_briefing.issues import log_lines
from otel_briefing.issues.log_lines import LogLineReader, read_events
from otel_briefing.stack_traces import to_site
from otel_briefing.telemetry.stacks import raw_site

S = 1_000_000_000
NOW = int(dt.datetime(2024, 6, 1, tzinfo=dt.timezone.utc).timestamp()) * S


def read(text, **kwargs):
    kwargs = {"now_ns": lambda: NOW, "zone": dt.timezone.utc, **kwargs}
    return list(read_events(text.split("\n"), **kwargs))


def at(event):
    when = dt.datetime.fromtimestamp(event.time_ns // S, dt.timezone.utc)
    return when.strftime("%Y-%m-%d %H:%M:%S")


def frames(raised):
    return [(frame.function, frame.line, frame.in_app) for frame in raised.frames]


# product, line, time or "" for the clock's, severity, logger, service, body
LINES = [
    ("logging.BASIC_FORMAT", "ERROR:shop.db:no route", "", ERROR, "shop.db", "", "no route"),
    (
        "logging, the tutorial's format",
        "2024-05-01 10:00:00,123 - shop.db - WARNING - it took 3 s",
        *("2024-05-01 10:00:00", WARN, "shop.db", "", "it took 3 s"),
    ),
    (
        "logging, brackets",
        "[2024-05-01 10:00:00] [ERROR] [shop.db] [db.py:12] lost - again",
        *("2024-05-01 10:00:00", ERROR, "shop.db", "", "lost - again"),
    ),
    (
        "logging, a place",
        "2024-05-01 10:00:00,123 ERROR db.py:12 no [Errno 2]",
        *("2024-05-01 10:00:00", ERROR, "", "", "no [Errno 2]"),
    ),
    (
        "loguru",
        "2024-05-01 10:00:00.123 | ERROR    | shop.db:connect:12 - no route",
        *("2024-05-01 10:00:00", ERROR, "shop.db", "", "no route"),
    ),
    (
        "structlog, JSONRenderer",
        (
            '{"event": "no route", "level": "warning", "logger": "shop", '
            '"timestamp": "2024-05-01T12:00:00+02:00"}'
        ),
        *("2024-05-01 10:00:00", WARN, "shop", "", "no route"),
    ),
    (
        "python-json-logger",
        (
            '{"asctime": "2024-05-01 10:00:00,123", "levelname": "CRITICAL", "name": "shop", '
            '"message": "gone"}'
        ),
        *("2024-05-01 10:00:00", FATAL, "shop", "", "gone"),
    ),
    (
        "pino",
        '{"level":50,"time":1714557600123,"pid":7,"hostname":"a","msg":"no route"}',
        *("2024-05-01 10:00:00", ERROR, "", "", "no route"),
    ),
    (
        "bunyan",
        (
            '{"name":"shop","hostname":"a","pid":7,"level":40,"msg":"slow",'
            '"time":"2024-05-01T10:00:00.123Z","v":0}'
        ),
        *("2024-05-01 10:00:00", WARN, "shop", "", "slow"),
    ),
    (
        "zap, production",
        '{"level":"error","ts":1714557600.123,"caller":"shop/db.go:12","msg":"lost","error":"EOF"}',
        *("2024-05-01 10:00:00", ERROR, "", "", "lost: EOF"),
    ),
    (
        "slog, JSONHandler",
        '{"time":"2024-05-01T10:00:00.12Z","level":"INFO","msg":"hello","count":3}',
        *("2024-05-01 10:00:00", INFO, "", "", "hello"),
    ),
    (
        "logstash-logback-encoder",
        (
            '{"@timestamp":"2024-05-01T10:00:00.123Z","@version":"1","message":"lost",'
            '"logger_name":"com.acme.Db","thread_name":"main","level":"ERROR","level_value":40000}'
        ),
        *("2024-05-01 10:00:00", ERROR, "com.acme.Db", "", "lost"),
    ),
    (
        "ECS",
        (
            '{"@timestamp":"2024-05-01T10:00:00Z","log":{"level":"error","logger":"Db"},'
            '"service":{"name":"shop"},"message":"lost"}'
        ),
        *("2024-05-01 10:00:00", ERROR, "Db", "shop", "lost"),
    ),
    (
        "journalctl -o json",
        (
            '{"__REALTIME_TIMESTAMP":"1714557600000000","PRIORITY":"3","SYSLOG_IDENTIFIER":"sshd",'
            '"MESSAGE":"fatal: no key"}'
        ),
        *("2024-05-01 10:00:00", ERROR, "", "sshd", "fatal: no key"),
    ),
    (
        "slog, TextHandler",
        'time=2024-05-01T10:00:00.000Z level=ERROR msg="no \\"route\\"" err=EOF',
        *("2024-05-01 10:00:00", ERROR, "", "", 'no "route": EOF'),
    ),
    (
        "logrus",
        'time="2024-05-01T10:00:00Z" level=warning msg="The group\'s number increased" number=122',
        *("2024-05-01 10:00:00", WARN, "", "", "The group's number increased"),
    ),
    (
        "RFC 3164, its own example",
        "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        *("2023-10-11 22:14:15", FATAL, "", "su", "'su root' failed for lonvick on /dev/pts/8"),
    ),
    (
        "rsyslog, the traditional file format",
        "May  1 10:00:00 web sshd[2120]: error: no key",
        *("2024-05-01 10:00:00", ERROR, "", "sshd", "error: no key"),
    ),
    (
        "rsyslog, ISO",
        "2024-05-01T10:00:00.123456+00:00 web kernel: Out of memory",
        *("2024-05-01 10:00:00", 0, "", "kernel", "Out of memory"),
    ),
    (
        "RFC 5424, its own example",
        (
            "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 "
            '[exampleSDID@32473 iut="3" eventSource="Application"] An application event'
        ),
        *("2003-10-11 22:14:15", INFO, "", "evntslog", "An application event"),
    ),
    (
        "nginx, error.log",
        "2024/05/01 10:00:00 [error] 29#29: *1 connect() failed (111: Connection refused)",
        *("2024-05-01 10:00:00", ERROR, "", "", "connect() failed (111: Connection refused)"),
    ),
    (
        "nginx, combined",
        '10.0.0.1 - bob [01/May/2024:12:00:00 +0200] "GET /o/17?x=1 HTTP/1.1" 502 157 "-" "curl"',
        *("2024-05-01 10:00:00", ERROR, "GET /o/<*>", "", "GET /o/17 502 Bad Gateway"),
    ),
    (
        "Apache httpd, error.log",
        "[Wed May 01 10:00:00.123456 2024] [core:error] [pid 7:tid 43] [client 10.0.0.1] no file",
        *("2024-05-01 10:00:00", ERROR, "", "", "no file"),
    ),
    (
        "uvicorn.access",
        'INFO:     127.0.0.1:51234 - "POST /orders HTTP/1.1" 500 Internal Server Error',
        *("", ERROR, "POST /orders", "", "POST /orders 500 Internal Server Error"),
    ),
    ("uvicorn", "INFO:     Started server process [7]", "", INFO, "", "", None),
    (
        "gunicorn",
        "[2024-05-01 10:00:00 +0000] [7] [CRITICAL] WORKER TIMEOUT (pid:9)",
        *("2024-05-01 10:00:00", FATAL, "", "", "WORKER TIMEOUT (pid:9)"),
    ),
    (
        "Celery",
        "[2024-05-01 10:00:00,123: ERROR/MainProcess] Task shop.add raised",
        *("2024-05-01 10:00:00", ERROR, "", "", "Task shop.add raised"),
    ),
    (
        "Django runserver",
        '[01/May/2024 10:00:00] "GET /x HTTP/1.1" 404 179',
        *("2024-05-01 10:00:00", INFO, "GET /x", "", "GET /x 404"),
    ),
    (
        "gin",
        '[GIN] 2024/05/01 - 10:00:00 | 500 |    1.2ms |       127.0.0.1 | GET      "/x"',
        *("2024-05-01 10:00:00", ERROR, "GET /x", "", "GET /x 500 Internal Server Error"),
    ),
    (
        "Logback, its default pattern",
        "10:00:00.123 [main] WARN com.acme.Shop -- no stock",
        *("2024-05-31 10:00:00", WARN, "com.acme.Shop", "", "no stock"),
    ),
    (
        "Log4j, Hadoop's pattern",
        "2024-05-01 10:00:00,123 ERROR [IPC Server handler 1] org.apache.hadoop.ipc.Server: lost",
        *("2024-05-01 10:00:00", ERROR, "org.apache.hadoop.ipc.Server", "", "lost"),
    ),
    (
        "Spring Boot",
        "2024-05-01T10:00:00.123Z ERROR 7 --- [shop] [nio-8080-exec-1] c.a.shop.Orders  : lost it",
        *("2024-05-01 10:00:00", ERROR, "c.a.shop.Orders", "", "lost it"),
    ),
    (
        "ZooKeeper",
        "2024-05-01 10:00:00,123 - WARN  [SendWorker:18897:QuorumCnxManager$SendWorker@688] - gone",
        *("2024-05-01 10:00:00", WARN, "QuorumCnxManager$SendWorker", "", "gone"),
    ),
    (
        "Go, log.LstdFlags | log.Lshortfile",
        "2024/05/01 10:00:00 main.go:12: could not open",
        *("2024-05-01 10:00:00", 0, "", "", "could not open"),
    ),
    (
        "zap, development",
        "2024-05-01T10:00:00.123Z\tERROR\tshop/main.go:12\tfailed",
        *("2024-05-01 10:00:00", ERROR, "", "", "failed"),
    ),
    (
        "klog",
        "E0501 10:00:00.123456   12345 reflector.go:138] Failed to watch",
        *("2024-05-01 10:00:00", ERROR, "", "", "Failed to watch"),
    ),
    (
        "docker compose logs",
        "\x1b[36mweb-1  | \x1b[0mERROR:shop:lost",
        *("", ERROR, "shop", "web", "lost"),
    ),
    (
        "kubectl logs --prefix",
        "[pod/shop-7d9f8b6c5d-x2x4z/web] ERROR:shop:lost",
        *("", ERROR, "shop", "shop", "lost"),
    ),
    (
        "containerd",
        "2024-05-01T10:00:00.123456789Z stderr F panic now",
        *("2024-05-01 10:00:00", 0, "", "", "panic now"),
    ),
    (
        "Docker, json-file",
        '{"log":"ERROR:shop:lost\\n","stream":"stderr","time":"2024-05-01T10:00:00.123456789Z"}',
        *("2024-05-01 10:00:00", ERROR, "shop", "", "lost"),
    ),
    (
        "PostgreSQL",
        '2024-05-01 10:00:00.123 UTC [12] FATAL:  password authentication failed for user "x"',
        *("2024-05-01 10:00:00", FATAL, "", "", None),
    ),
    (
        "MySQL",
        "2024-05-01T10:00:00.123456Z 0 [ERROR] [MY-010119] [Server] Aborting",
        *("2024-05-01 10:00:00", ERROR, "Server", "", "Aborting"),
    ),
    (
        "Django, the documentation's verbose format",
        "ERROR 2024-05-01 10:00:00,123 views 123 140 lost",
        *("2024-05-01 10:00:00", ERROR, "", "", "views 123 140 lost"),
    ),
    (
        "Ruby's Logger",
        "E, [2024-05-01T10:00:00.123456 #123] ERROR -- : something broke",
        *("2024-05-01 10:00:00", ERROR, "", "", "something broke"),
    ),
    (
        "MongoDB",
        '{"t":{"$date":"2024-05-01T10:00:00.000+00:00"},"s":"E","c":"NETWORK","msg":"lost"}',
        *("2024-05-01 10:00:00", ERROR, "", "", "lost"),
    ),
    (
        "structlog, ConsoleRenderer",
        "2024-05-01 10:00:00 [warning  ] it took long                   order=17",
        *("2024-05-01 10:00:00", WARN, "", "", "it took long                   order=17"),
    ),
    ("winston, simple", "error: no route", "", ERROR, "", "", "error: no route"),
    ("npm", "npm ERR! code ELIFECYCLE", "", ERROR, "", "", "npm ERR! code ELIFECYCLE"),
    ("logging, level and message", "DEBUG cache is warm", "", DEBUG, "", "", "cache is warm"),
    ("a print", "no error was found", "", 0, "", "", "no error was found"),
    ("a print of a sentence", "The ERROR was ours", "", ERROR, "", "", "The ERROR was ours"),
]


@pytest.mark.parametrize(
    ("line", "when", "severity", "logger", "service", "body"),
    [row[1:] for row in LINES],
    ids=[row[0] for row in LINES],
)
def test_a_line_of_a_product_is_understood(line, when, severity, logger, service, body):  # noqa: PLR0917
    """Time, severity, logger, service and message stand where the product puts them."""
    (event,) = read(line)
    assert (when or "2024-06-01 00:00:00") == at(event)
    assert (severity, logger, service) == (event.severity, event.logger, event.service)
    assert body is None or body == event.body


def test_an_access_line_carries_status_and_operation():
    """Status, method and path are attributes; the query is nowhere."""
    (event,) = read('10.0.0.1 - - [01/May/2024:10:00:00 +0000] "GET /a?token=s HTTP/1.1" 403 1')
    assert event.attributes == {
        "http.request.method": "GET",
        "url.path": "/a",
        "http.response.status_code": 403,
    }
    assert "token=s" not in repr(event)


def test_a_clients_line_about_its_call_is_no_access_line():
    """urllib3 tells of a call that the program made, not of one that it served."""
    (event,) = read('DEBUG:urllib3.connectionpool:http://stock:80 "GET /x HTTP/1.1" 500 None')
    assert (DEBUG, "urllib3.connectionpool") == (event.severity, event.logger)


def test_the_place_of_a_log_call_is_kept():
    """A file and a line in the header are the call site."""
    (event,) = read("2024-05-01 10:00:00.123 | ERROR    | shop.db:connect:12 - no route")
    assert ("connect", 12) == event.call_site[1:3]
    (event,) = read('{"level":"error","caller":"shop/db.go:12","msg":"lost"}')
    assert 12 == event.call_site.line


def test_the_ids_of_a_trace_are_kept():
    """A JSON line that names its trace belongs to it; what is no id is left out."""
    good = f'{{"msg": "x", "trace_id": "{"A" * 32}", "span_id": "{"b" * 16}"}}'
    (event,) = read(good)
    assert ("a" * 32, "b" * 16) == (event.trace_id, event.span_id)
    (event,) = read(f'{{"msg": "x", "trace_id": "{"0" * 32}", "span_id": "0x12"}}')
    assert ("", "") == (event.trace_id, event.span_id)


PYTHON = """\
2024-05-01 10:00:00,123 - shop - ERROR - order 17 failed
Traceback (most recent call last):
  File "/srv/shop/db.py", line 20, in total
    raise KeyError("price")
KeyError: 'price'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/srv/shop/orders.py", line 3, in place
    total()
shop.errors.OrderError: no order
[SQL: SELECT 1]
2024-05-01 10:00:01,123 - shop - INFO - next"""


def test_a_python_traceback_belongs_to_its_line():
    """The chain is read as that of a record from elsewhere is, root cause first."""
    event, after = read(PYTHON)
    assert "order 17 failed" == event.body
    assert ["KeyError", "shop.errors.OrderError"] == [link.type for link in event.site.chain]
    assert [("total", 20, True)] == frames(event.site.root)
    assert ("next", INFO) == (after.body, after.severity)


def test_a_failure_looks_the_same_as_text_and_as_an_exception():
    """What `logging` writes is read back into the frames that the handler would have seen."""

    def fail():
        return {}["price"]

    stream = io.StringIO()
    logger = logging.Logger("shop")  # noqa: LOG001 - nobody else shall see it
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    logger.addHandler(handler)
    try:
        fail()
    except KeyError as error:
        logger.exception("order %s failed", 17)
        expected = to_site(raw_site(error))
    (event,) = read(stream.getvalue())
    assert ("order 17 failed", "shop", expected) == (event.body, event.logger, event.site)


def test_a_crash_after_a_good_line_is_a_failure_of_its_own():
    """An uncaught exception has no log line: the INFO line before it is not its."""
    text = PYTHON.replace("ERROR - order 17 failed", "INFO - order 17 placed")
    before, crash, _ = read(text)
    assert (INFO, None) == (before.severity, before.site)
    assert (ERROR, "shop.errors.OrderError: no order\n[SQL: SELECT 1]") == crash[1:3]
    assert before.time_ns == crash.time_ns


def test_two_tracebacks_in_a_row_are_two_failures():
    """Without the sentence that links them, a second header is a second failure."""
    block = 'Traceback (most recent call last):\n  File "/a.py", line 1, in f\nValueError: x\n'
    events = read(block + block)
    assert ["ValueError"] * 2 == [event.site.root.type for event in events]


def test_an_exception_group_is_followed_into_its_first_member():
    """The drawing of a group is one stack."""
    (event,) = read(
        """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/g.py", line 9, in <module>
  |     raise ExceptionGroup("two", [ValueError("a")])
  | ExceptionGroup: two (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "/srv/g.py", line 4, in work
    |     raise ValueError("a")
    | ValueError: a
    +------------------------------------"""
    )
    assert "ValueError" == event.site.root.type
    assert [("work", 4, True)] == frames(event.site.root)


def test_asyncios_line_between_record_and_traceback_is_a_part():
    """What stands between a record and its stack belongs to them."""
    (event,) = read(
        """\
ERROR:asyncio:Task exception was never retrieved
future: <Task finished name='Task-1' coro=<f() done> exception=ValueError('x')>
Traceback (most recent call last):
  File "/srv/a.py", line 1, in f
ValueError: x"""
    )
    assert ("Task exception was never retrieved", "ValueError") == (
        event.body,
        event.site.root.type,
    )


def test_a_java_stack_is_read_to_its_last_cause():
    """Spring logs a line, an empty one, and the exception: one failure."""
    event, after = read(
        """\
2024-05-01T10:00:00.123Z ERROR 7 --- [nio-8080-exec-1] c.a.shop.Orders  : lost it

java.lang.IllegalStateException: boom
\tat com.acme.shop.Orders.lambda$place$0(Orders.java:42) ~[classes/:na]
\tat java.base/java.lang.Thread.run(Thread.java:829)
\tSuppressed: java.io.IOException: aside
\t\tat com.acme.shop.Aside.close(Aside.java:1)
Caused by: java.sql.SQLException: no connection
\tat com.acme.shop.Db.get(Db.java:7)
\t... 12 common frames omitted
2024-05-01T10:00:01.123Z  INFO 7 --- [main] c.a.shop.Orders  : next"""
    )
    root, outer = event.site.chain
    assert ("java.sql.SQLException", "no connection") == root[:2]
    assert [("get", 7, True)] == frames(root)
    assert [("place", 42, True), ("run", 829, False)] == frames(outer)
    assert "com/acme/shop/Orders.java" == outer.frames[0].file
    assert "next" == after.body


def test_an_uncaught_exception_of_java_ended_its_thread():
    """The virtual machine says itself that nobody caught it."""
    (event,) = read(
        'Exception in thread "main" java.lang.RuntimeException: x\n\tat a.b.Main.main(Main.java:3)'
    )
    assert (FATAL, "main") == (event.severity, event.uncaught)
    assert "java.lang.RuntimeException" == event.site.root.type


def test_an_uncaught_exception_is_not_that_of_the_error_before():
    """It has its own first line: what was logged before is another failure."""
    before, crash = read(
        "2024-05-01 10:00:00,123 ERROR [main] a.b.Main: lost\n"
        'Exception in thread "main" java.lang.RuntimeException: x\n\tat a.b.Main.main(Main.java:3)'
    )
    assert ("lost", None, "main") == (before.body, before.site, crash.uncaught)


def test_what_stands_around_a_line_does_not_make_its_parts_failures():
    """Journald marks each line of stderr as an error, also one that only continues a message."""
    text = "<27>May  1 10:00:00 web shop[7]: order lost\n<27>May  1 10:00:00 web shop[7]:   id 7"
    (event,) = read(text)
    assert (ERROR, "order lost\n  id 7") == (event.severity, event.body)


def test_a_node_stack_is_read():
    """Its own frames are told from those of node and of modules."""
    *_, event = read(
        """\
/srv/app/index.js:3
    throw new TypeError('x')
    ^

TypeError: Cannot read properties of undefined (reading 'id')
    at Object.place (/srv/app/orders.js:12:5)
    at async /srv/app/index.js:3:11
    at next (/srv/app/node_modules/express/lib/router/index.js:280:10)
    at node:internal/main/run_main_module:23:47

Node.js v18.0.0"""
    )
    assert ERROR == event.severity
    assert "TypeError" == event.site.root.type
    assert [
        ("Object.place", 12, True),
        ("<anonymous>", 3, True),
        ("next", 280, False),
        ("<anonymous>", 23, False),
    ] == frames(event.site.root)


def test_pinos_error_object_is_a_failure():
    """The stack stands in a field."""
    (event,) = read(
        '{"level":50,"msg":"lost","err":{"type":"DbError","message":"no route",'
        '"stack":"DbError: no route\\n    at get (/srv/app/db.js:1:2)"}}'
    )
    assert ("DbError", "no route") == event.site.root[:2]
    assert [("get", 1, True)] == frames(event.site.root)


def test_structlogs_exceptions_are_failures():
    """Both as a text and as a list of dicts."""
    (text,) = read(
        '{"event": "lost", "level": "error", "exception": "Traceback (most recent call last):\\n'
        '  File \\"/srv/db.py\\", line 3, in get\\nValueError: x"}'
    )
    (listed,) = read(
        '{"event": "lost", "level": "error", "exception": [{"exc_type": "ValueError", '
        '"exc_value": "x", "frames": [{"filename": "/srv/db.py", "lineno": 3, "name": "get"}]}]}'
    )
    assert text.site == listed.site


def test_a_stack_within_a_message_is_a_failure():
    """Google Cloud's error reporting takes the stack as the message."""
    (event,) = read(
        '{"severity": "ERROR", "message": "lost\\nTraceback (most recent call last):\\n'
        '  File \\"/srv/db.py\\", line 3, in get\\nValueError: x"}'
    )
    assert ("lost", "ValueError") == (event.body, event.site.root.type)


def test_frames_of_another_interpreter_are_not_the_apps():
    """The log may come from a machine with another Python."""
    (event,) = read(
        'Traceback (most recent call last):\n  File "/srv/a.py", line 1, in f\n'
        '  File "/opt/py/lib/python3.9/json/decoder.py", line 353, in raw_decode\nValueError: x'
    )
    assert [("raw_decode", 353, False), ("f", 1, True)] == frames(event.site.root)


def test_a_working_directory_that_is_gone_does_no_harm(tmp_path, monkeypatch):
    """Where code lies is asked of the system; its answer may be an error."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    (event,) = read('Traceback (most recent call last):\n  File "a/odd.py", line 1, in f\nOSError')
    assert "odd.py" == event.site.root.frames[0].file


def test_a_panic_that_nets_http_recovered_from_belongs_to_its_line():
    """The server logs it and goes on: nothing ended."""
    (event,) = read(
        """\
2024/05/01 10:00:00 http: panic serving 127.0.0.1:1234: boom
goroutine 19 [running]:
panic({0x1, 0x2})
\t/usr/local/go/src/runtime/panic.go:890 +0x262
main.handler({0x1, 0x2}, 0xc0)
\t/srv/shop/main.go:12 +0x2d"""
    )
    assert (ERROR, "") == (event.severity, event.uncaught)
    assert ("panic", "http: panic serving 127.0.0.1:1234: boom") == event.site.root[:2]
    assert [("panic", 890, False), ("handler", 12, True)] == frames(event.site.root)


def test_a_go_panic_is_one_failure():
    """The first goroutine is the one that failed; the runtime's frames are not the app's."""
    before, event, after = read(
        """\
{"level":"info","msg":"up"}
panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
runtime.gopanic(0x1)
\t/usr/local/go/src/runtime/panic.go:884 +0x212
main.(*Server).handle(0xc000)
\t/srv/shop/main.go:12 +0x1d
created by main.start
\t/srv/shop/main.go:5 +0x11

goroutine 7 [sleep]:
main.other()
\t/srv/shop/other.go:1
exit status 2
{"level":"info","msg":"again"}"""
    )
    assert ("up", "again") == (before.body, after.body)
    assert (FATAL, "main") == (event.severity, event.uncaught)
    assert ("panic", "runtime error: index out of range [5] with length 3") == event.site.root[:2]
    assert [("gopanic", 884, False), ("(*Server).handle", 12, True)] == frames(event.site.root)


def test_the_lines_of_services_may_stand_between_each_other():
    """Compose mixes its services line by line; each traceback stays whole."""
    lines = ["ERROR:a:lost", *PYTHON.split("\n")[1:6]]
    mixed = [f"{name}-1  | {line}" for line in lines for name in ("web", "db")]
    events = read("\n".join(mixed))
    assert {"web", "db"} == {event.service for event in events}
    assert ["KeyError"] * 2 == [event.site.root.type for event in events]


def test_a_traceback_of_which_each_line_has_a_header_is_whole():
    """Journald and syslog give every line of a stack a header of its own."""
    lines = PYTHON.split("\n")[1:6]
    (event,) = read("\n".join(f"May  1 10:00:00 web shop[7]: {line}" for line in lines))
    assert ("shop", "KeyError") == (event.service, event.site.root.type)


def test_times_that_cannot_be_are_not_believed():
    """Beyond the clock it is now; without a time it is that of the line before."""
    first, second, third = read(
        "2024-05-01 10:00:00 ERROR a\nERROR:b:c\n2199-01-01 10:00:00 ERROR d"
    )
    assert first.time_ns == second.time_ns
    assert NOW == third.time_ns
    assert NOW == read("2024-13-41 10:00:00 ERROR a")[0].time_ns


def test_syslogs_year_is_the_last_one_that_fits():
    """A December line read in January is of last year; a leap day is of a leap year."""
    january = int(dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc).timestamp()) * S
    (event,) = read("Dec 31 23:59:59 web su[1]: x", now_ns=lambda: january)
    assert "2025-12-31 23:59:59" == at(event)
    (event,) = read("Feb 29 10:00:00 web su[1]: x", now_ns=lambda: january)
    assert "2024-02-29 10:00:00" == at(event)


def test_the_years_of_apaches_times_are_not_mixed_up():
    """Two times that differ only in the year, behind the clock, are two times."""
    events = read("[Wed May 01 10:00:00 2019] [error] a\n[Wed May 01 10:00:00 2024] [error] a")
    assert ["2019", "2024"] == [at(event)[:4] for event in events]


def test_what_waits_is_given_on_close_and_after_a_while():
    """A quiet service's last line does not wait for ever."""
    reader = LogLineReader(now_ns=lambda: NOW)
    assert [] == reader.feed("db | ERROR:a:lost")
    others = [event for n in range(300) for event in reader.feed(f"web | INFO:a:{n}")]
    assert "lost" in [event.body for event in others]
    assert ["299"] == [event.body for event in reader.close()]
    assert [] == reader.close()


def test_memory_is_bounded_whatever_comes():
    """Endless lines, stacks and services keep no more than the constants say."""
    reader = LogLineReader(now_ns=lambda: NOW)
    for _ in range(50):
        reader.feed_text("x" * 100_000)
    assert log_lines.MAX_LINE_CHARS == len(reader._piece)
    (line,) = reader.close()
    assert 4000 == len(line.body)
    for number in range(100):
        reader.feed(f"s{number} | ERROR:a:lost")
    assert log_lines.MAX_SERVICES == len(reader._waiting)
    reader.close()
    done = [e for n in range(9000) for e in reader.feed(f"\tat a.b.C.d(E.java:{n})" + "y" * 5000)]
    assert done
    (entry,) = reader._waiting.values()
    assert len(entry.stack) <= 401 * (log_lines.MAX_STACK_LINE_CHARS + 1)


PIECES = st.sampled_from(
    [
        *(row[1] for row in LINES),
        *PYTHON.split("\n"),
        "\tat a.b.C.d(E.java:1)",
        *("Caused by: x.Y: z", "goroutine 1 [running]:", "panic: x", "", '{"a":', "[" * 50),
        *("\ud800", "\0", "\x1b[31m", "a=" + '"' * 5, "\r", "  ", "{" * 9, "}", "\u0661"),
        '{"level": {}, "msg": [], "time": true, "err": 7, "exception": [[]], "error": {}}',
        '{"instant": {"epochSecond": 1e99}, "ts": -Infinity, "level": NaN, "msg": null}',
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=40)), max_size=12).map("\n".join)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 400), max_size=5))
def test_any_text_is_read_and_its_cuts_do_not_matter(text, cuts):
    """Nothing raises, and a text read in pieces gives what it gives as a whole."""
    whole = LogLineReader(now_ns=lambda: NOW)
    pieces = LogLineReader(now_ns=lambda: NOW)
    lines = LogLineReader(now_ns=lambda: NOW)
    text = text or "\n"
    expected = whole.feed_text(text) + whole.close()
    found, last = [], 0
    for cut in [*sorted(cuts), len(text)]:
        found += pieces.feed_text(text[last : max(last, cut)])
        last = max(last, cut)
    assert expected == found + pieces.close()
    by_line = [e for line in text.removesuffix("\n").split("\n") for e in lines.feed(line)]
    assert expected == by_line + lines.close()
    assert all(0 < event.time_ns and 0 <= event.severity <= 24 for event in expected)


UNITS = [
    *("a", " ", "[", "]", '"', "\\", "=", ":", "|", "-", ".", "(", "<", "{", "1", "\t", "\x1b["),
    *("a.", "a:", "[[", "[]", 'a="', "a b", "1 ", "- ", "at ", ' "GET ', "GET /", ' "GET a', ": a"),
    *('{"a":', "[pod/", "a | ", " - ", "<1>", '\\"', "ERROR ", "error", "a-", "é", "Error", "$."),
]
OPENINGS = [
    *("", "2024-05-01 10:00:00 ", "2024-05-01 10:00:00 ERROR ", "<34>1 - - - - - [a ", "a="),
    *('{"msg":"', "[", '"GET /', "May  1 10:00:00 web ", "\tat ", "E0501 10:00:00.123456 7 "),
    *('Exception in thread "', "[GIN] 2024/05/01 - 10:00:00 |500|", '  File "', "msg=x a="),
]


def cost(line):
    """CPU seconds of a line, the least of three readings."""
    took = []
    for _ in range(3):
        start = time.process_time()
        read(line)
        took.append(time.process_time() - start)
    return min(took)


def test_no_line_is_slow():
    """Any opening with any unit repeated: twice the length costs twice the time, not four times."""
    for opening in OPENINGS:
        for unit in UNITS:
            short = cost(opening + unit * (4_000 // len(unit)))
            long = cost(opening + unit * (8_000 // len(unit)))
            # Below a few milliseconds the scheduler has more to say than the line.
            assert long < max(3 * short, 0.02), f"{opening!r} + {unit!r}"


def test_megabytes_in_one_line_are_cut_before_they_are_read():
    """The cost of a line does not grow beyond the cap."""
    for unit in ('{"a":', "[", 'a="', "x ", "9", '{"a": "\\'):
        assert cost('{"msg":' + unit * (4_000_000 // len(unit)) + "}") < 0.5, unit
        assert cost('{"msg":' + unit * (200_000 // len(unit)) + "}") < 0.5, unit


def test_random_mixtures_of_units_are_not_slow_either():
    """What no list of openings thinks of."""
    dice = random.Random(7)  # noqa: S311 - reproducible
    for _ in range(200):
        line = "".join(dice.choice(UNITS + OPENINGS) for _ in range(2000))
        assert cost(line) < 0.1, line[:200]
