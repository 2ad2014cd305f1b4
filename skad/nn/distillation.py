"""A student that learns to say of pictures what a teacher says, and its maps.

What the methods differ in are parts: how the student's picture is altered, how far two
maps are apart, which places count how much, and how maps are brought to one scale.
"""

import math

import numpy as np
import torch
from torch import nn

from skad._copies import copied
from skad.nn.network import Network
from skad.nn.residual import fit_to, stacked


def squared(teacher, student):
    """Return the squared difference of every element, (b, c, h, w)."""
    return (teacher - student).square()


# ------------------------------------------------------------------------ hard places


def weighted_mean(d, w):
    """Return the sum of w d by that of the absolute w, which may be negative."""
    return (w * d).sum() / w.abs().sum()


def at_quantile(d, q):
    """Return the least value (b,) of each sample of `d` at its quantile or above it.

    ``d >= at_quantile(d, q)`` are the elements that are not below the quantile with
    linear interpolation, whose own function takes few elements only.
    """
    flat = d.flatten(1)
    place = round(q * (flat.shape[1] - 1), 6)  # less the rounding of the product
    return flat.kthvalue(math.ceil(place) + 1, dim=1).values


class AboveQuantile(nn.Module):
    """The mean over each sample's elements that are not below its quantile.

    Parameters
    ----------
    q : float
        The quantile, in 0..1; 0 is the mean of all.
    """

    def __init__(self, q):
        super().__init__()
        self.q = q

    def forward(self, d, mask=None):
        """Return the mean (scalar) over samples of distances (b, ...)."""
        known = d.detach()
        least = at_quantile(known, self.q).view(-1, *[1] * (d.ndim - 1))
        w = (known >= least).to(d.dtype)
        # each sample counts alike, whatever values are equal
        return weighted_mean(d, w / w.flatten(1).sum(1).view_as(least))


class AboveMargin(nn.Module):
    """The mean over elements that are not below a margin which follows the batches.

    Parameters
    ----------
    alpha : float, default=0.01
        Share of the margin that stays as it was.
    beta : float, default=2.0
        Standard deviations above the mean of a batch that its own margin lies at.

    Notes
    -----
    As long as no element of a batch reaches the margin, its largest one counts.
    """

    def __init__(self, alpha=0.01, beta=2.0):
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.register_buffer("margin", torch.zeros(()))

    def chosen(self, d):
        """Move the margin in training, and return which elements count, booleans."""
        known = d.detach()
        if self.training:
            own = known.mean() + self.beta * known.std(correction=0)
            self.margin.mul_(self.alpha).add_((1 - self.alpha) * own)
        return known >= torch.minimum(self.margin.to(d), known.max())

    def forward(self, d, mask=None):
        """Return the mean (scalar) of distances of any shape."""
        return weighted_mean(d, self.chosen(d).to(d.dtype))


class Power(nn.Module):
    r"""Large distances count more where it is normal, and small ones where it is not.

    .. math:: w = (d / \mu)^\gamma \text{ or } -(\mu / d)^\gamma,

    of places that were left as they are, or were altered, with the mean of each kind.

    Parameters
    ----------
    gamma : float, default=2.0
        The exponent; 0 weighs all places alike.
    """

    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, d, mask=None):
        """Return the signed mean (scalar) of distances (b, h, w).

        `mask` (b, h, w) is True where the picture was altered.
        """
        known = d.detach()
        w = self._weights(known, mask, invert=False)
        if mask is not None and mask.any():
            w = torch.where(mask, -self._weights(known, ~mask, invert=True), w)
        return weighted_mean(d, w)

    def _weights(self, d, others, invert):
        own = d if others is None else d[~others]
        # a batch may be altered all over, and then there is no mean of the rest
        mean = own.mean() if own.numel() else d.mean()
        tiny = torch.finfo(d.dtype).tiny ** 0.5
        d, mean = d.clamp(min=tiny), mean.clamp(min=tiny)
        return ((mean / d) if invert else (d / mean)) ** self.gamma


class GradientAbove(nn.Module):
    """The mean over all elements, of which those below a margin have no gradient.

    Parameters
    ----------
    a : float
        Standard deviations above the mean of a batch that the margin lies at.
    """

    def __init__(self, a):
        super().__init__()
        self.a = a

    def forward(self, d, mask=None):
        """Return the mean (scalar) of distances of any shape."""
        known = d.detach()
        least = known.mean() + self.a * known.std(correction=0)
        return torch.where(known >= least, d, known).mean()


# ------------------------------------------------------------------ the scale of maps


class MapCalibration(nn.Module):
    r"""Brings several maps of a picture to one scale, by maps of held-out pictures.

    .. math:: \hat M = s \, \frac{M - a}{b - a}

    Parameters
    ----------
    n_maps : int
        Maps of a picture; each has its own :math:`a` and :math:`b`.
    rule : {"quantile", "standard", "range"}, default="quantile"
        What :math:`a` and :math:`b` are: two quantiles over all places; the mean and
        the mean plus a standard deviation; or the least and the largest value.
    quantiles : pair of float, default=(0.9, 0.995)
        Of "quantile".
    scale : float, default=1.0
        What :math:`b` becomes.
    """

    def __init__(self, n_maps, rule="quantile", quantiles=(0.9, 0.995), scale=1.0):
        super().__init__()
        self.rule, self.quantiles, self.scale = rule, quantiles, scale
        self.register_buffer("low", torch.zeros(n_maps))
        self.register_buffer("high", torch.ones(n_maps))

    def learn(self, batches):
        """Take the constants from batches of maps (n_maps, b, h, w).

        All values are kept on the host, 4 bytes for each place of each map. Where they
        are equal, one unit stays one unit.
        """
        parts = [batch.flatten(1).cpu().numpy() for batch in batches]
        for i in range(len(self.low)):
            values = np.concatenate([part[i] for part in parts]).astype(np.float64)
            low, high = self._bounds(values)
            self.low[i] = low
            # as the constants are kept: in float32 both may be the same
            self.high[i] = high
            if not self.high[i] > self.low[i]:
                self.high[i] = low + max(1.0, abs(low))

    def _bounds(self, values):
        if self.rule == "quantile":
            return np.quantile(values, self.quantiles)
        if self.rule == "standard":
            return values.mean(), values.mean() + values.std()
        return values.min(), values.max()

    def forward(self, maps):
        """Return maps (n_maps, b, h, w) on the common scale."""
        low, high = (each.view(-1, 1, 1, 1) for each in (self.low, self.high))
        return self.scale * (maps - low) / (high - low)


# ------------------------------------------------------------------------- the network


class Distillation(Network):
    """A student that has to say what its teacher says, be the picture altered or not.

    A method writes `pairs`, and `measure` where distances are not squared. What is
    altered are pictures (b, c, h, w) in 0..1.

    Parameters
    ----------
    size : tuple of int
        (h, w) of the map.
    hard : Module
        From distances (b, ...) and a mask (b, h, w) or None to the loss: `Power`, say.
    corruption : Module or None, default=None
        From pictures to altered ones and a mask (b, h, w): `NoiseRectangles`, say. None
        leaves them as they are.
    """

    def __init__(self, size, hard, corruption=None):
        super().__init__()
        self.size, self.hard, self.corruption = size, hard, corruption

    def pairs(self, seen, clean):
        """Return (teacher's map, student's map) of each layer, (b, c, h, w).

        The student sees the altered pictures; whether the teacher does is the method's.
        """
        raise NotImplementedError

    def measure(self, teacher, student):
        """Return the distances (b, ..., h, w) of two maps (b, c, h, w)."""
        return squared(teacher, student)

    def distances(self, seen, clean):
        """Return the distances (b, ..., h, w) of each layer."""
        return [self.measure(*pair) for pair in self.pairs(seen, clean)]

    def loss(self, x, y):
        """Return the weighted mean of distances, summed over layers."""
        seen, mask = (x, None) if self.corruption is None else self.corruption(x)
        return sum(
            self.hard(d, None if mask is None else _on_grid(mask, d.shape[-2:]))
            for d in self.distances(seen, x)
        )

    def layer_maps(self, x):
        """Return the map of each layer, (b, h, w): the mean over what is in front."""
        return [d if d.ndim == 3 else d.mean(1) for d in self.distances(x, x)]

    def map(self, x):
        """Return the sum of the layers' maps at one size, (b, h, w)."""
        return stacked(self.layer_maps(x), self.size).sum(0)


def _on_grid(mask, size):
    """Return which places of a grid of a size (h, w) a mask (b, h, w) reaches."""
    return fit_to(mask[:, None].float(), size)[:, 0] > 0


class Normaliser(nn.Module):
    """Brings pictures in 0..1 to what a backbone takes, as a part of a network.

    Parameters
    ----------
    embedding : PatchEmbedding
        Whose backbone it is, with the normalisation that belongs to it.
    """

    def __init__(self, embedding):
        super().__init__()
        self.repeat = embedding._repeat_
        norms = (
            ((0.0,), (1.0,))
            if embedding.mean_ is None
            else (embedding.mean_, embedding.std_)
        )
        for name, norm in zip(("mean", "std"), norms, strict=True):
            self.register_buffer(name, torch.tensor(norm).view(-1, 1, 1))

    def forward(self, x):
        """Return pictures (b, c, h, w) as the backbone takes them."""
        return self.normalised(x)

    def normalised(self, x):
        """Return pictures (b, c, h, w) as the backbone takes them."""
        x = x.expand(-1, x.shape[1] * self.repeat, -1, -1)
        return (x - self.mean) / self.std


class Teacher(Normaliser):
    """A backbone that takes pictures in 0..1, as a part of a network.

    Parameters
    ----------
    embedding : PatchEmbedding
        Whose backbone it is.
    """

    def __init__(self, embedding):
        super().__init__(embedding)
        # networks are trained in float32, whatever the filters of a bank are kept in
        self.module = copied(embedding.backbone_).float()

    def forward(self, x):
        """Return the maps, a list of tensors, of pictures (b, c, h, w)."""
        return self.module(self.normalised(x))
