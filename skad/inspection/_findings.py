"""What every kind of findings has: scores, the threshold, and how good they are.

`RowFindings`, `PictureFindings` and `SeriesFindings` add what their data have; the page
and the table of scores are made from what stands here.
"""

import csv
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, roc_auc_score

from skad._paths import as_path

__all__ = ["Findings", "detection_metrics", "top_columns", "write_scores"]


@dataclass(frozen=True, kw_only=True)
class Findings(ABC):
    """What a fitted detector says about data; the base of every kind of findings.

    Parameters
    ----------
    title : str
        What the data are called.
    name : str
        What the detector is called.
    setting : str
        The detector with its parameters.
    n_train : int
        Number of training samples.
    train_decision : ndarray of shape (m,)
        Decision function of the training samples that the threshold was taken from, as
        new ones are scored where it is to hold for these; of some spread evenly if
        there are many.
    threshold : float
        The score below which a sample is an anomaly.
    meaning : str, default=""
        What the threshold promises, and what it was taken from.
    as_new : bool, default=False
        Whether `train_decision` is that of samples as if they had not been seen.
    score : ndarray of shape (n,)
        Higher is more normal.
    decision : ndarray of shape (n,)
        Below 0 is an anomaly.
    y : ndarray of shape (n,) or None, default=None
        1 normal, -1 anomaly, where it is known.
    shown : ndarray of shape (s,)
        The samples that the page shows, most anomalous first.
    fit_seconds, score_seconds : float
        How long `fit` and scoring took.
    ids : ndarray of shape (n,) or None, default=None
        What the samples are called, where they have names.
    id_name : str, default="id"
        What these names are called.
    metrics : dict of str to float, default={}
        How good the scores are, where it is known.
    held_out : int, default=0
        How many normal samples were held out and gave the threshold; `train_decision`
        is theirs then.
    """

    unit: ClassVar[str] = "row"  # what a sample is called
    scored: ClassVar[str] = "score and map"  # what `score_seconds` were spent on

    title: str
    name: str
    setting: str
    n_train: int
    train_decision: np.ndarray
    threshold: float
    score: np.ndarray
    decision: np.ndarray
    y: np.ndarray | None = None
    shown: np.ndarray
    fit_seconds: float
    score_seconds: float
    metrics: dict = field(default_factory=dict)
    held_out: int = 0
    meaning: str = ""
    as_new: bool = False
    ids: np.ndarray | None = None
    id_name: str = "id"

    @property
    def flagged(self):
        """The samples that are anomalies to the detector, of shape (n,)."""
        return self.decision < 0

    def identity(self):
        """Return {column: values} of what tells samples apart in the table."""
        return {} if self.ids is None else {self.id_name: self.ids}

    @abstractmethod
    def places(self):
        """Return {column: values} of where samples are anomalous."""


def write_scores(path, findings):
    """Write a CSV file with one line per sample.

    Parameters
    ----------
    path : str or Path
        The file.
    findings : Findings
        What was found. The columns are the row (from 0), what else identifies it (the
        file of a picture, time and group of a time step), its score (higher is more
        normal), its decision (below 0 is an anomaly), the label that follows (1 or
        -1), the true label where it is known, and where the row is most anomalous. A
        time or group that is called as one of these has "(data)" behind its name.
    """
    own = {
        "row": range(len(findings.score)),
        "score": findings.score.tolist(),  # floats of Python, written in full
        "decision": findings.decision.tolist(),
        "label": np.where(findings.flagged, -1, 1),
        **({} if findings.y is None else {"true_label": findings.y}),
        **findings.places(),
    }
    identity = {apart(k, own): v for k, v in findings.identity().items()}
    columns = {"row": own.pop("row"), **identity, **own}
    with open_text(path) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def apart(name, taken):
    """Return what a column of the data is called beside those of a table."""
    return f"{name} (data)" if name in taken else name


def open_text(path):
    """Open a file to write text in UTF-8, where what is none is written as escapes."""
    return open(
        as_path(path), "w", newline="", encoding="utf-8", errors="backslashreplace"
    )


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


def named_columns(kind, names, top):
    """Return {"kind_1": names, ...} of the columns `top` of shape (n, k)."""
    named = np.asarray(names, dtype=object)[top]
    return {f"{kind}_{k + 1}": named[:, k] for k in range(top.shape[1])}


def timed(function, *arguments, **options):
    """Return what a function returns, and the seconds it took."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return result, time.perf_counter() - start


def description(detector):
    """Return what the detector and the steps before it are, with their parameters."""
    steps = [step for _, step in getattr(detector, "steps", [(None, detector)])]
    steps = [s.estimator if isinstance(s, FrozenEstimator) else s for s in steps]
    return ", then ".join(" ".join(repr(step).split()) for step in steps)


def tracked(parts, track, task):
    """Pass parts through `track`, where there is one, to show progress."""
    return parts if track is None else track(parts, task, len(parts))
