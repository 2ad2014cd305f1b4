"""Pictures that are searched for their own anomalies, each by a copy without it.

A memory of all pictures would hold the anomalies, too, and find them in itself.
"""

import numpy as np

from skad._answers import Inspection
from skad._cross_fitting import rows_of, unfitted
from skad.inspection._findings import description, timed, tracked
from skad.inspection._inspected import inspected, threshold_of
from skad.inspection._learned import Learned
from skad.inspection._pictures import blocks_of, extremes_of, flat, scale_of

# So many copies, each fitted without its share of the pictures.
_COPIES = 5


class Copies:
    """Copies of a detector, each fitted without the pictures that it looks at.

    Parameters
    ----------
    detector : detector
        One that takes pictures; it stays unfitted.
    X : PictureFiles or array of shape (n, h, w) or (n, h, w, c)
        The pictures, two at least.
    """

    def __init__(self, detector, X):
        n = len(X)
        if n < 2:
            raise ValueError(
                "one picture has no others that it could be compared with; pass "
                "--train with normal ones and --test"
            )
        # in any order but that of the names, which may be periodic
        order = np.random.RandomState(0).permutation(n)
        self.owner, self.members = np.empty(n, dtype=int), []
        self.owner[order] = np.arange(n) % _COPIES
        for i in range(min(n, _COPIES)):
            others = rows_of(X, np.flatnonzero(self.owner != i))
            self.members.append(unfitted(detector).fit(others))

    def inspect_rows(self, block, rows):
        """Return all answers about a block of pictures, which are those of `rows`."""
        owner = self.owner[rows]
        parts, places = [], []
        for i in np.unique(owner):
            own = np.flatnonzero(owner == i)
            parts.append(inspected(self.members[i], block[own]))
            places.append(own)
        order = np.argsort(np.concatenate(places))
        whole = (np.concatenate(part)[order] for part in zip(*parts, strict=True))
        return Inspection(*whole)


def learn_own_pictures(detector, X, *, name=None, track=None):
    """Fit copies of a detector; return what `look_at_pictures` needs to look at `X`.

    Parameters
    ----------
    detector : detector
        One that takes pictures.
    X : PictureFiles or array of shape (n, h, w) or (n, h, w, c)
        The pictures, most of which are normal.
    name : str or None, default=None
        What the detector is called; its class if None.
    track : callable or None, default=None
        As in `examine_pictures`.

    Returns
    -------
    learned : Learned
        Its threshold comes from the scores of all pictures, each by the copy that has
        not learned it, in the meaning that the detector's own threshold has.
    """
    copies, seconds = timed(Copies, detector, X)
    scores, extremes = [], []
    for rows in tracked(blocks_of(range(len(X)), X), track, "compare"):
        found = copies.inspect_rows(np.asarray(X[rows]), np.asarray(rows))
        scores.append(found.scores)
        extremes += extremes_of(flat(found.maps, X))
    scores = np.concatenate(scores)
    threshold = threshold_of(detector, scores)
    share = getattr(detector, "contamination", "auto")
    if share == "auto":
        rate = getattr(detector, "false_alarm_rate", 0.05)
        meaning = f"about {100 * rate:.3g} % of new normal pictures"
    else:
        meaning = f"{100 * share:.3g} % of the pictures"
    return Learned(
        detector=copies,
        name=name or type(detector).__name__,
        setting=description(detector),
        n_train=len(X),
        train_score=scores,
        threshold=threshold,
        meaning=f"{meaning} are to be below it, each picture scored by one of "
        f"{len(copies.members)} copies that have not learned from it",
        as_new=True,
        fit_seconds=seconds,
        scale=scale_of(scores, extremes, threshold),
    )
