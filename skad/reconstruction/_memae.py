"""MemAE: an autoencoder that may rebuild only from a memory of normal codes."""

from numbers import Integral, Real

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import IncrementalNetworkMixin, ShapedDetector
from skad.nn.architecture import build
from skad.nn.memory import Memory, entropy
from skad.nn.network import Network, over_channels


class MemAENetwork(Network):
    """An encoder that asks a memory, and a decoder of what the memory answers."""

    def __init__(
        self,
        shape,
        latent_size,
        architecture,
        hidden_sizes,
        n_items,
        shrink_threshold,
        entropy_weight,
    ):
        super().__init__()
        self.encoder = build(architecture, shape, (latent_size,), hidden_sizes)
        threshold = 1 / n_items if shrink_threshold is None else shrink_threshold
        self.memory = Memory(n_items, latent_size, threshold)
        self.decoder = build(architecture, (latent_size,), shape, hidden_sizes)
        self.entropy_weight = entropy_weight

    def reconstruct(self, x):
        """Return what the decoder makes of the memory's answer to the code of `x`."""
        return self.decoder(self.memory(self.encoder(x)))

    def loss(self, x, y):
        """Return the squared error and the weighted entropy, of a mean sample."""
        weights = self.memory.address(self.encoder(x))  # (b, n_items)
        rebuilt = self.decoder(weights @ self.memory.items)
        errors = ((x - rebuilt) ** 2).flatten(1).sum(1)
        return (errors + self.entropy_weight * entropy(weights)).mean()

    def map(self, x):
        """Return the squared error of every element, summed over channels."""
        return over_channels((x - self.reconstruct(x)) ** 2)


@with_parameters
class MemAE(IncrementalNetworkMixin, ShapedDetector):
    r"""Samples that cannot be rebuilt from remembered normal ones.

    An autoencoder may generalise so well that it rebuilds anomalies. Here the code
    :math:`z = e(x)` only asks a memory of :math:`N` learned items :math:`m_i` [1]_: the
    weights are a softmax of cosines,

    .. math:: w_i = \frac{\exp(\cos(z, m_i))}{\sum_j \exp(\cos(z, m_j))},
        \qquad \hat w_i \propto w_i \, [w_i > \lambda],

    of which those above :math:`\lambda` are kept and made to sum to one, and the
    decoder :math:`d` gets :math:`\hat z = \sum_i \hat w_i m_i` (equations 3 to 7).
    Training minimises the mean of :math:`\|x - d(\hat z)\|^2 - \alpha \sum_i \hat w_i
    \log \hat w_i` (equations 8 to 10); the anomaly is

    .. math:: a(x) = \|x - d(\hat z)\|^2,

    and the map its terms, which sum to it.

    Read more in the :ref:`User Guide <reconstruction>`.

    Parameters
    ----------
    latent_size : int, default=64
        Length of the code and of the items.
    n_items : int, default=100
        Items :math:`N` of the memory; the paper's 100 for MNIST, 500 for CIFAR-10.
    shrink_threshold : float or None, default=None
        :math:`\lambda`, below one; None is :math:`1 / N`. The paper advises values
        between :math:`1 / N` and :math:`3 / N`.
    entropy_weight : float, default=0.0002
        :math:`\alpha`.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `memory` and `decoder`.

    See Also
    --------
    AutoEncoder : The decoder gets the code itself.

    Notes
    -----
    A sample asks the memory once, with its whole code. A sample for which no weight is
    above :math:`\lambda` keeps all its weights. Features should be on one scale
    (StandardScaler). Training is in float32, scoring in the dtype of `X`.

    Where a twentieth of the training rows are anomalies, long training rebuilds them
    too: over 25 real tables of at most 300 normal rows ``max_epochs=15`` gets a ROC AUC
    of .68, the default's 50 epochs .63 and weights at random .64; where training rows
    are normal it is .67, .69 and .65.

    References
    ----------
    .. [1] D. Gong et al., "Memorizing normality to detect anomaly: memory-augmented
       deep autoencoder for unsupervised anomaly detection", ICCV, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.reconstruction import MemAE
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = MemAE(random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-1.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-2.0]]).argmax())
    5
    """

    _network_class = MemAENetwork
    _map_sums_to_score = True
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "n_items": [Interval(Integral, 1, None, closed="left")],
        "shrink_threshold": [Interval(Real, 0, 1, closed="left"), None],
        "entropy_weight": [Interval(Real, 0, None, closed="left")],
    }

    latent_size: int = 64
    n_items: int = 100
    shrink_threshold: float | None = None
    entropy_weight: float = 0.0002
    batch_size: int = 32
