"""AnoSeg: pixels that a network has learned to mark in pictures made anomalous."""

from numbers import Real

import torch
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image.restoration._adversarial import (
    AdversarialRestoration,
    RestorationNetwork,
)
from skad.nn.adversarial import paired
from skad.nn.corruption import ColourJitter
from skad.nn.cut_paste import move_pieces, rectangles, scars
from skad.nn.pixel_moves import PixelMoves, rearranged
from skad.nn.restorers import PatchCritic, SkipGenerator


def with_places(x):
    """Return pictures (b, c, h, w) with the row and the column as channels, in -1..1.

    Liu et al., "An intriguing failing of convolutional neural networks and the
    CoordConv solution", NeurIPS, 2018.
    """
    ends = [(-1, 1) if n > 1 else (0, 0) for n in x.shape[2:]]
    rows, columns = (
        torch.linspace(*pair, n, dtype=x.dtype, device=x.device)
        for pair, n in zip(ends, x.shape[2:], strict=True)
    )
    size = (x.shape[0], 1, *x.shape[2:])
    return torch.cat([x, rows[:, None].expand(size), columns.expand(size)], 1)


def balanced(odds, mask):
    """Return the mean of the cross entropies of marked pixels and of others.

    Both have one half, however few are marked: `odds` and `mask` are (b, 1, h, w).
    """
    each = F.binary_cross_entropy_with_logits(odds, mask, reduction="none")
    marked = (mask * each).sum() / mask.sum().clamp(min=1)
    others = ((1 - mask) * each).sum() / (1 - mask).sum().clamp(min=1)
    return (marked + others) / 2


class HardAugmentation(torch.nn.Module):
    """Pastes pieces of pictures that were changed beyond what is normal.

    A picture has its quarters in another order or is turned by 90, 180 or 270 degrees,
    and its brightness, contrast or saturation is changed. Of that a rectangle or a scar
    as in CutPaste, each as often, comes to lie somewhere in the picture.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    strength : float, default=0.5
        Factors of colours are drawn evenly from ``1 - strength`` to ``1 + strength``.
    """

    def __init__(self, shape, strength=0.5):
        super().__init__()
        h, w = shape[1:]
        grid = torch.arange(h * w).view(h, w)
        turns = range(1, 4) if h == w else (2,)
        tables = torch.cat(
            [torch.stack([grid.rot90(turn) for turn in turns]), rearranged((h, w))]
        )
        self.moves = PixelMoves(shape, tables)
        self.n_turns = len(turns)
        self.jitter = ColourJitter(strength)

    def changed(self, x):
        """Return whole pictures (b, c, h, w) that are changed."""
        b, n = len(x), len(self.moves)
        turned = torch.randint(self.n_turns, (b,))
        moved = torch.randint(self.n_turns, n, (b,)) if n > self.n_turns else turned
        which = torch.where(torch.rand(b) < 0.5, turned, moved).to(x.device)
        return self.jitter(self.moves.each(x, which))

    def forward(self, x, low, high):
        """Return pictures with a changed piece, and where they differ, (b, h, w).

        What is pasted is cut off at the lowest and the highest value, (c, 1, 1) each.
        """
        source = torch.maximum(torch.minimum(self.changed(x), high), low)
        scarred = (torch.rand(len(x)) < 0.5)[:, None]
        pieces = torch.where(scarred, scars(x.shape), rectangles(x.shape))
        seen = move_pieces(x, source, pieces)[0]
        return seen, (seen != x).any(1)


class AnoSegNetwork(RestorationNetwork):
    """A U-Net that restores pictures and says where they are anomalous, by place."""

    def __init__(
        self, shape, channels, strength, adversarial_weight, segmentation_weight
    ):
        c, h, w = shape
        generator = SkipGenerator((c + 2, h, w), c + 1, channels)
        critic = PatchCritic((c + 1, h, w), channels)
        super().__init__(shape, generator, critic, adversarial_weight)
        self.augmentation = HardAugmentation(shape, strength)
        self.segmentation_weight = segmentation_weight

    def said(self, x):
        """Return restored pictures, and the log-odds (b, 1, h, w) of an anomaly."""
        made, odds = self.generator(with_places(x)).split([x.shape[1], 1], 1)
        return self.bound(made), odds

    def altered(self, x):
        """Return pictures and after them the same with a piece pasted; and where."""
        seen, mask = self.augmentation(x, self.bound.low, self.bound.high)
        mask = torch.cat([torch.zeros_like(mask), mask])[:, None]
        return torch.cat([x, seen]), mask.to(x)

    def restored(self, seen):
        """Return restored pictures with the log-odds as the last channel."""
        return torch.cat(self.said(seen), 1)

    def error(self, x, made, mask):
        """Return the absolute error, and the cross entropy of where pieces are."""
        pictures, odds = made.split([x.shape[1], 1], 1)
        target = torch.cat([x, x])
        error = F.l1_loss(pictures, target)
        return error + self.segmentation_weight * balanced(odds, mask)

    def judge(self, made, x):
        """Return what the critic says of pictures with their maps.

        Real pictures have one that marks nothing; of those that are `made`, the first
        half counts, which were not altered.
        """
        if made is x:
            return self.critic(paired(x, torch.zeros_like(x[:, :1])))
        pictures, odds = made[: len(x)].split([x.shape[1], 1], 1)
        return self.critic(paired(pictures, odds.sigmoid()))

    def reconstruct(self, x):
        """Return restored pictures."""
        return self.said(x)[0]

    def map(self, x):
        """Return the log-odds (b, h, w) of an anomaly."""
        return self.said(self.pictures(x))[1][:, 0]


@with_parameters
class AnoSeg(AdversarialRestoration):
    r"""Pixels that a network has learned to mark in pictures made anomalous.

    Pieces of pictures that were changed beyond what is normal, turned or with their
    quarters in another order, and in other colours, are pasted into normal pictures.
    One network :math:`G` sees a picture, and two channels with the row and the column
    of each pixel. It returns the restored picture :math:`\hat x` and the log-odds
    :math:`s` of an anomaly in each pixel [1]_. It learns from normal pictures
    :math:`x`, of which nothing is to be marked, and from those with a piece, of which
    the piece is, by

    .. math:: |x - \hat x| + \lambda_{seg} \, \mathrm{CE}(s, m)
        - \lambda_{adv} \log D(\hat x, \sigma(s)),

    where m is 1 in pixels that differ from the normal picture. The critic :math:`D` of
    patches learns to tell a normal picture with an empty map from what the network
    makes of normal pictures. The map is :math:`s`; the score is the mean of its largest
    hundredth.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    strength : float, default=0.5
        By which share the brightness, contrast or saturation of a piece changes at
        most.
    adversarial_weight : float, default=0.01
        The weight :math:`\lambda_{adv}` of the critic's opinion.
    segmentation_weight : float, default=1.0
        The weight :math:`\lambda_{seg}` of the cross entropy.
    pooling : {"max", "top", "quantile", "mean"}, default="top"
        How the map becomes the score.

    See Also
    --------
    skad.self_supervised.CutPaste : Codes of whole pictures.
    GLASS : Made anomalies of features.

    Notes
    -----
    The paper, which was withdrawn from ICLR 2022, has no published code. Known are the
    three losses, the pairs that the critic sees, the channels of places and the kind of
    augmentation. All of the following is chosen here: the U-Net and the critic of
    pix2pix, a cross entropy of which the pixels of pieces have one half, the weights,
    sizes of pieces as in CutPaste, changes of colours by a half, the optimizer and the
    epochs. The paper detects whole pictures by another encoder that sees pictures and
    maps, of which little is known; here the largest values of the map are the score.
    Halves of the cross entropy and the score were chosen on drawn textures: after 60
    epochs of 16 pictures, others were told with a mean ROC AUC of .81, and with .46
    where each pixel counted the same.

    31 cookies at 64 x 64 train it in 10 CPU seconds, with ``channels=8``, a rate of
    0.002 and 60 epochs: 46 others are told with a ROC AUC of .98, and their pixels with
    .95; the distance to the mean picture gets .95 and .89, and PatchCore on a ResNet-18
    .94 and .90. 80 magnetic tiles are told with .62 after 40 epochs, pixels with .62,
    where the mean picture has .57 and .54, and PatchCore .87 and .75.

    What a piece replaces is marked where a pixel differs from the normal picture, and
    nowhere else. Pieces are cut off at 0 and 1, or at the range of training data that
    reach farther. Batch norms take their statistics from all training pictures, with
    pieces and without, in the end. Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] J. W. Song, K. Kong, Y.-I. Park, S.-G. Kim and S.-J. Kang, "AnoSeg: anomaly
       segmentation network using self-supervised learning", 2021. arXiv:2110.03396.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import AnoSeg
    >>> rng = np.random.default_rng(0)
    >>> phases = np.pi * rng.integers(2, size=(20, 1, 1))
    >>> stripes = 0.2 * np.sin(np.arange(32) / 2 + phases)
    >>> good = 0.5 + stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = AnoSeg(channels=4, max_epochs=30, lr=0.003, random_state=0)
    >>> detector.fit(good).predict(bad)
    array([-1])
    """

    _network_class = AnoSegNetwork
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "strength": [Interval(Real, 0, 1, closed="both")],
        "segmentation_weight": [Interval(Real, 0, None, closed="left")],
    }

    strength: float = 0.5
    segmentation_weight: float = 1.0
    adversarial_weight: float = 0.01
    max_epochs: int = 200
    pooling: str = "top"
