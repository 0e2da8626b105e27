# SPDX-License-Identifier: Apache-2.0
"""Where memory ends: control groups of both versions, as real files."""

import gc
import os
import subprocess
import sys

import pytest

from otel_briefing.performance.memory_limit import control_group_limit, nearest_limit
from otel_briefing.performance.memory_sampler import full_collections, memory_use

MB = 1_000_000


def version_2(folder, limit, used, inactive=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def version_1(folder, limit, used, inactive=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {inactive}\n")


def limit_of(tmp_path, membership):
    file = tmp_path / "cgroup"
    file.write_text(membership)
    return control_group_limit(tmp_path / "fs", file)


def test_version_2_and_page_cache_that_can_go(tmp_path):
    version_2(tmp_path / "fs/app.slice", 512 * MB, 300 * MB, 40 * MB)
    found = limit_of(tmp_path, "0::/app.slice\n")
    assert (512 * MB, 260 * MB, 252 * MB) == (found.limit, found.used, found.left)


def test_a_group_above_may_be_tighter(tmp_path):
    version_2(tmp_path / "fs/pod/app", "max", 10 * MB)
    version_2(tmp_path / "fs/pod", 256 * MB, 200 * MB)
    assert 256 * MB == limit_of(tmp_path, "0::/pod/app\n").limit


def test_version_1_beside_version_2(tmp_path):
    version_1(tmp_path / "fs/memory/docker/abc", 100 * MB, 90 * MB, 20 * MB)
    version_1(tmp_path / "fs/memory", 9223372036854771712, 5 * MB)
    found = limit_of(tmp_path, "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n")
    assert (100 * MB, 30 * MB) == (found.limit, found.left)


def test_in_a_container_the_path_is_that_of_the_host(tmp_path):
    """The group's own files then stand at the top."""
    version_2(tmp_path / "fs", 64 * MB, 60 * MB)
    assert 4 * MB == limit_of(tmp_path, "0::/kubepods/pod7/0f3\n").left


@pytest.mark.parametrize("membership", ["", "0::/\n", "nonsense", "4:memory:/x\n"])
def test_without_a_limit_there_is_none(tmp_path, membership):
    (tmp_path / "fs").mkdir()
    assert limit_of(tmp_path, membership) is None


def test_a_damaged_file_is_no_limit(tmp_path):
    version_2(tmp_path / "fs", "ü", 5)
    assert limit_of(tmp_path, "0::/\n") is None


@pytest.mark.skipif(control_group_limit() is not None, reason="a limit is set here")
def test_else_the_threshold_counts_until_it_is_passed():
    """Then memory itself is what is left."""
    threshold = nearest_limit(100 * MB, 500)
    assert (500 * MB, 400 * MB) == (threshold.limit, threshold.left)
    machine = nearest_limit(600 * MB, 500)
    assert machine.name == "the machine's memory"
    assert 0 < machine.left < machine.limit


def test_memory_in_use_is_that_of_this_process():
    """Read from the system, and more by what was taken."""
    before = memory_use()
    held = bytearray(b"x") * (64 * MB)
    after = memory_use()
    assert after.anonymous - before.anonymous > 40 * MB  # kernels count a little late
    assert after.resident >= after.anonymous > 0
    assert len(held) == 64 * MB


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_reads_its_own():
    code = (
        "import os\n"
        "from otel_briefing.performance.memory_sampler import memory_use\n"
        "before = memory_use()\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    held = bytearray(b'x') * 64_000_000\n"
        "    os._exit(0 if memory_use().anonymous - before.anonymous > 40_000_000 else 1)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "raise SystemExit(code or int(memory_use().anonymous - before.anonymous > 30_000_000))\n"
    )
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_full_collections_are_counted():
    before = full_collections()
    gc.collect()
    assert before < full_collections()
