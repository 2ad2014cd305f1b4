"""E3Outlier: many ways to move pixels, learned from pictures with anomalies."""

import math
from collections.abc import Sequence

import torch

from skad._parameters import with_parameters
from skad.nn.pixel_moves import PixelMoves, distinct, rearranged, regular, turned
from skad.self_supervised._geometric import (
    MovedPixelsDetector,
    MovedPixelsNetwork,
)

_KINDS = ("regular", "irregular", "permutation")
# Turns by multiples of 30 degrees that are no quarter turns.
_ANGLES = [math.pi * k / 6 for k in range(12) if k % 3]


def moves_of(shape, kinds, shift):
    """Return the `PixelMoves` of some kinds, each that differs once."""
    size, weights = shape[1:], ()
    found = [torch.zeros(0, *size, dtype=torch.int64)]
    if "regular" in kinds:
        found.append(regular(size, shift)[0])
    if "permutation" in kinds:
        found.append(rearranged(size))
    tables = torch.cat(found)
    # of fewer pixels hardly any stays inside when it is turned
    if "irregular" in kinds and min(size) > 2:
        turns = [turned(size, each, flip) for flip in (False, True) for each in _ANGLES]
        whole = torch.zeros(len(tables), 4, *size)
        whole[:, 0] = 1
        tables = tables[:, None].expand(-1, 4, -1, -1)
        tables = torch.cat([tables, torch.stack([table for table, _ in turns])])
        weights = (torch.cat([whole, torch.stack([one for _, one in turns])]),)
    return PixelMoves(shape, *distinct(shape, tables, *weights))


class E3OutlierNetwork(MovedPixelsNetwork):
    """A network that tells maps of three kinds apart."""

    def __init__(self, shape, measure, architecture, hidden_sizes, shift, kinds):
        moves = moves_of(shape, kinds, shift)
        super().__init__(shape, moves, measure, architecture, hidden_sizes)


@with_parameters
class E3Outlier(MovedPixelsDetector):
    r"""Pictures of which a network is unsure how their pixels were moved.

    Each picture goes through K = 111 maps: the 72 flips, shifts and quarter turns of
    `GEOM`, 16 turns by other multiples of 30 degrees, and the 23 ways to exchange its
    four quarters. A network is trained to tell from the result which map it was, on
    pictures of which some are anomalies: those that are many move its weights most and
    are learned first [1]_. With the probabilities :math:`p_i(x)` that it states of the
    i-th result, the anomaly is the mean entropy,

    .. math:: a(x) = -\frac1K \sum_i \sum_j p_{ij}(x) \log p_{ij}(x),

    or another `measure`. The map is its integrated gradients on the way from the mean
    training picture: their sum is the anomaly less that of the mean, up to the error of
    the quadrature.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    kinds : tuple of str, default=("regular", "irregular", "permutation")
        Which of the three kinds of maps.
    max_epochs : int or "auto", default=250
        Passes over the training pictures, with one of the maps for each.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `transforms` and `classifier`.

    See Also
    --------
    GEOM : For training pictures that are normal.
    LOE : For rows, some of which are anomalies.

    Notes
    -----
    The paper looks for anomalies in the pictures that it trains on: ``fit`` and
    ``score_samples`` of the same `X`, with their share as `contamination`. Any others
    are scored the same way.

    In each step every picture goes through one map that is drawn, all maps about as
    often; the authors' three epochs have each picture in all 111. Turns are
    interpolated linearly, theirs by splines, and corners that lie outside are black.
    Pictures that are not square have half turns among the regular maps, those narrower
    than 3 pixels no others; maps that do the same to pictures of a size count once, and
    of an odd number of rows the last stays where it is. They train on Fashion-MNIST
    with ``optimizer="sgd"``, a momentum of 0.9.

    References
    ----------
    .. [1] S. Wang et al., "Effective end-to-end unsupervised outlier detection via
       inlier priority of discriminative network", NeurIPS, 2019, sections 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.self_supervised import E3Outlier
    >>> X = np.random.default_rng(0).uniform(size=(30, 8, 8)) * np.arange(8) / 8
    >>> detector = E3Outlier(kinds=["permutation"], hidden_sizes=(4, 8), max_epochs=2)
    >>> detector.fit(X).transform(X[:2]).shape
    (2, 8, 8)
    """

    kinds: Sequence[str] = _KINDS
    measure: str = "entropy"
    max_epochs: int | str = 250
    weight_decay: float = 5e-4

    _network_class = E3OutlierNetwork
    _parameter_constraints = {"kinds": [tuple, list]}

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if not self.kinds or not set(self.kinds) <= set(_KINDS):
            raise ValueError(
                f"kinds={self.kinds!r} has to hold some of {', '.join(_KINDS)}."
            )
