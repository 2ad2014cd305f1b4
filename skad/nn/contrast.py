"""Two views of each picture that have to be alike, and unlike those of others."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.corruption import grey, jitter


def nt_xent(codes, others, temperature):
    r"""Return the normalised cross-entropy of two views of each of b samples.

    Of all 2 b - 1 other views, by the softmax of the cosines over the temperature, each
    has to find the second one of its sample (Chen et al., "A simple framework for
    contrastive learning of visual representations", ICML, 2020, equation (1)).

    Parameters
    ----------
    codes, others : tensor of shape (b, d)
        Codes of the first views, and of the second ones.
    temperature : float
        The temperature.
    """
    both = F.normalize(torch.cat([codes, others]), dim=1)
    likeness = both @ both.T / temperature
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    likeness = likeness.masked_fill(itself, -math.inf)
    partner = torch.arange(len(both), device=both.device).roll(len(codes))
    return F.cross_entropy(likeness, partner)


class RandomViews(nn.Module):
    """Crops and flips of pictures in other colours, as SimCLR has them.

    What is drawn is drawn on the host. A crop takes a share of the picture, is up to
    4/3 times as wide as it is high or the other way, and comes to the size of the
    whole; half of them are flipped. Of four in five brightness, contrast and saturation
    are multiplied; one in five is grey; a half is blurred.

    Parameters
    ----------
    least : float, default=0.2
        The least share of a picture that a crop takes.
    strength : float, default=0.4
        Factors of brightness, contrast and saturation lie in 1 - strength to 1 +
        strength.
    """

    def __init__(self, least=0.2, strength=0.4):
        super().__init__()
        self.least, self.strength = least, strength

    def crops(self, n):
        """Draw maps (n, 2, 3) from places of views to places of pictures, in -1..1."""
        share = self.least + (1 - self.least) * torch.rand(n)
        ratio = (math.log(4 / 3) * (2 * torch.rand(n) - 1)).exp()
        high = (share * ratio).sqrt().clamp(max=1)
        wide = (share / ratio).sqrt().clamp(max=1)
        down, right = ((1 - each) * (2 * torch.rand(n) - 1) for each in (high, wide))
        flip = 1.0 - 2.0 * (torch.rand(n) < 0.5)
        none = torch.zeros(n)
        rows = torch.stack([wide * flip, none, right]), torch.stack([none, high, down])
        return torch.stack(rows).permute(2, 0, 1)

    def forward(self, x):
        """Return one view of each picture (b, c, h, w) in 0..1."""
        n = len(x)
        grid = F.affine_grid(self.crops(n).to(x), list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        changed = torch.rand(n) < 0.8
        for kind in torch.randperm(3).tolist():
            factors = 1 + self.strength * (2 * torch.rand(n) - 1)
            factors = torch.where(changed, factors, 1.0).to(x)
            x = jitter(x, torch.full((n,), kind, device=x.device), factors)
        x = _some(torch.rand(n) < 0.2, grey(x).expand_as(x), x)
        return _some(torch.rand(n) < 0.5, _blurred(x), x)


def _some(chosen, changed, x):
    return torch.where(chosen.to(x.device).view(-1, 1, 1, 1), changed, x)


def _blurred(x):
    """Return pictures that a binomial kernel of three places blurs, edges repeated."""
    for axis in (2, 3):
        before, after = (
            x.index_select(axis, _repeated(x.shape[axis], by).to(x.device))
            for by in (-1, 1)
        )
        x = (before + 2 * x + after) / 4
    return x


def _repeated(n, by):
    return (torch.arange(n) + by).clamp(0, n - 1)
