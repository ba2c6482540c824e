"""Runs docs/notebook.ipynb in a real Jupyter kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from .command import REPO, environment

NOTEBOOK = REPO / "docs" / "notebook.ipynb"


def executed(settings: str, *more: str, cwd: Path) -> dict[str, list[Any]]:
    """The outputs of its cells, by their ids; a cell that raises ends it.

    Args:
        settings: The source of the cell `settings`.
        more: Sources of further cells at its end, `more-0`, `more-1` and so on.
        cwd: Of the kernel.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.id == "settings":
            cell.source = settings
    notebook.cells += [nbformat.v4.new_code_cell(source, id=f"more-{place}") for place, source in enumerate(more)]
    where = {"metadata": {"path": str(cwd)}}
    NotebookClient(notebook, timeout=None, kernel_name="python3", resources=where).execute(env=environment())
    return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def printed(outputs: list[Any]) -> str:
    """What a cell printed."""
    return "".join(output.text for output in outputs if output.output_type == "stream")
