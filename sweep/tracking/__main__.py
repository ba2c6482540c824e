"""`python -m sweep.tracking RUN`: tells a tracker of a sweep that is not running, whatever it was followed by."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sweep.journal import JOURNAL_FILE, Journal
from sweep.manifest import SweepManifest
from sweep.tracking.base import OF_ITS_OWN, TRACKERS, TrackedSweep, chosen
from sweep.tracking.flags import add_track_flag, trackers_of
from sweep.tracking.follower import Followers
from sweep.verify import open_run
from trainables.data.flags import add_run
from trainables.flags import command_parser
from trainables.guarded import guarded
from trainables.run_folder import REPORT_FILE, report_folder

SECONDS = 600.0
"""At most, until everything is written."""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = command_parser(
        "sweep.tracking",
        "Write the trials of a sweep that is not running, and its report (on test, else on val), to W&B or to the "
        "trackers that --track names. What is there already is not written twice.",
    )
    add_run(flags)
    flags.add_argument("--wandb", choices=("offline", "online"), help="W&B (default: offline, without --track)")
    flags.add_argument("--wandb-project", metavar="NAME", help="default: the sweep's own")
    add_track_flag(flags)
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 1 if something could not be written."""
    asked = parser().parse_args(arguments)
    return guarded(lambda: _write(asked), interrupted="interrupted; the same command writes what is missing")


def _write(asked: argparse.Namespace) -> int:
    run_dir: Path = asked.run
    others = trackers_of(asked.track) or {}
    places = chosen(asked.wandb or ("disabled" if others else "offline"), others)
    open_run(run_dir)
    with Journal(run_dir / JOURNAL_FILE) as journal:  # locked: a sweep that runs writes for itself
        manifest = SweepManifest.load(run_dir).as_of(journal.others, journal.path)
        sweep = TrackedSweep(run_dir, manifest.name, manifest.created, asked.wandb_project or manifest.tracking.project)
        followers = Followers(sweep, places, warn=lambda text: print(text, file=sys.stderr))
        journal.follow(followers.on_event)
        folders = [report_folder(run_dir, split) for split in ("test", "val")]
        report = next((one for one in folders if (one / REPORT_FILE).is_file()), None)
        if report is not None:
            followers.report(report)
        if not followers.close(timeout=SECONDS):
            return 1
        for name, place in places.items():
            where = run_dir / name if name == OF_ITS_OWN or not place else place
            print(f"written to {TRACKERS.get(name).title}: {where}" + (" (offline)" if place == "offline" else ""))
        return 0


if __name__ == "__main__":
    sys.exit(main())
