"""The table of the README: skad beside its peers, what is lost as well as what is won.

    OMP_NUM_THREADS=1 python benchmarks/bench_peers.py tables readme

`tables` measures PyOD's detectors and ours in one run, in turns: ROC AUC on the two
sets that scikit-learn ships, fit and score of 10,000 rows, the process' peak memory
(imports too), estimator checks. It writes ``benchmarks/results/peers_tables.tsv``.
`readme` puts the table into README.md, from that file and from those of the other
benchmarks, with the date of each.
"""

import argparse
import pathlib
import statistics
import warnings
from importlib import import_module

import numpy as np
from _measure import Table, fresh_process, in_turns
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

import skad
from skad.datasets import load_breast_cancer, load_digits

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

# Ours and PyOD's, each with its defaults but for what makes them the same method.
PAIRS = [
    ("KNN()", "knn:KNN()"),
    ("LOF()", "lof:LOF()"),
    ("IsolationForest(random_state=0)", "iforest:IForest(random_state=0)"),
    ("ECOD()", "ecod:ECOD()"),
    ("COPOD()", "copod:COPOD()"),
    ("HBOS()", "hbos:HBOS()"),
    ("OneClassSVM()", "ocsvm:OCSVM()"),
    ("PCAReconstruction()", "pca:PCA()"),
    ("Mahalanobis('mcd', random_state=0)", "mcd:MCD(random_state=0)"),
    ("AutoEncoder(random_state=0)", "auto_encoder:AutoEncoder(random_state=0)"),
    ("DeepSVDD(random_state=0)", "deep_svdd:DeepSVDD(n_features=N, random_state=0)"),
]

PEAK = """
import pathlib, sys
sys.path.insert(0, "benchmarks")
from bench_peers import build, rows, score
X = rows()
score(build(sys.argv[1], 20).fit(X), X)
# of this program alone: getrusage counts what its parent held when it was started
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def build(text, n_features):
    """Return the detector that a text of `PAIRS` describes."""
    if ":" not in text:
        return eval(f"skad.{text}", {"skad": skad})
    module, call = text.split(":")
    names = vars(import_module(f"pyod.models.{module}"))
    return eval(call, {**names, "N": n_features})


def score(detector, X):
    """Return scores of which higher is more anomalous."""
    ours = type(detector).__module__.startswith("skad")
    return -detector.score_samples(X) if ours else detector.decision_function(X)


def rows():
    """Return 10,000 rows of 20 features, correlated."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(10_000, 20)) @ rng.normal(size=(20, 20))


def mean_auc(text):
    """Return the mean ROC AUC over the sets that scikit-learn ships."""
    found = []
    for load in (load_breast_cancer, load_digits):
        data = load()
        scaler = StandardScaler().fit(data.X_train)
        train, test = scaler.transform(data.X_train), scaler.transform(data.X_test)
        detector = build(text, train.shape[1]).fit(train)
        found.append(roc_auc_score(data.y_test == -1, score(detector, test)))
    return statistics.mean(found)


def checks(text):
    """Return how many of scikit-learn's estimator checks pass, "passed/run"."""
    from sklearn.utils.estimator_checks import check_estimator

    found = check_estimator(build(text, 10), on_skip=None, on_fail=None)
    run = [row["status"] for row in found if row["status"] != "skipped"]
    return f"{run.count('passed')}/{len(run)}"


def tables(options):
    """Our detectors and PyOD's."""
    table = Table(
        "ours peer auc peer_auc fit_score_s peer_fit_score_s ratio mb peer_mb checks"
        " peer_checks".split()
    )
    X = rows()
    for ours, peer in PAIRS:
        if options.only and options.only not in ours:
            continue
        times = in_turns(
            lambda ours=ours: score(build(ours, 20).fit(X), X),
            lambda peer=peer: score(build(peer, 20).fit(X), X),
            options.turns,
        )
        both = ours, peer
        peaks = [float(fresh_process(PEAK, text)) for text in both]
        table.add(
            *both,
            *map(mean_auc, both),
            *times,
            times[1] / times[0],
            *peaks,
            *map(checks, both),
        )
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=["tables", "readme"])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", help="part of the names of detectors to run")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if "tables" in options.parts:
        tables(options).write(RESULTS / "peers_tables.tsv")
    if "readme" in options.parts:
        from _readme import write_table

        write_table(ROOT / "README.md", RESULTS)


if __name__ == "__main__":
    main()
