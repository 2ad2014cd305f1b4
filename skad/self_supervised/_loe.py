"""LOE: views that are learned from rows some of which are taken for anomalies."""

from math import log
from numbers import Integral, Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.self_supervised._neutral import LearnedViewsDetector, NeuTraLNetwork

# A probability is at least so far from 1 where the logarithm of the rest is taken.
_NEAREST_TO_ONE = 1e-6


def anomalous_loss(log_right):
    """Return the loss (b,) of anomalies: no view (b, K) is to belong to its sample."""
    rest = 1 - log_right.exp().clamp(max=1 - _NEAREST_TO_ONE)
    return -rest.log().mean(1) / log(log_right.shape[1])


def exposed_loss(normal, anomalous, n_outliers, how):
    """Return the mean loss of a batch of which some samples are taken for anomalies.

    Parameters
    ----------
    normal, anomalous : tensor of shape (b,)
        The loss of each sample if it is normal, and if it is an anomaly.
    n_outliers : int
        How many are taken for anomalies: those for which that is the better deal.
    how : {"soft", "hard", "refine"}
        Whether these have the mean of both losses, that of an anomaly, or none.
    """
    gain = normal if how == "refine" else normal - anomalous
    kept, taken = (
        gain.detach().argsort(stable=True).tensor_split([len(gain) - n_outliers])
    )
    if how == "refine":
        return normal[kept].mean()
    others = anomalous[taken]
    if how == "soft":
        others = (others + normal[taken]) / 2
    return (normal[kept].sum() + others.sum()) / len(gain)


class LOENetwork(NeuTraLNetwork):
    """Learned views, and some samples of each batch that are taken for anomalies."""

    def __init__(
        self,
        shape,
        n_transformations,
        transform_type,
        transform_size,
        code_size,
        hidden_sizes,
        temperature,
        contamination_training,
        outlier_fraction,
        n_warm_up_epochs,
    ):
        super().__init__(
            shape,
            n_transformations,
            transform_type,
            transform_size,
            code_size,
            hidden_sizes,
            temperature,
        )
        self.how, self.fraction = contamination_training, outlier_fraction
        self.n_warm_up_epochs = n_warm_up_epochs
        self.register_buffer("n_epochs", torch.zeros((), dtype=torch.int64))

    def loss(self, x, y):
        """Return the loss of a batch; held-out samples are all normal."""
        found = self.log_right(x)
        normal = -found.mean(1) / log(found.shape[1])
        if not self.training or self.n_epochs < self.n_warm_up_epochs:
            return normal.mean()
        n_outliers = int(self.fraction * len(x))
        return exposed_loss(normal, anomalous_loss(found), n_outliers, self.how)

    def end_epoch(self, phase, batches):
        """Count the epochs."""
        self.n_epochs += 1


@with_parameters
class LOE(LearnedViewsDetector):
    r"""Rows whose learned views are far from them, with anomalies in training.

    The network is that of `NeuTraL`. With the probability :math:`p_i` that the view i
    of a row belongs to it, a row has a loss as a normal one and one as an anomaly,

    .. math:: L_n = -\frac{1}{K \log K} \sum_i \log p_i, \qquad
        L_a = -\frac{1}{K \log K} \sum_i \log(1 - p_i).

    In each batch the given share of the rows with the largest :math:`L_n - L_a` are
    taken for anomalies. These have the loss :math:`L_a` ("hard") or
    :math:`(L_n + L_a) / 2` ("soft"); or those with the largest :math:`L_n` are left
    out ("refine"). The anomaly of a new row is :math:`a(x) = L_n`. The map is how
    much lower the anomaly would be with each feature at its mean; it does not sum to
    the anomaly.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    contamination_training : {"soft", "hard", "refine"}, default="soft"
        What becomes of the rows that are taken for anomalies.
    outlier_fraction : float, default=0.1
        Share of each batch that is taken for anomalies, in [0, 1], rounded down to
        whole rows.
    n_warm_up_epochs : int, default=2
        Epochs before, in which all rows are normal.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `transforms` and `encoder`.

    See Also
    --------
    NeuTraL : Takes all training rows for normal.

    Notes
    -----
    Features should be on one scale (StandardScaler). With ``outlier_fraction=0`` it is
    `NeuTraL`, to the last bit. Rows that are held out of the training count as normal.
    The authors round both shares of a batch down and lose a row by it; here all others
    are normal. Probabilities are kept a millionth below 1 for
    :math:`L_a`. They train 300 epochs, and stop where the training loss does. With 250
    normal rows of each of ten tables the ROC AUC is .77 in the mean, as that of
    `NeuTraL`, and .83 for the norm of the standardised row.

    References
    ----------
    .. [1] C. Qiu et al., "Latent outlier exposure for anomaly detection with
       contaminated data", ICML, 2022, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.self_supervised import LOE
    >>> X = np.random.default_rng(0).normal(size=(300, 3)) @ np.eye(3, 6)
    >>> X[:, 3:] = X[:, :3]
    >>> X[:15, 3:] *= -1
    >>> detector = LOE(contamination=0.05, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 3 + [-1.0] * 3])
    array([ 1, -1])
    """

    contamination_training: str = "soft"
    outlier_fraction: float = 0.1
    n_warm_up_epochs: int = 2

    _network_class = LOENetwork
    _parameter_constraints = {
        "contamination_training": [StrOptions({"soft", "hard", "refine"})],
        "outlier_fraction": [Interval(Real, 0, 1, closed="both")],
        "n_warm_up_epochs": [Interval(Integral, 0, None, closed="left")],
    }
