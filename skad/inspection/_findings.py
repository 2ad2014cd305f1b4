"""What a detector says about a set of rows, gathered once for reports and tables."""

import csv
import time
from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

# Maps are as large as the data: rows are looked at in blocks of this many elements,
# which are also the steps of the progress.
_BLOCK_ELEMENTS = 2**17

# So many training rows, spread evenly, show how training scores are distributed.
_TRAINING_ROWS = 10_000


@dataclass(frozen=True)
class Findings:
    """What a fitted detector says about test rows; made by `examine`."""

    title: str  # of the data
    name: str  # of the detector
    setting: str  # the detector with its parameters
    X: np.ndarray  # (n, d), the test rows
    feature_names: list  # d names
    image_shape: tuple | None  # of a row, where rows are pictures
    n_train: int
    train_decision: np.ndarray  # of at most 10,000 training rows, spread evenly
    train_range: np.ndarray  # (3, d): quantiles 5 %, 50 % and 95 % of training rows
    threshold: float  # the score below which a row is an anomaly
    score: np.ndarray  # (n,), higher is more normal
    decision: np.ndarray  # (n,), below 0 is an anomaly
    y: np.ndarray | None  # (n,), 1 normal and -1 anomaly, where it is known
    top_features: np.ndarray  # (n, k): columns where each row is most anomalous
    mean_map: np.ndarray  # (d,): mean map of the flagged rows
    shown: np.ndarray  # (s,): the most anomalous rows, most anomalous first
    maps: np.ndarray  # (s, d): the maps of the rows shown
    compared: np.ndarray  # (g,): rows to compare between detectors
    compared_maps: np.ndarray  # (g, d): their maps
    fit_seconds: float
    score_seconds: float
    metrics: dict = field(default_factory=dict)

    @property
    def flagged(self):
        """The rows that are anomalies to the detector, of shape (n,)."""
        return self.decision < 0


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

    Returns
    -------
    findings : Findings
        Everything that `write_report` and `write_scores` need.
    """
    if feature_names is None:
        feature_names = [f"x{j}" for j in range(X_train.shape[1])]
    start = time.perf_counter()
    detector.fit(X_train, y_train)
    fit_seconds = time.perf_counter() - start

    start = time.perf_counter()
    score = _by_blocks(detector.score_samples, X_test, track, "score")
    score_seconds = time.perf_counter() - start
    threshold = float(_last_step(detector).offset_)  # a pipeline has no offset_
    decision = score - threshold

    top, total = [], np.zeros(X_test.shape[1])
    for rows in _tracked(X_test, track, "locate"):
        maps = _flat_maps(detector, X_test[rows])  # (b, d)
        top.append(top_columns(maps, n_top))
        total += maps[decision[rows] < 0].sum(axis=0, dtype=np.float64)
    stride = -(-len(X_train) // _TRAINING_ROWS)
    train_score = _by_blocks(
        detector.score_samples, X_train[::stride], track, "compare"
    )
    shown = np.argsort(decision, kind="stable")[:n_shown]
    compared = np.asarray(compared, dtype=np.int64)
    kept = _flat_maps(detector, X_test[np.concatenate([shown, compared])])
    return Findings(
        title=title,
        name=name or type(_last_step(detector)).__name__,
        setting=_setting(detector),
        X=X_test,
        feature_names=list(feature_names),
        image_shape=image_shape,
        n_train=len(X_train),
        train_decision=train_score - threshold,
        train_range=np.quantile(X_train, [0.05, 0.5, 0.95], axis=0),
        threshold=threshold,
        score=score,
        decision=decision,
        y=y_test,
        top_features=np.concatenate(top),
        mean_map=total / max(1, np.sum(decision < 0)),
        shown=shown,
        maps=kept[: len(shown)],
        compared=compared,
        compared_maps=kept[len(shown) :],
        fit_seconds=fit_seconds,
        score_seconds=score_seconds,
        metrics={} if y_test is None else detection_metrics(y_test, decision),
    )


def _flat_maps(detector, X):
    """Return maps (b, d), those of pictures (b, height, width) row after row."""
    return np.asarray(detector.transform(X)).reshape(len(X), -1)


def detection_metrics(y, decision):
    """Return how well a decision function finds the anomalies, by name.

    Parameters
    ----------
    y : array of shape (n,)
        1 normal, -1 anomaly.
    decision : array of shape (n,)
        Below 0 is an anomaly.

    Returns
    -------
    metrics : dict of str to float
        ROC AUC, average precision, and precision and recall at the threshold; anomalies
        are what is looked for. Empty where `y` has one kind of rows only.

    Examples
    --------
    >>> from skad.inspection import detection_metrics
    >>> detection_metrics([1, 1, -1], [0.3, 0.1, -2.0])["ROC AUC"]
    1.0
    """
    anomaly = np.asarray(y) == -1
    if anomaly.all() or not anomaly.any():
        return {}
    flagged = np.asarray(decision) < 0
    hits = float(np.sum(flagged & anomaly))
    return {
        "ROC AUC": float(roc_auc_score(anomaly, -np.asarray(decision))),
        "average precision": float(
            average_precision_score(anomaly, -np.asarray(decision))
        ),
        "precision": hits / float(flagged.sum()) if flagged.any() else 0.0,
        "recall": hits / float(anomaly.sum()),
    }


def top_columns(maps, n_top):
    """Return the columns with the largest values of each row, largest first.

    Parameters
    ----------
    maps : array of shape (n, d)
        Anomaly maps.
    n_top : int
        How many columns; at most d are returned.

    Returns
    -------
    columns : ndarray of shape (n, min(n_top, d))
        Indices of columns.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.inspection import top_columns
    >>> top_columns(np.array([[0.1, 3.0, 2.0], [9.0, 0.0, 1.0]]), 2)
    array([[1, 2],
           [0, 2]])
    """
    # a full stable sort, so that ties come in the order of the columns
    return np.argsort(-maps, axis=1, kind="stable")[:, :n_top]


def write_scores(path, findings):
    """Write a CSV file with one line per test row.

    Parameters
    ----------
    path : str or Path
        The file.
    findings : Findings
        What `examine` gathered. The columns are the row (from 0), its score (higher is
        more normal), its decision (below 0 is an anomaly), the label that follows (1 or
        -1), the true label where it is known, and the features where the row is most
        anomalous.
    """
    names = np.asarray(findings.feature_names, dtype=object)
    header = ["row", "score", "decision", "label"]
    known = findings.y is not None
    header += ["true_label"] if known else []
    header += [f"feature_{k + 1}" for k in range(findings.top_features.shape[1])]
    labels = np.where(findings.flagged, -1, 1)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for i, top in enumerate(findings.top_features):
            row = [i, repr(float(findings.score[i])), repr(float(findings.decision[i]))]
            row += [labels[i], *([findings.y[i]] if known else []), *names[top]]
            writer.writerow(row)


def _setting(detector):
    """Return what the detector and the steps before it are, with their parameters."""
    steps = [step for _, step in getattr(detector, "steps", [(None, detector)])]
    return ", then ".join(" ".join(repr(step).split()) for step in steps)


def _last_step(detector):
    return detector.steps[-1][1] if hasattr(detector, "steps") else detector


def _by_blocks(function, X, track, description):
    return np.concatenate(
        [np.asarray(function(X[rows])) for rows in _tracked(X, track, description)]
    )


def _tracked(X, track, description):
    step = max(1, _BLOCK_ELEMENTS // X.shape[1])
    slices = [slice(i, min(i + step, len(X))) for i in range(0, len(X), step)]
    return slices if track is None else track(slices, description, len(slices))
