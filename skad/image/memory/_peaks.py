"""The highest pixels of smoothed maps, and the farthest patches, without a look at all.

Of every patch an upper bound of its anomaly is known. What lies below what was found
need not be looked up.
"""

import torch

# Patches of each picture that are looked up together.
_AT_ONCE = 16


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


def farthest_patches(bounds, search):
    """Return the largest anomaly (b,) of pictures, its patch (b,) and what is nearest.

    Patches are looked up in the order of their bounds, until these fall below what was
    found.

    Parameters
    ----------
    bounds : tensor of shape (b, p)
        At least the anomaly of each patch.
    search : callable
        From the numbers (o,) of pictures and those (o, k) of patches in them to the
        anomalies (o, k) and the indices (o, k) of what is nearest.
    """
    n_pictures, n_patches = bounds.shape
    found = bounds.new_zeros(n_pictures)
    bounds, order = bounds.sort(dim=1, descending=True)
    place, neighbour = (order.new_zeros(n_pictures) for _ in range(2))
    for start in range(0, n_patches, _AT_ONCE):
        # rounding must not end the search early
        open_ = (bounds[:, start] * (1 + 1e-3) >= found).nonzero()[:, 0]
        if not len(open_):
            break
        which = order[open_, start : start + _AT_ONCE]  # (o, k)
        distances, indices = search(open_, which)
        largest, k = distances.max(1)
        rows = torch.arange(len(open_), device=k.device)
        better = (largest > found[open_]) | (start == 0)
        open_, k, rows = open_[better], k[better], rows[better]
        found[open_] = largest[better]
        place[open_] = which[rows, k]
        neighbour[open_] = indices[rows, k]
    return found, place, neighbour
