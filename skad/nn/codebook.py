"""Maps of which each place is one of a few codes."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Codebook(nn.Module):
    r"""The nearest of some codes in every place of a map.

    Gradients go past the choice, as if the code were the place. The codes learn by
    :math:`\overline{(e - x)^2}`, and what is coded by `commitment` times as much.

    van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning",
    NeurIPS, 2017.

    Parameters
    ----------
    n_codes, n_channels : int
        Number of codes, and their length.
    commitment : float, default=0.25
        Weight of the second loss.
    """

    def __init__(self, n_codes, n_channels, commitment=0.25):
        super().__init__()
        bound = 1 / n_codes
        self.codes = nn.Parameter(
            torch.empty(n_codes, n_channels).uniform_(-bound, bound)
        )
        self.commitment = commitment

    def forward(self, x):
        """Return coded maps (b, c, h, w), and the losses of both, a scalar."""
        rows = x.movedim(1, -1)  # (b, h, w, c)
        codes = self.codes.to(x)
        squares = codes.square().sum(1) - 2 * rows.detach() @ codes.T
        found = F.embedding(squares.argmin(-1), codes)
        loss = F.mse_loss(found, rows.detach())
        loss = loss + self.commitment * F.mse_loss(rows, found.detach())
        coded = rows + (found - rows).detach()
        return coded.movedim(-1, 1), loss
