"""DevNet: scores that deviate from those of other samples by a margin."""

from collections.abc import Sequence
from numbers import Real

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.nn.architecture import build
from skad.nn.losses import deviation_loss
from skad.supervised._base import Scorer, SupervisedDetector


class DevNetNetwork(Scorer):
    """A network of one number, around 0 for normal samples."""

    def __init__(self, shape, architecture, hidden_sizes, margin, l2):
        super().__init__(shape)
        self.scorer = build(architecture, shape, (1,), hidden_sizes, units=(100, 50))
        self.margin, self.l2 = margin, l2

    def loss(self, x, y):
        """Return the deviation loss and the price of all but the last weights."""
        *hidden, _ = [w for w in self.scorer.parameters() if w.ndim > 1]
        price = self.l2 * sum(weights.square().sum() for weights in hidden)
        return deviation_loss(self.anomaly(x), y == -1, self.margin) + price

    def anomaly(self, x):
        """Return the network's number."""
        return self.scorer(x).squeeze(1)


@with_parameters
class DevNet(SupervisedDetector):
    r"""Samples whose trained score lies far above that of most, as known anomalies do.

    A network :math:`\phi` gives each sample one number. With :math:`\mu` and
    :math:`\sigma` of a reference, here those of the standard normal distribution, 0 and
    1, the deviation is :math:`d(x) = (\phi(x) - \mu) / \sigma`, and training makes

    .. math:: \frac{1}{n} \sum_{y_i \ne -1} |d(x_i)|
        + \frac{1}{m} \sum_{y_j = -1} \max(0, a - d(x_j))

    small: scores are near 0, those of known anomalies at least :math:`a` above. The
    anomaly is :math:`d(x)`. The map is its integrated gradients on the way from the
    mean sample that is no known anomaly: their sum is the anomaly less that of the
    mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <supervised>`.

    Parameters
    ----------
    margin : float, default=5.0
        The margin :math:`a` of known anomalies.
    l2 : float, default=0.01
        Weight in the loss of the squared weights of all layers but the last.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between; None is (100, 50) for linear layers,
        and () is a linear score.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `scorer`.

    See Also
    --------
    PReNet : Learns from pairs of samples.
    skad.image.DRA : Pictures, and such scores of their places.
    skad.one_class.DeepSAD : Draws a boundary, with or without known anomalies.

    Notes
    -----
    Features should be on one scale (StandardScaler). Samples without a label count as
    normal; a few anomalies among them do little harm. Anomalies of kinds that are not
    among the known ones may score low. Below 0 the score says nothing of how normal a
    sample is: the loss pushes normal ones up to 0 as well.

    Over 13 real tables with ten known anomalies two layers got an average precision of
    .53, the authors' one layer of 20 units .48: the default is the former
    (benchmarks/results/defaults_supervised.tsv).

    The authors draw 5,000 numbers for :math:`\mu` and :math:`\sigma`, which are 0 and 1
    but for their noise. They train 1,000 steps on 256 normal rows and as many known
    anomalies drawn with replacement, and keep the weights of the best training loss;
    here the last ones are kept. Activations are leaky. For pictures they average the
    largest tenth of a convolution's map, which this does not, and a head of `DRA` does.

    References
    ----------
    .. [1] G. Pang, C. Shen and A. van den Hengel, "Deep anomaly detection with
       deviation networks", KDD, 2019, equations (4), (6) and (7).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.supervised import DevNet
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(200, 4)), rng.normal(3, 1, size=(10, 4))])
    >>> y = np.repeat([0, -1], [200, 10])
    >>> detector = DevNet(random_state=0).fit(X, y)
    >>> detector.predict([[3.0] * 4, [0.0] * 4])
    array([-1,  1])
    """

    margin: float = 5.0
    l2: float = 0.01
    hidden_sizes: Sequence[int] | None = None
    max_epochs: int | str = "auto"
    optimizer: str = "rmsprop"

    _network_class = DevNetNetwork
    _parameter_constraints = {
        "margin": [Interval(Real, 0, None, closed="neither")],
        "l2": [Interval(Real, 0, None, closed="left")],
    }
