# SPDX-License-Identifier: Apache-2.0
"""The contract: every public name is where it is promised, and takes what it is promised to take.

What the parts do is tested beside each of them; here stands what a program may write down.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
from typing import Any

import pytest

ANY = object()  # a parameter without a promised default: it may be required

# Import path → the names that can be imported from there.
IMPORTS = {
    "otel_briefing": [
        "configure",
        "get_enhanced_logging_service",
        "EnhancedLoggingService",
        "SmartLoggingService",
        "EnhancedLoggingConfig",
        "ConfigurationManager",
        "PriorityBatchLogRecordProcessor",
        "SpoolingLogExporter",
        "IssueLogProcessor",
        "IssueSpanProcessor",
        "BriefingLoggingHandler",
    ],
    "otel_briefing.config": ["EnhancedLoggingConfig", "ConfigurationManager"],
    "otel_briefing.briefing": [
        "SystemStatusTracker",
        "ComponentStatus",
        "IssueAnalyzer",
        "SystemIssue",
        "LLMBriefingService",
    ],
    "otel_briefing.dashboard": [
        "IssueDetector",
        "RealtimeDashboard",
        "DashboardData",
        "DashboardService",
        "RealTimeMonitoringDashboard",
    ],
    "otel_briefing.performance": [
        "AsyncLogProcessor",
        "MemoryOptimizer",
        "CacheManager",
        "PerformanceMonitor",
    ],
    "otel_briefing.performance.async_processor": ["AsyncLogProcessor", "LogEntry"],
    "otel_briefing.issues.templates": ["TemplateMiner"],
    "otel_briefing.debugging": ["profile_block", "track_allocations"],
}

# What is called → its parameters in order, each with its default. Further ones are optional.
CALLS: dict[str, dict[str, Any]] = {
    "otel_briefing:get_enhanced_logging_service": {"config": None},
    "otel_briefing:IssueLogProcessor": {"sink": None},
    "otel_briefing:IssueSpanProcessor": {"sink": None},
    "otel_briefing:EnhancedLoggingConfig.from_file": {"path": ANY},
    "otel_briefing.briefing:SystemStatusTracker": {},
    "otel_briefing.briefing:SystemStatusTracker.update_component_status": {
        "component_name": ANY,
        "status": ANY,
        "details": "",
        "metrics": None,
    },
    "otel_briefing.briefing:SystemStatusTracker.get_component_status": {"component_name": ANY},
    "otel_briefing.briefing:SystemStatusTracker.get_system_health": {},
    "otel_briefing.briefing:IssueAnalyzer": {},
    "otel_briefing.briefing:IssueAnalyzer.analyze_for_issues": {"status_tracker": ANY},
    "otel_briefing.briefing:IssueAnalyzer.add_detection_pattern": {
        "name": ANY,
        "pattern": ANY,
        "priority": ANY,
        "category": ANY,
        "actions": ANY,
        "estimated_time": ANY,
    },
    "otel_briefing.briefing:LLMBriefingService": {"config": ANY, "tracker": None, "analyzer": None},
    "otel_briefing.briefing:LLMBriefingService.generate_briefing": {},
    "otel_briefing.briefing:LLMBriefingService.update_briefing_file": {},
    "otel_briefing.briefing:LLMBriefingService.start": {},
    "otel_briefing.briefing:LLMBriefingService.stop": {},
    "otel_briefing.performance:AsyncLogProcessor": {
        "queue_size": 10_000,
        "worker_count": 3,
        "batch_size": 100,
    },
    "otel_briefing.performance:AsyncLogProcessor.initialize": {},
    "otel_briefing.performance:AsyncLogProcessor.add_handler": {"fn": ANY},
    "otel_briefing.performance:AsyncLogProcessor.remove_handler": {"fn": ANY},
    "otel_briefing.performance:AsyncLogProcessor.add_log_entry": {
        "entry": ANY,
        "force_priority": False,
    },
    "otel_briefing.performance:AsyncLogProcessor.wait_for_completion": {"timeout": ANY},
    "otel_briefing.performance:AsyncLogProcessor.shutdown": {},
    "otel_briefing.performance:AsyncLogProcessor.get_performance_stats": {},
    "otel_briefing.performance.async_processor:LogEntry": {
        "timestamp": ANY,
        "level": ANY,
        "component": ANY,
        "message": ANY,
        "metadata": ANY,
        "priority": 1,
    },
    "otel_briefing.performance:CacheManager": {"cleanup_interval": 300.0},
    "otel_briefing.performance:CacheManager.start_cleanup_thread": {},
    "otel_briefing.performance:CacheManager.register_cache": {
        "name": ANY,
        "max_size": ANY,
        "default_ttl": ANY,
    },
    "otel_briefing.performance:CacheManager.cached_function": {
        "name": ANY,
        "max_size": ANY,
        "ttl": ANY,
    },
    "otel_briefing.performance:CacheManager.cleanup": {},
    "otel_briefing.performance.cache:Cache.get": {"key": ANY, "default": None},
    "otel_briefing.performance.cache:Cache.put": {"key": ANY, "value": ANY, "ttl": None},
    "otel_briefing.performance.cache:Cache.delete": {"key": ANY},
    "otel_briefing.performance.cache:Cache.clear": {},
    "otel_briefing.performance.cache:Cache.stats": {},
    "otel_briefing.performance:MemoryOptimizer": {
        "memory_threshold_mb": ANY,
        "gc_threshold_factor": ANY,
        "monitoring_interval": ANY,
    },
    "otel_briefing.performance:MemoryOptimizer.start_monitoring": {},
    "otel_briefing.performance:MemoryOptimizer.track_object": {"obj": ANY},
    "otel_briefing.performance:MemoryOptimizer.register_cache": {"cache": ANY},
    "otel_briefing.performance:MemoryOptimizer.get_memory_stats": {},
    "otel_briefing.performance:MemoryOptimizer.force_garbage_collection": {},
    "otel_briefing.performance:MemoryOptimizer.cleanup": {},
    "otel_briefing.performance:PerformanceMonitor": {
        "monitoring_interval": 10.0,
        "history_size": 1000,
    },
    "otel_briefing.performance:PerformanceMonitor.start_monitoring": {},
    "otel_briefing.performance:PerformanceMonitor.stop_monitoring": {},
    "otel_briefing.performance:PerformanceMonitor.add_metric_collector": {"fn": ANY},
    "otel_briefing.performance:PerformanceMonitor.record_logging_performance": {
        "operation": ANY,
        "milliseconds": ANY,
    },
    "otel_briefing.performance:PerformanceMonitor.record_metric": {
        "name": ANY,
        "value": ANY,
        "category": None,
    },
    "otel_briefing.performance:PerformanceMonitor.get_current_performance_summary": {},
    "otel_briefing.performance:PerformanceMonitor.generate_performance_report": {
        "duration_hours": 1.0
    },
    "otel_briefing.dashboard:IssueDetector": {},
    "otel_briefing.dashboard:IssueDetector.detect_issues": {"log_lines": ANY},
    "otel_briefing.dashboard:RealtimeDashboard": {"status_tracker": ANY, "issue_detector": ANY},
    "otel_briefing.dashboard:RealtimeDashboard.generate_dashboard_data": {"recent_logs": ANY},
    "otel_briefing.dashboard:RealtimeDashboard.to_json": {"data": ANY},
    "otel_briefing.dashboard:DashboardService.update_dashboard": {"recent_logs": None},
    "otel_briefing.dashboard:RealTimeMonitoringDashboard": {
        "status_tracker": ANY,
        "performance_monitor": ANY,
    },
    "otel_briefing.dashboard:RealTimeMonitoringDashboard.add_alert_handler": {"fn": ANY},
    "otel_briefing.dashboard:RealTimeMonitoringDashboard.check_system_health": {},
    "otel_briefing.issues.templates:TemplateMiner.add": {"text": ANY},
    "otel_briefing.debugging:profile_block": {"name": None},
    "otel_briefing.debugging:track_allocations": {"name": None},
}

COROUTINES = ["initialize", "add_log_entry", "wait_for_completion", "shutdown"]

# What a class offers to be read: fields, properties, attributes.
ATTRIBUTES = {
    "otel_briefing.briefing:ComponentStatus": [
        "status",
        "details",
        "last_updated",
        "metrics",
        "issue_count",
        "resolution_suggestions",
    ],
    "otel_briefing.briefing:SystemIssue": [
        *("id", "title", "description", "priority", "category", "affected_components"),
        *("suggested_actions", "estimated_time", "detection_time"),
        *("fingerprint", "state", "count", "first_seen", "last_seen", "trend", "exemplars"),
        *("cause_id", "symptom_ids", "confidence", "service"),
    ],
    "otel_briefing.briefing:SystemStatusTracker": ["components"],
    "otel_briefing.briefing:IssueAnalyzer": ["ISSUE_PATTERNS"],
    "otel_briefing.dashboard:DashboardData": [
        *("timestamp", "system_health", "components_summary", "active_issues"),
        *("performance_metrics", "recommendations", "quick_actions"),
    ],
    "otel_briefing:EnhancedLoggingService": [
        *("tracker", "analyzer", "briefing", "dashboard", "monitor", "cache_manager"),
        "memory_optimizer",
    ],
}

# Attribute and keyword of the configuration, its YAML key, its default.
OPTIONS = [
    ("enabled", "enabled", True),
    ("state_dir", "state_dir", None),
    ("language", "language", "en"),
    ("briefing_enabled", "briefing.enabled", True),
    ("briefing_update_interval", "briefing.update_interval", 10),
    ("briefing_debounce_s", "briefing.debounce_s", 0.25),
    ("briefing_max_tokens", "briefing.max_tokens", 2000),
    ("briefing_max_issues", "briefing.max_issues", 10),
    ("dashboard_enabled", "dashboard.enabled", True),
    ("analysis_enabled", "analysis.enabled", True),
    ("analysis_min_severity", "analysis.min_severity", "WARN"),
    ("pattern_packs", "analysis.pattern_packs", ()),
    ("resolve_after_s", "analysis.resolve_after_s", 900),
    ("performance_monitoring_enabled", "performance.monitoring_enabled", True),
    ("performance_monitoring_interval", "performance.monitoring_interval", 10.0),
    ("memory_threshold_mb", "performance.memory_threshold_mb", 500),
    ("spool_enabled", "spool.enabled", True),
    ("spool_max_mb", "spool.max_mb", 256),
    ("spool_max_age_s", "spool.max_age_s", 172_800),
    ("spool_fsync_ms", "spool.fsync_ms", 500),
]

NAMES = [f"{path}:{name}" for path, names in IMPORTS.items() for name in names]


def found(name: str) -> Any:
    """Return what `module:Name.attribute` is; None when it is not there."""
    path, _, dotted = name.partition(":")
    try:
        return functools.reduce(getattr, dotted.split("."), importlib.import_module(path))
    except (ModuleNotFoundError, AttributeError):
        return None


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_where_it_is_promised(name):
    """An import that the contract writes down works."""
    assert found(name) is not None


@pytest.mark.parametrize("name", CALLS)
def test_calls_take_what_is_promised(name):
    """The parameters by name and order, with their defaults; any further one is optional."""
    target = found(name)
    assert target is not None
    parameters = list(inspect.signature(target).parameters.values())
    if "." in name.partition(":")[2] and not inspect.ismethod(target):
        parameters = parameters[1:]  # self
    expected = CALLS[name]
    assert list(expected) == [p.name for p in parameters[: len(expected)]]
    for parameter in parameters[: len(expected)]:
        if expected[parameter.name] is not ANY:
            assert expected[parameter.name] == parameter.default
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    for parameter in parameters[len(expected) :]:
        assert parameter.default is not parameter.empty or parameter.kind in variadic


@pytest.mark.parametrize("method", COROUTINES)
def test_what_is_awaited_is_a_coroutine_function(method):
    """`await` works on it."""
    processor = found("otel_briefing.performance:AsyncLogProcessor")
    assert inspect.iscoroutinefunction(getattr(processor, method))


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_classes_offer_what_is_promised(name):
    """Fields of data, properties of what lives."""
    target = found(name)
    if dataclasses.is_dataclass(target):
        offered = {field.name for field in dataclasses.fields(target)}
    else:
        offered = set(dir(target))
    assert set() == set(ATTRIBUTES[name]) - offered


def test_the_options_are_those_of_the_table():
    """Attribute, YAML key, default; a keyword and one environment variable each."""
    defined = found("otel_briefing.config:OPTIONS")
    EnhancedLoggingConfig = found("otel_briefing.config:EnhancedLoggingConfig")  # noqa: N806
    config = EnhancedLoggingConfig()
    assert OPTIONS == [(name, defined[name].key, getattr(config, name)) for name, _, _ in OPTIONS]
    variables = {name: f"OTEL_BRIEFING_{name.upper()}" for name, _, _ in OPTIONS}
    assert variables == {name: defined[name].variable for name in variables}
    for name, _, default in OPTIONS:
        assert default == getattr(EnhancedLoggingConfig(**{name: default}), name)


def test_configure_takes_the_options_as_keywords():
    """For people who never saw the guide."""
    from otel_briefing import configure  # noqa: PLC0415

    kinds = [parameter.kind for parameter in inspect.signature(configure).parameters.values()]
    assert [inspect.Parameter.VAR_KEYWORD] == kinds


def test_ours_is_a_batch_processor_with_the_same_constructor():
    """`isinstance` holds, and every parameter of the stock one is there under its name."""
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415

    from otel_briefing import PriorityBatchLogRecordProcessor  # noqa: PLC0415

    assert issubclass(PriorityBatchLogRecordProcessor, BatchLogRecordProcessor)
    stock = list(inspect.signature(BatchLogRecordProcessor).parameters)
    ours = list(inspect.signature(PriorityBatchLogRecordProcessor).parameters)
    assert stock == ours[: len(stock)]


def test_the_smart_service_is_the_enhanced_one():
    """Two names, one class."""
    service = found("otel_briefing:EnhancedLoggingService")
    assert service is found("otel_briefing:SmartLoggingService")


def test_the_miner_gives_a_template_with_id_and_text():
    """Lines of one shape share the id; what varied becomes a placeholder."""
    from otel_briefing.issues.templates import TemplateMiner  # noqa: PLC0415

    miner = TemplateMiner()
    first = miner.add("user anna logged in from mars today")
    again = miner.add("user bert logged in from mars today")
    other = miner.add("disk full")
    assert first.id == again.id != other.id
    assert "user <*> logged in from mars today" == again.text
    assert all(isinstance(text, str) for text in (first.id, first.text))
