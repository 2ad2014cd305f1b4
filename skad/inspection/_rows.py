"""What a detector says about the rows of a table, or about pictures in rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skad._array import to_numpy
from skad.inspection._findings import (
    Findings,
    detection_metrics,
    named_columns,
    timed,
    top_columns,
    tracked,
)
from skad.inspection._inspected import inspected
from skad.inspection._learned import learned_rows

__all__ = ["RowFindings", "examine"]

# Maps are as large as the data: rows are looked at in blocks of this many elements,
# which are also the steps of the progress.
_BLOCK_ELEMENTS = 2**17

# So many training rows, spread evenly, show how training scores are distributed where
# a detector does not keep them.
_TRAINING_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class RowFindings(Findings):
    """What a fitted detector says about rows; made by `examine`.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The test rows.
    feature_names : list of str
        One name per column.
    image_shape : tuple of int or None
        Height and width of a row, where rows are pictures.
    train_range : ndarray of shape (3, d)
        Quantiles 5 %, 50 % and 95 % of the training rows.
    top_features : ndarray of shape (n, k)
        Columns where each row is most anomalous.
    mean_map : ndarray of shape (d,)
        Mean map of the flagged rows.
    maps : ndarray of shape (s, d)
        The maps of the rows shown.
    compared : ndarray of shape (g,)
        Rows to compare between detectors.
    compared_maps : ndarray of shape (g, d)
        Their maps.
    """

    X: np.ndarray
    feature_names: list
    image_shape: Any
    train_range: np.ndarray
    top_features: np.ndarray
    mean_map: np.ndarray
    maps: np.ndarray
    compared: np.ndarray
    compared_maps: np.ndarray

    def places(self):
        """Return {column: values} of the features where rows are most anomalous."""
        return named_columns("feature", self.feature_names, self.top_features)


def examine(
    detector,
    X_train,
    X_test,
    *,
    y_train=None,
    y_test=None,
    feature_names=None,
    image_shape=None,
    title="Data",
    name=None,
    n_shown=12,
    n_top=3,
    compared=(),
    track=None,
    ids=None,
    id_name="id",
):
    """Fit a detector and gather what it says about test rows.

    Parameters
    ----------
    detector : estimator
        Any detector, or a pipeline that ends in one.
    X_train, X_test : array of shape (n, d)
        Rows to learn normality from, and rows to look at.
    y_train : array of shape (n_train,) or None, default=None
        Passed to `fit`.
    y_test : array of shape (n_test,) or None, default=None
        1 normal, -1 anomaly; gives the metrics.
    feature_names : list of str or None, default=None
        One name per column; x0, x1, ... if None.
    image_shape : tuple of int or None, default=None
        Height and width of a row, where rows are pictures.
    title : str, default="Data"
        What the data are called.
    name : str or None, default=None
        What the detector is called; the class of the last step if None.
    n_shown : int, default=12
        How many of the most anomalous rows keep their whole map.
    n_top : int, default=3
        How many features are named per row.
    compared : sequence of int, default=()
        Rows whose maps are kept, to be compared between detectors.
    track : callable or None, default=None
        Called with an iterable of blocks, a description and the number of blocks;
        returns an iterable over the same, to show progress.
    ids : array of shape (n_test,) or None, default=None
        What the rows are called, for the table.
    id_name : str, default="id"
        What these names are called.

    Returns
    -------
    findings : RowFindings
        Everything that `write_report` and `write_scores` need.
    """
    learned = learn_rows(detector, X_train, y_train, name=name, track=track)
    return look_at_rows(
        learned,
        X_test,
        y_test=y_test,
        feature_names=feature_names,
        image_shape=image_shape,
        title=title,
        n_shown=n_shown,
        n_top=n_top,
        compared=compared,
        track=track,
        ids=ids,
        id_name=id_name,
    )


def learn_rows(detector, X, y=None, *, name=None, track=None):
    """Fit a detector; return what `look_at_rows` needs of it. See `examine`."""

    def score_some(detector):
        return _sample_scores(detector, X, track)

    return learned_rows(detector, X, y, name=name, score_some=score_some)


def look_at_rows(
    learned,
    X_test,
    *,
    y_test=None,
    feature_names=None,
    image_shape=None,
    title="Data",
    n_shown=12,
    n_top=3,
    compared=(),
    track=None,
    ids=None,
    id_name="id",
):
    """Gather what a fitted detector, a `Learned`, says about rows. See `examine`."""
    detector, threshold = learned.detector, learned.threshold
    if feature_names is None:
        feature_names = [f"x{j}" for j in range(X_test.shape[1])]
    n, d = X_test.shape
    compared = np.asarray(compared, dtype=np.int64)
    score, top, total, seconds = np.empty(n), [], np.zeros(d), 0.0
    shown, shown_maps, compared_maps = np.empty(0, dtype=np.int64), None, None
    for rows in tracked(_blocks(X_test), track, "score"):
        found, took = timed(inspected, detector, X_test[rows])
        seconds += took
        score[rows] = found.scores
        maps = found.maps.reshape(len(found.scores), -1)  # (b, d), pictures row by row
        top.append(top_columns(maps, n_top))
        flagged = score[rows] - threshold < 0
        total += maps[flagged].sum(axis=0, dtype=np.float64)
        if shown_maps is None:
            shown_maps = maps[:0]
            compared_maps = np.empty((len(compared), d), dtype=maps.dtype)
        # what leads so far: maps of other rows are not kept
        shown = np.concatenate([shown, np.arange(rows.start, rows.stop)])
        order = np.argsort(score[shown], kind="stable")[:n_shown]
        shown, shown_maps = shown[order], np.concatenate([shown_maps, maps])[order]
        inside = (compared >= rows.start) & (compared < rows.stop)
        compared_maps[inside] = maps[compared[inside] - rows.start]
    decision = score - threshold
    return RowFindings(
        **learned.found(score),
        title=title,
        X=X_test,
        feature_names=list(feature_names),
        image_shape=image_shape,
        train_range=learned.train_range,
        y=y_test,
        top_features=np.concatenate(top),
        mean_map=total / max(1, np.sum(decision < 0)),
        shown=shown,
        maps=shown_maps,
        compared=compared,
        compared_maps=compared_maps,
        score_seconds=seconds,
        ids=ids,
        id_name=id_name,
        metrics={} if y_test is None else detection_metrics(y_test, decision),
    )


def _sample_scores(detector, X, track):
    """Return scores of some rows, evenly spread."""
    X = X[:: -(-len(X) // _TRAINING_ROWS)]
    parts = tracked(_blocks(X), track, "compare")
    return np.concatenate([to_numpy(detector.score_samples(X[rows])) for rows in parts])


def _blocks(X):
    step = max(1, _BLOCK_ELEMENTS // X.shape[1])
    return [slice(i, min(i + step, len(X))) for i in range(0, len(X), step)]
