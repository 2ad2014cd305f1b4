"""Tables in files: numbers with column names, and labels where there are some.

Every complaint is one line that names the file, the column and the row. Rows count
from 0, without a CSV file's header.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skad._names import did_you_mean
from skad._needed import need
from skad._paths import as_path
from skad.datasets._numbers import as_numbers, check_blank
from skad.datasets._text import read_text
from skad.datasets._words import listed, note, one_line, shown

__all__ = ["Table", "check_same_columns", "read_table"]

_TEXT = (".csv", ".tsv", ".txt")
_SUFFIXES = (*_TEXT, ".parquet", ".npy", ".npz")


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


def read_table(
    path,
    *,
    label_column=None,
    drop=(),
    aside=(),
    allow_nan=False,
    sep=None,
    decimal=None,
    encoding=None,
    header=None,
):
    """Read a table of numbers from a CSV, TSV, Parquet, npy or npz file.

    Parameters
    ----------
    path : str or Path
        CSV and TSV files (.csv, .tsv, .txt, and these with .gz behind) start with a
        line of column names, unless `header` says otherwise; lines in front of it that
        begin with # are comments. An npy file holds an array
        of shape (n, d), or (n, height, width) for pictures, of which those of dtype
        uint8 are brought from 0..255 to 0..1. An npz file holds such an array under the
        name "X", or it alone, and may hold labels under the name "y". Columns
        without names are called x0, x1, ...
    label_column : str or None, default=None
        Column that is no feature and holds labels; a file may lack it. In an npz file
        the name of the array of labels, "y" if None.
    drop : sequence of str, default=()
        Columns to leave out.
    aside : sequence of str, default=()
        Columns that are no features and are kept apart, of any kind; of a text file as
        the text that stands there.
    allow_nan : bool, default=False
        Whether values of features may be missing. A blank line is a row of missing
        values, but for those at the end of a file of several columns.
    sep : str or None, default=None
        What separates the values of a line. None takes what separates every line into
        as many values: a comma, a semicolon, a tab, a bar or blanks.
    decimal : {".", ","} or None, default=None
        What decimals stand behind. None takes what the values say.
    encoding : str or None, default=None
        The encoding of text. None reads UTF-8, with a mark of the byte order also
        UTF-16, and what is neither as cp1252, with a warning.
    header : bool or None, default=None
        Whether the first line holds names. None takes it for names, and refuses a file
        whose first line looks like values: True or False says what it is.

    Returns
    -------
    table : Table
        Features, their names, labels, and what was kept apart.

    Raises
    ------
    ValueError
        If the file is no such table, or a feature is not numeric, missing or infinite.

    Notes
    -----
    It warns where a column without a name that counts the rows is left out, and where
    text is not in UTF-8.
    """
    options = {"label_column": label_column, "drop": drop, "aside": aside}
    options |= {"sep": sep, "decimal": decimal, "encoding": encoding, "header": header}
    return read_tables([path], allow_nan=allow_nan, **options)[0]


def read_tables(
    paths,
    *,
    label_column=None,
    drop=(),
    aside=(),
    allow_nan=False,
    columns=None,
    **of_text,
):
    """Read several files as `read_table` does; a column to drop may be in any of them.

    Parameters
    ----------
    paths : list of str or Path
        The files.
    label_column, drop, aside, allow_nan
        See `read_table`.
    columns : list of str or None, default=None
        The features in their order, where a model says which they are: one that a file
        lacks is an error, and others are left out, with a warning but of `drop`.
    **of_text : dict
        `sep`, `decimal`, `encoding` and `header`.

    Returns
    -------
    tables : list of Table
        One per file.
    """
    aside = list(dict.fromkeys(aside))
    options = [*drop, *aside, label_column]
    contents = [
        (path, *_read(as_path(path), label_column, options, of_text)) for path in paths
    ]
    for name in drop if columns is None else ():
        if not any(name in arrays for _, arrays, *_ in contents):
            files = " and ".join(dict.fromkeys(shown(path) for path in paths))
            known = {key for _, arrays, *_ in contents for key in arrays}
            raise ValueError(
                f"{files}: no column {name!r} to drop{did_you_mean(name, known)}"
            )
    index = _index_column(contents, options) if columns is None else None
    if index is not None:
        for _, arrays, *_ in contents:
            del arrays[index]
        note(
            f"{' and '.join(dict.fromkeys(shown(path) for path in paths))}: column "
            f"{index!r} has no name of its own and counts the rows; it is left out"
        )
    return [
        _table(*content[:4], drop, aside, allow_nan, columns) for content in contents
    ]


def _read(path, label_column, options, of_text):
    """Return {column: array}, labels, image shape and whether columns have names."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"] and suffixes[-2:-1] and suffixes[-2] in _TEXT
    suffix = suffixes[-2] if packed else path.suffix.lower()
    name = shown(path)
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"{name}: unknown kind of file {suffix!r}; known are {', '.join(_SUFFIXES)}"
            " (text also with .gz behind)"
        )
    if path.is_dir():
        raise IsADirectoryError(f"{name}: is a folder, not a file")
    if not path.exists():
        raise FileNotFoundError(f"{name}: no such file")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{name}: the file is empty")
    labels, image_shape, named = None, None, True
    try:
        if suffix in (".npy", ".npz"):
            arrays, labels, image_shape = _read_arrays(path, label_column)
        elif suffix == ".parquet":
            arrays = _read_parquet(path, options)
        else:
            _need_pandas(path)
            arrays, named = read_text(path, as_text=options, **of_text)
    except (OSError, ValueError, EOFError) as error:
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: cannot be read: {one_line(error)}") from error
    if label_column in arrays:
        labels = arrays.pop(label_column)
    return arrays, labels, image_shape, named


def _index_column(contents, options):
    """Return the name of a first column that has none and counts the rows, or None.

    Frames write their index so. It is one in all files, or it is a feature.
    """
    first = {next(iter(arrays), None) for _, arrays, *_ in contents}
    if len(first) != 1 or contents[0][3] is not None:
        return None
    [name] = first
    if name is None or name in options or any(len(a) < 2 for _, a, *_ in contents):
        return None
    named = [has_names for *_, has_names in contents]
    if not all(named) and any(named):
        return None
    columns = [arrays[name] for _, arrays, *_ in contents]
    if any(values.dtype.kind not in "fiu" for values in columns):
        return None
    whole = all((values == np.rint(values)).all() for values in columns)
    if all(named):
        if not name.startswith("Unnamed: 0"):
            return None
        # rows of a frame that were chosen or shuffled keep their numbers
        if whole and all(len(np.unique(v)) == len(v) for v in columns):
            return name
        note(f"column {name!r} has no name of its own and is taken for a feature")
        return None
    counting = all((np.diff(values) == 1).all() for values in columns)
    from_zero = any(values[0] == 0 and len(values) > 2 for values in columns)
    is_text = any(Path(path).suffix.lower() in (*_TEXT, ".gz") for path, *_ in contents)
    return name if is_text and whole and counting and from_zero else None


def _table(path, arrays, labels, image_shape, drop, aside, allow_nan, columns):
    """Return what was read of a file as a Table of numbers."""
    path = shown(path)
    for name in aside:
        if name not in arrays:
            raise ValueError(f"{path}: no column {name!r}{did_you_mean(name, arrays)}")
    dropped = [name for name in drop if name in arrays]
    kept = {name: arrays.pop(name) for name in aside}
    for name in dropped:
        arrays.pop(name, None)
    if columns is not None:
        arrays = _in_order(path, arrays, columns)
    if not arrays:
        raise ValueError(f"{path}: no columns left to look at")
    n_samples = len(next(iter(arrays.values())))
    if n_samples == 0:
        raise ValueError(f"{path}: no rows")
    if not allow_nan:
        check_blank(path, [*arrays.values(), *kept.values()])
    dtypes = {values.dtype for values in arrays.values()}
    dtype = np.float32 if dtypes == {np.dtype(np.float32)} else np.float64
    X = np.empty((n_samples, len(arrays)), dtype=dtype)
    for j, (name, values) in enumerate(arrays.items()):
        X[:, j] = as_numbers(path, name, values, allow_nan)
    if dropped or aside:
        image_shape = None
    return Table(X, list(arrays), labels, image_shape, kept)


def _in_order(path, arrays, columns):
    """Return the columns that a model has learned, in its order."""
    missing = [name for name in columns if name not in arrays]
    extra = [name for name in arrays if name not in set(columns)]
    if missing:
        spare = f"; what it has besides is {listed(extra)}" if extra else ""
        raise ValueError(
            f"{path}: lacks {listed(missing)}, which the model has learned from{spare}"
        )
    if extra:
        note(f"{path}: {listed(extra)} left out, which the model has not learned from")
    return {name: arrays[name] for name in columns}


def _need_pandas(path):
    return need("pandas", f"{shown(path)}: reading this")


def _read_parquet(path, options):
    """Return {column: array} of a Parquet file; those in options as they are."""
    pd = _need_pandas(path)
    try:
        frame = pd.read_parquet(path)
    except ImportError:  # pandas reads with other packages, too
        need("pyarrow", f"{shown(path)}: reading this")
        raise
    frame.columns = frame.columns.astype(str)
    # a frame's index is no feature, but may hold the time or the like
    for level in [name for name in frame.index.names if name in options]:
        if level is not None and level not in frame.columns:
            frame = frame.reset_index(level=level)
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise ValueError(f"{shown(path)}: two columns are called {repeated[0]!r}")
    return {
        name: _as_it_is(frame[name]) if name in options else _column(frame[name])
        for name in frame.columns
    }


def _as_it_is(series):
    """Return a frame's column without making floats of whole numbers."""
    if isinstance(series.dtype, np.dtype):
        return series.to_numpy()
    return np.array(
        [
            None if missing else value
            for value, missing in zip(series, series.isna(), strict=True)
        ],
        dtype=object,
    )


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
    labels, name = None, shown(path)
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        X = content
    else:
        with content:
            names = content.files
            label_name = "y" if label_column is None else label_column
            others = [name for name in names if name != label_name]
            if "X" not in names and len(others) != 1:
                raise ValueError(f"{name}: no array 'X' among {', '.join(names)}")
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
            f"{name}: the array has shape {X.shape}; (n, d) or (n, height, width) is "
            "needed"
        )
    if X.dtype.kind not in "fiub":
        raise ValueError(f"{name}: the array holds {X.dtype}, not numbers")
    if labels is not None and labels.shape != X.shape[:1]:
        raise ValueError(f"{name}: {len(X)} rows but labels of shape {labels.shape}")
    columns = {f"x{j}": X[:, j] for j in range(X.shape[1])}
    if label_column in columns:  # one column of the array is the labels
        image_shape = None
    return columns, labels, image_shape


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
        parts.append(f"{test_name} lacks {listed(missing)} of {train_name}")
    if extra:
        parts.append(f"{test_name} has {listed(extra)}, which {train_name} lacks")
    if parts:
        raise ValueError("the columns differ: " + "; ".join(parts))
    for j, (ours, theirs) in enumerate(zip(train.columns, test.columns, strict=True)):
        if ours != theirs:
            raise ValueError(
                f"the columns are in another order: column {j} is {ours!r} in "
                f"{train_name} and {theirs!r} in {test_name}"
            )
