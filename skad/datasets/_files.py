"""Tables in files: numbers with column names, and labels where there are some.

Every complaint is one line that names the file, the column and the row. Rows count
from 0, without a CSV file's header.
"""

import math
import warnings
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np

_SUFFIXES = (".csv", ".tsv", ".parquet", ".npy", ".npz")


@dataclass(frozen=True)
class Table:
    """What `read_table` found in a file.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The numbers, float32 where the whole file is, else float64.
    columns : list of str
        One name per feature.
    labels : ndarray of shape (n_samples,) or None
        The label column as it stands in the file.
    image_shape : tuple of int or None
        Height and width, where the file holds pictures.
    aside : dict of str to ndarray of shape (n_samples,)
        Columns that are no features, as they stand in the file.
    """

    X: np.ndarray
    columns: list
    labels: np.ndarray | None = None
    image_shape: tuple | None = None
    aside: dict = field(default_factory=dict)


def read_table(path, *, label_column=None, drop=(), aside=(), allow_nan=False):
    """Read a table of numbers from a CSV, TSV, Parquet, npy or npz file.

    Parameters
    ----------
    path : str or Path
        CSV and TSV files start with a line of column names. An npy file holds an array
        of shape (n, d), or (n, height, width) for pictures, of which those of dtype
        uint8 are brought from 0..255 to 0..1. An npz file holds such an array under the
        name "X", or it alone, and may hold labels under the name "y". The columns of
        arrays are called x0, x1, ...
    label_column : str or None, default=None
        Column that is no feature and holds labels; a file may lack it. In an npz file
        the name of the array of labels, "y" if None.
    drop : sequence of str, default=()
        Columns to leave out.
    aside : sequence of str, default=()
        Columns that are no features and are kept apart, of any kind.
    allow_nan : bool, default=False
        Whether values of features may be missing.

    Returns
    -------
    table : Table
        Features, their names, labels, and what was kept apart.

    Raises
    ------
    ValueError
        If the file is no such table, or a feature is not numeric, missing or infinite.
    """
    options = {"label_column": label_column, "drop": drop, "aside": aside}
    return read_tables([path], allow_nan=allow_nan, **options)[0]


def read_tables(paths, *, label_column=None, drop=(), aside=(), allow_nan=False):
    """Read several files as `read_table` does; a column to drop may be in any of them.

    Parameters
    ----------
    paths : list of str or Path
        The files.
    label_column, drop, aside, allow_nan
        See `read_table`.

    Returns
    -------
    tables : list of Table
        One per file.
    """
    contents = [(path, *_read(Path(path), label_column)) for path in paths]
    for name in drop:
        if not any(name in arrays for _, arrays, *_ in contents):
            files = " and ".join(dict.fromkeys(str(path) for path in paths))
            near = _nearest(name, {key for _, arrays, *_ in contents for key in arrays})
            raise ValueError(f"{files}: no column {name!r} to drop{near}")
    return [_table(*content, drop, aside, allow_nan) for content in contents]


def _read(path, label_column):
    """Return {column: array}, labels and image shape of a file."""
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"{path}: unknown kind of file {suffix!r}; known are {', '.join(_SUFFIXES)}"
        )
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not a file")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")
    try:
        if suffix in (".npy", ".npz"):
            arrays, labels, image_shape = _read_arrays(path, label_column)
        else:
            arrays, labels, image_shape = _read_frame(path), None, None
    except (OSError, ValueError, EOFError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: cannot be read: {_one_line(error)}") from error
    if label_column in arrays:
        labels = arrays.pop(label_column)
    return arrays, labels, image_shape


def _table(path, arrays, labels, image_shape, drop, aside, allow_nan):
    """Return what was read of a file as a Table of numbers."""
    for name in aside:
        if name not in arrays:
            raise ValueError(f"{path}: no column {name!r}{_nearest(name, arrays)}")
    dropped = [name for name in drop if name in arrays]
    kept = {name: arrays.pop(name) for name in aside}
    for name in dropped:
        arrays.pop(name, None)
    if not arrays:
        raise ValueError(f"{path}: no columns left to look at")
    n_samples = len(next(iter(arrays.values())))
    if n_samples == 0:
        raise ValueError(f"{path}: no rows")
    dtypes = {values.dtype for values in arrays.values()}
    dtype = np.float32 if dtypes == {np.dtype(np.float32)} else np.float64
    X = np.empty((n_samples, len(arrays)), dtype=dtype)
    for j, (name, values) in enumerate(arrays.items()):
        X[:, j] = _as_numbers(path, name, values, allow_nan)
    if dropped or aside:
        image_shape = None
    return Table(X, list(arrays), labels, image_shape, kept)


def _read_frame(path):
    """Return {column: array} of a CSV, TSV or Parquet file."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            f"{path}: reading this needs pandas: pip install 'skad[report]'"
        ) from error
    if path.suffix.lower() == ".parquet":
        try:
            frame = pd.read_parquet(path)
        except ImportError as error:
            raise ImportError(
                f"{path}: reading this needs pyarrow: pip install 'skad[parquet]'"
            ) from error
        frame.columns = frame.columns.astype(str)
    else:
        separator = "\t" if path.suffix.lower() == ".tsv" else ","
        try:
            with path.open(encoding="utf-8") as file:
                first = file.readline()
            if separator not in first and (";" in first or "\t" in first):
                found = "semicolons" if ";" in first else "tabs"
                raise ValueError(
                    f"{path}: {found} separate the values; save it with "
                    f"{'tabs' if separator != ',' else 'commas'}"
                )
            with warnings.catch_warnings():
                # lines longer than the first would lose their ends, or their beginnings
                # to row names
                warnings.simplefilter("error", pd.errors.ParserWarning)
                frame = pd.read_csv(
                    path, sep=separator, index_col=False, low_memory=False
                )
        except pd.errors.ParserWarning as error:
            raise ValueError(
                f"{path}: the lines hold more values than the first line names"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: is not text in UTF-8") from error
        if len(frame.columns) and all(_is_number(name) for name in frame.columns):
            raise ValueError(
                f"{path}: the first line holds numbers; put column names there"
            )
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"{path}: two columns are called {repeated[0]!r}")
    return {name: _column(frame[name]) for name in frame.columns}


def _column(series):
    """Return a frame's column as numbers where it holds some, else as objects."""
    kind = getattr(series.dtype, "kind", "O")
    if kind == "f" and series.dtype.itemsize == 4:
        return series.to_numpy(dtype=np.float32, na_value=np.nan)
    if kind in "fiub":
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    return series.to_numpy(dtype=object)


def _read_arrays(path, label_column):
    """Return {column: array}, labels and image shape of an npy or npz file."""
    labels = None
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        X = content
    else:
        with content:
            names = content.files
            label_name = "y" if label_column is None else label_column
            others = [name for name in names if name != label_name]
            if "X" not in names and len(others) != 1:
                raise ValueError(f"{path}: no array 'X' among {', '.join(names)}")
            X = content["X" if "X" in names else others[0]]
            labels = content[label_name] if label_name in names else None
    image_shape = None
    if X.ndim == 3:
        image_shape = X.shape[1:]
        X = X.reshape(len(X), -1)
        if X.dtype == np.uint8:
            X = X / np.float32(255)  # as the detectors on pictures do
    if X.ndim != 2:
        raise ValueError(
            f"{path}: the array has shape {X.shape}; (n, d) or (n, height, width) is "
            "needed"
        )
    if X.dtype.kind not in "fiub":
        raise ValueError(f"{path}: the array holds {X.dtype}, not numbers")
    if labels is not None and labels.shape != X.shape[:1]:
        raise ValueError(f"{path}: {len(X)} rows but labels of shape {labels.shape}")
    columns = {f"x{j}": X[:, j] for j in range(X.shape[1])}
    if label_column in columns:  # one column of the array is the labels
        image_shape = None
    return columns, labels, image_shape


def _as_numbers(path, name, values, allow_nan):
    """Return a column as floats, or name the first row that is none."""
    if values.dtype.kind not in "fiub":
        wrong = [row for row, value in enumerate(values) if not _is_number(value)]
        wrong += [row for row, value in enumerate(values) if isinstance(value, str)]
        if wrong:
            raise ValueError(
                f"{path}: column {name!r} is not numeric: row {wrong[0]} holds "
                f"{_one_line(values[wrong[0]])!r}; mend it, drop the column, or make "
                "it the label, time or group column"
            )
        values = values.astype(np.float64)
    values = values.astype(np.float64 if values.dtype.kind != "f" else values.dtype)
    finite = np.isfinite(values) | (np.isnan(values) if allow_nan else False)
    if not finite.all():
        row = int(np.argmin(finite))
        what = "is missing (NaN)" if np.isnan(values[row]) else "is infinite"
        raise ValueError(
            f"{path}: the value of column {name!r} in row {row} {what}; fill it in, or "
            "leave out the row or the column"
        )
    return values


def check_same_columns(train, test, train_name="train", test_name="test"):
    """Raise ValueError that names the columns which two tables do not share.

    Parameters
    ----------
    train, test : Table
        The tables.
    train_name : str, default="train"
        What the message calls the first.
    test_name : str, default="test"
        What the message calls the second.
    """
    missing = [name for name in train.columns if name not in set(test.columns)]
    extra = [name for name in test.columns if name not in set(train.columns)]
    parts = []
    if missing:
        parts.append(f"{test_name} lacks {_listed(missing)} of {train_name}")
    if extra:
        parts.append(f"{test_name} has {_listed(extra)}, which {train_name} lacks")
    if parts:
        raise ValueError("the columns differ: " + "; ".join(parts))
    for j, (ours, theirs) in enumerate(zip(train.columns, test.columns, strict=True)):
        if ours != theirs:
            raise ValueError(
                f"the columns are in another order: column {j} is {ours!r} in "
                f"{train_name} and {theirs!r} in {test_name}"
            )


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
    texts = np.array([_label_text(value) for value in values], dtype=object)
    if "" in texts:
        row = int(np.flatnonzero(texts == "")[0])
        raise ValueError(f"the label of row {row} is missing")
    found = set(texts) | {_label_text(value) for value in known} - {""}
    if anomaly_label is not None:
        anomaly_label = _label_text(anomaly_label)
        if anomaly_label not in found:
            raise ValueError(
                f"no label is {anomaly_label!r}; there are {_listed(sorted(found))}"
            )
        return np.where(texts == anomaly_label, -1, 1)
    if "-1" in found and found <= {"-1", "0", "1"}:
        return texts.astype(np.int64)
    if found <= {"0", "1"} and found != {"1"}:
        return np.where(texts == "1", -1, 1)
    raise ValueError(
        f"the labels are {_listed(sorted(found))}: say which one is the anomalies' "
        "with anomaly_label (1 and -1 are read as scikit-learn's, 0 and 1 as 1 = "
        "anomaly)"
    )


def _label_text(value):
    """Return a label as text: 1, 1.0, True and "1" are one label."""
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, str):
        value = value.strip()
        return {"True": "1", "False": "0"}.get(value, value)
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _is_number(value):
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None
    return True


def _one_line(value, limit=200):
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[:limit] + "..."


def _listed(names, limit=8):
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _nearest(name, names):
    near = get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
