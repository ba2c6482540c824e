"""Components of the user's own: Python files, named by `--plugins`, and installed packages.

A plugin is a file that registers components with the same decorators as ours (`@LOSSES.register("mine")`). It is run in
the driver, in every process of a trial and in the report. What is run is what was hashed: the file is read once, and
other processes get its text, not its path. An installed package offers a module, or a function to be called, in the
entry point group `segsweep.plugins`.

A run folder names its plugins. Nothing that it names is run only because it stands there: the user names the file
again, or has run the same content before, which is written down in the user's own cache folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from trainables.data.reading.names import expanded
from trainables.errors import CheckpointError, DataError, SegsweepError, UsageError
from trainables.files import write_json
from trainables.kept import read_kept
from trainables.places import cache_root
from trainables.registry import registered, snapshot, table

GROUP = "segsweep.plugins"
"""Entry points of installed packages."""
USED_FILE = "plugins.json"
"""In the cache folder: the place of every plugin that this user has asked for, by SHA-256."""


@dataclass(frozen=True)
class PluginRecord:
    """What a manifest keeps of a file that registers components, or of an installed package's entry point.

    Attributes:
        path: Absolute path of the file, or of the package's module.
        sha256: Of the file's bytes; of an installed package, of all its Python files.
        package: `NAME VERSION` of an installed package; empty for a file.
    """

    path: str
    sha256: str
    package: str = ""


@dataclass(frozen=True)
class Plugin(PluginRecord):
    """A plugin that can be run.

    Attributes:
        source: The file's bytes; empty for an installed package, which every machine has to have by itself.
    """

    source: bytes = field(default=b"", repr=False)

    @property
    def name(self) -> str:
        """What messages call it: the package, or the name of the file."""
        return self.package or Path(self.path).name

    def record(self) -> PluginRecord:
        """What a manifest keeps."""
        return PluginRecord(self.path, self.sha256, self.package)


_LOADED: dict[str, Plugin] = table()
"""By SHA-256."""
_COMPONENTS: dict[str, frozenset[tuple[str, str]]] = table()
"""The kind and name of what each plugin registered, by its SHA-256."""


def add_flag(group: argparse._ActionsContainer) -> None:
    """`--plugins`."""
    group.add_argument(
        "--plugins",
        type=paths,
        default=(),
        metavar="FILE.py,...",
        help="files of yours that register components (losses, models, spaces, ...); they are run",
    )


def paths(text: str) -> tuple[Path, ...]:
    """The files that `--plugins` names, separated by commas."""
    return tuple(expanded(part.strip()) for part in text.split(",") if part.strip())


def given(arguments: Sequence[str] | None) -> tuple[Path, ...]:
    """The files that `--plugins` names on a command line, which is read before the parser that lists components."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--plugins", nargs="?", type=paths, default=(), const=())
    files: tuple[Path, ...] = first.parse_known_args(arguments)[0].plugins
    return files


def load_given(arguments: Sequence[str] | None) -> tuple[Plugin, ...]:
    """Loads the installed plugins and those that a command line names; to be called before its parser is made.

    Raises:
        SegsweepError: As `load` and `load_installed`.
    """
    load_installed()
    return load(given(arguments))


def load(files: Iterable[Path]) -> tuple[Plugin, ...]:
    """Runs files that the user names, and remembers that the user did; a file that was run already is passed over.

    Args:
        files: Python files.

    Returns:
        One plugin per file.

    Raises:
        UsageError: If a file cannot be read.
        SegsweepError: If it raises: with the line and what it raised. What it had registered is taken back.
    """
    plugins = tuple(map(_read, files))
    for plugin in plugins:
        _run(plugin)
    _remember(plugins)
    return plugins


def load_installed() -> tuple[Plugin, ...]:
    """Loads what installed packages offer in the entry point group `segsweep.plugins`; again does nothing.

    Raises:
        SegsweepError: Naming the package that cannot be loaded.
    """
    return tuple(_load_entry(entry) for entry in metadata.entry_points(group=GROUP))


def loaded() -> tuple[Plugin, ...]:
    """What was loaded into this process, in its order."""
    return tuple(_LOADED.values())


def flags() -> tuple[str, ...]:
    """The flag that makes another command load the files that this process has loaded."""
    files = [plugin.path for plugin in loaded() if not plugin.package]
    return ("--plugins", ",".join(files)) if files else ()


def used_by(components: Iterable[tuple[str, str]]) -> tuple[Plugin, ...]:
    """The plugins that registered any of these components, each a kind and a name."""
    wanted = set(components)
    return tuple(plugin for plugin in loaded() if wanted & _COMPONENTS[plugin.sha256])


def load_used(recorded: Iterable[Mapping[str, str]]) -> None:
    """Loads those plugins of a `trial.json` that this user has run before, from where they were.

    Args:
        recorded: `name` and `sha256` of each.

    Raises:
        CheckpointError: Naming those that are not there, were changed, or were never asked for: see `require`.
    """
    recorded = list(recorded)
    load_installed()
    used = _used()
    for told in recorded:
        plugin = _unchanged(used.get(told["sha256"], ""), told["sha256"])
        if plugin is not None:
            _run(plugin)
    require(recorded)


def require(recorded: Iterable[Mapping[str, str]]) -> None:
    """Refuses a checkpoint whose plugins are not loaded.

    Args:
        recorded: `name` and `sha256` of each, as `trial.json` has them.

    Raises:
        CheckpointError: Naming them.
    """
    missing = [told for told in recorded if told["sha256"] not in _LOADED]
    if missing:
        named = "\n".join(f"  {told['name']} (sha256 {told['sha256'][:12]})" for told in missing)
        raise CheckpointError(
            f"it was trained with components of these plugins, which are not loaded:\n{named}\n"
            "look at the files and, if you trust them, give --plugins FILE.py; in a program of your own: "
            "trainables.plugins.load([Path('FILE.py')])"
        )


def load_recorded(
    recorded: Sequence[PluginRecord], files: Sequence[Path], *, run: Path, more: bool = False
) -> tuple[Plugin, ...]:
    """Loads the plugins of a run, recognised by their content.

    Args:
        recorded: What its manifest says.
        files: What the user names for this command: where the same files are now.
        run: The run's folder, for messages.
        more: Whether the user may name other files too.

    Returns:
        Those of the run and, with `more`, the others.

    Raises:
        DataError: If a plugin is gone, was changed, or was never run by this user and is not named: nothing is run.
        UsageError: If other files are named than those of the run.
    """
    asked = {plugin.sha256: plugin for plugin in map(_read, files)}
    others = [plugin.path for sha256, plugin in asked.items() if sha256 not in {told.sha256 for told in recorded}]
    load_installed()
    found: dict[str, Plugin] = {**_LOADED, **asked}
    faults = []
    for told in recorded:
        if told.sha256 not in found:
            plugin, fault = _recall(told)
            faults += [fault] if fault else []
            found |= {told.sha256: plugin} if plugin else {}
    if others and (faults or not more):
        faults += [f"{path} is none of them" for path in others]
    if faults:
        kind = DataError if recorded else UsageError
        what = f"{run} was made with plugins" if recorded else f"{run} was made without plugins"
        raise kind(
            f"{what}, and nothing of them was run:\n"
            + "\n".join(f"  {fault}" for fault in faults)
            + "\n"
            + ("look at the files and, if you trust them, give --plugins FILE.py[,...]: they are recognised by content"
               if recorded else "leave --plugins out, or start another sweep with it")
        )  # fmt: skip
    plugins = tuple(found[told.sha256] for told in recorded)
    plugins += tuple(plugin for plugin in asked.values() if plugin not in plugins)
    for plugin in plugins:
        _run(plugin)
    _remember([plugin for plugin in plugins if plugin.sha256 in asked])
    return plugins


class TakesPluginsAlong:
    """Objects that, where they are unpickled in another process, first load what was loaded here.

    Ray's workers and the loader processes unpickle data sets and transformations, whose classes may be a plugin's.
    """

    def __getstate__(self) -> dict[str, Any]:
        """The plugins stand first, so that they are loaded before anything else is unpickled."""
        return {"_plugins": _Carried(loaded()), **{k: v for k, v in vars(self).items() if k != "_plugins"}}


@dataclass(frozen=True)
class _Carried:
    plugins: tuple[Plugin, ...]

    def __reduce__(self) -> tuple[Callable[..., _Carried], tuple[tuple[Plugin, ...]]]:
        return _unpack, (self.plugins,)


def _unpack(plugins: tuple[Plugin, ...]) -> _Carried:
    if any(plugin.package for plugin in plugins):
        load_installed()
    for plugin in plugins:
        _run(plugin)
    return _Carried(plugins)


def _read(path: Path) -> Plugin:
    path = path.absolute()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--plugins {path} cannot be read: {error.strerror or error}") from error
    return Plugin(str(path), hashlib.sha256(source).hexdigest(), source=source)


def _recall(told: PluginRecord) -> tuple[Plugin | None, str]:
    """A recorded plugin that may be run without being asked for, or why not."""
    path, sha256 = told.path, told.sha256
    if told.package:
        return None, f"the installed package {told.package} is another one here, or absent: install that version"
    used = _used()
    plugin = _unchanged(path, sha256) or _unchanged(used.get(sha256, ""), sha256)
    if plugin is None:
        what = "was changed since: restore it" if Path(path).is_file() else "is gone: say where it is now"
        return None, f"{path} (sha256 {sha256[:12]}) {what}"
    if sha256 not in used:
        return None, f"{path} (sha256 {sha256[:12]}) would be run, and you never asked for it before"
    return plugin, ""


def _unchanged(path: str, sha256: str) -> Plugin | None:
    """The file of that content, if it is there."""
    try:
        plugin = _read(Path(path)) if path else None
    except UsageError:
        return None
    return plugin if plugin is not None and plugin.sha256 == sha256 else None


def _run(plugin: Plugin) -> None:
    """Runs a plugin unless the same content was run in this process."""
    if plugin.sha256 in _LOADED:
        return
    if plugin.package:
        raise SegsweepError(f"the installed package {plugin.package} is another one here, or absent: install it")
    name = f"segsweep_plugin_{plugin.sha256[:16]}"
    module = ModuleType(name)
    module.__file__ = plugin.path
    sys.modules[name] = module  # where annotations and pickled classes are looked up
    try:
        _register(plugin, lambda: exec(compile(plugin.source, plugin.path, "exec"), vars(module)))
    except BaseException:
        del sys.modules[name]
        raise


def _load_entry(entry: metadata.EntryPoint) -> Plugin:
    version = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
    known = next((plugin for plugin in loaded() if plugin.package == f"{version} ({entry.name})"), None)
    if known is not None:
        return known
    undo = snapshot()
    before = registered()
    try:
        offered = entry.load()
        if not isinstance(offered, ModuleType):
            offered()
    except (Exception, SystemExit) as error:
        undo()
        raise SegsweepError(
            f"the plugin {entry.name} ({entry.value}) of the installed package {version} cannot be loaded: "
            f"{type(error).__name__}: {error}\nmend or uninstall that package"
        ) from error
    path = Path(sys.modules[entry.module].__file__ or entry.module).absolute()
    plugin = Plugin(str(path), _hash_of_module(path), package=f"{version} ({entry.name})")
    _LOADED[plugin.sha256] = plugin
    _COMPONENTS[plugin.sha256] = frozenset(registered() - before)
    return plugin


def _hash_of_module(path: Path) -> str:
    """SHA-256 of a module's file; of a package, of all Python files below it."""
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(path.parent).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _register(plugin: Plugin, run: Callable[[], object]) -> None:
    """Runs what registers a plugin's components; where it raises, nothing of it stays registered."""
    undo = snapshot()
    before = registered()
    try:
        run()
    except (Exception, SystemExit) as error:
        undo()
        told = traceback.format_exception_only(error)[-1].strip()
        raise SegsweepError(f"--plugins {plugin.path}, line {_line(error, plugin.path)}: {told}") from error
    _LOADED[plugin.sha256] = plugin
    _COMPONENTS[plugin.sha256] = frozenset(registered() - before)


def _line(error: BaseException, path: str) -> int:
    """The last line of a file that an error passed through."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return (lines[-1] if lines else None) or 1


def _used() -> dict[str, str]:
    """The plugins that this user has asked for before: their places by SHA-256; a list of somebody else names none."""
    try:
        told = json.loads(read_kept(cache_root() / USED_FILE))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _remember(plugins: Iterable[Plugin]) -> None:
    before = _used()
    now = before | {plugin.sha256: plugin.path for plugin in plugins}
    if now != before:
        try:
            write_json(cache_root() / USED_FILE, now)
        except OSError:
            return  # a later command asks for --plugins again
