"""What columns and options of tables say: times, labels, and the shape of pictures."""

import numpy as np

from skad import datasets
from skad._names import did_you_mean
from skad._times import TimeError, read_times, settled_day_first, time_texts
from skad.datasets._words import shown

_MIDNIGHT = " 00:00:00"


def times(columns, groups, names, column, *, day_first=None, time_format=None):
    """Return the times of several files, each checked to be in order.

    Parameters
    ----------
    columns : list of ndarray or None
        The column of each file, as the file has it.
    groups : list of ndarray or None
        Which series each row belongs to.
    names : list of str
        What the files are called.
    column : str
        What the column is called.
    day_first, time_format
        See `skad._times.read_times`. What one row settles settles all files.

    Returns
    -------
    times : list of Times or None
    """
    if columns[0] is None:
        return [None] * len(columns)
    if day_first is None and time_format is None:
        day_first = settled_day_first(*columns)
    found = []
    for values, own, name in zip(columns, groups, names, strict=True):
        try:
            read = read_times(values, day_first=day_first, time_format=time_format)
        except TimeError as error:
            raise ValueError(f"{shown(name)}: column {column!r} {error}") from error
        _check_order(read.values, own, name, column)
        found.append(read)
    return found


def time_values(table, reading):
    """Return the times of a table as they stand there, or None where none are named.

    Of several columns, such as the date and the time of day, a row's text is joined.
    """
    columns = [table.aside[name] for name in reading.time_column]
    if len(columns) < 2:
        return columns[0] if columns else None
    parts = [time_texts(np.asarray(values)) for values in columns]
    if all(text.endswith(_MIDNIGHT) for text in parts[0]):  # dates of a database
        parts[0] = [text.removesuffix(_MIDNIGHT) for text in parts[0]]
    rows = [" ".join(row) if all(row) else "" for row in zip(*parts, strict=True)]
    return np.array(rows, dtype=object)


def _check_order(values, groups, name, column):
    order = np.arange(len(values))
    if groups is not None:
        order = np.argsort(np.unique(groups, return_inverse=True)[1], kind="stable")
    back = values[order][1:] < values[order][:-1]
    if groups is not None:
        back &= groups[order][1:] == groups[order][:-1]
    if back.any():
        row = int(order[1:][np.argmax(back)])
        raise ValueError(
            f"{shown(name)}: column {column!r} goes back in row {row}; rows have to be "
            "in the order of time"
        )


def texts(values, column, file, *, optional=False):
    """Return a column of names as text, so that 007 is not 7 and no digit is lost."""
    if values is None:
        return None
    found = time_texts(np.asarray(values))
    lacking = [text.lower() in ("", "nan", "none", "<na>", "nat") for text in found]
    if values.dtype.kind == "O":  # text of a file may say None and mean it
        lacking = [value is None or str(value).strip() == "" for value in values]
    if any(lacking) and not optional:
        row = lacking.index(True)
        raise ValueError(f"{shown(file)}: column {column!r} in row {row} is missing")
    return found


def labels(train, test, test_name, reading, *, known=()):
    """Return labels of the training rows and of the test rows, or None.

    Parameters
    ----------
    train : Table or None
        None where a model has learned before; then `known` are the labels of its rows.
    test : Table
        What is looked at; all of it has to be labelled where the file has labels.
    test_name : str
        What its file is called.
    reading : Reading
        `label_column` and `anomaly_label` say what labels are.
    known : sequence, default=()
        Labels that say what others mean.

    Returns
    -------
    y_train, y_test : ndarray or None
    """
    if test.labels is None:
        _check_labelled(test, test_name, reading)
        return None, None
    anomaly_label = reading.anomaly_label
    seen = () if train is None or train.labels is None else train.labels
    if train is None:  # none of the new rows need be an anomaly
        seen = [*known, *([] if anomaly_label is None else [anomaly_label])]
    y_test = datasets.anomaly_labels(
        test.labels, anomaly_label=anomaly_label, known=seen
    )
    if not y_test.all():
        raise ValueError(
            f"{shown(test_name)}: row {int(np.argmin(abs(y_test)))} is unlabelled"
        )
    if train is None or train.labels is None:
        return None, y_test
    y_train = datasets.anomaly_labels(
        seen, anomaly_label=anomaly_label, known=test.labels
    )
    return y_train, y_test


def training_labels(train, train_name, reading):
    """Return labels of training rows, some of which may be unlabelled, or None."""
    if train.labels is None:
        _check_labelled(train, train_name, reading)
        return None
    # none of them need be an anomaly
    known = [] if reading.anomaly_label is None else [reading.anomaly_label]
    return datasets.anomaly_labels(
        train.labels, anomaly_label=reading.anomaly_label, known=known
    )


def _check_labelled(table, name, reading):
    """Raise ValueError where a file without labels is said to have some."""
    if reading.label_column is not None:
        hint = did_you_mean(reading.label_column, table.columns)
        raise ValueError(
            f"{shown(name)}: no label column {reading.label_column!r}{hint}"
        )
    if reading.anomaly_label is not None:
        raise ValueError("--anomaly-label needs --label-column")


def checked_shape(image_shape, n_features):
    """Return the shape of pictures in rows, checked to have as many pixels."""
    if image_shape is not None and np.prod(image_shape) != n_features:
        height, width = image_shape
        raise ValueError(
            f"--image-shape {height},{width} means {height * width} columns, "
            f"but there are {n_features}"
        )
    return image_shape
