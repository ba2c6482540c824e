"""The proposals of a report as a space file that `sweep.run --space FILE` takes, each with its reason as a comment.

The file is plain YAML: nothing in it is run, and names from elsewhere (classes) stand in comments alone, on one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from analysis.next_sweep.proposal import Proposal
from search_spaces.core.compose import compose
from search_spaces.core.parameter import Parameter
from search_spaces.core.space import SearchSpace
from search_spaces.core.yaml_format import read_space, to_yaml
from sweep.manifest import SweepManifest
from trainables import commands
from trainables.config import EARLIER
from trainables.registry import Scalar
from trainables.run_folder import NEXT_SPACE_FILE, report_folder

OWN_FLAG = ("epochs", "seed")
"""Keys common to all trials that flags of the next sweep decide."""
IN_FILE = ("--space", "--models", "--weights", "--set", "--warm-start")
"""Flags of the sweep whose values the file holds."""
NOT_AGAIN = ("--name", "--extend")
"""Flags of the sweep that the next one does not share."""
SWITCHES = ("--resume", "--check", "--show", "--as-yaml", "--accept-plan")
"""The same, without a value."""


def next_space(manifest: SweepManifest, winner: Mapping[str, Scalar], proposals: Sequence[Proposal]) -> SearchSpace:
    """The sweep's own space with the proposals laid over it.

    What all trials of the sweep shared is held, so that flags of the sweep need not be repeated. It begins at the
    known-good point, then the winner, then the winner with each kind of change.

    Args:
        manifest: Of the sweep.
        winner: Its flat configuration.
        proposals: At least one.

    Raises:
        ConfigError: If the result is not a valid space.
    """
    as_before = f"as in {manifest.name}"
    shared = dict(EARLIER) | {key: value for key, value in manifest.base.items() if key not in OWN_FLAG}
    own = manifest.space
    reasons = {**dict.fromkeys(own.fixed, as_before), **own.reasons}
    reasons |= dict.fromkeys(own.held(), as_before)
    parts = (
        SearchSpace("shared", "", (), own.label_by, fixed=shared, reasons=dict.fromkeys(shared, as_before)),
        dataclasses.replace(own, reasons=reasons),
    )
    changed = list(_changed(proposals).values())
    joined = compose("next", parts, description=own.description, label_by=own.label_by, parameters=changed)
    points = [*own.start[:1], winner, *({**winner, **point} for point in _points(proposals))]
    start: list[Mapping[str, Scalar]] = []
    for point in points:
        bent = joined.bend(point)
        if bent not in start:
            start.append(bent)
    return dataclasses.replace(joined, start=tuple(start))


def _changed(proposals: Iterable[Proposal]) -> dict[str, Parameter]:
    return {one.key: one for proposal in proposals for one in (*proposal.along, *proposal.parameters)}


def _points(proposals: Iterable[Proposal]) -> list[dict[str, Scalar]]:
    """One starting point for each section of a configuration (`augment`, `loss`, ...) that has any."""
    points: dict[str, dict[str, Scalar]] = {}
    for proposal in proposals:
        for key, value in proposal.point.items():
            points.setdefault(key.partition(".")[0], {})[key] = value
    return list(points.values())


def next_command(manifest: SweepManifest, run_dir: Path) -> str:
    """Starts the next sweep: the command of this one, with the file in place of what the file holds."""
    return commands.start_sweep("--space", place_of_file(run_dir).as_posix(), *_kept(manifest.command))


def place_of_file(run_dir: Path) -> Path:
    """Where the report on val writes the file."""
    return report_folder(run_dir, "val") / NEXT_SPACE_FILE


def _kept(command: Sequence[str]) -> list[str]:
    """The flags of a sweep's command that the next one shares."""
    kept: list[str] = []
    words = iter(command[3:])  # behind python -m sweep.run
    for word in words:
        flag, has_value, _ = word.partition("=")
        if flag in SWITCHES:
            continue
        if flag in (*IN_FILE, *NOT_AGAIN):
            if not has_value:
                next(words, None)
            continue
        kept.append(word)
    return kept


def space_text(
    manifest: SweepManifest, winner: Mapping[str, Scalar], proposals: Sequence[Proposal], *, images: int, command: str
) -> str:
    """The file: the space as YAML, a comment with the reason above each key that is proposed.

    Args:
        manifest: Of the sweep.
        winner: Its flat configuration.
        proposals: At least one.
        images: Of val.
        command: Starts the next sweep.

    Raises:
        ConfigError: If the file could not be read as a space.
    """
    reasons = _reasons(proposals)
    lines = [
        _comment(f"What {manifest.name} says is worth trying next, from val alone ({images} images): {command}"),
        _comment("Each changed key has its reason above it; all else is as it was. What goes together need not help."),
    ]
    is_parameters = False
    for line in to_yaml(next_space(manifest, winner, proposals)).splitlines():
        is_parameters = line == "parameters:" if not line.startswith(" ") else is_parameters
        key = line.strip().partition(":")[0]
        if is_parameters and key in reasons and line.startswith(f"  {key}:"):
            lines.append(f"  {_comment(reasons[key])}")
        lines.append(line)
    text = "\n".join(lines) + "\n"
    weights = str(manifest.base.get("model.weights", "none"))
    models = [str(manifest.base["model.name"])]
    read_space(text, where=Path(NEXT_SPACE_FILE), models=models, weights=weights, extended=_nothing)
    return text


def _reasons(proposals: Sequence[Proposal]) -> dict[str, str]:
    """The comment of each key: its reason where it is told first, then where that was."""
    of_key: dict[str, list[str]] = {}
    for proposal in proposals:
        for parameter in proposal.parameters:
            of_key.setdefault(parameter.key, []).append(proposal.why)
    first: dict[str, str] = {}
    told: dict[str, str] = {}
    for key, whys in of_key.items():
        if len(whys) > 1:
            told[key] = "for all that is aimed below"
            continue
        told[key] = f"as for {first[whys[0]]}" if whys[0] in first else whys[0]
        first.setdefault(whys[0], key)
    return told


def _comment(text: str) -> str:
    """A text as one comment line; whatever could end the line is a space."""
    return "# " + "".join(letter if letter.isprintable() else " " for letter in text)


def _nothing(spec: str) -> SearchSpace:
    raise AssertionError(f"the file extends no space, but asks for {spec}")
