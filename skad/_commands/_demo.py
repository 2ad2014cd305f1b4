"""What `python -m skad demo` does: the detectors on two sets that everybody has."""

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad import datasets
from skad._commands._build import trains_network
from skad._commands._folders import writable_folder
from skad._needed import need
from skad.inspection import examine, write_report

# The detector that the demonstration's report shows in detail.
_SHOWN = "KNN"
# Networks that learn the demonstration's few rows in about a second each.
_QUICK_NETWORKS = {"AutoEncoder", "GANomaly", "VAE"}


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
    need("matplotlib", "the report")
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
        say(line("detector", "ROC AUC", "av.prec.", "fit, s", "look, s"))
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
