# SPDX-License-Identifier: Apache-2.0
"""The configuration: the contract's table, where values come from, and what bad input gets."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_briefing import environment_variables
from otel_briefing._config_schema import FILE, as_text, schema
from otel_briefing._config_watch import ConfigWatch
from otel_briefing.config import (
    OPTIONS,
    ConfigurationManager,
    EnhancedLoggingConfig,
    check_file,
    environment_warnings,
)
from otel_briefing.exceptions import ConfigError

TABLE = {
    "enabled": ("enabled", True),
    "state_dir": ("state_dir", None),
    "language": ("language", "en"),
    "briefing_enabled": ("briefing.enabled", True),
    "briefing_update_interval": ("briefing.update_interval", 10),
    "briefing_debounce_s": ("briefing.debounce_s", 0.25),
    "briefing_max_tokens": ("briefing.max_tokens", 2000),
    "briefing_max_issues": ("briefing.max_issues", 10),
    "dashboard_enabled": ("dashboard.enabled", True),
    "alert_urls": ("alerts.urls", ()),
    "alert_cooldown_s": ("alerts.cooldown_s", 300),
    "analysis_enabled": ("analysis.enabled", True),
    "analysis_min_severity": ("analysis.min_severity", "WARN"),
    "analysis_queue_size": ("analysis.queue_size", 4096),
    "max_issues": ("analysis.max_issues", 1000),
    "pattern_packs": ("analysis.pattern_packs", ()),
    "resolve_after_s": ("analysis.resolve_after_s", 900),
    "logging_levels": ("logging.levels", {}),
    "performance_monitoring_enabled": ("performance.monitoring_enabled", True),
    "performance_monitoring_interval": ("performance.monitoring_interval", 10.0),
    "memory_threshold_mb": ("performance.memory_threshold_mb", 500),
    "spool_enabled": ("spool.enabled", True),
    "spool_max_mb": ("spool.max_mb", 256),
    "spool_max_age_s": ("spool.max_age_s", 172_800),
    "spool_fsync_ms": ("spool.fsync_ms", 500),
}

# For every option: an environment variable's text, and the value it stands for.
GIVEN = {
    "enabled": ("off", False),
    "state_dir": ("/srv/state", "/srv/state"),
    "language": ("ko", "ko"),
    "briefing_enabled": ("no", False),
    "briefing_update_interval": ("15", 15),
    "briefing_debounce_s": ("0", 0),
    "briefing_max_tokens": ("4000", 4000),
    "briefing_max_issues": ("3", 3),
    "dashboard_enabled": ("False", False),
    "alert_urls": ("https://a/b  slack://c", ("https://a/b", "slack://c")),
    "alert_cooldown_s": ("60", 60),
    "analysis_enabled": ("0", False),
    "analysis_min_severity": ("critical", "FATAL"),
    "analysis_queue_size": ("64", 64),
    "max_issues": ("10", 10),
    "pattern_packs": (f"a.yaml{os.pathsep}b.yaml", ("a.yaml", "b.yaml")),
    "resolve_after_s": ("2.5", 2.5),
    "logging_levels": ("app.db=debug, app=WARN", {"app.db": "DEBUG", "app": "WARNING"}),
    "performance_monitoring_enabled": ("FALSE", False),
    "performance_monitoring_interval": ("0.5", 0.5),
    "memory_threshold_mb": ("400", 400),
    "spool_enabled": ("false", False),
    "spool_max_mb": ("1", 1),
    "spool_max_age_s": ("60", 60),
    "spool_fsync_ms": ("-1", -1),
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path):
    """Write a configuration file and return its path."""

    def write(text, name="app.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def yaml_line(name, value):
    """Write one option as YAML, in its section."""
    section, _, key = TABLE[name][0].rpartition(".")
    shown = str(value).lower() if isinstance(value, bool) else value
    shown = list(value) if isinstance(value, tuple) else shown
    return f"{section}:\n  {key}: {shown}\n" if section else f"{key}: {shown}\n"


def test_the_table_is_complete():
    """Every option of the contract is there, with its YAML key and its default, and no other."""
    assert {name: (option.key, option.default) for name, option in OPTIONS.items()} == TABLE


def test_every_default_is_itself_allowed():
    """A default passes the check that everybody else's value must pass."""
    assert {n: o.default for n, o in OPTIONS.items()} == {
        n: o.check(o.default, "") for n, o in OPTIONS.items()
    }


def test_the_defaults_are_used_when_nothing_is_said():
    """Without any setting each attribute has its default and says so."""
    config = EnhancedLoggingConfig()
    assert {name: default for name, (_, default) in TABLE.items()} == config.as_dict()
    assert {"default"} == {config.source_of(name) for name in TABLE}


def test_every_option_has_words_for_its_reader():
    """Every option says what it means, and every number its unit."""
    assert [name for name, option in OPTIONS.items() if not option.doc] == []
    numbers = [o for o in OPTIONS.values() if isinstance(o.default, (int, float))]
    assert [o.name for o in numbers if not o.unit and not isinstance(o.default, bool)] == []


@pytest.mark.parametrize("name", TABLE)
def test_each_option_can_be_given_by_keyword(name):
    """A keyword sets its attribute."""
    config = EnhancedLoggingConfig(**{name: GIVEN[name][1]})
    assert GIVEN[name][1] == getattr(config, name)
    assert config.source_of(name) == "keyword"


@pytest.mark.parametrize("name", TABLE)
def test_each_option_can_be_given_by_the_environment(name, monkeypatch):
    """`OTEL_BRIEFING_` and the upper-cased attribute is its one environment variable."""
    monkeypatch.setenv(f"OTEL_BRIEFING_{name.upper()}", GIVEN[name][0])
    config = EnhancedLoggingConfig.from_environment()
    assert GIVEN[name][1] == getattr(config, name)
    assert config.source_of(name) == f"environment OTEL_BRIEFING_{name.upper()}"
    assert ["default"] * (len(TABLE) - 1) == [config.source_of(n) for n in TABLE if n != name]


@pytest.mark.parametrize("name", TABLE)
def test_each_option_can_be_given_by_file(name, write):
    """The YAML key of the table sets its attribute, and the source is file and line."""
    path = write(yaml_line(name, GIVEN[name][1]))
    config = EnhancedLoggingConfig.from_file(path)
    assert GIVEN[name][1] == getattr(config, name)
    line = 2 if "." in TABLE[name][0] else 1
    assert config.source_of(name) == f"{path}:{line}"


@pytest.mark.parametrize(
    "text",
    [
        "briefing: {update_interval: 15}",
        "briefing: {briefing_update_interval: 15}",
        "briefing_update_interval: 15",
        "briefing.update_interval: 15",
    ],
)
def test_a_yaml_key_may_stand_with_or_without_its_section(text, write):
    """A key is looked up as `section_key`, then as `key`."""
    assert EnhancedLoggingConfig.from_file(write(text)).briefing_update_interval == 15


def test_enabled_inside_a_section_never_switches_everything_off(write):
    """`performance.enabled` is no key: it must not be taken for the `enabled` of the whole."""
    with pytest.raises(ConfigError, match=r"nearest known key: performance\.monitoring_enabled"):
        EnhancedLoggingConfig.from_file(write("performance: {enabled: false}"))


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "briefing:\nspool: ~\n"])
def test_a_file_or_section_without_settings_is_fine(text, write):
    """What is empty sets nothing."""
    assert (
        EnhancedLoggingConfig().as_dict() == EnhancedLoggingConfig.from_file(write(text)).as_dict()
    )


def test_precedence(write, monkeypatch):
    """Assigned > environment > overlay > base > default, option by option."""
    path = write(
        "briefing:\n  update_interval: 2\n  max_tokens: 222\n  max_issues: 2\nlanguage: ko\n"
    )
    write("briefing: {update_interval: 3, max_tokens: 333, max_issues: 3}", "app.staging.yaml")
    monkeypatch.setenv("OTEL_BRIEFING_ENV", "staging")
    monkeypatch.setenv("OTEL_BRIEFING_BRIEFING_UPDATE_INTERVAL", "4")
    monkeypatch.setenv("OTEL_BRIEFING_BRIEFING_MAX_TOKENS", "444")
    config = EnhancedLoggingConfig.from_file(path, briefing_update_interval=5)
    assert config.briefing_update_interval == 5
    assert config.briefing_max_tokens == 444
    assert config.briefing_max_issues == 3
    assert config.source_of("briefing_max_issues") == f"{path.with_name('app.staging.yaml')}:1"
    assert config.language == "ko"
    assert config.briefing_debounce_s == 0.25


@pytest.mark.parametrize(
    ("variables", "interval"),
    [
        ({}, 2),
        ({"OTEL_BRIEFING_ENV": "production"}, 60),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,deployment.environment.name=production"}, 60),
        ({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=%70roduction"}, 60),
        ({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=../x"}, 2),
        ({"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=elsewhere"}, 2),
        (
            {
                "OTEL_BRIEFING_ENV": "elsewhere",
                "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=production",
            },
            2,
        ),
    ],
)
def test_which_overlay_is_read(variables, interval, write, monkeypatch):
    """The overlay is that of OTEL_BRIEFING_ENV, else of the resource attribute, when it exists."""
    path = write("briefing: {update_interval: 2}")
    write("briefing: {update_interval: 60}", "app.production.yaml")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert interval == EnhancedLoggingConfig.from_file(path).briefing_update_interval


def test_the_overlay_may_stand_without_a_base(write, tmp_path, monkeypatch):
    """One file per environment and no base is a complete configuration."""
    write("performance: {memory_threshold_mb: 200}", "app.development.yaml")
    monkeypatch.setenv("OTEL_BRIEFING_ENV", "development")
    assert EnhancedLoggingConfig.from_file(tmp_path / "app.yaml").memory_threshold_mb == 200


def test_an_environment_name_cannot_leave_the_folder(write, monkeypatch):
    """A name that is no file name's part is refused, with what is allowed."""
    monkeypatch.setenv("OTEL_BRIEFING_ENV", "../../etc/x")
    with pytest.raises(ConfigError, match=r"OTEL_BRIEFING_ENV: found .* allowed: letters"):
        EnhancedLoggingConfig.from_file(write("language: en"))


def test_the_environment_names_the_file(write, monkeypatch):
    """`OTEL_BRIEFING_CONFIG_FILE` is read by `from_environment`, keywords above it."""
    monkeypatch.setenv("OTEL_BRIEFING_CONFIG_FILE", str(write("language: ko\nstate_dir: /a")))
    config = EnhancedLoggingConfig.from_environment(state_dir=Path("/b"))
    assert (config.language, config.state_dir) == ("ko", "/b")


@pytest.mark.parametrize("word", ["true", "True", "1", "yes", "on", " TRUE "])
def test_words_for_true(word, monkeypatch):
    """An environment variable may say true in four words, in any case."""
    monkeypatch.setenv("OTEL_BRIEFING_ENABLED", word)
    assert EnhancedLoggingConfig().enabled is True


def test_an_empty_variable_is_an_unset_one(monkeypatch):
    """As the OpenTelemetry specification has it."""
    monkeypatch.setenv("OTEL_BRIEFING_MAX_ISSUES", " ")
    assert EnhancedLoggingConfig().source_of("max_issues") == "default"


@pytest.mark.parametrize(
    ("given", "taken"),
    [("trace", "TRACE"), ("Warning", "WARN"), ("CRITICAL", "FATAL"), ("error", "ERROR")],
)
def test_severities_are_normalised(given, taken):
    """A severity may be spelt as in logging; it comes out as in OpenTelemetry."""
    assert taken == EnhancedLoggingConfig(analysis_min_severity=given).analysis_min_severity


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enabled", 1),
        ("enabled", "false"),
        ("state_dir", ""),
        ("state_dir", "a\0b"),
        ("state_dir", 7),
        ("language", "fr"),
        ("language", None),
        ("briefing_update_interval", 0),
        ("briefing_update_interval", True),
        ("briefing_update_interval", "15"),
        ("briefing_debounce_s", -0.1),
        ("briefing_max_tokens", 99),
        ("briefing_max_tokens", 2000.5),
        ("analysis_min_severity", "LOUD"),
        ("analysis_queue_size", 63),
        ("max_issues", 100_001),
        ("pattern_packs", 3),
        ("pattern_packs", ["a.yaml", 3]),
        ("alert_urls", ["https://a", 3]),
        ("alert_urls", ["no address"]),
        ("alert_cooldown_s", -1),
        ("memory_threshold_mb", float("nan")),
        ("memory_threshold_mb", float("inf")),
        ("spool_fsync_ms", -2),
        ("spool_max_mb", {"mb": "x" * 10_000}),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(name, value):
    """The error names the option, what was found and what is allowed; nothing changes."""
    message = rf"{name}: found .*; allowed: \w"
    with pytest.raises(ConfigError, match=message) as refusal:
        EnhancedLoggingConfig(**{name: value})
    assert len(str(refusal.value)) < 400
    config = EnhancedLoggingConfig()
    with pytest.raises(ConfigError, match=message):
        setattr(config, name, value)
    assert OPTIONS[name].default == getattr(config, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("enabled", "maybe"),
        ("briefing_max_tokens", "2000.5"),
        ("briefing_update_interval", "ten"),
        ("briefing_update_interval", "inf"),
        ("analysis_min_severity", "LOUD"),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused(name, text, monkeypatch):
    """The message names the variable, its text and what is allowed."""
    variable = f"OTEL_BRIEFING_{name.upper()}"
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError, match=rf"environment: {variable}: found '{text}'.*; allowed: "):
        EnhancedLoggingConfig.from_environment()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("briefing:\n  update_intervl: 3", 2, "nearest known key: briefing.update_interval;"),
        ("breifing:\n  enabled: true", 1, "nearest known key: briefing;"),
        ("lnguage: en", 1, "nearest known key: language; known: alerts, analysis, briefing,"),
        ("zzzzqq: 1", 1, "unknown key 'zzzzqq'; known: alerts, analysis, briefing,"),
        ("foo: {memory_threshold_mb: 1}", 1, "unknown key 'foo'"),
        ("\n\nlanguage: fr", 3, "language: found 'fr' (text); allowed: en, ko"),
        ("language: no", 1, "language: found False (true or false); allowed: en, ko"),
        ("briefing:\n  enabled:", 2, "briefing.enabled: found nothing; allowed: true or false"),
        ("spool: [1, x]", 1, "spool: found a list of 2; allowed: the keys of"),
        ("- 1", 1, "the whole file: found a list of 1"),
        ("language: {a: b}", 1, "language: found a mapping; allowed: en, ko"),
        ("language: &a [*a]", 1, "not YAML: found unconstructable recursive node"),
        ("briefing: *a", 1, "not YAML: found undefined alias"),
        ("language: en\nlanguage: ko", 2, "found a second value, the first is at"),
        (
            "briefing: {enabled: true}\nbriefing_enabled: true",
            2,
            "briefing_enabled: found a second",
        ),
        ("a: b: c", 1, "not YAML: mapping values are not allowed here"),
        ("language: en\n---\nlanguage: ko", 2, "not YAML: but found another document"),
        ("language: !!python/object:os.system x", 1, "not YAML: could not determine a constructor"),
        ("language: 2026-13-45", 1, "not YAML: month must be in 1..12"),
        ("? [a]\n: 1", 1, "unknown key '?'"),
    ],
)
def test_a_bad_file_is_refused_by_file_line_and_key(text, line, said, write):
    """The message opens with file and line, then says what was found and what is allowed."""
    path = write(text)
    with pytest.raises(ConfigError) as refusal:
        EnhancedLoggingConfig.from_file(path)
    assert str(refusal.value).startswith(f"{path}:{line}: ")
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"language: '\xff'", "not UTF-8"),
        (b"language: '\x01'", "not YAML: unacceptable character"),
        (b"[" * 20_000, "not YAML"),
        (b"#" * 1_100_000, "more than 1048576 bytes"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_none_is_refused(content, said, tmp_path):
    """Whatever the bytes, the error is a ConfigError that names the file."""
    path = tmp_path / "app.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as refusal:
        EnhancedLoggingConfig.from_file(path)
    assert str(path) in str(refusal.value)


@given(
    text=st.text()
    | st.lists(
        st.sampled_from([*"[]{}:,&*!?|>-#'\"% \n\t", "\n  ", "briefing", "enabled", "1"])
    ).map("".join)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_a_configuration_or_a_config_error(text, tmp_path):
    """Nothing but ConfigError comes out, whatever stands in the file."""
    path = tmp_path / "app.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        config = EnhancedLoggingConfig.from_file(path)
    except ConfigError:
        return
    assert set(config.as_dict()) == set(TABLE)


def test_a_value_that_grows_without_end_is_refused_at_once(write):
    """Aliases of aliases (ten to the thirtieth items) are described by their outermost list."""
    levels = "".join(f"x{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
    with pytest.raises(ConfigError, match="language: found a list of 10; allowed: en, ko"):
        EnhancedLoggingConfig.from_file(write(f"x0: &a0 [1]\n{levels}language: *a29"))


def test_all_problems_of_a_file_are_named_at_once(write):
    """Who mends a file need not run it once per mistake."""
    path = write("language: fr\nenabled: 3\nnonsense: 1\n")
    with pytest.raises(ConfigError) as refusal:
        EnhancedLoggingConfig.from_file(path)
    starts = [line.split(": ")[0] for line in str(refusal.value).splitlines()]
    assert [f"{path}:1", f"{path}:2", f"{path}:3"] == starts


def test_an_unknown_attribute_is_refused_with_the_nearest():
    """A slip in a name is an error, by keyword and by assignment."""
    with pytest.raises(ConfigError, match="nearest known option: briefing_update_interval"):
        EnhancedLoggingConfig(briefing_update_intervall=1)
    with pytest.raises(ConfigError, match="nearest known option: memory_threshold_mb"):
        EnhancedLoggingConfig().memory_treshold_mb = 1
    with pytest.raises(ConfigError, match="unknown option"):
        EnhancedLoggingConfig().source_of("nothing")


def test_an_unread_variable_is_mentioned_and_does_no_harm(monkeypatch):
    """A variable with our prefix that nothing reads is named, with the nearest that is read."""
    monkeypatch.setenv("OTEL_BRIEFING_LANGAGE", "ko")
    monkeypatch.setenv("OTEL_BRIEFING_ENV", "x")
    assert EnhancedLoggingConfig().language == "en"
    (warning,) = environment_warnings()
    assert warning.startswith("environment: OTEL_BRIEFING_LANGAGE is not read by anything")
    assert warning.endswith("nearest known: OTEL_BRIEFING_LANGUAGE")


def test_assignment_takes_effect_and_tells_the_subscribers():
    """A live change is seen by reading, by source, and by whoever subscribed; once, and if any."""
    config = EnhancedLoggingConfig()
    told = []
    stop = config.subscribe(lambda names: told.append((names, config.briefing_update_interval)))
    config.briefing_update_interval = 15
    config.briefing_update_interval = 15
    assert config.briefing_update_interval == 15
    assert config.source_of("briefing_update_interval") == "assigned"
    assert told == [(frozenset({"briefing_update_interval"}), 15)]
    stop()
    stop()
    config.briefing_update_interval = 16
    assert len(told) == 1


def test_several_are_assigned_all_or_none():
    """One bad value among several changes nothing and tells nobody."""
    config = EnhancedLoggingConfig()
    told = []
    config.subscribe(told.append)
    with pytest.raises(ConfigError):
        config.assign(language="ko", max_issues=1)
    assert (config.language, told) == ("en", [])
    assert frozenset({"language", "max_issues"}) == config.assign(language="ko", max_issues=11)
    assert told == [frozenset({"language", "max_issues"})]


def test_a_subscriber_that_fails_stops_nothing(caplog):
    """An assignment in the app never raises for a subscriber's sake; the others hear of it."""
    config = EnhancedLoggingConfig()
    told = []
    config.subscribe(lambda _: 1 / 0)
    config.subscribe(told.append)
    config.max_issues = 11
    assert told == [frozenset({"max_issues"})]
    assert "ZeroDivisionError" in caplog.text


def test_a_subscriber_may_assign():
    """A subscriber that assigns in turn does not deadlock."""
    config = EnhancedLoggingConfig()

    def follow(names):
        if "language" in names:
            config.max_issues = 11

    config.subscribe(follow)
    config.language = "ko"
    assert config.max_issues == 11


def test_an_assignment_can_be_taken_back(monkeypatch):
    """Deleting the attribute lets the environment count again."""
    monkeypatch.setenv("OTEL_BRIEFING_MAX_ISSUES", "77")
    config = EnhancedLoggingConfig(max_issues=11)
    del config.max_issues
    assert (config.max_issues, config.source_of("max_issues")) == (
        77,
        "environment OTEL_BRIEFING_MAX_ISSUES",
    )


def test_assigning_from_many_threads_ends_in_one_state():
    """Every thread's own option holds its last value, and each change is told."""
    config = EnhancedLoggingConfig()
    names = ["max_issues", "analysis_queue_size", "briefing_max_tokens", "briefing_max_issues"]
    told = []
    config.subscribe(told.extend)
    threads = [
        threading.Thread(target=lambda n=n: [setattr(config, n, v) for v in range(100, 200)])
        for n in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [getattr(config, name) for name in names] == [199] * 4
    assert dict.fromkeys(names, 100) == {name: told.count(name) for name in names}


def test_repr_shows_what_was_set():
    """A config in a log names only what is not default."""
    assert repr(EnhancedLoggingConfig(max_issues=11)) == "EnhancedLoggingConfig(max_issues=11)"


def test_the_manager_applies_what_changed(write):
    """After a reload the same object has the new values; what was assigned has stayed."""
    path = write("language: en\nbriefing: {max_tokens: 300}")
    manager = ConfigurationManager(path)
    config = manager.config
    told = []
    config.subscribe(told.append)
    config.max_issues = 11
    write("language: ko\nanalysis: {max_issues: 99}")
    assert manager.reload() is True
    assert manager.config is config
    assert (config.language, config.max_issues, config.briefing_max_tokens) == ("ko", 11, 2000)
    assert told == [frozenset({"max_issues"}), frozenset({"language", "briefing_max_tokens"})]
    assert manager.last_error is None


def test_the_manager_keeps_the_last_good_configuration(write):
    """A bad file changes nothing and its fault is kept; a mended one clears it."""
    path = write("language: ko")
    manager = ConfigurationManager(path)
    manager.load()
    write("language: fr\nbriefing: {max_tokens: 300}")
    assert manager.reload() is False
    assert (manager.config.language, manager.config.briefing_max_tokens) == ("ko", 2000)
    assert f"{path}:1: language: found 'fr'" in str(manager.last_error)
    write("language: en")
    assert manager.reload() is True
    assert (manager.config.language, manager.last_error) == ("en", None)


def test_the_manager_refuses_a_first_file_that_is_bad(write):
    """With no good configuration to keep, loading raises."""
    manager = ConfigurationManager(write("language: fr"))
    with pytest.raises(ConfigError):
        manager.load()
    assert manager.reload() is False
    assert "found 'fr'" in str(manager.last_error)


def test_check_file_lists_every_option(write, monkeypatch):
    """Key, value and source of each option, as they would be with this file."""
    path = write("briefing: {max_tokens: 300}")
    monkeypatch.setenv("OTEL_BRIEFING_LANGUAGE", "ko")
    rows = {key: (value, source) for key, value, source in check_file(path)}
    assert [key for key, _ in TABLE.values()] == list(rows)
    assert rows["briefing.max_tokens"] == (300, f"{path}:1")
    assert rows["language"] == ("ko", "environment OTEL_BRIEFING_LANGUAGE")
    assert rows["enabled"] == (True, "default")


def test_the_variables_module_names_every_variable():
    """What `opentelemetry-instrument` makes flags of is the option table, file and environment."""
    named = {n: v for n, v in vars(environment_variables).items() if n.startswith("OTEL_")}
    expected = {option.variable for option in OPTIONS.values()}
    expected |= {"OTEL_BRIEFING_CONFIG_FILE", "OTEL_BRIEFING_ENV"}
    assert {name: name for name in expected} == named


def test_importing_the_configuration_loads_nothing_heavy():
    """Neither YAML nor difflib nor any other room of ours is loaded before it is needed."""
    program = (
        "import sys, otel_briefing.config as c; c.EnhancedLoggingConfig.from_environment();"
        "print(*[m for m in sys.modules if m.startswith(('yaml', 'difflib', 'otel_briefing'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert {
        "otel_briefing",
        "otel_briefing.version",
        "otel_briefing.config",
        "otel_briefing._config_options",
        "otel_briefing.arguments",
        "otel_briefing._config_watch",
        "otel_briefing.exceptions",
        "otel_briefing.language",
    } == set(done.stdout.split())


DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def watched(tmp_path):
    """A manager that looks when the test says so, its file, and a look that finds a still file."""
    file = tmp_path / "app.yaml"
    file.write_text("max_issues: 20\n")
    manager = ConfigurationManager(file, watch=False)
    watch = ConfigWatch(manager.config)

    def settle():
        watch.look()
        return watch.look()

    settle()
    return manager.config, file, watch, settle


def test_a_change_of_the_file_is_applied(watched):
    """At the second look that finds the same; not again after that."""
    config, file, watch, _ = watched
    file.write_text("max_issues: 30\n")
    assert watch.look() is False
    assert config.max_issues == 20
    assert watch.look() is True
    assert config.max_issues == 30
    assert watch.look() is False


def test_a_file_that_was_renamed_into_place_is_seen(watched):
    """As editors save: of the same size, and with the time of the one before."""
    config, file, _, settle = watched
    before = file.stat()
    new = file.with_name("app.yaml~")
    new.write_text("max_issues: 30\n")
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.replace(file)
    assert settle()
    assert config.max_issues == 30


def test_a_link_that_is_turned_is_seen(tmp_path):
    """As Kubernetes mounts a ConfigMap: the file is a link, through a folder that is one."""
    for name, count in (("v1", 20), ("v2", 30)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.yaml").write_text(f"max_issues: {count}\n")
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "app.yaml").symlink_to("..data/app.yaml")
    config = EnhancedLoggingConfig.from_file(tmp_path / "app.yaml")
    watch = ConfigWatch(config)
    watch.look()
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    watch.look()
    assert watch.look()
    assert config.max_issues == 30


def test_an_overlay_may_come_and_go(tmp_path, monkeypatch):
    """It is looked at by its name, whether or not it exists."""
    monkeypatch.setenv("OTEL_BRIEFING_ENV", "test")
    file, overlay = tmp_path / "app.yaml", tmp_path / "app.test.yaml"
    file.write_text("max_issues: 20\n")
    config = EnhancedLoggingConfig.from_file(file)
    watch = ConfigWatch(config)
    seen = []
    for change in (lambda: overlay.write_text("max_issues: 30\n"), overlay.unlink):
        change()
        watch.look()
        watch.look()
        seen.append(config.max_issues)
    assert seen == [30, 20]


def test_a_file_that_goes_bad_changes_nothing_and_is_said_once(watched, caplog):
    """The last good one stays; when the file is mended it counts again."""
    config, file, watch, settle = watched
    for text in ("max_issues: many\n", "max_issues: [\n", "max_issue: 5\n"):
        file.write_text(text)
        assert not settle()
        assert not settle()
        assert str(watch.last_error).startswith(str(file))
        assert config.max_issues == 20
    said = [each.getMessage() for each in caplog.records]
    assert (len(said), len(set(said))) == (3, 3)
    file.unlink()
    assert not settle()
    assert "no such file" in str(watch.last_error)
    file.write_text("max_issues: 40\n")
    assert settle()
    assert (config.max_issues, watch.last_error) == (40, None)


def test_what_was_assigned_survives_a_change_of_the_file(watched):
    """Only what the file sets is read anew."""
    config, file, _, settle = watched
    config.language = "ko"
    file.write_text("language: en\nmax_issues: 30\n")
    assert settle()
    assert (config.language, config.max_issues) == ("ko", 30)


def test_the_manager_watches_by_itself(tmp_path):
    """From the first use on, until it is closed; its thread ends when nobody has the config."""
    file = tmp_path / "app.yaml"
    file.write_text("max_issues: 20\n")
    manager = ConfigurationManager(file)
    assert not manager.is_watching
    changed = threading.Event()
    manager.config.subscribe(lambda _: changed.set())
    assert manager.is_watching
    file.write_text("max_issues: 30\n")
    assert changed.wait(20)
    assert manager.config.max_issues == 30
    manager.close()
    manager.close()
    assert not manager.is_watching


def test_a_configuration_may_follow_another():
    """It becomes what the other is; what is assigned to it holds until that value changes there."""
    leader, other = EnhancedLoggingConfig(max_issues=20), EnhancedLoggingConfig(max_issues=50)
    follower = EnhancedLoggingConfig(language="ko")
    told = []
    follower.subscribe(told.append)
    follower.follow(leader)
    assert (follower.language, follower.max_issues) == ("en", 20)
    follower.language = "ko"
    leader.max_issues = 30
    assert (follower.language, follower.max_issues) == ("ko", 30)
    follower.follow(other)
    leader.max_issues = 40
    assert follower.max_issues == 50
    other.follow(follower)
    other.max_issues = 60
    assert follower.max_issues == 60
    assert told[0] == {"language", "max_issues"}


@pytest.mark.parametrize("path", [None, 3, "", b"app.yaml", ["app.yaml"], "a\0b"])
def test_a_path_that_is_none_is_refused(path):
    """Whoever is asked to read it."""
    for read in (ConfigurationManager, EnhancedLoggingConfig.from_file):
        with pytest.raises(ConfigError, match="allowed: the path of a YAML file"):
            read(path)


def test_watch_is_true_or_false(tmp_path):
    """And nothing else."""
    with pytest.raises(ConfigError, match="allowed: true or false"):
        ConfigurationManager(tmp_path / "app.yaml", watch="yes")


@pytest.mark.parametrize(
    "levels",
    ["app", ["app"], {"app": "LOUD"}, {"app": None}, {"": "DEBUG"}, {3: "DEBUG"}, {"app": 15}],
)
def test_levels_that_cannot_be_used_are_refused(levels):
    """With what is allowed."""
    with pytest.raises(ConfigError, match=r"logging_levels: found .*allowed: logger names"):
        EnhancedLoggingConfig(logging_levels=levels)


def test_levels_cannot_be_changed_in_place():
    """That would pass every check, and nobody would hear of it."""
    config = EnhancedLoggingConfig(logging_levels={"app": 10})
    with pytest.raises(TypeError):
        config.logging_levels["app"] = "LOUD"
    assert config.as_dict()["logging_levels"] == {"app": "DEBUG"}


def test_the_shipped_schema_is_the_one_of_the_code():
    """`python -m otel_briefing._config_schema` writes it."""
    assert as_text() == FILE.read_text(encoding="utf-8")


def test_the_schema_takes_and_refuses_what_the_code_does():
    """For each option by its key: every value that is given here, as the file would have it."""
    check = jsonschema.Draft202012Validator(schema())
    check.check_schema(schema())
    values = [None, True, 0, 1, -1, 15, 1e9, 0.25, "en", "DEBUG", "/srv", "", [], ["a"], {},
              {"app": "DEBUG"}, {"app": "LOUD"}, {"app": 10}]  # fmt: skip
    for option in OPTIONS.values():
        for value in values:
            section, _, key = option.key.rpartition(".")
            document = {section: {key: value}} if section else {key: value}
            try:
                option.check(value, "here")
                taken = True
            except ConfigError:
                taken = False
            assert check.is_valid(document) == taken, (option.key, value)
    assert not check.is_valid({"briefing": {"interval": 3}})
    assert check.is_valid({"briefing": None})


def test_the_document_lists_every_option_as_it_is():
    """Name, key, variable, default, unit, what is allowed, meaning."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DOCS / "configuration.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    words = {"True": "true", "False": "false", "None": "unset", "()": "none", "{}": "none"}
    expected = []
    for option in OPTIONS.values():
        default = option.default
        text = str(dict(default) if isinstance(default, Mapping) else default)
        names = [f"`{each}`" for each in (option.name, option.key, option.variable)]
        expected.append(
            [*names, words.get(text, text), option.unit or "-", option.allowed, option.doc]
        )
    assert expected == rows
