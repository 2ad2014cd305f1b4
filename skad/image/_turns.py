"""Pictures turned about their centre."""

import torch
from torch.nn import functional as F  # noqa: N812


def turned(x, angles, beyond="border"):
    """Return pictures (b, c, h, w) turned about their centre.

    Parameters
    ----------
    x : tensor of shape (b, c, h, w)
        The pictures.
    angles : float or tensor of shape (b,)
        In radians, of all or of each.
    beyond : {"border", "zeros"}, default="border"
        What comes from beyond the border: the border's own pixel, or zeros.
    """
    height, width = x.shape[2:]
    angles = torch.as_tensor(angles, dtype=torch.float64, device="cpu")
    cosine, sine = angles.cos(), angles.sin()
    nothing = torch.zeros_like(cosine)
    rows = [
        torch.stack([cosine, sine * height / width, nothing], -1),
        torch.stack([-sine * width / height, cosine, nothing], -1),
    ]
    places = torch.stack(rows, -2).to(x).expand(x.shape[0], 2, 3)
    grid = F.affine_grid(places, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode=beyond, align_corners=False)
