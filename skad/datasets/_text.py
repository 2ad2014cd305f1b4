"""Tables in text files, parsed by pandas, which is told what the cells show."""

import gzip
import io
import itertools
import re
import warnings

import numpy as np

from skad.datasets._cells import (
    BLANKS,
    MISSING,
    as_floats,
    check_names,
    check_one_mark,
    check_thousands,
    decimal_mark,
    has_values,
    records,
    separator,
    thousandths,
)
from skad.datasets._words import note, shown

_COMMENT = re.compile("#(?!N/?A)")  # which may be a missing value
_HEAD = 200  # records that are looked at before the whole file is read
_TOO_LONG = "{}: the lines hold more values than the first line names"


def read_text(path, *, as_text=(), sep=None, decimal=None, encoding=None, header=None):
    """Return the columns of a text file, and whether its first line names them.

    Parameters
    ----------
    path : Path
        The file; one that ends in .gz is unpacked.
    as_text : collection of str
        Columns that are kept as they stand.
    sep, decimal, encoding, header : see `skad.datasets.read_table`

    Returns
    -------
    columns : dict of str to ndarray
        Floats where all values are numbers or missing, else text.
    named : bool
        Whether the first line holds their names.
    """
    import pandas as pd

    encoding = _encoding(path) if encoding is None else encoding
    try:
        n_comments = _n_comments(path, encoding, header)
        head, n_skipped, n_blank, inner_blank = _scan(path, encoding, n_comments)
    except UnicodeError as error:
        raise ValueError(
            f"{shown(path)}: is not text in {encoding}; encoding= names another"
        ) from error
    except LookupError as error:
        raise ValueError(f"no encoding is called {encoding!r} (encoding=)") from error
    if not head:
        raise ValueError(f"{shown(path)}: no rows")
    head[0] = head[0].removeprefix("# ")
    sep = separator(head, path.suffixes) if sep is None else _given(sep)
    rows = records(head, sep)
    named = True if header is None else header
    if header is None:
        check_names(path, rows)
    first = [cell.strip(BLANKS) for cell in rows[0]]
    n_named = len(first)
    if named:
        first += [""] * _n_empty_ends(rows)
    names = _names(path, first) if named else [f"x{j}" for j in range(len(first))]
    if len(names) == 1 and n_blank and not inner_blank:
        raise ValueError(
            f"{shown(path)}: ends with a blank line, which may be a missing row or "
            "nothing; write nan there, or take the line away"
        )
    numbers = [name for name in names if name not in set(as_text)]
    options = {
        "sep": r"\s+" if sep == " " else sep,
        "names": names,
        "header": None,
        "index_col": False,
        "skip_blank_lines": False,
        "skipinitialspace": True,
        "keep_default_na": False,
        "encoding": encoding,
        "low_memory": False,
    }
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):
        options["float_precision"] = "round_trip"  # to the last bit, as newer ones are

    def parse(**more):
        with warnings.catch_warnings(), _opened(path, encoding) as file:
            # lines longer than the first would lose their ends, or their beginnings to
            # row names
            warnings.simplefilter("error", pd.errors.ParserWarning)
            for _ in range(n_skipped):
                file.readline()
            if named:
                _skip_record(file)
            frame = pd.read_csv(file, **(options | more))
        # of several columns a blank line at the end is no row
        cut = n_blank if len(names) > 1 else 0
        return frame.iloc[: len(frame) - cut] if cut else frame

    try:
        frame = parse(
            dtype=dict.fromkeys(set(names) & set(as_text), str),
            na_values={name: list(MISSING) for name in numbers},
        )
        texts = [name for name in numbers if frame[name].dtype.kind not in "fiub"]
        kept = set(as_text)
        columns = {name: _column(frame[name], name in kept) for name in names}
        style = decimal
        if texts or decimal == ",":
            style = decimal or decimal_mark(path, columns, texts)
            if style == "," or decimal is not None:
                frame = parse(dtype=str, na_values={})
                columns |= {name: _column(frame[name], True) for name in numbers}
                texts = numbers
            for name in texts:
                found = as_floats(columns[name], style or ".")
                if found is None and style is not None:
                    check_one_mark(path, columns[name], style)
                columns[name] = columns[name] if found is None else found
        if style is None and sep != ",":  # no file of such numbers has commas between
            _look_at_points(path, columns, numbers, parse)
    except pd.errors.ParserWarning as error:
        raise ValueError(_TOO_LONG.format(shown(path))) from error
    except pd.errors.EmptyDataError:
        columns = {name: np.empty(0) for name in names}
    _note_padded(path, names, rows[named:], as_text)
    columns = _without_last(path, columns, first, as_text) if named else columns
    if n_named < min(len(first), len(columns)):
        raise ValueError(_TOO_LONG.format(shown(path)))
    return columns, named


def _look_at_points(path, columns, numbers, parse):
    """Raise ValueError where points may keep thousands apart; read anew for that."""
    parts = [name for name in numbers if columns[name].dtype.kind == "f"]
    parts = [name for name in parts if (columns[name] % 1 > 0).any()]
    if parts and all(thousandths(columns[name]) for name in parts):
        frame = parse(dtype=str, na_values={}, usecols=parts)
        check_thousands(path, [frame[name].tolist() for name in parts])


def _n_empty_ends(rows):
    """Return how many cells, all empty, every line has that the first has not."""
    n = len(rows[0])
    more = {len(row) - n for row in rows[1:]}
    ends = [cell.strip(BLANKS) for row in rows[1:] for cell in row[n:]]
    return max(0, *more) if len(more) == 1 and not any(ends) else 0


def _note_padded(path, names, rows, as_text):
    """Warn of numbers of one width that begin with 0: names, more often than not."""
    for name, cells in zip(names, zip(*rows, strict=False), strict=False):
        cells = [cell.strip(BLANKS) for cell in cells]
        digits = all(cell.isdecimal() for cell in cells)
        width = {len(cell) for cell in cells}
        zeros = [cell for cell in cells if cell[:1] == "0"]
        if name not in as_text and digits and zeros and len(width) == 1 < max(width):
            note(
                f"{shown(path)}: column {name!r} holds {zeros[0]!r} and is taken for "
                "numbers; leave it out where they are names, or make it the label, "
                "group, time or id column, which keep their zeros"
            )


def _without_last(path, columns, first, as_text):
    """Return the columns but last ones without a name or a value: lines end so."""
    kept = list(columns)
    while len(kept) > 1 and not first[len(kept) - 1] and kept[-1] not in as_text:
        values = columns[kept[-1]].tolist()
        if not all(value != value or value in MISSING for value in values):
            break
        kept.pop()
    n = len(columns) - len(kept)
    if n:
        last, it = (
            ("column has", "it is") if n == 1 else (f"{n} columns have", "they are")
        )
        note(f"{shown(path)}: the last {last} no name and no values; {it} left out")
    return {name: columns[name] for name in kept}


def _column(series, is_text):
    """Return a column as floats where pandas found numbers, else as text."""
    if not is_text and getattr(series.dtype, "kind", "O") in "fiub":
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    return series.to_numpy(dtype=object, na_value="" if is_text else np.nan)


def _opened(path, encoding):
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")


def _encoding(path):
    """Return the encoding that the first bytes, or all of them, show."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rb") as file:
        start = file.read(4096)
        if start.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
            return "utf-32"
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        if start.startswith(b"\xef\xbb\xbf"):
            return "utf-8-sig"
        even, odd = start[::2].count(0), start[1::2].count(0)
        if 4 * max(even, odd) > len(start):  # few are strays, which cells show
            return "utf-16-le" if odd > even else "utf-16-be"
        file.seek(0)
        if _reads(file, "utf-8"):
            return "utf-8"
        note(
            f"{shown(path)}: is not text in UTF-8 and was read as that of Windows "
            "(cp1252); encoding= names another"
        )
        file.seek(0)
        # five bytes mean nothing in cp1252
        return "cp1252" if _reads(file, "cp1252") else "latin-1"


def _reads(file, encoding):
    """Tell whether all that follows in a file is text in an encoding."""
    text = io.TextIOWrapper(file, encoding=encoding, newline="")
    try:
        for _ in text:
            pass
    except UnicodeDecodeError:
        return False
    finally:
        text.detach()
    return True


def _n_comments(path, encoding, header):
    """Return how many lines to skip, for the comments in front, which begin with #.

    The last of these is the line of names where the next one has as many cells, and
    values among them: so NumPy's `savetxt` writes it.
    """
    front, after = [], ""
    with _opened(path, encoding) as file:
        for after in file:
            if after.strip() and not _COMMENT.match(after):
                break
            front.append(after)
    while front and not front[-1].strip():
        front.pop()
    if front and header is not False:
        lines = [front[-1].removeprefix("#"), after]
        rows = records(lines, separator(lines, path.suffixes))
        same = len({len(row) for row in rows}) == 1
        if same and has_values(rows[-1]) and not has_values(rows[0]):
            front.pop()
    n = sum(bool(_COMMENT.match(line)) for line in front)
    if n:
        note(f"{shown(path)}: {n} lines in front begin with #, and are left out")
    return len(front)


def _scan(path, encoding, n_skipped):
    """Return the first lines, how many to skip, and which lines are blank.

    Blank lines before the first are skipped, as is Excel's `sep=;`. The others count as
    rows, if they are followed by one that is not blank.
    """
    head, waiting, inner, quoted = [], 0, False, False
    with _opened(path, encoding) as file:
        for line in itertools.islice(file, n_skipped, None):
            blank = not quoted and not line.strip()
            if not head and (blank or re.fullmatch(r"sep=.\s*", line)):
                n_skipped += 1
                continue
            if line.count('"') % 2:
                quoted = not quoted
            if blank:
                waiting += 1
                continue
            inner |= waiting > 0
            waiting = 0
            if len(head) < _HEAD or (quoted and len(head) < 10 * _HEAD):
                head.append(line)
    return head, n_skipped, waiting, inner


def _skip_record(file):
    """Read past one record, whose cells in quotes may hold line breaks."""
    quotes = 0
    while line := file.readline():
        quotes += line.count('"')
        if quotes % 2 == 0:
            return
    raise ValueError("a quotation mark in the first line is not closed")


def _given(sep):
    """Return the separator that was named; tab and space may be words."""
    sep = {"tab": "\t", "\\t": "\t", "space": " "}.get(sep.lower(), sep)
    if len(sep) != 1 or sep in '"\r\n':
        raise ValueError(f"sep={sep!r}: must be one character, tab or space")
    return sep


def _names(path, first):
    names = [cell or f"Unnamed: {j}" for j, cell in enumerate(first)]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{shown(path)}: two columns are called {name!r}")
    return names
