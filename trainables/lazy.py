"""Names that a package offers without loading the modules in which they stand (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def attributes(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose names come from modules that are loaded when one of them is asked for.

    Args:
        package: Its `__name__`.
        names: What each module offers, by the module's name within the package.
    """
    homes = {name: module for module, offered in names.items() for name in offered}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return find
