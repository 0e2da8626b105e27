# SPDX-License-Identifier: Apache-2.0
"""Customers: threads that each do one thing in the shop over and over, thinking in between."""

import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

PATIENCE_S = 15.0
CATEGORIES = ("garden", "kitchen", "office", "sports")


@dataclass(frozen=True)
class Habit:
    """What one kind of customer does, how many of them there are, and how long they think."""

    name: str
    customers: int
    think_s: float


HABITS = (
    Habit("browse", 4, 0.30),
    Habit("category", 2, 0.40),
    Habit("quote", 8, 0.80),
    Habit("order", 6, 0.80),
    Habit("statement", 3, 0.50),
    Habit("health", 1, 0.50),
)


def request_for(habit: str, rng: random.Random) -> tuple[str, str, dict[str, Any] | None]:
    """Return method, path and JSON body of the next request."""
    sku = f"SKU-{rng.randrange(200):04d}"
    bestseller = f"SKU-{rng.randrange(30):04d}"
    customer = rng.randrange(1, 2_201)
    if habit == "order":
        body = {"customer_id": customer, "sku": sku, "quantity": rng.randint(1, 12)}
        return "POST", "/orders", body
    paths = {
        "browse": f"/products/{bestseller}",
        "category": f"/categories/{rng.choice(CATEGORIES)}",
        "quote": f"/products/{sku}/quote?quantity={rng.randint(1, 12)}",
        "statement": f"/customers/{customer}/statement",
        "health": "/healthz",
    }
    return "GET", paths[habit], None


class Traffic:
    """Some forty requests a second from customers who wait for each answer.

    Because they wait, a slow shop gets fewer requests, not ever more of them.
    """

    def __init__(self, port: int) -> None:
        """Prepare the customers; `start` lets them in."""
        self.answers: Counter[str] = Counter()
        self._port = port
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._threads = list(self._customers())

    def _customers(self) -> Iterator[threading.Thread]:
        seeds = itertools.count()
        for habit in HABITS:
            for _ in range(habit.customers):
                rng = random.Random(next(seeds))
                yield threading.Thread(target=self._shop, args=(habit, rng), daemon=True)

    def start(self) -> None:
        """Let the customers in."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send the customers home; whoever still waits for an answer is not waited for."""
        self._closed.set()

    def summary(self) -> str:
        """Say how many requests were answered with which status."""
        with self._lock:
            return ", ".join(f"{count} x {status}" for status, count in self.answers.most_common())

    def _shop(self, habit: Habit, rng: random.Random) -> None:
        with closing(HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)) as connection:
            while not self._closed.wait(rng.uniform(0.5, 1.5) * habit.think_s):
                answer = ask(connection, *request_for(habit.name, rng))
                with self._lock:
                    self.answers[answer] += 1


def ask(connection: HTTPConnection, method: str, path: str, body: dict[str, Any] | None) -> str:
    """Send one request; return the status of the answer, or that there was none."""
    try:
        payload = None if body is None else json.dumps(body)
        connection.request(method, path, payload, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            response.read()
            return str(response.status)
    except (OSError, HTTPException):
        connection.close()
        return "no answer"
