"""Freed memory: kept by a process that trains, given back when a training is over, and the digits are the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
from trainables.allocator import keep_freed_memory, return_freed_memory

def faults_of(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        np.ones(2**25, np.uint8)  # 32 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)

if "keep" in sys.argv and not keep_freed_memory():
    sys.exit("not glibc")
faults_of(1)
print(faults_of(8))
held = resident()
return_freed_memory()
print(held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="thresholds are glibc's")
def test_freed_memory_is_fetched_once_and_returned_when_asked_for() -> None:
    def measured(*arguments: str) -> list[int]:
        done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True)
        if done.stderr.strip() == "not glibc":
            pytest.skip("not glibc")
        return [int(line) for line in done.stdout.split()]

    (plain, _), (kept, returned) = measured(), measured("keep")
    assert plain > 8 * 4, "each step fetches its block again, in small or huge pages"
    assert kept <= plain // 8
    assert returned >= 2**14, "KiB: most of the block that was kept"
