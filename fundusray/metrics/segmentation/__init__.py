"""How good a segmentation is, from counts of each image: figures with intervals, lesions one by
one, sizes, the worst of several attacks.

`counts` makes the counts where the logits are and alone needs torch, `repeats` takes several
trainings together: both are imported by name.
"""

from fundusray.metrics.segmentation.figures import (
    segmentation_differences,
    segmentation_figure_names,
    segmentation_figures,
    segmentation_summary,
)
from fundusray.metrics.segmentation.froc import froc, sensitivity_at
from fundusray.metrics.segmentation.sizes import (
    aupr_by_size,
    size_differences,
    small_lesions_fall_first,
)
from fundusray.metrics.segmentation.table import (
    is_segmentation_table,
    segmentation_classes_of,
    segmentation_columns_of,
    segmentation_table,
)
from fundusray.metrics.segmentation.worst_cases import (
    chosen_columns,
    worst_by_image,
    worst_by_running_miou,
)

__all__ = [
    "aupr_by_size",
    "chosen_columns",
    "froc",
    "is_segmentation_table",
    "segmentation_classes_of",
    "segmentation_columns_of",
    "segmentation_differences",
    "segmentation_figure_names",
    "segmentation_figures",
    "segmentation_summary",
    "segmentation_table",
    "sensitivity_at",
    "size_differences",
    "small_lesions_fall_first",
    "worst_by_image",
    "worst_by_running_miou",
]
