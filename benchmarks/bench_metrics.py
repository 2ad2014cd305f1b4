"""Metrics of series: speed against the reference code, and what trivial scores reach.

Run with nothing else running, where TSB_AD 1.5 and aeon 1.6.0 can be imported (rows of
a peer that cannot are left out):

    OMP_NUM_THREADS=1 python benchmarks/bench_metrics.py speed
    python benchmarks/bench_metrics.py trivial --data ../shared/data

Parts: speed, trivial (random scores, absolute differences and absolute z-scores on the
shared series, under every metric). Each writes a table ``metrics_<part>.tsv`` into
``benchmarks/results``.
"""

import argparse
import gzip
import pathlib
import warnings

import numpy as np
from _measure import Table, in_turns, median_seconds

from skad import metrics


def simulated(n, n_events, length, seed=0):
    """Return labels and scores of a series with events of one length."""
    rng = np.random.default_rng(seed)
    anomalous = np.zeros(n, dtype=bool)
    for start in np.linspace(100, n - 200, n_events).astype(int):
        anomalous[start : start + length] = True
    return anomalous, rng.normal(size=n) + anomalous


def peers():
    """Yield (name, form, metric, the peer's function) of what is installed."""
    try:
        from TSB_AD.evaluation.basic_metrics import generate_curve

        yield "TSB_AD", "tsb", metrics.vus_pr, lambda y, s: generate_curve(y, s, 100)[7]
    except ImportError:
        pass
    try:
        from aeon.benchmarking.metrics.anomaly_detection import range_pr_vus_score

        yield (
            "aeon",
            "original",
            metrics.vus_pr,
            lambda y, s: range_pr_vus_score(y, s, 100),
        )
    except ImportError:
        pass


def speed(options):
    """Time of the volumes and of PATE."""
    table = Table(["work", "ours_s", "peer_s", "ratio", "wanted", "note"])
    y, score = simulated(2000, 5, 40)
    for name, form, metric, peer in peers():
        labels = y.astype(int)

        def ours(form=form, metric=metric):
            return metric(y, score, form=form)

        def other(peer=peer, labels=labels):
            return peer(labels, score)

        difference = abs(ours() - other())
        mine, theirs = in_turns(ours, other, options.turns)
        note = f"difference {difference:.1e}; {name} computes PR and ROC together"
        note = note if name == "TSB_AD" else f"difference {difference:.1e}"
        work = f"vus_pr {form} n=2,000 window 100 ({name})"
        table.add(work, mine, theirs, theirs / mine, 30, note)
    y, score = simulated(230_400, 208, 100)
    for form in ("tsb", "original"):
        time = median_seconds(
            lambda form=form: metrics.vus_pr(y, score, form=form), options.turns
        )
        table.add(f"vus_pr {form} n=230,400 window 100", time, "", "", "1 s", "")
    for name in ("pate", "pa_k_auc", "best_f1", "average_precision"):
        metric = getattr(metrics, name)
        time = median_seconds(lambda metric=metric: metric(y, score), options.turns)
        table.add(f"{name} n=230,400", time, "", "", "", "")
    return table


def labelled(folder):
    """Yield (name, rows (n, c), mask) of the shared series with labels of their own."""
    folder = pathlib.Path(folder) / "series"
    for path in [
        *sorted(folder.glob("smd/*.npz")),
        *sorted(folder.glob("tele*/*.npz")),
    ]:
        with np.load(path) as file:
            yield path.stem, file["test"].astype(float), file["label"] > 0
    for path in sorted(folder.glob("ucr/*")):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt") as file:
            values = np.array(file.read().split(), dtype=float)
        name, *_, start, stop = path.name.split(".txt")[0].split("_")
        mask = np.zeros(len(values), dtype=bool)
        mask[int(start) : int(stop)] = True
        yield f"ucr_{name}", values[:, None], mask
    for path in sorted(folder.glob("kpi/*.csv")):
        data = np.genfromtxt(path, delimiter=",", skip_header=1)
        yield path.stem, data[:, 1:2], data[:, 2] > 0


def affiliation_f1(y, flagged):
    """Return the harmonic mean of the affiliation pair."""
    precision = metrics.affiliation_precision(y, flagged)
    recall = metrics.affiliation_recall(y, flagged)
    return 2 * precision * recall / (precision + recall) if recall else 0.0


def trivial(options):
    """Quality of scores that no detector should fall behind, by every metric."""
    names = ["vus_pr", "vus_pr_original", "vus_roc", "average_precision", "pate"]
    names += ["best_f1", "best_event_f1", "best_affiliation_f1", "pa_k_auc"]
    names += ["best_point_adjusted_f1"]
    table = Table(["series", "anomalous", "score", *names])
    for name, X, y in labelled(options.data):
        steps = np.abs(np.diff(X, axis=0, prepend=X[:1]))
        deviation = np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
        scores = {
            "random": np.random.default_rng(0).uniform(size=len(X)),
            "difference": steps.sum(axis=1),
            "z": (np.abs(X - X.mean(axis=0)) / deviation).sum(axis=1),
        }
        for kind, score in scores.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row = [
                    metrics.vus_pr(y, score),
                    metrics.vus_pr(y, score, form="original"),
                    metrics.vus_roc(y, score),
                    metrics.average_precision(y, score),
                    metrics.pate(y, score),
                    metrics.best_f1(y, score),
                    metrics.best_over_thresholds(metrics.event_f1, y, score),
                    metrics.best_over_thresholds(affiliation_f1, y, score),
                    metrics.pa_k_auc(y, score),
                    best_point_adjusted(y, score),
                ]
            figures = [f"{value:.3f}" for value in row]
            table.add(name, f"{y.mean():.3f}", kind, *figures)
    return table


def best_point_adjusted(y, score):
    """Return the point-adjusted F1 at the best of many high thresholds."""
    thresholds = np.unique(np.quantile(score, np.linspace(0.8, 1, 200)))[:-1]
    return max(metrics.pa_k_f1(y, score > t, k=0) for t in thresholds)


def main():
    """Run the parts that the command line names."""
    parts = {function.__name__: function for function in (speed, trivial)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--data", default="../shared/data", help="shared data")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    for part in options.parts:
        table = parts[part](options)
        table.write(pathlib.Path(options.out) / f"metrics_{part}.tsv")


if __name__ == "__main__":
    main()
