"""The ablation: the winner with one component at a time set back to the baseline's, over fresh seeds.

It is asked for (event `ablate_asked`), after the confirmation, which says who the winner is. The seeds are those of the
confirmation, so that the winner's own trials are not trained again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sweep.journal import Event
from sweep.phase_kinds import ABLATE
from sweep.phases.base import Context, Phase, Proposal
from sweep.phases.confirm import confirm_id, fresh_seed, repeated
from sweep.ranking import mean_goodness
from sweep.verdict import WITHOUT
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.labels import BASELINE


class Ablate(Phase):
    """Trains the winner without each of its components.

    Args:
        context: Of the sweep.
        seed: The sweep's seed.
    """

    kind = ABLATE

    def __init__(self, context: Context, *, seed: int) -> None:
        self.context = context
        self._seed = seed
        self._seeds = 0
        self._asked = False
        self._choice: Mapping[str, Any] | None = None

    def next(self) -> Proposal | None:
        """The next seed of the next component."""
        if not self._asked:
            return None
        if self._choice is None:
            self._choose()
        for number in range(1, self._seeds + 1):
            for component, config in self._variants().items():
                trial_id = self._trial_id(component, number)
                if trial_id not in self.context.table.trials:
                    winner = self.context.table.trials[self._choice["winner"]] if self._choice else None
                    return Proposal(
                        trial_id,
                        winner.number if winner else 0,
                        f"{WITHOUT}{component}",
                        {**config, "seed": fresh_seed(self._seed, number)},
                        {},
                        "without a component",
                    )
        return None

    def done(self) -> bool:
        """Whether nothing was asked for, or every seed of every component was trained."""
        if self.is_running():
            return False
        return not self._asked or (
            self._choice is not None
            and all(
                self._trial_id(component, number) in self.context.table.trials
                for component in self._variants()
                for number in range(1, self._seeds + 1)
            )
        )

    def on_event(self, event: Event, *, replayed: bool) -> None:
        """Follows what was asked for and chosen; another confirmation may bring another winner."""
        kind = event["event"]
        if kind == "ablate_asked":
            self._asked, self._seeds, self._choice = True, event["seeds"], None
        elif kind == "ablating":
            self._choice = event
        elif kind == "confirming":
            self._choice = None
        elif kind == "extended":
            self._asked = False  # the search goes on; who wins then is to be asked about again

    def _choose(self) -> None:
        """Writes down who the winner is and which components it has."""
        groups = self.context.table.confirmed(self.context.objective)
        best = max(groups, key=lambda group: mean_goodness(group, self.context.objective)) if groups else None
        variants: dict[str, dict[str, Any]] = {}
        reason = ""
        if best is None:
            reason = "there are not two fresh seeds of the baseline and of another configuration"
        elif best[0].label == BASELINE:
            reason = "the baseline has the best mean: there is no winner to take apart"
        else:
            variants = without_each(groups[0][0].config, best[0].config)
            reason = "" if variants else "the winner differs from the baseline in one component alone"
        winner = repeated(best[0].trial_id) if best is not None and variants else ""
        self.context.note("ablating", winner=winner, components=variants, reason=reason)

    def _variants(self) -> Mapping[str, Mapping[str, Any]]:
        return self._choice["components"] if self._choice is not None else {}

    def _trial_id(self, component: str, number: int) -> str:
        winner = self._choice["winner"] if self._choice is not None else ""
        return confirm_id(f"{winner}-{WITHOUT}{component}", number)


def without_each(baseline: Mapping[str, Any], winner: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The winner's configuration with each of its components set back to the baseline's.

    A component is a section whose name both have (`augment`, `loss`, `model`, `schedule`: what belongs to a policy
    belongs together), or else a single key, such as `optimizer.lr`. What is no configuration is left out: a single
    component is the baseline again, and some keys only make sense together.

    Args:
        baseline: Flat configuration.
        winner: Flat configuration.

    Returns:
        Flat configurations by component, without seeds; empty if there are fewer than two.
    """
    keys = sorted(
        key for key in {*baseline, *winner} if key not in ("seed", "epochs") and baseline.get(key) != winner.get(key)
    )
    components = list(dict.fromkeys(_component(key, baseline, winner) for key in keys))
    if len(components) < 2:
        return {}
    found = {}
    for component in components:
        own = {key for key in {*baseline, *winner} if key == component or key.startswith(f"{component}.")}
        flat = {key: value for key, value in winner.items() if key not in own}
        flat |= {key: value for key, value in baseline.items() if key in own}
        try:
            whole = TrialConfig.from_flat(flat).flat()
        except ConfigError:
            continue
        found[component] = {key: value for key, value in whole.items() if key != "seed"}
    return found


def _component(key: str, baseline: Mapping[str, Any], winner: Mapping[str, Any]) -> str:
    """The section of a key where the two differ in what the section is, or in more than one key of it; else the key."""
    section, _, rest = key.partition(".")
    if not rest:
        return key
    names = {name for name in {*baseline, *winner} if name.startswith(f"{section}.")}
    is_other = any(
        baseline.get(name) != winner.get(name) for name in (f"{section}.name", f"{section}.policy") if name in names
    )
    return section if is_other or section == "augment" else key


def ablating(events: Iterable[Event]) -> Mapping[str, Any] | None:
    """The last event that says which components of which winner are taken away; None if there is none."""
    found = [event for event in events if event["event"] == "ablating"]
    return found[-1] if found else None
