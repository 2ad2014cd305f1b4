"""Columns of files as numbers, or the first row that holds none."""

import re

import numpy as np

from skad.datasets._words import one_line


def check_blank(path, columns):
    """Raise ValueError for the first row of several columns without any value."""
    blank = np.full(len(columns[0]), len(columns) > 1)
    for values in columns:
        if values.dtype.kind == "f":
            blank &= np.isnan(values)
        elif values.dtype.kind == "O":
            blank &= [v is None or v != v or v == "" for v in values.tolist()]
        else:
            return
    if blank.any():
        raise ValueError(
            f"{path}: row {int(np.argmax(blank))} is missing altogether, as where a "
            "line is blank; take it out, or fill it in"
        )


def as_numbers(path, name, values, allow_nan):
    """Return a column as floats, or name the first row that is none."""
    if values.dtype.kind not in "fiub":
        wrong = [row for row, value in enumerate(values) if not _is_number(value)]
        wrong += [row for row, value in enumerate(values) if isinstance(value, str)]
        if wrong:
            raise ValueError(
                f"{path}: column {name!r} is not numeric: row {wrong[0]} holds "
                f"{one_line(values[wrong[0]])!r}; mend it, drop the column, or make "
                f"it the label, time or group column{_beside(values[wrong[0]])}"
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


def _beside(value):
    """Return what may be done with a time of day, or a date, beside the other."""
    if re.fullmatch(r"\d{1,4}([-./:]\d{1,4}){1,2}(\.\d+)?", str(value).strip()):
        return " (a date and a time of day in two columns are both time columns)"
    return ""


def _is_number(value):
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None
    return True
