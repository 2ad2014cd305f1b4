"""LUNAR: what a network thinks of the distances to the nearest rows."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from skad._array import is_torch, like, to_double, to_numpy
from skad._parameters import with_parameters
from skad._random import generator
from skad._sklearn import Interval, StrOptions
from skad._training import TorchDetector
from skad.neighbors._search import NeighborSearch, contributions
from skad.nn.attribution import input_gradients
from skad.nn.network import Network

# Share of the features that a negative near a row is noisy in.
_NOISY = 0.3
# How far the box of the others reaches beyond the rows, in their range.
_MARGIN = 0.1
# Distances between zero and a row's own at which its gradients are taken.
_STEPS = 16


def drawn_negatives(X, kind, epsilon, random):
    """Return rows (n, d) that are to be told from training rows (n, d), as many.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The training rows.
    kind : {"mixed", "uniform", "subspace"}
        Evenly from the box of the rows, or rows with noise, or half of each.
    epsilon : float
        Deviation of the noise, in ranges of the features.
    random : RandomState
        Draws.
    """
    n, d = X.shape
    low, size = X.min(axis=0), np.ptp(X, axis=0)
    even = low + size * random.uniform(-_MARGIN, 1 + _MARGIN, (n, d))
    noisy = random.uniform(size=(n, d)) < _NOISY
    noisy[np.arange(n), random.randint(d, size=n)] = True  # none is a training row
    noise = epsilon * size * random.standard_normal((n, d)) * noisy
    near = X[random.randint(n, size=n)] + noise
    first = {"uniform": True, "subspace": False, "mixed": random.uniform(size=n) < 0.5}
    return np.where(np.broadcast_to(first[kind], n)[:, None], even, near)


class LUNARNetwork(Network):
    """What is made of ascending distances: a number, or weights of them."""

    def __init__(self, shape, output, hidden_sizes):
        super().__init__()
        (k,), self.output = shape, output
        layers = []
        for wide, narrow in pairwise((k, *hidden_sizes)):
            layers += [nn.Linear(wide, narrow), nn.Tanh()]
        last = hidden_sizes[-1] if hidden_sizes else k
        layers.append(nn.Linear(last, k if output == "weight" else 1))
        self.layers = nn.Sequential(*layers)
        # of the weighted distance, in the loss alone; the factor is positive
        self.log_factor = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(()))
        self.register_buffer("unit", torch.zeros(()))

    def begin(self, phase, batches):
        """Take the mean distance of the training rows for the unit."""
        if self.unit == 0:
            rows = torch.cat([x if y is None else x[y != -1] for x, y in batches()])
            mean = rows.mean()
            self.unit.copy_(mean if mean > 0 else torch.ones_like(mean))

    def weights(self, x):
        """Return the weights (b, k) of distances, which sum to one."""
        return self.layers(x / self.unit).softmax(1)

    def anomaly(self, x):
        """Return the weighted distance, or the logit of being a negative."""
        if self.output == "weight":
            return (self.weights(x) * x).sum(1)
        return self.layers(x / self.unit).squeeze(1)

    def loss(self, x, y):
        """Return the mean squared error of 0 for rows and 1 for negatives."""
        found = self.anomaly(x)
        if self.output == "weight":
            found = self.log_factor.exp() * found / self.unit + self.shift
        else:
            found = found.sigmoid()
        return (found - (y == -1).to(found)).square().mean()

    def slopes(self, x):
        """Return what the anomaly has of each distance, per unit of it (b, k)."""
        if self.output == "weight":
            return self.weights(x)
        total = torch.zeros_like(x)
        for step in range(_STEPS):
            total += input_gradients(self.anomaly, x * (step + 0.5) / _STEPS)
        return total / _STEPS


@with_parameters
class LUNAR(TorchDetector):
    r"""Rows whose distances to the nearest rows are unlike those of normal rows.

    Methods of neighbours weigh the ascending distances
    :math:`d_1(x) \le \dots \le d_k(x)` to the nearest training rows by a rule; here a
    network learns it. It is trained to tell training rows, each without itself, from as
    many negatives, drawn around and between them, by the mean squared error of 0 and 1.
    The anomaly is

    .. math:: a(x) = \sum_j \alpha_j(d(x)) \, d_j(x), \qquad
        \alpha = \operatorname{softmax} f(d(x)),

    or for ``output="score"`` a number that the network makes of the distances,
    :math:`a(x) = f(d(x))`, the logit of what is trained. The map has the features'
    parts in the distances, weighted by :math:`\alpha`, and sums to the anomaly; for
    "score" by the gradients of :math:`f` on the way from distances of zero, and sums to
    :math:`f(d(x)) - f(0)`, up to the error of the quadrature.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbours `k`; fewer where there are not as many other rows.
    output : {"weight", "score"}, default="weight"
        What the network makes of the distances.
    negatives : {"mixed", "uniform", "subspace"}, default="mixed"
        "uniform" negatives are drawn from the training rows' box, "subspace" ones are
        training rows with noise in some features; "mixed" takes either for each.
    epsilon : float, default=0.1
        Standard deviation of that noise, in ranges of the features.
    hidden_sizes : tuple of int, default=(256, 256, 256)
        Units of the network's layers between.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `layers`.
    n_neighbors_ : int
        Neighbours in use.
    n_samples_fit_ : int
        Number of training rows.

    See Also
    --------
    KNN : Distances with fixed weights.
    LOF : Distances compared with those of the neighbours.

    Notes
    -----
    Features should be on one scale (StandardScaler). `fit` searches the neighbours of
    twice as many rows as there are, scoring costs O(n d) a row. Neighbours are training
    rows, never negatives, as in the authors' code; in PyOD's negatives are neighbours.

    Negatives are drawn for each feature from the range of the training rows, a tenth
    wider, where the authors' code draws them around the origin, which is a corner of
    their rows, and PyOD from one range for all features; and in at least one feature
    with noise, else in few features many of them are training rows. Distances are in
    units of their mean, and the default of `n_neighbors` is PyOD's; the paper has 100,
    "score", and 200 epochs of all rows at once. The score of "score" is the logit,
    whose sigmoid would make clear cases equal.

    After normal rows of ten tables others get a ROC AUC of .94 in the mean, .94 too by
    a network that is not trained, which is nearly the mean distance, and .93 by
    :class:`KNN`; where anomalies are among the training rows .88, .89 and .89.

    References
    ----------
    .. [1] A. Goodge, B. Hooi, S.-K. Ng and W. S. Ng, "LUNAR: unifying local outlier
       detection methods via graph neural networks", AAAI, 2022. arXiv:2112.05355.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import LUNAR
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = LUNAR(hidden_sizes=(32,), random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0], [5.0, -5.0]])
    array([ 1, -1])
    """

    n_neighbors: int = 5
    output: str = "weight"
    negatives: str = "mixed"
    epsilon: float = 0.1
    hidden_sizes: Sequence[int] = (256, 256, 256)
    max_epochs: int | str = "auto"
    weight_decay: float = 0.1

    _network_class = LUNARNetwork
    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "output": [StrOptions({"weight", "score"})],
        "negatives": [StrOptions({"mixed", "uniform", "subspace"})],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "hidden_sizes": [tuple, list],
    }

    @property
    def _map_sums_to_score(self):
        return self.output == "weight"

    def _wants_unit_scale(self):
        return False  # distances have a unit of their own

    def _sample_shape(self):
        return (self.n_neighbors_,)

    def _row_elements(self):
        both = 4 * self.n_neighbors_ * self.n_features_in_
        return max(super()._row_elements(), both)

    def _samples(self, X):
        """Return the distances (n, k) to the nearest training rows but itself."""
        found = self._search_.neighbors(X, self.n_neighbors_)[0]
        return found if is_torch(found) else torch.from_numpy(found)

    def _fit(self, X, y):
        n = self.n_samples_fit_ = X.shape[0]
        self.n_neighbors_ = min(self.n_neighbors, n - 1)
        search = (X, "euclidean", 2, "auto", None, None, self.n_neighbors_)
        self._search_ = NeighborSearch(*search)
        rows, random = to_double(to_numpy(X)), generator(self.random_state)
        others = drawn_negatives(rows, self.negatives, self.epsilon, random)
        super()._fit(with_others(X, others), None)
        self.n_samples_seen_ = n

    def _training_labels(self, X, y):
        labels = torch.ones(len(X), dtype=torch.int64)
        labels[self.n_samples_fit_ :] = -1  # the negatives
        return labels

    def _normal_rows(self, X, y):
        return X[: self.n_samples_fit_]

    def _open_checkpoint(self, X, labels):
        n = self.n_samples_fit_
        return super()._open_checkpoint(X[:n], labels[:n])

    def _of_features(self, network, X):
        """Return the distances (b, k) and the map (b, d) of rows."""
        distance, indices = self._search_.neighbors(X, self.n_neighbors_)
        parts = contributions(self._search_.difference(X, indices), "euclidean", 2)[0]
        x, parts = (
            one if is_torch(one) else torch.from_numpy(one) for one in (distance, parts)
        )
        return x, (network.slopes(x)[:, :, None] * parts).sum(1)

    def _map(self, network, X):
        with torch.no_grad():
            return self._of_features(network, X)[1]

    def _inspect(self, network, X):
        with torch.no_grad():
            x, maps = self._of_features(network, X)
            return network.anomaly(x), maps


def with_others(X, others):
    """Return rows `X` and, below them, others (m, d), where `X` lives."""
    if is_torch(X):
        return torch.cat([X, like(others, X)])
    return np.concatenate([X, others.astype(X.dtype)])
