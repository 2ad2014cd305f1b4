"""Detectors from their names and their parameters as text."""

import ast
import inspect
from pathlib import Path

from sklearn.base import BaseEstimator

import skad
from skad._names import did_you_mean
from skad.base import BaseDetector

# What files hold of that which detectors look at; other data are called as they are.
_KINDS_OF_DATA = {
    "rows": "tables",
    "detector": "tables",
    "edges": "series",
    "classifier": "a classifier",
}


def build_detector(name, settings=(), contamination=None, false_alarm_rate=None):
    """Return a detector from its name and its parameters as text.

    Parameters
    ----------
    name : str
        Name of a public detector.
    settings : sequence of (str, str), default=()
        Names and values. A value is a Python literal (`10`, `0.5`, `None`, `[1, 2]`),
        the name of a detector where the parameter holds one, or text as it stands.
    contamination : "auto", float or None, default=None
        The parameter of that name.
    false_alarm_rate : float or None, default=None
        The parameter of that name.

    Returns
    -------
    detector : BaseDetector
        Not fitted.

    Examples
    --------
    >>> from skad._commands import build_detector
    >>> build_detector("Mahalanobis", [("covariance", "oas")], contamination=0.05)
    Mahalanobis(contamination=0.05, covariance='oas')
    """
    kind = find_detector(name)
    if kind is None:
        hint = did_you_mean(name, dict(skad.all_detectors()), n=3)
        if Path(name).exists():
            hint = "; a file stands before --detector, or behind --train"
        raise ValueError(
            f"no detector is called {name!r}{hint} (`skad list` shows all)"
        )
    model = kind()
    if false_alarm_rate is not None and contamination not in (None, "auto"):
        raise ValueError(
            f"--false-alarm-rate {false_alarm_rate}: has no meaning beside "
            f"--contamination {contamination}, which is a share of the training samples"
        )
    thresholds = {
        "contamination": contamination,
        "false_alarm_rate": false_alarm_rate,
    }
    for key, value in thresholds.items():
        if value is None:
            continue
        option = f"--{key.replace('_', '-')} {value}"
        if key not in model.get_params():
            raise ValueError(f"{option}: {name} has no threshold that it could set")
        if value != "auto" and not 0 < value <= 0.5:
            either = "be auto or " if key == "contamination" else ""
            raise ValueError(f"{option}: must {either}lie above 0 and at most at 0.5")
        settings = [*settings, (key, str(value))]
    # a held detector comes before its own parameters
    for key, text in sorted(settings, key=lambda pair: pair[0].count("__")):
        known = model.get_params()
        if key not in known:
            raise ValueError(
                f"{name} has no parameter {key!r}, but {', '.join(known)}"
                f"{did_you_mean(key, known)}"
            )
        value = parse_value(text)
        holds_detector = known[key] is None or isinstance(known[key], BaseEstimator)
        if holds_detector and isinstance(value, str):
            held = find_detector(value)
            value = value if held is None else held()
        model.set_params(**{key: value})
    return model


def build_detectors(names, settings=(), contamination=None, false_alarm_rate=None):
    """Return several detectors by name; a setting may be of one or of some of them.

    Parameters
    ----------
    names : sequence of str
        Names of public detectors; commas, too, may stand between them.
    settings : sequence of (str, str), default=()
        As in `build_detector`. Of several detectors `KNN.n_neighbors` is that of one,
        and `n_neighbors` that of all that have it.
    contamination, false_alarm_rate : default=None
        As in `build_detector`.

    Returns
    -------
    detectors : dict of str to BaseDetector
        In the order of the names. What is drawn at random is the same in every run,
        unless `random_state` is set.
    """
    names = [part.strip() for name in names for part in name.split(",")]
    names = [name for name in names if name]
    if not names:
        raise ValueError("--detector: no name")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"--detector {twice}: is named twice")
    thresholds = (contamination, false_alarm_rate)
    alone = {name: build_detector(name, (), *thresholds) for name in names}
    if len(names) == 1 and not any(
        key.startswith(f"{names[0]}.") for key, _ in settings
    ):
        return {names[0]: _seeded(names[0], settings, thresholds)}
    own = {name: [] for name in names}
    for key, text in settings:
        name, dot, parameter = key.partition(".")
        if dot:
            if name not in own:
                raise ValueError(f"--set {key}: {name!r} is not among the detectors")
            own[name].append((parameter, text))
            continue
        # a parameter of a held detector belongs to whoever has what holds it
        head = key.partition("__")[0]
        having = [name for name in names if head in alone[name].get_params()]
        if not having:
            raise ValueError(f"--set {key}: none of {', '.join(names)} has it")
        for name in having:
            own[name].append((key, text))
    return {name: _seeded(name, own[name], thresholds) for name in names}


def _seeded(name, settings, thresholds):
    """Return a detector that gives the same in every run, unless told otherwise."""
    model = build_detector(name, settings, *thresholds)
    said = any(key == "random_state" for key, _ in settings)
    if not said and "random_state" in model.get_params(deep=False):
        model.set_params(random_state=0)
    return model


def find_detector(name):
    """Return the class of that name, or None; the others' modules stay unloaded."""
    kind = getattr(skad, name, None)
    is_detector = isinstance(kind, type) and issubclass(kind, BaseDetector)
    return kind if is_detector else None


def kind_of_data(kind):
    """Return what a class of detectors looks at: "tables", "pictures" or the like."""
    return _KINDS_OF_DATA.get(kind._data, kind._data)


def trains_network(detector):
    """Tell whether a detector learns in epochs, which takes seconds to minutes."""
    return "max_epochs" in detector.get_params(deep=False)


def parse_value(text):
    """Return a Python literal where `text` is one, else `text`."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def summaries():
    """Return the name of every detector with the first line of its docstring.

    Returns
    -------
    summaries : dict of str to list of (str, str)
        For each kind of data, sorted by name.
    """
    found = {"tables": [], "pictures": [], "series": [], "a classifier": []}
    for name, kind in skad.all_detectors():
        summary = inspect.getdoc(kind).split("\n", 1)[0]
        found.setdefault(kind_of_data(kind), []).append((name, summary))
    return found
