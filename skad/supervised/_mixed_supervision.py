"""MixedSupervision: a network that learns from labels, and from masks too."""

from collections.abc import Sequence
from math import prod
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import absent, with_parameters
from skad._sklearn import Interval
from skad._training import share_of_epochs
from skad.nn.network import Network
from skad.supervised._base import MarkedDetector

# Under the root by which features are divided.
_EPSILON = 1e-3
# Channels of the convolutions before the decision.
_DECISION = (8, 16, 32)


class FeatureNorm(nn.Module):
    """Takes of each picture's maps the mean, and divides by the root of the deviation.

    By the root, as the authors' code does: maps of large values stay larger. A single
    place, which is its own mean, stays as it is.
    """

    def __init__(self, n_channels, bias=True):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(n_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(n_channels, 1, 1)) if bias else None

    def forward(self, x):
        """Return the maps (b, c, h, w)."""
        if x.shape[2] * x.shape[3] == 1:
            return self.scale * x + (0 if self.bias is None else self.bias)
        deviation, mean = torch.std_mean(x, (2, 3), correction=0, keepdim=True)
        y = self.scale * (x - mean) / (deviation + _EPSILON).sqrt()
        return y if self.bias is None else y + self.bias


def block(n_in, n_out, size):
    """Return a convolution with its norm and activation."""
    convolution = nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=False)
    nn.init.xavier_normal_(convolution.weight)
    return nn.Sequential(convolution, FeatureNorm(n_out), nn.ReLU())


def weights_of(mask, largest, power):
    """Return weights (h, w) of the anomalous pixels of a mask, 0 of all others.

    In each connected part they grow with the distance d from its edge, as
    ``largest * (d / d_max) ** power``.
    """
    parts, n = ndimage.label(mask, np.ones((3, 3)))
    found = np.zeros(mask.shape, np.float32)
    for i in range(1, n + 1):
        # what lies beyond the picture is no edge
        away = ndimage.distance_transform_edt(parts == i)
        found += np.where(parts == i, largest * (away / away.max()) ** power, 0)
    return found


class MixedSupervisionNetwork(Network):
    """A segmentation of pictures, and a decision on what it sees.

    In training samples (b, c + 1, h, w) have weights of their anomalous pixels as one
    more channel, 0 where a pixel is normal and NaN where only the label is known.
    """

    # no known anomalies are held out
    unwatched_phases = ("fit",)

    def __init__(self, shape, channels, decision_weight):
        super().__init__()
        n_in, self.size = shape[0], tuple(shape[1:])
        first, second, third, last = channels
        halves = nn.MaxPool2d(2, ceil_mode=True)
        self.volume = nn.Sequential(
            block(n_in, first, 5),
            block(first, first, 5),
            halves,
            *(block(first if i == 0 else second, second, 5) for i in range(3)),
            halves,
            *(block(second if i == 0 else third, third, 5) for i in range(4)),
            halves,
            block(third, last, 15),
        )
        self.segment = nn.Sequential(
            nn.Conv2d(last, 1, 1, bias=False), FeatureNorm(1, bias=False)
        )
        nn.init.xavier_normal_(self.segment[0].weight)
        layers, wide = [], last + 1
        for narrow in _DECISION:
            layers += [halves, block(wide, narrow, 5)]
            wide = narrow
        self.decide = nn.Sequential(*layers)
        self.linear = nn.Linear(2 * (wide + 1), 1)
        self.n_channels, self.decision_weight = n_in, decision_weight
        self.share_done = 0.0
        self.register_buffer("has_masks", torch.zeros(()))

    def both(self, x, stop=True):
        """Return the logits (b, h / 8, w / 8) of places and those (b,) of pictures.

        With `stop` no gradient goes from the second to what gives the first.
        """
        volume = self.volume(x)
        places = self.segment(volume)
        seen = [each.detach() if stop else each for each in (volume, places)]
        deep = self.decide(torch.cat(seen, 1))
        pools = [one for each in (deep, seen[1]) for one in extremes(each)]
        return places[:, 0], self.linear(torch.cat(pools, 1))[:, 0]

    def begin(self, phase, batches):
        """See whether any mask is known."""
        known = [(x[:, self.n_channels :] > 0).any() for x, _ in batches()]
        self.has_masks.fill_(float(torch.stack(known).any()))

    def losses(self, x, y):
        """Return the losses of the segmentation and of the decision."""
        with_masks = bool(self.has_masks)
        places, pictures = self.both(x[:, : self.n_channels], stop=with_masks)
        decision = F.binary_cross_entropy_with_logits(pictures, (y == -1).to(pictures))
        # a place is anomalous where one of its pixels is
        weights = F.max_pool2d(x[:, self.n_channels :], 8, ceil_mode=True)[:, 0]
        known = ~weights[:, 0, 0].isnan()
        weights = weights.nan_to_num()
        anomalous = (weights > 0).to(places)
        of_places = F.binary_cross_entropy_with_logits(
            places, anomalous, torch.where(weights > 0, weights, 1.0), reduction="none"
        )
        return (of_places.mean((1, 2)) * known).mean(), decision

    def loss(self, x, y):
        """Return the sum of both, of which the second counts more and more."""
        segmentation, decision = self.losses(x, y)
        if not self.has_masks:
            return decision
        share = 1 - self.share_done
        return share * segmentation + self.decision_weight * (1 - share) * decision

    def anomaly(self, x):
        """Return the logits (b,) of pictures."""
        return self.both(x)[1]

    def inspect(self, x):
        """Return them and the map (b, h, w)."""
        places, pictures = self.both(x)
        wide = F.interpolate(places[:, None], self.size, mode="bilinear")
        return pictures, wide[:, 0].sigmoid()

    def map(self, x):
        """Return the probabilities (b, h, w) of pixels."""
        return self.inspect(x)[1]


def extremes(maps):
    """Return the largest value and the mean of maps, (b, c) each."""
    return maps.amax((2, 3)), maps.mean((2, 3))


@with_parameters
class MixedSupervision(MarkedDetector):
    r"""Pictures in which a network finds defects as they were labelled, or marked.

    Convolutions give features of places, an eighth of the picture's sides, and from
    these a segmentation :math:`s_p`. More convolutions on both, pooled over all places,
    give a decision :math:`z` on the picture [1]_. With the binary cross-entropy H the
    loss of a picture, in epoch t of T, is

    .. math:: \lambda \frac1P \sum_p w_p H(s_p, m_p) + \delta (1 - \lambda) H(z, y),
        \qquad \lambda = 1 - t / T,

    where the first part is left out of anomalies whose mask :math:`m` is not known. No
    gradient of the second part goes to the features and the segmentation. An anomalous
    place has the weight :math:`w_p = w (d / d_{\max})^q` of its distance d from the
    edge of its defect, the largest of its pixels, a normal one has 1. The anomaly is
    the logit :math:`z`, and the map is the logistic function of :math:`s`, interpolated
    to the pixels.

    Read more in the :ref:`User Guide <supervised>`.

    Parameters
    ----------
    channels : tuple of four int, default=(32, 64, 64, 1024)
        Of the layers before each of three poolings, two, three and four layers, and of
        the last one, which sees 15 x 15 places.
    decision_weight : float, default=1.0
        Weight :math:`\delta` of the decision. The authors' is .01 where their learning
        rate is 1.
    edge_weight : float, default=3.0
        Weight `w` of the middle of a defect.
    edge_power : float, default=2.0
        The power `q` with which weights fall towards the edge; 0 is none.
    max_epochs : int, default=50
        Passes over the normal training pictures.
    batch_size : int, default=2
        Pictures of a training step, half of them known anomalies.
    lr : float, default=0.3
        Learning rate. The authors' are .01 to 1, by the set of pictures.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `volume`, `segment`, `decide` and `linear`.

    See Also
    --------
    DevNet : A score, from few known anomalies.
    skad.image.SuperSimpleNet : Learns from made anomalies.

    Notes
    -----
    It is for pictures of 128 pixels and more: of smaller ones little is left to norms
    after six poolings. It finds what it was shown: defects of other kinds may score as
    normal ones. It is for tens of known anomalies and more; where all masks are
    missing, gradients of the
    decision train everything, as there is nothing else to learn from, and the map says
    little.

    From 48 drawn pictures of 64 pixels and 12 with a faint square somewhere, in 12
    epochs, it learned to tell others with a ROC AUC of .96 by masks (of .61 where `lr`
    was .1) and of .51 by labels alone (`lr` of .1): these have to be many.

    Masks (or `boxes`) are passed to `fit`; pictures that are no known anomalies are
    taken as normal all over. The authors train single pictures, as many normal ones as
    anomalies in an epoch; here an epoch has all normal ones. Features are divided by
    the root of their deviation, as in the authors' code. Training is in float32,
    scoring in the dtype of `X`. The convolution of 15 x 15 places to 1024 channels is
    what a step costs, 15 million products for each place: on a CPU take narrower
    `channels`.

    References
    ----------
    .. [1] J. Božič, D. Tabernik and D. Skočaj, "Mixed supervision for surface-defect
       detection: from weakly to fully supervised learning", Computers in Industry,
       2021, sections 3.1 to 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.supervised import MixedSupervision
    >>> rng = np.random.default_rng(0)
    >>> def pictures(n, n_bad):
    ...     X, masks = rng.normal(0.5, 0.1, size=(n, 16, 16)), np.zeros((n, 16, 16))
    ...     masks[:n_bad, 4:10, 6:12] = 1
    ...     return np.where(masks == 1, X + 0.4, X), masks
    >>> X, masks = pictures(30, 8)
    >>> detector = MixedSupervision(
    ...     channels=(4, 8, 8, 8), max_epochs=8, batch_size=4, random_state=0
    ... )
    >>> detector.fit(X, masks=masks).predict(pictures(2, 1)[0])
    array([-1,  1])
    """

    channels: Sequence[int] = (32, 64, 64, 1024)
    decision_weight: float = 1.0
    edge_weight: float = 3.0
    edge_power: float = 2.0
    max_epochs: int | str = 50
    batch_size: int = 2
    lr: float = 0.3
    optimizer: str = "sgd"
    architecture: Any = absent()
    hidden_sizes: Any = absent()

    _data: ClassVar[str] = "pictures"
    _network_class = MixedSupervisionNetwork
    _largest_norm = None
    _costly = ("channels",)
    _parameter_constraints = {
        "channels": [tuple, list],
        "decision_weight": [Interval(Real, 0, None, closed="neither")],
        "edge_weight": [Interval(Real, 0, None, closed="neither")],
        "edge_power": [Interval(Real, 0, None, closed="left")],
    }

    def _own_callbacks(self, phase, n_epochs):
        return share_of_epochs(n_epochs)

    def _check_parameters(self, X):
        super()._check_parameters(X)
        sizes = self.channels
        whole = all(isinstance(n, Integral) and n > 0 for n in sizes)
        if len(sizes) != 4 or not whole:
            raise ValueError(f"channels={sizes!r} must be four numbers above 0.")

    def _fit(self, X, y, masks=None):
        try:
            super()._fit(X, y, masks=masks)
        finally:
            vars(self).pop("_weights_", None)

    def _training_labels(self, X, y):
        labels = super()._training_labels(X, y)
        self._weights_ = self._pixel_weights(labels.numpy(), self._masks_)
        return labels

    def _pixel_weights(self, labels, masks):
        """Return weights (n, 1, h, w), NaN for anomalies whose mask is not known."""
        found = np.zeros((len(labels), *self._sample_shape()[1:]), np.float32)
        for i in np.flatnonzero(labels == -1):
            if masks is None or np.isnan(masks[i, 0, 0]):
                found[i] = np.nan
            else:
                found[i] = weights_of(masks[i] == 1, self.edge_weight, self.edge_power)
        return torch.from_numpy(found)[:, None]

    def _sample_shape(self):
        if self.image_shape_ is None:
            return (1, 1, self.n_features_in_)
        return super()._sample_shape()

    def _samples(self, X):
        x = super()._samples(X)
        x = x[:, None, None] if self.image_shape_ is None else x
        if not hasattr(self, "_weights_"):
            return x
        return torch.cat([x, self._weights_.to(x)], 1)  # of the training

    def _as_map(self, maps):
        """Return maps (b, h, w) in the shape of the samples as they came."""
        return maps.flatten(1) if self.image_shape_ is None else maps

    def _map(self, network, X):
        return self._as_map(super()._map(network, X))

    def _inspect(self, network, X):
        anomaly, maps = super()._inspect(network, X)
        return anomaly, self._as_map(maps)

    def _row_elements(self):
        # places of the last layer, and channels of the first
        widest = max(self.channels[0], self.channels[-1] // 64)
        return widest * prod(self._sample_shape())
