"""Time stamps of series: gaps that part them, and steps that are made regular."""

from dataclasses import replace

import numpy as np

from skad._events import parse_duration
from skad._gaps import IRREGULAR
from skad._group_rows import rows_by_label
from skad._times import Times, time_texts
from skad.datasets._words import shown
from skad.series import split_at_gaps

# Steps between known ones that are interpolated, in regular or median steps.
_REACH = 1.5
# Regular steps for a row, beyond which the rule is taken for a mistake.
_MOST = 1000


def stretches(part, file):
    """Return which stretch without a gap each row is of, and a line that says so.

    Parameters
    ----------
    part : Part
        A series, or several, with times.
    file : str
        What it was read from.

    Returns
    -------
    stretches : ndarray of shape (n,) or None
        None without a gap.
    line : str or None
    """
    found = split_at_gaps(part.time, part.groups)
    n_series = len(rows_by_label(part.groups, len(found)))
    n_gaps = int(found.max()) + 1 - n_series
    if n_gaps == 0:
        return None, None
    if n_gaps > IRREGULAR * len(found):
        return None, (
            f"{shown(file)}: {n_gaps:,} of {len(found):,} steps come later than 1.5 "
            "median steps after the one before, which parts nothing: --resample 10min "
            "or the like makes steps regular"
        )
    gaps = "1 gap parts" if n_gaps == 1 else f"{n_gaps:,} gaps part"
    return found, f"{shown(file)}: {gaps} the series; no window runs over one"


def resampled(part, rule, by, file):
    """Return a part with regular steps, those that hold nothing missing (NaN).

    Parameters
    ----------
    part : Part
        A series, or several, with times.
    rule : str
        The step: a time such as "10min", or a number in units of the times.
    by : {"mean", "interpolate"}
        "mean" takes the mean of the rows of each step, from its beginning to before the
        next; "interpolate" the value on the line between the rows around its beginning,
        where these are near.
    file : str
        What it was read from.

    Returns
    -------
    part : Part
        Without the names of rows. A step is an anomaly if any of its rows is.
    line : str
    """
    stamps, step, make = _stamps(part.time, rule)
    X, ys, labels, numbers = [], [], [], []
    for label, own in rows_by_label(part.groups, len(stamps)).items():
        t = stamps[own]
        places = np.floor_divide(t, step).astype(np.int64)
        if places[-1] - places[0] > _MOST * len(t):
            raise ValueError(
                f"--resample {rule}: makes {places[-1] - places[0]:,} steps of "
                f"{len(t):,} rows of {shown(file)}"
            )
        steps = np.arange(places[0], places[-1] + 1)
        rows = places - places[0]
        if by == "mean":
            values = _means(part.X[own], rows, len(steps))
        else:
            values = _between(part.X[own], t, steps * step, step)
        X.append(values)
        numbers.append(steps)
        labels.append(np.full(len(steps), label))
        if part.y is not None:
            y = np.ones(len(steps), dtype=part.y.dtype)
            np.minimum.at(y, rows, part.y[own])
            ys.append(y)
    X, numbers = np.concatenate(X), np.concatenate(numbers)
    found = replace(
        part,
        X=X,
        y=np.concatenate(ys) if ys else None,
        ids=None,
        groups=None if part.groups is None else np.concatenate(labels),
        time=make(numbers * step),
    )
    n_empty = int(np.isnan(X).any(axis=1).sum())
    return found, (
        f"{shown(file)}: {len(stamps):,} rows are {len(X):,} steps of {rule}"
        + (f", {n_empty:,} of which have missing values" if n_empty else "")
    )


def check_complete(part, rule, file):
    """Raise ValueError where regular steps are missing, which nobody has asked for."""
    empty = np.isnan(part.X).any(axis=1)
    if empty.any():
        raise ValueError(
            f"{shown(file)}: {empty.sum():,} of {len(empty):,} steps of {rule} have "
            f"missing values, the first of them {part.time.texts[empty.argmax()]}; "
            "--set missing=interpolate or --set missing=skip says what becomes of them"
        )


def _stamps(time, rule):
    """Return times and step as numbers of one unit, and what makes `Times` of these."""
    duration, dates = parse_duration(rule), time.dates()
    values = time.values if dates is None else dates
    if duration is not None and duration.astype(np.int64) > 0:
        if values.dtype.kind not in "Mm":
            raise ValueError(
                f"--resample {rule}: needs a --time-column of dates or durations; it "
                "has numbers, of which a number is a step"
            )
        kind = values.dtype.kind
        stamps = values.astype(f"{kind}8[ns]").astype(np.int64)

        def make(numbers):
            found = numbers.view(f"{kind}8[ns]")
            texts = time_texts(found) if kind == "M" else _clock_texts(numbers)
            if time.utc:
                texts = np.array([f"{text}+00:00" for text in texts], dtype=object)
            return Times(found, texts, time.utc)

        return stamps, int(duration.astype(np.int64)), make
    try:
        step = float(rule)
    except ValueError:
        step = 0.0
    if not 0 < step < np.inf or time.values.dtype.kind not in "iuf":
        raise ValueError(
            f"--resample {rule}: must be a time such as 30s, 10min, 2h or 1d, or for a "
            "--time-column of numbers a number above 0"
        )
    if time.values.dtype.kind != "f" and step.is_integer():
        step = int(step)
    return time.values, step, lambda numbers: Times(numbers, time_texts(numbers))


def _clock_texts(numbers):
    """Return durations of nanoseconds as text, HH:MM:SS."""
    texts = []
    for number in numbers.tolist():
        seconds, rest = divmod(abs(number), 10**9)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        texts.append(f"{'-' if number < 0 else ''}{clock}{fraction}")
    return np.array(texts, dtype=object)


def _means(values, rows, n_steps):
    """Return the mean (n_steps, c) of the values (t, c) at each step, NaN of none."""
    there = ~np.isnan(values)
    total = np.zeros((n_steps, values.shape[1]))
    count = np.zeros_like(total)
    np.add.at(total, rows, np.where(there, values, 0.0))
    np.add.at(count, rows, there)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _between(values, stamps, wanted, step):
    """Return values (n, c) on lines between those of stamps (t,), NaN of far ones."""
    between = np.diff(stamps)
    far = _REACH * max(step, np.median(between) if len(between) else 0)
    found = np.full((len(wanted), values.shape[1]), np.nan)
    for i, column in enumerate(values.T):
        there = ~np.isnan(column)
        known = stamps[there]
        if len(known) == 0:
            continue
        after = np.searchsorted(known, wanted)
        inside = (after < len(known)) & (wanted >= known[0])
        later = np.minimum(after, len(known) - 1)
        earlier = np.maximum(later - (known[later] > wanted), 0)
        near = inside & (known[later] - known[earlier] <= far)
        line = np.interp(wanted - known[0], known - known[0], column[there])
        found[near, i] = line[near]
    return found
