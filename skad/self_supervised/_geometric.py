"""Which of several ways a picture's pixels were moved: what GEOM's relatives share."""

from numbers import Real
from typing import Any

import torch
from torch.nn import functional

from skad._parameters import absent, with_parameters
from skad._sklearn import Interval
from skad._training._pictures import PictureNetworkDetector
from skad.nn.wide_resnet import read_pictures
from skad.self_supervised._detector import (
    REDUCTIONS,
    TransformationDetector,
    TransformationNetwork,
)


def spread(n, n_samples, device):
    """Draw which of n transformations each sample goes through, each about as often."""
    times = -(-n_samples // n)
    return (torch.randperm(times * n)[:n_samples] % n).to(device)


class MovedPixelsNetwork(TransformationNetwork):
    """A network that says how the pixels of a picture were moved."""

    def __init__(self, shape, transforms, measure, architecture, hidden_sizes, n=None):
        super().__init__(shape, transforms, measure)
        n = len(transforms) if n is None else n
        self.classifier = read_pictures(architecture, shape, n, hidden_sizes)
        self.width = max(hidden_sizes or (64,))

    def size(self):
        """Return how many elements a transformed picture takes within the network."""
        return self.width * super().size()

    def log_probabilities(self, transformed):
        """Return log probabilities of transformed pictures (b, k, c, h, w)."""
        logits = self.classifier(transformed.flatten(0, 1))
        return functional.log_softmax(logits.unflatten(0, transformed.shape[:2]), 2)

    def loss(self, x, y):
        """Return the cross-entropy: of one map for each picture, held out of all."""
        if not self.training:
            reduce = REDUCTIONS["log_probability"]
            found = sum(reduce(*part) for part in self.parts(x))
            return found.mean() / len(self.transforms)
        which = spread(len(self.transforms), len(x), x.device)
        return functional.cross_entropy(
            self.classifier(self.transforms.each(x, which)), which
        )


@with_parameters
class MovedPixelsDetector(PictureNetworkDetector, TransformationDetector):
    """Base of networks that learn how the pixels of a picture were moved.

    Parameters
    ----------
    shift : float, default=0.25
        By how much pictures are shifted, as a share of their side, in [0, 1), at least
        one pixel; 0 shifts none.
    """

    shift: float = 0.25
    n_transformations: Any = absent()

    _costly = ("hidden_sizes",)
    _parameter_constraints = {"shift": [Interval(Real, 0, 1, closed="left")]}
