"""A fitted detector in a file, with how its data were read and what it learned from.

The file is one of `skad.save`: `skad.load` gives the detector, with the scaling before
it. What the command line needs besides stands in the file's notes, as plain JSON. They
are checked like whatever comes from a file.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skad._commands._build import kind_of_data
from skad._commands._folders import writable_folder
from skad._commands._reading import Reading
from skad._needed import need
from skad.base import BaseDetector
from skad.datasets._words import shown
from skad.inspection._inspected import last_step, reference_scores
from skad.inspection._learned import learned_before
from skad.persistence import CorruptFileError
from skad.persistence._file import read, write

FORMAT = 1  # of the notes
_UNITS = {"tables": "row", "series": "time step", "pictures": "picture"}

# Training scores that are kept for the page where the detector keeps none itself.
_KEPT = 10_000


@dataclass(frozen=True, kw_only=True)
class Model:
    """What `skad fit` writes and `skad score` reads.

    Parameters
    ----------
    kind : {"tables", "series", "pictures"}
        What it looks at.
    learned : Learned
        The detector, and what it learned.
    reading : Reading
        How the training data were read.
    scaling : str
        What was done to features before.
    columns : list of str or None
        The names of the features.
    image_shape : tuple of int or None
        Height and width where rows are pictures; those and channels of pictures.
    known_labels : list or None
        The labels of the training rows.
    """

    kind: str
    learned: Any
    reading: Reading
    scaling: str
    columns: Any = None
    image_shape: Any = None
    known_labels: Any = None


def check_model_file(path, inputs):
    """Raise OSError where a model cannot be written, before the long work.

    Parameters
    ----------
    path : str or Path
        The file.
    inputs : sequence of str or Path
        What is read, and must not be written over.
    """
    need("safetensors", "a model's file")
    path, name = Path(path), shown(path)
    if path.is_dir():
        raise OSError(f"--out {name}: is a folder; name a file, such as model.skad")
    if path.exists() and not path.is_file():
        raise OSError(f"--out {name}: is no file")
    if not path.parent.is_dir():
        raise OSError(f"--out {name}: there is no folder {shown(path.parent)}")
    writable_folder(path.parent)
    if path.exists() and not os.access(path, os.W_OK):
        raise OSError(f"--out {name}: cannot write there")
    for read_file in inputs:
        if path.exists() and Path(read_file).exists() and path.samefile(read_file):
            raise OSError(
                f"--out {name}: this run would write over {shown(read_file)}, which it "
                "reads; name another file"
            )


def save_model(model, path):
    """Write a model into a file."""
    learned = model.learned
    kept = getattr(last_step(learned.detector), "_reference_", None) is not None
    scores = None
    if not kept or learned.held_out:
        scores = learned.train_score
        scores = scores[:: -(-len(scores) // _KEPT)].tolist()
    about = {
        "name": learned.name,
        "setting": learned.setting,
        "n_train": learned.n_train,
        "train_score": scores,
        "threshold": learned.threshold,
        "fit_seconds": learned.fit_seconds,
        "held_out": learned.held_out,
        "train_range": _plain(learned.train_range),
        "scale": _plain(learned.scale),
        "window": learned.window,
    }
    notes = {
        "format": FORMAT,
        "kind": model.kind,
        "learned": about,
        "reading": model.reading.to_json(),
        "scaling": model.scaling,
        "columns": model.columns,
        "image_shape": _plain(model.image_shape),
        "known_labels": model.known_labels,
    }
    write(learned.detector, path, notes=notes)


def load_model(path):
    """Read a model; whatever is wrong with the file is one line that names it."""
    name = shown(path)
    if not Path(path).exists():
        raise FileNotFoundError(f"{name}: no such file")
    if Path(path).is_dir():
        raise IsADirectoryError(f"{name}: is a folder, not a model of `skad fit`")
    try:
        detector, notes = read(path)
    except CorruptFileError as error:
        raise ValueError(f"{error} A model is what `skad fit` writes") from error
    if notes is None:
        raise ValueError(
            f"{name}: holds a detector that Python saved, without how its data are "
            "read; `skad fit` writes a model"
        )
    try:
        return _model(detector, notes)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"{name}: is no model of `skad fit`: {error}") from error


def _model(detector, notes):
    if notes["format"] != FORMAT:
        raise ValueError("it was written by another version of skad")
    kind, about = notes["kind"], notes["learned"]
    last = last_step(detector)
    _check(kind in _UNITS and isinstance(last, BaseDetector), "another kind of data")
    numbers = {
        name: _number(about[name]) for name in ("threshold", "fit_seconds", "n_train")
    }
    columns, window = notes["columns"], about["window"]
    named = isinstance(columns, list) and all(isinstance(c, str) for c in columns)
    _check(named if kind != "pictures" else columns is None, "columns")
    _check(window is None or (type(window) is int and window > 0), "a window")
    _check(notes["scaling"] in ("robust", "standard", "none"), "a scaling")
    train_range = _array(about["train_range"], 2)
    if kind == "tables":
        _check(train_range.shape == (3, len(columns)), "ranges of features")
    held_out = about["held_out"]
    _check(type(held_out) is int and held_out >= 0, "held-out pictures")
    scale, shape = _array(about["scale"], 1), notes["image_shape"]
    _check(scale is None or scale.shape == (2,), "a scale of maps")
    sides = {"tables": (2,), "series": (), "pictures": (3,)}[kind]
    whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    fits = whole and len(shape) in sides
    _check(fits or (shape is None and kind != "pictures"), "a shape of pictures")
    known = notes["known_labels"]
    _check(known is None or isinstance(known, list), "labels")
    if kind == "series":
        _check(window is not None and kind_of_data(type(last)) == "series", "a window")
    scores = _array(about["train_score"], 1)
    if scores is None:
        scores = reference_scores(detector, list)
    _check(len(scores) > 0, "scores")
    learned = learned_before(
        detector,
        _UNITS[kind],
        scores,
        name=str(about["name"]),
        setting=str(about["setting"]),
        n_train=int(numbers["n_train"]),
        threshold=numbers["threshold"],
        fit_seconds=numbers["fit_seconds"],
        held_out=held_out,
        train_range=train_range,
        scale=None if scale is None else tuple(scale.tolist()),
        window=window,
    )
    return Model(
        kind=kind,
        learned=learned,
        reading=Reading.of_json(notes["reading"]),
        scaling=notes["scaling"],
        columns=columns,
        image_shape=None if shape is None else tuple(shape),
        known_labels=known,
    )


def _check(fits, what):
    if not fits:
        raise ValueError(f"it holds {what} that cannot be")


def _number(value):
    _check(type(value) in (int, float) and np.isfinite(value), "numbers")
    return float(value)


def _array(value, n_axes):
    if value is None:
        return None
    array = np.array(value, dtype=np.float64)
    _check(array.ndim == n_axes and np.isfinite(array).all(), "numbers")
    return array


def _plain(value):
    if value is None:
        return None
    return np.asarray(value).tolist()
