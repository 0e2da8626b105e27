# SPDX-License-Identifier: Apache-2.0
"""Calls `configure()` from several threads at once, and again, and fails once."""

import threading

import fail

import otel_briefing

found = []
start = threading.Barrier(8)


def configure():
    start.wait()
    found.append(otel_briefing.configure())


threads = [threading.Thread(target=configure) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
found.append(otel_briefing.configure(briefing_max_issues=3))
print("one pipeline:", len(set(map(id, found))) == 1 and found[0] is not None)
print("setting applied:", found[0].config.briefing_max_issues == 3)
try:
    otel_briefing.configure(briefing_max_issue=3)
except ValueError as reason:
    print("refused:", reason)
fail.main()
