"""Pieces of a picture that are pasted elsewhere in it: CutPaste and its scars."""

import math

import torch

from skad.nn.corruption import ColourJitter

# Pixels of a side for which the sizes of scars are meant.
_SIDE = 256


def move_pieces(x, source, pieces):
    """Return pictures with a rectangle of another place in each, and where it is.

    Parameters
    ----------
    x, source : tensor of shape (b, c, h, w)
        The pictures, and what pieces are cut out of.
    pieces : tensor of shape (b, 7)
        Middle of the piece (row, column), where it comes to lie, its height and width
        in pixels and, in radians, by how much it is turned.

    Returns
    -------
    seen : tensor of shape (b, c, h, w)
        The altered pictures.
    mask : tensor of bool, of shape (b, h, w)
        Where they were altered.
    """
    h, w = x.shape[2:]
    from_y, from_x, to_y, to_x, high, wide, angle = pieces.double().T[..., None, None]
    y = torch.arange(h, dtype=torch.float64)[:, None] - to_y  # (b, h, 1)
    x_ = torch.arange(w, dtype=torch.float64) - to_x  # (b, 1, w)
    down = angle.cos() * y + angle.sin() * x_  # (b, h, w)
    right = angle.cos() * x_ - angle.sin() * y
    mask = (down.abs() < high / 2) & (right.abs() < wide / 2)
    row = (down + from_y).round().clamp(0, h - 1).long()
    column = (right + from_x).round().clamp(0, w - 1).long()
    places = (row * w + column).flatten(1)[:, None].to(x.device)
    moved = source.flatten(2).gather(2, places.expand(-1, x.shape[1], -1)).view_as(x)
    mask = mask.to(x.device)
    return torch.where(mask[:, None], moved, x), mask


def _between(n, low, high):
    return low + (high - low) * torch.rand(n)


def _placed(shape, high, wide, angle):
    """Return pieces (b, 7) of some sizes, cut out and pasted anywhere inside."""
    b, _, h, w = shape
    middles = []
    for _ in range(2):
        for side, size in ((h, high), (w, wide)):
            first = (torch.rand(b) * (side - size + 1)).floor()
            middles.append(first + (size - 1) / 2)
    return torch.stack([*middles, high, wide, angle], 1)


def rectangles(shape):
    """Draw the pieces (b, 7) of CutPaste for pictures of a shape (b, c, h, w).

    They take .02 to .15 of the picture, and are up to 1 / .3 times as wide as they are
    high or as high as they are wide.
    """
    b, _, h, w = shape
    area = _between(b, 0.02, 0.15) * h * w
    longer = (_between(b, math.log(0.3), 0.0) * (2 * torch.randint(2, (b,)) - 1)).exp()
    high = (area * longer).sqrt().round().clamp(1, h)
    wide = (area / longer).sqrt().round().clamp(1, w)
    return _placed(shape, high, wide, torch.zeros(b))


def scars(shape):
    """Draw the pieces (b, 7) of scars for pictures of a shape (b, c, h, w).

    They are 2 to 16 pixels wide and 10 to 25 long where a side has 256, at least one
    pixel, and turned by up to 45 degrees.
    """
    b, _, h, w = shape
    scale = max(h, w) / _SIDE
    wide = (scale * _between(b, 2, 16)).round().clamp(1, w)
    high = (scale * _between(b, 10, 25)).round().clamp(1, h)
    return _placed(shape, high, wide, _between(b, -math.pi / 4, math.pi / 4))


def cut_and_paste(x, draw):
    """Return pictures (b, c, h, w) with a piece elsewhere, and where, (b, h, w).

    `draw` is `rectangles` or `scars`. The brightness, contrast or saturation of pieces
    changes by up to a tenth. All is drawn on the host.
    """
    return move_pieces(x, ColourJitter(0.1)(x), draw(x.shape))
