"""The highest pixels of smoothed maps, without looking at every patch."""

import torch


def highest_pixels(bounds, exact, rows, columns):
    """Return the largest pixel (b,) of maps of which each patch has an upper bound.

    Maps are averages of patches with weights that are not negative, so that bounds of
    patches give bounds of pixels. The patches around the pixel with the largest bound
    are looked up, until one is the largest whose patches are all known.

    Parameters
    ----------
    bounds : tensor of shape (b, gh, gw)
        At least the anomaly of each patch; infinite throughout pictures of which
        nothing is known, which stay so.
    exact : callable
        From the numbers (m,) of picture, row and column of patches to the anomaly (m,)
        of each.
    rows, columns : tensor of shape (h, gh) and (w, gw)
        The map is ``rows @ patches @ columns.T``.
    """
    values, found = bounds.clone(), bounds.new_full(bounds.shape[:1], torch.inf)
    known = torch.zeros_like(bounds, dtype=torch.bool)
    open_ = bounds.isfinite().flatten(1).all(1).nonzero()[:, 0]
    while len(open_):
        maps = rows @ values[open_] @ columns.T
        best, place = maps.flatten(1).max(1)
        around = rows[place // maps.shape[2]] > 0  # (o, gh)
        beside = columns[place % maps.shape[2]] > 0  # (o, gw)
        needed = around[:, :, None] & beside[:, None, :] & ~known[open_]
        done = ~needed.flatten(1).any(1)
        found[open_[done]] = best[done]
        open_, needed = open_[~done], needed[~done]
        which, row, column = needed.nonzero(as_tuple=True)
        patches = open_[which], row, column
        values[patches] = exact(*patches)
        known[patches] = True
    return found
