"""OC-CNN: features told from noise at zero."""

from collections.abc import Sequence
from numbers import Real

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import RowNetworkDetector
from skad.nn.architecture import build
from skad.nn.network import FromMeanNetwork


class OCCNNNetwork(FromMeanNetwork):
    """A classifier of features, high for noise."""

    def __init__(self, shape, noise, normalize, hidden_sizes):
        super().__init__(shape)
        self.noise, self.normalize = noise, normalize
        self.classifier = build("mlp", shape, (1,), hidden_sizes, units=())

    def features(self, x):
        """Return what the classifier sees of rows (b, d): each at mean 0, variance 1.

        And what is negative at zero.
        """
        if self.normalize:
            x = functional.instance_norm(x[:, None]).squeeze(1)
        return x.relu()

    def loss(self, x, y):
        """Return the cross-entropy of features and as much noise."""
        noise = (self.noise * torch.randn_like(x)).relu()
        logits = self.classifier(torch.cat([self.features(x), noise]))
        made = torch.arange(2, dtype=x.dtype, device=x.device).repeat_interleave(len(x))
        return functional.binary_cross_entropy_with_logits(logits[:, 0], made)

    def anomaly(self, x):
        """Return the logit (b,) of being noise."""
        return self.classifier(self.features(x))[:, 0]


@with_parameters
class OCCNN(RowNetworkDetector):
    r"""Features that a classifier takes for noise at zero, and not for normal ones.

    Rows are features :math:`f` of a network that was trained on something else. Each is
    brought to mean 0 and variance 1 over its elements, and what is negative then to
    zero. A linear classifier is trained to tell these from noise of the same length
    :math:`\max(0, \sigma \epsilon)`, with Gaussian :math:`\epsilon`, by the
    cross-entropy of as many of both. The anomaly is its logit for noise,

    .. math:: a(f) = b - w^\top \max\Big(0, \frac{f - \bar f}{s_f}\Big).

    The map is its integrated gradients on the way from the mean training row: their
    sum is the anomaly less that of the mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    noise : float, default=0.01
        The deviation :math:`\sigma`.
    normalize : bool, default=True
        Whether each row is brought to mean 0 and variance 1.
    hidden_sizes : tuple of int or None, default=None
        Units of layers between, from the row's side; None is none of them.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows. "auto" is 250, or as many as see about 128,000
        samples where that is less, at least one.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `classifier`.

    See Also
    --------
    DROCC : Seeks negatives near the normal samples.
    OneClassSVM : ``kernel="linear"`` is a hyperplane between them and zero, too.
    skad.image.SimpleNet : Noise around the features of patches.

    Notes
    -----
    It is for features whose elements are activations, on one scale and large where a
    picture has something: zero stands for what has nothing. Of 500 pictures of a class
    of Fashion-MNIST as rows of pixels, others are told with a ROC AUC of .87, by the
    nearest neighbours with .88, without training .52. Rows of standardized columns have
    zero in their middle, and are told from it by nothing that makes them normal: on ten
    such tables the ROC AUC is .55.

    In the authors' code the last layers of the pretrained network, an AlexNet or VGG,
    are trained along; here features are as they are given. They take about 1,000 steps.

    References
    ----------
    .. [1] P. Oza and V. M. Patel, "One-class convolutional neural network", IEEE Signal
       Processing Letters, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.one_class import OCCNN
    >>> X = np.random.default_rng(0).uniform(size=(200, 6)) + [2, 2, 2, 0, 0, 0]
    >>> detector = OCCNN(max_epochs=20, lr=0.01, random_state=0).fit(X)
    >>> detector.predict([X[0], X[0][::-1]])
    array([ 1, -1])
    """

    noise: float = 0.01
    normalize: bool = True
    hidden_sizes: Sequence[int] | None = None
    max_epochs: int | str = "auto"
    batch_size: int = 64
    lr: float = 1e-4

    _network_class = OCCNNNetwork
    _parameter_constraints = {
        "noise": [Interval(Real, 0, None, closed="left")],
        "normalize": ["boolean"],
    }

    def _most_epochs(self):
        return 250

    def _wants_unit_scale(self):
        return False

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.normalize and X.shape[1] < 2:
            raise ValueError(
                "normalize=True needs X with at least 2 features, got n_features=1: a "
                "row of one has no variance."
            )
