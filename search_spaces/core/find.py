"""Spaces by name, from a YAML file, or from a user's own Python file; and spaces as YAML.

A YAML file is read as plain data: nothing in it is executed. A Python file is the user's own program and is run.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from search_spaces.core.space import SPACES, SearchSpace
from search_spaces.core.yaml_format import check_space, read_space
from trainables.errors import ConfigError, SegsweepError, UsageError

YAML_SUFFIXES = (".yaml", ".yml")

Factory = Callable[[Sequence[str], str], SearchSpace]
"""`(models, weights) -> SearchSpace`."""

Size = tuple[int, int] | None
"""Height and width in pixels, if they are known."""


def find_space(spec: str, *, image_size: Size = None) -> Factory:
    """Finds what `--space` names.

    Args:
        spec: A registered name, `FILE.yaml`, or `FILE.py:NAME`, where NAME is a `SearchSpace` or a factory.
        image_size: The data set's own, for factories that take `image_size`: those search sizes around it.

    Returns:
        A factory; that of a file raises `ConfigError` with every fault of the file.

    Raises:
        UsageError: If there is no such space or file.
    """
    return _find(spec, Path(), (), image_size)


def space_name(spec: str) -> str:
    """A short name for what `--space` names, fit for a folder: `my_space` of `spaces/my_space.yaml`."""
    path, name = _split(spec)
    return name or Path(path).stem


def _split(spec: str) -> tuple[str, str]:
    """Path and name of `FILE.py:NAME`; the name is empty for all else."""
    path, _, name = spec.rpartition(":")
    return (path, name) if path.endswith(".py") else (spec, "")


def _find(spec: str, beside: Path, opened: tuple[Path, ...], size: Size) -> Factory:
    path, name = _split(spec)
    file = beside / Path(path).expanduser()
    if file.suffix == ".py" and not name:
        raise UsageError(f"{spec}: say which space of the file, such as {spec}:space")
    if not name and file.suffix not in YAML_SUFFIXES:
        return _knowing(SPACES.get(spec), size)
    if not file.is_file():
        raise UsageError(f"{file}: no such file; a space is {', '.join(SPACES)}, FILE.yaml or FILE.py:NAME")
    if name:
        return lambda models, weights: _from_python(file, name, models, weights, size)
    return lambda models, weights: _from_file(file, models, weights, opened, size)


def _knowing(factory: Callable[..., SearchSpace], size: Size) -> Factory:
    """A factory with the data set's image size, if it takes one."""
    takes = "image_size" in inspect.signature(factory).parameters
    return functools.partial(factory, image_size=size) if takes else factory


def _from_file(path: Path, models: Sequence[str], weights: str, opened: tuple[Path, ...], size: Size) -> SearchSpace:
    resolved = path.resolve()
    if resolved in opened:
        raise ConfigError(f"the space extends itself: {' -> '.join(file.name for file in (*opened, resolved))}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    return read_space(
        text,
        where=path,
        models=models,
        weights=weights,
        extended=lambda spec: _find(spec, path.parent, (*opened, resolved), size)(models, weights),
    )


def _from_python(path: Path, name: str, models: Sequence[str], weights: str, size: Size) -> SearchSpace:
    with _blaming(path):
        module = _import(path)
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if isinstance(value, SearchSpace) or callable(value)]
        close = difflib.get_close_matches(name, own, n=3)
        raise UsageError(f"{path} has no {name}" + (f"; did you mean {' or '.join(close)}?" if close else ""))
    found = getattr(module, name)
    space = found
    if callable(found):
        with _blaming(path):
            space = _knowing(found, size)(list(models), weights)
    if not isinstance(space, SearchSpace):
        raise UsageError(
            f"{path}: {name} must be a SearchSpace or a function (models, weights) that returns one, "
            f"not {type(space).__name__}"
        )
    try:
        check_space(space, models, weights)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return space


def _import(path: Path) -> ModuleType:
    """The module of a file, run once per process."""
    module_name = f"space {path.resolve()}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path.resolve())
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


@contextlib.contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Says in which line of a user's file something went wrong, `sys.exit` included."""
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path.resolve())]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f"{path}, line {line}" if line else str(path)
        told = str(error) if isinstance(error, SegsweepError) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"{where}: {told}") from error
