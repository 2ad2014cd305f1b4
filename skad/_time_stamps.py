"""One time stamp as text: which parts it has, whatever wrote it.

Nothing is guessed here: `01.02.2015` keeps its three numbers, and whoever sees all rows
of a column decides which of them is the day.
"""

import re
from typing import NamedTuple

_SECOND = 1_000_000_000  # in nanoseconds, as all times of day are


class Stamp(NamedTuple):
    """What one text says.

    Parameters
    ----------
    kind : {"date", "parts", "duration"}
        A date whose order is plain, one of three numbers, or no date at all.
    first, second, third : int
        Year, month and day; or the three numbers as they stand.
    clock : int
        Nanoseconds since midnight, or of the duration.
    offset : int or None
        Seconds that the clock is ahead of UTC, where the text says so.
    short : bool
        Whether the year has two digits.
    dotted : bool
        Whether dots part the numbers, behind which the year is last.
    """

    kind: str
    first: int
    second: int
    third: int
    clock: int
    offset: int | None = None
    short: bool = False
    dotted: bool = False


# English, German, French, Spanish, Italian, Portuguese and Dutch, in full and as they
# are shortened.
_MONTHS = """
jan january januar janvier janv enero ene gennaio gen janeiro januari
feb february februar février fevrier févr fevr fév febrero febbraio fevereiro fev
mar march märz maerz mär mrz mars marzo março maart mrt
apr april avril avr abril abr aprile
may mai mayo maggio mag maio mei
jun june juni juin junio giugno giu junho
jul july juli juillet juil julio luglio lug julho
aug august août aout aoû agosto ago augustus
sep sept september septembre septiembre set settembre setembro
oct october okt oktober octobre octubre ottobre ott outubro out
nov november novembre noviembre novembro
dec december dez dezember décembre decembre déc diciembre dic dicembre dezembro
"""
_MONTH_OF = {
    word: month
    for month, line in enumerate(_MONTHS.split("\n")[1:-1], start=1)
    for word in line.split()
}

# Hours ahead of UTC: RFC 2822's names, and those of Europe.
_ZONES = {"z": 0, "utc": 0, "gmt": 0, "ut": 0, "wet": 0, "west": 1, "cet": 1, "cest": 2}
_ZONES |= {"mez": 1, "mesz": 2, "eet": 2, "eest": 3, "msk": 3, "jst": 9}
_ZONES |= {"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6}
_ZONES |= {"pst": -8, "pdt": -7}

_WORD = r"[^\W\d_]+"
_DAY_NAME = rf"(?:{_WORD}\.?,?\s+)?"
_CLOCK = (
    r"(?P<H>\d{1,2})(?:[:.h](?P<M>\d{2})(?:[:.](?P<S>\d{2})(?:[.,:](?P<f>\d+))?)?"
    r"|(?P<M2>\d{2})(?:(?P<S2>\d{2})(?:[.,](?P<f2>\d+))?)?)?"
    r"(?:\s*(?P<half>[ap])\.?\s?m\.?|\s*(?:Uhr|h))?"
)
_ZONE = (
    r"(?:(?P<zone>[A-Za-z]+(?:/[A-Za-z_]+)*)?(?P<offset>[+-]\d{1,2}(?::?\d{2}){0,2})?"
    r"(?:\s*[\[(][^\])]*[\])])?)"
)
_THEN = r"(?:[T_:]|-|,?\s+(?:(?:at|um|à|alle)\s+)?)"  # between the date and the time
_TIME = rf"(?:{_THEN}{_CLOCK}\s*{_ZONE})?"
_YEAR = r"(?P<y>\d{4}|'?\d{2})"

_SHAPES = [
    re.compile(shape, re.IGNORECASE)
    for shape in (
        rf"{_DAY_NAME}(?P<y>\d{{4}})(?P<s>[-/.])(?P<m>\d{{1,2}})(?P=s)(?P<d>\d{{1,2}}){_TIME}",
        rf"{_DAY_NAME}(?P<a>\d{{1,2}})(?P<s>[-/.])\s?(?P<b>\d{{1,2}})(?P=s)\s?"
        rf"(?P<c>\d{{4}}|\d{{2}}){_TIME}",
        rf"(?P<y>\d{{4}})(?P<m>\d{{2}})(?P<d>\d{{2}}){_TIME}",
        rf"{_DAY_NAME}(?P<d>\d{{1,2}})(?:st|nd|rd|th|er|º)?[-/.\s]*(?:de\s+)?"
        rf"(?P<mon>{_WORD})\.?,?(?:\s+de\s+|[-/\s]*){_YEAR}{_TIME}",
        rf"{_DAY_NAME}(?P<mon>{_WORD})\.?[-/\s]+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?"
        rf"[-/\s]+(?P<y>\d{{4}}){_TIME}",
        rf"(?P<y>\d{{4}})[-/\s]?(?P<mon>{_WORD})[-/\s]?(?P<d>\d{{1,2}}){_TIME}",
        rf"{_DAY_NAME}(?P<mon>{_WORD})\s+(?P<d>\d{{1,2}})\s+{_CLOCK}\s*{_ZONE}\s+(?P<y>\d{{4}})",
        rf"(?P<mon>{_WORD})\s+(?P<d>\d{{1,2}})\s+{_CLOCK}",  # syslog names no year
        r"(?P<y>\d{4})-(?P<m>\d{2})",
        r"(?P<mon>[^\W\d_]+)\.?[-/\s](?P<y>\d{4})",
        r"(?P<y>\d{4})-?Q(?P<quarter>[1-4])",
        rf"(?P<y>\d{{4}})-?W(?P<week>\d{{2}})(?:-?(?P<weekday>[1-7]))?{_TIME}",
        rf"(?P<y>\d{{4}})-(?P<yearday>\d{{3}}){_TIME}",
    )
]
_DURATION = re.compile(
    r"(?P<sign>[+-])?(?:(?P<days>\d+)\s*(?:d|days?|Tage?)\s*,?\s*\+?\s*|(?P<days2>\d+)\.)?"
    r"(?P<H>\d+):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d+))?)?"
    r"(?:\s*(?P<half>[ap])\.?\s?m\.?)?",
    re.IGNORECASE,
)
_NO_YEAR = 2000  # a leap year for dates that name none


def read_stamp(text, likely=None):
    """Return the Stamp of a text, or None; and the shape that it has.

    Parameters
    ----------
    text : str
        The text, without blanks around it.
    likely : re.Pattern or None, default=None
        The shape of the row before, which is tried first.

    Returns
    -------
    stamp : Stamp or None
    shape : re.Pattern or None
    """
    if text[:1] + text[-1:] == "[]":  # as in the logs of web servers
        text = text[1:-1]
    for shape in (likely, *_SHAPES) if likely is not None else _SHAPES:
        found = shape.fullmatch(text)
        stamp = None if found is None else _stamp(found.groupdict())
        if stamp is not None:
            return stamp, shape
    found = _DURATION.fullmatch(text)
    if found is None:
        return None, None
    return _duration(found.groupdict()), None


def _stamp(parts):
    """Return what matched as a Stamp, or None where no calendar has it."""
    clock, offset = _clock(parts), _offset(parts)
    if clock is None or offset is False:
        return None
    if "a" in parts:
        numbers = [int(parts[name]) for name in "abc"]
        short, dotted = len(parts["c"]) == 2, parts["s"] == "."
        return Stamp("parts", *numbers, clock, offset, short, dotted)
    year, month, day = parts.get("y"), parts.get("m") or 1, parts.get("d") or 1
    year = str(_NO_YEAR) if year is None else year.lstrip("'")
    year = full_year(int(year)) if len(year) == 2 else int(year)
    if "mon" in parts:
        month = _MONTH_OF.get(parts["mon"].lower())
        if month is None:
            return None
    if "quarter" in parts:
        month = 3 * int(parts["quarter"]) - 2
    if "yearday" in parts:  # brought to months when the days are counted
        day = int(parts["yearday"])
    elif "week" in parts:
        return _of_week(year, int(parts["week"]), parts["weekday"], clock, offset)
    elif not 1 <= int(day) <= days_of_month(year, int(month)):
        return None
    return Stamp("date", year, int(month), int(day), clock, offset)


def _of_week(year, week, weekday, clock, offset):
    from datetime import date

    try:
        day = date.fromisocalendar(year, week, int(weekday or 1))
    except ValueError:
        return None
    return Stamp("date", day.year, day.month, day.day, clock, offset)


def _clock(parts):
    """Return nanoseconds since midnight, or None where no clock shows that."""
    hour = int(parts.get("H") or 0)
    minute = int(parts.get("M") or parts.get("M2") or 0)
    second = int(parts.get("S") or parts.get("S2") or 0)
    half = parts.get("half")
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half.lower() == "p")
    # 24:00 ends a day, and 60 is a leap second
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and minute + second):
        return None
    fraction = parts.get("f") or parts.get("f2") or ""
    return (60 * (60 * hour + minute) + second) * _SECOND + _nanoseconds(fraction)


def _nanoseconds(digits):
    return int(digits[:9].ljust(9, "0"))


def _offset(parts):
    """Return seconds ahead of UTC, None without a zone, False for an unknown one."""
    zone, offset = parts.get("zone"), parts.get("offset")
    ahead = None
    if zone is not None:
        hours = _ZONES.get(zone.lower())
        if hours is None or (offset is not None and hours != 0):
            return False
        ahead = 3600 * hours
    if offset is not None:
        digits = offset[1:].replace(":", "")
        digits = digits.zfill(2 * ((len(digits) + 1) // 2)).ljust(6, "0")
        hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
        if hours > 23 or minutes > 59:
            return False
        ahead = 3600 * hours + 60 * minutes + seconds
        ahead = -ahead if offset[0] == "-" else ahead
    return ahead


def _duration(parts):
    days = int(parts["days"] or parts["days2"] or 0)
    hour, minute, second = (int(parts[name] or 0) for name in "HMS")
    if minute > 59 or second > 60:
        return None
    if parts["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (parts["half"].lower() == "p")
    clock = (3600 * hour + 60 * minute + second) * _SECOND
    clock += _nanoseconds(parts["f"] or "")
    negative = parts["sign"] == "-"
    if days and negative:  # as Python writes it: -1 days +23:59:59
        clock -= days * 86_400 * _SECOND
    else:
        clock += days * 86_400 * _SECOND
        clock = -clock if negative else clock
    return Stamp("duration", 0, 0, 0, clock)


def full_year(short):
    """Return the year that two digits mean, as POSIX reads them."""
    return short + (2000 if short < 69 else 1900)


def days_of_month(year, month):
    """Return how many days a month has, 0 where there is no such month."""
    if not 1 <= month <= 12:
        return 0
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
