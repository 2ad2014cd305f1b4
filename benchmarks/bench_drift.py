"""Why a threshold fails on a real series: what is normal has changed, or few periods.

    OMP_NUM_THREADS=1 python benchmarks/bench_drift.py --data ../shared/data

Each detector learns with its defaults from the first steps of a series ("first"), and
from as many normal ones in five stretches spread over all of it ("spread"): as many
periods. Flagged is the share of the normal steps that are not learned from: all
("all"), as many as were learned from that come right after the first ("next") and the
last of the series ("last"). Windows around stretches and anomalies are left out. The
results are in ``benchmarks/results/thresholds_drift.tsv``.
"""

import argparse
import pathlib
import warnings

import numpy as np
from _measure import Table
from bench_thresholds import SERIES

import skad

DATA = {"ECG805": "ECG 805", "taxi": "NAB nyc_taxi"}
DETECTORS = {
    "SubsequenceKNN": skad.SubsequenceKNN(),
    "SubsequenceLOF": skad.SubsequenceLOF(),
    "MatrixProfile": skad.MatrixProfile(),
    "PASAD": skad.PASAD(),
    "KMeansAD": skad.KMeansAD(random_state=0),
}
STRETCHES = 5


def spread(whole, normal, n):
    """Return the steps of five normal stretches, `n` in all, and their numbers."""
    length = n // STRETCHES
    starts = range(0, len(whole) - length, length)
    starts = [start for start in starts if normal[start : start + length].all()]
    places = np.linspace(0, len(starts) - 1, STRETCHES).round().astype(int)
    steps = np.concatenate([starts[i] + np.arange(length) for i in places])
    return steps, np.repeat(np.arange(STRETCHES), length)


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data", help="shared data")
    parser.add_argument("--out", default=pathlib.Path(__file__).parent / "results")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table = Table("data detector window_size n_train trained scored flagged".split())
    for name, data in DATA.items():
        train, test, marked = SERIES[data](pathlib.Path(options.data) / "series")
        whole, n = np.float64(np.concatenate([train, test])), len(train)
        near = np.convolve(marked, np.ones(401), mode="same") > 0.5
        normal = np.concatenate([np.ones(n, dtype=bool), ~near])
        steps, groups = spread(whole, normal, n)
        for detector, model in DETECTORS.items():
            alarms = model.fit(whole[:n]).predict(whole[n:]) == -1
            size, new = model.window_size_, normal[n:]
            row = name, detector, size
            for scored, part in (
                ("all", slice(None)),
                ("next", slice(None, n)),
                ("last", slice(-n, None)),
            ):
                table.add(*row, n, "first", scored, alarms[part][new[part]].mean())
            others = normal.copy()
            for start in steps[:: len(steps) // STRETCHES]:
                others[max(0, start - size) : start + n // STRETCHES + size] = False
            model.set_params(window_size=size)  # a stretch has fewer periods
            alarms = model.fit(whole[steps], groups=groups).predict(whole) == -1
            table.add(*row, len(steps), "spread", "all", alarms[others].mean())
            model.set_params(window_size="auto")
    table.write(pathlib.Path(options.out) / "thresholds_drift.tsv")


if __name__ == "__main__":
    main()
