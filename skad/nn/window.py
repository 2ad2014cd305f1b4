"""Blocks of transformers whose attention stays within windows of a grid."""

import torch
from torch import nn

from skad.nn.vit import perceptron


def windows(x, sides):
    """Return the windows (b n, t, d) of a grid (b, h, w, d) of whole ones, row-wise."""
    rows, columns = (x.shape[i + 1] // side for i, side in enumerate(sides))
    x = x.unflatten(2, (columns, sides[1])).unflatten(1, (rows, sides[0]))
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def grid_of(found, sides, size):
    """Return the grid (b, h, w, d) of a size whose `windows` were (b n, t, d)."""
    rows, columns = (n // side for n, side in zip(size, sides, strict=True))
    found = found.unflatten(1, tuple(sides)).unflatten(0, (-1, rows, columns))
    return found.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class WindowBlock(nn.Module):
    """Attention within windows, which may be shifted by a half, and a perceptron.

    Both stand behind norms and beside what they get, and attention knows how places of
    a window lie to one another (Liu et al., "Swin transformer: hierarchical vision
    transformer using shifted windows", ICCV, 2021). Of a shifted grid what is moved
    over the border sees nothing beyond it; neither is anything seen of what fills the
    last windows up.

    Parameters
    ----------
    width : int
        Numbers d of a place.
    n_heads : int
        Heads, which divide the width.
    grid : tuple of int
        (h, w), where windows are cut to smaller ones.
    window : int, default=8
        Places of a window's side.
    shifted : bool, default=False
        Whether windows lie between those that are not shifted.
    """

    def __init__(self, width, n_heads, grid, window=8, shifted=False):
        super().__init__()
        self.grid, self.n_heads = tuple(grid), n_heads
        self.sides = tuple(min(window, n) for n in grid)
        whole = [-(-n // s) * s for n, s in zip(grid, self.sides, strict=True)]
        self.whole = tuple(whole)
        self.shift = tuple(
            s // 2 if shifted and n > s else 0
            for n, s in zip(grid, self.sides, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = perceptron(width)
        ways = (2 * self.sides[0] - 1) * (2 * self.sides[1] - 1)
        self.bias = nn.Parameter(torch.zeros(ways, n_heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        places = torch.cartesian_prod(*(torch.arange(s) for s in self.sides))
        ways = places[:, None] - places + torch.tensor(self.sides) - 1  # (t, t, 2)
        self.register_buffer(
            "way", ways[..., 0] * (2 * self.sides[1] - 1) + ways[..., 1]
        )
        self.register_buffer("apart", self._apart())

    def _apart(self):
        """Return which places (n, t, t) of each window do not see one another."""
        regions = []
        for n, all_of, shift in zip(self.grid, self.whole, self.shift, strict=True):
            place = (torch.arange(all_of) + shift) % all_of  # that comes to lie here
            region = (torch.arange(all_of) >= all_of - shift).long()  # over the border
            regions.append(torch.where(place < n, region, 2))
        rows, columns = regions
        number = windows((3 * rows[:, None] + columns)[None, :, :, None], self.sides)
        return number != number.mT

    def forward(self, x):
        """Return places of the shape of `x` (b, h, w, d)."""
        x = x + self.attended(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))

    def attended(self, x):
        """Return what attention makes of places (b, h, w, d)."""
        (h, w), d = self.grid, x.shape[3]
        x = nn.functional.pad(x, (0, 0, 0, self.whole[1] - w, 0, self.whole[0] - h))
        x = x.roll([-s for s in self.shift], (1, 2))
        parts = self.qkv(windows(x, self.sides)).unflatten(2, (3, self.n_heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # (b n, heads, t, d)
        weights = q @ k.mT / (d // self.n_heads) ** 0.5
        weights = weights + self.bias[self.way].movedim(2, 0)
        weights = weights.unflatten(0, (-1, len(self.apart)))
        weights = weights.masked_fill(self.apart[:, None], -torch.inf)
        found = weights.flatten(0, 1).softmax(3) @ v
        found = self.out(found.transpose(1, 2).flatten(2))
        found = grid_of(found, self.sides, self.whole).roll(self.shift, (1, 2))
        return found[:, :h, :w]
