# SPDX-License-Identifier: Apache-2.0
"""What is kept of metrics is bounded, and what is said of it is what statistics say."""

import json
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_briefing.performance.metric_history import (
    MAX_METRICS,
    MetricHistory,
    quantile,
    trend,
)
from otel_briefing.performance.metric_report import PerformanceReport, shown_as
from otel_briefing.performance.normal_range import LEARN_FROM, departure
from otel_briefing.telemetry.metric_reader import Bucket, Distribution

number = st.floats(-1e9, 1e9)


@given(st.lists(number, min_size=1, max_size=60), st.integers(1, 20))
def test_the_latest_values_are_kept_in_order(values, size):
    """As many as were asked for, whatever came before."""
    history = MetricHistory(size)
    for at, value in enumerate(values):
        assert history.add(float(at), "m", value)
    assert values[-size:] == history.numbers("m")
    assert values[-1] == history.latest()["m"][1]


@given(st.lists(number, min_size=2, max_size=50))
def test_percentiles_are_those_of_the_standard_library(values):
    """Between neighbours linearly, ends included."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    for percent in (1, 50, 95, 99):
        expected = pytest.approx(cuts[percent - 1], rel=1e-9, abs=1e-3)
        assert quantile(sorted(values), percent / 100) == expected


def test_a_report_covers_the_time_that_it_is_asked_for():
    """Older values are kept, and left out; a metric without newer ones too."""
    history = MetricHistory(100)
    history.add(0.0, "old", 1.0)
    for at in range(10):
        history.add(float(at), "m", float(at), "ms", "logging")
    told = history.stats(5.0)
    assert ["m"] == list(told)
    assert {"count": 5, "min": 5.0, "mean": 7.0, "p50": 7.0, "max": 9.0} == {
        key: told["m"][key] for key in ("count", "min", "mean", "p50", "max")
    }
    assert ("ms", "logging", "unknown") == tuple(
        told["m"][key] for key in ("unit", "category", "trend")
    )


def test_metrics_are_bounded_and_what_is_beyond_is_counted():
    """A name with an id in it must not fill the memory."""
    history = MetricHistory(10)
    kept = [history.add(0.0, f"user-{n}", 1.0) for n in range(MAX_METRICS + 7)]
    assert (MAX_METRICS, 7) == (sum(kept), history.refused)
    assert history.add(1.0, "user-0", 2.0)


def test_percentiles_of_histograms_add_up_over_intervals():
    """Nine fast ones in one interval, one slow in the next."""
    history = MetricHistory(10)
    history.add(0.0, "h", Distribution(9, 0.45, 0.01, 0.09, (Bucket(-1.0, 0.1, 9),)), "s")
    history.add(1.0, "h", Distribution(1, 4.0, 4.0, 4.0, (Bucket(1.0, float("inf"), 1),)), "s")
    told = history.stats(0.0)["h"]
    assert (10, 0.01, 4.0) == (told["count"], told["min"], told["max"])
    assert told["mean"] == pytest.approx(0.445)
    assert 0.01 <= told["p50"] <= 0.1
    assert 1.0 <= told["p95"] <= 4.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0] * 20, "steady"),
        ([float(n) for n in range(30)], "rising"),
        ([30.0 - n for n in range(30)], "falling"),
        ([5.0, 9.0] * 10, "steady"),
        ([1.0] * 8, "unknown"),
    ],
)
def test_a_trend_is_more_than_the_values_usually_vary(values, expected):
    """Few values have none."""
    assert expected == trend(values)


@given(st.lists(st.floats(95, 105), min_size=LEARN_FROM + 3, max_size=200))
def test_what_varies_little_has_not_left_its_range(values):
    """Whatever the pattern: a tenth is no news."""
    assert departure(values) is None


def test_what_left_its_range_is_said_beside_that_range():
    """By the median of the last three: one odd value is no news."""
    usual = [100.0, 102.0, 98.0, 101.0] * 10
    assert departure([*usual, 300.0, 300.0, 300.0]) == (300.0, 98.0, 102.0)
    assert departure([*usual, 300.0, 100.0, 100.0]) is None
    assert departure([*usual[:20], 300.0, 300.0, 300.0]) is None
    assert departure([*usual, 300.0, 300.0, 300.0], least=500.0) is None


def test_outliers_of_the_past_do_not_widen_the_range():
    """One in ten was far out, and is not what is normal."""
    usual = ([100.0] * 19 + [900.0]) * 3
    assert departure([*usual, 400.0, 400.0, 400.0]) is not None


def test_a_report_is_data_and_text():
    """It can go into JSON, and be printed."""
    history = MetricHistory(10)
    history.add(0.0, "a|b", 0.25, "1", "load")
    report = PerformanceReport("2027-01-01T00:00:00+00:00", 1.0, history.stats(0.0), 3)
    assert report["metrics"] == report.metrics == json.loads(json.dumps(report))["metrics"]
    assert str(report) == report.markdown == report["markdown"]
    row = "25.0 % | 25.0 % | 25.0 % | 25.0 % | 25.0 % | 25.0 % | unknown |"
    assert f"| a\\|b | 1 | {row}" in report.markdown
    assert "3 values of more metrics than are kept were dropped." in report.markdown
    assert "Nothing was measured" in PerformanceReport("", 1.0, {}, 0).markdown


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1_500_000, "By", "1.5 MB"),
        (2.5e9, "By", "2.50 GB"),
        (0.0254, "s", "25.4 ms"),
        (12.34, "s", "12.3 s"),
        (3, "{thread}", "3"),
        (2_000_000, "By/s", "2.0 MB/s"),
        (0.5, "{order}/s", "0.5/s"),
        (25.5, "ms", "25.50 ms"),
    ],
)
def test_values_are_written_for_people(value, unit, expected):
    """By their unit."""
    assert expected == shown_as(value, unit)
