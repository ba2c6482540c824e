"""The numbers of a report's tables counted again from the files that it kept, by code of its own.

Nothing here is shared with the metrics, the intervals and the failure analysis that are checked
(`tests/analysis/audit/` holds that): definitions and limits are those of docs/METRICS.md, written down a second time.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `analysis.audit.__main__`."""
    from analysis.audit.__main__ import main as run

    return run(arguments)
