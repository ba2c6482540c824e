"""From a budget to a plan: how many trials of how many epochs, with how much confirmation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sweep.claims import Design, detectable, power
from sweep.forecast import REFIT_SHARE, TRIAL_SECONDS, WORKER_SECONDS
from sweep.plan import GAIN, IMAGE_SPREAD, SEED_SD, Plan
from sweep.predicting import Confirmation, Setting, predict, seconds_of
from sweep.schedulers import SCHEDULERS
from trainables.errors import UsageError

CONFIRMATIONS = tuple(Confirmation(top, seeds) for top, seeds in ((1, 3), (2, 3), (2, 4), (2, 5), (3, 5), (3, 6)))
"""From the cheapest to the dearest."""
CONFIRM_SHARE, CHEAPEST_SHARE = 1 / 3, 0.6
"""The most of all epochs that goes into the confirmation, and into the cheapest one: without it there is no verdict."""
LEAST_CONFIRMED = (8, 12, 20, math.inf)
"""A budget is spent on trials longer than so many epochs only once there is room for the next confirmation: 8 epochs go
with the cheapest of `CONFIRMATIONS`, 12 with the second."""
EPOCHS = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)
"""Lengths of a full trial that a time budget chooses from."""
TRIALS_PER_EPOCH = 0.25
"""A budget is spent on longer trials as long as there is room for so many trials per epoch of one: on simulated and on
recorded curves a quarter finds better configurations than three quarters (docs/benchmarks.md)."""
WHOLE = 15
"""Epochs of a training that is worth comparing with others, where a budget is proposed."""
MOST_TRIALS = 400


@dataclass(frozen=True)
class Asked:
    """What a command says of its budget; None where it says nothing.

    Attributes:
        trials: `--trials`.
        max_epochs: `--max-epochs`.
        time_budget: `--time-budget`, in seconds.
        confirm: `--confirm`: fresh seeds of each configuration that is trained again.
        refit: `--refit` or `--no-refit`.
    """

    trials: int | None
    max_epochs: int | None
    time_budget: float | None
    confirm: int | None = None
    refit: bool | None = None


def make_plan(setting: Setting, asked: Asked) -> Plan:
    """What a budget buys.

    With a time budget, the number of trials and their length follow from it where they are not given: the longest
    trials of which there is room for every starting point, for at least a quarter as many trials as they have epochs,
    and for a confirmation that goes with their length (`LEAST_CONFIRMED`). A budget without room for that is
    spent on the starting points and on fresh seeds. Where a confirmation is planned and a refit of the winner takes at
    most a tenth of the budget, time is kept for it and fewer trials are planned.

    Args:
        setting: Of the sweep.
        asked: By the command; without a time budget, both numbers.

    Raises:
        UsageError: If the time budget is too short for one trial and the report, or the length of trials cannot follow
            from it because nothing could be measured.
    """
    epochs, trials = asked.max_epochs, asked.trials
    if asked.time_budget is not None and (epochs is None or trials is None):
        epochs, trials, confirm = _fit(setting, asked, asked.time_budget)
    elif epochs is None or trials is None:
        raise ValueError("without a time budget both numbers are needed")
    else:
        confirm = _affordable(setting, asked, trials, epochs)
    trials, refit = _beside_a_refit(setting, asked, trials, epochs, confirm)
    predicted = predict(setting, trials, epochs, confirm)
    return Plan(
        trials=trials,
        max_epochs=epochs,
        starting_points=len(setting.space.start),
        compared=SCHEDULERS.get(setting.scheduler)(epochs).epochs(),
        search_epochs=round(predicted.search_epochs, 1),
        finish_epochs=round(predicted.finish_epochs, 1),
        prepare_seconds=round(setting.prepare_seconds, 1),
        trials_seconds=round(predicted.seconds, 1),
        report_seconds=round(setting.report_seconds(trials), 1),
        labels=setting.labels(trials),
        label_seconds=round(setting.label_seconds, 2),
        gpu_hours=round((predicted.busy_seconds + refit) * setting.gpus_per_trial / 3600, 3),
        memory_bytes=round(max((one.cost.memory_bytes * setting.at_once(one) for one in setting.costs), default=0)),
        disk_bytes=max((one.cost.checkpoint_bytes for one in setting.costs), default=0)
        * (trials + confirm.trials + setting.labels(trials) + 2 * bool(refit)),
        costs=setting.costs,
        confirm_top=confirm.top,
        confirm_seeds=confirm.seeds,
        confirm_epochs=round(predicted.confirm_epochs, 1),
        confirm_seconds=round(predicted.confirm_seconds, 1),
        refit_seconds=round(refit, 1),
        train_images=setting.train_images,
        val_images=setting.val_images,
        **_hopes(confirm, trials, setting.val_units),
    )


def _hopes(confirm: Confirmation, trials: int, units: int) -> dict[str, float]:
    """What a confirmation can hope to find on val: fields of the plan."""
    if not confirm.trials:
        return {}
    image_sd = IMAGE_SPREAD / math.sqrt(max(1, units))
    design = Design((confirm.seeds,) * (confirm.top + 1), units=units, chosen_from=max(confirm.top, trials - 1))
    return {
        "image_sd": round(image_sd, 4),
        "power": round(power(GAIN, design, SEED_SD, image_sd), 2),
        "detectable": round(detectable(design, SEED_SD, image_sd), 4),
    }


def _beside_a_refit(
    setting: Setting, asked: Asked, trials: int, epochs: int, confirm: Confirmation
) -> tuple[int, float]:
    """How many trials there is room for beside a refit, and its seconds: 0, and as many trials as before, without one.

    Its time is taken from the trials alone, so that their length and the confirmation are what they would be without.
    """
    if asked.refit is False or not (asked.refit or (asked.time_budget is not None and confirm.trials)):
        return trials, 0.0
    seconds = predict(setting, trials, epochs).refit_seconds
    if asked.time_budget is None:
        return trials, seconds
    if not asked.refit and seconds > REFIT_SHARE * asked.time_budget:
        return trials, 0.0
    left, fewer = asked.time_budget - seconds, trials
    least = max(confirm.top + 1, 1 if asked.refit else len(setting.space.start))
    while asked.trials is None and fewer > least and _command_seconds(setting, fewer, epochs, confirm) > left:
        fewer = max(least, fewer - max(1, fewer // 20))
    fits = _command_seconds(setting, fewer, epochs, confirm) <= left
    return (fewer, seconds) if fits else (trials, 0.0)


def _affordable(setting: Setting, asked: Asked, trials: int, epochs: int) -> Confirmation:
    """The dearest confirmation within `CONFIRM_SHARE` of all epochs, or the cheapest there is."""
    search = predict(setting, trials, epochs, simulations=2)
    spent = search.search_epochs + search.finish_epochs
    options = _confirmations(setting, asked, trials)
    fitting = [one for one in options if one.trials * epochs <= _share(one, spent)]
    return fitting[-1] if fitting else options[0]


def _confirmations(setting: Setting, asked: Asked, trials: int) -> list[Confirmation]:
    """Those that a sweep with so many trials can have, from the cheapest; at least one, which may be none."""
    varied = [parameter.key for parameter in setting.space.parameters]
    if not varied or "seed" in varied or trials < 2 or asked.confirm == 0:
        return [Confirmation()]
    possible = [one for one in CONFIRMATIONS if one.top < trials]
    if asked.confirm is None:
        return possible
    return [Confirmation(top, asked.confirm) for top in dict.fromkeys(one.top for one in possible)]


def propose(setting: Setting) -> float:
    """A time budget, in seconds, in which every starting point is tried at length and the sampler is asked as often."""
    trials = 2 * len(setting.space.start)
    confirm = _affordable(setting, Asked(trials, WHOLE, None), trials, WHOLE)
    wanted = _command_seconds(setting, trials, WHOLE, confirm) * 1.1
    refit = predict(setting, trials, WHOLE).refit_seconds
    wanted += refit if refit <= REFIT_SHARE * (wanted + refit) else 0.0
    steps = [60 * m for m in (5, 10, 15, 20, 30, 45)] + [3600 * h for h in (1, 1.5, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48)]
    return next((step for step in steps if step >= wanted), math.ceil(wanted / 86400) * 86400.0)


def _fit(setting: Setting, asked: Asked, budget: float) -> tuple[int, int, Confirmation]:
    """Epochs, trials and confirmation for a time budget."""
    least = len(setting.space.start) if asked.trials is None else asked.trials
    if not setting.costs:
        if asked.max_epochs is None:
            raise UsageError(
                "what an epoch costs cannot be measured on this machine, since the trials will run on others: give "
                "--max-epochs beside --time-budget; the number of trials follows from what they report"
            )
        return asked.max_epochs, least, _affordable(setting, asked, least, asked.max_epochs)

    def room(epochs: int, confirm: Confirmation) -> int:
        """Trials of a length that fit beside a confirmation: a guess put right by what is predicted for it."""
        available = budget - setting.prepare_seconds - setting.report_seconds(least)
        available -= predict(setting, max(2, least), epochs, confirm, simulations=1).confirm_seconds
        if available <= 0:
            return 0
        trials, fitting = max(least, 4), 0
        for _ in range(6):
            seconds = predict(setting, trials, epochs, simulations=2).seconds
            if seconds <= available:
                fitting = max(fitting, trials)
            closer = int(trials * available / seconds) if seconds > 0 else MOST_TRIALS
            closer = min(MOST_TRIALS, max(1, closer))
            if closer == trials:
                break
            trials = closer
        return fitting

    def searched(trials: int, epochs: int) -> float:
        return predict(setting, trials, epochs, simulations=1).search_epochs if trials else 0.0

    def options(epochs: int) -> list[tuple[int, Confirmation]]:
        """Trials with the confirmation beside them, the dearest first, where it takes no more than its share."""
        possible = [(room(epochs, one), one) for one in _confirmations(setting, asked, asked.trials or MOST_TRIALS)]
        return [
            (trials, one)
            for trials, one in reversed(possible)
            if trials > one.top and one.trials * epochs <= _share(one, searched(trials, epochs))
        ]

    def most(epochs: int) -> tuple[int, Confirmation] | None:
        """The dearest confirmation beside which there is room for enough trials, if it is enough for such lengths."""
        enough = max(least, math.ceil(TRIALS_PER_EPOCH * epochs) if asked.trials is None else 0)
        fitting = [(trials, one) for trials, one in options(epochs) if trials >= enough]
        needed = 0 if asked.confirm is not None else _least_trials(epochs)
        return next(((trials, one) for trials, one in fitting if one.trials >= needed or not varied), None)

    varied = _confirmations(setting, asked, MOST_TRIALS)[0].trials > 0
    lengths = EPOCHS if asked.max_epochs is None else (asked.max_epochs,)
    found = next(((epochs, *pair) for epochs in reversed(lengths) if (pair := most(epochs)) is not None), None)
    epochs, trials, confirm = found or _tight(lengths[0], room, _confirmations(setting, asked, MOST_TRIALS)[0])
    trials = trials if asked.trials is None else asked.trials
    while asked.trials is None and trials > 1 and _command_seconds(setting, trials, epochs, confirm) > budget:
        trials -= max(1, trials // 20)
    shortest = _first_trial_seconds(setting, epochs)
    if shortest > budget:
        raise UsageError(
            f"--time-budget of {budget:.0f} s is too short: starting, one trial of {epochs} epochs and the report take "
            f"about {shortest:.0f} s here; give --time-budget {math.ceil(1.2 * shortest / 60)}m or more"
        )
    return epochs, max(1, trials), confirm if trials > confirm.top else Confirmation()


def _tight(
    epochs: int, room: Callable[[int, Confirmation], int], cheapest: Confirmation
) -> tuple[int, int, Confirmation]:
    """What a budget that is too small for a search has room for: starting points, and seeds if there are two."""
    trials = room(epochs, cheapest)
    if trials > cheapest.top:
        return epochs, trials, cheapest
    return epochs, room(epochs, Confirmation()), Confirmation()


def _share(confirm: Confirmation, search_epochs: float) -> float:
    """The most epochs that a confirmation may take beside a search of so many."""
    share = CHEAPEST_SHARE if confirm == CONFIRMATIONS[0] else CONFIRM_SHARE
    return share / (1 - share) * search_epochs


def _least_trials(epochs: int) -> int:
    """Trials of the confirmation that a search with trials of this length should have room for."""
    return next(one.trials for most, one in zip(LEAST_CONFIRMED, CONFIRMATIONS, strict=False) if epochs <= most)


def _command_seconds(setting: Setting, trials: int, epochs: int, confirm: Confirmation) -> float:
    predicted = predict(setting, trials, epochs, confirm)
    return setting.prepare_seconds + predicted.all_seconds + setting.report_seconds(trials)


def _first_trial_seconds(setting: Setting, epochs: int) -> float:
    """Of a command that trains nothing but the baseline."""
    seconds = seconds_of(setting, setting.points()[0]) * epochs
    return setting.prepare_seconds + WORKER_SECONDS + TRIAL_SECONDS + seconds + setting.report_seconds(1)
