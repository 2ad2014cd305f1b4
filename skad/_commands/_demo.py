"""What `skad demo` does: the detectors on two sets that everybody has, and on drawn."""

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad import datasets
from skad._commands._build import trains_network
from skad._commands._drawn import drawn_pictures, drawn_series
from skad._commands._folders import writable_folder
from skad._needed import need
from skad.inspection import (
    examine,
    examine_pictures,
    examine_series,
    write_report,
)

# The detector that the demonstration's report shows in detail.
_SHOWN = "KNN"
_COLUMNS = "{:<24} {:>8} {:>8} {:>8} {:>8}".format
# Networks that learn the demonstration's few rows in about a second each.
_QUICK_NETWORKS = {"AutoEncoder", "DeepSVDD"}
# On pictures and on series, those that need no training; the first is shown in detail.
_ON_PICTURES = ("PatchCore", "PaDiM")
_ON_SERIES = ("MatrixProfile", "SubsequenceKNN")


def demo(out="skad-report", say=print, *, networks=False):
    """Run detectors on two sets that scikit-learn ships and on two drawn ones.

    All detectors on rows run on the former; of the latter one has pictures and one is a
    series. Writes a report.

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
    need("matplotlib", "the report")
    writable_folder(out)
    cancer = datasets.load_breast_cancer()
    digits = datasets.load_digits(normal_digit=8)
    for part in ("X_train", "X_test"):
        digits[part] = digits[part] / 16  # 0..1, as networks are made for
    others = (0, 1, 2, 3, 4, 5, 6, 7, 9)
    one_of_each = [np.argmax(digits.digits_test == digit) for digit in others]
    everything = []
    for data, scaled in ((cancer, True), (digits, False)):
        _head(say, data, "rows")
        for name, model in _built(demonstrated(networks=networks)):
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
            _line(say, found)
            everything.append(found)
    everything += _on_pictures(say)
    everything += _on_series(say)
    shown = (_SHOWN, _ON_PICTURES[0], _ON_SERIES[0])
    page = write_report(
        out,
        [found for found in everything if found.name in shown],
        title="skad: anomalies in tables, pictures and a series",
        comparison=everything,
    )
    return everything, page


def _on_pictures(say):
    data = drawn_pictures()
    more = {"masks": data.masks_test, "defects": data.defects_test}
    return _drawn(say, data, "pictures", _ON_PICTURES, examine_pictures, **more)


def _on_series(say):
    data = drawn_series()
    more = {"feature_names": data.feature_names, "merge_gap": 10}
    return _drawn(say, data, "time steps", _ON_SERIES, examine_series, **more)


def _drawn(say, data, unit, names, look, **more):
    """Return what detectors say of data that were drawn."""
    _head(say, data, unit)
    findings = []
    for name, model in _built([(name, getattr(skad, name)) for name in names]):
        found = look(
            model,
            data.X_train,
            data.X_test,
            y_test=data.y_test,
            title=data.title,
            name=name,
            **more,
        )
        _line(say, found)
        findings.append(found)
    return findings


def _built(classes):
    """Yield names and detectors that give the same in every run."""
    for name, kind in classes:
        model = kind()
        if "random_state" in model.get_params():
            model.set_params(random_state=0)
        yield name, model


def _head(say, data, unit):
    say(f"\n{data.title}: {len(data.X_train)} {unit} to learn from, ", end="")
    say(f"{len(data.y_test)} to look at, {np.mean(data.y_test == -1):.0%} anomalies")
    say(_COLUMNS("detector", "ROC AUC", "av.prec.", "fit, s", "look, s"))


def _line(say, found):
    auc, precision = found.metrics["ROC AUC"], found.metrics["average precision"]
    times = (f"{found.fit_seconds:.3f}", f"{found.score_seconds:.3f}")
    say(_COLUMNS(found.name, f"{auc:.3f}", f"{precision:.3f}", *times))


def demonstrated(*, networks=False):
    """Return (name, class) of the detectors that `demo` runs.

    What calibrates another detector has that one's scores, and is left out.

    Parameters
    ----------
    networks : bool, default=False
        Whether all that train networks are among them, or a few quick ones.
    """
    return [
        (name, kind)
        for name, kind in skad.all_detectors()
        if kind._data == "rows"
        and (networks or name in _QUICK_NETWORKS or not trains_network(kind()))
    ]
