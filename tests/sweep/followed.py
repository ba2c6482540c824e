"""What trackers are told in tests: events as a journal has them, and a report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sweep.tracking import Followers, TrackedSweep
from sweep.tracking.base import chosen

START = 1_750_000_000
"""Seconds since 1970 at epoch 0."""


def followers(run_dir: Path, warnings: list[str], *, wandb: str = "disabled", **others: str) -> Followers:
    """Trackers of a sweep called `mine`."""
    sweep = TrackedSweep(run_dir, "mine", "2025-01-01", "segsweep")
    return Followers(sweep, chosen(wandb, others), warn=warnings.append)


def suggested(trial_id: str, **more: Any) -> dict[str, Any]:
    """A trial begins."""
    return {"event": "suggested", "trial_id": trial_id, "label": "flip", "phase": "search", "time": _time(0),
            "config": {"optimizer.lr": 0.01, "augment.policy": "flip", "epochs": 3, "image_size": "24x32"},
            **more}  # fmt: skip


def result(trial_id: str, epoch: int, score: float, **metrics: float) -> dict[str, Any]:
    """An epoch ends."""
    return {"event": "result", "trial_id": trial_id, "epoch": epoch, "seconds": 1.5, "time": _time(epoch),
            "metrics": {"val/miou": score, **metrics}}  # fmt: skip


def ended(trial_id: str, state: str = "completed", reason: str = "", *, epoch: int = 3) -> dict[str, Any]:
    """A trial ends."""
    return {"event": "ended", "trial_id": trial_id, "state": state, "reason": reason, "epoch": epoch,
            "time": _time(epoch)}  # fmt: skip


def report_in(run_dir: Path) -> Path:
    """A page with a table of two labels, and one without rows."""
    tables = run_dir / "report" / "tables"
    tables.mkdir(parents=True)
    (tables / "comparison.csv").write_text("label,iou\nbaseline,0.5\nbest,0.625\n")
    (tables / "pareto.csv").write_text("label,trial_id\n")
    (run_dir / "report" / "report.html").write_text("<html><body>the report</body></html>")
    return run_dir / "report"


def _time(epoch: int) -> str:
    return datetime.fromtimestamp(START + epoch, UTC).isoformat(timespec="milliseconds")
