"""What files and folders hold, brought to what detectors take."""

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from skad import datasets
from skad._commands._checks import check_columns, note_counters, one_file
from skad._commands._columns import (
    checked_shape,
    labels,
    texts,
    time_values,
    times,
    training_labels,
)
from skad._commands._folders import TABLES, are_pictures, load_new, load_pictures
from skad._commands._reading import PICTURES, TABLE, TIME
from skad._commands._regular import check_complete, resampled, stretches
from skad._times import settled_day_first
from skad.datasets._files import read_tables
from skad.datasets._words import shown

# Pictures of which it means something that all are flagged.
_SOME = 5


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one file or folder holds: samples to learn from, or to look at.

    Parameters
    ----------
    X : ndarray or PictureFiles
        The samples.
    y : ndarray or None, default=None
        1 normal, -1 anomaly, 0 unlabelled.
    ids, groups : ndarray or None, default=None
        What rows are called, and which series they belong to.
    time : Times or None, default=None
        When they were.
    stretches : ndarray or None, default=None
        Which stretch without a gap each row is of, where there are gaps.
    files, defects, masks : default=None
        Of pictures: their names, and what is known of their defects.
    """

    X: Any
    y: Any = None
    ids: Any = None
    groups: Any = None
    time: Any = None
    stretches: Any = None
    files: Any = None
    defects: Any = None
    masks: Any = None


@dataclass(frozen=True, kw_only=True)
class Data:
    """What the files of a run hold.

    Parameters
    ----------
    kind : {"tables", "series", "pictures"}
        What samples are.
    reading : Reading
        How they were read, with what the files settled.
    train, test : Part or None
        What to learn from and what to look at.
    title : str
        What the data are called.
    inputs : list of str
        The files that were read.
    own : bool, default=False
        Whether what is looked at is what was learned from.
    columns : list of str or None, default=None
        The names of the features.
    image_shape : tuple of int or None, default=None
        Height and width, where rows are pictures; those and channels of pictures.
    known_labels : list or None, default=None
        What the labels of the training rows are.
    folders : set of Path, default=set()
        Where pictures are.
    skipped : list of (str, str), default=[]
        Files that were left out, with the reason.
    held_out : PictureFiles or None, default=None
        Good pictures that give the threshold, and are not learned from.
    notes : list of str, default=[]
        What the user should know of the reading.
    """

    kind: str
    reading: Any
    train: Any
    test: Any
    title: str
    inputs: list
    own: bool = False
    columns: Any = None
    image_shape: Any = None
    known_labels: Any = None
    folders: set = field(default_factory=set)
    skipped: list = field(default_factory=list)
    held_out: Any = None
    notes: list = field(default_factory=list)


def kind_of(reading, *paths):
    """Return what files hold, by their names and the options alone."""
    for part in paths:
        tables = [path for path in part or () if Path(path).suffix.lower() in TABLES]
        if tables and len(part) > 1:
            raise ValueError(
                f"{shown(part[1])}: is one file more than is looked at; of tables and "
                "series one is read at a time"
            )
    if any(are_pictures(part) for part in paths):
        return "pictures"
    return "series" if reading.series else "tables"


def check_options(kind, reading):
    """Raise ValueError for options of reading that are of no use on a kind of data."""
    if kind == "pictures":
        names = (*TABLE, "image_shape", "series", *TIME)
        reading.refuse("pictures", *names)
    elif kind == "series":
        reading.refuse("series", "image_shape", *PICTURES)
    else:
        reading.refuse("tables without --series", *TIME)
        reading.refuse("tables", *PICTURES)
    if kind != "pictures":
        check_columns(
            reading.drop,
            label_column=reading.label_column,
            time_column=reading.time_column,
            group_column=reading.group_column,
            id_column=reading.id_column,
        )
        _check_times(reading)


def _check_times(reading):
    """Raise ValueError for options of times that go without others."""
    named = {"--resample": reading.resample, "--gaps": reading.gaps}
    if not reading.time_column:
        for option, value in named.items():
            if value is not None:
                raise ValueError(f"{option} {value}: needs a --time-column")
    if reading.resample is None and reading.resample_by is not None:
        raise ValueError(f"--resample-by {reading.resample_by}: needs --resample")
    if reading.resample is not None and reading.id_column is not None:
        raise ValueError(
            f"--id-column {reading.id_column}: names rows, and --resample makes others"
        )


def read_data(kind, reading, train, test, *, allow_nan=False, only_learn=False):
    """Read what to learn from and what to look at.

    Parameters
    ----------
    kind : {"tables", "series", "pictures"}
        What is in them.
    reading : Reading
        How to read them.
    train, test : list of str
        Paths. Without `test` a folder of pictures has its own, and a table is looked at
        itself.
    allow_nan : bool, default=False
        Whether values of features may be missing.
    only_learn : bool, default=False
        Whether nothing is looked at.

    Returns
    -------
    data : Data
    """
    if kind == "pictures":
        return _pictures(reading, train, test, only_learn)
    file = one_file(train, "--train")
    own = test is None
    files = [file] if own else [file, one_file(test, "--test")]
    tables = read_tables(
        files,
        label_column=reading.label_column,
        drop=reading.drop,
        aside=reading.aside,
        allow_nan=allow_nan,
        **reading.text,
    )
    if not own:
        names = [shown(Path(path).name) for path in files]
        datasets.check_same_columns(*tables, *names)
    seen, new = tables[0], tables[-1]
    note_counters(kind, seen, file)
    if only_learn:
        ys = [training_labels(seen, file, reading)]
    else:
        ys = labels(seen, new, files[-1], reading)
        ys = ys[1:] if own else ys
    found = _when(tables, files, reading)
    parts = [
        Part(X=table.X, y=y, ids=_ids(table, reading, file), groups=groups, time=time)
        for table, file, groups, time, y in zip(tables, files, *found, ys, strict=True)
    ]
    parts, notes = _regular(parts, files, reading, allow_nan)
    image_shape = None
    if kind == "tables":
        image_shape = reading.image_shape or new.image_shape
        image_shape = checked_shape(image_shape, new.X.shape[1])
    settled = None
    if reading.time_column and reading.time_format is None:
        settled = settled_day_first(*(time_values(t, reading) for t in tables))
    return Data(
        kind=kind,
        reading=reading if settled is None else replace(reading, day_first=settled),
        # labels of what is looked at say how good the scores are, and are not learned
        train=replace(parts[0], y=None) if own and not only_learn else parts[0],
        test=None if only_learn else parts[-1],
        title=shown(Path(files[-1]).name),
        inputs=files,
        own=own,
        columns=new.columns,
        image_shape=image_shape,
        known_labels=None if seen.labels is None else np.unique(seen.labels).tolist(),
        notes=notes,
    )


def read_new(model, paths, reading, *, allow_nan=False):
    """Read what a model that was fitted before is to look at.

    Parameters
    ----------
    model : Model
        What was saved.
    paths : list of str
        The file, the folder or the pictures.
    reading : Reading
        How to read them.
    allow_nan : bool, default=False
        Whether values of features may be missing.

    Returns
    -------
    data : Data
        Without what to learn from.
    """
    if model.kind == "pictures":
        new = load_new(paths, model.image_shape, reading)
        return _of_pictures(new, reading, None, model.image_shape)
    file = one_file(paths, "what to look at")
    [table] = read_tables(
        [file],
        label_column=reading.label_column,
        drop=(*reading.drop, *_label_of(model, reading)),
        aside=reading.aside,
        allow_nan=allow_nan,
        columns=model.columns,
        **reading.text,
    )
    asked = reading.label_column != model.reading.label_column
    y = None
    if table.labels is not None or asked:
        y = labels(None, table, file, reading, known=model.known_labels or ())[1]
    groups, time = _when([table], [file], reading)
    ids = _ids(table, reading, file)
    part = Part(X=table.X, y=y, ids=ids, groups=groups[0], time=time[0])
    [part], notes = _regular([part], [file], reading, allow_nan)
    return Data(
        kind=model.kind,
        reading=reading,
        train=None,
        test=part,
        title=shown(Path(file).name),
        inputs=[file],
        columns=table.columns,
        image_shape=None if model.kind == "series" else model.image_shape,
        notes=notes,
    )


def _label_of(model, reading):
    """Return the label column of a model where another one is named."""
    own = model.reading.label_column
    return () if own in (None, reading.label_column) else (own,)


def _ids(table, reading, file):
    name = reading.id_column
    return texts(table.aside.get(name), name, file, optional=True)


def _when(tables, files, reading):
    """Return the groups and the times of several files."""
    name = reading.group_column
    groups = [
        texts(table.aside.get(name), name, file)
        for table, file in zip(tables, files, strict=True)
    ]
    columns = [time_values(table, reading) for table in tables]
    return groups, times(columns, groups, files, reading.time_name, **reading.times)


def _regular(parts, files, reading, allow_nan):
    """Return parts of regular steps, or that know their gaps, and lines on both."""
    found, notes = [], []
    for part, file in zip(parts, files, strict=True):
        if reading.resample is not None:
            by = reading.resample_by or "mean"
            part, line = resampled(part, reading.resample, by, file)
            if not allow_nan:
                check_complete(part, reading.resample, file)
            notes.append(line)
        elif part.time is not None and reading.gaps != "ignore":
            own, line = stretches(part, file)
            part = replace(part, stretches=own)
            notes += [] if line is None else [line]
        found.append(part)
    return found, notes


def _pictures(reading, train, test, only_learn):
    size, on_error = reading.image_size, reading.on_error or "raise"
    found = load_pictures(
        train, test, size=size, on_error=on_error, only_learn=only_learn
    )
    train, shape = Part(X=found.X_train), found.X_train.shape[1:]
    return _of_pictures(found, reading, train, shape, only_learn=only_learn)


def _of_pictures(found, reading, train, image_shape, *, only_learn=False):
    """Return the data of pictures that were found."""
    new = None
    if not only_learn:
        new = Part(
            X=found.X_test,
            y=found.y_test,
            files=found.files,
            defects=found.defects_test,
            masks=found.masks_test,
        )
    return Data(
        kind="pictures",
        reading=reading,
        own=bool(found.get("own")),
        train=train,
        test=new,
        title=found.title,
        inputs=[],
        image_shape=image_shape,
        folders=found.folders,
        skipped=[(shown(file), shown(reason)) for file, reason in found.skipped],
    )


def with_held_out(data, share):
    """Return the data with every so-many-th training picture held out.

    Parameters
    ----------
    data : Data
        Pictures.
    share : float or None
        How many are held out; None is none.

    Returns
    -------
    data : Data
    """
    if share is None:
        return data
    X = data.train.X
    n = len(X)
    if data.own:
        raise ValueError(
            "--calibrate holds good pictures out, and of pictures that are searched "
            "for their own anomalies none are known to be good"
        )
    if not 0 < share < 1 or round(share * n) in (0, n):
        raise ValueError(
            f"--calibrate {share:g}: must leave some of the {n} training pictures to "
            "learn from and some for the threshold"
        )
    chosen = np.zeros(n, dtype=bool)
    chosen[np.linspace(0, n - 1, round(share * n)).astype(int)] = True
    return replace(data, train=Part(X=X.take(~chosen)), held_out=X.take(chosen))


def warn_of_all_flagged(findings):
    """Warn where every one of some pictures is flagged, and say what may help."""
    n, known = len(findings.flagged), findings.y
    bad = known is not None and (np.asarray(known) == -1).all()
    if n < _SOME or bad or not findings.flagged.all() or findings.held_out:
        return
    warnings.warn(
        f"all of {n} pictures are flagged: are they taken as those that were learned "
        "from? If so, skad detect and skad fit with --calibrate 0.2 take the threshold "
        "from good pictures that are held out",
        stacklevel=2,
    )
