"""Local binary patterns: which neighbours of a pixel are as bright as it is."""

import torch
from torch.nn import functional

# The eight neighbours of a pixel: rows and columns.
_AROUND = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]


def _moved(x, reach):
    """Yield (i, j) and maps (..., h, w) of what lies there from each pixel.

    Where the picture ends, it goes on as it is at the border.
    """
    h, w = x.shape[-2:]
    lead = x.shape[:-2]
    wide = functional.pad(
        x.reshape(-1, 1, h, w), (reach,) * 4, mode="replicate"
    ).reshape(*lead, h + 2 * reach, w + 2 * reach)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            rows, columns = (
                slice(reach + k, reach + k + n) for k, n in ((i, h), (j, w))
            )
            yield (i, j), wide[..., rows, columns]


def local_patterns(x):
    """Return the patterns (b, 8, h, w) of pictures (b, h, w), 1 where a bit is set.

    A bit is set where a neighbour, out of 3 x 3 pixels, is as bright as the pixel or
    brighter (Ojala, Pietikainen and Harwood, "A comparative study of texture measures
    with classification based on feature distributions", Pattern Recognition, 1996,
    with a bit for each neighbour in place of the number that they spell).
    """
    parts = {place: around >= x for place, around in _moved(x, 1)}
    return torch.stack([parts[place] for place in _AROUND], 1).to(x.dtype)


def pattern_difference(x, y, reach=0):
    """Return the share (b, h, w) of bits in which patterns of two pictures differ.

    Parameters
    ----------
    x, y : tensor of shape (b, h, w)
        Grey pictures.
    reach : int, default=0
        Pixels, up, down and to both sides, within which the pattern of `y` is looked
        for that is most alike.
    """
    own, others = local_patterns(x), local_patterns(y)
    found = [(own - other).abs().mean(1) for _, other in _moved(others, reach)]
    return torch.stack(found).amin(0)
