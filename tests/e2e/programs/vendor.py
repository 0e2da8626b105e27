# SPDX-License-Identifier: Apache-2.0
"""Configurators as a vendor ships them: one on the SDK, one with providers of its own make."""

import _own_pipeline
from opentelemetry import _logs, trace


class VendorLogger(_logs.Logger):
    def enabled(self, **_):
        return True

    def emit(self, record=None, **_):
        print("vendor got:", record.body)


class VendorLoggers(_logs.LoggerProvider):
    def get_logger(self, name, *_, **__):
        return VendorLogger(name)


class VendorTracers(trace.TracerProvider):
    def get_tracer(self, *_, **__):
        return trace.NoOpTracer()


class WithSDK:
    def configure(self, **_):
        _own_pipeline.set_up(handler=False)


class WithoutSDK:
    def configure(self, **_):
        _logs.set_logger_provider(VendorLoggers())
        trace.set_tracer_provider(VendorTracers())
