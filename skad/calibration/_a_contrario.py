"""Regions of a map that white noise would hardly have, by a number of false alarms."""

from math import log
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import gammaincc, gammaln, log_ndtr

from skad._array import like, slices, to_numpy
from skad._members import maps_of
from skad._parameters import with_parameters
from skad._rows import n_rows, take_rows
from skad._sklearn import Interval, StrOptions
from skad.calibration._base import DetectorAround
from skad.calibration._held import known_anomalies, scoring_parameters

# Samples whose maps are made together.
_BATCH = 64


def log_polyominoes(n):
    """Return about the logarithm of how many shapes n connected cells can have."""
    return log(0.316915) + n * log(4.062570) - np.log(n)


def log_tail(n, squares):
    """Return the logarithm of the probability that a chi-square is above `squares`.

    Where it is too small for a number, Legendre's continued fraction gives it.

    Parameters
    ----------
    n, squares : ndarray of the same shape
        Degrees of freedom, and what is exceeded.
    """
    a, x = n / 2, squares / 2
    tail = gammaincc(a, x)
    far = tail < 1e-290
    found = np.log(np.where(far, 1.0, tail))
    a, x = a[far], x[far]
    rest = np.zeros_like(x)
    for i in range(50, 0, -1):
        rest = i * (a - i) / (x + 2 * i + 1 - a + rest)
    found[far] = a * np.log(x) - x - gammaln(a) - np.log(x + 1 - a + rest)
    return found


def grown_regions(z):
    """Grow regions by the cells (h, w) in the order of their values, largest first.

    Returns
    -------
    order : ndarray of shape (h w,)
        The cells. With each comes one region: that of the cells so far which are
        connected to it.
    sizes, squares : list of h w numbers
        The number of cells of each region and the sum of their squares, where those
        below zero count as zero.
    grown : list of h w numbers
        The larger region that each becomes a part of; itself for the whole.
    """
    height, width = z.shape
    order = np.argsort(-z, axis=None, kind="stable")
    squares = np.square(z.ravel()[order].clip(min=0)).tolist()
    m = len(order)
    sizes, grown, top = [1] * m, list(range(m)), list(range(m))
    region_of = [-1] * m
    for region, cell in enumerate(order.tolist()):
        region_of[cell] = region
        row, column = divmod(cell, width)
        beside = [cell - width] * (row > 0) + [cell + width] * (row < height - 1)
        beside += [cell - 1] * (column > 0) + [cell + 1] * (column < width - 1)
        for other in beside:
            part = region_of[other]
            if part < 0:
                continue
            while top[part] != part:  # what it has grown into by now
                top[part] = part = top[top[part]]
            if part != region:
                top[part] = grown[part] = region
                sizes[region] += sizes[part]
                squares[region] += squares[part]
    return order, sizes, squares, grown


def log_false_alarms(z):
    """Return the least log number of false alarms (b, h, w) of regions around cells.

    A region counts for its cells unless one inside of it has a lower number: what is
    beside a defect does not become one by standing beside it.

    Parameters
    ----------
    z : ndarray of shape (b, h, w)
        Standardised values of the cells of pictures.
    """
    regions = (np.stack(part) for part in zip(*map(grown_regions, z), strict=True))
    order, n, squares, grown = regions  # (b, m)
    b, m = order.shape
    alone = np.take_along_axis(log_ndtr(-z.reshape(b, m)), order, 1)
    alone += log(m) + log(2) + log_polyominoes(1)
    found = log(m) + np.log(n * (n + 1.0)) + log_polyominoes(n) + log_tail(n, squares)
    every, inside = np.arange(b), alone.copy()
    for region in range(m):
        larger, least = grown[:, region], inside[:, region]
        found[:, region][found[:, region] > least] = np.inf
        least = np.minimum(found[:, region], least)
        inside[every, larger] = np.minimum(inside[every, larger], least)
    for region in range(m - 1, -1, -1):  # the larger ones first
        larger = found[every, grown[:, region]]
        found[:, region] = np.minimum(found[:, region], larger)
    least = np.empty((b, m))
    np.put_along_axis(least, order, np.minimum(found, alone), 1)
    return least.reshape(z.shape)


def borders(length, cell_size):
    """Return where cells of about `cell_size` begin along an axis, and how long."""
    n = max(1, round(length / cell_size))
    ends = np.arange(n + 1) * length // n
    return ends[:-1], np.diff(ends)


@with_parameters
class AContrario(DetectorAround):
    r"""Pictures with a region in their map that white noise would hardly have.

    The map of a picture is cut into `M` cells, and the mean :math:`m` of each becomes
    :math:`z = (m - \mu) / \sigma` with the mean and deviation of the cells of normal
    pictures. Regions grow by the cells in the order of their values. If cells were
    independent and Gaussian, a region of n connected cells with the sum
    :math:`s = \sum_i \max(z_i, 0)^2` would have

    .. math:: \log \mathrm{NFA} = \log \left( M \, n (n + 1) \, b_n \right)
        + \log P(\chi^2_n > s), \qquad b_n = 0.316915 \, \frac{4.06257^n}{n},

    the logarithm of a *number of false alarms*: regions so rare are expected less than
    NFA times among all those of any shape (:math:`b_n`, about the number of
    polyominoes), place and size of a picture [1]_. The map is the largest
    :math:`-\log \mathrm{NFA}` of the regions around each cell that have no rarer one
    inside, ``score_samples`` the least :math:`\log \mathrm{NFA}` of the picture, and an
    alarm is raised below that of `n_false_alarms`.

    Read more in the :ref:`User Guide <calibration>`.

    Parameters
    ----------
    n_false_alarms : float, default=1.0
        Regions that raise an alarm, expected in a normal picture at most; above 0.
        Below 1 it bounds the share of normal pictures with an alarm.
    cell_size : float, default=12.0
        Side of a cell in pixels of the map, at least 1, as far apart as values of the
        map are independent. Cells are about so large, that they fill it.
    cv : "auto", int, splitter, iterable or None, default="auto"
        Whose maps are learned from. "auto" takes those of copies of the detector fitted
        without a fifth of the samples. An int, a splitter or folds: each map comes from
        a copy fitted to the other folds. None takes maps of samples that the detector
        has learned from.

    Attributes
    ----------
    detector_ : detector
        The detector, fitted on all samples.
    mean_, deviation_ : float
        Of the cells of normal samples, :math:`\mu` and :math:`\sigma`.

    See Also
    --------
    ConformalDetector : A promise for scores that needs no model.
    QuantileThreshold : A share of normal pictures, from their scores.

    Notes
    -----
    The promise is one of white noise: in maps whose cells are independent, Gaussian and
    alike the expected number of regions with alarms is at most `n_false_alarms`, 0.6
    for 1, and a third of such pictures has one. Maps of detectors are not white noise,
    and how far from it decides. At 128 x 128, fitted to 40 magnetic tiles or 31
    cookies, 0.23 of 40 other good tiles raise an alarm around
    ``PatchCore(coreset_ratio=0.02)`` and 1 of 14 cookies (of the defective 0.78 and
    0.59), at ``n_false_alarms=0.05`` still 0.20 and none (0.72 and 0.12): tiles differ
    from each other more than their cells do, and break the promise. Check it with good
    pictures of your own. The areas under the ROC curve, 0.815 and 0.935, are near those
    of the maps' maximum, 0.811 and 0.931.

    Of one cell by itself the probability is that of the Gaussian's upper tail: also
    cells below the mean have an order. Larger regions take the chi-square's, which is
    more than that of values above zero. The factor n (n + 1), whose inverses add up to
    one over all sizes, is ours: without it regions of each size have `n_false_alarms`.
    The paper has no normal pictures: it takes principal components of the features of
    one picture, standardised over itself, and regions of pixels, counted by 144. Here
    the detector's map stands for these; regions are those of the tree of upper level
    sets.

    A row of a table, or a step of a series, is a picture of one line, if its features
    have an order. Known anomalies, labelled -1, are not learned from. Scoring a picture
    costs O(M log M) beside the detector's map.

    References
    ----------
    .. [1] M. Tailanian, P. Muse and A. Pardo, "A multi-scale a contrario method for
       unsupervised image anomaly detection", ICMLA, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import AContrario
    >>> from skad.image import PaDiM
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = AContrario(PaDiM(smoothing=1, random_state=0), cell_size=4)
    >>> detector.fit(good).predict(bad)
    array([-1])
    >>> detector.transform(bad)[0, [2, 10], [2, 22]] > 0
    array([False,  True])
    """

    n_false_alarms: float = 1.0
    cell_size: float = 12.0
    cv: Any = "auto"

    _map_sums_to_score = False
    _parameter_constraints = {
        "n_false_alarms": [Interval(Real, 0, None, closed="neither")],
        "cell_size": [Interval(Real, 1, None, closed="left")],
        "cv": ["cv_object", StrOptions({"auto"})],
    }

    def _calibrate(self, X, y, params):
        known = known_anomalies(self._head(), y, n_rows(X), params)
        if known.all():
            raise ValueError("y marks all samples as anomalies; no normal one is left.")
        self._fit_detector(X, y, params)
        if not hasattr(self.detector_, "transform"):
            raise TypeError(
                f"{type(self.detector_).__name__} has no anomaly map; take a detector "
                "of skad."
            )
        cells = np.concatenate([*self._normal_cells(X, y, params, known)])
        self.mean_, deviation = float(cells.mean()), float(cells.std())
        # of maps that are constant but for rounding
        self.deviation_ = max(deviation, 1e-9 * abs(self.mean_)) or 1.0

    def _normal_cells(self, X, y, params, known):
        """Yield the values (b, gh, gw) of cells of samples that nobody learned from."""
        scoring = scoring_parameters(self._head(), params)
        for member, rows in self._members(X, y, params, self.cv):
            rows = rows[~known[rows]]
            for part in slices(len(rows), _BATCH):
                own = self._parameters_on(rows[part], scoring, n_rows(X))
                maps = maps_of(member, take_rows(X, rows[part]), **own)
                yield self._cells(self._pictures(to_numpy(maps)))

    def _fit_offset(self, X, y, anomaly, **params):
        return log(self.n_false_alarms)

    # ------------------------------------------------------------------------- scoring

    def _pictures(self, maps):
        """Return maps as pictures (n, h, w): those of rows have one line."""
        if maps.ndim > 2:
            return maps
        shape = getattr(self, "image_shape_", (1, maps.shape[1]))[:2]
        return maps.reshape(len(maps), *shape)

    def _cells(self, maps):
        """Return the mean values (n, gh, gw) of the cells of maps (n, h, w)."""
        found = maps.astype(np.float64, copy=False)
        for axis in (1, 2):
            first, lengths = borders(maps.shape[axis], self.cell_size)
            lengths = lengths.reshape((-1, 1) if axis == 1 else -1)
            found = np.add.reduceat(found, first, axis=axis) / lengths
        return found

    def _scores_and_maps(self, X, params):
        maps = maps_of(self.detector_, X, **params)
        pictures = self._pictures(to_numpy(maps))
        z = (self._cells(pictures) - self.mean_) / self.deviation_
        least = log_false_alarms(z.clip(-1e100, 1e100))  # (n, gh, gw)
        found = -least
        for axis in (1, 2):
            _, lengths = borders(pictures.shape[axis], self.cell_size)
            found = np.repeat(found, lengths, axis=axis)
        scores = least.min(axis=(1, 2))
        return like(scores, maps, dtype="keep"), like(found.reshape(maps.shape), maps)

    def _scores(self, X, params):
        return self._scores_and_maps(X, params)[0]

    def _maps(self, X, params):
        return self._scores_and_maps(X, params)[1]
