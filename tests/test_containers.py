"""The form of the Dockerfile and the development container, which cannot be built here."""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from io import BytesIO
from pathlib import Path
from typing import Any

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
KNOWN = {"ARG", "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD", "COMMENT"}
PROJECT_FILES = (
    "pyproject.toml",
    "constraints.txt",
    PROJECT["readme"],
    "trainables",
    "search_spaces",
    "sweep",
    "analysis",
)
"""Without which pip does not install this project, or installs half of it."""


def steps() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with their values."""
    content = BytesIO((ROOT / "Dockerfile").read_bytes())
    return [(step["instruction"], step["value"]) for step in DockerfileParser(fileobj=content).structure]


def values(instruction: str) -> list[str]:
    return [value for name, value in steps() if name == instruction]


def arguments() -> dict[str, str]:
    """Build arguments with their defaults."""
    return dict(value.split("=", 1) for value in values("ARG"))


def devcontainer() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    return content


def test_instructions_are_known_and_the_base_is_a_build_argument() -> None:
    assert {name for name, _ in steps()} <= KNOWN
    assert values("FROM") == ["${BASE}"] and steps()[0][0] == "COMMENT"
    assert re.fullmatch(r"[\w/-]+:[\w.-]+", arguments()["BASE"]), "a name of an image, without a registry"
    for value in values("ENTRYPOINT") + values("CMD"):
        assert isinstance(json.loads(value), list), "without a shell, so that signals reach the sweep"


def test_what_is_copied_is_there_and_reaches_the_builder() -> None:
    copied = [part for value in values("COPY") for part in value.split()[:-1] if not part.startswith("--")]
    assert {"segsweep.py", *PROJECT_FILES} <= set(copied)
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    for name in copied:
        assert (ROOT / name).exists() and name in sent, name
    assert not [name for name in (".git", ".venv", "runs") if any(fnmatch.fnmatch(name, one) for one in sent)]


def test_user_is_not_root_and_owns_what_it_is_given() -> None:
    order = [name for name, _ in steps()]
    assert values("USER") == ["user"] and order.index("USER") < order.index("COPY")
    assert all("--chown=user" in value for value in values("COPY"))
    assert "useradd" in values("RUN")[0] and "sudo" not in " ".join(values("RUN"))
    assert devcontainer()["remoteUser"] == "user"


def test_extras_are_those_of_the_project() -> None:
    known = set(PROJECT["optional-dependencies"])
    for extras in (arguments()["EXTRAS"], devcontainer()["build"]["args"]["EXTRAS"]):
        assert set(extras.split(",")) <= known


def test_development_container_builds_the_same_file_with_arguments_that_it_has() -> None:
    build = devcontainer()["build"]
    folder = ROOT / ".devcontainer"
    assert (folder / build["dockerfile"]).resolve() == ROOT / "Dockerfile" and (
        folder / build["context"]
    ).resolve() == ROOT
    assert set(build["args"]) <= set(arguments())
    assert "--shm-size=2g" in devcontainer()["runArgs"]
    interpreter = devcontainer()["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"]
    assert interpreter.removesuffix("/bin/python") in " ".join(values("RUN"))


def test_page_tells_of_every_build_argument_and_that_nothing_was_built() -> None:
    page = (ROOT / "docs" / "containers.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| `([A-Z]+)` \| `([^`]+)` \|", page, re.MULTILINE))
    assert told == arguments()
    assert "have not been built" in " ".join(page.split()) and "--shm-size" in page
