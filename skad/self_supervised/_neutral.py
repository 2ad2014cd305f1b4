"""NeuTraL AD: learned views that stay close to their row, apart from each other."""

from collections.abc import Sequence
from math import log, prod
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from skad._ablation import ablation
from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import RowNetworkDetector
from skad.nn.architecture import build
from skad.nn.network import Network
from skad.self_supervised._transformations import ParallelLinear


def log_contrast(codes, views, temperature):
    r"""Return the log probabilities (b, K) that a view belongs to its sample.

    Among the sample, of `codes` (b, m), and its other views, of `views` (b, K, m), by
    the softmax of the cosines over the temperature.
    """
    codes, views = functional.normalize(codes, dim=1), functional.normalize(views, 2, 2)
    own = (views * codes[:, None]).sum(2) / temperature  # (b, K)
    others = views @ views.transpose(1, 2) / temperature  # (b, K, K)
    itself = torch.eye(views.shape[1], dtype=torch.bool, device=views.device)
    others = others.masked_fill(itself, -torch.inf)
    return own - torch.cat([own[:, :, None], others], 2).logsumexp(2)


class LearnedTransformations(nn.Module):
    """Networks of one hidden layer from a row to a row, side by side."""

    def __init__(self, n_transformations, shape, size, kind):
        super().__init__()
        self.first = ParallelLinear(n_transformations, prod(shape), size)
        self.last = ParallelLinear(n_transformations, size, prod(shape))
        self.kind = kind

    def forward(self, x):
        """Map samples (b, ...) to all their views (b, K, ...)."""
        rows = x.flatten(1)[:, None]  # (b, 1, d)
        n = len(self.first.weight)
        made = self.last(self.first(rows.expand(-1, n, -1)).relu())
        if self.kind == "residual":
            made = rows + made
        elif self.kind == "multiply":
            made = rows * made.sigmoid()
        return made.unflatten(2, x.shape[1:])


class NeuTraLNetwork(Network):
    """Learned views, and an encoder of samples and views."""

    def __init__(
        self,
        shape,
        n_transformations,
        transform_type,
        transform_size,
        code_size,
        hidden_sizes,
        temperature,
    ):
        super().__init__()
        self.register_buffer("baseline", torch.zeros(shape))
        self.transforms = LearnedTransformations(
            n_transformations, shape, transform_size, transform_type
        )
        # bias terms would let views be constant, which are easy to tell apart
        self.encoder = build(
            "mlp", shape, (code_size,), hidden_sizes, False, (code_size,) * 4
        )
        self.temperature = temperature

    def log_right(self, x):
        """Return the log probabilities (b, K) that views belong to their samples."""
        views = self.transforms(x)
        codes = self.encoder(views.flatten(0, 1)).unflatten(0, views.shape[:2])
        return log_contrast(self.encoder(x), codes, self.temperature)

    def loss(self, x, y):
        """Return the mean anomaly."""
        return self.anomaly(x).mean()

    def finish(self, batches, held=None):
        """Keep the mean training row."""
        self.baseline.copy_(torch.cat([x for x, _ in batches()]).mean(0))

    def map(self, x):
        """Return how much lower the anomaly is with each feature at its mean."""
        return ablation(self.anomaly, x, self.baseline)

    def anomaly(self, x):
        """Return minus the mean log probability, 1 where all are equal."""
        found = self.log_right(x)
        return -found.mean(1) / log(found.shape[1])


@with_parameters
class LearnedViewsDetector(RowNetworkDetector):
    r"""Base of the networks that learn views of a row.

    Parameters
    ----------
    n_transformations : int, default=11
        Number :math:`K` of learned transformations, at least 2.
    transform_type : {"residual", "multiply", "forward"}, default="residual"
        Whether a network's output :math:`M_i(x)` is added to the row, or the row is
        multiplied by its sigmoid, or it is the view itself.
    transform_size : int, default=24
        Units of the hidden layer of each transformation.
    code_size : int, default=24
        Length of the codes.
    hidden_sizes : tuple of int or None, default=None
        Units of the encoder's layers between; None is four layers of `code_size`.
    temperature : float, default=0.1
        The temperature :math:`\tau` of the cosines.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows. "auto" is 200, or as many as see about 128,000
        samples where that is less, at least one.
    """

    n_transformations: int = 11
    transform_type: str = "residual"
    transform_size: int = 24
    code_size: int = 24
    hidden_sizes: Sequence[int] | None = None
    temperature: float = 0.1
    max_epochs: int | str = "auto"
    weight_decay: float = 1e-5

    _parameter_constraints = {
        "n_transformations": [Interval(Integral, 2, None, closed="left")],
        "transform_type": [StrOptions({"residual", "multiply", "forward"})],
        "transform_size": [Interval(Integral, 1, None, closed="left")],
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _most_epochs(self):
        return 200


@with_parameters
class NeuTraL(LearnedViewsDetector):
    r"""Rows whose learned views are far from them, or close to each other.

    Networks :math:`T_1, \dots, T_K` without bias terms make views :math:`x_i = T_i(x)`
    of each row, and an encoder :math:`\phi` is trained with them. With
    :math:`h(u, v) = \exp(\cos(\phi(u), \phi(v)) / \tau)`, each view has to be close to
    its row and apart from all other views of this row:

    .. math:: a(x) = -\frac{1}{K \log K} \sum_i
        \log \frac{h(x_i, x)}{h(x_i, x) + \sum_{j \ne i} h(x_i, x_j)}.

    The mean of that over the training rows is the loss, and it is the anomaly of a new
    row; it is 1 where all views are the same. The map is how much lower the anomaly
    would be with each feature at its mean; it does not sum to the anomaly, and with
    ``transform_type="multiply"``, whose masks weigh all features anew, it points at a
    feature that left in under half of all cases.

    Read more in the :ref:`User Guide <self_supervised>`.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `transforms` and `encoder`.

    See Also
    --------
    LOE : The same for training rows that hold anomalies.
    GOAD : Random transformations.

    Notes
    -----
    Features should be on one scale (StandardScaler). Nothing has bias terms: with
    them a view could be the same for all rows, which is easy to tell. So a row that is
    made longer keeps its anomaly, and anomalies that are normal rows made longer are
    not found.

    Sizes, rates and 200 epochs in batches of 128 are the authors' for small tables;
    they halve the rate at the end and stop where the training loss does. With 250
    rows of each of ten tables the ROC AUC is .76 in the mean, after 50 epochs .72,
    without training .50, and .83 for the norm of the standardised row.

    References
    ----------
    .. [1] C. Qiu et al., "Neural transformation learning for deep anomaly detection
       beyond images", ICML, 2021, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.self_supervised import NeuTraL
    >>> X = np.random.default_rng(0).normal(size=(300, 3)) @ np.eye(3, 6)
    >>> X[:, 3:] = X[:, :3]
    >>> detector = NeuTraL(random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 3 + [-1.0] * 3])
    array([ 1, -1])
    """

    _network_class = NeuTraLNetwork
