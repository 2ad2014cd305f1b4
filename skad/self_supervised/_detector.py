"""Which of several transformations a sample went through: network, scores, base."""

from math import prod
from numbers import Integral
from typing import ClassVar

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import ShapedDetector
from skad.nn.network import FromMeanNetwork

# Elements of transformed samples, and of evidence, that are held together.
_TOGETHER = 2**21


def right(evidence, which):
    """Return the evidence (b, k) of the transformations (k,) that were used."""
    return evidence[:, torch.arange(len(which), device=which.device), which]


def _squared_error(evidence, which):
    hot = functional.one_hot(which, evidence.shape[2])  # (k, K)
    return ((evidence.exp() - hot) ** 2).mean(2).sum(1)


# What some of the transformations add to the anomaly (b,): of log probabilities (b, k,
# K) that a sample went through each of K, and which k it went through.
REDUCTIONS = {
    "log_probability": lambda evidence, which: -right(evidence, which).sum(1),
    "probability": lambda evidence, which: (1 - right(evidence, which).exp()).sum(1),
    "entropy": lambda evidence, which: -(evidence.exp() * evidence).sum((1, 2)),
    "max": lambda evidence, which: (1 - evidence.amax(2).exp()).sum(1),
    "squared_error": _squared_error,
}


class TransformationNetwork(FromMeanNetwork):
    """A network that says by which of K transformations a sample was made.

    Subclasses write `log_probabilities(transformed)`, and `loss`.

    Parameters
    ----------
    shape : tuple of int
        Of a sample.
    transforms : Module
        ``transforms(x, which)`` gives a slice of all transformations, (b, k, ...); its
        length is K. What is drawn is in its buffers.
    measure : str
        A key of `REDUCTIONS`.
    """

    def __init__(self, shape, transforms, measure):
        super().__init__(shape)
        if len(transforms) < 2:
            raise ValueError(
                "A single transformation leaves nothing to tell apart; "
                "n_transformations has to be 2 or more."
            )
        self.transforms, self.measure = transforms, measure

    def log_probabilities(self, transformed):
        """Return log probabilities (b, k, K) of transformed samples (b, k, ...)."""
        raise NotImplementedError

    def evidence(self, x, which=slice(None)):
        """Return log probabilities (b, k, K) of the transformations of samples."""
        return self.log_probabilities(self.transforms(x, which))

    def size(self):
        """Return how many elements a transformed sample takes."""
        return max(len(self.transforms), prod(self.transforms.output_shape))

    def parts(self, x):
        """Yield the evidence of some transformations at a time, and which these are."""
        places = torch.arange(len(self.transforms), device=x.device)
        for part in places.split(max(1, _TOGETHER // (len(x) * self.size()))):
            yield self.evidence(x, slice(int(part[0]), int(part[-1]) + 1)), part

    def reduce(self, evidence, which):
        """Return what some transformations add to the anomaly (b,)."""
        return REDUCTIONS[self.measure](evidence, which)

    def anomaly(self, x):
        """Return the mean of what the transformations add, some of them at a time."""
        found = sum(self.reduce(*part) for part in self.parts(x))
        return found / len(self.transforms)


@with_parameters
class TransformationDetector(ShapedDetector):
    r"""Base of networks that learn which transformation a sample went through.

    Parameters
    ----------
    n_transformations : int, default=32
        Number :math:`K` of transformations, at least 2.
    measure : str, default="log_probability"
        With the probabilities :math:`p_{ij}` that a sample which went through
        transformation i went through j, the anomaly is the mean over i of
        :math:`-\log p_{ii}` ("log_probability"), :math:`1 - p_{ii}` ("probability"),
        the entropy of :math:`p_i` ("entropy"), :math:`1 - \max_j p_{ij}` ("max") or
        the mean squared error of :math:`p_i` ("squared_error").
    """

    n_transformations: int = 32
    measure: str = "log_probability"

    _exports: ClassVar[bool] = False  # their maps take gradients
    _costly = ("n_transformations",)
    _parameter_constraints = {
        "n_transformations": [Interval(Integral, 2, None, closed="left")],
        "measure": [StrOptions(set(REDUCTIONS))],
    }
