"""What is refused before the work begins: options, detectors, and the folder."""

import os
from pathlib import Path

import numpy as np

from skad._commands._build import kind_of_data
from skad._needed import need
from skad.datasets._words import note, shown


def one_file(paths, option):
    if paths is None:
        raise ValueError(f"{option} is missing")
    return paths[0]


def note_counters(kind, table, path):
    """Warn of features that grow by one step, as numbers of rows and times do."""
    steps = np.diff(table.X, axis=0)
    if len(steps) < 20:
        return
    usual = np.median(steps, axis=0)
    steady = (usual > 0) & (np.abs(steps - usual) <= 0.01 * usual).all(axis=0)
    option = "--time-column" if kind == "series" else "--id-column"
    for j in np.flatnonzero(steady):
        name = table.columns[j]
        note(
            f"{shown(path)}: column {name!r} grows by one step from row to row, as "
            "times and counters do, and is taken for a feature; "
            f"{option} or --drop names it where it is none"
        )


def refuse(kind, *options):
    """Raise ValueError for options that are of no use on a kind of data."""
    for name, value in (item for part in options for item in part.items()):
        if value not in (None, False, (), []):
            raise ValueError(f"{name} is not for {kind}")


def check_looks_at_pictures(model):
    name, kind = type(model).__name__, kind_of_data(type(model))
    if kind not in ("pictures", "tables"):
        raise ValueError(f"{name} looks at {kind}, not at pictures")
    if kind == "tables" and "image_shape" not in model.get_params(deep=False):
        raise ValueError(
            f"{name} looks at rows of a table, not at pictures; PatchDetector carries "
            f"it to them: --detector PatchDetector --set detector={name}"
        )


def check_looks_at_series(model):
    name, kind = type(model).__name__, kind_of_data(type(model))
    if kind == "tables":
        raise ValueError(
            f"{name} looks at rows of a table, not at series; WindowDetector carries "
            f"it to them: --detector WindowDetector --set detector={name}"
        )
    if kind != "series":
        raise ValueError(f"{name} looks at {kind}, not at series")


def check_looks_at_rows(model):
    name, kind = type(model).__name__, kind_of_data(type(model))
    if kind == "series":
        raise ValueError(
            f"{name} looks at series: pass --series where rows are time steps in order"
        )
    if kind == "a classifier":
        raise ValueError(
            f"{name} looks at a classifier and its inputs, which no file holds; use it "
            "from Python"
        )
    if kind not in ("tables", "pictures"):
        raise ValueError(f"{name} looks at {kind}, not at rows of a table")


def check_rows(data, models):
    """Raise ValueError where a table or series has too few rows to learn from."""
    n = len(data.train.X)
    for model in models if data.kind != "pictures" else ():
        least = getattr(model, "_least_rows", 2)
        if n < least:
            what = "row" if data.kind == "tables" else "time step"
            raise ValueError(
                f"{shown(data.inputs[0])}: has {n} {what}{'s' * (n != 1)}, and "
                f"{type(model).__name__} learns from {least} or more"
            )


def check_columns(drop, **named):
    """Raise ValueError where two options name one column that they use differently."""
    label = named["label_column"]
    given = [
        (option, name)
        for option, value in named.items()
        for name in (value if isinstance(value, tuple) else (value,))
    ]
    for option, name in given:
        words = f"--{option.replace('_', '-')} {name}"
        if name is not None and name in drop:
            raise ValueError(f"{words}: is left out by --drop")
        if option != "label_column" and name is not None and name == label:
            raise ValueError(f"{words}: is the --label-column, too")


def check_results(out, names, inputs):
    """Raise OSError where a result cannot be written, or would replace what is read.

    Parameters
    ----------
    out : str or Path
        The folder, which is there.
    names : sequence of str
        The files that will be written, and "maps" for a folder.
    inputs : sequence of str or Path
        What is read.
    """
    for library in ("PIL.Image", "matplotlib.figure"):
        need(library, "the report")
    for name in names:
        path = Path(out) / name
        if name == "maps":
            if path.exists() and not (path.is_dir() and os.access(path, os.W_OK)):
                raise OSError(f"{shown(path)}: is no folder that maps can be put into")
            continue
        if path.is_dir():
            raise OSError(
                f"{shown(path)}: is a folder; the {name} of this run goes there"
            )
        if path.exists() and not path.is_file():
            raise OSError(
                f"{shown(path)}: is no file; the {name} of this run goes there"
            )
        if path.exists() and not os.access(path, os.W_OK):
            raise OSError(f"{shown(path)}: cannot be written over")
        for read in inputs:
            if path.exists() and Path(read).exists() and path.samefile(read):
                raise OSError(
                    f"--out {shown(out)}: this run would write over {shown(read)}, "
                    "which it reads; name another folder"
                )


def check_outside(out, folders):
    """Raise OSError where maps in `out` would be pictures of the next run."""
    place = Path(out).resolve()
    for folder in folders:
        if folder == place or folder in place.parents:
            raise OSError(
                f"--out {shown(out)}: lies in {shown(folder)}, whose pictures are "
                "read; the next run would take maps for pictures; name another folder"
            )


def reads_missing(detector):
    """Tell whether a detector of series takes NaN for a value that is missing."""
    return detector.get_params().get("missing") in ("interpolate", "skip")
