# SPDX-License-Identifier: Apache-2.0
"""Our OTLP bytes mean what the stock encoder's message means, keep more, and can be read back."""

import enum
import logging
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as LogRecordMessage
from opentelemetry.sdk._logs import (
    LoggerProvider,
    LogRecordLimits,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import TraceFlags

from otel_briefing.events import ERROR
from otel_briefing.exceptions import WireError
from otel_briefing.telemetry import otlp, otlp_read, otlp_record, otlp_stock
from otel_briefing.telemetry.batch import readable
from otel_briefing.telemetry.handler import BriefingLoggingHandler

EMPTY = Resource({})
SITE = {"code.file.path": "/app/a.py", "code.function.name": "f", "code.line.number": 7}
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

# Strategies: everything that the stock encoder takes without a loss.

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LONG_TEXTS = st.sampled_from([63, 64, 127, 128, 4_095, 4_096, 16_383, 16_384]).map("é".ljust)
INTS = st.integers(INT64_MIN, INT64_MAX) | st.sampled_from([0, 127, 128, 4_095, 4_096, INT64_MIN])
SCALARS = st.none() | st.booleans() | TEXTS | LONG_TEXTS | INTS | st.floats() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXTS, inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = TEXTS | st.sampled_from(["exception.type", *SITE])
ATTRIBUTES = st.none() | st.dictionaries(KEYS, VALUES, max_size=6)
IDS = st.sampled_from([0, 1, (1 << 64) - 1])
TIMES = st.none() | st.integers(0, (1 << 64) - 1)
SCOPES = st.none() | st.builds(
    InstrumentationScope,
    TEXTS.filter(bool),
    st.none() | TEXTS.filter(bool),
    TEXTS,
    st.none() | st.dictionaries(TEXTS.filter(bool), SCALARS, max_size=2),
)
RESOURCES = st.builds(
    Resource, st.dictionaries(TEXTS.filter(bool), TEXTS | INTS, max_size=3), st.none() | TEXTS
)


def record_of(resource=EMPTY, scope=None, dropped=0, **fields):
    """A record as exporters get it; what is not given is unset."""
    attributes = fields.pop("attributes", None)
    record = LogRecord(timestamp=fields.pop("timestamp", None), body=fields.pop("body", None))
    record.observed_timestamp = 0
    if dropped:
        bounded = BoundedAttributes(immutable=False)
        bounded._dict, bounded.dropped = dict(attributes or {}), dropped
        attributes = bounded
    vars(record).update(fields, attributes=attributes)
    return ReadableLogRecord(record, resource, scope)


RECORDS = st.builds(
    record_of,
    resource=st.just(EMPTY),
    timestamp=TIMES,
    observed_timestamp=TIMES,
    severity_number=st.none() | st.sampled_from(SeverityNumber),
    severity_text=st.none() | TEXTS,
    body=VALUES,
    attributes=ATTRIBUTES,
    dropped=st.integers(0, (1 << 32) - 1),
    trace_id=IDS.map(lambda part: part << 64 | part),
    span_id=IDS,
    trace_flags=st.integers(0, 255).map(TraceFlags),
    event_name=st.none() | TEXTS,
)


def meaning(request):
    """Bytes that are the same for equal requests, NaN included."""
    if isinstance(request, bytes):
        request = ExportLogsServiceRequest.FromString(request)
    return request.SerializeToString(deterministic=True)


def stock(records):
    return meaning(encode_logs(records))


def decoded(record):
    return LogRecordMessage.FromString(otlp.encode_record(record))


def attributes_of(record):
    return {pair.key: pair.value for pair in decoded(record).attributes}


@pytest.fixture
def _only_ours(monkeypatch):
    """What is encoded here must not need the stock encoder."""
    monkeypatch.setattr(otlp_stock, "encode_record", None)


# Equal to the stock encoder.


@given(RECORDS)
@settings(max_examples=400, deadline=None)
def test_a_record_means_what_the_stock_encoder_says(record):
    """For every field and every type of value, nested or not, without its help."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(otlp_stock, "encode_record", None)
        assert stock([record]) == meaning(otlp.encode_batch([record]))


@given(st.data(), st.lists(RESOURCES, min_size=1, max_size=3))
@settings(deadline=None)
def test_a_batch_is_grouped_as_the_stock_encoder_groups(data, resources):
    """By equal resources, then equal scopes, in the order in which they first came."""
    scopes = data.draw(st.lists(SCOPES, min_size=1, max_size=3))
    batch = [
        record_of(data.draw(st.sampled_from(resources)), data.draw(st.sampled_from(scopes)), body=n)
        for n in range(data.draw(st.integers(0, 8)))
    ]
    assert stock(batch) == meaning(otlp.encode_batch(batch))


def test_equal_resources_and_scopes_are_one_group_though_they_are_two_objects():
    """And the first of them speaks for all, even where 1 == True hides a difference."""
    batch = [
        record_of(Resource({"n": number}), InstrumentationScope("shop", "1"), body=str(number))
        for number in (1, True, 2, 1)
    ]
    assert stock(batch) == meaning(otlp.encode_batch(batch))


def test_1_and_true_stay_apart_in_every_cache():
    """They are the same key of a dict."""
    for line in (1, True, 1.0, True, 1):
        record = record_of(attributes={**SITE, "code.line.number": line})
        assert stock([record]) == meaning(otlp.encode_batch([record]))


@pytest.mark.parametrize(
    "attributes",
    [
        SITE,
        {"before": 1, **SITE, "after": 2},
        dict(reversed(SITE.items())),
        {"code.file.path": "/app/a.py"},
        {"code.file.path": "/app/a.py", "code.function.name": "f"},
        {"code.file.path": "/app/a.py", "between": 1, "code.function.name": "f"},
        {**SITE, "code.function.name": None},
        {**SITE, "code.file.path": "x" * 5_000},
    ],
)
@pytest.mark.usefixtures("_only_ours")
def test_a_call_site_keeps_its_place_among_the_attributes(attributes):
    """Whole, in part or in another order."""
    record = record_of(attributes=attributes)
    assert stock([record, record]) == meaning(otlp.encode_batch([record, record]))


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()

    def encode(self, *_):
        return b"something else"


@pytest.mark.parametrize(
    "value",
    [Level.HIGH, Name("a"), [Name("a")], {1: "one", None: 2}, range(3), bytearray(b"ab"), {"a"}],
    ids=repr,
)
def test_an_attribute_of_a_type_unknown_here_is_the_stock_encoders(value, caplog):
    """Subclasses, other sequences, keys that are no text, and what it drops."""
    caplog.set_level(logging.CRITICAL)
    record = record_of(attributes={"known": 1, "strange": value}, body="text", dropped=3)
    assert stock([record]) == meaning(otlp.encode_batch([record]))


@pytest.mark.parametrize("key", [b"bytes", 3, None], ids=repr)
def test_an_attribute_whose_key_is_no_text_is_the_stock_encoders(key, caplog):
    """It takes bytes, and drops others."""
    caplog.set_level(logging.CRITICAL)
    record = record_of(attributes={"known": 1, key: 2})
    assert stock([record]) == meaning(otlp.encode_batch([record]))


def test_what_the_limits_dropped_is_counted():
    """As the SDK counted it."""
    record = LogRecord(body="b", attributes={"a": 1, "b": 2, "c": "long text"})
    limits = LogRecordLimits(max_log_record_attributes=2, max_log_record_attribute_length=4)
    with pytest.warns(UserWarning, match="dropped due to limits"):
        limited = readable(ReadWriteLogRecord(record, EMPTY, limits=limits))
    assert 1 == decoded(limited).dropped_attributes_count
    assert stock([limited]) == meaning(otlp.encode_batch([limited]))


def test_attributes_of_a_subclass_are_understood_by_their_public_face():
    """Only the SDK's own class is looked into."""

    class Upper(BoundedAttributes):
        def __getitem__(self, key):
            return super().__getitem__(key).upper()

    attributes = Upper(attributes={"a": "b"})
    attributes.dropped = 2
    record = record_of(attributes=attributes)
    assert stock([record]) == meaning(otlp.encode_batch([record]))


def test_a_resource_without_a_hash_is_equal_only_to_itself():
    """The SDK's hash can fail for one of its values."""

    class Odd(Resource):
        __hash__ = None

    odd, other = Odd({"a": 1}), Odd({"a": 1})
    batch = [record_of(resource, body="b") for resource in (odd, other, odd)]
    request = ExportLogsServiceRequest.FromString(otlp.encode_batch(batch))
    assert [2, 1] == [len(one.scope_logs[0].log_records) for one in request.resource_logs]


def test_an_empty_batch_is_an_empty_request():
    """As the stock encoder says."""
    assert stock([]) == otlp.encode_batch([]) == otlp.join_request([])


# More than the stock encoder keeps.


def test_a_lone_surrogate_is_replaced_and_nothing_else_is_lost():
    """The stock encoder drops the attribute and, in a body, the batch."""
    bad = "caf\udce9"
    record = record_of(
        body=bad,
        severity_text=bad,
        event_name=bad,
        attributes={"plain": 1, "bad": bad, bad: "v", "in": [{bad: bad}]},
        dropped=2,
    )
    message = decoded(record)
    good = "caf\N{REPLACEMENT CHARACTER}"
    assert good == message.body.string_value == message.severity_text == message.event_name
    found = attributes_of(record)
    assert ["plain", "bad", good, "in"] == list(found)
    assert good == found["bad"].string_value
    inner = found["in"].array_value.values[0].kvlist_value.values[0]
    assert (good, good) == (inner.key, inner.value.string_value)
    assert 2 == message.dropped_attributes_count


@pytest.mark.parametrize("number", [INT64_MAX + 1, INT64_MIN - 1])
def test_an_integer_beyond_64_bits_becomes_its_digits(number):
    """As the specification's mapping to AnyValue says; the stock encoder loses it."""
    record = record_of(body=number, attributes={"n": number, "in": [number]})
    assert str(number) == decoded(record).body.string_value
    found = attributes_of(record)
    assert str(number) == found["n"].string_value
    assert str(number) == found["in"].array_value.values[0].string_value


def test_an_integer_that_python_will_not_write_out_loses_only_itself():
    """Python refuses more than 4,300 digits, where it has that limit."""
    record = record_of(body="text", attributes={"n": 10**5_000, "m": 1})
    assert "text" == decoded(record).body.string_value
    assert 1 == attributes_of(record)["m"].int_value


def test_an_attribute_that_cannot_be_read_costs_no_other(caplog):
    """Nor what is mended of the others."""
    caplog.set_level(logging.CRITICAL)

    class Broken(dict):
        def items(self):
            raise ValueError

    record = record_of(attributes={"broken": Broken(a=1), "bad": "\ud800", "good": 1})
    assert ["bad", "good"] == list(attributes_of(record))


class Mute:
    def __str__(self):
        raise ValueError

    __repr__ = __str__


def test_a_body_of_an_unknown_type_becomes_text():
    """The stock encoder raises, and the batch is lost."""
    assert "{1}" == decoded(record_of(body={1})).body.string_value
    assert "<Mute>" == decoded(record_of(body=Mute())).body.string_value


@pytest.mark.parametrize(
    "field",
    [
        {"timestamp": -1},
        {"timestamp": 1 << 64},
        {"timestamp": 1.5},
        {"observed_timestamp": "now"},
        {"trace_id": 1 << 128},
        {"trace_id": "abc"},
        {"span_id": -1},
        {"trace_flags": "?"},
        {"severity_text": 5},
        {"severity_text": []},
        {"event_name": 5},
        {"severity_number": SimpleNamespace(value="?")},
        {"attributes": 5},
        {"body": Mute()},
    ],
    ids=lambda field: next(iter(field)),
)
def test_a_field_that_cannot_be_costs_no_other(field):
    """Each is tried on its own; the stock encoder raises for the whole batch."""
    record = record_of(
        **{
            "timestamp": 1,
            "body": "text",
            "severity_text": "INFO",
            "attributes": {"a": 1},
            **field,
        }
    )
    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever it is, the batch is lost
        stock([record])
    message = decoded(record)
    assert "body" in field or "text" == message.body.string_value
    assert "timestamp" in field or 1 == message.time_unix_nano
    assert "attributes" in field or ["a"] == [pair.key for pair in message.attributes]


@pytest.mark.parametrize("unset", ["trace_id", "span_id", "trace_flags", "observed_timestamp"])
@pytest.mark.usefixtures("_only_ours")
def test_none_is_unset(unset):
    """The stock encoder raises for some of them."""
    assert decoded(record_of(body="b")) == decoded(record_of(body="b", **{unset: None}))


def nested(depth, wrap):
    value = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    ("wrap", "deepest"),
    [(lambda value: [value], 48), (lambda value: {"k": value}, 32)],
    ids=["list", "mapping"],
)
def test_what_nests_too_deep_to_be_decoded_becomes_text(wrap, deepest):
    """One such record would make every receiver refuse its whole batch."""
    deep = record_of(body=nested(deepest, wrap), attributes={"a": nested(deepest - 1, wrap)})
    assert stock([deep]) == meaning(otlp.encode_batch([deep]))
    deeper = record_of(
        body=nested(deepest + 1, wrap), attributes={"a": nested(deepest, wrap), "b": 1}
    )
    request = ExportLogsServiceRequest.FromString(otlp.encode_batch([deeper]))
    message = request.resource_logs[0].scope_logs[0].log_records[0]
    assert str(nested(deepest + 1, wrap)) == message.body.string_value
    assert str(nested(deepest, wrap)) == message.attributes[0].value.string_value
    assert 1 == message.attributes[1].value.int_value


def test_a_structure_that_holds_itself_ends():
    """In time that does not grow with the number of ways through it."""
    endless = []
    endless += [endless, endless]
    record = record_of(body=endless, attributes={"a": endless, "b": nested(5_000, lambda v: [v])})
    assert "[[...], [...]]" == decoded(record).body.string_value
    assert "[[...], [...]]" == attributes_of(record)["a"].string_value
    assert attributes_of(record)["b"].string_value.startswith(("[", "<list>"))


def test_an_origin_keeps_what_the_stock_encoder_refuses():
    """A resource that cannot be hashed, surrogates, no resource at all."""
    odd = Resource({"raw": b"bytes", "bad": "\ud800", "big": 1 << 70})
    scope = InstrumentationScope("\udfff", attributes={"bad": "\ud800"})
    batch = [record_of(resource, scope, body="b") for resource in (odd, odd, None)]
    request = ExportLogsServiceRequest.FromString(otlp.encode_batch(batch))
    assert [2, 1] == [len(one.scope_logs[0].log_records) for one in request.resource_logs]
    _, bad, big = (pair.value for pair in request.resource_logs[0].resource.attributes)
    assert ("\ufffd", str(1 << 70)) == (bad.string_value, big.string_value)
    assert "\ufffd" == request.resource_logs[0].scope_logs[0].scope.name
    assert "\ufffd" == request.resource_logs[0].scope_logs[0].scope.attributes[0].value.string_value


# One record at a time.


@given(
    st.data(),
    st.lists(
        RESOURCES,
        min_size=1,
        max_size=3,
        unique_by=lambda one: (frozenset(one.attributes.items()), one.schema_url),
    ),
    st.lists(SCOPES, min_size=1, max_size=3, unique_by=lambda one: one and one.name),
)
@settings(deadline=None)
def test_single_records_join_to_the_request_of_their_batch(data, resources, scopes):
    """What a spool has kept one by one leaves as the stock encoder would have sent it."""
    batch = [
        record_of(data.draw(st.sampled_from(resources)), data.draw(st.sampled_from(scopes)), body=n)
        for n in range(data.draw(st.integers(0, 8)))
    ]
    kept = [
        (otlp.encode_origin(one.resource, one.instrumentation_scope), otlp.encode_record(one))
        for one in batch
    ]
    assert stock(batch) == meaning(otlp.join_request(kept))


def test_every_cache_is_bounded(monkeypatch):
    """Whatever an application makes up, and it is still right afterwards."""
    monkeypatch.setattr(otlp_record, "MAX_CACHED", 8)
    batch = [
        record_of(
            EMPTY,
            InstrumentationScope(f"scope {n}"),
            severity_text=f"level {n}",
            attributes={**SITE, "code.line.number": n, f"key {n}": n},
        )
        for n in range(40)
    ]
    caches = (
        *(otlp_record._keys, otlp_record._sites, otlp_record._severities),
        *(otlp._origins, otlp._known),
    )
    for cache in caches:
        cache.clear()
    assert stock(batch) == meaning(otlp.encode_batch(batch))
    for cache in caches:
        assert 0 < len(cache) <= 8


def test_what_is_large_is_not_kept():
    """A cache that is bounded by its entries must bound each of them."""
    large = "x" * 5_000
    record = record_of(severity_text=large, attributes={large: 1, **SITE, "code.file.path": large})
    assert stock([record]) == meaning(otlp.encode_batch([record]))
    assert large not in otlp_record._keys
    assert large not in otlp_record._severities
    assert not [path for path, _, _ in otlp_record._sites if path == large]


@pytest.mark.usefixtures("_only_ours")
def test_what_our_handler_makes_is_encoded_here():
    """Within a span, with a stack, with attributes of the application's."""
    batch = logged()
    assert stock(batch) == meaning(otlp.encode_batch(batch))
    assert 0 < batch[0].log_record.trace_flags == decoded(batch[0]).flags
    assert "exception.stacktrace" in attributes_of(batch[1])


def logged():
    """An INFO within a span and an ERROR with its stack, through our handler."""
    made = []

    class Keep:
        def on_emit(self, record):
            made.append(readable(record))

        def shutdown(self):
            pass

    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(Keep())
    log = logging.Logger("shop.orders")  # noqa: LOG001  # nobody else gets it
    log.addHandler(BriefingLoggingHandler(logger_provider=provider))
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("order"):
        log.info("order %d accepted", 7, extra={"customer": "alice"})
    try:
        {}["order"]
    except KeyError:
        log.exception("order failed")
    return made


# And back.


@given(st.lists(RECORDS, max_size=3), RESOURCES, SCOPES)
@settings(deadline=None)
def test_what_is_read_back_is_encoded_equal(records, resource, scope):
    """By the stock encoder, for exporters that take nothing but records."""
    batch = [ReadableLogRecord(one.log_record, resource, scope) for one in records]
    request = encode_logs(batch)
    assert meaning(request) == stock(otlp_read.read_records(request.SerializeToString()))


def test_what_is_read_back_is_what_was_logged():
    """Resource and scope are shared; the current span is not put where there was none."""
    batch = logged()
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("other"):
        back = otlp_read.read_records(otlp.encode_batch(batch))
    assert back[0].resource is back[1].resource
    assert back[0].instrumentation_scope is back[1].instrumentation_scope
    assert "shop.orders" == back[0].instrumentation_scope.name
    for before, after in zip(batch, back, strict=True):
        assert before.resource == after.resource
        assert before.log_record.trace_id == after.log_record.trace_id
        assert before.log_record.severity_number is after.log_record.severity_number
        assert dict(before.log_record.attributes) == dict(after.log_record.attributes)
        assert {} == after.log_record.context


def test_a_severity_beyond_the_scale_counts_as_its_highest():
    """Receivers get what other programs send."""
    request = encode_logs([record_of(body="b")])
    request.resource_logs[0].scope_logs[0].log_records[0].severity_number = 99
    (back,) = otlp_read.read_records(request.SerializeToString())
    assert SeverityNumber.FATAL4 is back.log_record.severity_number


def test_events_are_read_with_their_place_and_their_failure():
    """As analysis gets them from within a process, but for what never leaves it."""
    accepted, failed = otlp_read.read_events(otlp.encode_batch(logged()), source=3)
    assert ("order 7 accepted", "shop") == (accepted.body, accepted.service)
    assert "shop.orders" == accepted.logger
    assert 32 == len(accepted.trace_id)
    assert (ERROR, 3) == (failed.severity, failed.source)
    assert "logged" == failed.call_site.function
    assert "KeyError" == failed.site.root.type
    assert "logged" == failed.site.root.frames[0].function


def test_events_of_a_service_without_a_name_get_the_one_given():
    """And a line number that is none costs nothing."""
    record = record_of(body="b", attributes={**SITE, "code.line.number": "seven"})
    (event,) = otlp_read.read_events(otlp.encode_batch([record]), "orders")
    assert ("orders", 0) == (event.service, event.call_site.line)


@pytest.mark.parametrize("data", [b"\xff", b"\n\x05abc", b"no request"])
def test_bytes_that_are_no_request_are_refused(data):
    """By an error of our own."""
    with pytest.raises(WireError, match="no OTLP logs request"):
        otlp_read.read_records(data)
