"""The loss."""

from collections.abc import Sequence

from search_spaces.common import known_good_lr, learning_rate, models_choice, start_point
from search_spaces.space import SPACES, SearchSpace, When, choice, number
from trainables.losses import LOSSES
from trainables.registry import Scalar

SUMS = ("cross_entropy+dice", "cross_entropy+lovasz")
"""Weighted sums that are labels of their own: cross-entropy for a steady gradient, an overlap for small classes."""

SMOOTHED = ("cross_entropy", "weighted_cross_entropy")
"""Losses of which label smoothing is searched; within a sum it keeps its default, 0."""

KNOWN_GOOD: dict[str, dict[str, Scalar]] = {
    "cross_entropy": {"loss.label_smoothing": 0.0},
    "weighted_cross_entropy": {
        "loss.weighting": "inverse_frequency",
        "loss.power": 0.5,
        "loss.label_smoothing": 0.0,
    },
    "focal": {"loss.gamma": 2.0},
    "tversky": {"loss.alpha": 0.3, "loss.beta": 0.7},
    "ohem_cross_entropy": {"loss.threshold": 0.7, "loss.min_kept": 0.0625},
    **{name: {"loss.second_share": 0.5} for name in SUMS},
}
"""Where each label starts."""


@SPACES.register("loss")
def loss(models: Sequence[str], weights: str) -> SearchSpace:
    """Which loss helps rare and thin classes without costing the rest?

    Ranges: label smoothing around the 0.1 of Szegedy et al. (2016). Class weights from a quarter of the inverse
    frequency's power to the whole, or, by effective numbers (Cui et al., 2019), equal above a share of 0.1% to 10% of
    the pixels. Focal's gamma around the 2 of Lin et al. (2017), who tried 0.5 to 5. Tversky's alpha and beta span the
    pairs from (0.5, 0.5) to (0.1, 0.9) of Salehi et al. (2017), who found (0.3, 0.7) best. OHEM around the usual
    threshold 0.7 and least share 1/16 of segmentation code bases. The second share of a sum around one half, after
    Isensee et al. (nnU-Net, 2021). The learning rate is a nuisance parameter, since losses differ in scale.
    """
    rate = {"optimizer.lr": known_good_lr(models[0], weights)}
    names = ["cross_entropy", *(name for name in LOSSES if name != "cross_entropy"), *SUMS]

    def only(*owners: str) -> tuple[When, ...]:
        return (When("loss.name", owners),)

    def weighted_by(weighting: str) -> tuple[When, ...]:
        return (*only("weighted_cross_entropy"), When("loss.weighting", (weighting,)))

    return SearchSpace(
        name="loss",
        description="Which loss serves all classes best?",
        parameters=(
            *models_choice(models),
            choice("loss.name", names, role="scientific", reason="every registered loss, and two sums"),
            number(
                "loss.label_smoothing",
                0.0,
                0.2,
                role="scientific",
                when=only(*SMOOTHED),
                reason="0 is off; Szegedy et al. used 0.1",
            ),
            choice(
                "loss.weighting",
                ("inverse_frequency", "effective_number"),
                role="scientific",
                when=only("weighted_cross_entropy"),
                reason="tempered by a power, or capped",
            ),
            number(
                "loss.power",
                0.25,
                1.0,
                role="scientific",
                when=weighted_by("inverse_frequency"),
                reason="0 is plain cross-entropy, 1 the full inverse frequency",
            ),
            number(
                "loss.volume",
                1e-3,
                0.1,
                log=True,
                role="scientific",
                when=weighted_by("effective_number"),
                default=0.01,
                reason="classes above this share of the pixels weigh the same",
            ),
            number("loss.gamma", 0.5, 5.0, role="scientific", when=only("focal"), reason="Lin et al. tried 0.5 to 5"),
            number(
                "loss.alpha",
                0.1,
                0.5,
                role="scientific",
                when=only("tversky"),
                reason="price of false alarms; Salehi et al. tried 0.1 to 0.5",
            ),
            number(
                "loss.beta",
                0.5,
                0.9,
                role="scientific",
                when=only("tversky"),
                reason="price of misses; Salehi et al. tried 0.5 to 0.9",
            ),
            number(
                "loss.threshold",
                0.5,
                0.9,
                role="scientific",
                when=only("ohem_cross_entropy"),
                reason="what counts as hard; 0.7 is usual",
            ),
            number(
                "loss.min_kept",
                0.02,
                0.5,
                log=True,
                role="scientific",
                when=only("ohem_cross_entropy"),
                reason="share of pixels that trains at least; 1/16 is usual",
            ),
            number(
                "loss.second_share",
                0.1,
                0.9,
                role="scientific",
                when=only(*SUMS),
                reason="from mostly cross-entropy to mostly overlap",
            ),
            learning_rate(),
        ),
        label_by="loss.name",
        start=tuple(start_point(models, {"loss.name": name, **KNOWN_GOOD.get(name, {}), **rate}) for name in names),
        fixed={"optimizer.name": "adamw"},
    )
