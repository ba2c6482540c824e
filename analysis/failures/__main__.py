"""`python -m analysis.failures`: measures the failures of any model's masks, and draws them where there are images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from analysis.failures.kinds import kinds_text
from analysis.failures.masks import read_classes
from analysis.failures.writing import (
    add_mask_flags,
    factor_lines,
    failure_tables,
    measure_masks,
    open_asked,
    slice_lines,
    type_lines,
    write_failures,
)
from trainables.flags import command_parser
from trainables.guarded import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code: 0 done, 1 the masks cannot be used, 2 bad usage."""
    options = _parser().parse_args(arguments)
    return guarded(lambda: _run(options), interrupted="interrupted", elsewhere="--out DIR")


def _run(options: argparse.Namespace) -> int:
    description = read_classes(options.classes)
    names = [info.name for info in description.classes]
    masks, kinds = open_asked(options, description, {options.predictions.name: options.predictions})
    splits = measure_masks(masks, names, kinds, iou_limit=options.iou, connectivity=options.connectivity)
    tables = failure_tables(splits, names, iou_limit=options.iou)
    write_failures(tables, splits, masks, description.classes, options.out)
    for note in (*masks.notes, kinds_text(names, kinds)):
        print(f"note: {note}")
    failing = [len(tables[name]) for name in ("failures", "component_failures")]
    print(
        f"{failing[0]} of the (image, class) regions have IoU <= {options.iou:g}, and {failing[1]} connected "
        f"components ({options.connectivity}-connected): {options.out}"
    )
    totals = tables["causes"].set_index("cause").sum(axis=1)
    for cause, count in totals[totals > 0].sort_values(ascending=False).items():
        print(f"  {int(count):5d}  {cause}")
    print("\n".join(type_lines(tables["error_types"])))
    if "factors" in tables:
        reasons = factor_lines(tables["factors"]) or ["no measured factor is called a reason"]
        print("\n".join([*reasons, *slice_lines(tables["slices"])]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "analysis.failures",
        "Finds the regions and connected components that a model's masks get wrong, measures the causes, "
        "and gives each wrong pixel a type; docs/METRICS.md defines them.",
    )
    add_mask_flags(parser, out="failures")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
