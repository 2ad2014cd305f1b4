"""What `python -m skad` does: detect in files, demonstrate, list the detectors."""

import ast
import contextlib
import inspect
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad import datasets
from skad.base import BaseDetector
from skad.inspection import examine, write_report, write_scores

# The detector that the demonstration's report shows in detail.
_SHOWN = "KNN"
# Networks that learn the demonstration's few rows in about a second each.
_QUICK_NETWORKS = {"AutoEncoder", "GANomaly", "VAE"}
# Families of detectors that look at something else than rows of features.
_NOT_ON_ROWS = {"image", "ood", "series"}


def detect(
    train,
    test,
    detector,
    *,
    settings=(),
    out="skad-report",
    label_column=None,
    anomaly_label=None,
    drop=(),
    image_shape=None,
    contamination=None,
    scale=False,
    progress=False,
):
    """Fit a detector on one file, look at another, and write a report.

    Parameters
    ----------
    train, test : str or Path
        Files that `skad.datasets.read_table` reads.
    detector : str
        Name of a detector.
    settings : sequence of (str, str), default=()
        Parameters and their values as text; Python literals where they are some.
    out : str or Path, default="skad-report"
        Folder for `index.html` and `scores.csv`.
    label_column : str or None, default=None
        Column of the labels, in the test file and perhaps in the training file.
    anomaly_label : str or None, default=None
        Which label means an anomaly; see `skad.datasets.anomaly_labels`.
    drop : sequence of str, default=()
        Columns to leave out.
    image_shape : tuple of int or None, default=None
        Height and width, where rows are pictures; passed on to detectors that look at
        them as such.
    contamination : float or None, default=None
        Passed to the detector.
    scale : bool, default=False
        Scale every feature to the training rows' mean 0 and variance 1.
    progress : bool, default=False
        Show progress bars on the terminal.

    Returns
    -------
    findings : Findings
        What was found.
    page : Path
        The report.
    """
    model = build_detector(detector, settings, contamination)
    seen = datasets.read_table(train, label_column=label_column, drop=drop)
    new = datasets.read_table(test, label_column=label_column, drop=drop)
    datasets.check_same_columns(seen, new, Path(train).name, Path(test).name)
    y_train, y_test = _labels(seen, new, test, label_column, anomaly_label)
    image_shape = _checked_shape(image_shape or new.image_shape, new.X.shape[1])
    writable_folder(out)  # before the long work
    looks_at_pictures = "image_shape" in model.get_params()
    if image_shape is not None and looks_at_pictures and model.image_shape is None:
        model.set_params(image_shape=tuple(image_shape))
    if scale:
        model = make_pipeline(StandardScaler(), model)
    with _progress(model, progress) as track:
        findings = examine(
            model,
            seen.X,
            new.X,
            y_train=y_train,
            y_test=y_test,
            feature_names=new.columns,
            image_shape=image_shape,
            title=Path(test).name,
            name=detector,
            track=track,
        )
    write_scores(Path(out) / "scores.csv", findings)
    title = f"{detector} on {Path(test).name}"
    return findings, write_report(out, [findings], title=title)


def demo(out="skad-report", say=print, *, networks=False):
    """Run the detectors on rows on two sets that scikit-learn ships; write a report.

    Parameters
    ----------
    out : str or Path, default="skad-report"
        Folder for `index.html`.
    say : callable, default=print
        Takes the lines of the table, one by one.
    networks : bool, default=False
        Whether all detectors that train networks run, some for minutes, and not just a
        few quick ones.

    Returns
    -------
    findings : list of Findings
        One per data set and detector.
    page : Path
        The report.
    """
    writable_folder(out)
    cancer = datasets.load_breast_cancer()
    digits = datasets.load_digits(normal_digit=8)
    others = (0, 1, 2, 3, 4, 5, 6, 7, 9)
    one_of_each = [np.argmax(digits.digits_test == digit) for digit in others]
    everything = []
    line = "{:<24} {:>8} {:>8} {:>8} {:>8}".format
    for data, scaled in ((cancer, True), (digits, False)):
        say(f"\n{data.title}: {len(data.X_train)} rows to learn from, ", end="")
        say(
            f"{len(data.y_test)} to look at, {np.mean(data.y_test == -1):.0%} anomalies"
        )
        say(line("detector", "ROC AUC", "av.prec.", "fit, s", "score, s"))
        for name, kind in demonstrated(networks=networks):
            model = kind()
            if "random_state" in model.get_params():
                model.set_params(random_state=0)
            found = examine(
                make_pipeline(StandardScaler(), model) if scaled else model,
                data.X_train,
                data.X_test,
                y_test=data.y_test,
                feature_names=data.feature_names,
                image_shape=data.image_shape,
                title=data.title,
                name=name,
                compared=() if data.image_shape is None else one_of_each,
            )
            auc = found.metrics["ROC AUC"]
            precision = found.metrics["average precision"]
            times = (f"{found.fit_seconds:.3f}", f"{found.score_seconds:.3f}")
            say(line(name, f"{auc:.3f}", f"{precision:.3f}", *times))
            everything.append(found)
    shown = [found for found in everything if found.name == _SHOWN]
    page = write_report(
        out, shown, title="skad: anomalies in two data sets", comparison=everything
    )
    return everything, page


def demonstrated(*, networks=False):
    """Return (name, class) of the detectors that `demo` runs.

    Parameters
    ----------
    networks : bool, default=False
        Whether all that train networks are among them, or a few quick ones.
    """
    return [
        (name, kind)
        for name, kind in skad.all_detectors()
        if kind.__module__.split(".")[1] not in _NOT_ON_ROWS
        and (networks or name in _QUICK_NETWORKS or not trains_network(kind()))
    ]


def build_detector(name, settings=(), contamination=None):
    """Return a detector from its name and its parameters as text.

    Parameters
    ----------
    name : str
        Name of a public detector.
    settings : sequence of (str, str), default=()
        Names and values. A value is a Python literal (`10`, `0.5`, `None`, `[1, 2]`),
        the name of a detector where the parameter holds one, or text as it stands.
    contamination : float or None, default=None
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
        lower = {known.lower(): known for known, _ in skad.all_detectors()}
        near = get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
        hint = (
            f"; the nearest are {', '.join(lower[key] for key in near)}" if near else ""
        )
        raise ValueError(
            f"no detector is called {name!r}{hint} (`python -m skad list` shows all)"
        )
    model = kind()
    if contamination is not None:
        settings = [*settings, ("contamination", str(contamination))]
    # a held detector comes before its own parameters
    for key, text in sorted(settings, key=lambda pair: pair[0].count("__")):
        known = model.get_params()
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(
                f"{name} has no parameter {key!r}{hint}; it has {', '.join(known)}"
            )
        value = parse_value(text)
        holds_detector = known[key] is None or isinstance(known[key], BaseEstimator)
        if holds_detector and isinstance(value, str):
            held = find_detector(value)
            value = value if held is None else held()
        model.set_params(**{key: value})
    return model


def find_detector(name):
    """Return the class of that name, or None; the others' modules stay unloaded."""
    kind = getattr(skad, name, None)
    is_detector = isinstance(kind, type) and issubclass(kind, BaseDetector)
    return kind if is_detector else None


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
    summaries : list of (str, str)
        Sorted by name.
    """
    return [
        (name, inspect.getdoc(kind).split("\n", 1)[0])
        for name, kind in skad.all_detectors()
    ]


def writable_folder(folder):
    """Make a folder, and raise OSError in one line where nothing can be written."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".skad-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"{folder}: cannot write there: {error.strerror}") from error


def _labels(train, test, test_name, label_column, anomaly_label):
    if test.labels is None:
        if label_column is not None:
            near = get_close_matches(label_column, test.columns, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{test_name}: no label column {label_column!r}{hint}")
        if anomaly_label is not None:
            raise ValueError("--anomaly-label needs --label-column")
        return None, None
    seen = () if train.labels is None else train.labels
    y_test = datasets.anomaly_labels(
        test.labels, anomaly_label=anomaly_label, known=seen
    )
    if not y_test.all():
        raise ValueError(
            f"{test_name}: row {int(np.argmin(abs(y_test)))} is unlabelled"
        )
    if train.labels is None:
        return None, y_test
    y_train = datasets.anomaly_labels(
        seen, anomaly_label=anomaly_label, known=test.labels
    )
    return y_train, y_test


def _checked_shape(image_shape, n_features):
    if image_shape is not None and np.prod(image_shape) != n_features:
        height, width = image_shape
        raise ValueError(
            f"--image-shape {height},{width} means {height * width} columns, "
            f"but there are {n_features}"
        )
    return image_shape


@contextlib.contextmanager
def _progress(model, wanted):
    """Show scikit-learn's bars while fitting, and yield a tracker for what follows."""
    if not wanted:
        yield None
        return
    try:
        import rich
        from rich.progress import track
    except ImportError:
        yield None
        return
    with contextlib.suppress(ImportError):  # callbacks came with scikit-learn 1.9
        from sklearn.callback import ProgressBar

        model.set_callbacks(ProgressBar())
    # scikit-learn's bars are drawn on rich's global console: borrow it for a while
    console = rich.get_console()
    before, console.stderr = console.stderr, True

    def tracked(blocks, description, total):
        return track(blocks, description, total, console=console, transient=True)

    try:
        yield tracked
    finally:
        console.stderr = before
