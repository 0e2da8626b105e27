# SPDX-License-Identifier: Apache-2.0
"""With our handler attached, what a program prints is byte for byte what it prints without."""

import subprocess
import sys
import textwrap

import pytest

# Both preludes have the same number of lines, and import the same: stacks name lines.
ATTACHED = """
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import LogRecordProcessor
from otel_briefing.telemetry import handler
provider = LoggerProvider()
handler.attach(handler.BriefingLoggingHandler(logger_provider=provider, sink=lambda record: None))
"""
ABSENT = """
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import LogRecordProcessor
pass
provider = LoggerProvider()
pass
"""

CALLS = """
log = logging.getLogger("shop.orders")
log.debug("debug %d", 1)
log.info("info %d", 2)
log.warning("warning %d", 3)
try:
    {}["missing"]
except KeyError:
    log.exception("failed %s", "here")
logging.getLogger("other").critical("critical")
print("handlers", logging.root.handlers, logging.getLogger("shop").handlers, log.hasHandlers())
print("level", logging.root.level)
"""

PROGRAMS = {
    "no configuration": CALLS,
    "bare error": "logging.error('first')\nlogging.getLogger('x').warning('second')" + CALLS,
    "bare warning with force": "logging.warning('one')\nlogging.basicConfig(force=True)" + CALLS,
    "basicConfig": "logging.basicConfig(level=20, format='%(levelname)s %(message)s')" + CALLS,
    "basicConfig twice": "logging.basicConfig()\nlogging.basicConfig(level=logging.DEBUG)" + CALLS,
    "basicConfig force": (
        "logging.basicConfig()\n"
        "logging.basicConfig(force=True, level=10, stream=sys.stdout, format='%(name)s')"
    )
    + CALLS,
    "dictConfig": """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "formatters": {"short": {"format": "%(name)s:%(lineno)d:%(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "short"}},
    "root": {"level": "INFO", "handlers": ["out"]},
})
"""
    + CALLS,
    "dictConfig incremental": """
import logging.config
logging.basicConfig()
logging.config.dictConfig({"version": 1, "incremental": True, "root": {"level": "DEBUG"}})
"""
    + CALLS,
    "fileConfig": """
import io, logging.config
logging.config.fileConfig(io.StringIO('''
[loggers]
keys=root
[handlers]
keys=out
[formatters]
keys=short
[logger_root]
level=INFO
handlers=out
[handler_out]
class=StreamHandler
formatter=short
args=(sys.stderr,)
[formatter_short]
format=%(levelname)s - %(message)s
'''))
"""
    + CALLS,
    "no last resort": "logging.lastResort = None" + CALLS,
    "no last resort, production": "logging.lastResort = None\nlogging.raiseExceptions = False"
    + CALLS,
    "not propagating": """
quiet = logging.getLogger("uvicorn.error")
quiet.propagate = False
quiet.error("nobody listens")
quiet.addHandler(logging.StreamHandler(sys.stdout))
quiet.error("somebody listens")
"""
    + CALLS,
    "handlers asked for": """
if not logging.getLogger().handlers:
    logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
if not logging.getLogger("shop").hasHandlers():
    print("no handlers")
"""
    + CALLS,
    "disabled": "logging.disable(logging.WARNING)" + CALLS,
    "at exit": "import atexit\natexit.register(lambda: log.error('bye'))" + CALLS,
    "arguments that do not fit": "logging.basicConfig()"
    + CALLS
    + "log.error('%d items', 'many')\n",
    "arguments that do not fit, in a function": """
logging.basicConfig(format="%(message)s")
def order():
    logging.getLogger("shop").warning("%s %s", "one")
order()
""",
    "a handler that fails": """
class Failing(logging.Handler):
    def emit(self, record):
        try:
            raise LookupError("broken pipe")
        except LookupError:
            self.handleError(record)
logging.getLogger("shop").addHandler(Failing())
def order():
    logging.getLogger("shop.orders").error("failed")
order()
""",
    "where it was called": """
logging.basicConfig(format="%(filename)s:%(lineno)d:%(funcName)s %(message)s")
def order():
    logging.getLogger("shop").warning("here")
    logging.getLogger("shop").warning("there", stacklevel=2)
    logging.getLogger("shop").warning("stack", stack_info=True)
order()
""",
    "odd attributes": """
logging.basicConfig()
logging.getLogger("shop").warning("odd", extra={"thing": object(), "": 1, "user": "ann"})
""",
    "captured warnings": """
import warnings
logging.captureWarnings(True)
warnings.warn("old", DeprecationWarning)
print("warned")
warnings.warn("careful", UserWarning)
""",
    "a queue": """
import logging.handlers, queue
records = queue.SimpleQueue()
listener = logging.handlers.QueueListener(records, logging.StreamHandler(sys.stdout))
listener.start()
logging.root.addHandler(logging.handlers.QueueHandler(records))
logging.getLogger("shop").error("queued %s", "once")
listener.stop()
""",
    "a logger class of the app": """
class Loud(logging.Logger):
    def callHandlers(self, record):
        print("calling", record.getMessage())
        super().callHandlers(record)
logging.setLoggerClass(Loud)
"""
    + CALLS,
}


def run(prelude, program):
    source = prelude + "import logging, sys\n" + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_console_is_what_it_is_without_us(program):
    """Exit status, stdout and stderr of every way to configure logging, or not to."""
    code, out, err = run(ABSENT, program)
    assert code == 0
    assert out or err
    assert (code, out, err) == run(ATTACHED, program)


def test_the_handler_was_there():
    """The attached program of these tests does emit: the comparison means something."""
    program = """
    class Told(LogRecordProcessor):
        def on_emit(self, log_record):
            print("emitted", log_record.log_record.body)
        def shutdown(self):
            pass
        def force_flush(self, timeout_millis=0):
            return True
    provider.add_log_record_processor(Told())
    logging.getLogger("shop").warning("seen")
    """
    assert b"emitted seen" in run(ATTACHED, program)[1]
    assert b"emitted" not in run(ABSENT, program)[1]
