"""Costs of trials, measured in processes of their own.

What they take of the memory is given back, and a model that does not fit ends such a process and not the sweep. Where
several measure at once, the first loads torch and the others are its copies.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from trainables import commands, plugins
from trainables.allocator import keep_freed_memory
from trainables.cost import Cost, measure
from trainables.data import DATASETS
from trainables.errors import SegsweepError
from trainables.execution import Execution, TrialData

_PDEATHSIG = 1
"""PR_SET_PDEATHSIG of `prctl(2)`."""
COPIES = sys.platform == "linux"
"""Whether processes are copied once torch is loaded; elsewhere that is not safe, and each loads it."""


def measure_apart(
    configs: Sequence[Mapping[str, Any]],
    data: TrialData,
    execution: Execution,
    *,
    at_once: int = 1,
    root: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> list[Cost]:
    """The cost of each configuration, measured in processes that run at once as the trials of a sweep will.

    Every process measures every configuration, each in another order, so that each is measured beside others; the mean
    of the times and the largest memory count.

    Args:
        configs: Flat configurations.
        data: Of the sweep.
        execution: Of its trials.
        at_once: How many trials run at once.
        root: Where the data set was opened; None for an embedded one.
        progress: Called with how many measurements are done, and of how many.
        meanwhile: Called while the processes load torch; they measure when it has returned.
    """
    if not configs:
        return []
    order = {
        "data": {"name": data.data.name, "root": None if root is None else str(root)},
        "train": data.train,
        "val": data.val,
        "execution": dataclasses.asdict(execution),
    }
    turns = [
        [(place + number * len(configs) // at_once) % len(configs) for place in range(len(configs))]
        for number in range(at_once)
    ]
    found: list[list[Cost]] = [[] for _ in configs]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        groups = [turns] if COPIES else [[turn] for turn in turns]
        helpers = []
        for number, group in enumerate(groups):
            content = {**order, "turns": [[dict(configs[place]) for place in turn] for turn in group]}
            helpers.append(stack.enter_context(_Helper(content, Path(folder), f"{number}")))
        if meanwhile:
            meanwhile()
        for helper in helpers:
            helper.begin()
        done = 0
        for helper, group in zip(helpers, groups, strict=True):
            for number, turn in enumerate(group):
                for place, line in zip(turn, helper.answers[number], strict=False):
                    found[place].append(Cost(**json.loads(line)))
                    done += 1
                    if progress:
                        progress(done, at_once * len(configs))
            for turn, why in zip(group, helper.ends(), strict=True):
                missing = next((place for place in turn if why and not found[place]), None)
                if missing is not None:
                    found[missing].append(Cost(fault=why))
    return [_together(costs) for costs in found]


class _Helper:
    """A process that measures; of several turns each in a copy of it.

    Args:
        order: What `main` reads.
        folder: For its files.
        name: Of these.
    """

    def __init__(self, order: dict[str, Any], folder: Path, name: str) -> None:
        self._errors = [folder / f"{name}-{number}.err" for number in range(len(order["turns"]))]
        pipes = [os.pipe() for _ in order["turns"]]
        ends = [write for _, write in pipes]
        held, gate = os.pipe()
        self._gate: IO[bytes] = os.fdopen(gate, "wb")
        order = {**order, "answers": ends, "errors": [str(path) for path in self._errors], "gate": held}
        path = folder / f"{name}.json"
        path.write_text(json.dumps(order))
        command = commands.subprocess_command("trainables.cost_apart", *plugins.flags())
        try:
            with path.open() as stdin, self._errors[0].open("w") as errors:
                self._process = subprocess.Popen(
                    command, stdin=stdin, stdout=subprocess.PIPE, stderr=errors, text=True, pass_fds=[*ends, held]
                )
        finally:
            for end in (*ends, held):
                os.close(end)
        self.answers: list[IO[str]] = [os.fdopen(read) for read, _ in pipes]

    def begin(self) -> None:
        """Lets it measure, which it does not before."""
        self._gate.close()

    def ends(self) -> list[str]:
        """Why each turn ended before it had measured all; empty where it had not. Waits for all."""
        told = self._process.communicate()[0]
        codes = json.loads(told) if told else [self._process.returncode] * len(self.answers)
        return [_ended(code, path) if code else "" for code, path in zip(codes, self._errors, strict=True)]

    def __enter__(self) -> _Helper:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()  # its copies end with it
        self._process.wait()
        for stream in (*self.answers, self._process.stdout, self._gate):
            if stream is not None:
                stream.close()


def _ended(code: int, errors: Path) -> str:
    told = errors.read_text(errors="replace").strip().splitlines() if errors.is_file() else []
    if code < 0:
        return f"the process that measured it was ended by signal {-code}: most likely it ran out of memory"
    return told[-1] if told else f"the process that measured it ended with exit code {code}"


def _together(costs: Sequence[Cost]) -> Cost:
    if not costs:
        return Cost(fault="not measured: the process that measures ended before its turn")
    faulty = next((cost for cost in costs if cost.fault), None)
    if faulty is not None:
        return faulty

    def mean(name: str) -> float:
        return float(sum(getattr(cost, name) for cost in costs) / len(costs))

    return Cost(
        build_seconds=mean("build_seconds"),
        train_seconds=mean("train_seconds"),
        val_seconds=mean("val_seconds"),
        memory_bytes=max(cost.memory_bytes for cost in costs),
        checkpoint_bytes=costs[0].checkpoint_bytes,
        once_seconds=max(cost.once_seconds for cost in costs),
        device_bytes=min(cost.device_bytes for cost in costs),
    )


def main() -> int:
    """Measures what an order on the standard input asks for; writes a line of JSON per configuration to each pipe.

    Of several turns, prints the exit codes.
    """
    keep_freed_memory()
    plugins.load_given(sys.argv[1:])
    order = json.load(sys.stdin)
    import trainables.loops
    import trainables.trial  # noqa: F401  what measuring needs

    os.read(order["gate"], 1)  # until it is closed
    if len(order["turns"]) == 1:
        _measure_turn(order, 0)
        return 0
    copies = [_copied(order, number) for number in range(len(order["turns"]))]
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]) for copy in copies]))
    return 0


def _copied(order: dict[str, Any], number: int) -> int:
    """Measures a turn in a copy of this process, whose number it returns."""
    parent = os.getpid()
    copy = os.fork()
    if copy:
        os.close(order["answers"][number])
        return copy
    code = 1
    try:
        _end_with(parent)
        with open(order["errors"][number], "a") as errors:
            os.dup2(errors.fileno(), 2)
        for later in order["answers"][number + 1 :]:
            os.close(later)
        _measure_turn(order, number)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _end_with(parent: int) -> None:
    """Has Linux end this process when its parent ends, or at once where it has."""
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _measure_turn(order: dict[str, Any], number: int) -> None:
    data = DATASETS.get(order["data"]["name"])(root=order["data"]["root"] and Path(order["data"]["root"]))
    seen = TrialData(data, tuple(order["train"]), tuple(order["val"]))
    execution = Execution(**order["execution"])
    with os.fdopen(order["answers"][number], "w") as answers:
        for config in order["turns"][number]:
            try:
                cost = measure(config, seen, execution)
            except SegsweepError as error:
                cost = Cost(fault=str(error).splitlines()[0])
            except Exception as error:
                cost = Cost(fault=f"{type(error).__name__}: {error}")
            print(json.dumps(dataclasses.asdict(cost)), file=answers, flush=True)


if __name__ == "__main__":
    sys.exit(main())
