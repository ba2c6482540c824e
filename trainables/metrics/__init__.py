"""What a prediction is worth: collectors, the functions of what they counted, and the registry of metrics.

Every definition, with its formula and its treatment of void and of absent classes, is in docs/METRICS.md. Importing the
package registers every metric. It does not load torch, so that a command's help can list the metrics: the collectors,
which need it, are loaded when one of them is first asked for.
"""

from typing import TYPE_CHECKING

from trainables import lazy
from trainables.metrics.arrays import (
    Confusions,
    Counts,
    Floats,
    margins,
    mean_over_classes,
    mean_over_split_classes,
    weighted_sum,
)
from trainables.metrics.image_counts import ImageCounts
from trainables.metrics.of_model import LATENCY, OF_MODEL, PARAMS
from trainables.metrics.one_class import class_key, class_measure, class_metric, class_metrics, has_classes, split_key
from trainables.metrics.pixels import average_precision, f1, iou, pixel_accuracy, precision, recall
from trainables.metrics.regions import (
    IOU_THRESHOLDS,
    region_average_precision,
    region_matches,
    region_presence,
    region_scores,
)
from trainables.metrics.registry import (
    METRICS,
    VAL,
    Collected,
    ConfusionsAlone,
    Direction,
    Measure,
    Metric,
    Replicates,
    all_metrics,
    confusion_metric,
    register,
    summary,
)
from trainables.metrics.resampling import Units, draw_counts, leave_out_weights, replicate_weights, sampling_units

if TYPE_CHECKING:
    from trainables.metrics.collectors import (
        IGNORE,
        Collector,
        ConfusionMatrix,
        PerImageConfusion,
        RegionConfidence,
        confusion_matrix,
    )
    from trainables.metrics.scores import SCORE_CELLS, SCORE_LEVELS, ScoreHistogram, score_cells

__all__ = [
    "IGNORE",
    "IOU_THRESHOLDS",
    "LATENCY",
    "METRICS",
    "OF_MODEL",
    "PARAMS",
    "SCORE_CELLS",
    "SCORE_LEVELS",
    "VAL",
    "Collected",
    "Collector",
    "ConfusionMatrix",
    "Confusions",
    "ConfusionsAlone",
    "Counts",
    "Direction",
    "Floats",
    "ImageCounts",
    "Measure",
    "Metric",
    "PerImageConfusion",
    "RegionConfidence",
    "Replicates",
    "ScoreHistogram",
    "Units",
    "all_metrics",
    "average_precision",
    "class_key",
    "class_measure",
    "class_metric",
    "class_metrics",
    "confusion_matrix",
    "confusion_metric",
    "draw_counts",
    "f1",
    "has_classes",
    "iou",
    "leave_out_weights",
    "margins",
    "mean_over_classes",
    "mean_over_split_classes",
    "pixel_accuracy",
    "precision",
    "recall",
    "region_average_precision",
    "region_matches",
    "region_presence",
    "region_scores",
    "register",
    "replicate_weights",
    "sampling_units",
    "score_cells",
    "split_key",
    "summary",
    "weighted_sum",
]


__getattr__ = lazy.attributes(
    __name__,
    {
        "collectors": (
            "IGNORE",
            "Collector",
            "ConfusionMatrix",
            "PerImageConfusion",
            "RegionConfidence",
            "confusion_matrix",
        ),
        "scores": ("SCORE_CELLS", "SCORE_LEVELS", "ScoreHistogram", "score_cells"),
    },
)
