"""Which defaults: candidates on series that no quality is reported on.

    OMP_NUM_THREADS=1 python benchmarks/bench_series_defaults.py --detectors OmniAnomaly

Five series are drawn, the sunspots come with statsmodels. Stretches of the second half
of each are faster, backwards, still, noisy, moved, turned over or a spike; detectors
learn from the first half. Writes ``benchmarks/results/defaults_<detector>.tsv``: the
mean ROC AUC of steps, and that of each series; the first row is that of the norm of the
standardized step. OmniAnomaly is small, for the time it takes.
"""

import argparse
import pathlib
import time
import warnings

import numpy as np
import statsmodels.api as sm
from _measure import Table
from sklearn.metrics import roc_auc_score

import skad

FIRST = {"alpha": 1.0, "beta": 0.0}
SMALL = {"hidden_size": 16, "window_size": 20, "stride": 4}
CANDIDATES = {
    "USAD": [
        {**FIRST, "window_size": 50, "max_epochs": 1, "lr": 1e-12},
        {**FIRST, "window_size": 50, "max_epochs": 10},
        {**FIRST, "window_size": 24, "max_epochs": 10},
        {**FIRST, "window_size": 24, "max_epochs": 30},
        {**FIRST, "window_size": 50, "max_epochs": 30},
    ],
    "OmniAnomaly": [
        {**SMALL, "max_epochs": 1, "lr": 1e-12},
        {**SMALL, "max_epochs": 10},
        {**SMALL, "max_epochs": 50, "lr": 3e-3},
        {**SMALL, "max_epochs": 150},
    ],
}
KINDS = "fast back still noise shift spike flip".split()


def plant(X, rng, length, gap, kinds=KINDS):
    """Change stretches of the second half of X (t, c); return which steps are."""
    y, deviations = np.zeros(len(X), int), X.std(0)
    starts = range(len(X) // 2 + gap // 2, len(X) - 2 * length, gap)
    for i, start in enumerate(starts):
        place, c = X[start : start + length], rng.integers(X.shape[1])
        kind, size = kinds[i % len(kinds)], deviations[c]
        if kind == "fast":
            steps = start + 2 * np.arange(length)
            place[:, c] = X[np.clip(steps, 0, len(X) - 1), c].copy()
        elif kind == "back":
            place[:, c] = place[::-1, c].copy()
        elif kind == "still":
            place[:, c] = place[0, c]
        elif kind == "noise":
            place[:, c] += rng.normal(0, 0.6 * size, length)
        elif kind == "shift":
            place[:, c] += rng.choice([-1, 1]) * 1.2 * size
        elif kind == "spike":
            middle = length // 2
            place[middle : middle + 2, c] += rng.choice([-1, 1]) * 4 * size
        else:
            place[:, c] = 2 * X[:, c].mean() - place[:, c]
        y[start : start + length] = 1
    return y


def series():
    """Return {name: (X, y)}, X of shape (t, c) and y 1 where something was planted."""
    found = {}
    for seed, n, period, n_channels in (
        (10, 2400, 25, 1),
        (11, 2400, 50, 3),
        (13, 2400, 12, 5),
    ):
        rng, t = np.random.default_rng(seed), np.arange(n)
        turn = 2 * np.pi * t / period
        X = np.stack(
            [
                np.sin(turn + k) + 0.5 * np.sin(2 * turn * (1 + k) + 2 * k)
                for k in range(n_channels)
            ],
            axis=1,
        )
        y = plant(X, rng, max(20, period // 2), 160)
        found[f"sines of {period} steps"] = X + rng.normal(0, 0.1, X.shape), y
    rng, n = np.random.default_rng(3), 2800
    phase = np.cumsum(1 / rng.normal(40, 1.0, n).clip(20)) % 1
    X = np.exp(-(((phase - 0.3) / 0.03) ** 2))
    X -= 0.3 * np.exp(-(((phase - 0.38) / 0.03) ** 2))
    X += 0.3 * np.exp(-(((phase - 0.65) / 0.08) ** 2))
    X = X[:, None]
    y = plant(X, rng, 40, 170, ["fast", "back", "still", "noise", "flip"])
    found["pulses"] = X + rng.normal(0, 0.03, X.shape), y
    rng, t = np.random.default_rng(5), np.arange(2880)
    X = (1 + np.sin(2 * np.pi * t / 48 - 1.5)) * (1 - 0.4 * (((t // 48) % 7) >= 5))
    X = (X + 0.3 * np.sin(4 * np.pi * t / 48))[:, None]
    y = plant(X, rng, 40, 180, ["shift", "still", "noise", "back", "spike"])
    found["days and weeks"] = X + rng.normal(0, 0.1, X.shape), y
    X = sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(float)[:, None]
    X, rng = X.copy(), np.random.default_rng(6)
    y = plant(X, rng, 11, 44, ["fast", "back", "still", "noise", "shift"])
    found["sunspots"] = X, y
    return found


def halves(X, y):
    """Return the steps that train, those to score and which of these are anomalous."""
    half = len(X) // 2
    return X[:half], X[half:], y[half:]


def measure(name, sets):
    """Return the table of one detector."""
    table = Table(["settings", "mean_auc", *sets, "s"])
    norms = []
    for train, test, y in sets.values():
        standardized = (test - train.mean(0)) / train.std(0)
        norms.append(roc_auc_score(y, np.linalg.norm(standardized, axis=1)))
    table.add("norm of the step", np.mean(norms), *norms, "")
    for settings in CANDIDATES[name]:
        start, found = time.process_time(), []
        for train, test, y in sets.values():
            detector = getattr(skad, name)(
                random_state=0, contamination=0.1, device="cpu", **settings
            ).fit(train)
            found.append(roc_auc_score(y, -detector.score_samples(test)))
        shown = ", ".join(f"{key}={value!r}" for key, value in settings.items())
        table.add(shown, np.mean(found), *found, time.process_time() - start)
    return table


def main():
    """Measure the candidates."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--detectors", nargs="*", default=list(CANDIDATES))
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of networks that rebuild nothing yet
    sets = {name: halves(*data) for name, data in series().items()}
    for name in options.detectors:
        path = f"results/defaults_{name.lower()}.tsv"
        measure(name, sets).write(pathlib.Path(__file__).parent / path)


if __name__ == "__main__":
    main()
