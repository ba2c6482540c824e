"""What is found wrong before the first second of training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search_spaces import SearchSpace
from sweep.compiled import plan_space, values_of
from sweep.config import SweepConfig, from_command_line
from sweep.preflight import check_disk, prepare
from trainables.config import TrialConfig
from trainables.errors import ConfigError, DataError, UsageError, WeightsError

from ..mini import write


def config(*arguments: str) -> SweepConfig:
    return from_command_line(["--name", "x", *arguments])


def test_held_keys_reach_the_base_or_the_space() -> None:
    space, base = plan_space(
        config("--set", "image_size=64x80", "--set", "optimizer.lr=0.01", "--seed", "7", "--max-epochs", "6"), (96, 128)
    )
    merged = {**base, **space.fixed}
    assert (merged["image_size"], merged["optimizer.lr"], merged["seed"], merged["epochs"]) == ("64x80", 0.01, 7, 6)
    assert plan_space(config(), (96, 128))[1]["image_size"] == "96x128"


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ("optimzer.lr=0.1", "did you mean optimizer.lr"),
        ("optimizer.lr=fast", "must be a number"),
        ("optimizer.lr=99", "must be <= 10"),
        ("optimizer.momentum=0.9", "adamw has no momentum"),
        ("augment.policy=geometrc", "did you mean geometric"),
        ("loss.name=focl", "did you mean focal"),
        ("image_size=64", "HEIGHTxWIDTH"),
        ("batch_size=0", "must be >= 1"),
        ("epochs=3", "use --max-epochs"),
        ("model.name=fcn_resnet50", "use --models"),
        ("model.weights=imagenet", "use --weights"),
    ],
)
def test_impossible_keys_and_values_are_bad_usage(held: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan_space(config("--set", held), (96, 128))


def test_several_bad_values_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        plan_space(config("--set", "optimizer.lr=fast", "--set", "batch_size=many", "--set", "epochs=3"), (96, 128))
    for fault in ("optimizer.lr=fast", "batch_size=many", "use --max-epochs"):
        assert fault in str(error.value)


def test_good_data_set_becomes_a_plan(mini_root: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    runs = ("--runs-dir", str(tmp_path / "runs"))
    plan = prepare(
        config("--data", "folder", "--data-root", str(mini_root), *runs), progress=lambda *c: calls.append(c)
    )
    assert plan.checked.errors == ()
    assert set(plan.splits.train).isdisjoint(plan.splits.test)
    assert calls[-1] == (40, 40)
    assert not (tmp_path / "runs").exists()


def test_faults_of_usage_come_before_any_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"optimizer\.lr"):
        prepare(config("--data", "folder", "--data-root", str(tmp_path / "nowhere"), "--set", "optimizer.lr=fast"))


def test_every_offender_of_a_data_set_is_told_at_once(tmp_path: Path) -> None:
    root = write(tmp_path / "bad", count=20)
    (root / "images" / "im007.png").unlink()
    image = root / "images" / "im009.png"
    image.write_bytes(image.read_bytes()[:300])
    mask = Image.open(root / "masks" / "im011.png").copy()
    mask.paste(77, (0, 0, 5, 4))
    mask.save(root / "masks" / "im011.png")
    with pytest.raises(DataError) as error:
        prepare(config("--data", "folder", "--data-root", str(root)))
    told = str(error.value)
    assert "3 faults" in told
    for name in ("im007", "im009", "im011"):
        assert name in told
    assert "77 (20 pixels)" in told
    assert error.value.exit_code == 1


def test_predefined_weights_that_cannot_be_had_are_told(
    mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(model: str, weights: str, class_names: list[str]) -> str:
        raise WeightsError(f"{model}: {weights} weights are not here")

    monkeypatch.setattr("sweep.preflight.ensure_weights", absent)
    with pytest.raises(WeightsError, match="imagenet weights are not here"):
        prepare(config("--data", "folder", "--data-root", str(mini_root), "--weights", "imagenet"))


def test_models_that_do_not_go_together_are_refused_before_any_file_is_read(tmp_path: Path) -> None:
    data = ("--data", "folder", "--data-root", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError) as caught:
        prepare(config(*data, "--models", "unet_test_vit,fcn_resnet18,lraspp_test_vit"))
    assert str(caught.value).splitlines() == [
        f"model {head}_test_vit: backbone test_vit has no feature map at stride {strides} for {head}, only at 16: "
        "use fcn, deeplabv3 or linear, or another backbone"
        for head, strides in (("unet", "4, 8 and 32"), ("lraspp", "8"))
    ]
    with pytest.raises(UsageError, match=r"model unet_resnet18: unet_resnet18 has no coco_voc weights"):
        prepare(config(*data, "--models", "unet_resnet18", "--weights", "coco_voc"))


def test_sweep_whose_checkpoints_cannot_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 5 * 2**30))
    check_disk(4 * 2**30, trials=10, runs_dir=tmp_path / "a" / "b")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 3 * 2**30))
    with pytest.raises(DataError, match=r"10 trials .* 4\.0 GiB .*has\s+3\.0 GiB free"):
        check_disk(4 * 2**30, trials=10, runs_dir=tmp_path / "a" / "b")


def test_backbone_gets_its_known_good_share_with_predefined_weights() -> None:
    assert "training.backbone_lr" not in plan_space(config(), (96, 128))[1]
    space, base = plan_space(config("--weights", "imagenet"), (96, 128))
    known = TrialConfig.from_flat({**base, **space.fixed, **space.start[0]})
    assert (known.optimizer.params["lr"], known.training.backbone_lr) == (3e-3, 0.1)
    assert known.training.freeze == "batch_norm"
    space, base = plan_space(config("--weights", "coco_voc"), (96, 128))
    known = TrialConfig.from_flat({**base, **space.fixed, **space.start[0]})
    assert (known.optimizer.params["lr"], known.training.backbone_lr) == (5e-4, 1.0)
    assert known.training.freeze == "none"
    space, base = plan_space(config("--weights", "imagenet", "--set", "training.backbone_lr=1"), (96, 128))
    assert TrialConfig.from_flat({**base, **space.fixed, **space.start[0]}).training.backbone_lr == 1.0


MINE = """
label_by: loss.name
parameters:
  loss.name: {choices: [cross_entropy, dice], default: dice}
"""


def mine(tmp_path: Path, more: str, *flags: str) -> tuple[SearchSpace, dict[str, Any]]:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE + more)
    return plan_space(config("--space", str(path), *flags), (96, 128))


def test_own_space_is_planned_with_what_is_held(tmp_path: Path) -> None:
    space, base = mine(tmp_path, "  batch_size: 4\n", "--set", "optimizer.lr=0.01")
    assert space.fixed == {"batch_size": 4, "optimizer.lr": 0.01}
    assert (space.name, space.start) == ("mine", ({"loss.name": "dice"},))
    assert values_of(space, base, "loss.name") == ("cross_entropy", "dice")
    assert values_of(space, base, "batch_size") == (4,)
    assert values_of(space, base, "image_size") == ("96x128",)
    several, _ = mine(tmp_path, "", "--models", "fcn_resnet50,lraspp_mobilenet_v3_large")
    assert [p.key for p in several.parameters] == ["model.name", "loss.name"], "asked for models are all tried"


def test_own_space_may_name_models_but_not_against_the_flags(tmp_path: Path) -> None:
    named = "  model.name: [fcn_resnet50, deeplabv3_resnet50]\n"
    space, base = mine(tmp_path, named.replace("[", "{choices: [").replace("]", "], default: fcn_resnet50}"))
    assert values_of(space, base, "model.name") == ("fcn_resnet50", "deeplabv3_resnet50")
    held, base = mine(tmp_path, "  model.name: fcn_resnet50\n", "--models", "fcn_resnet50")
    assert values_of(held, base, "model.name") == ("fcn_resnet50",)
    with pytest.raises(UsageError, match="names its models, fcn_resnet50: leave --models out"):
        mine(tmp_path, "  model.name: fcn_resnet50\n", "--models", "lraspp_mobilenet_v3_small")
    with pytest.raises(UsageError, match="epochs is the budget of every trial: use --max-epochs"):
        mine(tmp_path, "  epochs: 3\n")


def test_weights_of_every_model_that_a_space_names_are_looked_for(
    mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def ensure(model: str, weights: str, class_names: list[str]) -> str:
        asked.append((model, weights))
        return f"{weights} of mine" if weights == "imagenet" else ""

    monkeypatch.setattr("sweep.preflight.ensure_weights", ensure)
    (tmp_path / "mine.yaml").write_text(
        MINE + "  model.weights: {choices: [none, imagenet], default: none}\n  model.name: fcn_resnet50\n"
    )
    plan = prepare(config("--space", str(tmp_path / "mine.yaml"), "--data", "folder", "--data-root", str(mini_root)))
    assert asked == [("fcn_resnet50", "none"), ("fcn_resnet50", "imagenet")]
    assert plan.weights == ("fcn_resnet50: imagenet of mine",)


def test_splits_may_be_given_and_groups_kept_together(mini_root: Path, tmp_path: Path) -> None:
    ids = [f"im{number:03d}" for number in range(40)]
    rows = [f"{image_id},{'test' if n < 8 else 'val' if n < 14 else 'train'}" for n, image_id in enumerate(ids)]
    (tmp_path / "splits.csv").write_text("id,split\n" + "\n".join(rows))
    data = ("--data", "folder", "--data-root", str(mini_root))
    plan = prepare(config(*data, "--splits", str(tmp_path / "splits.csv")))
    assert (plan.splits.test, plan.splits.val) == (tuple(ids[:8]), tuple(ids[8:14]))
    grouped = prepare(config(*data, "--group-by", r"^im(\d\d)")).splits
    parts = [{image_id[:4] for image_id in part} for part in (grouped.train, grouped.val, grouped.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_classes_json_with_faults_is_a_data_error(tmp_path: Path) -> None:
    root = write(tmp_path / "bad", count=4)
    (root / "classes.json").write_text(json.dumps({"classes": []}))
    with pytest.raises(DataError, match=r"classes\.json is not valid"):
        prepare(config("--data", "folder", "--data-root", str(root)))


def test_objective_of_one_class_needs_the_class_in_the_data_and_in_val(mini_root: Path, tmp_path: Path) -> None:
    data = ("--data", "folder", "--data-root", str(mini_root))
    (objective,) = prepare(config(*data, "--objective", "val/iou[ball]")).objectives
    assert objective.metric.name == "iou[ball]"
    with pytest.raises(UsageError, match=r"val/iou\[bal\]: the data set has no class 'bal'; did you mean 'ball'"):
        prepare(config(*data, "--objective", "val/iou[bal]"))
    root = write(tmp_path / "without")
    for path in sorted((root / "masks").iterdir())[:20]:
        mask = np.asarray(Image.open(path)).copy()
        mask[mask == 2] = 1
        Image.fromarray(mask).save(path)
    ids = [f"im{number:03d}" for number in range(40)]
    rows = [f"{image_id},{'val' if n < 10 else 'test' if n < 20 else 'train'}" for n, image_id in enumerate(ids)]
    (tmp_path / "splits.csv").write_text("id,split\n" + "\n".join(rows))
    where = ("--data", "folder", "--data-root", str(root), "--splits", str(tmp_path / "splits.csv"))
    prepare(config(*where))
    with pytest.raises(DataError, match="no image of val shows the class 'ball'"):
        prepare(config(*where, "--objective", "val/iou[ball]"))
