"""SuperSimpleNet: noise in patches of features, segmented and classified."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import lower_after
from skad.image._trained import OwnScoreDetector, OwnScoreNetwork, split_maps
from skad.nn.losses import focal
from skad.nn.perlin import perlin_masks
from skad.nn.statistics import settle_norms

# Units of the second head, each of which sees 5 x 5 places.
_CLASSIFIER = 128


def truncated_l1(logits, labels, margin):
    """Return the mean excess over the margin of each kind; 0 of a kind that is absent.

    Normal places cost what is above ``-margin``, anomalous ones what is below `margin`.
    """
    normal, anomalous = (logits + margin).relu(), (margin - logits).relu()
    n = labels.sum()
    of_normal = (normal * (1 - labels)).sum() / (labels.numel() - n).clamp(min=1)
    return of_normal + (anomalous * labels).sum() / n.clamp(min=1)


class SuperSimpleNetwork(OwnScoreNetwork):
    """A linear adaptor of features, a head for places and one for pictures."""

    def __init__(self, shapes, hidden_size, noise, margin, mask_threshold, adaptor_lr):
        super().__init__()
        self.shapes = shapes
        self.grid = tuple(2 * n for n in shapes[0][1:])
        d = sum(shape[0] for shape in shapes)
        self.adaptor = nn.Conv2d(d, d, 1)
        self.segment = nn.Sequential(
            nn.Conv2d(d, hidden_size, 1),
            nn.BatchNorm2d(hidden_size),
            nn.LeakyReLU(0.2),
            nn.Conv2d(hidden_size, 1, 1, bias=False),
        )
        self.around = nn.Sequential(
            nn.Conv2d(d + 1, _CLASSIFIER, 5, padding=2),
            nn.BatchNorm2d(_CLASSIFIER),
            nn.ReLU(),
        )
        self.classify = nn.Linear(2 * _CLASSIFIER + 2, 1)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                nn.init.xavier_normal_(part.weight)
        self.noise, self.margin, self.adaptor_lr = noise, margin, adaptor_lr
        self.mask_threshold = mask_threshold

    def groups(self, phase):
        """Return one optimizer's parameters, the adaptor's with their own rate."""
        adaptor = {"params": self.adaptor.parameters(), "lr": self.adaptor_lr}
        heads = [self.segment, self.around, self.classify]
        weights = [weight for head in heads for weight in head.parameters()]
        return {"all": [adaptor, {"params": weights}]}

    def adapted(self, x):
        """Return adapted features (b, d, gh, gw) at twice the first layer's grid."""
        maps = split_maps(x, self.shapes)
        maps = [F.interpolate(each, self.grid, mode="bilinear") for each in maps]
        return self.adaptor(F.avg_pool2d(torch.cat(maps, 1), 3, 1, 1))

    def heads(self, features):
        """Return the logits (b, gh, gw) of places and those (b,) of pictures."""
        places = self.segment(features)
        seen = places.detach()  # the second head does not teach the first
        around = self.around(torch.cat([features, seen], 1))
        pools = [
            each for x in (around, seen) for each in (x.mean((2, 3)), x.amax((2, 3)))
        ]
        return places[:, 0], self.classify(torch.cat(pools, 1))[:, 0]

    def disturbed(self, features):
        """Return features with noise in half of the copies, and where it is.

        Parameters
        ----------
        features : tensor of shape (b, d, gh, gw)
            Adapted features of normal pictures.

        Returns
        -------
        features : tensor of shape (2 b, d, gh, gw)
            All of them twice.
        mask : tensor of shape (2 b, gh, gw)
            1 where there is noise.
        """
        features = torch.cat([features, features])
        mask = perlin_masks(len(features), self.grid, self.mask_threshold)
        mask &= (torch.rand(len(features)) < 0.5)[:, None, None]
        mask = mask.to(features)
        noise = self.noise * torch.randn_like(features)
        return features + noise * mask[:, None], mask

    def loss(self, x, y):
        """Return the losses of both heads on a batch with made anomalies."""
        features, mask = self.disturbed(self.adapted(x))
        places, pictures = self.heads(features)
        of_places = focal(places, mask) + truncated_l1(places, mask, self.margin)
        return of_places + focal(pictures, mask.amax((1, 2)))

    def finish(self, batches, held=None):
        """Take the statistics of norms from all of the training data."""
        settle_norms(self, (x for x, _ in batches()))

    def both(self, x):
        """Return the anomaly (b, gh, gw) of places and that (b,) of pictures."""
        return self.heads(self.adapted(x))


@with_parameters
class SuperSimpleNet(OwnScoreDetector):
    r"""Pictures that a classifier of noise in patches of features takes for disturbed.

    A frozen network describes the places of a picture by features of its middle layers,
    brought to twice the grid of the first and averaged over 3 x 3 places; a linear
    adaptor makes of them :math:`q`. Of every picture there are two copies, and half of
    all copies get Gaussian noise :math:`\epsilon` in the places :math:`M` where a
    Perlin noise exceeds a threshold:

    .. math:: q^- = q + M \odot \epsilon.

    One head learns :math:`M`, place by place, by the focal loss and the truncated
    :math:`\ell_1` loss of its logits :math:`z`; another, which sees 5 x 5 places of the
    features and of :math:`z` and pools them, learns by the focal loss whether there is
    noise at all [1]_. The map has the logits of the first, without noise, interpolated
    to the pixels of the picture and smoothed. The score is the logit of the second.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    noise : float, default=0.015
        Standard deviation of :math:`\epsilon`. The paper's is for networks trained on
        ImageNet, whose features differ in size.
    margin : float, default=0.5
        Beyond which logits cost nothing in the truncated loss.
    mask_threshold : float, default=0.2
        What the Perlin noise exceeds where there is noise.
    hidden_size : int, default=1024
        Units of the first head's hidden layer.
    adaptor_lr : float, default=0.0001
        Learning rate of the adaptor.
    lr : float, default=0.0002
        Learning rate of the heads; it and the adaptor's are multiplied by 0.4 after 0.8
        and 0.9 of the epochs.
    random_state : int, RandomState instance or None, default=None
        Draws the weights, the batches and the noise. Pass an int for reproducible
        results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `adaptor`, `segment`, `around` and `classify`.

    See Also
    --------
    SimpleNet : Noise everywhere, and no classifier of the picture.

    Notes
    -----
    This is the version of the paper at ICPR, in which both heads see adapted features,
    without labels; learning from masks of real defects is not built. Scores and maps
    are logits: the paper's are their sigmoid, which orders pictures in the same way.
    When the training has ended, batch norms take their statistics from all of it.
    Training is in float32, scoring in the dtype of `X`.

    On real pictures it was not measured here: without a GPU, the paper's 300 epochs of
    80 pictures of 128 pixels take hours. The 5 x 5 convolution over the features is
    what a step costs: 3,200 products for each feature of each place, and places are
    four times those of the first layer.

    References
    ----------
    .. [1] B. Rolih, M. Fučka and D. Skočaj, "SuperSimpleNet: unifying unsupervised and
       supervised learning for fast and reliable surface defect detection", ICPR, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import SuperSimpleNet
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> detector = SuperSimpleNet(layers=["scale2"], max_epochs=2, random_state=0)
    >>> detector.fit(good).transform(good[:1]).shape
    (1, 32, 32)
    """

    _resnet_layers = ("layer2", "layer3")
    _network_class = SuperSimpleNetwork
    _parameter_constraints = {
        "noise": [Interval(Real, 0, None, closed="neither")],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "mask_threshold": [Interval(Real, -1, 1, closed="neither")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "adaptor_lr": [Interval(Real, 0, None, closed="neither")],
    }

    noise: float = 0.015
    margin: float = 0.5
    mask_threshold: float = 0.2
    hidden_size: int = 1024
    adaptor_lr: float = 1e-4
    max_epochs: int = 300
    batch_size: int = 32
    lr: float = 2e-4
    weight_decay: float = 1e-5
    optimizer: str | Callable = "adamw"

    def _own_callbacks(self, phase, n_epochs):
        return lower_after(n_epochs, (0.8, 0.9), 0.4)
