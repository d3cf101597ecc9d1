"""The data of a comparison: what is trained on, what chooses the checkpoint, what judges.

`Source` says where data come from, `load` reads them, `make_task` splits them for a seed and puts
a `Stress` on the training part. Validation and test parts stay as they were.
"""

from gradatim.compare.data.bundled import SETTINGS, Setting, digits
from gradatim.compare.data.loading import Loaded, load
from gradatim.compare.data.parts import folds_of, parts_of
from gradatim.compare.data.source import BUNDLED, Source
from gradatim.compare.data.splits import stratified_split
from gradatim.compare.data.stress import Stress, flip_labels, flip_pairs, long_tail, swap_labels
from gradatim.compare.data.task import Samples, Task, make_task

__all__ = [
    "BUNDLED",
    "SETTINGS",
    "Loaded",
    "Samples",
    "Setting",
    "Source",
    "Stress",
    "Task",
    "digits",
    "flip_labels",
    "flip_pairs",
    "folds_of",
    "load",
    "long_tail",
    "make_task",
    "parts_of",
    "stratified_split",
    "swap_labels",
]
