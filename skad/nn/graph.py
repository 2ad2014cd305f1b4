"""Maps as graphs, whose places are joined with the places that are most like them."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.flow import sinusoids

# Of the codes of places, whose products say how near two places are; they need four.
_CODE = 4
# Deviation of the weights of what attention takes and gives.
_SMALL = 0.02


def place_likeness(n_channels, height, width):
    r"""Return :math:`2 p_i \cdot p_j / c` of the codes of places, (h w, h w).

    Parameters
    ----------
    n_channels : int
        Channels c of the codes; what is no multiple of four counts as the next one.
    height, width : int
        Of the grid.
    """
    n_channels = _CODE * -(-n_channels // _CODE)
    codes = sinusoids(n_channels, height, width).flatten(1)  # (c, h w)
    return 2 * codes.mT @ codes / n_channels


def gathered(nodes, neighbors):
    """Return the neighbours (b, n, k, c) of nodes (b, n, c), by numbers (b, n, k)."""
    n, k = neighbors.shape[1:]
    flat = neighbors.flatten(1)[:, :, None].expand(-1, -1, nodes.shape[2])
    return nodes.gather(1, flat).unflatten(1, (n, k))


class AttentiveGraph(nn.Module):
    r"""Tells each place of a map of all others, and of the most it lacks of some.

    Between two convolutions of one place, around which there is a short cut, a place
    :math:`x_i` becomes

    .. math:: g([x_i + W \sum_j a_{ij} v_j, \max_{j \in N(i)} (x_j - x_i)])

    by self-attention with one projection :math:`q` for queries and keys, :math:`a_i =
    \operatorname{softmax}_j q_i \cdot q_j`, and values :math:`v` of 3 x 3 places. The
    neighbours N are those with the largest cosine of :math:`q` less how near they lie,
    every `dilation`-th of them; g is a convolution in groups. It is the block of a
    Vision GNN (Han et al., NeurIPS, 2022) that SLSG puts attention into.

    Parameters
    ----------
    n_channels : int
        Channels of the maps.
    grid : tuple of int
        (h, w) of the maps.
    n_neighbors : int, default=9
        Neighbours of a place; fewer where there are not as many places.
    dilation : int, default=3
        Every such one of the places in that order is a neighbour.
    """

    def __init__(self, n_channels, grid, n_neighbors=9, dilation=3):
        super().__init__()
        c = n_channels
        self.n_nearest = min(n_neighbors * dilation, math.prod(grid))
        self.dilation = dilation
        self.into = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))
        half = max(1, c // 2)
        self.project = nn.Sequential(nn.Conv2d(c, half, 1), nn.BatchNorm2d(half))
        self.value = nn.Conv2d(c, c, 3, padding=1)
        self.weigh = nn.Conv2d(c, c, 1)
        for part in (self.value, self.weigh):
            nn.init.normal_(part.weight, 0.0, _SMALL)
        mixed = nn.Conv2d(2 * c, 2 * c, 1, groups=math.gcd(4, 2 * c))
        nn.init.kaiming_normal_(mixed.weight)
        nn.init.zeros_(mixed.bias)
        self.mix = nn.Sequential(mixed, nn.BatchNorm2d(2 * c), nn.GELU())
        self.out = nn.Sequential(nn.Conv2d(2 * c, c, 1), nn.BatchNorm2d(c))
        self.register_buffer("near", place_likeness(c, *grid))

    def neighbors(self, q):
        """Return the numbers (b, n, k) of the neighbours of nodes, by `q` (b, n, c)."""
        unit = F.normalize(q, dim=2)
        likeness = unit @ unit.mT - self.near
        return likeness.topk(self.n_nearest, dim=2).indices[:, :, :: self.dilation]

    def forward(self, x):
        """Return maps of the shape of `x` (b, c, h, w)."""
        short, size = x, x.shape[2:]
        x = self.into(x)
        nodes = x.flatten(2).mT  # (b, n, c)
        q = self.project(x).flatten(2).mT
        lack = gathered(nodes, self.neighbors(q)).amax(2) - nodes
        seen = (q @ q.mT).softmax(2) @ self.value(x).flatten(2).mT
        nodes, lack = (each.mT.unflatten(2, size) for each in (seen, lack))
        x = x + self.weigh(nodes)
        # channel by channel, so that groups have both of theirs
        both = torch.stack([x, lack], 2).flatten(1, 2)
        return short + self.out(self.mix(both))
