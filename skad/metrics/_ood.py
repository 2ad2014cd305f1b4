"""How well a score tells a classifier's own data from what it should not judge."""

import numpy as np
from sklearn.metrics import average_precision_score

from skad.metrics._labels import finite_scores, host, labels_and_scores, undefined
from skad.metrics._pixels import share_flagged


def fpr_at_tpr(y_true, anomaly_score, *, positive, tpr=0.95, pos_label=None):
    """Give the false positive rate at a true positive rate, as FPR95 does.

    Both conventions of the field go by this name and give different figures for the
    same scores, so the convention has to be named. Lower is better.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        1 in distribution and -1 out of distribution, or booleans, True out of it.
    anomaly_score : array-like of shape (n,)
        Higher is farther out of distribution.
    positive : {"ood", "id"}
        The class that `tpr` is a share of. "ood": at least 95 % of what is out of
        distribution is rejected; the result is the share of in-distribution samples
        that are rejected with it. "id": at least 95 % of the in-distribution samples
        are accepted; the result is the share of out-of-distribution samples that are
        accepted with them.
    tpr : float, default=0.95
        True positive rate, in (0, 1].
    pos_label : object, default=None
        The label of out-of-distribution samples, where labels are written otherwise.

    Returns
    -------
    rate : float
        0 is perfect; NaN where samples of one kind are missing.

    Notes
    -----
    The threshold is the strictest that reaches `tpr`, without interpolation; a score
    that equals it counts as positive. OpenOOD and Outlier Exposure take "ood", ODIN
    [1]_ and Lee et al. take "id".

    References
    ----------
    .. [1] S. Liang, Y. Li and R. Srikant, "Enhancing the Reliability of
       Out-of-distribution Image Detection in Neural Networks", ICLR, 2018, section 4.2.

    Examples
    --------
    >>> from skad.metrics import fpr_at_tpr
    >>> y = [1, 1, 1, 1, -1, -1]
    >>> score = [0.1, 0.2, 0.3, 0.7, 0.5, 0.9]
    >>> fpr_at_tpr(y, score, positive="ood"), fpr_at_tpr(y, score, positive="id")
    (0.25, 0.5)
    """
    if positive not in ("ood", "id"):
        raise ValueError(f"positive={positive!r}: must be 'ood' or 'id'.")
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr={tpr!r}: must be above 0 and at most 1.")
    outside, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if outside.all() or not outside.any():
        return undefined("y_true has samples of one kind only")
    if positive == "ood":
        return share_flagged(scores[outside], scores[~outside], tpr)
    return share_flagged(-scores[~outside], -scores[outside], tpr)


def auroc(y_true, anomaly_score, *, pos_label=None):
    """Area under the ROC curve, the same whichever class is the positive one.

    The share of pairs of a sample out of and one in distribution where the former has
    the larger score; equal scores count half.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        1 in distribution and -1 out of distribution, or booleans, True out of it.
    anomaly_score : array-like of shape (n,)
        Higher is farther out of distribution.
    pos_label : object, default=None
        The label of out-of-distribution samples, where labels are written otherwise.

    Returns
    -------
    area : float
        1 is perfect, 0.5 is chance; NaN where samples of one kind are missing.

    Examples
    --------
    >>> from skad.metrics import auroc
    >>> auroc([1, 1, -1], [0.1, 0.4, 0.4])
    0.75
    """
    outside, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if outside.all() or not outside.any():
        return undefined("y_true has samples of one kind only")
    inside = np.sort(scores[~outside])
    below = np.searchsorted(inside, scores[outside], side="left").sum()
    not_above = np.searchsorted(inside, scores[outside], side="right").sum()
    return float((below + not_above) / (2 * len(inside) * np.sum(outside)))


def aupr_out(y_true, anomaly_score, *, pos_label=None):
    """Average precision when what is out of distribution is looked for (AUPR-out).

    Parameters
    ----------
    y_true : array-like of shape (n,)
        1 in distribution and -1 out of distribution, or booleans, True out of it.
    anomaly_score : array-like of shape (n,)
        Higher is farther out of distribution.
    pos_label : object, default=None
        The label of out-of-distribution samples, where labels are written otherwise.

    Returns
    -------
    precision : float
        1 is perfect; the share of out-of-distribution samples is chance. NaN where
        there is none.

    Notes
    -----
    The sum of precision over steps of recall, without interpolation: straight lines
    between the points of a precision-recall curve, as some toolkits draw them, give
    figures that cannot be reached.

    Examples
    --------
    >>> from skad.metrics import aupr_out
    >>> aupr_out([1, 1, -1], [0.1, 0.5, 0.4])
    0.5
    """
    outside, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if not outside.any():
        return undefined("y_true has no sample out of distribution")
    return float(average_precision_score(outside, scores))


def aupr_in(y_true, anomaly_score, *, pos_label=None):
    """Average precision when what is in distribution is looked for (AUPR-in).

    Parameters
    ----------
    y_true : array-like of shape (n,)
        1 in distribution and -1 out of distribution, or booleans, True out of it.
    anomaly_score : array-like of shape (n,)
        Higher is farther out of distribution.
    pos_label : object, default=None
        The label of out-of-distribution samples, where labels are written otherwise.

    Returns
    -------
    precision : float
        1 is perfect; the share of in-distribution samples is chance. NaN where there
        is none.

    Examples
    --------
    >>> from skad.metrics import aupr_in
    >>> aupr_in([1, 1, -1], [0.1, 0.5, 0.4])
    0.8333333333333333
    """
    outside, scores = labels_and_scores(y_true, anomaly_score, pos_label)
    if outside.all():
        return undefined("y_true has no sample in distribution")
    return float(average_precision_score(~outside, -scores))


def risk_coverage_curve(loss, anomaly_score):
    r"""Risk of a classifier that answers only where it is confident.

    At coverage k / n the k samples with the lowest scores are answered, and the risk is
    their mean loss:

    .. math:: r_k = \frac{1}{k} \sum_{i \leq k} \ell_{(i)} .

    Parameters
    ----------
    loss : array-like of shape (n,)
        What an answer costs: ``y_pred != y`` for the error rate, or any finite loss. An
        answer to a sample that is out of distribution is always wrong.
    anomaly_score : array-like of shape (n,)
        How little the classifier is to be believed; the highest are rejected first.

    Returns
    -------
    coverage : ndarray of shape (n,)
        1 / n, 2 / n, ..., 1.
    risk : ndarray of shape (n,)
        Mean loss of what is answered.
    threshold : ndarray of shape (n,)
        The largest score that is answered.

    Notes
    -----
    Samples with equal scores come in no order: each counts with their mean loss, which
    is the expectation over all orders.

    References
    ----------
    .. [1] Y. Geifman and R. El-Yaniv, "Selective Classification for Deep Neural
       Networks", NeurIPS, 2017, section 2.

    Examples
    --------
    >>> from skad.metrics import risk_coverage_curve
    >>> coverage, risk, threshold = risk_coverage_curve([0, 1, 0], [0.1, 0.9, 0.3])
    >>> risk
    array([0.        , 0.        , 0.33333333])
    """
    loss, scores = _losses_and_scores(loss, anomaly_score)
    order = np.argsort(scores, kind="stable")
    threshold = scores[order]
    _, first, group, sizes = np.unique(
        threshold, return_index=True, return_inverse=True, return_counts=True
    )
    means = np.add.reduceat(loss[order], first) / sizes
    n_answered = np.arange(1, len(loss) + 1)
    risk = np.cumsum(means[group]) / n_answered
    return n_answered / len(loss), risk, threshold


def aurc(loss, anomaly_score):
    """Area under the risk-coverage curve: its mean risk over all coverages.

    Lower is better: of two scores with the same classifier, the one that rejects its
    errors first has the smaller area.

    Parameters
    ----------
    loss : array-like of shape (n,)
        What an answer costs, as in `risk_coverage_curve`.
    anomaly_score : array-like of shape (n,)
        How little the classifier is to be believed.

    Returns
    -------
    area : float
        From 0, for a classifier without errors; random scores reach the mean loss.

    References
    ----------
    .. [1] Y. Geifman, G. Uziel and R. El-Yaniv, "Bias-Reduced Uncertainty Estimation
       for Deep Neural Classifiers", ICLR, 2019, section 3.

    Examples
    --------
    >>> from skad.metrics import aurc
    >>> aurc([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]), aurc([0, 0, 1, 1], [1, 1, 1, 1])
    (0.20833333333333331, 0.5)
    """
    _, risk, _ = risk_coverage_curve(loss, anomaly_score)
    return float(risk.mean())


def _losses_and_scores(loss, anomaly_score):
    loss = finite_scores(host(loss), name="loss")
    scores = finite_scores(anomaly_score)
    if loss.ndim != 1 or loss.shape != scores.shape:
        raise ValueError(
            "loss and anomaly_score are one value per sample, got shapes "
            f"{loss.shape} and {scores.shape}."
        )
    if len(loss) == 0:
        raise ValueError("loss is empty.")
    return loss, scores
