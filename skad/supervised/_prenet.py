"""PReNet: what two samples are to each other, learned from pairs."""

from collections.abc import Sequence
from numbers import Integral, Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.nn.architecture import build
from skad.supervised._base import Scorer, SupervisedDetector

# What a pair is to give: of other samples, of one and an anomaly, of two anomalies.
OTHERS, MIXED, ANOMALIES = 0.0, 4.0, 8.0


def draw_pairs(y):
    """Return the places (p,) of first and second partners in a batch, and targets (p,).

    As many pairs as samples: half of two others, a quarter of another and an anomaly,
    a quarter of two anomalies.
    """
    known, others = torch.nonzero(y == -1)[:, 0], torch.nonzero(y != -1)[:, 0]
    quarter = max(1, len(y) // 4)

    def draw(places, n):
        return places[torch.randint(len(places), (n,), device=places.device)]

    kinds = [
        (others, others, OTHERS, 2 * quarter),
        (others, known, MIXED, quarter),
        (known, known, ANOMALIES, quarter),
    ]
    first = torch.cat([draw(one, n) for one, _, _, n in kinds])
    second = torch.cat([draw(two, n) for _, two, _, n in kinds])
    targets = torch.cat([torch.full((n,), t, device=y.device) for *_, t, n in kinds])
    return first, second, targets


class PReNetNetwork(Scorer):
    """An encoder, and a linear layer over the codes of a pair."""

    def __init__(self, shape, code_size, architecture, hidden_sizes, l2):
        super().__init__(shape)
        self.encoder = build(
            architecture, shape, (code_size,), hidden_sizes, units=(100,)
        )
        self.first = torch.nn.Linear(code_size, 1)
        self.second = torch.nn.Linear(code_size, 1, bias=False)
        # the mean codes of the partners: of other samples, of known anomalies
        self.register_buffer("other_code", torch.zeros(code_size))
        self.register_buffer("known_code", torch.zeros(code_size))
        self.l2 = l2

    def codes(self, x):
        """Return the codes (b, code_size), none below zero."""
        return self.encoder(x).relu()

    def relation(self, one, other):
        """Return what pairs of codes (b, code_size) give, (b,)."""
        return (self.first(one) + self.second(other)).squeeze(1)

    def loss(self, x, y):
        """Return the mean absolute error of pairs that are drawn from the batch."""
        first, second, targets = draw_pairs(y)
        codes = self.codes(x)
        weights = [w for w in self.encoder.parameters() if w.ndim > 1]
        price = self.l2 * sum(one.square().sum() for one in weights)
        found = self.relation(codes[first], codes[second])
        return (found - targets).abs().mean() + price

    def finish(self, batches, held=None):
        """Keep the mean codes of both kinds of partners."""
        super().finish(batches, held)
        codes = torch.cat([self.codes(x) for x, _ in batches()])
        known = torch.cat([y for _, y in batches()]) == -1
        self.known_code.copy_(codes[known].mean(0))
        self.other_code.copy_(codes[~known].mean(0))

    def anomaly(self, x):
        """Return the mean relation to all others and to all known anomalies."""
        codes = self.codes(x)
        to_others = self.relation(self.other_code.expand_as(codes), codes)
        return (to_others + self.relation(codes, self.known_code.expand_as(codes))) / 2


@with_parameters
class PReNet(SupervisedDetector):
    r"""Samples that are to others what known anomalies are.

    An encoder :math:`e` and a linear layer give each ordered pair of samples a number
    :math:`\tau(x, x') = w_1^\top e(x) + w_2^\top e(x') + b`, which is trained, by the
    absolute error, to be 0 for two samples that are no known anomalies, 4 for one of
    these and a known anomaly, 8 for two known anomalies. The anomaly is the mean
    relation to the training samples of both kinds, unlabelled ones first and known
    anomalies last:

    .. math:: a(x) = \tfrac{1}{2} \Big(\frac{1}{n} \sum_i \tau(u_i, x)
        + \frac{1}{m} \sum_j \tau(x, a_j)\Big).

    The map is its integrated gradients on the way from the mean sample that is no known
    anomaly: their sum is the anomaly less that of the mean, up to the error of the
    quadrature.

    Read more in the :ref:`User Guide <supervised>`.

    Parameters
    ----------
    code_size : int, default=20
        Length of the code :math:`e(x)`, which has no negative values.
    l2 : float, default=0.01
        Weight in the loss of the encoder's squared weights.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers before the code; None is (100,) for linear
        layers, () none.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `first` and `second` layer.

    See Also
    --------
    DevNet : Learns from single samples.

    Notes
    -----
    Features should be on one scale (StandardScaler). At least two known anomalies are
    needed. The authors take the mean over a few partners that are drawn once. As the
    number is linear in the codes, partners only shift the score, and the mean over all
    of them is that of their mean codes: it costs one pass, and depends on no draw.

    Over 13 real tables with ten known anomalies a layer before the code got an average
    precision of .54, the authors' code alone .50: the default is the former
    (benchmarks/results/defaults_supervised.tsv).

    The authors train 50 epochs of 20 batches of 512 pairs and keep the weights of the
    best training loss; here the last ones are kept.

    References
    ----------
    .. [1] G. Pang, C. Shen, H. Jin and A. van den Hengel, "Deep weakly-supervised
       anomaly detection", KDD, 2023, section 3 (the pairwise relation network).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.supervised import PReNet
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(200, 4)), rng.normal(3, 1, size=(10, 4))])
    >>> y = np.repeat([0, -1], [200, 10])
    >>> detector = PReNet(random_state=0).fit(X, y)
    >>> detector.predict([[3.0] * 4, [0.0] * 4])
    array([-1,  1])
    """

    code_size: int = 20
    l2: float = 0.01
    hidden_sizes: Sequence[int] | None = None
    max_epochs: int | str = "auto"
    optimizer: str = "rmsprop"

    _network_class = PReNetNetwork
    _fewest_anomalies = 2
    _parameter_constraints = {
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "l2": [Interval(Real, 0, None, closed="left")],
    }
