"""Maps of pictures that move pixels: flips, shifts, turns, blocks that change places.

Of each a table says which pixel of the picture stands where: what maps what is worked
out once for a size, and all maps of a batch are one look-up.
"""

import math
from itertools import permutations, product

import torch
from torch import nn


def mirrored(n, by, edge_twice=True):
    """Return where each of n places is read from when all are shifted.

    What lies outside is mirrored at the edge, which stands there twice ("symmetric" in
    NumPy, "reflect" in SciPy) or once ("reflect" in NumPy).
    """
    once = 0 if edge_twice else 1
    period = max(1, 2 * n - 2 * once)
    places = (torch.arange(n) - by) % period
    return torch.where(places < n, places, period - 1 + once - places)


def _grid(size):
    return torch.arange(math.prod(size)).view(*size)


def _moved(size, flip, down, right, turn, edge_twice=True):
    """Return the table (h, w) of a flip, then a shift, then quarter turns."""
    table = _grid(size).flip(1) if flip else _grid(size)
    table = table[mirrored(size[0], down, edge_twice)]
    return table[:, mirrored(size[1], right, edge_twice)].rot90(turn)


def regular(size, shift, flips=(False, True), edge_twice=True):
    """Return flips, shifts and quarter turns: tables and what each of them is.

    Parameters
    ----------
    size : pair of int
        Height and width. Pictures that are not square have half turns alone.
    shift : float
        Of pictures, as a share of their side, at least one pixel; 0 shifts none.
    flips : tuple of bool, default=(False, True)
        Whether columns are read backwards.
    edge_twice : bool, default=True
        As for `mirrored`.

    Returns
    -------
    tables : tensor of int, of shape (K, h, w)
        Pixels, counted row by row.
    kinds : tensor of int, of shape (K, 4)
        Which flip, shift down, shift to the right, and turn.
    """
    sides = []
    for n in size:
        by = max(1, round(shift * n)) if shift and n > 1 else 0
        sides.append((0, -by, by) if by else (0,))
    turns = range(4) if size[0] == size[1] else (0, 2)
    choices = [flips, *sides, turns]
    tables = [_moved(size, *each, edge_twice) for each in product(*choices)]
    kinds = list(product(*(range(len(each)) for each in choices)))
    return torch.stack(tables), torch.tensor(kinds)


def few_shot(size, shift, turns):
    """Return the 42 moves of HTDG, and the twelve of its pictures without colour.

    Flipped or not, all shifts by nothing or both ways along both axes; those by nothing
    or forwards are turned as well. Without colour no more than one of these is done,
    but that a flipped picture is turned.

    Parameters
    ----------
    size : pair of int
        Height and width.
    shift : float
        As a share of the side, rounded down, at least one pixel.
    turns : sequence of int
        Quarter turns; of pictures that are not square 0 and 2 alone.

    Returns
    -------
    tables, grey : tensors of int, of shapes (K, h, w) and (L, h, w)
        Pixels, counted row by row; the first is of the picture as it is.
    """
    high, wide = (max(1, int(shift * n)) for n in size)
    forwards = list(product((0, 1), (0, 1), turns))
    backwards = [(*by, 0) for by in product((0, 1, -1), repeat=2) if -1 in by]
    moves = list(product((False, True), forwards + backwards))
    grey = list(product((False, True), product((0,), (0,), turns)))
    grey += [(False, (*by, 0)) for by in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    found = (
        [
            _moved(size, flip, down * high, right * wide, turn)
            for flip, (down, right, turn) in each
        ]
        for each in (moves, grey)
    )
    return tuple(map(torch.stack, found))


def rearranged(size):
    """Return all permutations of a picture's four quarters but that which moves none.

    Tables (K, h, w), as of `regular`. The last row or column of an odd number stays.
    """
    blocks = [min(2, n) for n in size]
    high, wide = (n // m for n, m in zip(size, blocks, strict=True))
    corners = [(i * high, j * wide) for i, j in product(*map(range, blocks))]
    tables = []
    for order in list(permutations(range(len(corners))))[1:]:
        table = _grid(size).clone()
        for (top, left), source in zip(corners, order, strict=True):
            row, column = corners[source]
            table[top : top + high, left : left + wide] = _grid(size)[
                row : row + high, column : column + wide
            ]
        tables.append(table)
    return torch.stack(tables) if tables else torch.zeros(0, *size, dtype=torch.int64)


def halves_swapped(size):
    """Return tables (4, h, w) of pictures whose halves change places, or do not.

    The upper and the lower, the left and the right ones; of an odd number of rows or
    columns the last part has one more before.
    """
    steps = [(0, -(n // 2)) for n in size]
    each = product(*steps)
    return torch.stack([_grid(size).roll(by, (0, 1)) for by in each])


def unmoved(size):
    """Return the table (1, h, w) of pictures as they are."""
    return _grid(size)[None]


def turned(size, angle, flip):
    """Return a picture's turn about its middle, by any angle, with zeros outside.

    Parameters
    ----------
    size : pair of int
        Height and width.
    angle : float
        In radians.
    flip : bool
        Whether columns are read backwards before.

    Returns
    -------
    tables : tensor of int, of shape (4, h, w)
        The pixels around the place that each pixel comes from.
    weights : tensor of shape (4, h, w)
        How much of each: the bilinear interpolation.
    """
    middles = [(n - 1) / 2 for n in size]
    y, x = (
        torch.arange(n, dtype=torch.float64) - middle
        for n, middle in zip(size, middles, strict=True)
    )
    y, x = y[:, None], x[None]
    rows = math.cos(angle) * y + math.sin(angle) * x + middles[0]
    columns = math.cos(angle) * x - math.sin(angle) * y + middles[1]
    grid = _grid(size).flip(1) if flip else _grid(size)
    tables, weights = [], []
    for down, right in product((0, 1), (0, 1)):
        row, column = rows.floor() + down, columns.floor() + right
        share = (1 - (rows - row).abs()) * (1 - (columns - column).abs())
        inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
        row = row.clamp(0, size[0] - 1).long()
        tables.append(grid[row, column.clamp(0, size[1] - 1).long()])
        weights.append(share * inside)
    return torch.stack(tables), torch.stack(weights).float()


class PixelMoves(nn.Module):
    """Maps of pictures of one size, each a table.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    tables : tensor of int, of shape (K, h, w) or (K, m, h, w)
        The pixels, counted row by row, that each pixel is made of.
    weights : tensor of shape (K, m, h, w) or None, default=None
        How much of each; None is one pixel, as it is.
    """

    def __init__(self, shape, tables, weights=None):
        super().__init__()
        self.output_shape = tuple(shape)
        self.register_buffer("tables", tables)
        self.register_buffer("weights", weights)

    def __len__(self):
        return len(self.tables)

    def forward(self, x, which):
        """Map pictures (b, c, h, w) by a slice of the maps, to (b, k, c, h, w)."""
        tables = self.tables[which]
        # the gradient of an index by a tensor takes many times as long
        made = x.flatten(2).index_select(2, tables.flatten())
        made = made.unflatten(2, tables.shape)  # (b, c, k[, m], h, w)
        if self.weights is not None:
            made = (made * self.weights[which]).sum(3)
        return made.transpose(1, 2)

    def each(self, x, which):
        """Map pictures (b, c, h, w) by one map (b,) for each."""
        tables = self.tables[which].flatten(1)[:, None]  # (b, 1, [m] h w)
        made = x.flatten(2).gather(2, tables.expand(-1, x.shape[1], -1))
        if self.weights is None:
            return made.view_as(x)
        weights = self.weights[which][:, None]  # (b, 1, m, h, w)
        return (made.view(*x.shape[:2], *weights.shape[2:]) * weights).sum(2)


def without_repetitions(tables):
    """Return the places (k,) of tables (K, ...) that are no copy of one before."""
    seen, kept = set(), []
    for i, table in enumerate(tables):
        key = table.numpy().tobytes()
        if key not in seen:
            kept.append(i)
        seen.add(key)
    return torch.tensor(kept)


def distinct(shape, tables, *others):
    """Return tables (K, ...) that differ, and the rows of `others` beside them.

    Raises ValueError where pictures are too small for more than one.
    """
    kept = without_repetitions(tables)
    if len(kept) < 2:
        raise ValueError(
            f"Pictures of {shape[1]} x {shape[2]} pixels "
            f"(n_features={math.prod(shape)}) look the same whatever was done to "
            "them: give larger ones (image_shape, where they come as rows)."
        )
    return [each[kept] for each in (tables, *others)]
