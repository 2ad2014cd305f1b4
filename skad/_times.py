"""Columns of times as files, databases and Python write them, read without guessing."""

import re
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from skad._needed import need
from skad._time_stamps import days_of_month, full_year, read_stamp

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_COMPACT = re.compile(r"(?:19|20|21)\d{6}(?:\d{4}|\d{6})?")
_MISSING = {"", "nan", "nat", "none", "null", "<na>", "na", "n/a"}

# Numbers of seconds since 1970 from 2001 to 2099, and of their thousandths, millionths
# and billionths; no two of the ranges meet.
_EPOCH = (1_000_000_000, 4_100_000_000)
_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY = 86_400_000_000_000  # in nanoseconds

WHICH_FIRST = (
    "could have the day or the month first in every row; day_first=True or "
    "day_first=False says which"
)


class TimeError(ValueError):
    """What is wrong with a column of times, and in which row where it is one."""

    def __init__(self, reason, row=None):
        super().__init__(reason if row is None else f"row {row} {reason}")


@dataclass(frozen=True)
class Times:
    """A column of times.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Integers, floats, datetime64 or timedelta64, to be compared and drawn. Dates
        with a time zone are in UTC.
    texts : ndarray of shape (n,)
        The times as they were written; but dates of three numbers whose first is the
        day, or a year of two digits, begin with the full year, so that whoever reads
        them next takes them for no others.
    utc : bool
        Whether the dates had a time zone.
    """

    values: np.ndarray
    texts: np.ndarray
    utc: bool = False

    def __len__(self):
        return len(self.values)

    def dates(self):
        """Return datetimes where the times are dates or count from 1970, else None."""
        if self.values.dtype.kind == "M":
            return self.values
        if self.values.dtype.kind not in "iuf" or not len(self.values):
            return None
        for unit, per_second in _UNITS.items():
            low, high = (bound * per_second for bound in _EPOCH)
            if low <= self.values.min() and self.values.max() < high:
                return _since_1970(self.values, unit)
        return None

    def drawn(self):
        """Return what is drawn: dates, or numbers of which durations are seconds."""
        dates = self.dates()
        if dates is not None:
            return dates
        if self.values.dtype.kind == "m":
            return self.values / np.timedelta64(1, "s")
        return self.values


def read_times(values, *, day_first=None, time_format=None):
    """Read times of one kind: numbers, dates with or without zones, or durations.

    Parameters
    ----------
    values : array-like of shape (n,)
        Numbers, dates, durations, or text of these; or `Times`, which are returned.
    day_first : bool or None, default=None
        What 01.02.2015 means. None takes what the rows settle, and refuses where they
        do not.
    time_format : str or None, default=None
        How text is read, in the codes of `strptime`; or what numbers count: "s", "ms",
        "us" or "ns" since 1970, or "excel" for the days of spreadsheets.

    Returns
    -------
    times : Times
        In the order of `values`, which need not be sorted.

    Raises
    ------
    TimeError
        If a time is missing, is no time, is of another kind than the others, or has two
        meanings.
    """
    if isinstance(values, Times):
        return values
    values = _as_array(values)
    texts = time_texts(values)
    for row, text in enumerate(texts):
        if text.lower() in _MISSING:
            raise TimeError("is missing", row)
    if time_format is not None:
        return _named(values, texts, time_format)
    if values.dtype.kind in "Mm":
        return Times(_in_nanoseconds(values), texts)
    if values.dtype.kind == "f":
        return Times(values, texts)
    if all(_COMPACT.fullmatch(text) for text in texts):
        dates = _compact_dates(texts)
        if dates is not None:
            return Times(dates, texts)
    if values.dtype.kind in "iu":
        return Times(values, texts)
    numeric = [_NUMBER.fullmatch(text) is not None for text in texts]
    if all(numeric):
        return Times(_numbers(texts), texts)
    return _stamped(texts, day_first)


def settled_day_first(*columns):
    """Return whether the day comes first in dates of columns, None if nothing says so.

    What one row settles settles all rows, of every file that belongs together.
    """
    orders = [
        _orders(stamps) for stamps in map(_stamps_of, columns) if stamps is not None
    ]
    if not orders:
        return None
    both = set.intersection(*orders)
    return None if len(both) != 1 or both == {"year"} else both == {"day"}


def time_texts(values):
    """Return times as text: what is text as it stands, whole numbers without `.0`."""
    kind = values.dtype.kind
    if kind == "M":
        return np.array([date_text(value) for value in values], dtype=object)
    if kind == "f":
        texts = [
            str(int(value))
            if value.is_integer() and abs(value) < 2**53
            else repr(value)
            for value in values.tolist()
        ]
        return np.array(texts, dtype=object)
    texts = [str(value).strip() for value in values]
    return np.array(texts, dtype=object)


def date_text(value):
    """Return a datetime64 as text, with no more fractions of seconds than it has."""
    if np.isnat(value):
        return ""
    text = str(value).replace("T", " ")
    head, dot, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return head + dot + fraction if fraction else head


def _as_array(values):
    """Return values as an array; dates with a zone stay objects."""
    if getattr(getattr(values, "dtype", None), "tz", None) is not None:
        return np.array(list(values), dtype=object)
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind in "USbT" else array


def _in_nanoseconds(values):
    with np.errstate(over="ignore"):
        fine = values.astype(f"{values.dtype.kind}8[ns]")
    # what is too far from 1970 stays
    return fine if (fine.astype(values.dtype) == values).all() else values


def _since_1970(values, unit):
    per_unit = 1_000_000_000 // _UNITS[unit]
    if values.dtype.kind in "iu":
        return (values.astype(np.int64) * per_unit).view("M8[ns]")
    whole = np.floor(values)
    rest = np.rint((values - whole) * per_unit).astype(np.int64)
    return (whole.astype(np.int64) * per_unit + rest).view("M8[ns]")


def _numbers(texts):
    texts = [text.replace(",", ".") for text in texts]
    if all(_WHOLE.fullmatch(text) for text in texts):
        whole = [int(text) for text in texts]
        if all(-(2**63) <= value < 2**63 for value in whole):
            return np.array(whole, dtype=np.int64)
    return np.array([float(text) for text in texts])


def _compact_dates(texts):
    """Return 20240131, or that with 235959 behind it, as dates where all are some."""
    days, clocks = [], []
    for text in texts:
        year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
        hour, minute, second = (int(text[i : i + 2] or 0) for i in (8, 10, 12))
        if not 1 <= day <= days_of_month(year, month):
            return None
        if hour > 23 or minute > 59 or second > 59:
            return None
        days.append((year, month, day))
        clocks.append((3600 * hour + 60 * minute + second) * 1_000_000_000)
    return _assembled(days, clocks)


def _stamped(texts, day_first):
    stamps = _stamps(texts)
    kinds = {stamp.kind for stamp in stamps}
    if len(kinds) > 1:
        row = next(i for i, stamp in enumerate(stamps) if stamp.kind != stamps[0].kind)
        raise TimeError(f"holds {texts[row]!r}, another kind than {texts[0]!r}", row)
    clocks = [stamp.clock for stamp in stamps]
    if kinds == {"duration"}:
        return Times(np.array(clocks, dtype=np.int64).view("m8[ns]"), texts)
    zoned = [stamp.offset is not None for stamp in stamps]
    if any(zoned) and not all(zoned):
        row = zoned.index(False)
        raise TimeError(f"holds {texts[row]!r}, without the others' time zone", row)
    if any(zoned):
        clocks = [stamp.clock - stamp.offset * 1_000_000_000 for stamp in stamps]
    if kinds == {"parts"}:
        order, days = _in_order(stamps, texts, day_first)
        if order != "month":
            texts = _year_first(stamps, days)
    else:
        days = [stamp[1:4] for stamp in stamps]
    return Times(_assembled(days, clocks), texts, any(zoned))


def _year_first(stamps, days):
    """Return dates as text that nobody can take for others, as 01.02.2015 can be."""
    texts = _shortest(_assembled(days, [stamp.clock for stamp in stamps]))
    offsets = [stamp.offset for stamp in stamps]
    return np.array(
        [
            text + _zone_text(offset)
            for text, offset in zip(texts, offsets, strict=True)
        ],
        dtype=object,
    )


def _shortest(values):
    """Return datetimes as text, without a time of day where none has one."""
    texts = [date_text(value) for value in values]
    if all(text.endswith(" 00:00:00") for text in texts):
        texts = [text.removesuffix(" 00:00:00") for text in texts]
    return np.array(texts, dtype=object)


def _zone_text(offset):
    if offset is None:
        return ""
    sign, minutes = "-" if offset < 0 else "+", abs(offset) // 60
    return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def _stamps(texts):
    found, shape = [], None
    for row, text in enumerate(texts):
        stamp, shape = read_stamp(text, shape)
        if stamp is None:
            raise TimeError(f"holds {text[:60]!r}, neither a number nor a time", row)
        found.append(stamp)
    return found


def _stamps_of(values):
    """Return the dates of three numbers of a column, or None where it has none."""
    values = None if values is None else _as_array(values)
    if values is None or values.dtype.kind != "O":
        return None
    try:
        stamps = _stamps(time_texts(values))
    except TimeError:  # is said where the column is read
        return None
    return stamps if {stamp.kind for stamp in stamps} == {"parts"} else None


def _days(stamps, order):
    """Return (year, month, day) of dates of three numbers, read in an order."""
    found = []
    for stamp in stamps:
        a, b, c = stamp[1:4]
        if order == "year":
            found.append((full_year(a), b, c))
            continue
        year = full_year(c) if stamp.short else c
        found.append((year, b, a) if order == "day" else (year, a, b))
    return found


def _orders(stamps):
    """Return the orders in which dates of three numbers all are dates."""
    orders = {
        order
        for order in ("day", "month", "year")
        if (order != "year" or all(s.short and not s.dotted for s in stamps))
        and all(1 <= d <= days_of_month(y, m) for y, m, d in _days(stamps, order))
    }
    if "year" in orders and len(orders) > 1:
        # of day and year the year takes fewer values
        of_first = len({stamp.first for stamp in stamps})
        of_third = len({stamp.third for stamp in stamps})
        if of_third < of_first:
            orders.discard("year")
    return orders


def _in_order(stamps, texts, day_first):
    if day_first is not None:
        order = "day" if day_first else "month"
        days = _days(stamps, order)
        for row, (year, month, day) in enumerate(days):
            if not 1 <= day <= days_of_month(year, month):
                raise TimeError(
                    f"holds {texts[row]!r}, no date with the {order} first", row
                )
        return order, days
    orders = _orders(stamps)
    if not orders:
        raise TimeError(f"are no dates in one order, such as {texts[0]!r}")
    names = sorted(orders)
    readings = [_days(stamps, order) for order in names]
    if any(reading != readings[0] for reading in readings):
        if "year" in orders:
            raise TimeError(
                f"such as {texts[0]!r} could have the day, the month or the year "
                "first; time_format='%y/%m/%d' or the like says which"
            )
        raise TimeError(f"such as {texts[0]!r} {WHICH_FIRST}")
    return names[0], readings[0]


def _assembled(days, clocks):
    """Return datetimes of (year, month, day) and nanoseconds, to nanoseconds."""
    years, months, of_month = np.array(days, dtype=np.int64).reshape(-1, 3).T
    dates = ((years - 1970) * 12 + months - 1).astype("M8[M]").astype("M8[D]")
    since = dates.astype(np.int64) + of_month - 1
    clocks = np.array(clocks, dtype=np.int64)
    if abs(since).max(initial=0) < 2**63 // _DAY - 1:
        return (since * _DAY + clocks).view("M8[ns]")
    return (since * (_DAY // 1000) + clocks // 1000).view("M8[us]")


def _named(values, texts, time_format):
    """Return times that the user named."""
    if time_format in (*_UNITS, "excel"):
        row = next((i for i, t in enumerate(texts) if not _NUMBER.fullmatch(t)), None)
        if row is not None:
            raise TimeError(f"holds {texts[row]!r}, no number of {time_format}", row)
        per_unit = _DAY if time_format == "excel" else 10**9 // _UNITS[time_format]
        exact = [round(Decimal(t.replace(",", ".")) * per_unit) for t in texts]
        if time_format == "excel":  # whose 1900 is a leap year
            # its fractions are floats: a thousandth of a second is what they carry
            exact = [round(ns, -6) - 25_569 * _DAY for ns in exact]
        if any(abs(ns) >= 2**63 for ns in exact):
            raise TimeError(f"such as {texts[0]!r} are out of the range of dates")
        return Times(np.array(exact, dtype=np.int64).view("M8[ns]"), texts)
    pd = need("pandas", f"the time format {time_format!r}")
    try:
        found = pd.to_datetime(list(texts), format=time_format)
    except (ValueError, TypeError) as error:
        text = str(error).partition(". You might")[0]
        raise TimeError(f"are not of the format {time_format!r}: {text}") from error
    utc = getattr(found, "tz", None) is not None
    if utc:
        found = found.tz_convert("UTC").tz_localize(None)
    values = _in_nanoseconds(found.to_numpy())
    day, month = time_format.find("%d"), time_format.find("%m")
    if not utc and 0 <= day < month:
        texts = _shortest(values)
    return Times(values, texts, utc)
