"""Ray clusters that were started apart: their nodes need share nothing with the driver's machine, and may die."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep import ray_address
from trainables.errors import SegsweepError

from ..command import REPO, events, run, wait_until
from .cluster import MOUNTS_OF_ITS_OWN, Nodes, free_port, sweep_run, without
from .twin import told

pytestmark = pytest.mark.ray

CODE = ("trainables", "search_spaces", "sweep", "analysis")
CPUS = 3
EPOCHS = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def open_cluster(place: Path) -> Iterator[Nodes]:
    """One node that asks for no token."""
    nodes = Nodes(place / "open", token="")
    nodes.start("head", f"--num-cpus={CPUS}")
    yield nodes
    nodes.close()


def flags(root: Path, runs: Path, name: str, *, trials: int = 1, epochs: int = 1) -> list[str]:
    data = ["--data", "folder", "--data-root", str(root), "--set", "image_size=48x64"]
    budget = ["--trials", str(trials), "--max-epochs", str(epochs), "--confirm", "0", "--scheduler", "none"]
    rest = ["--wandb", "disabled", "--no-report", "--runs-dir", str(runs), "--name", name]
    return ["--space", "lr", "--sampler", "random", *data, *budget, *rest]


def test_sweep_runs_on_the_clusters_resources_and_says_that_it_is_open(
    open_cluster: Nodes, mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("sweep.run", *flags(mini_root, tmp_path, "mine"), "--address", open_cluster.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{CPUS} at once" in " ".join(done.stdout.replace("│", " ").split())
    assert "token authentication is off" in done.stdout
    assert "it asks for a token" not in done.stdout
    manifest = json.loads((tmp_path / "mine" / "manifest.json").read_text())
    assert manifest["resources"]["concurrent"] == CPUS
    refused = run(
        "sweep.run", *flags(mini_root, tmp_path, "gpu"), "--address", open_cluster.address, "--gpus-per-trial", "1"
    )
    assert refused.returncode == 2
    assert "asks for 1 GPUs, the largest node has 0" in refused.stderr
    assert not (tmp_path / "gpu").exists()
    other_version = ray_address._ASK.replace("import ray\n", "import ray\nray.__version__ = '9.0'\n")
    monkeypatch.setattr(ray_address, "_ASK", other_version)
    for address in (open_cluster.address, open_cluster.client):
        with pytest.raises(SegsweepError, match=r"the cluster runs Ray \S+ on Python \S+, here is Ray 9.0"):
            ray_address.ask_cluster(address)


def test_port_of_another_server_is_told_at_once_with_the_address_that_works(open_cluster: Nodes) -> None:
    started = time.monotonic()
    with pytest.raises(SegsweepError, match=r"no Ray Client server.*leave ray:// out"):
        ray_address.ask_cluster(f"ray://{open_cluster.address}")
    with pytest.raises(SegsweepError, match=f"no GCS.*type --address {open_cluster.client}$"):
        ray_address.ask_cluster(open_cluster.client.removeprefix("ray://"))
    assert time.monotonic() - started < 2 * ray_address.ANSWER_SECONDS, "Ray itself tries for 30 s"


@pytest.mark.skipif(not MOUNTS_OF_ITS_OWN, reason="this machine lets no process have mounts of its own (unshare -rm)")
def test_machine_without_a_node_is_told_how_to_join_and_then_drives_a_sweep_by_the_client_address(
    open_cluster: Nodes, mini_root: Path, tmp_path: Path
) -> None:
    elsewhere = without([open_cluster.ray_folder], open_cluster.empty("laptop"))

    def typed() -> tuple[int, str]:
        asked = flags(mini_root, tmp_path / "runs", "mine")
        sweep = sweep_run(*asked, nodes=open_cluster, address=open_cluster.client, before=elsewhere)
        told, _ = sweep.communicate(timeout=400)
        return sweep.returncode, told

    code, told = typed()
    assert code == 2 and not (tmp_path / "runs").exists() and "Traceback" not in told
    assert "this machine runs no node of that cluster" in told and "with --address auto" in told
    port = open_cluster.address.partition(":")[2]
    cure = re.search(rf"\(ray start --address=\S+:{port} ([^)]*)\) and type the command again", told)
    assert cure is not None
    open_cluster.start("laptop", *cure[1].split(), hidden=[open_cluster.ray_folder])
    code, told = typed()
    assert code == 0 and f"{CPUS} at once" in told, told
    assert {event["state"] for event in events(tmp_path / "runs" / "mine", "ended")} == {"completed"}
    open_cluster.kill("laptop")


def test_cluster_that_is_away_is_one_error_also_for_a_check(mini_root: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    for asked, why in (
        ([address], "no Ray cluster answers there"),
        ([address, "--check"], "no Ray cluster answers there"),
        (["ray://" + address], "no Ray cluster answers there"),
    ):
        started = time.monotonic()
        away = run("sweep.run", *flags(mini_root, tmp_path, "away"), "--address", *asked)
        assert time.monotonic() - started < 120, "Ray itself would try for 850 s"
        assert away.returncode == 1
        assert why in away.stderr and "Traceback" not in away.stderr
        assert not (tmp_path / "away").exists()


@pytest.fixture(scope="module")
def code(place: Path) -> Path:
    """The driver's code: a checkout with a change in it that no node has."""
    root = place / "code"
    for package in CODE:
        shutil.copytree(REPO / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (root / "trainables" / "seeds.py").open("a") as file:
        file.write("# changed\n")
    return root


@pytest.fixture
def two_nodes(place: Path, code: Path, mini_root: Path, tmp_path: Path) -> Iterator[Nodes]:
    """A head and a node that ask for a token; the second sees neither code nor data nor runs."""
    if not MOUNTS_OF_ITS_OWN:
        pytest.skip("this machine lets no process have mounts of its own (unshare -rm)")
    (tmp_path / "runs").mkdir()
    nodes = Nodes(place / "two")
    nodes.start("head", "--num-cpus=1")
    hidden = [mini_root, tmp_path / "runs", *(root / package for root in (REPO, code) for package in CODE)]
    nodes.start("apart", "--num-cpus=1", hidden=hidden)
    yield nodes
    nodes.close()


def test_two_nodes_that_share_nothing_run_the_drivers_code_and_one_of_them_may_die(
    two_nodes: Nodes, place: Path, code: Path, mini_root: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    asked = flags(mini_root, runs, "mine", trials=2, epochs=EPOCHS)

    for address in (two_nodes.address, two_nodes.client):
        wrong = sweep_run(*asked, nodes=two_nodes, address=address, code=code, token="0" * 64)
        out, _ = wrong.communicate(timeout=240)
        assert wrong.returncode == 1 and "asks for a token that is not this machine's" in out and "0000" not in out

    blind = sweep_run(*asked, nodes=two_nodes, code=code)
    out, _ = blind.communicate(timeout=400)
    assert blind.returncode == 1 and "not every node" in out and str(mini_root) in out and "--copy-data" in out, out
    assert list(runs.iterdir()) == []

    sweep = sweep_run(*asked, "--copy-data", nodes=two_nodes, address=two_nodes.client, code=code)
    run_dir = runs / "mine"

    def both_have_trained() -> bool:
        assert sweep.poll() is None, sweep.communicate()
        return len({event["trial_id"] for event in events(run_dir, "result")}) == 2

    wait_until(both_have_trained, timeout=500, what="two trials at once")
    caches = [place / "two" / name / "cache" / "decoded" for name in ("head", "apart")]
    assert all(any(cache.iterdir()) for cache in caches), "each node decodes into its own cache"
    two_nodes.kill("apart")
    out, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 0, out
    assert "1 of them without the run folder" in out and "1 node" in out and "into their cache folders" in out
    assert out.count("died: its trials go on elsewhere") == 1 and "state-dump" not in out
    assert len(events(run_dir, "restarted")) == 1
    assert {event["state"] for event in events(run_dir, "ended")} == {"completed"}

    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert manifest["versions"]["code"] == code_of(code) != code_of(REPO)
    assert all(two_nodes.token not in path.read_text(errors="ignore") for path in run_dir.rglob("*") if path.is_file())
    logs = [(run_dir / "logs" / f"{trial}.log").read_text() for trial in ("t000", "t001")]
    assert all(f"epoch {epoch}:" in log for log in logs for epoch in range(1, EPOCHS + 1))

    alone = run("sweep.run", *flags(mini_root, tmp_path, "alone", trials=2, epochs=EPOCHS), "--cpus-per-trial", "1")
    assert alone.returncode == 0, alone.stdout + alone.stderr
    assert curves(run_dir) == curves(tmp_path / "alone"), (
        "the digits of a sweep on one machine to which nothing happens"
    )


def curves(run_dir: Path) -> dict[str, list[object]]:
    """The configuration and every result of each trial."""
    found: dict[str, list[object]] = {}
    for kind, *rest in told(run_dir):
        if kind in ("suggested", "result"):
            found.setdefault(rest[1] if kind == "suggested" else rest[0], []).append((kind, rest[-1]))
    return found


def code_of(root: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from trainables.versions import code_version; print(code_version())"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
