"""How long commands take before they do anything, and which heavy libraries they load.

    python benchmarks/startup.py [--repeats 5] [--only TEXT]

Each command runs in a process of its own, in turn, `repeats` times; the table shows the fastest, and the least CPU time
of a command with all processes that it started.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

MEASURE = """
from trainables.config import TrialConfig
from trainables.cost_apart import measure_apart
from trainables.data import DATASETS
from trainables.execution import Execution, TrialData
data = DATASETS.get('scenes')()
config = TrialConfig.from_flat({'image_size': '48x64', 'epochs': 2}).flat()
splits = data.splits()
measure_apart([config], TrialData(data, splits.train, splits.val), Execution(), at_once=PROCESSES)
""".strip().replace("\n", "; ")
HEAVY = ("torch", "torchvision", "ray", "optuna", "albumentations", "cv2", "scipy", "pandas", "matplotlib", "wandb")
COMMANDS = {
    "python -c pass": "pass",
    "import torch": "import torch",
    "sweep.run --help": "from sweep.run import main; main(['--help'])",
    "sweep.run --show": "from sweep.run import main; main(['--space', 'lr', '--show'])",
    "analysis.report --help": "from analysis.report import main; main(['--help'])",
    "trainables.data.check --help": "from trainables.data.check import main; main(['--help'])",
    "measuring a trial, 1 at once": MEASURE.replace("PROCESSES", "1"),
    "measuring a trial, 2 at once": MEASURE.replace("PROCESSES", "2"),
    "measuring a trial, 4 at once": MEASURE.replace("PROCESSES", "4"),
}
_TELL = """
import sys
try:
    {code}
except SystemExit:
    pass
print(*[name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


def main() -> None:
    """Prints the table."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--repeats", type=int, default=5, metavar="N")
    flags.add_argument("--only", default="", metavar="TEXT", help="commands whose name holds it")
    asked = flags.parse_args()
    commands = {name: code for name, code in COMMANDS.items() if asked.only in name or name == "import torch"}
    seconds: dict[str, float] = {}
    cpu: dict[str, float] = {}
    loaded: dict[str, str] = {}
    for _ in range(asked.repeats):
        for name, code in commands.items():
            started, before = time.perf_counter(), sum(os.times()[2:4])
            program = _TELL.format(code=code, heavy=HEAVY)
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - started)
            cpu[name] = min(cpu.get(name, float("inf")), sum(os.times()[2:4]) - before)
            loaded[name] = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    print(f"{'command':<30} {'seconds':>8} {'of import torch':>16} {'CPU, s':>7}  loads")
    for name, best in seconds.items():
        print(f"{name:<30} {best:8.2f} {best / seconds['import torch']:16.2f} {cpu[name]:7.1f}  {loaded[name] or '-'}")


if __name__ == "__main__":
    main()
