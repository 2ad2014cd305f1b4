"""ReContrast: a frozen and a trained encoder, each rebuilt from what the other says."""

from numbers import Real

import torch
from torch import nn

from skad._copies import copied
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import share_of_epochs
from skad.image._trained import split_maps
from skad.image.student._reverse_distillation import (
    Bottleneck,
    Decoder,
    RebuildingDetector,
)
from skad.nn.residual import (
    direction_distance,
    from_fine_to_coarse,
    initialize,
    stacked,
)
from skad.nn.statistics import SettledNetwork

# Standard deviations above the mean at which the margin begins.
_FIRST = -3.0
# Share of the epochs in which it rises.
_RISING = 0.1


def hard_cosines(theirs, made, margin):
    """Return the mean distance of whole maps, which easy places do not learn from.

    Parameters
    ----------
    theirs, made : tensor of shape (b, c, h, w)
        What is to be rebuilt, which has no gradient, and what is.
    margin : float
        Standard deviations above the mean distance of the batch's places from which on
        places have a gradient.
    """
    with torch.no_grad():
        places = direction_distance(theirs, made)
        least = places.mean() + margin * places.std(correction=0)
        hard = (places >= least)[:, None]
    made = torch.where(hard, made, made.detach())
    flat = (each.flatten(1)[..., None, None] for each in (theirs.detach(), made))
    return direction_distance(*flat).mean()


class ReContrastNetwork(SettledNetwork):
    """An encoder, and a decoder with two heads over a bottleneck of both encoders."""

    fixed_statistics = ("encoder",)

    def __init__(self, encoder, encoder_lr, hard_margin, picture, sizes):
        super().__init__()
        self.picture, self.encoder_lr, self.last = picture, encoder_lr, hard_margin
        self.shapes, self.size, n_blocks, widen, _ = sizes
        self.order = from_fine_to_coarse(self.shapes)
        shapes = [self.shapes[i] for i in self.order]
        self.bottleneck = Bottleneck(shapes, n_blocks[-1], widen)
        self.decoder = Decoder(
            shapes, self.bottleneck.shape, n_blocks[:-1], widen, signed=False
        )
        self.heads = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(c, c, 1) for c, *_ in shapes) for _ in range(2)
        )
        initialize(self)
        self.encoder = encoder.requires_grad_(True)
        self.share_done = 0.0  # of the epochs

    @property
    def margin(self):
        """Standard deviations above the mean from which on places learn."""
        return _FIRST + min(1.0, self.share_done / _RISING) * (self.last - _FIRST)

    def groups(self, phase):
        """Return all that learns; the encoder has a rate of its own."""
        rest = [
            weight
            for part in (self.bottleneck, self.decoder, self.heads)
            for weight in part.parameters()
        ]
        groups = [{"params": rest}]
        own = list(self.encoder.parameters())
        if own:  # a bank of filters has none
            groups.append({"params": own, "lr": self.encoder_lr})
        return {"all": groups}

    def pairs(self, x):
        """Return (an encoder's map, what is rebuilt from the other's) of each layer.

        Those of the frozen encoder first.
        """
        picture, *frozen = split_maps(x, [self.picture, *self.shapes])
        maps = [self.encoder(picture), frozen]
        maps = [[each[i] for i in self.order] for each in maps]
        joined = [torch.cat(pair) for pair in zip(*maps, strict=True)]
        made = self.decoder(self.bottleneck(joined))
        n = picture.shape[0]  # of any number in an exported graph, unlike chunks
        halves = [each[:n] for each in made], [each[n:] for each in made]
        found = []
        for theirs, heads, own in zip(maps[::-1], self.heads, halves, strict=True):
            made = [head(each) for head, each in zip(heads, own, strict=True)]
            found += zip(theirs, made, strict=True)
        return found

    def loss(self, x, y):
        """Return the mean of both directions, each summed over layers."""
        return sum(hard_cosines(*pair, self.margin) for pair in self.pairs(x)) / 2

    def watched(self, phase, x, y):
        """Return the loss, whose value does not depend on the margin."""
        return self.loss(x, y)

    def map(self, x):
        """Return one minus the cosine of places, summed over layers and directions."""
        maps = [direction_distance(*pair) for pair in self.pairs(x)]
        return stacked(maps, self.size).sum(0)


@with_parameters
class ReContrast(RebuildingDetector):
    r"""Patches that a frozen and a trained encoder cannot rebuild from each other.

    As in :class:`ReverseDistillation`, a decoder rebuilds maps of several layers from
    one small map of all of them. Here a second encoder, at first a copy of the frozen
    one, is trained with it: from what it says, the frozen encoder's maps
    :math:`f^k_F` are rebuilt by one head of the decoder, as :math:`d^k_F`, and from
    what the frozen one says, its own :math:`f^k_E` by the other [1]_,

    .. math:: L = \tfrac12 \sum_k \left(1 - \cos(f^k_F, d^k_F)\right) + \tfrac12 \sum_k
        \left(1 - \cos(f^k_E, d^k_E)\right),

    with cosines of whole maps, whose :math:`f` have no gradient. Places where one minus
    their own cosine lies below :math:`\mu + \alpha \sigma` of the batch have none
    either: what is easily rebuilt is not learned further. The map is the sum over
    layers and both directions of one minus the cosine of places, each interpolated to
    the size of the picture, smoothed; the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    hard_margin : float, default=1.0
        :math:`\alpha`, which rises from -3 in the first tenth of the epochs.
    encoder_lr : float, default=1e-5
        Learning rate of the trained encoder.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The frozen encoder.
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `bottleneck` and `decoder`.

    See Also
    --------
    ReverseDistillation : One encoder, which is frozen.
    RDPlusPlus : Projections of the frozen encoder's maps.

    Notes
    -----
    The authors train 2,000 steps of 16 pictures, 160 epochs of 200. In some classes of
    their data the encoder's batch norms keep their statistics, chosen for each class;
    here they do in all, and our ResNets have theirs folded into the convolutions. The
    margin rises from epoch to epoch, not from step to step. The bank of filters has
    nothing to train: both directions then rebuild the same maps.

    Other batch norms take their statistics from all training pictures, as in
    :class:`STFPM`. Training is in float32, scoring in the dtype of `X`.

    31 cookies at 64 x 64 train it with a ResNet-18 in 22 CPU seconds, 10 epochs with
    batches of 4: 46 others are told with a ROC AUC of .98, as by
    :class:`ReverseDistillation` in 11 seconds; PatchCore has .95 at that size in less
    than one, and 1.00 at 128 x 128. At the paper's size it is unmeasured.

    References
    ----------
    .. [1] J. Guo, S. Lu, L. Jia, W. Zhang and H. Li, "ReContrast: domain-specific
       anomaly detection via contrastive reconstruction", NeurIPS, 2023, sections 3.2
       and 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import ReContrast
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = ReContrast(
    ...     max_epochs=5, batch_size=5, smoothing=1, random_state=0
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _kind = "pictures+maps"
    _parameter_constraints = {
        "hard_margin": [Interval(Real, None, None, closed="neither")],
        "encoder_lr": [Interval(Real, 0, None, closed="neither")],
    }

    hard_margin: float = 1.0
    encoder_lr: float = 1e-5
    max_epochs: int = 160
    lr: float = 0.002
    optimizer: str = "adamw"
    weight_decay: float = 1e-5

    def _own_callbacks(self, phase, n_epochs):
        return share_of_epochs(n_epochs)

    def _network(self, shapes):
        encoder = copied(self.embedding_.backbone_).float()
        return ReContrastNetwork(
            encoder,
            self.encoder_lr,
            self.hard_margin,
            shapes[0],
            self._sizes(shapes[1:]),
        )
