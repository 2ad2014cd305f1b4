"""Windows of series: how periods are found, and what chose the defaults of neighbours.

    OMP_NUM_THREADS=1 python benchmarks/bench_windows.py periods neighbours

Both parts look at generated series alone, none of which `bench_series.py` reports.
`periods`: shapes of 6 to 700 steps with noise and trends, and the share of them whose
period is found within 6 %, by the rule of the package and by TSB-AD's; then the share
of series without a period in which one is found. `neighbours`: mean VUS-PR of
`SubsequenceKNN` on series with four events of 10 to 120 steps, by the shortest window
and by the share of it that is excluded. They chose the shortest window of 50 steps and
``exclude=0.5``, to which 1 adds .004; 125 steps for what has no period were compared
with 50 on two series of the Numenta Anomaly Benchmark that are not reported (EC2 24ae8d
and Twitter AAPL: VUS-PR .997 and .83 for .58 and .52). Each part writes its table into
``benchmarks/results``.
"""

import argparse
import pathlib
import warnings

import numpy as np
from _measure import Table

import skad
from skad.embedding._period import period_of
from skad.metrics import vus_pr

SHAPES = {
    "sine": lambda p: np.sin(2 * np.pi * p),
    "sawtooth": lambda p: 2 * (p % 1) - 1,
    "pulse": lambda p: 1.0 * (p % 1 < 0.15),
    "two bumps": lambda p: (
        np.exp(-((p % 1 - 0.3) ** 2) / 0.004)
        + 0.7 * np.exp(-((p % 1 - 0.75) ** 2) / 0.006)
    ),
    "week": lambda p: np.sin(2 * np.pi * p) * np.where(p // 1 % 7 < 5, 1, 0.4),
}
TRENDS = {
    "none": lambda t, rng: 0 * t,
    "line": lambda t, rng: 4 * t,
    "curve": lambda t, rng: 5 * t**2 + 2 * np.sin(4 * t),
    "walk": lambda t, rng: 1.5 * standard(rng.normal(size=len(t)).cumsum()),
}


def standard(x):
    return (x - x.mean()) / x.std()


def forgetful(rng, n, keep):
    """Return an autoregressive series of one step."""
    x = rng.normal(size=n)
    for i in range(1, n):
        x[i] += keep * x[i - 1]
    return x


def periods(options):
    """Share of periods found, by trend and noise, and found where there are none."""
    rng = np.random.default_rng(0)
    table = Table("trend noise series right right_tsb none none_tsb".split())
    for trend, trend_of in TRENDS.items():
        for noise in (0.0, 0.5, 1.5):
            found = []
            for period in (6, 12, 24, 48, 96, 150, 288, 400, 700):
                for n in (1500, 4000, 10_000):
                    for shape in SHAPES.values():
                        if 4 * period > n:
                            continue
                        t = np.arange(n)
                        x = standard(shape(t / period)) + noise * rng.normal(size=n)
                        x = (x + trend_of(t / n, rng))[:, None]
                        guesses = period_of([x]), period_of([x], "tsb")
                        near = max(1, 0.06 * period)
                        found.append(
                            [g is not None and abs(g - period) <= near for g in guesses]
                            + [g is None for g in guesses]
                        )
            table.add(trend, noise, len(found), *np.mean(found, axis=0))
    for name, make in (
        ("white noise", lambda n: rng.normal(size=n)),
        ("random walk", lambda n: rng.normal(size=n).cumsum()),
        ("autoregressive", lambda n: forgetful(rng, n, 0.95)),
    ):
        series = [make(n)[:, None] for n in (300, 1500, 4000, 10_000) for _ in range(5)]
        none = [
            np.mean([period_of([x], rule) is None for x in series])
            for rule in ("prominent", "tsb")
        ]
        table.add(name, "", len(series), "", "", *none)
    return table


def with_events(rng, period, n=4000):
    """Return a series (n, 1) with four events and their labels."""
    if period:
        steps = np.arange(n)[:, None] * np.arange(1, 5) / period
        size = rng.normal(size=4) / np.arange(1, 5)
        x = standard(np.sin(2 * np.pi * steps + rng.uniform(0, 6, 4)) @ size)
        x += 0.15 * rng.normal(size=n)
    else:
        x = standard(forgetful(rng, n, 0.9))
    y = np.zeros(n, dtype=int)
    for _ in range(4):
        length = int(rng.integers(10, 120))
        own = slice(begin := int(rng.integers(300, n - 400)), begin + length)
        x[own] = (
            lambda x: np.full_like(x, x[0]),  # stuck
            lambda x: x + rng.choice([-1.2, 1.2]),  # another level
            rng.permutation,
            lambda x: 1.8 * x,
            lambda x: np.interp(0.6 * np.arange(len(x)), np.arange(len(x)), x),  # slow
        )[rng.integers(5)](x[own])
        y[own] = 1
    return x[:, None], y


def neighbours(options):
    """Mean VUS-PR by the shortest window and what is excluded."""
    rng = np.random.default_rng(5)
    lengths = (8, 12, 20, 33, 60, 90, 150, 0, 0, 16, 45, 110, 0, 25)
    series = [with_events(rng, period) for period in lengths]
    table = Table("shortest_window exclude series vus_pr".split())
    for shortest in (1, 50, 100):
        for exclude in (0, 0.25, 0.5, 1.0):
            found = []
            for X, y in series:
                size = min(max(period_of([X]) or 125, shortest), 400)
                detector = skad.SubsequenceKNN(
                    window_size=size, exclude=exclude, contamination=0.1
                )
                anomaly = -detector.fit(X).score_samples(X)
                found.append(vus_pr(y, anomaly, window=100, pos_label=1))
            table.add(shortest, exclude, len(found), np.mean(found))
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=["periods", "neighbours"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for part in options.parts:
        path = pathlib.Path(__file__).parent / "results" / f"windows_{part}.tsv"
        globals()[part](options).write(path)


if __name__ == "__main__":
    main()
