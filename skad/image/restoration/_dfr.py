"""DFR: patches whose features a narrow network cannot rebuild."""

import math
from itertools import pairwise
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._trained import TrainedImageDetector
from skad.nn.statistics import SettledNetwork


class DFRNetwork(SettledNetwork):
    """An autoencoder of 1 x 1 convolutions on the features of all layers."""

    def __init__(self, shape, latent_size):
        super().__init__()
        self.shape = shape
        n, k = shape[0], latent_size
        sizes = [n, (n + 2 * k) // 2, 2 * k, k]
        self.encoder = self._convolutions(sizes)
        self.decoder = self._convolutions(sizes[::-1])

    @staticmethod
    def _convolutions(sizes):
        layers = []
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            layers += [nn.Conv2d(n_in, n_out, 1)]
            if i < len(sizes) - 2:
                layers += [nn.BatchNorm2d(n_out), nn.ReLU()]
        return nn.Sequential(*layers)

    def errors(self, x):
        """Return the squared errors (b, c, h, w) of the features."""
        features = x.unflatten(1, self.shape)
        return (features - self.decoder(self.encoder(features))).square()

    def loss(self, x, y):
        """Return the mean squared error."""
        return self.errors(x).mean()

    def map(self, x):
        """Return the mean error of the features of each place, (b, h, w)."""
        return self.errors(x).mean(1)


def explaining_components(features, share):
    """Return how many principal components of rows (n, d) explain `share`."""
    centred = (features - features.mean(0)).double()
    variance = torch.linalg.eigvalsh(centred.T @ centred).flip(0).clamp(min=0)
    explained = variance.cumsum(0) / variance.sum().clamp(min=1e-300)
    return int((explained < share).sum()) + 1


@with_parameters
class DFR(TrainedImageDetector):
    r"""Patches whose features cannot be rebuilt from a few numbers.

    A frozen backbone describes each place :math:`(i, j)` by the features
    :math:`f_{ij}` of several layers. An autoencoder of 1 x 1 convolutions :math:`g`,
    one network for all places, is trained on normal pictures to minimise the mean of
    the anomaly of places,

    .. math:: a_{ij} = \frac{1}{d} \lVert f_{ij} - g(f)_{ij} \rVert^2.

    The map is :math:`a`, interpolated to the pixels of the picture and smoothed, and
    the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    latent_size : int or None, default=None
        Length of the code of a place; None is the number of principal components that
        explain `explained_variance` of the training features, as in the paper.
    explained_variance : float, default=0.9
        Share of the variance, for ``latent_size=None``.
    neighborhood : int, default=3
        Places, in both directions, over which features are averaged; odd.
    layers : tuple of str or None, default=None
        Names of the layers whose features are rebuilt; None is the first three of a
        ResNet, and all of the bank of filters.
    random_state : int, RandomState instance or None, default=None
        Draws weights and batches. Pass an int for reproducible results.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder` and `decoder`.
    latent_size_ : int
        Length of the code.

    See Also
    --------
    skad.reconstruction.AutoEncoder : Rebuilds the pictures themselves.
    PaDiM : A Gaussian instead of an autoencoder, one for each place.

    Notes
    -----
    The code's length is counted on the features of at most 2,000 places. The paper
    takes twelve layers of a VGG-19, brings them to the size of the picture and averages
    4 x 4 places; here the layers are those of the backbone, averaged over
    `neighborhood` and brought to the grid of the first. Training is in float32, scoring
    in the dtype of `X`. When it has ended, batch norms take their statistics from all
    training pictures, since averages over the last steps lag behind the weights.

    Before the features are learned, errors are largest where a picture has most
    contrast, normal or not. With the authors' rate, 1e-4, that is so for hundreds of
    steps: after 320 on magnetic tiles the loss was eight times what as many principal
    components of the features leave, and the ROC AUC of pictures .56. The default rate
    was chosen on drawn textures (``benchmarks/results/images_settings.tsv``): after 108
    steps the mean ROC AUC of four is .79 with it and .56 with theirs; 0.01 is less.
    Tiles are then told with .82 after 160 steps, 18 s on one core, and with .79 after
    320, where the loss is still four times the components'. These, which need no
    training, reach .87 there, and .96 on cookies
    (``benchmarks/results/images_training.tsv``). With the bank of filters, of which few
    components explain the variance, the score may lie below the distance to the mean
    picture however long the training.

    References
    ----------
    .. [1] J. Yang, Y. Shi and Z. Qi, "DFR: deep feature reconstruction for unsupervised
       anomaly segmentation", 2020, equations (4) and (5).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import DFR
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = DFR(max_epochs=30, lr=0.01, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left"), None],
        "explained_variance": [Interval(Real, 0, 1, closed="neither")],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
    }

    latent_size: int | None = None
    explained_variance: float = 0.9
    neighborhood: int = 3
    max_epochs: int = 700
    batch_size: int = 4
    lr: float = 3e-3
    smoothing: float = 0.0

    def _layers(self, x):
        return [self.embedding_.embed(x).permute(0, 3, 1, 2)]

    def _samples(self, X):
        x = super()._samples(X)
        if not hasattr(self, "latent_size_"):  # a warm start goes on with its own
            self.latent_size_ = self.latent_size or self._count_components(x)
        return x

    def _count_components(self, x):
        # evenly spread pictures, and evenly spread places of each
        n_pictures, (shape,) = min(len(x), 50), self._shapes_
        parts, stride = [], max(1, n_pictures * math.prod(shape[1:]) // 2000)
        for i in range(0, len(x), -(-len(x) // n_pictures)):
            places = x[i].reshape(shape[0], -1).T  # (p, d)
            parts.append(places[::stride])
        return explaining_components(torch.cat(parts), self.explained_variance)

    def _network(self, shapes):
        return DFRNetwork(*shapes, self.latent_size_)
