"""How well anomaly maps of pictures mark the defects.

Every figure here is exact, ties included, from two sorted arrays: the map's values at
defective and at normal pixels. To sort values costs much less than to sort indices.
"""

import numpy as np
from scipy.ndimage import label

from skad.metrics._labels import host, labels_and_scores, undefined

_EIGHT_NEIGHBORS = np.ones((3, 3), dtype=bool)


def pixel_roc_auc(masks, maps):
    """Area under the ROC curve over all pixels of all pictures.

    The share of pairs of a defective and a normal pixel where the defective one has the
    larger value; pairs with equal values count half.

    Parameters
    ----------
    masks : sequence of arrays of shape (h, w)
        Where pictures are defective: booleans, or numbers that are not 0 there. None
        for a picture without any defect.
    maps : sequence of arrays of shape (h, w)
        Anomaly maps of the same pictures, higher is more anomalous. Arrays (n, h, w),
        lists of pictures of different sizes, and tensors are taken.

    Returns
    -------
    area : float
        1 is perfect, 0.5 is chance; NaN where pixels of one kind are missing.

    Examples
    --------
    >>> from skad.metrics import pixel_roc_auc
    >>> pixel_roc_auc([[[0, 1, 1]]], [[[0.1, 0.8, 0.1]]])
    0.75
    """
    positives, negatives = _sorted_kinds(_flat(masks, maps))
    if len(positives) == 0 or len(negatives) == 0:
        return undefined("Pixels of one kind are missing in masks")
    below = np.searchsorted(negatives, positives, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(negatives, positives, side="right").sum(dtype=np.int64)
    return float((below + not_above) / (2 * len(positives) * len(negatives)))


def pixel_average_precision(masks, maps):
    r"""Average precision over all pixels of all pictures.

    :math:`\sum_k (R_k - R_{k-1}) P_k` over the distinct values of the maps, with recall
    :math:`R_k` and precision :math:`P_k` of the pixels that have at least the k-th
    largest value; defective pixels are what is looked for.

    Parameters
    ----------
    masks : sequence of arrays of shape (h, w)
        Where pictures are defective, as in `pixel_roc_auc`.
    maps : sequence of arrays of shape (h, w)
        Anomaly maps of the same pictures.

    Returns
    -------
    precision : float
        1 is perfect; the share of defective pixels is chance. NaN where no pixel is
        defective.

    Examples
    --------
    >>> from skad.metrics import pixel_average_precision
    >>> pixel_average_precision([[[0, 1, 1]]], [[[0.3, 0.8, 0.1]]])
    0.8333333333333333
    """
    positives, negatives = _sorted_kinds(_flat(masks, maps))
    if len(positives) == 0:
        return undefined("No pixel is defective in masks")
    _, hits, false_alarms = _counts(positives, negatives)
    gained = -np.diff(hits, append=0)  # thresholds ascend, so hits descend
    precision = hits / (hits + false_alarms)
    return float(gained @ precision / len(positives))


def pro_score(masks, maps, *, fpr_limit=0.3):
    r"""Area under the curve of the per-region overlap (AUPRO).

    The per-region overlap at a threshold is the share of a connected region that is
    over it, averaged over all regions of all pictures, so that a small defect counts as
    much as a large one. The curve of this overlap against the false positive rate, the
    share of normal pixels over the threshold, is integrated up to a limit:

    .. math:: \frac{1}{L} \int_0^L \mathrm{PRO}(f) \, df .

    Parameters
    ----------
    masks : sequence of arrays of shape (h, w)
        Where pictures are defective, as in `pixel_roc_auc`. Regions are connected
        through eight neighbours.
    maps : sequence of arrays of shape (h, w)
        Anomaly maps of the same pictures. Normal pixels of all of them count, so the
        good pictures of a test set belong in here.
    fpr_limit : float, default=0.3
        Largest false positive rate L, in (0, 1].

    Returns
    -------
    area : float
        1 is perfect, L / 2 is chance; NaN where no pixel is defective or none normal.

    Notes
    -----
    This is the measure of MVTec AD [1]_ over a whole test set, at every distinct value
    of the maps and without binning. Each defective pixel adds its share of a region
    from the false positive rate on at which the threshold reaches it, so only the
    normal pixels in the tail are sorted: O(P + L P log P) for P pixels, and one number
    per pixel is held. Some published figures are means over pictures of a curve each;
    they are not comparable.

    References
    ----------
    .. [1] P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger and C. Steger, "The MVTec
       Anomaly Detection Dataset", International Journal of Computer Vision 129, 2021,
       section 5.2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.metrics import pro_score
    >>> mask = np.zeros((10, 10), bool)
    >>> mask[0, 0] = mask[5:9, 5:9] = True
    >>> heat = np.zeros((10, 10))
    >>> heat[5:9, 5:9] = 1  # one of two regions found
    >>> round(pro_score([mask], [heat]), 6)
    0.575
    """
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit={fpr_limit!r}: must be above 0 and at most 1.")
    values, shares, negatives, n_regions = [], [], [], 0
    for mask, heat in _pairs(masks, maps):
        negatives.append(heat[~mask])
        if mask.any():
            regions, n_found = label(mask, structure=_EIGHT_NEIGHBORS)
            regions = regions[mask]  # (p,), from 1
            values.append(heat[mask])
            shares.append(1 / np.bincount(regions)[regions])
            n_regions += n_found
    negatives = _joined(negatives)
    if n_regions == 0 or len(negatives) == 0:
        return undefined("Pixels of one kind are missing in masks")
    values, shares = _joined(values), _joined(shares)

    # Defective pixels that more normal ones exceed than the limit allows add nothing.
    n_normal = len(negatives)
    n_tail = min(n_normal, int(fpr_limit * n_normal) + 1)
    cut = np.partition(negatives, n_normal - n_tail)[n_normal - n_tail]
    tail = np.sort(negatives[negatives >= cut])
    reached = values >= cut
    values, shares = values[reached], shares[reached]
    order = np.argsort(values)
    values, shares = values[order], shares[order]
    # the curve rises straight from the rate above a value to that at or above it
    start = (len(tail) - np.searchsorted(tail, values, side="right")) / n_normal
    stop = (len(tail) - np.searchsorted(tail, values, side="left")) / n_normal
    area = fpr_limit - (start + stop) / 2
    over = stop > fpr_limit  # the limit cuts the rise
    left = np.maximum(fpr_limit - start[over], 0)
    area[over] = left**2 / (2 * (stop[over] - start[over]))
    return float(shares @ area / n_regions / fpr_limit)


def best_f1_threshold(y_true, anomaly_score, *, pos_label=None):
    r"""Threshold with the largest F1, and that F1.

    :math:`F_1 = 2 t / (2 t + f + m)` with t anomalies found, f false alarms and m
    anomalies missed, when samples whose score is at least the threshold are flagged. A
    threshold that is chosen on the data that it is judged by is too good for new data.

    Parameters
    ----------
    y_true : array-like of shape (n,) or sequence of masks of shape (h, w)
        Labels of samples, 1 normal and -1 an anomaly or booleans; or masks, as in
        `pixel_roc_auc`.
    anomaly_score : array-like of shape (n,) or sequence of maps of shape (h, w)
        Higher is more anomalous.
    pos_label : object, default=None
        The label of anomalies, where labels are written in another way.

    Returns
    -------
    threshold : float
        The largest of the best thresholds; NaN where there is no anomaly.
    f1 : float
        F1 at the threshold.

    Examples
    --------
    >>> from skad.metrics import best_f1_threshold
    >>> best_f1_threshold([1, 1, -1, -1], [0.1, 0.5, 0.4, 0.9])
    (0.4, 0.8)
    """
    positives, negatives = _sorted_kinds(_any(y_true, anomaly_score, pos_label))
    if len(positives) == 0:
        nothing = undefined("No anomaly is in y_true")
        return nothing, nothing
    thresholds, hits, false_alarms = _counts(positives, negatives)
    f1 = 2 * hits / (hits + false_alarms + len(positives))
    best = len(f1) - 1 - np.argmax(f1[::-1])
    return float(thresholds[best]), float(f1[best])


def fpr_at_recall(y_true, anomaly_score, *, recall=0.95, pos_label=None):
    """Share of what is normal that is flagged when most anomalies are.

    The threshold is the largest that flags at least a share `recall` of the anomalies;
    samples whose score equals it are flagged. Lower is better.

    Parameters
    ----------
    y_true : array-like of shape (n,) or sequence of masks of shape (h, w)
        Labels of samples, 1 normal and -1 an anomaly or booleans; or masks, as in
        `pixel_roc_auc`.
    anomaly_score : array-like of shape (n,) or sequence of maps of shape (h, w)
        Higher is more anomalous.
    recall : float, default=0.95
        Share of the anomalies, in (0, 1].
    pos_label : object, default=None
        The label of anomalies, where labels are written in another way.

    Returns
    -------
    rate : float
        0 is perfect; NaN where samples of one kind are missing.

    Examples
    --------
    >>> from skad.metrics import fpr_at_recall
    >>> fpr_at_recall([1, 1, -1, -1], [0.1, 0.5, 0.4, 0.9], recall=1.0)
    0.5
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall={recall!r}: must be above 0 and at most 1.")
    positives, negatives = _any(y_true, anomaly_score, pos_label)
    if len(positives) == 0 or len(negatives) == 0:
        return undefined("Samples of one kind are missing in y_true")
    return share_flagged(positives, negatives, recall)


def share_flagged(positives, negatives, rate):
    """Return the share of negatives at or over the value that `rate` positives reach.

    That value is the largest which at least this share of the positives reach.
    """
    # hits / n, compared as it is computed elsewhere, decides whether the rate is met
    shares = np.arange(1, len(positives) + 1) / len(positives)
    n_hits = int(np.searchsorted(shares, rate)) + 1
    place = len(positives) - n_hits
    threshold = np.partition(positives, place)[place]
    return float(np.count_nonzero(negatives >= threshold) / len(negatives))


def _counts(positives, negatives):
    """Return distinct positive values, ascending, and how many reach each of them."""
    first = np.flatnonzero(np.diff(positives, prepend=np.nan) != 0)
    thresholds = positives[first]
    hits = len(positives) - first
    return thresholds, hits, len(negatives) - np.searchsorted(negatives, thresholds)


def _sorted_kinds(kinds):
    return tuple(np.sort(values) for values in kinds)


def _any(y_true, anomaly_score, pos_label):
    """Return the scores of anomalies and of what is normal, of samples or of pixels."""
    n_axes = getattr(y_true, "ndim", None)
    if n_axes is None:  # a list, of labels or of masks
        first = next((item for item in y_true if item is not None), [])
        n_axes = 1 + np.ndim(first)
    if n_axes == 1:
        anomalous, scores = labels_and_scores(y_true, anomaly_score, pos_label)
        return scores[anomalous], scores[~anomalous]
    return _flat(y_true, anomaly_score)


def _flat(masks, maps):
    """Return the maps' values at defective and at normal pixels."""
    defective, normal = [], []
    for mask, heat in _pairs(masks, maps):
        defective.append(heat[mask])
        normal.append(heat[~mask])
    return _joined(defective), _joined(normal)


def _joined(parts):
    return np.concatenate(parts) if parts else np.empty(0)


def _pairs(masks, maps):
    """Yield the mask, boolean, and the map, floats, of each picture."""
    if len(masks) != len(maps):
        raise ValueError(f"there are {len(masks)} masks and {len(maps)} maps.")
    if len(maps) == 0:
        raise ValueError("maps is empty.")
    for i in range(len(maps)):
        heat = host(maps[i])
        if heat.dtype.kind not in "biuf" or heat.ndim != 2:
            raise ValueError(
                f"maps[{i}] has shape {heat.shape} and dtype {heat.dtype}; numbers of "
                "shape (height, width) are needed."
            )
        if heat.dtype not in (np.float32, np.float64):
            heat = heat.astype(np.float64)
        if not np.isfinite(heat).all():
            kind = "NaN" if np.isnan(heat).any() else "infinity"
            raise ValueError(f"maps[{i}] contains {kind}.")
        mask = masks[i]
        mask = np.zeros(heat.shape, dtype=bool) if mask is None else host(mask)
        if mask.shape != heat.shape:
            raise ValueError(
                f"masks[{i}] has shape {mask.shape}, maps[{i}] has {heat.shape}."
            )
        if mask.dtype.kind not in "biuf" or (mask < 0).any():
            raise ValueError(
                f"masks[{i}] must hold booleans, or numbers that are 0 where the "
                "picture is normal and above 0 where it is defective."
            )
        yield mask.astype(bool), heat
