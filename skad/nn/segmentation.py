"""A head that learns from maps of features where in a picture something was altered."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.losses import focal
from skad.nn.residual import convolution, initialize, residuals


def dilated(x, weight, distance):
    """Return the convolution (b, out, h, w) of maps with neighbours at a distance.

    Neighbours that lie beyond the border from all places are left out.

    Parameters
    ----------
    x : tensor of shape (b, into, h, w)
        The maps.
    weight : tensor of shape (out, into, 3, 3)
        Of the neighbours.
    distance : int
        How far they are, in places.
    """
    padding = []
    for axis in (2, 3):
        reaches = distance < x.shape[axis]
        weight = weight if reaches else weight.narrow(axis, 1, 1)
        padding.append(distance if reaches else 0)
    return F.conv2d(x, weight, padding=padding, dilation=distance)


class AtrousPyramid(nn.Module):
    """Looks around every place at several distances, and at the whole map.

    Chen, Papandreou, Schroff and Adam, "Rethinking atrous convolution for semantic
    image segmentation", 2017.

    Parameters
    ----------
    into, out : int
        Channels.
    dilations : tuple of int, default=(6, 12, 18)
        Distances, in places, of the neighbours that a 3 x 3 convolution sees.
    """

    def __init__(self, into, out, dilations=(6, 12, 18)):
        super().__init__()
        self.dilations = dilations
        self.whole = convolution(into, out, 1)
        self.around = nn.ModuleList(convolution(into, out) for _ in dilations)
        self.fusion = convolution((1 + len(dilations)) * out, out)

    def forward(self, x):
        """Return the map (b, out, h, w)."""
        whole = F.relu(self.whole(x.mean((2, 3), keepdim=True)))
        found = [whole.expand(-1, -1, *x.shape[2:])]
        for (own, norm), distance in zip(self.around, self.dilations, strict=True):
            found.append(F.relu(norm(dilated(x, own.weight, distance))))
        return F.relu(self.fusion(torch.cat(found, 1)))


class Segmenter(nn.Module):
    """Residual blocks, an atrous pyramid and two convolutions: places to logits.

    Parameters
    ----------
    into : int
        Channels of the maps.
    channels : int, default=256
        Channels of all that follows.
    n_blocks : int, default=2
        Residual blocks.
    """

    def __init__(self, into, channels=256, n_blocks=2):
        super().__init__()
        self.blocks = initialize(residuals(into, channels, n_blocks))
        self.head = nn.Sequential(
            AtrousPyramid(channels, channels),
            convolution(channels, channels),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 1),
        )

    def forward(self, x):
        """Return the logits (b, h, w) of maps (b, into, h, w)."""
        return self.head(self.blocks(x))[:, 0]


def on_grid(mask, size):
    """Return which places of a grid of a size (h, w) lie in a mask (b, h, w), 0 or 1.

    Those where the mask, interpolated, is a half at least.
    """
    mask = F.interpolate(mask[:, None].float(), size, mode="bilinear")[:, 0]
    return (mask >= 0.5).float()


def segmentation_loss(logits, mask, gamma=4):
    """Return the focal loss of logits plus their probabilities' mean absolute error.

    Parameters
    ----------
    logits, mask : tensor of shape (b, h, w)
        What is said of places, and 1 where they were altered, else 0.
    gamma : float, default=4
        The exponent of the focal loss.
    """
    return focal(logits, mask, gamma) + F.l1_loss(logits.sigmoid(), mask)


def balanced_cross_entropy(logits, mask, ratio=3):
    """Return the mean cross-entropy of altered pixels and of the hardest others.

    Of these there are `ratio` times as many at most. Where nothing is altered the loss
    is zero.

    Parameters
    ----------
    logits, mask : tensor of shape (b, h, w)
        What is said of pixels, and 1 where they were altered, else 0.
    ratio : float, default=3
        Other pixels for each altered one.
    """
    loss = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    altered = mask > 0
    n = int(altered.sum())
    others = loss[~altered]
    hardest = others.topk(min(len(others), int(ratio * n)), sorted=False).values
    return (loss[altered].sum() + hardest.sum()) / max(1, n + len(hardest))
