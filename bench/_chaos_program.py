# SPDX-License-Identifier: Apache-2.0
"""The program that `chaos.py` does things to: it logs as told, and obeys commands on its input.

Its one argument is JSON (see `main`); so is each command, a line each, and each answer. Every
record has a number in its body, from which its level follows. When its input ends, so does it.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from _chaos_records import body_of, level_of
from otel_briefing import PriorityBatchLogRecordProcessor, SpoolingLogExporter
from otel_briefing.telemetry.spool import Spool
from otel_briefing.telemetry.spool_disk import Disk

TICK_S = 0.005
LONGEST_DEBT_S = 1.0
FLAKY = 0.2  # of the calls to a flaky disk fail


class FaultyDisk(Disk):
    """Fail as `mode` says: full, read-only, or now and then."""

    mode = "ok"

    def _may(self, *, creates=False, writes=False):
        if self.mode == "full" and writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.mode == "read-only" and (creates or writes):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if self.mode == "flaky" and random.random() < FLAKY:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open_file(self, path, flags, mode=0o777):
        """Open a file."""
        self._may(creates=bool(flags & (os.O_CREAT | os.O_WRONLY)))
        return os.open(path, flags, mode)

    def write(self, fd, data):
        """Write all, nothing, or when flaky, now and then a part."""
        self._may(writes=True)
        if self.mode == "flaky" and random.random() < FLAKY:
            data = data[: random.randrange(1, len(data) + 1)]
        return os.write(fd, data)

    def make_folder(self, path, mode=0o777):
        """Make a folder."""
        self._may(creates=True)
        os.mkdir(path, mode)  # noqa: PTH102

    def list_folder(self, path):
        """List a folder."""
        self._may()
        return os.listdir(path)  # noqa: PTH208  # as the spool does

    def unlink(self, path):
        """Remove a file."""
        self._may(creates=True)
        os.unlink(path)  # noqa: PTH108

    def rename(self, source, target):
        """Move a file."""
        self._may(creates=True)
        os.rename(source, target)  # noqa: PTH104


class Hanging(LogRecordExporter):
    """Never come back, from anything."""

    def export(self, batch):  # noqa: ARG002
        """Hang."""
        threading.Event().wait()
        return LogRecordExportResult.SUCCESS

    def shutdown(self):
        """Hang."""
        threading.Event().wait()

    def force_flush(self, timeout_millis=30_000):  # noqa: ARG002
        """Hang."""
        threading.Event().wait()
        return True


class Speaker(threading.Thread):
    """Log at a rate. What is urgent is written to `said` once its call has returned."""

    def __init__(self, logger, first, said, poison_every):
        super().__init__(daemon=True)
        self._logger = logger
        self._said = said
        self._poison_every = poison_every
        self._turn = threading.Lock()
        self.rate = 0.0
        self.number = first

    def run(self):
        """Log for ever."""
        debt, before = 0.0, time.monotonic()
        while True:
            time.sleep(TICK_S)
            now = time.monotonic()
            debt = min(debt + self.rate * (now - before), LONGEST_DEBT_S * self.rate)
            before = now
            while debt >= 1 and self.rate:
                self.say(1)
                debt -= 1

    def say(self, count):
        """Log that many records."""
        with self._turn:
            for _ in range(count):
                level = level_of(self.number)
                self._logger.emit(
                    body=body_of(self.number, self._poison_every),
                    severity_number=SeverityNumber[level],
                    severity_text=level,
                    attributes={"shop": "berlin"},
                )
                if level == "ERROR" and self._said >= 0:
                    os.write(self._said, b"%d\n" % self.number)
                self.number += 1


def make_exporter(kind, url, timeout_s, certificate):
    if kind == "hanging":
        return Hanging()
    if kind == "http":
        from opentelemetry.exporter.otlp.proto.http._log_exporter import (  # noqa: PLC0415
            OTLPLogExporter,
        )

        return OTLPLogExporter(url, certificate_file=certificate, timeout=timeout_s)
    import grpc  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import (  # noqa: PLC0415
        OTLPLogExporter as GrpcLogExporter,
    )

    credentials = None
    if certificate:
        with open(certificate, "rb") as file:  # noqa: PTH123
            credentials = grpc.ssl_channel_credentials(file.read())
    return GrpcLogExporter(
        url, insecure=not certificate, credentials=credentials, timeout=timeout_s
    )


class Program:
    """All of it, and what its commands do."""

    def __init__(self, asked):
        self._disk = FaultyDisk()
        self._offset_ns = 0
        spool = Spool(
            asked["root"],
            disk=self._disk,
            time_ns=lambda: time.time_ns() + self._offset_ns,
        )
        inner = make_exporter(asked["kind"], asked["url"], asked["timeout_s"], asked["certificate"])
        exporter = SpoolingLogExporter(inner, spool)
        self._processor = PriorityBatchLogRecordProcessor(exporter)
        self._provider = LoggerProvider(Resource({"service.name": "chaos"}))
        self._provider.add_log_record_processor(self._processor)
        said = -1
        if asked["said"]:
            said = os.open(asked["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        logger = self._provider.get_logger("chaos")
        self._speaker = Speaker(logger, asked["first"], said, asked["poison_every"])
        self._speaker.start()

    def rate(self, per_s):
        self._speaker.rate = per_s
        return {}

    def say(self, count):
        self._speaker.say(count)
        return {}

    def flush(self, timeout_ms):
        before, began = self._speaker.number, time.monotonic()
        done = self._processor.force_flush(timeout_ms)
        return {
            "done": done,
            "took_ms": (time.monotonic() - began) * 1e3,
            "before": before,
        }

    def account(self, _):
        return {
            **self._processor.account()._asdict(),
            "next": self._speaker.number,
            "in_lanes": len(self._processor._batch_processor),
            "facts": self._processor.delivery(),
        }

    def disk(self, mode):
        self._disk.mode = mode
        return {}

    def clock(self, offset_s):
        self._offset_ns = int(offset_s * 1e9)
        return {}

    def shutdown(self, _):
        self._speaker.rate = 0
        began = time.monotonic()
        self._provider.shutdown()
        return {"took_ms": (time.monotonic() - began) * 1e3}

    def leave(self, _):
        """Leave the rest to whatever runs at the end of an interpreter."""
        self._speaker.rate = 0
        sys.exit()


def main():
    faulthandler.register(signal.SIGUSR1)  # the bench asks where it hangs
    program = Program(json.loads(sys.argv[1]))
    print(json.dumps({"pid": os.getpid()}), flush=True)
    for line in sys.stdin:
        name, value = json.loads(line)
        print(json.dumps(getattr(program, name)(value)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
