"""Columns of files as numbers, or the first row that holds none."""

import re

import numpy as np

from skad._time_stamps import read_stamp
from skad.datasets._cells import tidy
from skad.datasets._words import one_line

# A date, or a time of day.
_PART_OF_TIME = re.compile(r"\d{1,4}([-./:]\d{1,4}){1,2}(\.\d+)?")
# Such as 12.5%, $1,200.00 and 20 kPa.
_NUMBER = r"[+-]?\d[\d.,']*"
_UNIT = re.compile(rf"[$€£¥] ?{_NUMBER}|{_NUMBER}( ?[%‰°$€£¥][CFK]?| [^\d\s]{{1,5}})")


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
        wrong = wrong or [row for row, v in enumerate(values) if isinstance(v, str)]
        if wrong:
            raise ValueError(
                f"{path}: column {name!r} is not numeric: row {wrong[0]} holds "
                f"{one_line(values[wrong[0]])!r}{_advice(name, values, wrong)}"
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


def _advice(name, values, wrong):
    """Return what may be done with a column by what it holds in its `wrong` rows."""
    text = tidy(str(values[wrong[0]]))
    leave = f"drop=[{name!r}] leaves the column out"
    if read_stamp(text)[0] is not None:
        both = ""
        if _PART_OF_TIME.fullmatch(text):
            both = " (a date and a time of day in two columns are both time columns)"
        return f", a time; aside=[{name!r}] keeps them apart{both}, {leave}"
    if _UNIT.fullmatch(text):
        return f", a number and its unit; write the number alone; {leave}"
    if wrong == [0] and len(values) > 1:
        return f" and no other does; take that line out where it holds units; {leave}"
    if len(wrong) < len(values) / 2:
        return f"; mend it, or leave the cell empty where it is missing; {leave}"
    return (
        f"; {leave}, label_column={name!r} takes it for labels, and aside=[{name!r}] "
        "for names"
    )


def _is_number(value):
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None
    return True
