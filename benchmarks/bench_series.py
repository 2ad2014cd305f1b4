"""Series: quality beside the peers' figures, time and memory over long series.

    OMP_NUM_THREADS=1 python benchmarks/bench_series.py quality --data ../shared/data
    OMP_NUM_THREADS=1 python benchmarks/bench_series.py scale

`quality`: every detector with its defaults, fitted on the whole series that it scores,
as the peers were; VUS-PR in TSB-AD's form with the dominant period as its window.
Trivial scores stand beside, and a last row per pair has the means over the series in
common. `scale`: up to a million steps of ten channels, in processes of their own, in
CPU seconds. Each part writes ``benchmarks/results/series_<part>.tsv``.
"""

import argparse
import json
import pathlib
import sys
import time
import warnings

import numpy as np
from _measure import Table, fresh_process
from sklearn.metrics import average_precision_score, roc_auc_score

import skad
from skad.metrics import vus_pr

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

# Each detector with its defaults, and the peers that do the same.
DETECTORS = {
    "SubsequenceKNN": (skad.SubsequenceKNN(), ["TSB-AD.Sub_KNN"]),
    "SubsequenceLOF": (skad.SubsequenceLOF(), ["TSB-AD.Sub_LOF", "aeon.LOF(k=20)"]),
    "KMeansAD": (
        skad.KMeansAD(random_state=0),
        ["TSB-AD.KMeansAD_U", "TSB-AD.KMeansAD", "aeon.KMeansAD(20)"],
    ),
    "WindowDetector(IsolationForest)": (
        skad.WindowDetector(skad.IsolationForest(random_state=0)),
        ["TSB-AD.Sub_IForest", "aeon.IForest(100)"],
    ),
    "WindowDetector(PCAReconstruction)": (
        skad.WindowDetector(skad.PCAReconstruction()),
        ["TSB-AD.Sub_PCA"],
    ),
    "MatrixProfile": (
        skad.MatrixProfile(),
        ["TSB-AD.MatrixProfile", "aeon.STOMP"],
    ),
    "LeftMatrixProfile": (skad.LeftMatrixProfile(), ["TSB-AD.Left_STAMPi"]),
    "SpectralResidual": (skad.SpectralResidual(), ["TSB-AD.SR", "SR(MS)"]),
}

SERIES = "nab_ec2_latency nab_nyc_taxi ucr_135 ucr_136 smd_1-7 smd_2-1".split()


def trivial(X):
    """Return scores that take no model."""
    scale = X.std(axis=0)
    z = np.abs(X - X.mean(axis=0)) / np.where(scale > 0, scale, 1)
    return {
        "|difference|": np.abs(np.diff(X, axis=0, prepend=X[:1])).sum(axis=1),
        "|z|": z.max(axis=1),
        "random": np.random.default_rng(0).random(len(X)),
    }


def quality(options):
    """VUS-PR and more of every detector where a peer's figure is known."""
    from tests._series_data import load_series, peer_figures

    folder = pathlib.Path(options.data)
    peers = peer_figures(folder)
    table = Table(
        "series detector vus_pr average_precision roc_auc seconds peer peer_vus_pr "
        "published_vus_pr".split()
    )
    pairs = {}
    for name in SERIES:
        X, y = load_series(folder, name)
        [window] = {int(row["window"]) for key, row in peers.items() if key[0] == name}

        def figures(anomaly, y=y, window=window):
            return (
                vus_pr(y, anomaly, window=window, pos_label=1),
                average_precision_score(y, anomaly),
                roc_auc_score(y, anomaly),
            )

        for label, anomaly in trivial(X).items():
            table.add(name, label, *figures(anomaly), "", "", "", "")
        for label, (detector, methods) in DETECTORS.items():
            known = [method for method in methods if (name, method) in peers]
            if not known or (options.only and options.only not in label):
                continue
            start = time.perf_counter()
            anomaly = -detector.fit(X).score_samples(X)
            took = time.perf_counter() - start
            found = figures(anomaly)
            for method in known:
                row = peers[name, method]
                published = row["published_vus_pr"]
                table.add(name, label, *found, took, method, row["vus_pr"], published)
                library = label, method.removesuffix("_U")
                pairs.setdefault(library, []).append((found[0], row["vus_pr"]))
    for (label, method), values in pairs.items():
        ours, theirs = np.mean(values, axis=0)
        table.add(f"mean of {len(values)}", label, ours, "", "", "", method, theirs, "")
    return table


SCALE = """
import json, resource, sys, time
import numpy as np, skad
n, code = int(sys.argv[1]), sys.argv[2]
X = np.random.default_rng(0).normal(size=(n, 10))
detector = eval(code, dict(skad.all_detectors()))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.process_time()
detector.fit(X[:100_000])
fit, start = time.process_time() - start, time.process_time()
detector.score_samples(X)
print(json.dumps([fit, time.process_time() - start, peak() - before]))
"""


def scale(options):
    """Time and memory above the data over the length of the series."""
    table = Table("detector steps fit_s score_s us_per_step mb_above_data".split())
    for code in (
        "KMeansAD(window_size=100, max_windows=5000, random_state=0)",
        "WindowDetector(Mahalanobis(), window_size=20)",
        "WindowDetector(IsolationForest(), window_size=20, stride=10)",
    ):
        for n in (250_000, 500_000, 1_000_000):
            fit, score, memory = json.loads(fresh_process(SCALE, n, code))
            table.add(code, n, fit, score, 1e6 * score / n, memory)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=["quality", "scale"])
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--only", help="part of the names of detectors to run")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for part in options.parts:
        table = globals()[part](options)
        results = pathlib.Path(__file__).parent / "results"
        table.write(results / f"series_{part}.tsv")


if __name__ == "__main__":
    main()
