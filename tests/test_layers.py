"""Who may import whom, read from the source of every module."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("trainables", "search_spaces", "sweep", "analysis")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in FILES]

MAY_IMPORT = {
    "trainables": {"trainables"},
    "search_spaces": {"trainables", "search_spaces"},
    "sweep": {"trainables", "search_spaces", "sweep"},
    "analysis": {
        *("trainables", "search_spaces", "analysis"),
        *(
            "sweep.candidate",
            "sweep.claims",
            "sweep.deciding",
            "sweep.floor",
            "sweep.importance",
            "sweep.journal",
            "sweep.manifest",
            "sweep.latencies",
            "sweep.objectives",
            "sweep.pareto",
            "sweep.phase_kinds",
            "sweep.plan",
            "sweep.refitted",
            "sweep.status",
            "sweep.trials_csv",
            "sweep.verdict",
            "sweep.verify",
        ),
    },
}
ONLY_IN = {
    "ray": ("sweep/", "trainables/trainable.py"),
    "wandb": ("sweep/tracking/wandb_runs.py",),
    "tensorboardX": ("sweep/tracking/tensorboard.py",),
    "mlflow": ("sweep/tracking/mlflow_runs.py",),
    "IPython": ("sweep/notebook_view.py",),
    "optuna": ("sweep/",),
    "albumentations": ("trainables/augmentations/",),
    "pycocotools": ("trainables/data/imports/coco.py",),
    "tifffile": ("trainables/data/reading/rasters.py",),
    "timm": ("trainables/models/timm_backbones.py",),
    "segmentation_models_pytorch": ("trainables/models/library.py",),
    "transformers": ("trainables/models/mit.py",),
}
BY_NAME = {
    "module": "trainables.registry, which loads the modules that registries name",
    "f'{package}.{homes[name]}'": "trainables.lazy, which loads modules of the package that asks",
}
"""Computed imports, by their argument."""
FORBIDDEN = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of everything imported anywhere in a module, within functions too: `a.b`, and `a.b.c` of a from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that layers can be read from them"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.keyword) and node.arg == "modules":  # of a registry that loads them when asked
            yield from (str(module) for module in ast.literal_eval(node.value))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            argument = node.args[0]
            if ast.unparse(argument) in BY_NAME:
                continue
            assert isinstance(argument, ast.Constant), "a computed import cannot be checked"
            yield str(argument.value)


@functools.cache
def parsed(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(encoding="utf-8"))


@functools.cache
def imported(name: str) -> frozenset[str]:
    return frozenset(imports(parsed(name)))


def is_within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


FLOORS = (
    # Each line may import what stands on its own line and above; a name stands for a module or a folder.
    (
        "trainables.redact",
        "trainables.errors",
        "trainables.files",
        "trainables.kept",
        "trainables.labels",
        "trainables.devices",
        "trainables.machine_faults",
        "trainables.shared_memory",
        "trainables.hyperparameters",
        "trainables.seeds",
        "trainables.spreadsheets",
        "trainables.words",
        "trainables.machine",
    ),
    ("trainables.places",),
    (
        "trainables.limits",
        "trainables.commands",
        "trainables.forked",
        "trainables.guarded",
        "trainables.lazy",
        "trainables.node_copies",
        "trainables.options",
    ),
    ("trainables.flags", "trainables.child"),
    ("trainables.versions",),
    ("trainables.remembered",),
    ("trainables.registry",),
    ("trainables.data.reading", "trainables.data.base", "trainables.data.bands", "trainables.data.void"),
    ("trainables.paths", "trainables.plugins"),
    ("trainables.run_folder",),
    ("trainables.data",),
    ("trainables.augmentations", "trainables.losses", "trainables.models", "trainables.metrics"),
    ("trainables.optimizers", "trainables.ranks", "trainables.updates"),
    ("trainables.config",),
    ("trainables.record",),
    ("trainables.checkpoint", "trainables.loader_processes", "trainables.loaders", "trainables.components"),
    ("trainables.carried",),
    ("trainables.augmentations.__main__",),
    ("trainables.logits",),
    ("trainables.windows", "trainables.pixel_classes"),
    ("trainables.loops", "trainables.execution", "trainables.latency", "trainables.memory", "trainables.allocator"),
    ("trainables.features", "trainables.followers", "trainables.applied", "trainables.node"),
    ("trainables.feature_sets",),
    ("trainables.trial", "trainables.overfit"),
    ("trainables.cost", "trainables.apart"),
    ("trainables.cost_apart",),
    ("trainables.train", "trainables.trainable"),
    ("search_spaces.core", "search_spaces.common"),
    ("search_spaces",),
    ("search_spaces.preview",),
    (
        "sweep.journal",
        "sweep.objectives",
        "sweep.ray_address",
        "sweep.ray_environment",
        "sweep.ray_folder",
        "sweep.kept_actors",
        "sweep.shipping",
        "sweep.keeper",
        "sweep.places",
        "sweep.versions",
        "sweep.points",
        "sweep.trials_csv",
        "sweep.phase_kinds",
        "sweep.claims",
        "sweep.rivals",
        "sweep.candidate",
    ),
    ("sweep.samplers", "sweep.latencies", "sweep.pareto", "sweep.resources"),
    ("sweep.plan", "sweep.ray_session", "sweep.nodes"),
    ("sweep.local_ray",),
    ("sweep.manifest", "sweep.forecast"),
    ("sweep.ranking", "sweep.records", "sweep.drawing"),
    ("sweep.verify", "sweep.trials", "sweep.refitted", "sweep.verdict", "sweep.schedulers", "sweep.floor"),
    ("sweep.tally",),
    (
        "sweep.optuna_study",
        "sweep.study_db",
        "sweep.trials_file",
        "sweep.tracking",
        "sweep.deciding",
        "sweep.importance",
    ),
    ("sweep.phases",),
    ("sweep.conductor",),
    ("sweep.flags", "sweep.tally_view", "sweep.heartbeat"),
    ("sweep.driver", "sweep.trials_view"),
    ("sweep.status",),
    ("sweep.notebook_view",),
    (
        "sweep.config",
        "sweep.again",
        "sweep.progress",
        "sweep.tuner",
        "sweep.ended_early",
        "sweep.views",
        "sweep.reporting",
        "sweep.publishing",
        "sweep.concluding",
    ),
    ("sweep.compiled", "sweep.refitting", "sweep.from_python", "sweep.scripts"),
    ("sweep.decoding", "sweep.preflight", "sweep.predicting", "sweep.packing"),
    ("sweep.planning",),
    ("sweep.short_budget", "sweep.new_manifest"),
    ("sweep.answer", "sweep.inputs_view", "sweep.pareto_view", "sweep.ray_view", "sweep.measuring", "sweep.cluster"),
    ("sweep.plan_view", "sweep.per_trial"),
    ("sweep.warm_start", "sweep.asked_budget", "sweep.memory_room", "sweep.answering"),
    ("sweep.session", "sweep.show"),
    ("sweep.start", "sweep.go_on", "sweep.replay", "sweep.refit"),
    ("sweep.more",),
    ("sweep.run", "sweep.confirm", "sweep.ablate", "sweep.slurm", "sweep.kuberay"),
    ("analysis.colours", "analysis.fonts", "analysis.formulas", "analysis.statistics"),
    ("analysis.load", "analysis.candidates", "analysis.foreseen"),
    ("analysis.model",),
    ("analysis.run",),
    ("analysis.kept", "analysis.pictures", "analysis.outputs", "analysis.predicting"),
    ("analysis.inputs",),
    ("analysis.predicted",),
    ("analysis.predict", "analysis.export"),
    ("analysis.evaluate", "analysis.failures"),
    ("analysis.scores", "analysis.measured", "analysis.distances"),
    ("analysis.comparison", "analysis.confirmation", "analysis.answer", "analysis.dead", "analysis.trade_off"),
    ("analysis.standings", "analysis.strengths", "analysis.notes", "analysis.stages", "analysis.search_facts"),
    ("analysis.label_errors", "analysis.label_folders", "analysis.next_sweep"),
    ("analysis.results", "analysis.audit"),
    ("analysis.report.latex",),
    ("analysis.report.parts", "analysis.report.draft", "analysis.report.tables", "analysis.report.drawing"),
    ("analysis.report.changed",),
    ("analysis.report.gallery",),
    ("analysis.report.page", "analysis.report.predictions"),
    ("analysis.report.methods",),
    ("analysis.report.sections", "analysis.report.masks"),
    ("analysis.report",),
    ("analysis.score",),
)


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def floor_of(module: str) -> int:
    """The floor whose entry fits a module closest."""
    fitting = [(len(entry), floor) for floor, line in enumerate(FLOORS) for entry in line if is_within(module, entry)]
    assert fitting, f"{module} stands on no floor: name it in FLOORS"
    return max(fitting)[1]


def needs(module: str) -> set[str]:
    """Our modules that a module imports when it is imported itself."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    at_import = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    found = set()
    for name in imports(at_import):
        # `from a.b import c` gives a.b.c, which is a module of its own or a name in a.b.
        found |= {name if name in MODULES else name.rpartition(".")[0]} & set(MODULES)
    return found - {module}


def test_nothing_imports_from_a_higher_floor() -> None:
    higher = {
        module: found
        for module, path in MODULES.items()
        if "." in module and path.name != "__init__.py"  # a menu of its own folder
        if (found := {one for one in needs(module) if "." in one and floor_of(one) > floor_of(module)})
    }
    assert not higher


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module: needs(module) for module in MODULES}
    done: set[str] = set()
    while ready := {module for module, others in graph.items() if module not in done and others <= done}:
        done |= ready
    assert not set(graph) - done, "these wait for each other"


def test_there_is_something_to_check() -> None:
    assert {name.split("/")[0] for name in NAMES} == set(PACKAGES)
    assert "ray.tune" in imported("trainables/trainable.py")
    assert "search_spaces.core.space.SearchSpace" in imported("sweep/conductor.py")
    assert list(imports(ast.parse("def f():\n  import ray\n  from a import b\n  __import__('c')"))) == [
        "ray",
        "a.b",
        "c",
    ]


def test_nothing_imports_to_its_right() -> None:
    wrong = [
        (name, found)
        for name in NAMES
        for found in imported(name)
        if found.split(".")[0] in (*PACKAGES, "tests", "benchmarks")
        if not any(is_within(found, module) for module in MAY_IMPORT[name.split("/")[0]])
    ]
    assert not wrong


def test_heavy_libraries_stay_in_their_rooms() -> None:
    elsewhere = [
        f"{library} may be imported in {', '.join(rooms)} only, not in {name}"
        for name in NAMES
        for library, rooms in ONLY_IN.items()
        if any(is_within(found, library) for found in imported(name)) and not name.startswith(rooms)
    ]
    assert not elsewhere


OPENS_ITS_OWN = ("trainables/limits.py", "trainables/data/scenes/draw.py", "search_spaces/preview.py")
"""The one place in which pictures are opened, and files that open what they have written themselves."""


def test_pictures_are_opened_where_their_size_is_looked_at() -> None:
    for name in set(NAMES) - set(OPENS_ITS_OWN):
        tree = parsed(name)
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not {call for call in calls if call.endswith(("Image.open", "cv2.imread"))}, name


def test_nothing_is_pickled() -> None:
    for name in NAMES:
        tree = parsed(name)
        assert not {found.split(".")[0] for found in imports(tree)} & FORBIDDEN, name
        assert not {found for found in imports(tree) if found in ("torch.load", "torch.save")}, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in ("load", "save"):
                assert ast.unparse(node) not in ("torch.load", "torch.save"), name
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", name


@pytest.mark.parametrize(
    ("modules", "without"),
    [
        ("sweep, sweep.manifest, analysis", {"ray", "wandb", "optuna", "torch", "pydantic"}),
        ("search_spaces, trainables.trial, analysis.report", {"ray", "wandb", "optuna"}),
        ("sweep.start, sweep.go_on, sweep.again", {"ray", "wandb", "torch", "albumentations", "pandas", "scipy"}),
        ("sweep.tuner, sweep.tracking, sweep.refit", {"torch", "torchvision", "albumentations", "scipy", "wandb"}),
        (
            "sweep.run, sweep.config, sweep.flags, sweep.status",
            {"ray", "wandb", "optuna", "torch", "albumentations", "pydantic"},
        ),
        ("sweep.objectives, trainables.metrics", {"ray", "wandb", "optuna", "torch", "scipy", "PIL"}),
    ],
)
def test_fresh_process_does_not_load_what_it_has_no_use_for(modules: str, without: set[str]) -> None:
    program = f"import sys, {modules}; print(*[name for name in {sorted(without)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []
