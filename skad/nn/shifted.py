"""Pictures that count as others once their pixels are moved, in a contrast of views."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.contrast import ContrastiveNetwork
from skad.nn.pixel_moves import PixelMoves, distinct, halves_swapped, regular, unmoved

# What is done to pictures that makes them others: tables of pixels.
SHIFTS = {
    "turns": lambda size: regular(size, 0.0, flips=(False,))[0],
    "halves": halves_swapped,
}


class ShiftedNetwork(ContrastiveNetwork):
    """A contrastive network for which shifted copies are other pictures.

    And a head that has to tell by which shift a view was shifted.

    Parameters
    ----------
    shift : {"turns", "halves"} or None
        What makes other pictures; None is nothing.
    shape, architecture, hidden_sizes, code_size, projection_size, temperature, \
    least_crop
        As of `ContrastiveNetwork`.
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
        shift,
    ):
        encoder = architecture, hidden_sizes, code_size, projection_size
        super().__init__(shape, *encoder, temperature, least_crop)
        if shift is None:
            tables = unmoved(shape[1:])
        else:
            (tables,) = distinct(shape, SHIFTS[shift](shape[1:]))
        self.shifts = PixelMoves(shape, tables)
        self.head = nn.Linear(code_size, len(tables))

    def copies(self, x):
        """Return the shifted copies (b, K, c, h, w) of pictures."""
        return self.shifts(x, slice(None))

    def loss(self, x, y):
        """Return the contrast of all copies, and the cross-entropy of their shifts."""
        codes = self.view_codes(x)
        kinds = torch.arange(len(self.shifts), device=x.device).repeat(2 * len(x))
        return self.contrast(codes) + F.cross_entropy(self.head(codes), kinds)
