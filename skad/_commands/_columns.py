"""What columns and options of tables say: times, labels, and the shape of pictures."""

from difflib import get_close_matches

import numpy as np

from skad import datasets


def times(values, groups, column, file):
    """Return a column of times as numbers or dates, checked to be in order."""
    if values is None:
        return None
    if values.dtype.kind not in "fiuM":
        import pandas as pd

        try:
            values = pd.to_datetime(values).to_numpy()
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{file}: column {column!r} holds neither numbers nor dates: "
                f"{str(error).partition('. You might')[0]}"
            ) from error
    if values.dtype.kind == "M":
        values = values.astype("datetime64[ns]")
    missing = np.isnat(values) if values.dtype.kind == "M" else np.isnan(values)
    if missing.any():
        raise ValueError(
            f"{file}: column {column!r} in row {int(np.argmax(missing))} is missing"
        )
    order = np.arange(len(values))
    if groups is not None:
        order = np.argsort(np.unique(groups, return_inverse=True)[1], kind="stable")
    back = values[order][1:] < values[order][:-1]
    if groups is not None:
        back &= groups[order][1:] == groups[order][:-1]
    if back.any():
        row = int(order[1:][np.argmax(back)])
        raise ValueError(
            f"{file}: column {column!r} goes back in row {row}; rows have to be in the "
            "order of time"
        )
    return values


def labels(train, test, test_name, label_column, anomaly_label):
    """Return labels of the training rows and of the test rows, or None."""
    if test.labels is None:
        if label_column is not None:
            near = get_close_matches(label_column, test.columns, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{test_name}: no label column {label_column!r}{hint}")
        if anomaly_label is not None:
            raise ValueError("--anomaly-label needs --label-column")
        return None, None
    seen = () if train.labels is None else train.labels
    y_test = datasets.anomaly_labels(
        test.labels, anomaly_label=anomaly_label, known=seen
    )
    if not y_test.all():
        raise ValueError(
            f"{test_name}: row {int(np.argmin(abs(y_test)))} is unlabelled"
        )
    if train.labels is None:
        return None, y_test
    y_train = datasets.anomaly_labels(
        seen, anomaly_label=anomaly_label, known=test.labels
    )
    return y_train, y_test


def checked_shape(image_shape, n_features):
    """Return the shape of pictures in rows, checked to have as many pixels."""
    if image_shape is not None and np.prod(image_shape) != n_features:
        height, width = image_shape
        raise ValueError(
            f"--image-shape {height},{width} means {height * width} columns, "
            f"but there are {n_features}"
        )
    return image_shape
