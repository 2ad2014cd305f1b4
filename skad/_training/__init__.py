"""The one training loop: skorch's, held by every detector that learns by gradients.

A method is a `skad.nn.network.Network`, which states losses and scores, and a
`TorchDetector`, which builds it. Batches are slices of one tensor, or of what looks
like one (`skad._samples`). Every epoch draws from a generator seeded with the fit's
seed and the epoch's number, so that a run that is resumed from a checkpoint goes on
with the numbers it would have drawn.
"""

from skad._training._arguments import from_parameters
from skad._training._detector import TorchDetector
from skad._training._incremental import IncrementalNetworkMixin
from skad._training._private import Privacy
from skad._training._rows import RowNetworkDetector
from skad._training._schedules import (
    clipped,
    lower_after,
    lower_at_the_end,
    lower_one,
    polynomial,
    share_of_epochs,
    warm_cosine,
    warm_then_lower,
)
from skad._training._seeds import reproducible, seed_generators
from skad._training._shaped import ShapedDetector

__all__ = [
    "IncrementalNetworkMixin",
    "Privacy",
    "RowNetworkDetector",
    "ShapedDetector",
    "TorchDetector",
    "clipped",
    "from_parameters",
    "lower_after",
    "lower_at_the_end",
    "lower_one",
    "polynomial",
    "reproducible",
    "seed_generators",
    "share_of_epochs",
    "warm_cosine",
    "warm_then_lower",
]
