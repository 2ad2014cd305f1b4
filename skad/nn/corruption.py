"""Altered pictures that a student or a restoring network is shown in training.

Each is a module that takes pictures (b, c, h, w) in 0..1. What is drawn is drawn on the
host from torch's own generator, which the training loop seeds, so that it is the same
on every device.
"""

import math

import torch
from torch import nn

from skad.nn.perlin import perlin_masks
from skad.nn.simplex import octaves

# ITU-R BT.601, as the image libraries turn colour into grey.
_LUMA = (0.299, 0.587, 0.114)
# Pixels within which pieces of noise begin: it repeats after 256 of the longest waves.
_REACH = 8192.0


def grey(x):
    """Return the luma (b, 1, h, w) of pictures: of other than 3 channels the mean."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * x.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def jitter(x, kinds, factors):
    """Return pictures whose brightness, contrast or saturation is multiplied.

    Parameters
    ----------
    x : tensor of shape (b, c, h, w)
        The pictures.
    kinds : tensor of shape (b,)
        What changes in each: 0 is its brightness, 1 its contrast, 2 its saturation.
    factors : tensor of shape (b,)
        By how much; 1 changes nothing.
    """
    luma = grey(x)  # (b, 1, h, w)
    kinds, factors = (each.view(-1, 1, 1, 1) for each in (kinds, factors))
    # each goes away from, or towards, a picture without what is changed
    none = torch.where(kinds == 1, luma.mean((1, 2, 3), keepdim=True), luma)
    none = torch.where(kinds == 0, torch.zeros_like(luma), none)
    return none + factors * (x - none)


class ColourJitter(nn.Module):
    """Changes one of brightness, contrast and saturation of each picture.

    Parameters
    ----------
    strength : float, default=0.2
        Factors are drawn evenly from ``1 - strength`` to ``1 + strength``.
    """

    def __init__(self, strength=0.2):
        super().__init__()
        self.strength = strength

    def forward(self, x):
        """Return the altered pictures, which are not clipped to 0..1."""
        kinds = torch.randint(3, (len(x),)).to(x.device)
        factors = 1 + self.strength * (2 * torch.rand(len(x)) - 1)
        return jitter(x, kinds, factors.to(x))


def paste(x, boxes, noise):
    """Return pictures with noise in rectangles, and where it is.

    Parameters
    ----------
    x : tensor of shape (b, c, h, w)
        The pictures.
    boxes : list of (int, int, int, int, int)
        Rectangles (picture, top, left, bottom, right), bottom and right not included.
    noise : tensor of shape (b, c, h, w)
        What stands in them.

    Returns
    -------
    seen : tensor of shape (b, c, h, w)
        The altered pictures.
    mask : tensor of bool, of shape (b, h, w)
        Where they were altered.
    """
    mask = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
    for i, top, left, bottom, right in boxes:
        mask[i, top:bottom, left:right] = True
    mask = mask.to(x.device)
    return torch.where(mask[:, None], noise, x), mask


class NoiseRectangles(nn.Module):
    """Puts rectangles of white noise into pictures, as CDO does.

    Parameters
    ----------
    most : int, default=4
        Rectangles of a picture: 0 to as many, each number as often.
    sizes : pair of float, default=(0.025, 0.1)
        Least and largest half of a side, as a share of the picture's side.
    """

    def __init__(self, most=4, sizes=(1 / 40, 1 / 10)):
        super().__init__()
        self.most, self.sizes = most, sizes

    def boxes(self, shape):
        """Draw the rectangles of pictures of a shape (b, c, h, w), for `paste`."""
        low, high = self.sizes
        b, _, *sides = shape
        found = []
        for i, n in enumerate(torch.randint(self.most + 1, (b,)).tolist()):
            for centre, half in torch.rand(n, 2, 2).tolist():
                edges = []
                for at, share, side in zip(centre, half, sides, strict=True):
                    reach = max(0.5, (low + (high - low) * share) * side)
                    edges.append(
                        (max(0, round(at * side - reach)), round(at * side + reach))
                    )
                (top, bottom), (left, right) = edges
                found.append((i, top, left, bottom, right))
        return found

    def forward(self, x):
        """Return the altered pictures (b, c, h, w) and where they are, (b, h, w)."""
        boxes = self.boxes(x.shape)
        return paste(x, boxes, torch.rand(x.shape).to(x))


class SimplexRectangle(nn.Module):
    """Adds simplex noise to a rectangle of each picture, as RD++ does.

    Parameters
    ----------
    strength : float, default=0.2
        What the noise is multiplied by.
    least : int, default=10
        Pixels of the shortest side, where an eighth of the picture's is longer; the
        longest is one pixel below that eighth.
    """

    def __init__(self, strength=0.2, least=10):
        super().__init__()
        self.strength, self.least = strength, least

    def forward(self, x):
        """Return the altered pictures (b, c, h, w) and where they are, (b, h, w)."""
        # all is computed on the host, and for all pictures at once
        first, last = [], []
        for side in x.shape[2:]:
            most = max(1, side // 8 - 1)
            least = min(self.least, most)
            length = torch.randint(least, most + 1, (len(x),))
            first.append((torch.rand(len(x)) * (side - length + 1)).long())
            last.append(first[-1] + length)
        high, wide = (torch.arange(side) for side in x.shape[2:])
        rows = (high >= first[0][:, None]) & (high < last[0][:, None])
        columns = (wide >= first[1][:, None]) & (wide < last[1][:, None])
        mask = rows[:, :, None] & columns[:, None]
        picture, row, column = mask.nonzero().T  # (m,) each
        # every picture has a piece of the noise for itself, and channels are slices
        start = _REACH * torch.rand(len(x), 3)
        points = torch.stack([torch.zeros(len(row)), row, column], 1) + start[picture]
        slices = torch.arange(x.shape[1])[:, None, None] * torch.tensor([1.0, 0, 0])
        noise = self.strength * octaves(points + slices)  # (c, m)
        seen = x.clone()
        where = mask.to(x.device)
        seen.movedim(1, -1)[where] += noise.T.to(x)
        return seen, where


def shuffled_bands(x, n_bands=8):
    """Return pictures (b, c, h, w) whose bands of rows, and of columns, changed places.

    All pictures in the same way: what they show is cut into `n_bands` in each
    direction, or as many as there are pixels.
    """
    for axis in (2, 3):
        places = torch.arange(x.shape[axis])
        bands = places.tensor_split(min(n_bands, len(places)))
        order = torch.randperm(len(bands)).tolist()
        x = x.index_select(axis, torch.cat([bands[i] for i in order]).to(x.device))
    return x


def shuffled_cells(x, n_rows, n_columns):
    """Return pictures (b, c, h, w) whose cells changed places, each in its own way.

    Cells have one size; what a side has left over stays where it is. There are no more
    rows or columns of them than pixels.
    """
    sides = x.shape[2:]
    counts = [min(n, side) for n, side in zip((n_rows, n_columns), sides, strict=True)]
    (high, wide), n = (s // m for s, m in zip(sides, counts, strict=True)), len(x)
    order = torch.rand(n, math.prod(counts)).argsort(1)  # (b, cells)
    tops, lefts = order // counts[1] * high, order % counts[1] * wide
    rows, columns = (torch.arange(side) for side in sides)
    cell = (rows // high)[:, None] * counts[1] + columns // wide  # (h, w)
    inside = (rows < high * counts[0])[:, None] & (columns < wide * counts[1])
    cell = torch.where(inside, cell, 0)
    row = tops[:, cell] + (rows % high)[:, None]  # (b, h, w)
    column = lefts[:, cell] + columns % wide
    own = rows[:, None] * sides[1] + columns
    places = torch.where(inside, row * sides[1] + column, own)
    places = places.flatten(1)[:, None].to(x.device).expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, places).view_as(x)


def foreign_textures(x):
    """Return textures (b, c, h, w) of pictures: others of the batch, taken apart.

    Their bands change places, a half of them is inverted between its extremes, and
    brightness, contrast or saturation is multiplied by 0.5 to 1.5.
    """
    x = shuffled_bands(x[torch.randperm(len(x)).to(x.device)])
    least, largest = x.amin((1, 2, 3), True), x.amax((1, 2, 3), True)
    inverted = (torch.rand(len(x)) < 0.5).to(x.device).view(-1, 1, 1, 1)
    x = torch.where(inverted, least + largest - x, x)
    return ColourJitter(0.5)(x)


def blend(x, textures, mask, share):
    """Return pictures (b, c, h, w) with textures (b, c, h, w) where a mask says so.

    Parameters
    ----------
    x, textures : tensor of shape (b, c, h, w)
        The pictures, and what stands in them.
    mask : tensor of bool, of shape (b, h, w)
        Where.
    share : tensor of shape (b,)
        What is left there of each picture, from 0 to 1.
    """
    share = share.to(x).view(-1, 1, 1, 1)
    blended = share * x + (1 - share) * textures
    return torch.where(mask[:, None], blended, x)


class TexturePaste(nn.Module):
    """Blends textures into places that Perlin noise draws, as DRAEM does.

    The textures are `foreign_textures`, those of other pictures of the batch.

    Parameters
    ----------
    most_left : float, default=0.8
        What is left of the picture in these places is drawn evenly from 0 to this.
    threshold : float, default=0.5
        What the noise exceeds there.
    clean_share : float, default=0.0
        Probability that a picture stays as it is.
    """

    def __init__(self, most_left=0.8, threshold=0.5, clean_share=0.0):
        super().__init__()
        self.most_left, self.threshold = most_left, threshold
        self.clean_share = clean_share

    def forward(self, x):
        """Return the altered pictures (b, c, h, w) and where they are, (b, h, w)."""
        size = tuple(x.shape[2:])
        mask = perlin_masks(len(x), size, self.threshold, most=5, turned=True)
        mask &= (torch.rand(len(x)) >= self.clean_share)[:, None, None]
        share, mask = self.most_left * torch.rand(len(x)), mask.to(x.device)
        return blend(x, foreign_textures(x), mask, share), mask
