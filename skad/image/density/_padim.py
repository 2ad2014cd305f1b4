"""PaDiM: one Gaussian of patch features for each place of the picture."""

from numbers import Integral, Real

import numpy as np
import torch

from skad._array import blocks, on_device
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, StrOptions
from skad.image._base import BackboneDetector, TrainingPatches, owners_of


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
    if not diagonal.isfinite().all():
        raise ValueError(
            f"X has values too large for PaDiM: squares of features overflow {dtype}."
        )
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


def left_out_of_few(deviations, regularization):
    r"""Return the distance of each row to the Gaussian of the other rows, (p, n).

    Without row :math:`i` the mean moves and the covariance loses a term of rank one.
    With the matrix :math:`G` of products of the n deviations, :math:`\nu = n - 2` (one
    for two rows) and :math:`K` the inverse of :math:`G + \nu \epsilon I` where
    deviations are, which is orthogonal to :math:`(1, \ldots, 1)`, the Sherman-Morrison
    formula comes to

    .. math:: M_i^2 = \frac{1}{\epsilon K_{ii}} - \frac{\nu n}{n - 1}.

    Parameters
    ----------
    deviations : tensor of shape (p, n, d)
        Rows minus their mean at each of p places.
    regularization : float
        :math:`\epsilon`.
    """
    n = deviations.shape[1]
    nu = max(n - 2, 1)
    found = deviations.new_empty(deviations.shape[:2])
    for places in blocks(len(deviations), 2 * deviations[0].numel()):
        rows = deviations[places].double()
        gram = rows @ rows.mT
        ridge = add_ridge(gram, nu * regularization, deviations.dtype)  # (p, 1)
        # the mean direction, where deviations are zero, gets a weight that is known
        weight = ridge + gram.diagonal(dim1=1, dim2=2).amax(1, True)
        gram += (weight / n)[..., None]
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        own = inverse.diagonal(dim1=1, dim2=2) - 1 / (n * (ridge + weight))
        squares = nu / (ridge * own) - nu * n / (n - 1)
        found[places] = squares.clamp_(min=0).sqrt_().to(found.dtype)
    return found


def left_out(squares, n):
    r"""Return the distances of rows to the Gaussian without them, from those with them.

    Parameters
    ----------
    squares : tensor
        :math:`q = r^T (S / (n - 1) + \epsilon' I)^{-1} r` of rows with deviations r, of
        the scatter matrix S and :math:`\epsilon' = \epsilon (n - 2) / (n - 1)`.
    n : int
        Number of rows, at least three.
    """
    m = n / (n - 1)
    rest = (1 - m * squares / (n - 1)).clamp(min=torch.finfo(squares.dtype).eps)
    return ((n - 2) * m**2 / (n - 1) * squares / rest).sqrt()


def semi_orthogonal(d, k, random):
    """Return a random matrix (d, k) with orthonormal columns, k at most d."""
    columns, triangle = np.linalg.qr(random.normal(size=(d, k)))
    # with this sign it is uniform over all such matrices
    return torch.as_tensor(columns * np.sign(np.diag(triangle)))


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
class PlaceGaussians(BackboneDetector):
    r"""Base of a Gaussian of the features at each place of aligned pictures.

    Parameters
    ----------
    n_features : int or None, default=100
        Features of a place that are made of those of all layers; None takes all. The
        paper draws 100 of the 448 of a ResNet-18 and 550 of the 1,792 of a
        Wide-ResNet-50-2.
    reduction : {"sample", "orthogonal"}, default="sample"
        How they are made: some features are drawn; or all are multiplied by a random
        matrix :math:`W` with orthonormal columns, the semi-orthogonal embedding, which
        keeps something of each.
    regularization : float, default=0.01
        :math:`\epsilon`.
    random_state : int, RandomState instance or None, default=None
        Draws the features, or the matrix. Pass an int for reproducible results.
    layers : tuple of str or None, default=None
        Names of the layers whose output describes a patch; None is the first three of a
        ResNet, and all of the bank of filters.

    Attributes
    ----------
    features_ : tensor of shape (n_features,) or (n_all_features, n_features)
        Indices of the drawn features, or :math:`W`.
    location_ : tensor of shape (gh, gw, n_features)
        :math:`\mu`.
    """

    n_features: int | None = 100
    reduction: str = "sample"
    regularization: float = 0.01
    random_state: Seed = None

    _honesty = "leave one out"
    _interpolation = "nearest"
    _exports = True
    _parameter_constraints = {
        "n_features": [Interval(Integral, 1, None, closed="left"), None],
        "reduction": [StrOptions({"sample", "orthogonal"})],
        "regularization": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def _fit(self, X, y):
        training = self._draw_features(X)
        owners = owners_of(X)
        honest = self._leaves_out(owners)
        if training.n_pictures <= max(training.n_features, 2):
            return self._fit_few(training.all(), honest)
        self._set_sums(training.grid, *patch_sums(training), honest)
        anomaly = self._of_training(training, owners, honest)
        self._spare_ = None
        return anomaly

    def _fit_blocks(self, blocks):
        head = self._draw_features(blocks.head)
        honest = self._leaves_out(torch.arange(blocks.shape[0]))
        start = torch.cat(list(head)).mean(0)
        if blocks.shape[0] <= max(head.n_features, 2):
            features = blocks.map(lambda model, X: model._training(X).all())
            return self._fit_few(torch.cat(features), honest)
        sums = blocks.reduce(
            lambda model, X: patch_sums(model._training(X), start), add_sums
        )
        self._set_sums(head.grid, *sums, honest)
        honest = [honest] * len(blocks)
        anomaly = blocks.map(PlaceGaussians._block_anomaly, honest)
        self._spare_ = None
        return torch.cat(anomaly)

    def _block_anomaly(self, X, honest):
        return self._of_training(self._training(X), owners_of(X), honest)

    def _draw_features(self, X):
        """Set `embedding_` and `features_`; return the features of pictures `X`."""
        self._fit_embedding(X)
        self.features_ = None  # drawn when the first batch tells how many there are
        return self._training(X)

    def _training(self, X):
        return TrainingPatches(self, on_device(X, self.device_), self._features)

    def _drawn(self, d):
        """Return the indices of the features that are drawn from d, or the matrix."""
        random = generator(self.random_state)
        if self.n_features is None:
            return torch.arange(d)
        if self.reduction == "orthogonal":
            return semi_orthogonal(d, min(self.n_features, d), random)
        if self.n_features >= d:
            return torch.arange(d)
        drawn = random.permutation(d)[: self.n_features]
        return torch.as_tensor(sorted(drawn))

    def _fit_few(self, features, honest):
        """Learn from the features of all pictures; return their anomaly (n,)."""
        self.location_ = features.mean(0)
        rows = features.flatten(1, 2).transpose(0, 1)  # (p, n, d)
        deviations = (rows - rows.mean(1, keepdim=True)).contiguous()
        if honest:
            found = left_out_of_few(deviations, self.regularization)
            found = found.T.reshape(features.shape[:3])
        self._factors_ = low_rank_factors(deviations, self.regularization)
        self._whitening_ = self._spare_ = None
        step = self.batch_size
        if honest:
            return torch.cat([self._pool(part) for part in found.split(step)])
        return torch.cat([self._known(part) for part in features.split(step)])

    def _set_sums(self, grid, n, start, total, scatter, honest):
        """Learn from sums; with `honest` keep for a while what leaves pictures out."""
        scatter.baddbmm_(total.mT, total, alpha=-1 / n)
        self.location_ = (start + total / n).reshape(*grid, -1)
        self._spare_ = None
        if honest:
            least = self.regularization * (n - 2) / (n - 1)
            self._spare_ = n, whitening(scatter.clone(), n, least)
        self._whitening_ = whitening(scatter, n, self.regularization)
        self._factors_ = None

    def _features(self, x):
        """Return the drawn features (b, gh, gw, n_features) of pictures."""
        features = self.embedding_.embed(x)
        if self.features_ is None:
            self.features_ = self._drawn(features.shape[3]).to(features.device)
        if self.features_.ndim == 2:
            return features @ self.features_.to(features)
        return features[..., self.features_.to(x.device)]

    def _rows(self, features):
        """Return deviations (p, b, n_features) from the mean at each of p places."""
        rows = features - self.location_.to(features)
        return rows.flatten(1, 2).transpose(0, 1)

    def _distances(self, features):
        """Return the Mahalanobis distances (b, gh, gw) of patches."""
        own = {"dtype": features.dtype, "device": features.device}
        rows = self._rows(features)
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

    def _known(self, features):
        return self._pool(self._distances(features))

    def _left_out(self, features, own):
        # each picture alone, whatever it is a part of
        n, spare = self._spare_
        white = self._rows(features) @ spare.to(features).mT
        distances = left_out(white.square().sum(2), n)
        return self._pool(distances.T.reshape(features.shape[:3]))

    def _patches(self, x):
        return self._distances(self._features(x))


@with_parameters
class PaDiM(PlaceGaussians):
    r"""Patches that do not fit the Gaussian of their place in the picture.

    A network describes each place :math:`(i, j)` of a picture by the features
    :math:`x_{ij}` of several layers, of which `n_features` are drawn once at random, or
    which are projected to as many random directions.
    Over the normal pictures they have a mean :math:`\mu_{ij}` and a covariance
    :math:`\Sigma_{ij}` with :math:`\epsilon I` added. The anomaly of a patch is

    .. math:: M(x_{ij}) = \sqrt{(x_{ij} - \mu_{ij})^T \Sigma_{ij}^{-1}
        (x_{ij} - \mu_{ij})}.

    The map is :math:`M`, interpolated to the pixels of the picture and smoothed, and
    the score is its maximum. Pictures have to be aligned.

    Read more in the :ref:`User Guide <image>`.

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
    NumPy does. With ``contamination="auto"`` the threshold comes from distances of the
    training pictures to the Gaussians without them, in closed form, which costs a
    second decomposition for each place; beyond scikit-learn's ``working_memory`` the
    backbone computes the features once more for it. Of one picture no other is left,
    and its own score is the threshold. Where features are so large that rounding
    drowns :math:`\epsilon`, as much is added as rounding needs. Layers are brought to
    the grid of the first by repeating values, as the paper does. With
    ``reduction="orthogonal"`` [2]_ and as many features as there are, distances are
    those of
    ``n_features=None``: :math:`\epsilon I` is the same in all directions.

    References
    ----------
    .. [1] T. Defard, A. Setkov, A. Loesch and R. Audigier, "PaDiM: a patch distribution
       modeling framework for anomaly detection and localization", ICPR workshops, 2021,
       equations (1) and (2).
    .. [2] J.-H. Kim, D.-H. Kim, S. Yi and T. Lee, "Semi-orthogonal embedding for
       efficient unsupervised anomaly segmentation", 2021.

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
