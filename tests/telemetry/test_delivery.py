# SPDX-License-Identifier: Apache-2.0
"""What is said of the delivery: sums, sentences, metrics."""

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_briefing.telemetry import delivery_metrics
from otel_briefing.telemetry.account import Tally, account_of, total
from otel_briefing.telemetry.delivery import told_of
from otel_briefing.telemetry.spool_counts import Counts, Pending

QUIET = {
    "trouble": "",
    "trouble_since_ns": 0,
    "not_written_through": {"too many": 0, "slow disk": 0},
}


class Batch:
    """A batch processor as far as it is asked."""

    def __init__(self, account, facts=QUIET, dropped=None):
        self._account, self._facts, self.dropped = account, facts, dropped or {}

    def account(self):
        return self._account

    def delivery(self):
        return self._facts


def by_priority(*numbers):
    return [0, *numbers]


@pytest.fixture
def account():
    """Ten INFO and four ERROR of this process, two ERROR of a dead one, in all places."""
    tally = Tally(taken=by_priority(0, 10, 0, 4, 0), delivered=by_priority(0, 3, 0, 0, 0))
    counts = Counts(
        adopted=by_priority(0, 0, 0, 2, 0),
        acked=by_priority(0, 0, 0, 3, 0),
        rejected=by_priority(0, 1, 0, 0, 0),
        evicted=by_priority(0, 2, 0, 0, 0),
    )
    pending = Pending(by_priority(0, 1, 0, 3, 0), 4096, 0)
    return account_of(tally.taken, by_priority(0, 1, 0, 0, 0), tally, counts, pending)


def test_the_sum_comes_out(account):
    """Every record is somewhere; what nobody else has is in memory."""
    assert account.emitted == {"ERROR": 4, "INFO": 10}
    assert account.adopted == {"ERROR": 2}
    assert account.delivered == {"ERROR": 3, "INFO": 3}
    assert account.queued == {"INFO": 2}
    assert account.dropped == {
        "no room in memory": {"INFO": 1},
        "no room in the spool": {"INFO": 2},
    }


def test_accounts_of_processes_add_up(account):
    """The page is for all of them."""
    both = total([account._asdict(), account._asdict()])
    assert both["emitted"] == {"ERROR": 8, "INFO": 20}
    assert both["dropped"]["no room in the spool"] == {"INFO": 4}


def test_what_is_lost_is_said_with_its_reason(account):
    """By level; the page puts it under Not known."""
    drops, told = told_of([Batch(account)])
    assert drops == {
        "INFO records, no room in memory": 1,
        "INFO records, no room in the spool": 2,
        "INFO records, refused by the receiver": 1,
    }
    assert told["said"] == []
    assert told["delivered"] == {"ERROR": 3, "INFO": 3}


def test_what_is_in_the_way_is_said_with_what_waits(account):
    """The receiver's own words stand behind a newline, where they are evidence."""
    trouble = {
        "trouble": "503 Service Unavailable",
        "trouble_since_ns": 1_700_000_000_000_000_000,
        "not_written_through": {"too many": 7, "slow disk": 2},
    }
    first, *others = told_of([Batch(account, trouble)])[1]["said"]
    assert first == (
        "The receiver of the logs takes nothing since 22:13:20Z; 3 ERROR, 1 INFO records wait on "
        "disk. Its last answer:\n503 Service Unavailable"
    )
    assert [sentence.split(" urgent")[0] for sentence in others] == ["7", "2"]


def test_an_exporter_without_an_account_tells_its_drops():
    """Lanes around an exporter that is not spooled."""
    drops, told = told_of([Batch(None, dropped={9: 3, 17: 1})])
    assert drops == {
        "INFO records, no room before export": 3,
        "ERROR records, no room before export": 1,
    }
    assert told == {}


def test_the_metrics_say_the_same(account, monkeypatch):
    """By level and outcome, and what waits by place."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    monkeypatch.setattr(delivery_metrics, "get_meter", meters.get_meter)
    delivery_metrics.offer(lambda: [account])
    found = {}
    for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
        for point in metric.data.data_points:
            _, where = sorted(point.attributes.items())
            found[metric.name, point.attributes["briefing.level"], where[1]] = point.value
    records = "briefing.logs.records"
    assert found[records, "ERROR", "adopted"] == 2
    assert found[records, "INFO", "dropped: no room in the spool"] == 2
    came = sum(found[records, "INFO", outcome] for outcome in ("emitted", "adopted"))
    gone = sum(
        value
        for (_, level, where), value in found.items()
        if level == "INFO" and where not in {"emitted", "adopted"}
    )
    assert came == gone == 10
    assert found["briefing.logs.waiting", "ERROR", "spool"] == 3
