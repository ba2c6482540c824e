"""Functions that run in a copy of the process: their results, their errors, and what they load."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from trainables.errors import UnknownNameError, WeightsError
from trainables.forked import Forked
from trainables.paths import UnsafePathError

def answers():
    import colorsys
    print("what the copy prints is not heard")
    return ["it", os.getpid()]

def raises(error):
    raise error

with Forked(answers) as job:
    it, process = job.result()
assert it == "it" and process != os.getpid() and "colorsys" not in sys.modules
unknown = UnknownNameError("loss", "dize", ["dice"])
for error in (unknown, WeightsError("gone"), UnsafePathError("x/../y"), ValueError("v")):
    try:
        with Forked(lambda: raises(error)) as job:
            job.result()
    except Exception as told:
        print(type(told).__name__, str(told).splitlines()[-1])
try:
    with Forked(lambda: os.kill(os.getpid(), signal.SIGKILL)) as job:
        job.result()
except RuntimeError as told:
    print(told)
with Forked(signal.pause) as job:
    pass
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no process is left")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
def test_copy_answers_raises_dies_and_is_ended() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [
        "UnknownNameError unknown loss 'dize'; did you mean dice?",
        "WeightsError gone",
        "DataError x/../y",
        "RuntimeError ValueError: v",
        "a copy of this process ended with -9 (killed for memory?)",
        "no process is left",
    ], done.stderr
