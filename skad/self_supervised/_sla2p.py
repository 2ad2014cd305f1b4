"""SLA2P: random projections of a row, pushed away from what they are taken for."""

from math import prod
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from skad._ablation import ablation
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import RowNetworkDetector
from skad.self_supervised._detector import TransformationNetwork
from skad.self_supervised._transformations import RandomLinear


class SLA2PNetwork(TransformationNetwork):
    """A classifier of projections, which looks at what is pushed against itself."""

    def __init__(
        self,
        shape,
        n_transformations,
        transform_size,
        epsilon,
        normalize,
        target_accuracy,
    ):
        s = transform_size
        transforms = RandomLinear(n_transformations, prod(shape), s)
        super().__init__(shape, transforms, "squared_error")
        self.classifier = nn.Sequential(
            *(nn.Linear(s, 2 * s), nn.BatchNorm1d(2 * s), nn.LeakyReLU(0.01)),
            *(nn.Linear(2 * s, 4 * s), nn.BatchNorm1d(4 * s), nn.LeakyReLU(0.01)),
            nn.Linear(4 * s, n_transformations),
        )
        self.epsilon, self.normalize = epsilon, normalize
        self.target_accuracy = target_accuracy
        # projections that were trained on, and those of them that were told right
        self.register_buffer("n_seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("n_right", torch.zeros((), dtype=torch.int64))

    def logits(self, projections):
        """Return the logits (b, k, K) of projections (b, k, s)."""
        flat = self.classifier(projections.flatten(0, 1))
        return flat.unflatten(0, projections.shape[:2])

    def evidence(self, x, which=slice(None)):
        """Return log probabilities (b, k, K), of rows at length one."""
        return super().evidence(functional.normalize(x) if self.normalize else x, which)

    def loss(self, x, y):
        """Return the cross-entropy of projections as they are."""
        x = functional.normalize(x) if self.normalize else x
        logits = self.logits(self.transforms(x, slice(None))).flatten(0, 1)
        which = torch.arange(len(self.transforms), device=x.device).repeat(len(x))
        if self.training:
            self.n_seen += len(which)
            self.n_right += (logits.argmax(1) == which).sum()
        return functional.cross_entropy(logits, which)

    def is_learned(self, phase, loss):
        """Tell whether of all that was trained on enough was told right."""
        return float(self.n_right) > self.target_accuracy * float(self.n_seen)

    def pushed(self, projections):
        """Return projections moved so that what they are taken for is less likely."""
        with torch.enable_grad():
            start = projections.detach().requires_grad_(True)
            logits = self.logits(start).flatten(0, 1)
            loss = functional.cross_entropy(logits, logits.argmax(1), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, start)
        return projections + self.epsilon * gradient

    def log_probabilities(self, transformed):
        """Return log probabilities of pushed projections."""
        return functional.log_softmax(self.logits(self.pushed(transformed)), dim=2)

    def map(self, x):
        """Return how much lower the anomaly is with each feature at its mean."""
        return ablation(self.anomaly, x, self.baseline)


@with_parameters
class SLA2P(RowNetworkDetector):
    r"""Rows whose random projections are soon taken for others when they are moved.

    Matrices :math:`R_1, \dots, R_K` with standard normal elements project each row at
    length one, :math:`z_i = R_i x / \|x\|`, and a network learns to tell by which
    matrix. To score, each projection is moved against what the network takes it for,
    :math:`\hat y`,

    .. math:: z_i' = z_i + \epsilon \nabla_z \, (-\log p_{\hat y}(z_i)),

    and the anomaly is the squared error of the probabilities that it then gives,

    .. math:: a(x) = \frac{1}{K^2} \sum_{ij} (p_j(z_i') - \mathbf 1_{i = j})^2.

    The map is how much lower the anomaly is when each feature by itself is at its mean.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    n_transformations : int, default=64
        Number :math:`K` of matrices, at least 2.
    transform_size : int, default=128
        Length of the projections.
    epsilon : float, default=8.0
        The factor :math:`\epsilon` of the gradient; 0 moves nothing.
    normalize : bool, default=True
        Whether rows are taken at length one.
    target_accuracy : float, default=0.6
        Training ends after an epoch when of all projections that it saw so far this
        share was told right.
    max_epochs : int or "auto", default="auto"
        Most passes over the training rows.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `transforms` and `classifier`.

    See Also
    --------
    GOAD : Tells projections by the distances of their codes, and moves none.

    Notes
    -----
    Features should be on one scale (StandardScaler). A score costs three times
    `n_transformations` passes, and the map of a row as many for each feature. A batch
    has all projections of its rows. The sizes are those that the authors have for
    KDD Cup data; for features of pictures they have 256 and 256.

    With 250 rows of each of ten tables the ROC AUC is .82 in the mean, .35 without
    training, and that of the norm of the standardized row .83; the nearest neighbours
    do better. On four of the tables it is .81, and .86 without a push.

    The authors score the rows they train on, among which the anomalies are, and take
    the gradient of the mean of a batch of 128, so that a score depends on the rows
    beside it; the factor there is 1000, which is `epsilon` = 8 for the gradient of each
    projection by itself. They look at the accuracy after each step, not each epoch.

    References
    ----------
    .. [1] Y. Wang, C. Qin et al., "Self-supervision meets
       adversarial perturbation: a novel framework for anomaly detection", CIKM, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.self_supervised import SLA2P
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 6))
    >>> small = {"n_transformations": 8, "transform_size": 16}
    >>> detector = SLA2P(**small, random_state=0).fit(X)
    >>> detector.score_samples([X[2], X[2] * [1, -1, 1, -1, 1, -1]]).argmin()
    np.int64(1)
    """

    n_transformations: int = 64
    transform_size: int = 128
    epsilon: float = 8.0
    normalize: bool = True
    target_accuracy: float = 0.6
    max_epochs: int | str = "auto"
    batch_size: int = 8
    weight_decay: float = 5e-4

    _network_class = SLA2PNetwork
    _optimizer_options = {"eps": 1e-7}
    _costly = ("n_transformations",)
    _parameter_constraints = {
        "n_transformations": [Interval(Integral, 2, None, closed="left")],
        "transform_size": [Interval(Integral, 1, None, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="left")],
        "normalize": ["boolean"],
        "target_accuracy": [Interval(Real, 0, 1, closed="right")],
    }

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.normalize and X.shape[1] < 2:
            raise ValueError(
                "normalize=True needs X with at least 2 features, got n_features=1: at "
                "length one all rows are 1 or -1."
            )
