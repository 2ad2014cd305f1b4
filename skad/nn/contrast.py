"""Two views of each picture that have to be alike, and unlike those of others."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.corruption import grey, jitter
from skad.nn.network import FromMeanNetwork
from skad.nn.wide_resnet import WideEncoder, read_pictures


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


def one_way(codes, others, temperature):
    """Return the cross-entropy of first views finding theirs among the second ones.

    As `nt_xent` takes them; first views are not compared with each other (Sohn et al.,
    "Learning and evaluating representations for deep one-class classification", ICLR,
    2021, equation (2)).
    """
    likeness = F.normalize(codes, dim=1) @ F.normalize(others, dim=1).T / temperature
    return F.cross_entropy(likeness, torch.arange(len(codes), device=codes.device))


def cropped(x, maps):
    """Return crops of pictures (b, c, h, w), each brought to the size of the whole.

    Of each picture a map (2, 3) from places of the crop to its own, in -1..1.
    """
    grid = F.affine_grid(maps.to(x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def corner_crops(share):
    """Return maps (5, 2, 3) of crops, as `cropped` takes them: middle and corners.

    Each takes a share of the picture and is as wide and high, in its units.
    """
    side = share**0.5
    places = [(0, 0), *((i, j) for i in (-1, 1) for j in (-1, 1))]
    rows = [[[side, 0, j * (1 - side)], [0, side, i * (1 - side)]] for i, j in places]
    return torch.tensor(rows)


def randomly_flipped(x):
    """Return pictures of which about a half are flipped, drawn on the host."""
    return _some(torch.rand(len(x)) < 0.5, x.flip(3), x)


class RandomViews(nn.Module):
    """Crops and flips of pictures in other colours, as SimCLR has them.

    What is drawn is drawn on the host. A crop takes a share of the picture, is up to
    4/3 times as wide as it is high or the other way, and comes to the size of the
    whole. Of four in five brightness, contrast and saturation are multiplied; one in
    five is grey.

    Parameters
    ----------
    least : float, default=0.2
        The least share of a picture that a crop takes.
    strength : float, default=0.4
        Factors of brightness, contrast and saturation lie in 1 - strength to 1 +
        strength.
    flipped : float, default=0.5
        Share of the views that are flipped.
    blurred : float, default=0.5
        Share of the views that are blurred.
    """

    def __init__(self, least=0.2, strength=0.4, flipped=0.5, blurred=0.5):
        super().__init__()
        self.least, self.strength = least, strength
        self.flipped, self.blurred = flipped, blurred

    def crops(self, n):
        """Draw maps (n, 2, 3) from places of views to places of pictures, in -1..1."""
        share = self.least + (1 - self.least) * torch.rand(n)
        ratio = (math.log(4 / 3) * (2 * torch.rand(n) - 1)).exp()
        high = (share * ratio).sqrt().clamp(max=1)
        wide = (share / ratio).sqrt().clamp(max=1)
        down, right = ((1 - each) * (2 * torch.rand(n) - 1) for each in (high, wide))
        flip = 1.0 - 2.0 * (torch.rand(n) < self.flipped)
        none = torch.zeros(n)
        rows = torch.stack([wide * flip, none, right]), torch.stack([none, high, down])
        return torch.stack(rows).permute(2, 0, 1)

    def forward(self, x):
        """Return one view of each picture (b, c, h, w) in 0..1."""
        n = len(x)
        x = cropped(x, self.crops(n))
        changed = torch.rand(n) < 0.8
        for kind in torch.randperm(3).tolist():
            factors = 1 + self.strength * (2 * torch.rand(n) - 1)
            factors = torch.where(changed, factors, 1.0).to(x)
            x = jitter(x, torch.full((n,), kind, device=x.device), factors)
        x = _some(torch.rand(n) < 0.2, grey(x).expand_as(x), x)
        if not self.blurred:
            return x
        return _some(torch.rand(n) < self.blurred, _blurred(x), x)


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


class ContrastiveNetwork(FromMeanNetwork):
    """An encoder of pictures whose codes, once projected, tell views of others apart.

    That is SimCLR. Subclasses write `finish` and `anomaly`; where each picture counts
    as several, `copies`.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    architecture, hidden_sizes
        Of the encoder: "auto" is a `WideEncoder`, others are as `build` takes them.
    code_size, projection_size : int
        Length of the codes, and of what the contrast is of.
    temperature : float
        Of the contrast.
    least_crop : float
        The least share of a picture that a view takes.
    """

    def __init__(
        self,
        shape,
        architecture,
        hidden_sizes,
        code_size,
        projection_size,
        temperature,
        least_crop,
    ):
        super().__init__(shape)
        given = shape, code_size, hidden_sizes
        self.encoder = read_pictures(architecture, *given, auto=WideEncoder)
        self.projection = nn.Sequential(
            nn.Linear(code_size, code_size),
            nn.ReLU(),
            nn.Linear(code_size, projection_size),
        )
        self.temperature = temperature
        # flipped before: behind a turn it would be another turn of a flipped picture
        self.views = RandomViews(least_crop, flipped=0.0, blurred=0.0)

    def copies(self, x):
        """Return what each picture counts as, (b, K, c, h, w)."""
        return x[:, None]

    def view_codes(self, x):
        """Return codes (2 b K, d) of two views of all copies, the first views before.

        Of pictures that are held out nothing is drawn: they are seen as they are, and
        flipped.
        """
        if not self.training:
            pair = self.copies(torch.cat([x, x.flip(3)]))
            return self.encoder(pair.flatten(0, 1))
        pair = self.copies(torch.cat([randomly_flipped(x), randomly_flipped(x)]))
        return self.encoder(self.views(pair.flatten(0, 1)))

    def directions(self, x):
        """Return the codes (b, d) of pictures, at length one."""
        return F.normalize(self.encoder(x), dim=1)

    def contrast(self, codes):
        """Return the contrast of codes as `view_codes` has them."""
        return nt_xent(*self.projection(codes).chunk(2), self.temperature)

    def loss(self, x, y):
        """Return the contrast of two views of each copy, among those of all others."""
        return self.contrast(self.view_codes(x))
