"""What the cells of a text file show: separator, names, numbers and their decimals."""

import csv
import re

import numpy as np

from skad._time_stamps import read_stamp
from skad.datasets._words import note, one_line, shown

# What stands for a missing number; label, group, time and id columns keep such words.
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"),
    *("1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
BLANKS = " \t\u00a0\u202f"
_POINT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?(\d+(,\d*)?|,\d+)([eE][+-]?\d+)?")
# numbers with their thousands apart
_POINT_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}([,'\u00a0\u202f ]\d{3})+(\.\d*)?")
_COMMA_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}([.'\u00a0\u202f ]\d{3})+(,\d*)?")


def tidy(cell):
    """Return a cell without blanks around it, and its minus as ASCII has it."""
    return cell.strip(BLANKS).replace("\u2212", "-")


def records(lines, sep):
    if sep == " ":
        return [line.split() for line in lines]
    return [
        record
        for record in csv.reader(lines, delimiter=sep, skipinitialspace=True)
        if record
    ]


def separator(lines, suffixes):
    """Return the separator that gives every line as many cells, most of them values."""
    likely = "\t" if ".tsv" in [suffix.lower() for suffix in suffixes] else ","
    best, most = None, None
    for sep in dict.fromkeys([likely, ",", ";", "\t", "|", " "]):
        try:
            rows = records(lines, sep)
        except csv.Error:
            continue
        widths = {len(row) for row in rows}
        if len(widths) != 1 or widths == {1}:
            continue
        cells = [tidy(cell) for row in rows[1:30] for cell in row[:50]]
        values = sum(_is_value(cell, sep) for cell in cells)
        if sep == " " and values < len(cells):
            continue  # blanks within text are no separators
        merit = (values / max(1, len(cells)), widths.pop())
        if most is None or merit > most:
            best, most = sep, merit
    if best is not None:
        return best
    # no separator goes through: one column, or lines that are broken
    first, rest = lines[0], lines[1:]
    commas = [_COMMA.fullmatch(tidy(line.strip("\r\n"))) for line in rest]
    if likely not in first and rest and all(commas):
        return ";"
    found = max(",;\t|", key=lambda sep: (first.count(sep), sep == likely))
    return found if found in first else likely


def _is_value(cell, sep):
    """Tell whether a cell is a number, a time, or missing."""
    if cell in MISSING or _POINT.fullmatch(cell):
        return True
    return (sep != "," and bool(_COMMA.fullmatch(cell))) or _is_time(cell)


def _is_time(cell):
    return read_stamp(cell)[0] is not None


def _kind(cell):
    cell = tidy(cell)
    if cell in MISSING:
        return "missing"
    if (
        _POINT.fullmatch(cell)
        or _COMMA.fullmatch(cell)
        or _POINT_GROUPS.fullmatch(cell)
    ):
        return "number"
    if cell.lower().lstrip("+-") in ("inf", "infinity"):
        return "number"
    return "time" if _is_time(cell) else "text"


def has_values(cells):
    """Tell whether one of the cells holds a number or a time."""
    return any(_kind(cell) in ("number", "time") for cell in cells)


def check_names(path, rows):
    """Raise ValueError where the first record may hold values instead of names."""
    first, rest = rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]
    kinds = [_kind(cell) for cell in first]
    columns = list(zip(*rest, strict=True)) or [()] * len(first)
    below = [{_kind(c) for c in cells[:20]} - {"missing"} for cells in columns]
    values = [kind in ("number", "time") for kind in kinds]
    # text over numbers is a name; text that comes again is a value
    name = [
        kind == "text" and bool(under) and "text" not in under
        for kind, under in zip(kinds, below, strict=True)
    ]
    again = [
        kind == "text" and "text" in under and cell in cells
        for kind, under, cell, cells in zip(kinds, below, first, columns, strict=True)
    ]
    whole = [
        int(cell)
        for cell, kind in zip(first, kinds, strict=True)
        if kind == "number" and re.fullmatch(r"\s*\d+\s*", cell)
    ]
    numbers = [kind == "number" for kind in kinds]
    # whole numbers over none are how frames name columns that have no names
    apart = len(whole) == sum(numbers) > 0 and not any(
        re.fullmatch(r"\s*[+-]?\d+\s*", cell)
        for cells, number in zip(columns, numbers, strict=True)
        if number
        for cell in cells
    )
    if not any(values) and (any(name) or not any(again)):
        return
    if any(name):
        if len(set(whole)) == sum(values):  # names of which some are whole numbers
            return
    elif first[0].strip() == "" and whole == list(range(len(first) - 1)):
        return  # a frame with its index
    elif rest and apart and len(whole) > 1 and whole == list(range(len(whole))):
        note(
            f"{shown(path)}: the first line, 0 to {whole[-1]}, is taken for names; "
            "header=False keeps it as a row"
        )
        return
    what = "numbers" if any(numbers) else "values"
    raise ValueError(
        f"{shown(path)}: the first line holds {what} "
        f"({one_line(', '.join(first), 60)}); put column names there, or say "
        "header=False where it is the first row, and header=True where these are names"
    )


def decimal_mark(path, columns, texts):
    """Return what decimals stand behind where some column is no plain numbers."""
    cells, numbers = [], []
    for name in texts:
        own = [tidy(str(value)) for value in columns[name]]
        own = [cell for cell in own if not re.fullmatch(r"[+-]?\d+", cell)]
        own = [cell for cell in own if cell not in MISSING]
        cells += own
        # a column with a word in it is not one of numbers, whatever else it holds
        if all(_kind(cell) == "number" for cell in own):
            numbers += own
    comma = [c for c in cells if _COMMA.fullmatch(c) or _COMMA_GROUPS.fullmatch(c)]
    point = [c for c in cells if _POINT.fullmatch(c) or _POINT_GROUPS.fullmatch(c)]
    only_comma, only_point = set(comma) - set(point), set(point) - set(comma)
    if only_comma and only_point:
        raise ValueError(
            f"{shown(path)}: {min(only_comma)!r} has a decimal comma and "
            f"{min(only_point)!r} a decimal point; decimal=',' or decimal='.' says "
            "which it is"
        )
    if only_comma:
        return ","
    if only_point:
        return "."
    if numbers:  # 1,234 and nothing else
        raise ValueError(
            f"{shown(path)}: {numbers[0]!r} may be a number with a decimal comma or "
            "one with its thousands apart; decimal=',' or decimal='.' says which"
        )
    return None


def thousandths(values):
    """Tell whether floats (n,), not all whole, have at most three decimals."""
    with np.errstate(invalid="ignore", over="ignore"):
        parts = values[np.isfinite(values)] * 1000
        apart = np.abs(parts - np.rint(parts)) > 1e-9 * np.maximum(np.abs(parts), 1)
        return not apart.any() and bool((np.rint(parts) % 1000 != 0).any())


def check_thousands(path, columns):
    """Raise ValueError where 1.234 among 567 may be a number with thousands apart.

    `columns` are the cells of columns of numbers, lists of str, in all of which every
    number may be one. One that cannot shows that the point is for decimals.
    """
    mixed = None
    for cells in columns:
        cells = [cell for cell in map(tidy, cells) if cell not in MISSING]
        groups = [cell for cell in cells if "." in cell]
        if not all(_COMMA_GROUPS.fullmatch(cell) for cell in groups):
            return
        small = [cell for cell in cells if re.fullmatch(r"[+-]?\d{1,3}", cell)]
        if len(small) + len(groups) < len(cells):  # 1234, or 1e3
            return
        if small and groups and mixed is None:
            mixed = groups[0]
    if mixed is not None:
        raise ValueError(
            f"{shown(path)}: {mixed!r} may be a number with a decimal point or one "
            "with its thousands apart, as others of its column have no point; "
            "decimal='.' or decimal=',' says which"
        )


def as_floats(values, decimal):
    """Return text as floats, or None where some is no number."""
    plain = _POINT if decimal == "." else _COMMA
    groups = _POINT_GROUPS if decimal == "." else _COMMA_GROUPS
    found = np.empty(len(values))
    for row, value in enumerate(values):
        if not isinstance(value, str):
            found[row] = value
            continue
        text = tidy(value)
        if text in MISSING:
            found[row] = np.nan
            continue
        if groups.fullmatch(text):
            text = re.sub(
                r"[.'\u00a0\u202f ]" if decimal == "," else r"[,'\u00a0\u202f ]",
                "",
                text,
            )
        elif not plain.fullmatch(text):
            if text.lower() in ("true", "false"):
                found[row] = text.lower() == "true"
                continue
            try:
                found[row] = float(text)  # inf
            except ValueError:
                return None
            if decimal == "," and "." in text:
                return None
            continue
        found[row] = float(text.replace(",", "."))
    return found


def check_one_mark(path, values, decimal):
    """Raise ValueError where a column has numbers with the other decimal mark."""
    other = _POINT if decimal == "," else _COMMA
    texts = (tidy(str(value)) for value in values)
    found = next((text for text in texts if other.fullmatch(text)), None)
    if found is not None:
        raise ValueError(
            f"{shown(path)}: {found!r} is no number with a decimal "
            f"{'comma' if decimal == ',' else 'point'}, as other values are; "
            "decimal=',' or decimal='.' says which it is"
        )
