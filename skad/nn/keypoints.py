"""Places that stand out in a map of features."""

import torch
from torch.nn import functional as F  # noqa: N812


def _near(maps, channel, down, right):
    """Return (b, h, w) of the place beside each, in its channel, zero beyond."""
    h, w = maps.shape[2:]
    wide = F.pad(maps, (1, 1, 1, 1))
    part = wide[:, :, 1 + down : 1 + down + h, 1 + right : 1 + right + w]
    return part.gather(1, channel)[:, 0]


def keypoints(maps, edge=5.0):
    """Return where a map's strongest channel has a peak, as D2-Net detects points.

    A place is one where its largest channel is not below the eight around, and is no
    part of an edge: the ratio of the curvatures of the channel, in any direction and
    across it, is at most `edge`. Zeros are beyond the border.

    Dusmanu et al., "D2-Net: a trainable CNN for joint description and detection of
    local features", CVPR, 2019, sections 3.1 and 4.3.

    Parameters
    ----------
    maps : tensor of shape (b, c, h, w)
    edge : float, default=5.0

    Returns
    -------
    found : tensor of bool, of shape (b, h, w)
    """
    peak, channel = maps.max(1, keepdim=True)
    beside = {
        (i, j): _near(maps, channel, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)
    }
    peak = peak[:, 0]
    highest = torch.stack(
        [each <= peak for each in _inside(beside, maps.shape[2:])]
    ).all(0)
    rows = beside[1, 0] + beside[-1, 0] - 2 * peak
    columns = beside[0, 1] + beside[0, -1] - 2 * peak
    both = (beside[1, 1] + beside[-1, -1] - beside[1, -1] - beside[-1, 1]) / 4
    product = rows * columns - both.square()
    most = (edge + 1) ** 2 / edge
    return highest & (product > 0) & ((rows + columns).square() <= most * product)


def _inside(beside, size):
    """Yield the values beside each place, minus infinity beyond the border."""
    h, w = size
    for (i, j), values in beside.items():
        down = torch.arange(h, device=values.device)[:, None] + i
        right = torch.arange(w, device=values.device) + j
        known = (down >= 0) & (down < h) & (right >= 0) & (right < w)
        yield torch.where(known, values, -torch.inf)
