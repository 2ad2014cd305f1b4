"""Pictures put together from several small ones, or enlarged from a part of one."""

import torch
from torch.nn import functional as F  # noqa: N812


def shrunk_masks(masks, size):
    """Return masks (b, h, w) at a size, 1 where one of the pixels is; NaN stays."""
    return F.adaptive_max_pool2d(masks[:, None], size)[:, 0]


def mosaics(x, masks, tiles, n_rows, n_columns):
    """Return pictures (b, c, h, w) that consist of small ones, and their masks.

    Parameters
    ----------
    x : tensor of shape (n, c, h, w)
        The pictures.
    masks : tensor of shape (n, h, w)
        What is anomalous in them.
    tiles : tensor of int, of shape (b, n_rows * n_columns)
        Which of the pictures each consists of, row by row.
    n_rows, n_columns : int
        Number of tiles, no more than pixels.
    """
    size = x.shape[2:]
    # sides that are no multiple lose the last pixels of the last tiles
    small = [-(-side // n) for side, n in zip(size, (n_rows, n_columns), strict=True)]
    parts = F.interpolate(x, small, mode="bilinear", antialias=True)
    marks = shrunk_masks(masks, small)[:, None]
    parts = torch.cat([parts, marks], 1)[tiles]  # (b, tiles, c + 1, h, w)
    parts = parts.unflatten(1, (n_rows, n_columns)).permute(0, 3, 1, 4, 2, 5)
    whole = parts.flatten(4, 5).flatten(2, 3)[:, :, : size[0], : size[1]]
    return whole[:, :-1], whole[:, -1]


def cuts(x, masks, cells, n_rows, n_columns):
    """Return cells of pictures (b, c, h, w) at the size of the whole, and their masks.

    Parameters
    ----------
    x, masks : tensor of shape (b, c, h, w) and (b, h, w)
        Pictures, and what is anomalous in them.
    cells : sequence of int
        Which cell of each, counted row by row.
    n_rows, n_columns : int
        Number of cells, no more than pixels.
    """
    size, seen, marks = tuple(x.shape[2:]), [], []
    edges = [
        [side * i // n for i in range(n + 1)]
        for side, n in zip(size, (n_rows, n_columns), strict=True)
    ]
    for i, cell in enumerate(cells):
        row, column = divmod(int(cell), n_columns)
        rows = slice(edges[0][row], edges[0][row + 1])
        columns = slice(edges[1][column], edges[1][column + 1])
        part = x[i : i + 1, :, rows, columns]
        seen.append(F.interpolate(part, size, mode="bilinear"))
        marks.append(shrunk_masks(masks[i : i + 1, rows, columns], size))
    return torch.cat(seen), torch.cat(marks)


def cells_of(masks, n_rows, n_columns):
    """Return which cells (b, n_rows * n_columns) show what their picture is.

    Those of a normal picture all do, of an anomalous one those with an anomaly.
    """
    edges = [
        torch.arange(side, device=masks.device) * n // side
        for side, n in zip(masks.shape[1:], (n_rows, n_columns), strict=True)
    ]
    cell = (edges[0][:, None] * n_columns + edges[1]).flatten()
    found = masks.new_zeros(len(masks), n_rows * n_columns)
    found = found.scatter_reduce(
        1, cell.expand(len(masks), -1), masks.flatten(1), "amax"
    )
    return (found > 0) | (found.amax(1, keepdim=True) == 0)


def regrouped(x, masks, n_cells=(2, 3)):
    """Return of each picture a mosaic with others or an enlarged cell, and its mask.

    Half of them are mosaics, which have the picture in one of their places. The others
    are any pictures of the batch; in that of a normal picture all are normal. Half are
    cells, of an anomalous picture one that shows an anomaly. Pictures of which it is
    not known what is anomalous, where the mask is NaN, stay as they are. Gao and Wang,
    "One language-free foundation model is enough for universal vision anomaly
    detection", 2026, whose class-aware augmentation it is.

    Parameters
    ----------
    x : tensor of shape (b, c, h, w)
        The pictures.
    masks : tensor of shape (b, h, w)
        0 where normal, 1 where anomalous, NaN all over where it is not known.
    n_cells : tuple of int, default=(2, 3)
        Cells along each side, of which one number is drawn for each picture; a side of
        fewer pixels has as many.
    """
    x, masks = x.clone(), masks.clone()
    top = masks.amax((1, 2))
    known, normal = (~top.isnan()).nonzero()[:, 0], (top == 0).nonzero()[:, 0]
    drawn = torch.randint(2 * len(n_cells), (len(x),))
    given = x.clone(), masks.clone()
    for kind in range(2 * len(n_cells)):
        n = [min(n_cells[kind // 2], side) for side in x.shape[2:]]
        rows = known[(drawn == kind).to(known.device)[known]]
        if not len(rows):
            continue
        if kind % 2:
            shows = cells_of(given[1][rows], *n).float().cpu()
            cells = shows.multinomial(1)[:, 0]
            x[rows], masks[rows] = cuts(*(one[rows] for one in given), cells, *n)
            continue
        tiles = torch.empty(len(rows), n[0] * n[1], dtype=torch.long)
        for i, row in enumerate(rows.tolist()):
            others = (normal if top[row] == 0 else known).cpu()
            tiles[i] = others[torch.randint(len(others), tiles.shape[1:])]
            tiles[i, torch.randint(tiles.shape[1], ())] = row
        x[rows], masks[rows] = mosaics(*given, tiles.to(x.device), *n)
    return x, masks
