"""Scales, moves and convolutions that see patches, for networks of few pictures."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.pixel_moves import PixelMoves, few_shot

# Convolutions of 3 x 3 without padding in a row, what they take off each side, and so
# the side of the patches that they see.
_DEPTH = 5
BORDER = _DEPTH
_FIELD = 2 * BORDER + 1
# How much red, green and blue count in pictures without colour.
_GREY = (0.299, 0.587, 0.114)


def scale_sizes(size, n_scales, min_size):
    """Return the sizes of a picture's scales, the coarsest first.

    Sides grow by the same factor. None is below what the networks see, and sizes that
    are the same count once.

    Parameters
    ----------
    size : pair of int
        Height and width of the finest.
    n_scales : int
        Scales at most.
    min_size : int
        Shorter side of the coarsest.
    """
    size = [max(n, _FIELD) for n in size]
    least = min(1.0, min_size / min(size))
    steps = [i / (n_scales - 1) for i in range(n_scales - 1)] + [1]
    found = [
        tuple(max(_FIELD, round(least ** (1 - step) * n)) for n in size)
        for step in steps
    ]
    return list(dict.fromkeys(found))


def resizing(n_in, n_out):
    """Return the matrix (n_out, n_in) that resizes one axis, with antialiasing."""
    whole = torch.eye(n_in)[None, None]
    size = (n_out, n_in)
    return F.interpolate(whole, size, mode="bilinear", antialias=True)[0, 0]


def unpadded(n_in, n_out, channels):
    """Return the five convolutions of a critic or a generator."""
    layers = []
    for i in range(_DEPTH - 1):
        layers += [
            nn.Conv2d(channels if i else n_in, channels, 3),
            nn.BatchNorm2d(channels),
            nn.LeakyReLU(0.2),
        ]
    made = nn.Sequential(*layers, nn.Conv2d(channels, n_out, 3))
    for part in made:
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
    return made


class Moves(nn.Module):
    """The moves of pictures of one scale, those that take the colours away last.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w).
    transformations : {"all", "turns"}
        as for HTDG.
    shift : float
        As a share of the side.
    square : bool
        Whether there are quarter turns.
    """

    def __init__(self, shape, transformations, shift, square):
        super().__init__()
        size, turns = shape[1:], range(4) if square else (0, 2)
        if transformations == "turns":
            whole = torch.arange(size[0] * size[1]).view(size)
            tables, grey = torch.stack([whole.rot90(turn) for turn in turns]), None
        else:
            tables, grey = few_shot(size, shift, turns)
        self.n_coloured = len(tables)
        if grey is not None and shape[0] == len(_GREY):
            tables = torch.cat([tables, grey])
        self.moves = PixelMoves(shape, tables)
        shown = torch.bincount(tables.flatten(), minlength=size[0] * size[1])
        self.register_buffer("shown", shown, persistent=False)

    def __len__(self):
        return len(self.moves)

    def forward(self, x, start=0, stop=None):
        """Return pictures (b, c, h, w) after some of the moves, (b, k, c, h, w)."""
        stop, n = len(self) if stop is None else stop, self.n_coloured
        parts = []
        if start < n:
            parts.append(self.moves(x, slice(start, min(stop, n))))
        if stop > n:
            shares = x.new_tensor(_GREY).view(-1, 1, 1)
            grey = (shares * x).sum(1, keepdim=True).expand_as(x)
            parts.append(self.moves(grey, slice(max(start, n), stop)))
        return torch.cat(parts, 1)

    def back(self, values):
        """Return the mean over the moves of values (b, K, h, w), each at its pixel."""
        b, _, h, w = values.shape
        total = values.new_zeros(b, h * w)
        total = total.index_add(1, self.moves.tables.flatten(), values.flatten(1))
        return (total / self.shown).view(b, h, w)
