"""What tests have other processes call: a module that is quickly imported there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from trainables import followers
from trainables.ranks import Ranks


class Unmet(Ranks):
    """A rank whose process ends before it meets the others: killed, or by an error."""

    def join(self, folder: Path) -> None:
        if os.environ.get("UNMET") == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("no device")


def same(ranks: Ranks) -> Ranks:
    """Builds nothing."""
    return ranks


def number(ranks: Ranks) -> int:
    """Of the process that is asked."""
    return ranks.rank


def listening(ranks: Ranks) -> tuple[int, list[str], list[str]]:
    """The id of this process, the addresses (hexadecimal, as Linux tells them) that it listens on, and its settings."""
    links = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
    own = {os.readlink(link) for link in links if os.path.islink(link)}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in own:
                found.append(local.partition(":")[0])
    settings = [os.environ.get(name, "") for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")]
    return os.getpid(), found, settings


def never(ranks: Ranks) -> None:
    """Does not end in rank 1."""
    if ranks.rank == 1:
        time.sleep(600)


def lead(pipe: Any) -> None:
    """Rank 0 of two: says what they listen on, and waits for the other for ever."""
    followers.start_method = lambda *more: "spawn"  # quicker than a process that imports everything for one other
    leader = followers.Leader(2, "cpu", same)
    pipe.send(leader.everywhere(listening, leader))
    leader.everywhere(never, leader)
