"""Which training rows are no neighbours of one: itself, and those near it."""

from typing import NamedTuple

import numpy as np

from skad._array import device_of, namespace, to_numpy


def drop_self(distance, indices):
    """Return the neighbours without the row itself: the first one at distance zero.

    Parameters
    ----------
    distance, indices : arrays of shape (b, k + 1)
        Ascending distances and what they lead to.

    Returns
    -------
    distance, indices : arrays of shape (b, k)
        Without the first column where that is zero, else without the last.
    """
    xp = namespace(distance)
    k = distance.shape[1] - 1
    own = xp.astype(distance[:, 0] == 0, xp.int64)
    columns = own[:, None] + xp.arange(k, device=device_of(distance))
    return (
        xp.take_along_axis(distance, columns, axis=1),
        xp.take_along_axis(indices, columns, axis=1),
    )


class Apart(NamedTuple):
    """Training rows that stand on a line, where those near one are no neighbours of it.

    Parameters
    ----------
    places : ndarray of shape (n,)
        Integers where the rows stand, ascending.
    gap : int
        Rows at most that far apart are no neighbours.
    """

    places: np.ndarray
    gap: int

    def near(self, rows):
        """Return the first row that is near each of some rows, and the first after."""
        places = self.places[to_numpy(rows)]
        first = np.searchsorted(self.places, places - self.gap)
        return first, np.searchsorted(self.places, places + self.gap, "right")

    def most_near(self):
        """Return how many rows are near one at most, itself included."""
        first, stop = self.near(np.arange(len(self.places)))
        return int((stop - first).max())


def n_left_out(apart):
    """Return how many training rows are no neighbours of one at most: at least it."""
    return 1 if apart is None else apart.most_near()
