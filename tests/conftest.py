"""One thread and one array API switch for the whole suite, set before any import."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # read by SciPy when it is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small products lose on two threads
os.environ.setdefault("MPLBACKEND", "agg")  # draws without a screen

import pathlib
import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def blobs():
    """Training rows, normal test rows and anomalies around correlated features."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    train = rng.normal(size=(300, 6)) @ mixing
    normal = rng.normal(size=(100, 6)) @ mixing
    anomalies = 4 * rng.normal(size=(40, 6)) + rng.choice([-8, 8], size=(40, 6))
    return train, normal, anomalies


@pytest.fixture(scope="session")
def shared():
    """Path of the folder with shared real data; skips where it is absent."""
    folder = pathlib.Path(
        os.environ.get("SKAD_SHARED", pathlib.Path(__file__).parents[2] / "shared")
    )
    if not (folder / "data").is_dir():
        pytest.skip("no shared data: set SKAD_SHARED to its folder")
    return folder / "data"


def pytest_terminal_summary(terminalreporter):
    """Print how many cells of tables of inputs were checked, by all workers."""
    counts = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == "cells" and getattr(report, "when", None) == "call"
    ]
    if counts:
        terminalreporter.write_line(
            f"{sum(counts)} cells of bad input x detector x method were checked"
        )
