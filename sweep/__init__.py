"""Many trials: Ray Tune, Optuna and W&B around a journal. Import the modules; the package itself loads nothing.

`run_sweep` and `load_run` are `segsweep`'s, which stands above all packages; they are found here, too.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("load_run", "run_sweep"):
        import segsweep

        return getattr(segsweep, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
