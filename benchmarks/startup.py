"""How long commands take before they do anything, and which heavy libraries they load.

    python benchmarks/startup.py [--repeats 5]

Each command runs in a process of its own, in turn, `repeats` times; the table shows the fastest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

HEAVY = ("torch", "torchvision", "ray", "optuna", "albumentations", "cv2", "scipy", "pandas", "matplotlib", "wandb")
COMMANDS = {
    "python -c pass": "pass",
    "import torch": "import torch",
    "sweep.run --help": "from sweep.run import main; main(['--help'])",
    "sweep.run --show": "from sweep.run import main; main(['--space', 'lr', '--show'])",
    "analysis.report --help": "from analysis.report import main; main(['--help'])",
    "trainables.data.check --help": "from trainables.data.check import main; main(['--help'])",
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
    repeats = flags.parse_args().repeats
    seconds: dict[str, float] = {}
    loaded: dict[str, str] = {}
    for _ in range(repeats):
        for name, code in COMMANDS.items():
            started = time.perf_counter()
            program = _TELL.format(code=code, heavy=HEAVY)
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
            seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - started)
            loaded[name] = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    print(f"{'command':<30} {'seconds':>8} {'of import torch':>16}  loads")
    for name, best in seconds.items():
        print(f"{name:<30} {best:8.2f} {best / seconds['import torch']:16.2f}  {loaded[name] or '-'}")


if __name__ == "__main__":
    main()
