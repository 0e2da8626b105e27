-- SPDX-License-Identifier: Apache-2.0
-- The hub: what the processes of one state directory know together. Version 1.
-- `rev` numbers transactions: a reader asks for what is newer than what it has.

CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('rev', 0), ('issues dropped', 0), ('operations dropped', 0);

-- One row for the process that renders the page and decides; see lease.py.
CREATE TABLE lease (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    holder INTEGER NOT NULL,
    token INTEGER NOT NULL,
    until_ns INTEGER NOT NULL
);

-- A run of a program: from its first process to the end of its last. Facts are JSON, see codec.py.
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    pid INTEGER NOT NULL,
    command TEXT NOT NULL,
    started_ns INTEGER NOT NULL,
    circumstances TEXT NOT NULL DEFAULT '{}',
    failures INTEGER NOT NULL DEFAULT 0,
    traffic INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE processes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    family TEXT NOT NULL,
    pid INTEGER NOT NULL,
    parent_pid INTEGER NOT NULL,
    create_time REAL NOT NULL,
    service TEXT NOT NULL,
    beat_ns INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL DEFAULT 0,
    process TEXT NOT NULL,
    facts TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX processes_by_run ON processes (run);

CREATE TABLE issues (
    fingerprint TEXT PRIMARY KEY,
    rev INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    count INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    tally TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX issues_by_rev ON issues (rev);

CREATE TABLE operations (
    run INTEGER NOT NULL,
    service TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    rev INTEGER NOT NULL,
    tally TEXT NOT NULL,
    PRIMARY KEY (run, service, kind, name)
) WITHOUT ROWID;
CREATE INDEX operations_by_rev ON operations (rev);

-- Failures by the part of a trace that one process saw, until it is known what they belong to.
CREATE TABLE failures (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    trace TEXT NOT NULL,
    entry TEXT NOT NULL,
    parent TEXT NOT NULL,
    issue TEXT NOT NULL,
    service TEXT NOT NULL,
    at_ns INTEGER NOT NULL,
    told TEXT NOT NULL,
    judged INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX failures_by_parent ON failures (parent);
CREATE INDEX failures_to_judge ON failures (judged, id);
CREATE TABLE calls (span TEXT NOT NULL, failure INTEGER NOT NULL);
CREATE INDEX calls_by_failure ON calls (failure);

-- What was found out of them: amounts that add up.
CREATE TABLE links (
    symptom TEXT NOT NULL,
    cause TEXT NOT NULL,
    linked INTEGER NOT NULL,
    same INTEGER NOT NULL,
    PRIMARY KEY (symptom, cause)
) WITHOUT ROWID;
CREATE TABLE traced (symptom TEXT PRIMARY KEY, traces INTEGER NOT NULL) WITHOUT ROWID;
