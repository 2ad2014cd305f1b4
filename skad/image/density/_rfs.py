"""RFS: pictures as sets of points, by what these look like and how many there are."""

from numbers import Real
from typing import Any

import numpy as np
import torch
from scipy.linalg import pinvh
from sklearn.covariance import ledoit_wolf
from torch.nn import functional as F  # noqa: N812

from skad._array import to_numpy
from skad._parameters import absent, with_parameters
from skad._sklearn import Interval
from skad.image._base import BackboneDetector, TrainingPatches, as_tensor, owners_of
from skad.image._cross_fitted import CrossFittedMixin
from skad.nn.keypoints import keypoints


def energies(parts, counts, rate, share):
    r"""Return the energy (b,) of sets of points, up to a constant.

    Parameters
    ----------
    parts : tensor of shape (b, m)
        What each point adds, zero or more; zero where there is none.
    counts : tensor of shape (b,)
        Points of each set.
    rate : float
        Their mean number :math:`\lambda`.
    share : float
        Of the points, those that add most count: rounded, at least one.
    """
    kept = (share * counts).round().clamp(min=1)
    order = torch.arange(parts.shape[1], device=parts.device)
    largest = parts.sort(1, descending=True).values
    total = torch.where(order < kept[:, None], largest, 0.0).sum(1)
    return total - counts * np.log(rate) + torch.lgamma(counts + 1)


@with_parameters
class RFS(CrossFittedMixin, BackboneDetector):
    r"""Pictures whose points look unusual, or are too many or too few.

    The points of a picture are places where the features of a network have a peak, and
    :math:`x` are their features, of length one. Over all points of the normal pictures
    they have a mean :math:`\mu` and a covariance :math:`\Sigma`, shrunk as by Ledoit
    and Wolf, and a picture has :math:`\lambda` points in the mean. A set of points is
    random and finite: the number n of its points is of a Poisson distribution, the
    points are of the Gaussian. The anomaly is the energy of the set [1]_,

    .. math:: a = \tfrac12 \sum_{x \in T} (x - \mu)^T \Sigma^{-1} (x - \mu)
        - n \log \lambda + \log n!,

    where T are the points that are farthest, a `share` of the n. In the map each point
    has its term of the sum at its place, interpolated to the size of the picture and
    smoothed, those outside of T too, and places without a point have none: it says what
    is unusual, and not that points are too many or missing.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    share : float, default=0.03
        Of the points, those that count: rounded, at least one of them.
    edge_ratio : float, default=5.0
        Largest ratio of the curvatures of a peak; longer ones are edges.
    layers : tuple of str or None, default=None
        Names of the layers whose features points have; None is the second of a ResNet,
        and all of the bank of filters.

    Attributes
    ----------
    location_ : ndarray of shape (n_features,)
        The mean :math:`\mu`.
    precision_ : ndarray of shape (n_features, n_features)
        :math:`\Sigma^{-1}`.
    rate_ : float
        The mean number of points :math:`\lambda`.

    See Also
    --------
    GaussianAD : A Gaussian of whole pictures.
    PaDiM : A Gaussian for each place.

    Notes
    -----
    The authors take the points and features of D2-Net and of other networks that were
    trained to match pictures; here points are found by D2-Net's rule in the maps of any
    network, at whole places and in one size of the picture. Their code rounds the
    number of points that count to none where there are fewer than 17; here it is one at
    least. It has no map. With ``share=1`` the energy is the negative logarithm of the
    density of the set, but for constants of each point and of the sets. The
    threshold comes from copies that learned without a fifth of the pictures. Points of
    float32 and float64 pictures are the same, since features are computed in float32.

    Beside the backbone, `fit` costs :math:`O(n \lambda d^2 + d^3)` for n pictures and d
    features, six times over where copies set the threshold, and scoring
    :math:`O(p d^2)` for the p places of a picture.

    With a ResNet-18, at 128 x 128, pictures of cookies (31 to learn from) are told with
    a ROC AUC of .98 and magnetic tiles (60) with .73, pixels with .89 and .68; with the
    bank of filters pictures with .89 and .70. `PatchCore` has 1.00 and .92 with that
    network, :class:`GaussianAD` .93 and .89. Between 0 and 8 in a hundred normal
    pictures are flagged. With ``share=1`` cookies are told with .99 and tiles with .69:
    points see what is printed on a surface, and a thin crack has few.

    References
    ----------
    .. [1] A. M. Kamoona, A. K. Gostar, A. Bab-Hadiashar and R. Hoseinnezhad, "Anomaly
       detection of defect using energy of point pattern features within random finite
       set framework", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import RFS
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(20, 64, 64))
    >>> bad = good[:1].copy()
    >>> bad[0, 16:32, 24:40] += 0.3
    >>> detector = RFS().fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    share: float = 0.03
    edge_ratio: float = 5.0
    # the score is of the set, and none of the map
    pooling: Any = absent()
    quantile: Any = absent()

    _honesty = "cross-fitting"
    _exports = False  # the factorial has no form there
    _resnet_layers = ("layer2",)
    _parameter_constraints = {
        "share": [Interval(Real, 0, 1, closed="right")],
        "edge_ratio": [Interval(Real, 1, None, closed="left")],
    }

    def _fit(self, X, y):
        self._fit_embedding(X)
        training, owners = TrainingPatches(self, X, self.embedding_.embed), owners_of(X)
        honest = self._leaves_out(owners)
        self._fit_members(training, np.arange(training.n_pictures), None)
        if honest:
            return self._cross_fitted(training, owners.numpy(), None)
        return self._of_training(training, owners, False)

    def _points(self, features):
        """Return where points are (b, gh, gw), and all features at length one."""
        where = keypoints(features.permute(0, 3, 1, 2), self.edge_ratio)
        return where, F.normalize(features, dim=3)

    def _fit_members(self, training, pictures, random):
        """Learn from the points of some pictures, given by number."""
        rows = []
        for features in training.of(pictures):
            where, features = self._points(features)
            rows.append(to_numpy(features[where]).astype(np.float64))
        rows = np.concatenate(rows)
        if len(rows) < 2:
            raise ValueError(
                f"{len(rows)} points were found in n_samples={len(pictures)}: they are "
                "too small, or without structure, for RFS."
            )
        self.location_ = rows.mean(axis=0)
        self.precision_ = pinvh(ledoit_wolf(rows)[0])
        self.rate_ = len(rows) / len(pictures)

    def _parts(self, features):
        """Return what each place (b, gh, gw) adds, zero where no point is; counts."""
        where, features = self._points(features)
        away = features - features.new_tensor(self.location_)
        squares = (away @ features.new_tensor(self.precision_) * away).sum(3) / 2
        counts = where.flatten(1).sum(1).to(features)
        return torch.where(where, squares.clamp(min=0), 0.0), counts

    def _energy(self, parts, counts):
        return energies(parts.flatten(1), counts, self.rate_, self.share)

    def _known(self, features):
        """Return the anomaly (b,) of the features of pictures."""
        return self._energy(*self._parts(features))

    def _anomaly(self, X):
        with torch.no_grad():
            return self._known(self.embedding_.embed(as_tensor(X)))

    def _map(self, X):
        return self._inspect(X)[1]

    def _inspect(self, X):
        with torch.no_grad():
            parts, counts = self._parts(self.embedding_.embed(as_tensor(X)))
            maps = self._as_map(self._upsampled(parts))
            return self._energy(parts, counts), maps
