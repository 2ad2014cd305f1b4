"""Labels as files have them, and as scikit-learn writes them."""

import math
import re

import numpy as np

from skad.datasets._words import listed

_CODE = re.compile(r"[+-]?\d+\.0*|[+-]?[01]")  # 1.0 is 1, but 007 is not 7


def anomaly_labels(values, *, anomaly_label=None, known=()):
    """Return labels as scikit-learn writes them: 1 normal, -1 an anomaly.

    Parameters
    ----------
    values : array-like of shape (n_samples,)
        Labels as they stand in a file.
    anomaly_label : str or None, default=None
        The value that means an anomaly; every other value is normal. None reads the
        two usual codes: 1 and -1, where -1 is an anomaly and 0 is unlabelled; and 0 and
        1 (or False and True), where 1 is an anomaly.
    known : array-like, default=()
        Further labels in the same code, which may decide which code it is.

    Returns
    -------
    y : ndarray of shape (n_samples,), int64
        1 normal, -1 an anomaly, 0 unlabelled.

    Examples
    --------
    >>> from skad.datasets import anomaly_labels
    >>> anomaly_labels([0, 0, 1])
    array([ 1,  1, -1])
    >>> anomaly_labels(["ok", "ok", "broken"], anomaly_label="broken")
    array([ 1,  1, -1])
    """
    texts = np.array([label_text(value) for value in values], dtype=object)
    if "" in texts:
        row = int(np.flatnonzero(texts == "")[0])
        raise ValueError(f"the label of row {row} is missing")
    found = set(texts) | {label_text(value) for value in known} - {""}
    if anomaly_label is not None:
        anomaly_label = label_text(anomaly_label)
        if anomaly_label not in found:
            raise ValueError(
                f"no label is {anomaly_label!r}; there are {listed(sorted(found))}"
            )
        return np.where(texts == anomaly_label, -1, 1)
    if "-1" in found and found <= {"-1", "0", "1"}:
        return texts.astype(np.int64)
    if found <= {"0", "1"} and found != {"1"}:
        return np.where(texts == "1", -1, 1)
    raise ValueError(
        f"the labels are {listed(sorted(found))}: say which one is the anomalies' "
        "with anomaly_label (1 and -1 are read as scikit-learn's, 0 and 1 as 1 = "
        "anomaly)"
    )


def label_text(value):
    """Return a label as text: 1, 1.0, True and "1" are one label."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, str):
        value = value.strip()
        if _CODE.fullmatch(value):
            return str(int(float(value)))
        return {"true": "1", "false": "0", "nan": ""}.get(value.lower(), value)
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
