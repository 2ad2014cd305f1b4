"""RoSAS: scores of mixed samples, and codes in which known anomalies are apart."""

from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch.distributions import Beta
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.nn.architecture import build
from skad.supervised._base import Scorer, SupervisedDetector


def draw_triplets(y):
    """Return the places (t,) of anchors, of others and of known anomalies in a batch.

    Anchors and others are no known anomalies; there are as many triplets as of these.
    """
    known, others = torch.nonzero(y == -1)[:, 0], torch.nonzero(y != -1)[:, 0]
    turned = others[torch.randperm(len(others), device=others.device)]
    drawn = torch.randint(len(known), (len(others),), device=known.device)
    return others, turned, known[drawn]


def consistency(score, first, second, share):
    """Return the loss of the scores of mixed samples against the mixed scores (b,)."""
    return functional.smooth_l1_loss(score, share * first + (1 - share) * second)


class RoSASNetwork(Scorer):
    """An encoder without bias terms, and a score of the codes in -1..1."""

    def __init__(
        self, shape, code_size, architecture, hidden_sizes, margin, temperature
    ):
        super().__init__(shape)
        self.encoder = build(
            architecture, shape, (code_size,), hidden_sizes, bias=False, units=(128,)
        )
        self.hidden = torch.nn.Linear(code_size, 64, bias=False)
        self.last = torch.nn.Linear(64, 1)
        self.margin, self.temperature = margin, temperature
        # the two losses: summed over this epoch, and the means of the one before
        self.register_buffer("totals", torch.zeros(3))
        self.register_buffer("before", torch.ones(2))

    def logits(self, codes):
        """Return what the score (b,) is the hyperbolic tangent of."""
        return self.last(functional.leaky_relu(self.hidden(codes), 0.01)).squeeze(1)

    def parts(self, x, y):
        """Return the loss of the codes and that of the scores."""
        codes = self.encoder(x)
        anchors, others, known = draw_triplets(y)
        apart = functional.triplet_margin_loss(
            codes[anchors], codes[others], codes[known], margin=self.margin
        )
        place = torch.randperm(len(x), device=x.device)
        share = Beta(0.5, 0.5).sample((len(x),)).to(x)
        wide = share.reshape(-1, *[1] * (x.ndim - 1))
        target = torch.where(y == -1, 1.0, -1.0).to(x)
        score = self.logits(codes).tanh()
        mixed = self.logits(self.encoder(wide * x + (1 - wide) * x[place])).tanh()
        right = functional.smooth_l1_loss(
            mixed, share * target + (1 - share) * target[place]
        )
        return apart, right + consistency(mixed, score, score[place], share)

    def loss(self, x, y):
        """Return both losses; the one that falls more slowly weighs more."""
        parts = torch.stack(self.parts(x, y))
        if self.training:
            self.totals += torch.cat([parts.detach(), parts.new_ones(1)])
        ratios = parts.detach() / self.before.clamp(min=1e-12)
        return (2 * torch.softmax(ratios / self.temperature, 0) * parts).sum()

    def end_epoch(self, phase, batches):
        """Keep the mean losses of the epoch for the next one's weights."""
        if self.totals[2] > 0:
            self.before.copy_(self.totals[:2] / self.totals[2])
        self.totals.zero_()

    def anomaly(self, x):
        """Return the score before the tangent, which would make high ones equal."""
        return self.logits(self.encoder(x))


@with_parameters
class RoSAS(SupervisedDetector):
    r"""Samples with the score of known anomalies, learned from mixtures of samples.

    An encoder is trained by triplets, of two samples that are no known anomalies and
    one that is, to keep the anomaly at least `margin` farther from the first than the
    second. A score :math:`s` in -1..1 of the codes is trained on mixtures
    :math:`\tilde x = \lambda x + (1 - \lambda) x'` of the batch, with
    :math:`\lambda \sim \mathrm{Beta}(\frac12, \frac12)`: it has to be the mixture of
    the targets, 1 for known anomalies and -1 for others, and the mixture
    of :math:`s(x)` and :math:`s(x')`, both by the smooth absolute error. So the
    score is graded between both kinds, and unlabelled anomalies weigh less.

    The anomaly is :math:`a(x) = \tanh^{-1} s(x)`, so that high scores do not become
    equal. The map is its integrated gradients on the way from the mean sample that is
    no known anomaly: their sum is the anomaly less that of the mean, up to the error of
    the quadrature.

    Read more in the :ref:`User Guide <supervised>`.

    Parameters
    ----------
    code_size : int, default=128
        Length of the code.
    margin : float, default=1.0
        The margin of the triplets.
    temperature : float, default=2.0
        How much the loss that falls more slowly weighs more; large is equal weights.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the encoder's layers between; None is (128,) for linear
        layers.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `hidden` and `last` layer.

    See Also
    --------
    DevNet : Scores at least a margin above those of others.

    Notes
    -----
    Features should be on one scale (StandardScaler). The two losses are weighted by the
    softmax of their ratios to their means of the epoch before, over the temperature.
    The authors let the gradient through these weights, add a small price of the codes'
    sum, and stop on labelled validation data; here the weights are constants, and there
    is none of the others.

    References
    ----------
    .. [1] H. Xu, Y. Wang, G. Pang, S. Jian, N. Liu and Y. Wang, "RoSAS: deep
       semi-supervised anomaly detection with contamination-resilient continuous
       supervision", Information Processing and Management, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.supervised import RoSAS
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(200, 4)), rng.normal(3, 1, size=(10, 4))])
    >>> y = np.repeat([0, -1], [200, 10])
    >>> detector = RoSAS(random_state=0).fit(X, y)
    >>> detector.predict([[3.0] * 4, [-0.5] * 4])
    array([-1,  1])
    """

    code_size: int = 128
    margin: float = 1.0
    temperature: float = 2.0
    hidden_sizes: Sequence[int] | None = None
    anomaly_share: float = 0.33
    max_epochs: int | str = "auto"
    lr: float = 0.005
    weight_decay: float = 1e-4

    _network_class = RoSASNetwork
    _largest_norm = None
    _parameter_constraints = {
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }
