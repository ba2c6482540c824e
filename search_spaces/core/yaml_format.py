"""A space as YAML: written, read, and checked, with all faults reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml

from search_spaces.common import models_choice
from search_spaces.core.compose import compose
from search_spaces.core.parameter import Parameter, Role, When
from search_spaces.core.space import SearchSpace
from trainables.config import check_keys, parse_value
from trainables.errors import ConfigError, SegsweepError
from trainables.registry import Scalar, parse_scalar

SPACE_KEYS = ("name", "description", "extends", "label_by", "parameters", "start")


ENTRY_KEYS = ("value", "choices", "low", "high", "log", "step", "default", "role", "when", "reason")


def check_space(space: SearchSpace, models: Sequence[str], weights: str) -> None:
    """Builds a configuration at both ends of every range, at every choice and at every starting point.

    Args:
        space: What to check.
        models: The models asked for.
        weights: The weights asked for.

    Raises:
        ConfigError: With every distinct fault.
    """
    base: dict[str, Scalar] = {"image_size": "96x128", "epochs": 1, "model.name": models[0], "model.weights": weights}
    faults: dict[str, None] = {}
    points = [*(space.start or [space.bend({})])]
    for parameter in space.parameters:
        for end in parameter.ends():
            point = space.reach(parameter.key, end)
            if point is None:
                faults[f"{parameter.key}: no trial could have it: its conditions never hold together"] = None
            else:
                points.append(point)
    for point in points:
        try:
            config = space.trial_config(base, point).flat()
        except ConfigError as error:
            faults |= dict.fromkeys(_lines(error))
            continue
        if space.label_by not in config:
            faults[f"label_by {space.label_by}: not every trial has it; name a key of all"] = None
    if faults:
        raise ConfigError(f"space {space.name}:\n" + "\n".join(f"  {fault}" for fault in faults))


def to_yaml(space: SearchSpace) -> str:
    """Writes a space as YAML that `read_space` reads as an equal space.

    Starting points say only what differs from the defaults.
    """
    entries: dict[str, Any] = {
        key: {"value": value, "reason": space.reasons[key]} if space.reasons.get(key) else value
        for key, value in space.fixed.items()
    }
    entries |= {parameter.key: _entry(parameter) for parameter in space.parameters}
    known_good = space.bend({})
    content: dict[str, Any] = {
        "name": space.name,
        "description": space.description,
        "label_by": space.label_by,
        "parameters": entries,
    }
    if space.start not in ((), (known_good,)):
        content["start"] = [
            _Inline({key: value for key, value in point.items() if known_good.get(key) != value})
            for point in space.start
        ]
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def read_space(
    text: str, *, where: Path, models: Sequence[str], weights: str, extended: Callable[[str], SearchSpace]
) -> SearchSpace:
    """Reads a space.

    Where several models are asked for and the file says nothing of `model.name`, they become a parameter.

    Args:
        text: YAML as `docs/SPACES.md` has it.
        where: The file, for messages and for the default name.
        models: The models asked for.
        weights: The weights asked for.
        extended: Gives the space that a name in `extends` stands for.

    Raises:
        ConfigError: With every fault of the file.
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: expected lines such as 'parameters:', with {', '.join(SPACE_KEYS)} as keys")
    faults = [_unknown(key, SPACE_KEYS) for key in content if key not in SPACE_KEYS]
    texts = {key: _text(content.get(key), key, faults) for key in ("name", "description", "label_by")}
    told = len(faults)
    parts = _read_parts(content.get("extends"), extended, faults)
    complete = len(faults) == told
    parameters, unsound = _read_parameters(content.get("parameters"), faults)
    start = _read_start(content.get("start"), unsound, faults)
    keys = {*unsound, *(p.key for p in parameters)}
    keys |= {key for part in parts for key in [*part.fixed, *(p.key for p in part.parameters)]}
    if len(models) > 1 and "model.name" not in keys:
        parts.insert(0, SearchSpace("models", "", models_choice(models), "model.name", ({"model.name": models[0]},)))
    label_by = texts["label_by"] or (parts[-1].label_by if parts else "")
    if complete and not label_by:
        faults.append("label_by: needs the key whose values name the labels of the report, such as loss.name")
    if complete and label_by:
        try:
            check_keys([label_by])
            space = compose(
                texts["name"] or where.stem,
                parts,
                description=texts["description"],
                label_by=label_by,
                parameters=parameters,
                start=start,
            )
            check_space(space, models, weights)
        except ConfigError as error:
            faults += _lines(error)
    if faults:
        raise ConfigError(f"{where}:\n" + "\n".join(f"  {fault}" for fault in faults))
    return space


def _read_parts(value: Any, extended: Callable[[str], SearchSpace], faults: list[str]) -> list[SearchSpace]:
    names = [value] if isinstance(value, str) else value or []
    if not isinstance(names, list):
        faults.append("extends: expected names of spaces, such as [lr, augment]")
        return []
    parts: list[SearchSpace] = []
    for name in map(str, names):
        try:
            parts.append(extended(name))
        except SegsweepError as error:
            faults.append(f"extends {name}: {error}")
    return parts


def _read_parameters(value: Any, faults: list[str]) -> tuple[list[Parameter], set[str]]:
    """The valid parameters, and the keys of the invalid ones and of those whose conditions name an invalid one."""
    if not isinstance(value or {}, dict):
        faults.append("parameters: expected one 'key: range' per line")
        return [], set()
    read = {str(key): _read_parameter(str(key), entry, faults) for key, entry in (value or {}).items()}
    unsound = {key for key, parameter in read.items() if parameter is None}
    sound = [parameter for parameter in read.values() if parameter is not None]
    while dependent := {p.key for p in sound if any(condition.key in unsound for condition in p.when)}:
        unsound |= dependent
        sound = [parameter for parameter in sound if parameter.key not in dependent]
    return sound, unsound


def _read_parameter(key: str, entry: Any, faults: list[str]) -> Parameter | None:
    """One parameter, or None with its faults added to `faults`."""
    try:
        check_keys([key])
    except ConfigError as error:
        faults += _lines(error)
        return None
    if not isinstance(entry, dict):
        entry = {"choices" if isinstance(entry, list) else "value": entry}
    wrong = [_unknown(name, ENTRY_KEYS) for name in entry if name not in ENTRY_KEYS]
    forms = [form for form in ("value", "choices", "low") if form in entry]
    if len(forms) != 1:
        wrong.append("say one of: a value, choices, or low and high")
    options: dict[str, Any] = {"role": "fixed" if forms == ["value"] else "nuisance"}
    kind = "choice"
    if forms == ["value"]:
        options["choices"] = (_scalar(key, entry["value"], wrong),)
    elif forms == ["choices"]:
        choices = entry["choices"] if isinstance(entry["choices"], list) else [entry["choices"]]
        options["choices"] = tuple(_scalar(key, choice, wrong) for choice in choices)
    elif forms == ["low"]:
        if "high" not in entry:
            wrong.append("low needs a high")
        low, high = (_scalar(key, entry[end], wrong) if end in entry else None for end in ("low", "high"))
        options |= {"low": low, "high": high}
        kind = "int" if type(low) is int else "float"
        if isinstance(low, str | bool):
            wrong.append("is not a number: give choices")
    if "step" in entry:
        options["step"] = _converted("step", entry["step"], float, wrong)
    if "log" in entry:
        options["log"] = _converted("log", entry["log"], bool, wrong)
    if "default" in entry:
        options["default"] = _scalar(key, entry["default"], wrong)
    elif forms == ["value"]:
        options["default"] = options["choices"][0]
    if "role" in entry:
        options["role"] = entry["role"]
        if entry["role"] not in get_args(Role):
            wrong.append(f"role must be one of {', '.join(get_args(Role))}")
    options["reason"] = _text(entry.get("reason"), "reason", wrong)
    options["when"] = _read_conditions(entry.get("when"), wrong)
    if not wrong:
        parameter = Parameter(key, kind, **options)  # type: ignore[arg-type]
        wrong += parameter.faults()
    faults += [f"{key}: {fault}" for fault in dict.fromkeys(wrong)]
    return None if wrong else parameter


def _read_conditions(value: Any, wrong: list[str]) -> tuple[When, ...]:
    if not isinstance(value or {}, dict):
        wrong.append("when: expected {KEY: VALUE}, {KEY: [VALUE, ...]} or {KEY: {above: NUMBER}}")
        return ()
    conditions = []
    for key, wanted in (value or {}).items():
        if isinstance(wanted, dict):
            if list(wanted) != ["above"]:
                wrong.append(f"when {key}: expected {{above: NUMBER}}")
                continue
            conditions.append(When(str(key), above=_converted(f"when {key}: above", wanted["above"], float, wrong)))
            continue
        values = wanted if isinstance(wanted, list) else [wanted]
        conditions.append(When(str(key), tuple(_scalar(str(key), item, wrong) for item in values)))
    return tuple(conditions)


def _read_start(value: Any, unsound: Collection[str], faults: list[str]) -> list[dict[str, Scalar]]:
    """Starting points without the keys of invalid parameters."""
    points: list[dict[str, Scalar]] = []
    for index, point in enumerate(value if isinstance(value, list) else [value] if value else []):
        wrong: list[str] = []
        if not isinstance(point, dict):
            wrong.append("expected {KEY: VALUE, ...}")
            point = {}
        read = {str(key): _scalar(str(key), item, wrong) for key, item in point.items() if key not in unsound}
        points.append({key: value for key, value in read.items() if value is not None})
        faults += [f"start[{index}]: {fault}" for fault in wrong]
    return points


def _scalar(key: str, value: Any, wrong: list[str]) -> Any:
    """A value of a configuration's key, or None if it is not one; YAML reads 1e-4 as text, which is accepted."""
    if value is None or isinstance(value, list | dict):
        wrong.append(f"{value!r} is not a single value")
        return None
    try:
        return parse_value(key, value)
    except ConfigError as error:
        wrong += _lines(error)
        return None


def _converted(name: str, value: Any, type_: type, wrong: list[str]) -> Any:
    try:
        return parse_scalar(value, type_)
    except ValueError as error:
        wrong.append(f"{name} {error}")
        return type_()


def _text(value: Any, name: str, wrong: list[str]) -> str:
    if isinstance(value, list | dict):
        wrong.append(f"{name}: expected text")
    return "" if value is None else str(value)


def _unknown(key: object, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=2, cutoff=0.5)
    return f"unknown key {key!r}; " + (f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}")


def _lines(error: Exception) -> list[str]:
    """The faults of an error, without its heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1:] if len(lines) > 1 and lines[0].endswith(":") else lines


class _Loader(yaml.SafeLoader):
    """Plain data only, and no key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping; the standard loader lets the last of two equal keys win."""
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} appears here twice", key.start_mark)
        return super().construct_mapping(node, deep)


class _Inline(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Lists of plain values and `_Inline` mappings on one line, all else below one another."""

    def represent_list(self, data: Iterable[Any]) -> Any:
        """Writes a list."""
        plain = not any(isinstance(item, list | dict) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=plain)

    def represent_inline(self, data: _Inline) -> Any:
        """Writes a mapping on one line."""
        return self.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indents the items of a list below its key."""
        super().increase_indent(flow, False)


def _entry(parameter: Parameter) -> dict[str, Any]:
    """A parameter as a file has it."""
    entry: dict[str, Any] = {}
    if parameter.role == "fixed":
        entry["value"] = parameter.choices[0]
    elif parameter.kind == "choice":
        entry["choices"] = list(parameter.choices)
    else:
        entry |= {"low": parameter.low, "high": parameter.high}
        entry |= {"log": True} if parameter.log else {}
        entry |= {"step": parameter.step} if parameter.step else {}
    if parameter.role != "fixed":
        entry |= {} if parameter.default is None else {"default": parameter.default}
        entry["role"] = parameter.role
    if parameter.when:
        entry["when"] = _Inline({condition.key: _wanted(condition) for condition in parameter.when})
    if parameter.reason:
        entry["reason"] = parameter.reason
    return entry


def _wanted(condition: When) -> Any:
    if condition.above is not None:
        return _Inline({"above": condition.above})
    return condition.values[0] if len(condition.values) == 1 else list(condition.values)


_Dumper.add_representer(list, _Dumper.represent_list)
_Dumper.add_representer(_Inline, _Dumper.represent_inline)
