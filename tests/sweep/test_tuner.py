"""What Ray says about a worker that died, and whose fault that is to the conductor; nothing of Ray runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError
from ray.tune.experiment import Trial

from sweep.tuner import _Callbacks, _Queue
from trainables.machine_faults import memory_kill

UNAVAILABLE = str(ActorUnavailableError("The actor is temporarily unavailable: RpcError: rpc_code: 14", b"1" * 16))
NODE_DIED = "The actor died unexpectedly before finishing this task.\nThe actor died because its node has died."
WORKER_DIED = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
KILLED_FOR_MEMORY = """\
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 639e8f6e) was \
22.47GB used / 23.54GB limit (0.954545)
OOM kill reason: Memory usage 24127154585B exceeded threshold of 24012676915B (95.0% of 25276502016B limit)
Object store memory usage: [- objects spillable: 0
- bytes spillable: 0
(global lru) num evictions: 0
(global lru) bytes evicted: 0]
Ray killed 1 worker(s) based on the killing policy
Considered workers: [
Selected to kill: (Task: job ID=01000000, task name=SegmentationTrainable.__init__, pid=6617, actual memory used=9.08GB)
]
To see more information about memory usage on this node, use `ray logs raylet.out -ip 192.0.2.2`
Top 10 memory users: PID	MEM(GB)	COMMAND
6617	9.08	ray::IDLE
Refer to the documentation on how to address the out of memory issue: https://docs.ray.io/. Consider provisioning more \
memory on this node or reducing task parallelism by requesting more CPUs per task."""
"""Of Ray 2.60, shortened."""


@pytest.mark.parametrize(
    ("text", "here", "on_a_cluster"),
    [
        (WORKER_DIED, "on_worker_death", "on_worker_death"),
        (UNAVAILABLE, "on_worker_death", "on_node_death"),
        (NODE_DIED, "on_machine_fault", "on_node_death"),
        (KILLED_FOR_MEMORY, "on_memory_kill", "on_memory_kill"),
        ("", "on_worker_death", "on_worker_death"),
    ],
)
def test_what_ray_says_of_a_dead_worker_decides_whose_fault_it_was(
    text: str, here: str, on_a_cluster: str, tmp_path: Path
) -> None:
    (tmp_path / "error.txt").write_text(f"Failure # 1 (occurred at 2026-01-01)\n{text}\n")
    trial = SimpleNamespace(config={"trial_id": "t000"}, local_path=tmp_path)
    for cluster, expected in ((None, here), (SimpleNamespace(), on_a_cluster)):
        heard: list[tuple[str, str]] = []
        notices: list[str] = []
        callbacks = _callbacks(heard, notices, cluster)
        callbacks.on_trial_error(1, [], trial)
        assert [kind for kind, _ in heard] == [expected]
        assert "Refer to the documentation" not in heard[0][1]
        assert [one.startswith("t000 was killed because the machine was short of memory") for one in notices] == (
            [True] if expected == "on_memory_kill" else []
        )


def test_of_an_ended_trial_nothing_is_kept_of_what_tune_notes_of_each_metric() -> None:
    """In Tune's own record, which is asked for nothing after that and written into its own files."""
    trial = Trial("unregistered", stub=True)
    trial.run_metadata.update_metric("val/miou", 0.5)
    before = len(trial.run_metadata.get_json_state())
    _callbacks([], [], None).on_trial_complete(1, [trial], trial)
    assert len(trial.run_metadata.get_json_state()) < before and trial.metric_analysis == {}


def _callbacks(heard: list[tuple[str, str]], notices: list[str], cluster: Any) -> _Callbacks:
    """Of a conductor that writes down what it is told."""

    class Conductor:
        halted = ""

        def __getattr__(self, kind: str) -> Any:
            return lambda trial_id, reason: heard.append((kind, reason))

    watch: Any = SimpleNamespace(told=lambda: "")
    conductor: Any = Conductor()
    signals: Any = None
    return _Callbacks(conductor, signals, watch, _Queue(lambda config: 0.0), lambda: None, notices.append, cluster)


def test_kill_of_rays_memory_monitor_is_one_sentence_with_the_cure() -> None:
    cure = "lower --concurrent (in a new sweep batch_size), end other programs, or raise Ray's limit"
    told = "killed because the machine was short of memory: 22.5 of 23.5 GiB were used, and Ray's limit is 95.0%; "
    assert memory_kill(KILLED_FOR_MEMORY).startswith(told + cure)
    first = KILLED_FOR_MEMORY.partition(" Memory on")[0]
    assert memory_kill(first).startswith(f"killed because the machine was short of memory; {cure}"), "told no numbers"
    assert memory_kill("The actor died because its node has died. Node Id: 12") == ""
