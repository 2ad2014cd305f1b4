"""PaDiM: one Gaussian of patch features for each place of the picture."""

from numbers import Integral, Real

import torch

from skad._array import blocks, on_device
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.image._base import BackboneDetector, TrainingPatches


def low_rank_factors(deviations, regularization):
    r"""Return A and D of :math:`\Sigma = A^T A + \epsilon I` with few rows in A.

    With :math:`D = (\epsilon I + A A^T)^{-1} A`, the code :math:`y = D x` and the rest
    :math:`r = x - A^T y`, Woodbury's identity is :math:`\Sigma^{-1} x = r / \epsilon`
    and :math:`x^T \Sigma^{-1} x = |r|^2 / \epsilon + |y|^2`: a sum of squares, without
    the difference of large numbers of the usual form.

    Parameters
    ----------
    deviations : tensor of shape (p, n, d)
        Rows minus their mean at each of p places; is overwritten.
    regularization : float
        :math:`\epsilon`.

    Returns
    -------
    A, D : tensor of shape (p, n, d)
    epsilon : tensor of shape (p, 1)
        `regularization`, or more where rounding drowns it.
    """
    n = deviations.shape[1]
    A = deviations.div_(max(n - 1, 1) ** 0.5)
    D, epsilon = torch.empty_like(A), A.new_empty(len(A), 1)
    for places in blocks(len(A), 2 * A[0].numel()):
        a = A[places].double()
        gram = a @ a.mT
        epsilon[places] = add_ridge(gram, regularization, A.dtype).to(A.dtype)
        D[places] = torch.cholesky_solve(a, torch.linalg.cholesky(gram)).to(D.dtype)
    return A, D, epsilon


def add_ridge(matrices, regularization, dtype):
    """Add to the diagonals of (p, d, d) in place; return what was added, (p, 1)."""
    diagonal = matrices.diagonal(dim1=1, dim2=2)
    rounding = torch.finfo(dtype).eps * len(matrices[0]) * diagonal.amax(1, True)
    ridge = rounding.clamp(min=regularization)
    diagonal.add_(ridge)
    return ridge


def whitening(scatter, n_samples, regularization):
    r"""Turn scatter matrices (p, d, d) in place into W, :math:`W \Sigma W^T = I`."""
    for places in blocks(len(scatter), 2 * scatter[0].numel()):
        covariance = scatter[places].double() / max(n_samples - 1, 1)
        add_ridge(covariance, regularization, scatter.dtype)
        root = torch.linalg.cholesky(covariance)
        identity = torch.eye(root.shape[-1], dtype=root.dtype, device=root.device)
        scatter[places] = torch.linalg.solve_triangular(
            root, identity.expand_as(root), upper=False
        ).to(scatter.dtype)
    return scatter


def patch_sums(batches, start=None):
    """Return sums over pictures, from batches of features (b, gh, gw, d).

    Parameters
    ----------
    batches : iterable of tensors
        The features.
    start : tensor of shape (gh, gw, d), default=None
        Is taken off first, so that squares lose no digits; None is the mean of the
        first batch.

    Returns
    -------
    n : int
        Number of pictures.
    start, total : tensor of shape (p, 1, d)
        At each of p places.
    scatter : tensor of shape (p, d, d)
    """
    n, total, scatter = 0, 0, None
    for features in batches:
        if start is None:
            start = features.mean(0)
        rows = (
            (features - start.to(features)).flatten(1, 2).transpose(0, 1)
        )  # (p, b, d)
        if scatter is None:
            scatter = rows.new_zeros((rows.shape[0], *[rows.shape[2]] * 2))
        n += rows.shape[1]
        total = total + rows.sum(1, keepdim=True)
        scatter.baddbmm_(rows.mT, rows)
    return n, start.flatten(0, 1)[:, None], total, scatter


def add_sums(first, second):
    """Return the sums of the union of two sets of pictures, from the same start."""
    (n, start, total, scatter), (m, _, other_total, other_scatter) = first, second
    return n + m, start, total + other_total, scatter + other_scatter


@with_parameters
class PaDiM(BackboneDetector):
    r"""Patches that do not fit the Gaussian of their place in the picture.

    A network describes each place :math:`(i, j)` of a picture by the features
    :math:`x_{ij}` of several layers, of which `n_features` are drawn once at random.
    Over the normal pictures they have a mean :math:`\mu_{ij}` and a covariance
    :math:`\Sigma_{ij}` with :math:`\epsilon I` added. The anomaly of a patch is

    .. math:: M(x_{ij}) = \sqrt{(x_{ij} - \mu_{ij})^T \Sigma_{ij}^{-1}
        (x_{ij} - \mu_{ij})}.

    The map is :math:`M`, interpolated to the pixels of the picture and smoothed, and
    the score is its maximum. Pictures have to be aligned.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_features : int or None, default=100
        Features of a place that are drawn from those of all layers; None takes all. The
        paper draws 100 of the 448 of a ResNet-18 and 550 of the 1,792 of a
        Wide-ResNet-50-2.
    regularization : float, default=0.01
        :math:`\epsilon`.
    random_state : int, RandomState instance or None, default=None
        Draws the features. Pass an int for reproducible results.
    layers : tuple of str or None, default=None
        Names of the layers whose output describes a patch; None is the first three of a
        ResNet, and all of the bank of filters.

    Attributes
    ----------
    features_ : tensor of shape (n_features,)
        Indices of the drawn features.
    location_ : tensor of shape (gh, gw, n_features)
        :math:`\mu`.

    See Also
    --------
    PatchCore : Compares with patches of any place.
    PatchDetector : Any detector on the features of patches.

    Notes
    -----
    With n pictures, p places and d features, `fit` costs O(p n d^2 + p d^3) beside the
    backbone; with fewer pictures than features a place is stored as n rows instead of d
    (Woodbury's identity), in O(p n^2 d), with the same result. Of one picture the
    covariance is :math:`\epsilon I`. The covariance divides by n - 1, as the authors'
    NumPy does. Where features are so large that rounding drowns :math:`\epsilon`, as
    much is added as rounding needs. Layers are brought to the grid of the first by
    repeating values, as the paper does.

    References
    ----------
    .. [1] T. Defard, A. Setkov, A. Loesch and R. Audigier, "PaDiM: a patch distribution
       modeling framework for anomaly detection and localization", ICPR workshops, 2021,
       equations (1) and (2).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PaDiM
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = PaDiM(smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(7 <= row <= 12 and 19 <= column <= 24)
    True
    """

    n_features: int | None = 100
    regularization: float = 0.01
    random_state: Seed = None

    _interpolation = "nearest"
    _parameter_constraints = {
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "regularization": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def _fit(self, X, y):
        training = self._draw_features(X)
        n, d = training.n_pictures, training.n_features
        if n <= d:
            return self._fit_few(training.all())
        self._set_sums(training.grid, *patch_sums(training))
        if training.kept is None:
            return None
        return torch.cat([self._pool(self._distances(each)) for each in training])

    def _fit_blocks(self, blocks):
        head = self._draw_features(blocks.head)
        start = torch.cat(list(head)).mean(0)
        if blocks.shape[0] <= head.n_features:
            features = blocks.map(lambda model, X: model._training(X).all())
            self._fit_few(torch.cat(features))
            return
        sums = blocks.reduce(
            lambda model, X: patch_sums(model._training(X), start), add_sums
        )
        self._set_sums(head.grid, *sums)

    def _draw_features(self, X):
        """Set `embedding_` and `features_`; return the features of pictures `X`."""
        self._fit_embedding(X)
        self.features_ = None
        training = self._training(X)
        d = training.n_features
        if self.n_features is None or self.n_features >= d:
            self.features_ = torch.arange(d, device=training.device)
            return training
        drawn = generator(self.random_state).permutation(d)[: self.n_features]
        self.features_ = torch.as_tensor(sorted(drawn)).to(training.device)
        return self._training(X)

    def _training(self, X):
        return TrainingPatches(self, on_device(X, self.device_), self._features)

    def _fit_few(self, features):
        self.location_ = features.mean(0)
        rows = features.flatten(1, 2).transpose(0, 1)  # (p, n, d)
        deviations = (rows - rows.mean(1, keepdim=True)).contiguous()
        self._factors_ = low_rank_factors(deviations, self.regularization)
        self._whitening_ = None
        parts = features.split(self.batch_size)
        return torch.cat([self._pool(self._distances(part)) for part in parts])

    def _set_sums(self, grid, n, start, total, scatter):
        scatter.baddbmm_(total.mT, total, alpha=-1 / n)
        self.location_ = (start + total / n).reshape(*grid, -1)
        self._whitening_ = whitening(scatter, n, self.regularization)
        self._factors_ = None

    def _features(self, x):
        """Return the drawn features (b, gh, gw, n_features) of pictures."""
        features = self.embedding_.embed(x)
        if self.features_ is None:
            return features
        return features[..., self.features_.to(x.device)]

    def _distances(self, features):
        """Return the Mahalanobis distances (b, gh, gw) of patches."""
        own = {"dtype": features.dtype, "device": features.device}
        rows = (features - self.location_.to(**own)).flatten(1, 2).transpose(0, 1)
        if self._whitening_ is not None:
            white = rows @ self._whitening_.to(**own).mT
            squares = white.square().sum(2)
        else:
            A, D, epsilon = (factor.to(**own) for factor in self._factors_)
            code = rows @ D.mT  # (p, b, n)
            rest = rows - code @ A
            squares = rest.square().sum(2) / epsilon
            squares += code.square().sum(2)
        return squares.sqrt().T.reshape(features.shape[:3])

    def _patches(self, x):
        return self._distances(self._features(x))
