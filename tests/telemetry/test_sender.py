# SPDX-License-Identifier: Apache-2.0
"""One attempt to send, by the stock exporters, against a receiver that misbehaves for real."""

import contextlib
import functools
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import grpc
import pytest
import requests
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from endpoint import (
    Endpoint,
    Reply,
    half_response,
    hang,
    ok,
    partial,
    refuse_if,
    reset,
    slow,
    status,
    too_large,
)
from otel_briefing.telemetry import sender_grpc, sender_http
from otel_briefing.telemetry.otlp import encode_batch
from otel_briefing.telemetry.sender import (
    MAX_BYTES,
    Answer,
    Outcome,
    _ByExport,
    is_otlp,
    sender_for,
)

PROTOCOLS = ["http", "grpc"]
LONG_S = 30.0  # more than any answer takes
SHORT_S = 0.3
RESOURCE = Resource({"service.name": "shop"})
DELIVERED = Answer(Outcome.DELIVERED)


def batch(*bodies):
    records = [LogRecord(body=body, severity_number=SeverityNumber.WARN) for body in bodies]
    return encode_batch([ReadableLogRecord(record, RESOURCE, None) for record in records])


def exporter_for(endpoint, **settings):
    if endpoint.protocol == "http":
        return HttpExporter(endpoint.url, **settings)
    return GrpcExporter(endpoint.url, **settings)


@contextlib.contextmanager
def sending(exporter):
    sender = sender_for(exporter)
    try:
        yield sender
    finally:
        sender.close()


@pytest.fixture(autouse=True)
def _no_authorities_from_outside(monkeypatch):
    """`requests` takes these for more important than what an exporter was told."""
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)


@pytest.fixture(params=PROTOCOLS)
def endpoint(request):
    with Endpoint(request.param) as endpoint:
        yield endpoint


@pytest.fixture
def http_endpoint():
    with Endpoint("http") as endpoint:
        yield endpoint


@pytest.fixture
def sender(endpoint):
    with sending(exporter_for(endpoint)) as sender:
        yield sender


@pytest.fixture
def http_sender(http_endpoint):
    with sending(exporter_for(http_endpoint)) as sender:
        yield sender


def outcome_of(sender, behaviour, endpoint, timeout_s=LONG_S):
    endpoint.behaviour = behaviour
    return sender.send(batch("a", "b", "c"), 3, timeout_s)


def exports_itself(sender):
    """Tell whether a sender goes through the exporter's public `export`."""
    return isinstance(sender._way, _ByExport)


# --- outcomes ------------------------------------------------------------------------------------


def test_the_bytes_arrive_as_they_are(endpoint, sender):
    """Nothing is decoded and encoded again on the way."""
    request = batch("a", "b")
    assert DELIVERED == sender.send(request, 2, LONG_S)
    assert request == endpoint.last.data
    assert ["a", "b"] == endpoint.bodies()
    assert not exports_itself(sender)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (400, Outcome.REFUSED),
        (422, Outcome.REFUSED),
        (500, Outcome.RETRY),
        (501, Outcome.RETRY),
        (302, Outcome.BARRED),
        (401, Outcome.BARRED),
        (403, Outcome.BARRED),
        (404, Outcome.BARRED),
        (405, Outcome.BARRED),
        (407, Outcome.BARRED),
        (408, Outcome.RETRY),
        (429, Outcome.RETRY),
        (502, Outcome.RETRY),
        (503, Outcome.RETRY),
        (504, Outcome.RETRY),
        (413, Outcome.TOO_LARGE),
    ],
)
def test_http_statuses(http_endpoint, http_sender, code, expected):
    """A status says who is to blame: the moment, the data, or how we are set up."""
    answer = outcome_of(http_sender, status(code), http_endpoint)
    assert expected is answer.outcome
    assert str(code) in answer.reason
    assert not answer.doubtful
    assert answer.vague is (code in {500, 501})
    assert 1 == http_endpoint.requests


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("INVALID_ARGUMENT", Outcome.REFUSED),
        ("FAILED_PRECONDITION", Outcome.REFUSED),
        ("INTERNAL", Outcome.RETRY),
        ("UNKNOWN", Outcome.RETRY),
        ("UNAUTHENTICATED", Outcome.BARRED),
        ("PERMISSION_DENIED", Outcome.BARRED),
        ("UNIMPLEMENTED", Outcome.BARRED),
        ("UNAVAILABLE", Outcome.RETRY),
        ("RESOURCE_EXHAUSTED", Outcome.RETRY),
        ("ABORTED", Outcome.RETRY),
        ("OUT_OF_RANGE", Outcome.RETRY),
        ("DATA_LOSS", Outcome.RETRY),
    ],
)
def test_grpc_statuses(code, expected):
    """The same for gRPC's."""
    with Endpoint("grpc") as endpoint, sending(exporter_for(endpoint)) as sender:
        answer = outcome_of(sender, status(code), endpoint)
        assert expected is answer.outcome
        assert code in answer.reason
        assert not answer.doubtful
        assert 1 == endpoint.requests


def test_an_exporters_own_retryable_codes_hold():
    """What was named is tried again, what was not is refused; the moment's own codes stay."""
    with Endpoint("grpc") as endpoint:
        own = [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAUTHENTICATED]
        with sending(exporter_for(endpoint, retryable_error_codes=own)) as sender:
            outcomes = {
                code: outcome_of(sender, status(code), endpoint).outcome
                for code in ["INTERNAL", "UNAUTHENTICATED", "ABORTED", "UNAVAILABLE"]
            }
    assert {
        "INTERNAL": Outcome.RETRY,
        "UNAUTHENTICATED": Outcome.RETRY,
        "ABORTED": Outcome.REFUSED,
        "UNAVAILABLE": Outcome.RETRY,
    } == outcomes


def test_a_poisoned_batch_is_refused_and_another_is_not(endpoint, sender):
    """One record costs its batch, no more."""
    endpoint.behaviour = refuse_if(lambda bodies: "bad" in bodies)
    assert Outcome.REFUSED is sender.send(batch("a", "bad"), 2, LONG_S).outcome
    assert DELIVERED == sender.send(batch("a"), 1, LONG_S)


def test_too_large_is_told_from_too_busy(endpoint, sender):
    """GRPC uses one code for both: its words tell."""
    assert Outcome.TOO_LARGE is outcome_of(sender, too_large(10), endpoint).outcome
    assert Outcome.RETRY is outcome_of(sender, status(429), endpoint).outcome


def test_a_limit_of_the_channel_itself_is_too_large():
    """So says gRPC before anything is sent."""
    options = (("grpc.max_send_message_length", 10),)
    with Endpoint("grpc") as endpoint:
        with sending(exporter_for(endpoint, channel_options=options)) as sender:
            assert Outcome.TOO_LARGE is outcome_of(sender, ok(), endpoint).outcome
        assert 0 == endpoint.requests


def test_partial_success_says_how_many_were_not_taken(endpoint, sender):
    """It is a delivery: a repeat would make duplicates of the others."""
    answer = outcome_of(sender, partial(2, "no\nthanks"), endpoint)
    assert Answer(Outcome.DELIVERED, "no thanks", rejected=2) == answer
    assert ["a"] == endpoint.bodies()


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"\xff\xff\xff"])
def test_a_good_answer_that_cannot_be_read_is_good(endpoint, sender, body):
    """Receivers answer with whatever they like."""
    assert DELIVERED == outcome_of(sender, ok(body), endpoint)


# --- retry-after ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("wish", "expected"), [(0, 0.0), (7, 7.0), (1e6, 3_600.0)])
def test_the_receivers_wish_is_passed_on_up_to_an_hour(endpoint, sender, wish, expected):
    """As Retry-After, and as gRPC's RetryInfo."""
    assert expected == outcome_of(sender, status(503, wish), endpoint).retry_after_s


def test_retry_after_may_be_a_date(http_endpoint, http_sender):
    """It counts from now."""
    date = format_datetime(datetime.now(timezone.utc) + timedelta(minutes=30), usegmt=True)
    wish = outcome_of(http_sender, status(503, date), http_endpoint).retry_after_s
    assert 1_000 < wish <= 1_800
    past = format_datetime(datetime(2020, 1, 1, tzinfo=timezone.utc), usegmt=True)
    assert 0.0 == outcome_of(http_sender, status(503, past), http_endpoint).retry_after_s


@pytest.mark.parametrize("wish", ["soon", "-5", "nan", "inf", "", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_nonsense_is_no_wish(http_endpoint, http_sender, wish):
    """Then the caller's own waiting holds."""
    assert outcome_of(http_sender, status(429, wish), http_endpoint).retry_after_s is None


def test_a_wish_in_the_details_of_a_status_counts():
    """The collector puts it there."""
    from google.protobuf.any_pb2 import Any  # noqa: PLC0415
    from google.rpc.error_details_pb2 import RetryInfo  # noqa: PLC0415
    from google.rpc.status_pb2 import Status  # noqa: PLC0415

    info, detail = RetryInfo(), Any()
    info.retry_delay.FromMilliseconds(2_500)
    detail.Pack(info)
    trailers = {"grpc-status-details-bin": Status(details=[detail]).SerializeToString()}
    assert 2.5 == sender_grpc._retry_after(trailers)
    assert sender_grpc._retry_after({"grpc-status-details-bin": b"\xff"}) is None


# --- doubt ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", [False, True])
def test_a_reset_after_the_request_leaves_a_doubt(endpoint, sender, accept):
    """From here, one cannot see whether the data were taken."""
    answer = outcome_of(sender, reset(accept=accept), endpoint)
    assert (Outcome.RETRY, True) == (answer.outcome, answer.doubtful)
    assert (3 if accept else 0) == len(endpoint.records)


def test_half_an_answer_leaves_a_doubt(endpoint, sender):
    """It was taken, most likely, but nobody said so."""
    answer = outcome_of(sender, half_response(), endpoint)
    assert (Outcome.RETRY, True) == (answer.outcome, answer.doubtful)
    assert 3 == len(endpoint.records)


def test_no_answer_in_time_leaves_a_doubt_and_ends_in_time(endpoint, sender):
    """The time is the caller's, not the exporter's own."""
    begin = time.monotonic()
    answer = outcome_of(sender, hang(), endpoint, SHORT_S)
    passed_s = time.monotonic() - begin
    assert (Outcome.RETRY, True) == (answer.outcome, answer.doubtful)
    assert passed_s < sender.timeout_s / 2
    assert DELIVERED == outcome_of(sender, ok(), endpoint)


def test_no_time_left_is_no_fault_of_the_exporter(endpoint, sender):
    """Clients take zero for a mistake."""
    assert Outcome.RETRY is outcome_of(sender, hang(), endpoint, 0.0).outcome


def test_nobody_there_leaves_no_doubt(endpoint, sender):
    """Nothing was sent."""
    endpoint.stop()
    answer = sender.send(batch("a"), 1, LONG_S)
    assert (Outcome.RETRY, False) == (answer.outcome, answer.doubtful)
    assert "onnection refused" in answer.reason


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unknown_host_leaves_no_doubt(protocol):
    """Nothing was sent there either."""
    make = HttpExporter if protocol == "http" else GrpcExporter
    with sending(make("http://nobody.invalid:4317/v1/logs")) as sender:
        answer = sender.send(batch("a"), 1, LONG_S)
    assert (Outcome.RETRY, False) == (answer.outcome, answer.doubtful)


def test_a_slow_answer_is_an_answer(endpoint, sender):
    """As long as it comes in time."""
    assert DELIVERED == outcome_of(sender, slow(0.05), endpoint)


def test_a_receiver_that_trickles_cannot_hold_us():
    """Each byte would start the client's own timeout anew."""
    stop = threading.Event()

    def trickle(listener):
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not stop.wait(SHORT_S / 6):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        exporter = HttpExporter(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/logs")
        with sending(exporter) as sender:
            answer = sender.send(batch("a"), 1, SHORT_S)
            assert (Outcome.RETRY, True) == (answer.outcome, answer.doubtful)
            assert thread.is_alive()  # it would have gone on
        stop.set()
        thread.join()


def test_attempts_that_hang_do_not_pile_up(http_endpoint):
    """Each leaves a thread behind until its client gives up: at most a few."""

    class Stuck(HttpExporter):
        def export(self, _):
            release.wait()
            return LogRecordExportResult.SUCCESS

    release = threading.Event()
    with sending(Stuck(http_endpoint.url)) as sender:
        answers = [sender.send(batch("a"), 1, 0.01) for _ in range(6)]
        release.set()
    assert [True] * 4 + [False] * 2 == [answer.doubtful for answer in answers]
    assert {Outcome.RETRY} == {answer.outcome for answer in answers}


# --- connections ---------------------------------------------------------------------------------


def test_a_receiver_that_comes_back_is_found_at_the_next_attempt(endpoint, sender):
    """GRPC's own waiting, which grows to two minutes, does not count."""
    assert DELIVERED == sender.send(batch("a"), 1, LONG_S)
    endpoint.stop()
    for _ in range(4):
        assert Outcome.RETRY is sender.send(batch("b"), 1, LONG_S).outcome
    endpoint.start()
    sender.renew()
    assert DELIVERED == sender.send(batch("c"), 1, LONG_S)
    assert ["a", "c"] == endpoint.bodies()


def test_a_connection_that_died_while_idle_is_replaced_at_once(http_endpoint, http_sender):
    """A restart between two requests costs none."""
    assert DELIVERED == http_sender.send(batch("a"), 1, LONG_S)
    http_endpoint.stop()
    http_endpoint.start()
    assert DELIVERED == http_sender.send(batch("b"), 1, LONG_S)
    assert ["a", "b"] == http_endpoint.bodies()


def test_a_kept_connection_that_resets_is_tried_once_more(http_endpoint, http_sender, monkeypatch):
    """The receiver dropped it just when we used it; or has taken the data: that is said."""
    monkeypatch.setattr(sender_http, "AT_ONCE_S", LONG_S)
    replies = itertools.chain([Reply(keep=False, ending="reset")], itertools.repeat(Reply()))
    assert DELIVERED == http_sender.send(batch("a"), 1, LONG_S)
    http_endpoint.behaviour = lambda _: next(replies)
    assert DELIVERED._replace(repeated=True) == http_sender.send(batch("b"), 1, LONG_S)
    assert 3 == http_endpoint.requests
    answer = outcome_of(http_sender, reset(), http_endpoint)
    assert (Outcome.RETRY, 5) == (answer.outcome, http_endpoint.requests)
    # The next one is fresh: a reset is the receiver's word.
    outcome_of(http_sender, reset(), http_endpoint)
    assert 6 == http_endpoint.requests


def test_a_close_ends_an_attempt_under_way(endpoint):
    """From another thread, without waiting for the receiver."""
    sender = sender_for(exporter_for(endpoint))

    def close_once_asked(request):
        threading.Thread(target=sender.close).start()
        request.wait(None)

    begin = time.monotonic()
    answer = outcome_of(sender, close_once_asked, endpoint)
    assert (Outcome.RETRY, True) == (answer.outcome, answer.doubtful)
    assert time.monotonic() - begin < LONG_S / 2
    sender.close()
    assert Outcome.RETRY is sender.send(batch("a"), 1, LONG_S).outcome
    assert 1 == endpoint.requests


class Endless(ConsoleLogRecordExporter):
    """An exporter whose end does not come before the test's."""

    def __init__(self, over):
        super().__init__()
        self.over = over

    def shutdown(self):
        self.over.wait()


def test_a_close_does_not_wait_for_an_exporter_that_hangs():
    over = threading.Event()
    begin = time.monotonic()
    try:
        sender_for(Endless(over)).close()
        assert time.monotonic() - begin < LONG_S / 2
    finally:
        over.set()


def test_a_close_is_silent_and_shuts_the_exporter_down(endpoint, caplog):
    """A second time too, and when somebody else was faster."""
    exporter = exporter_for(endpoint)
    sender = sender_for(exporter)
    assert DELIVERED == sender.send(batch("a"), 1, LONG_S)
    exporter.shutdown()
    assert Outcome.RETRY is sender.send(batch("b"), 1, LONG_S).outcome
    sender.close()
    sender.close()
    assert ["a"] == endpoint.bodies()
    assert not caplog.records


# --- the exporter's own settings -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["gzip", "deflate"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_compression_holds(protocol, name):
    """What arrives is what was compressed."""
    if (protocol, name) == ("grpc", "deflate"):
        kind = grpc.Compression.Deflate
    else:
        kind = grpc.Compression.Gzip if protocol == "grpc" else Compression(name)
    request = batch("x" * 10_000)
    with Endpoint(protocol) as endpoint:
        with sending(exporter_for(endpoint, compression=kind)) as sender:
            assert DELIVERED == sender.send(request, 1, LONG_S)
        assert request == endpoint.last.data
        if protocol == "http":
            assert name == endpoint.last.headers["content-encoding"]
            assert int(endpoint.last.headers["content-length"]) < 1_000


def test_headers_hold(endpoint):
    """Those of the exporter, and the stock User-Agent."""
    with sending(exporter_for(endpoint, headers={"x-tenant": "t1"})) as sender:
        sender.send(batch("a"), 1, LONG_S)
    assert "t1" == endpoint.last.headers["x-tenant"]
    assert "OTel-OTLP-Exporter-Python" in endpoint.last.headers["user-agent"]


def test_the_environment_holds(endpoint, monkeypatch):
    """Endpoint, headers and timeout as the stock exporters read them."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", endpoint.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-tenant=t2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "3")
    exporter = HttpExporter() if endpoint.protocol == "http" else GrpcExporter()
    with sending(exporter) as sender:
        assert 3.0 == sender.timeout_s
        assert DELIVERED == sender.send(batch("a"), 1, LONG_S)
    assert "t2" == endpoint.last.headers["x-tenant"]


def test_a_session_of_the_programs_own_sends(http_endpoint):
    """As a credential provider hands one in."""

    class Login(requests.auth.AuthBase):
        def __call__(self, request):
            request.headers["Authorization"] = "Bearer s3cret"
            traced.append(not get_value(_SUPPRESS_INSTRUMENTATION_KEY))
            return request

    traced = []

    session = requests.Session()
    session.auth = Login()
    with sending(exporter_for(http_endpoint, session=session)) as sender:
        assert DELIVERED == sender.send(batch("a"), 1, LONG_S)
        assert "Bearer s3cret" == http_endpoint.last.headers["authorization"]
    assert [False] == traced  # or its spans and records would be sent, and make others


def test_the_other_transport_of_the_sdk_sends(http_endpoint):
    """SDK 1.45 can do without `requests`."""
    transports = pytest.importorskip("opentelemetry.exporter.http.transport._urllib3")
    transport = transports.Urllib3HTTPTransport()
    with sending(exporter_for(http_endpoint, _transport=transport)) as sender:
        assert not exports_itself(sender)
        assert DELIVERED == sender.send(batch("a"), 1, LONG_S)
        late = outcome_of(sender, hang(), http_endpoint, SHORT_S)
        assert (Outcome.RETRY, True) == (late.outcome, late.doubtful)
        half = outcome_of(sender, half_response(), http_endpoint)
        assert (Outcome.RETRY, True) == (half.outcome, half.doubtful)
        assert 9.0 == outcome_of(sender, status(503, 9), http_endpoint).retry_after_s
        assert Outcome.BARRED is outcome_of(sender, status(302), http_endpoint).outcome
        sender.renew()
        assert DELIVERED == outcome_of(sender, ok(), http_endpoint)
        http_endpoint.stop()
        down = sender.send(batch("a"), 1, LONG_S)
        assert (Outcome.RETRY, False) == (down.outcome, down.doubtful)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_certificate_is_verified(protocol):
    """A receiver that is not trusted gets nothing, and the data are not to blame."""
    with Endpoint(protocol, tls=True) as endpoint:
        if protocol == "http":
            trusting = {"certificate_file": endpoint.certificate}
        else:
            root = Path(endpoint.certificate).read_bytes()
            trusting = {"credentials": grpc.ssl_channel_credentials(root)}
        with sending(exporter_for(endpoint, **trusting)) as sender:
            assert DELIVERED == sender.send(batch("a"), 1, LONG_S)
        with sending(exporter_for(endpoint)) as sender:
            answer = sender.send(batch("b"), 1, LONG_S)
        assert (Outcome.BARRED, False) == (answer.outcome, answer.doubtful)
        assert ["a"] == endpoint.bodies()


def test_no_reason_holds_credentials(http_endpoint):
    """The URL may, and what a library says of an error holds the URL."""
    url = http_endpoint.url.replace("//", "//user:s3cret@") + "?token=s3cret"
    http_endpoint.stop()
    with sending(HttpExporter(url)) as sender:
        assert "s3cret" not in sender.send(batch("a"), 1, LONG_S).reason
    with sending(HttpExporter("nonsense://user:s3cret@x")) as sender:
        answer = sender.send(batch("a"), 1, LONG_S)
    assert Outcome.BARRED is answer.outcome
    assert "s3cret" not in answer.reason


def test_the_largest_request_is_the_smaller_of_two_limits(http_endpoint):
    """The collector's, and the exporter's own where it has one."""
    exporter = exporter_for(http_endpoint)
    for own, expected in [(1_000, 1_000), (0, MAX_BYTES), (1 << 40, MAX_BYTES), (None, MAX_BYTES)]:
        exporter._max_request_size = own
        assert expected == sender_for(exporter).max_bytes
    exporter.shutdown()


def test_the_exporters_own_metrics_go_on(endpoint, monkeypatch):
    """They count what was sent, and what failed."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    with sending(exporter_for(endpoint, meter_provider=provider)) as sender:
        sender.send(batch("a", "b"), 2, LONG_S)
        endpoint.stop()
        sender.send(batch("c"), 1, LONG_S)
    scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
    metrics = {metric.name: metric for scope in scopes for metric in scope.metrics}
    points = metrics["otel.sdk.exporter.log.exported"].data.data_points
    assert {(2, False), (1, True)} == {(p.value, "error.type" in p.attributes) for p in points}
    provider.shutdown()


# --- which way -----------------------------------------------------------------------------------


class OwnExport(HttpExporter):
    """What a program makes from the stock exporter."""

    result = LogRecordExportResult.SUCCESS

    def export(self, batch):
        self.seen = list(batch)
        if self.result is None:
            raise KeyError
        return self.result


def test_a_subclass_exports_by_its_own_means(http_endpoint):
    """What its `export` does must not be gone round; it gets records."""
    exporter = OwnExport(http_endpoint.url)
    with sending(exporter) as sender:
        assert exports_itself(sender)
        assert DELIVERED == sender.send(batch("a", "b"), 2, LONG_S)
        assert ["a", "b"] == [record.log_record.body for record in exporter.seen]
        exporter.result = LogRecordExportResult.FAILURE
        assert Outcome.RETRY is sender.send(batch("a"), 1, LONG_S).outcome
        exporter.result = None
        assert Answer(Outcome.RETRY, "KeyError", vague=True) == sender.send(batch("a"), 1, LONG_S)
        assert Outcome.REFUSED is sender.send(b"\xff", 1, LONG_S).outcome
    assert 0 == http_endpoint.requests


def test_what_is_not_as_known_exports_by_its_own_means(endpoint, monkeypatch):
    """Insides that another version changed, and an `export` that somebody replaced."""
    exporter = exporter_for(endpoint)
    parts = {"_client", "_session"} if endpoint.protocol == "http" else {"_channel", "_headers"}
    for part in parts & vars(exporter).keys():
        with monkeypatch.context() as patch:
            patch.setattr(exporter, part, object())
            assert exports_itself(sender_for(exporter))
    with monkeypatch.context() as patch:
        patch.setattr(exporter, "export", exporter.export)
        assert exports_itself(sender_for(exporter))
    with monkeypatch.context() as patch:

        @functools.wraps(type(exporter).export)
        def counting(*_):
            raise NotImplementedError

        patch.setattr(type(exporter), "export", counting)
        assert exports_itself(sender_for(exporter))
    assert not exports_itself(sender_for(exporter))
    exporter.shutdown()


def test_official_exporters_and_what_is_made_from_them_are_otlp(http_endpoint):
    """The console's is none."""
    for exporter, expected in [
        (HttpExporter(http_endpoint.url), True),
        (GrpcExporter(http_endpoint.url), True),
        (OwnExport(http_endpoint.url), True),
        (ConsoleLogRecordExporter(), False),
        (None, False),
    ]:
        assert expected is is_otlp(exporter)
        if expected:
            exporter.shutdown()


def test_asking_imports_no_client():
    """A program that does not export does not pay for grpc, requests or protobuf."""
    program = (
        "import sys; from otel_briefing.telemetry.sender import is_otlp; is_otlp(object());"
        "print([n for n in ('grpc', 'requests', 'google.protobuf') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "[]" == found.stdout.strip()


# --- processes -----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_sends_by_itself(http_endpoint, http_sender):
    """Over a connection of its own: the parent's goes on."""
    assert DELIVERED == http_sender.send(batch("parent"), 1, LONG_S)
    child = os.fork()
    if not child:
        answer = http_sender.send(batch("child"), 1, LONG_S)
        os._exit(0 if answer == DELIVERED else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert DELIVERED == http_sender.send(batch("parent"), 1, LONG_S)
    assert ["parent", "child", "parent"] == http_endpoint.bodies()


FORKING = """
import os, sys
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from otel_briefing.telemetry.sender import Outcome, sender_for

sender = sender_for(OTLPLogExporter(sys.argv[1]))
assert sender.send(b"", 0, 30.0).outcome is Outcome.DELIVERED
child = os.fork()
if not child:
    sender.renew()
    print(sender.send(b"", 0, float(sys.argv[2])).outcome.name, flush=True)
    sender.close()
    os._exit(0)
os.waitpid(child, 0)
assert sender.send(b"", 0, 30.0).outcome is Outcome.DELIVERED
sender.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    ("support", "timeout_s", "expected"),
    [("1", LONG_S, {"DELIVERED"}), ("0", 0.5, {"RETRY", "DELIVERED"})],
)
def test_a_forked_child_sends_over_grpc_or_fails_in_time(support, timeout_s, expected):
    """Where gRPC does not support a fork, it would hang for ever."""
    with Endpoint("grpc") as endpoint:
        program = subprocess.run(
            [sys.executable, "-c", FORKING, endpoint.url, str(timeout_s)],
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": support},
            capture_output=True,
            text=True,
            check=True,
        )
    assert program.stdout.strip() in expected
