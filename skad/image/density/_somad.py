"""SOMAD: a self-organising map of patches, with a Gaussian in each node."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from skad._array import blocks
from skad._distances import middle, squared_distances
from skad._organising import batch_step, check_map_shape, nearest_node
from skad._parameters import with_parameters
from skad._random import generator
from skad._sklearn import Interval
from skad.image._patch_model import BackboneModel
from skad.image.density._padim import low_rank_factors


def widths(shape, n_rough, n_fine):
    """Return the widths of the neighbourhood on the map, epoch by epoch.

    In the rough epochs they fall from a third of the longer side to a sixth of that, in
    the fine ones from a twelfth of the side to a twenty-fifth of that, in even steps
    and to no less than one.
    """
    side = max(shape) / (2 if min(shape) == 1 else 1)
    found = []
    for start, times, n in (
        (math.ceil(side / 3), 6, n_rough),
        (side / 12, 25, n_fine),
    ):
        start = max(1, start)
        found.append(np.linspace(start, max(1, start / times), n))
    return np.concatenate(found)


def factors_of(rows, regularization):
    r"""Return the mean (d,) of rows (n, d), and A, D (m, d) and the ridge of Woodbury.

    ``low_rank_factors`` of the rows, and of a root of their scatter where the rows are
    more than features.
    """
    n, d = rows.shape
    mean = rows.mean(0)
    away = rows - mean
    if n > d:
        # as if the rows of the root were the deviations
        away = torch.linalg.qr(away).R * (max(d - 1, 1) / (n - 1)) ** 0.5
    A, D, ridge = low_rank_factors(away[None], regularization)
    return mean, A[0], D[0], ridge[0, 0]


@with_parameters
class SOMAD(BackboneModel):
    r"""Patches far from the nodes of a self-organising map that are nearest to them.

    Nodes lie on a map of rows and columns, which begins as the mean picture: each node
    has the mean features of its place. They then move among the patches of normal
    pictures, wherever these lie, so that neighbours on the map stay neighbours [1]_.
    Each has the mean :math:`\mu_j` and the covariance :math:`\Sigma_j` of the patches
    that are nearest to it, and the anomaly of a patch with features :math:`x` is the
    least Mahalanobis distance among its k nearest nodes,

    .. math:: a(x) = \min_{j \in N_k(x)} \sqrt{(x - \mu_j)^T
        (\Sigma_j + \epsilon I)^{-1} (x - \mu_j)}.

    The map is that, interpolated to the pixels of the picture and smoothed; the score
    is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    map_shape : tuple of int, default=(56, 56)
        Rows and columns of the map.
    n_neighbors : int, default=5
        The k nearest nodes, by Euclidean distance. Nodes that no training patch is
        nearest to do not count, unless all k are such: then the nearest other one does.
    n_features : int or None, default=100
        Features that are drawn at random; None is all. The authors take 550 of the
        1,792 of a Wide-ResNet-50-2.
    regularization : float, default=0.01
        :math:`\epsilon`, above 0.
    n_rough_epochs, n_fine_epochs : int, default=20 and 15
        Passes over the patches with a wide and with a narrow neighbourhood.

    Attributes
    ----------
    features_ : tensor of shape (n_features,)
        Indices of the drawn features.
    nodes_ : tensor of shape (n_nodes, n_features)
        The nodes, row by row of the map.
    counts_ : tensor of shape (n_nodes,)
        Training patches that are nearest to each.
    location_ : tensor of shape (n_nodes, n_features)
        :math:`\mu_j`, the node itself where there are none.

    See Also
    --------
    GCPF : Few clusters of each layer.
    PaDiM : A Gaussian for each place of the picture.
    skad.density.SOM : A map for rows.

    Notes
    -----
    The authors' code takes all patches (``max_patches=None``) and the middle 224 pixels
    of pictures of 256, whose grid has 56 x 56 places; for other grids the mean picture
    is interpolated to the map. There rows belong to nodes by the step before the last
    one, a node with one patch has no covariance (here :math:`\epsilon I`), and a patch
    whose k nearest nodes are all empty gets the largest anomaly of the pictures that
    are scored with it, which nothing here depends on.

    For m patches, k nodes and d features an epoch costs O(m k d + k^2 d). The Gaussians
    are kept by their patches, O(min(m, k d) d) numbers. With ``contamination="auto"``
    copies that are fitted without a part of the pictures set the threshold.

    With a ResNet-18, at 128 pixels, areas under the ROC curve of pictures / of pixels
    are 0.989 / 0.936 on 31 cookies, where `PatchCore` has 0.998 / 0.955 in a hundredth
    of the time.

    References
    ----------
    .. [1] N. Li, K. Jiang, Z. Ma, X. Wei, X. Hong and Y. Gong, "Anomaly detection via
       self-organizing map", ICIP, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import SOMAD
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(8, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = SOMAD(map_shape=(8, 8), smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    map_shape: Sequence[int] = (56, 56)
    n_neighbors: int = 5
    n_features: int | None = 100
    regularization: float = 0.01
    n_rough_epochs: int = 20
    n_fine_epochs: int = 15

    _parameter_constraints = {
        "map_shape": [tuple, list],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "regularization": [Interval(Real, 0, None, closed="neither")],
        "n_rough_epochs": [Interval(Integral, 0, None, closed="left")],
        "n_fine_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    def _check_parameters(self, X):
        check_map_shape(self.map_shape)

    def _draw(self, random):
        # the first batch tells how many features there are
        self.features_, self._seed_ = None, random.randint(2**31 - 1)

    def _measured(self, x):
        features = super()._measured(x)
        if self.features_ is None:
            self.features_ = self._drawn_features(features.shape[3])
        return features[..., self.features_.to(features.device)]

    def _drawn_features(self, d):
        """Return the indices of the features that are drawn from d."""
        if self.n_features is None or self.n_features >= d:
            return torch.arange(d)
        drawn = generator(self._seed_).permutation(d)[: self.n_features]
        return torch.as_tensor(np.sort(drawn))

    def _fit_members(self, training, pictures, random):
        rows, _ = self._drawn(training, pictures, random)
        nodes = self._start(training, pictures)
        epochs = widths(self.map_shape, self.n_rough_epochs, self.n_fine_epochs)
        for width in self._steps(epochs, "organise", len(epochs)):
            nodes = batch_step(rows, nodes, width, self.map_shape)
        self.nodes_ = nodes
        self._set_gaussians(rows, nearest_node(rows, nodes))

    def _start(self, training, pictures):
        """Return the nodes (k, d) of the mean picture."""
        total = sum(features.sum(0) for features in training.of(pictures))
        mean = (total / len(pictures)).permute(2, 0, 1)  # (d, gh, gw)
        shape = tuple(self.map_shape)
        if mean.shape[1:] != shape:
            mean = F.interpolate(mean[None], shape, mode="bilinear")[0]
        return mean.flatten(1).T.contiguous()

    def _set_gaussians(self, rows, best):
        """Learn from rows (n, d) and the node nearest to each."""
        k = len(self.nodes_)
        self.counts_ = best.bincount(minlength=k)
        self.location_ = self.nodes_.clone()
        parts = rows[best.argsort(stable=True)].split(self.counts_.tolist())
        factors, self._sizes_ = [], []
        self._ridges_ = rows.new_full((k,), self.regularization)
        for node, own in enumerate(parts):
            self._sizes_.append(0)
            if len(own):
                self.location_[node], *kept, self._ridges_[node] = factors_of(
                    own, self.regularization
                )
                self._sizes_[node] = len(kept[0])
                factors.append(torch.stack(kept))
        self._factors_ = torch.cat(factors, 1)  # (2, m, d)

    def _anomaly_of_patches(self, features):
        rows = features.flatten(0, 2)
        nodes, full = self.nodes_.to(rows), self.counts_.to(rows.device) > 0
        centre, parts = middle(nodes), []
        for part in blocks(len(rows), 3 * len(nodes), rows.device):
            squares = squared_distances(rows[part], nodes, centre)
            parts.append(self._candidates(squares, full))
        return self._least(rows, torch.cat(parts)).reshape(features.shape[:3])

    def _candidates(self, squares, full):
        """Return the nodes (b, k) that count, -1 for none, by squared distances."""
        m = min(self.n_neighbors, squares.shape[1])
        near = squares.topk(m, dim=1, largest=False).indices
        near = torch.where(full[near], near, -1)
        lost = (near < 0).all(1)
        other = squares[lost].masked_fill(~full, torch.inf).argmin(1)
        near[lost, 0] = other
        return near

    def _least(self, rows, near):
        """Return the least distance (b,) of rows to the nodes near them (b, k)."""
        found = rows.new_full(near.shape, torch.inf)
        # pairs of a row and a node, node by node
        order = near.flatten().argsort(stable=True)
        counts = (near.flatten() + 1).bincount(minlength=len(self.nodes_) + 1).tolist()
        pairs = order.split(counts)[1:]
        factors = self._factors_.to(rows).split(self._sizes_, 1)
        location, ridges = self.location_.to(rows), self._ridges_.to(rows)
        flat = found.view(-1)
        for node, own in enumerate(pairs):
            if len(own):
                away = rows[own // near.shape[1]] - location[node]
                A, D = factors[node]
                code = away @ D.T
                rest = (away - code @ A).square().sum(1) / ridges[node]
                flat[own] = (rest + code.square().sum(1)).sqrt()
        return found.amin(1)
