# SPDX-License-Identifier: Apache-2.0
"""The page has one owner: the first living process; a dead one's page is taken over."""

import json
import subprocess
import sys
import threading

import psutil

from otel_briefing.state.owner import FILE, PageOwner, is_alive


def me():
    process = psutil.Process()
    return process.pid, process.create_time()


def test_the_first_living_process_keeps_the_page(tmp_path):
    """Another one is told who has it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        create_time = psutil.Process(other.pid).create_time()
        assert PageOwner(tmp_path, other.pid, create_time).claim()
        mine = PageOwner(tmp_path, *me())
        assert not mine.claim()
        assert mine.other == {"pid": other.pid, "create_time": create_time}
        other.communicate(b"\n")
    assert mine.claim()
    assert mine.other is None


def test_a_reused_pid_is_not_the_owner(tmp_path):
    """The time of its start tells one process from the next with its number."""
    pid, create_time = me()
    (tmp_path / FILE).write_text(json.dumps({"pid": pid, "create_time": create_time - 1000}))
    assert not is_alive(pid, create_time - 1000)
    assert PageOwner(tmp_path, pid, create_time).claim()


def test_a_torn_claim_is_nobodys(tmp_path):
    """A crash while writing must not lock everybody out."""
    (tmp_path / FILE).write_text('{"pid": 1')
    assert PageOwner(tmp_path, *me()).claim()


def test_only_one_of_many_gets_it(tmp_path):
    """Claimed at the same moment from many sides."""
    pid, create_time = me()
    start = threading.Barrier(8)
    won = []

    def claim(number):
        # Distinct start times within the clock's granularity: all alive, all different.
        owner = PageOwner(tmp_path, pid, create_time + number / 100)
        start.wait()
        if owner.claim():
            won.append(number)

    threads = [threading.Thread(target=claim, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_released_is_free(tmp_path):
    """After the end of the owner nobody has it; releasing another's claim does nothing."""
    mine = PageOwner(tmp_path, *me())
    assert mine.claim()
    PageOwner(tmp_path, 1, 1.0).release()
    assert (tmp_path / FILE).exists()
    mine.release()
    assert not (tmp_path / FILE).exists()
