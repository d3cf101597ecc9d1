"""Valuation: what each training sample adds to a model, for pruning and for a static order.

A value is a share of the performance v: positive where the sample helps, negative where it harms,
all of them together what the whole data set adds. Higher is better, so it is the opposite of a
difficulty: `difficulty` turns values into a score for `gradatim.Predefined`. Exact values ask for
v of every subset; permutations estimate them; for nearest neighbours there is a closed form.

Example:
    A wrong label among six samples of two classes, judged by four others:

    >>> import torch
    >>> from gradatim.valuation import knn_shapley, pruned, value_table
    >>> x = torch.tensor([[0.0], [1.0], [2.0], [7.0], [8.0], [9.0]])
    >>> y = torch.tensor([0, 1, 0, 1, 1, 1])
    >>> test_x, test_y = torch.tensor([[0.9], [1.2], [7.2], [8.8]]), torch.tensor([0, 0, 1, 1])
    >>> values = knn_shapley(x, y, test_x, test_y, k=1)
    >>> value_table(values, 1, columns={"label": y})
    [{'place': 1, 'index': 1, 'value': -0.2333..., 'label': 1}]
    >>> pruned(values)  # for torch.utils.data.Subset
    tensor([0, 2, 3, 4, 5])
"""

from gradatim.valuation.exact import exact_shapley
from gradatim.valuation.gradient import gradient_shapley, single_epoch_rate
from gradatim.valuation.neighbours import knn_shapley
from gradatim.valuation.permutations import tmc_shapley
from gradatim.valuation.ranking import difficulty, lowest_valued, pruned, value_table
from gradatim.valuation.result import Valuation

__all__ = [
    "Valuation",
    "difficulty",
    "exact_shapley",
    "gradient_shapley",
    "knn_shapley",
    "lowest_valued",
    "pruned",
    "single_epoch_rate",
    "tmc_shapley",
    "value_table",
]
