"""SetFeatures: a picture as the set of its patches, whatever their places."""

import copy
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from skad._array import slices
from skad._cross_fitting import folds
from skad._parameters import absent, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.image._base import BackboneDetector, TrainingPatches, as_tensor, owners_of
from skad.image._trained import split_maps
from skad.image.memory._search import nearest

# Elements, spread over all pictures, from which the thresholds are taken.
_FOR_THRESHOLDS = 2**12
# Projected elements that are compared with thresholds together.
_TOGETHER = 2**22


def evenly_spaced(projected, n_thresholds):
    """Return thresholds (q, j) of projections (m, j) of elements.

    Evenly between their first and their last percentile, neither included.
    """
    low, high = np.quantile(projected.cpu().numpy(), (0.01, 0.99), axis=0)
    shares = np.arange(1, n_thresholds + 1)[:, None] / (n_thresholds + 1)
    return torch.as_tensor(low + (high - low) * shares).to(projected)


def indicators(elements, projections, thresholds):
    """Yield slices of projections and, for each threshold, what is below, (b, p, w).

    Parameters
    ----------
    elements : tensor of shape (b, c, p)
        Sets of p elements.
    projections : tensor of shape (c, j)
        The directions.
    thresholds : tensor of shape (q, j)
        Those of each direction.
    """
    b, _, p = elements.shape
    for part in slices(projections.shape[1], max(1, _TOGETHER // (b * p))):
        projected = torch.einsum("bcp,cj->bpj", elements, projections[:, part])
        limits = thresholds[:, part]
        yield part, ((projected < limit).to(elements) for limit in limits)


def histograms(elements, projections, thresholds):
    """Return what share of each set's elements is below the thresholds, (b, q j)."""
    found = elements.new_empty(len(elements), *thresholds.shape)
    for part, below in indicators(elements, projections, thresholds):
        for q, one in enumerate(below):
            found[:, q, part] = one.mean(1)
    return found.flatten(1)


def of_elements(elements, projections, thresholds, slope):
    """Return what each element (b, p) has of `slope` (b, q j) times its histogram."""
    slope = slope.unflatten(1, thresholds.shape)
    total = elements.new_zeros(elements.shape[::2])
    for part, below in indicators(elements, projections, thresholds):
        for q, one in enumerate(below):
            total += torch.einsum("bpj,bj->bp", one, slope[:, q, part])
    return total


def whitening(rows, shrinkage):
    r"""Return what makes rows (n, d) white by their shrunk covariance.

    At most n directions of :math:`\Sigma = (1 - s) S + s \bar\lambda I` differ from all
    others: no matrix (d, d) is made.

    Returns
    -------
    axes : tensor of shape (r, d)
        The directions.
    more : tensor of shape (r,)
        By how much more than all others they are multiplied.
    base : tensor of shape ()
        What all are multiplied by.
    """
    _, lengths, axes = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    variances = lengths.square() / len(rows)
    floor = shrinkage * variances.sum() / rows.shape[1]
    floor = floor.clamp(min=torch.finfo(rows.dtype).eps)
    base = floor.rsqrt()
    return axes, ((1 - shrinkage) * variances + floor).rsqrt() - base, base


def white(rows, axes, more, base):
    """Return rows (b, d) times the root of the inverse covariance."""
    return base * rows + (rows @ axes.T * more) @ axes


def apart(rows, bank, k):
    """Return the mean squared distance (b,) of white rows to the k nearest.

    And, of these, the differences and the rows, each (b, k, d).
    """
    _, near = nearest(rows, bank, bank.square().sum(1), k=min(k, len(bank)))
    near = bank[near]
    away = rows[:, None] - near
    return away.square().sum(2).mean(1), away, near


@with_parameters
class SetFeatures(BackboneDetector):
    r"""Pictures that have other shares of all kinds of patches than the nearest normal.

    A layer of a frozen network describes a picture by the features of its places, a set
    of elements :math:`e`. Each of J random directions :math:`w_j` and each of Q
    thresholds :math:`t_{qj}`, evenly between the first and the last percentile of
    normal projections, count

    .. math:: h_{qj} = \frac1P \sum_p \mathbf 1[w_j^\top e_p < t_{qj}]

    of the P elements: a histogram of what there is, and not of where [1]_. With the
    covariance :math:`\Sigma` of normal histograms, shrunk towards a multiple of one,
    a layer's part of the anomaly is the distance to the k nearest normal pictures,

    .. math:: M = \frac1k \sum_{i=1}^k
        (h - h_{(i)})^\top \Sigma^{-1} (h - h_{(i)}),

    divided by its mean over normal pictures that the layer has not learned from. The
    anomaly is the sum over the layers and, weighted, over the pixels as one more; then
    the median over several draws of the directions.

    As a histogram is a mean over places, the distance is a mean of parts, one for each
    place. The map has these, weighted alike, the mean over the draws, interpolated to
    the pixels of the picture and smoothed: where it is negative, the picture is more
    like the nearest than elsewhere.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_projections : int, default=1000
        Random directions J.
    n_thresholds : int, default=5
        Thresholds Q of each.
    n_neighbors : int, default=1
        Number `k` of the nearest normal pictures.
    shrinkage : float, default=0.1
        Of the covariance towards its mean variance.
    pixel_weight : float, default=0.1
        Weight of the set of pixels beside the layers'; 0 leaves it out.
    n_draws : int, default=3
        How often directions are drawn.
    random_state : int, RandomState instance or None, default=None
        Draws the directions. Pass an int for reproducible results.

    Attributes
    ----------
    projections_ : list of tensor of shape (n_channels, n_projections)
        The directions of each draw's layers, the pixels last.
    thresholds_ : list of tensor of shape (n_thresholds, n_projections)
        Their thresholds.
    whitening_ : list of tuple of tensor
        Of each draw's layers the directions of :math:`\Sigma` that differ from all
        others, by how much more than these they are multiplied, and by what these are.
    bank_ : list of tensor of shape (n_samples, n_thresholds * n_projections)
        The histograms of normal pictures, made white.
    scales_ : tensor of shape (n_draws, n_layers)
        What the layers' distances are divided by.

    See Also
    --------
    GaussianAD : Means of features alone.
    PatchCore : Patches that are odd by themselves.

    Notes
    -----
    Beside the backbone it costs O(P J (c + Q)) a picture, layer of P places with c
    channels, and draw. It is for pictures in which each patch is normal and the whole
    is not: a part too many, or one that is missing. Neither the order nor the number of
    the elements matters.

    The authors score overlapping crops of several sizes, each by a detector of its own:
    around this one a :class:`TiledDetector` takes crops of one size. They take the last
    two layers of a WideResNet-50 at 224 pixels, the thresholds from the first 32
    pictures, and 100 draws; time and memory, 8 J Q bytes for each picture, layer
    and draw, go with the draws. They divide by :math:`\Sigma^2` where the paper
    has :math:`\Sigma`; here it is the paper's.

    A training picture is at distance 0 from itself: a number as `contamination`, which
    is a share of their scores, needs two neighbours at least.

    Drawn bars in any places, one or three where two are normal, are told with a ROC AUC
    of .98 to 1, by :class:`GaussianAD` with .99, by :class:`PatchCore` with .88; ten
    draws add nothing there, and the pixels .01.

    In `fit` up to five copies of the last step, on histograms that are there already,
    score the pictures that they have not learned from. These scores are what distances
    are divided by, and set the threshold with ``contamination="auto"``.

    References
    ----------
    .. [1] N. Cohen, I. Tzachor and Y. Hoshen, "Set features for fine-grained anomaly
       detection", arXiv:2302.12245, 2023, section 4.

    Examples
    --------
    Two bars anywhere are normal, and three are not:

    >>> import numpy as np
    >>> from skad.image import SetFeatures
    >>> rng = np.random.default_rng(0)
    >>> def bars(n):
    ...     picture = rng.normal(0.2, 0.02, size=(24, 24))
    ...     for column in rng.choice(6, n, replace=False):
    ...         picture[4:20, 4 * column + 1 : 4 * column + 3] = 0.8
    ...     return picture
    >>> good = np.stack([bars(2) for _ in range(30)])
    >>> bad = np.stack([bars(3) for _ in range(3)])
    >>> detector = SetFeatures(n_projections=100, random_state=0)
    >>> detector.fit(good).predict(bad)
    array([-1, -1, -1])
    """

    n_projections: int = 1000
    n_thresholds: int = 5
    n_neighbors: int = 1
    shrinkage: float = 0.1
    pixel_weight: float = 0.1
    n_draws: int = 3
    random_state: Seed = None
    # the score is a distance of whole pictures
    pooling: Any = absent()
    quantile: Any = absent()

    _resnet_layers = ("layer3", "layer4")
    _parameter_constraints = {
        "n_projections": [Interval(Integral, 1, None, closed="left")],
        "n_thresholds": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "shrinkage": [Interval(Real, 0, 1, closed="right")],
        "pixel_weight": [Interval(Real, 0, None, closed="left")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _check_parameters(self, X):
        if X.shape[0] < 2:
            raise ValueError("SetFeatures needs two pictures, n_samples=1.")

    def _maps(self, x):
        """Return the maps (b, c, gh, gw) of the layers, then of the pixels."""
        maps = self.embedding_.feature_maps(x)
        if self.pixel_weight:
            maps.append(self.embedding_.network_input(x))
        return maps

    def _fit(self, X, y):
        self._fit_embedding(X)
        training = TrainingPatches(self, X, self._described)
        self._draw(training)
        parts = [self._histograms(x[:, 0, 0]) for x in training]
        rows = [torch.cat(of_one) for of_one in zip(*parts, strict=True)]
        owners = owners_of(X)
        held, honest = self._of_others(rows, owners.numpy())
        mean = honest.mean(2)
        self.scales_ = torch.where(mean > 0, mean, 1.0)  # 0 where all are the same
        self._learn_from(rows)
        if self._leaves_out(owners):
            return self._joined(honest)[np.argsort(held)]
        return self._joined(self._distances(rows))

    def _described(self, x):
        """Return the maps of training pictures as one place (b, 1, 1, m) of many."""
        maps = self._maps(x)
        self._shapes_ = [tuple(each.shape[1:]) for each in maps]
        return self._flat(maps)[:, None, None]

    def _flat(self, maps):
        """Return maps (b, c, gh, gw) one behind the other, (b, m)."""
        return torch.cat([each.flatten(1) for each in maps], 1)

    def _sets(self, samples):
        """Return the sets (b, c, p) of each draw's layers, of flat maps (b, m)."""
        maps = [each.flatten(2) for each in split_maps(samples, self._shapes_)]
        return self.n_draws * maps

    def _draw(self, training):
        """Draw the directions, and set their thresholds."""
        kept = [[] for _ in self._shapes_]
        for x in training:
            for maps, found in zip(
                split_maps(x[:, 0, 0], self._shapes_), kept, strict=True
            ):
                elements = maps.permute(0, 2, 3, 1).flatten(0, 2)
                n = training.n_pictures * maps[0, 0].numel()
                found.append(elements[:: max(1, n // _FOR_THRESHOLDS)])
        random = generator(self.random_state)
        self.projections_, self.thresholds_ = [], []
        for elements in self.n_draws * [torch.cat(found) for found in kept]:
            size = elements.shape[1], self.n_projections
            self.projections_.append(
                torch.as_tensor(random.normal(size=size)).to(elements)
            )
            projected = elements @ self.projections_[-1]
            self.thresholds_.append(evenly_spaced(projected, self.n_thresholds))

    def _histograms(self, samples):
        """Return the histograms (b, q j) of each draw's layers, of flat maps (b, m)."""
        drawn = zip(
            self._sets(samples), self.projections_, self.thresholds_, strict=True
        )
        return [histograms(sets, w.to(sets), t.to(sets)) for sets, w, t in drawn]

    def _learn_from(self, rows):
        """Learn from the histograms (n, q j) of each draw's layers."""
        self.whitening_ = [whitening(each, self.shrinkage) for each in rows]
        learned = zip(rows, self.whitening_, strict=True)
        self.bank_ = [white(each, *own) for each, own in learned]

    def _apart(self, rows):
        """Yield what `apart` returns of each draw's layers, and their whitening."""
        for each, own, bank in zip(rows, self.whitening_, self.bank_, strict=True):
            own = [one.to(each) for one in own]
            near = apart(white(each, *own), bank.to(each), self.n_neighbors)
            yield *near, own

    def _distances(self, rows):
        """Return the distances (n_draws, n_layers, b) of histograms."""
        found = torch.stack([distance for distance, *_ in self._apart(rows)])
        return found.unflatten(0, (self.n_draws, -1))

    def _of_others(self, rows, owners):
        """Return indices (n,) of pictures, and distances to others in that order."""
        member, known = copy.copy(self), np.unique(owners)
        order, found = [], []
        for fold in folds(len(known)):
            held = np.isin(owners, known[fold])
            member._learn_from([each[~held] for each in rows])
            found.append(member._distances([each[held] for each in rows]))
            order.append(np.flatnonzero(held))
        return np.concatenate(order), torch.cat(found, 2)

    def _weights(self):
        """Return what the distances (n_draws, n_layers) are multiplied by."""
        weights = self.scales_.reciprocal()
        if self.pixel_weight:
            weights[:, -1] *= self.pixel_weight
        return weights

    def _joined(self, distances):
        """Return the anomaly (b,) of distances (n_draws, n_layers, b)."""
        return (
            (self._weights().to(distances)[..., None] * distances)
            .sum(1)
            .quantile(0.5, 0)
        )

    def _anomaly(self, X):
        with torch.no_grad():
            return self._joined(
                self._distances(self._histograms(self._flat(self._maps(as_tensor(X)))))
            )

    def _map(self, X):
        return self._inspect(X)[1]

    def _inspect(self, X):
        with torch.no_grad():
            samples = self._flat(self._maps(as_tensor(X)))
            rows = self._histograms(samples)
            distances, total = [], 0.0
            drawn = zip(
                self._sets(samples),
                self.projections_,
                self.thresholds_,
                self._shapes_ * self.n_draws,
                self._weights().flatten().to(samples),
                self._apart(rows),
                strict=True,
            )
            for sets, w, t, shape, weight, (distance, away, near, own) in drawn:
                distances.append(distance)
                slope = white(away.mean(1), *own)  # (b, q j)
                parts = of_elements(sets, w.to(sets), t.to(sets), slope)
                parts -= (near * away).sum(2).mean(1)[:, None]
                parts = parts.unflatten(1, shape[1:])[:, None]
                size = self._shapes_[0][1:]
                wide = F.interpolate(parts, size, mode="bilinear", antialias=True)
                total = total + weight / self.n_draws * wide[:, 0]
            found = torch.stack(distances).unflatten(0, (self.n_draws, -1))
            return self._joined(found), self._as_map(self._upsampled(total))
