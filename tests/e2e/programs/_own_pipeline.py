# SPDX-License-Identifier: Apache-2.0
"""An SDK set up by hand, whose exporters write a line of JSON for each item to a file in $OUT."""

import json
import logging
import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    LogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

RESOURCE = Resource.create({"service.name": "by-hand"})


def write(name, item):
    with (Path(os.environ["OUT"]) / f"{name}.jsonl").open("a", encoding="utf-8") as out:
        out.write(json.dumps(item) + "\n")


class FileLogs(LogRecordExporter):
    def export(self, batch):
        for item in batch:
            service = item.resource.attributes["service.name"]
            write("logs", {"body": item.log_record.body, "service": service})
        return LogRecordExportResult.SUCCESS

    def shutdown(self):
        pass

    def force_flush(self, _timeout_millis=30000):
        return True


class FileSpans(SpanExporter):
    def export(self, spans):
        for span in spans:
            service = span.resource.attributes["service.name"]
            write("spans", {"name": span.name, "service": service})
        return SpanExportResult.SUCCESS


def set_up_logs(*, handler=True):
    provider = LoggerProvider(resource=RESOURCE)
    set_logger_provider(provider)
    provider.add_log_record_processor(SimpleLogRecordProcessor(FileLogs()))
    if handler:
        logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))


def set_up_traces():
    provider = TracerProvider(resource=RESOURCE)
    trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(FileSpans()))


def set_up(*, handler=True):
    set_up_logs(handler=handler)
    set_up_traces()
