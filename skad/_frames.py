"""Columns of frames that hold no numbers: what is said of them, and their texts.

Any object with `columns` and `dtypes` is a frame, as those of pandas and polars are.
"""

import datetime
import re
import reprlib

import numpy as np

# Kinds of dtypes that hold numbers; complex ones have their own error.
_NUMBERS = frozenset("biufc")
_NAMED = 8  # columns that a message names
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def refuse_times(X):
    """Raise for times, which are made numbers silently where there is nothing else."""
    if getattr(getattr(X, "dtype", None), "kind", "") in ("M", "m"):
        raise ValueError(
            f"X has {X.dtype}, times, where numbers are needed: write what of them "
            "matters as numbers, such as X.astype('int64') or the hour of the day."
        )
    if any(_is_temporal(dtype) for dtype in _dtypes(X)):
        raise ValueError(words_of_columns(X))


def words_of_columns(X):
    """Return what to say of the columns of a frame without numbers, "" if none is."""
    wrong = {X.columns[j]: what for j, what in columns_without_numbers(X).items()}
    if not wrong:
        return ""
    names, texts = list(wrong)[:_NAMED], [v for v in wrong.values() if v is not None]
    words = [f"{name!r} ({_as_example(wrong[name])})" for name in names]
    if len(wrong) > _NAMED:
        words.append(f"{len(wrong) - _NAMED} more")
    advice = []
    if any(_DECIMAL_COMMA.fullmatch(str(text)) for text in texts):
        advice.append("numbers with a decimal comma are read by decimal=','")
    if texts:
        advice.append(
            "categories are encoded by a ColumnTransformer with OneHotEncoder, or "
            "taken as they come by skad.ContingencyTables"
        )
    if len(texts) < len(wrong):
        advice.append("of times write what matters as numbers, such as dt.hour")
    keyword = "columns=" if hasattr(X, "iloc") else ""
    return (
        f"X has columns that could not be converted to numbers: {', '.join(words)}: "
        f"{'; '.join(advice)}; X.drop({keyword}{names!r}) leaves them out."
    )


def columns_without_numbers(X):
    """Return {index: example} of the columns of a frame that hold no numbers.

    The example is None where they hold times. What is no frame has no such columns.
    """
    wrong = {}
    for j, dtype in enumerate(_dtypes(X)):
        if _is_temporal(dtype):
            wrong[j] = None
        elif not _is_numeric(dtype):
            values = np.asarray(_column(X, j), dtype=object)
            other = next((value for value in values if not _is_number(value)), None)
            if other is not None:
                wrong[j] = None if _is_time(other) else other
    return wrong


def texts_of(X, j):
    """Return a column of a frame as texts (n,), "" for a missing value."""
    column = _column(X, j)
    missing = column.isna() if hasattr(column, "isna") else column.is_null()
    texts = np.array([str(value) for value in column], dtype=object)
    texts[np.asarray(missing, dtype=bool)] = ""
    return texts


def with_columns(X, columns):
    """Return a frame with other columns, {index: values (n,)}, in place of its own."""
    if hasattr(X, "iloc"):
        X = X.copy(deep=False)
        for j, values in columns.items():
            X.isetitem(j, values)
        return X
    return X.with_columns(
        **{X.columns[j]: type(_column(X, j))(v) for j, v in columns.items()}
    )


def _dtypes(X):
    """Return the dtypes of the columns of a frame; none where `X` is no frame."""
    names, dtypes = getattr(X, "columns", None), getattr(X, "dtypes", None)
    if names is None or dtypes is None or len(names) != len(dtypes):
        return []
    return list(dtypes)


def _column(X, j):
    return X.iloc[:, j] if hasattr(X, "iloc") else X[:, j]


def _is_numeric(dtype):
    """Tell whether a dtype of NumPy, pandas or polars is one of numbers or truths."""
    of_polars = getattr(dtype, "is_numeric", None)
    if callable(of_polars):
        return of_polars() or str(dtype) == "Boolean"
    return getattr(dtype, "kind", "") in _NUMBERS


def _is_temporal(dtype):
    """Tell whether a dtype of NumPy, pandas or polars is one of times."""
    of_polars = getattr(dtype, "is_temporal", None)
    if callable(of_polars):
        return of_polars()
    is_period = type(dtype).__name__ == "PeriodDtype"
    return is_period or getattr(dtype, "kind", "") in ("M", "m")


def _is_time(value):
    return isinstance(value, datetime.date | datetime.timedelta | datetime.time)


def _is_number(value):
    """Tell whether a value of a frame becomes a float, or is missing, as pandas' NA."""
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None or type(value).__name__ in ("NAType", "NaTType")
    return True


def _as_example(value):
    return "times" if value is None else f"such as {reprlib.repr(value)}"
