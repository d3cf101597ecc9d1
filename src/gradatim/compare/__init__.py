"""Does a curriculum help, at equal cost, beyond chance?

`gradatim compare` on the command line. The tests it stands on are public: they take paired results,
one value per seed, whoever made them.
"""

from gradatim.compare.power import (
    minimum_detectable_difference,
    smallest_sign_flip_p,
    t_test_power,
)
from gradatim.compare.statistics import (
    EquivalenceTest,
    McNemarTest,
    PairedTTest,
    SignFlipTest,
    equivalence_test,
    holm,
    mcnemar,
    paired_t_test,
    sign_flip_test,
)
from gradatim.compare.verdicts import Comparison, judge

__all__ = [
    "Comparison",
    "EquivalenceTest",
    "McNemarTest",
    "PairedTTest",
    "SignFlipTest",
    "equivalence_test",
    "holm",
    "judge",
    "mcnemar",
    "minimum_detectable_difference",
    "paired_t_test",
    "sign_flip_test",
    "smallest_sign_flip_p",
    "t_test_power",
]
