# SPDX-License-Identifier: Apache-2.0
"""What the rows of the fault bench share: choices, and records of which the number says all."""

from __future__ import annotations

from collections import Counter

PROTOCOLS = ("http", "grpc")
TIMEOUTS_MS = (0, 20, 100, 400, 1_000)  # of force_flush
LEVELS = ("ERROR", "WARN", "INFO")
_OF_DIGIT = {3: "ERROR", 5: "WARN", 7: "WARN"}
PER_PROGRAM = 10_000_000  # each program of a row counts from a multiple of this


def level_of(number):
    return _OF_DIGIT.get(number % 10, "INFO")


def is_poison(number, every):
    return bool(every) and number % every == every // 2


def body_of(number, poison_every=0):
    word = "poison" if is_poison(number, poison_every) else "order"
    return f"{number} {word} accepted at the counter of the shop in Berlin"


def number_of(body):
    return int(body.partition(" ")[0])


def by_level(numbers):
    return Counter(level_of(number) for number in numbers)
