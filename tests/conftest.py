"""One thread and one array API switch for the whole suite, set before any import.

Which tests run: a test marked `full` runs with --full alone; of those marked
`sampled(n)` every n-th runs, other ones after each commit, and all with --full. What
is the same for all detectors, the `COMMON` files and tests marked `by_turns`, runs for
`CARRIED` of them, by turns, and for those whose files the last commit changed, so that
the suite takes no longer when methods are added.
The tests of one detector run in one process, one after another, so that they share
fits.
"""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # read by SciPy when it is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small products lose on two threads
os.environ.setdefault("MPLBACKEND", "agg")  # draws without a screen

import collections
import gc
import math
import pathlib
import subprocess
import sys
import time
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
import torch

import skad
from skad.base import BaseDetector

# Warnings of trainings that were worth nothing, which no example has.
WORTHLESS = pytest.mark.filterwarnings(
    "error:.* rebuilds .* no better than their mean does:UserWarning",
    "error:The largest feature of X has a root mean square:UserWarning",
)
# Files of tests that are the same for every detector, and what they may cost one
# together, in CPU seconds.
COMMON = {
    "test_contract",
    "test_docs",
    "test_hard_use",
    "test_save",
    "test_sklearn",
    "test_style",
    "test_unchanged",
    "test_use",
}
MOST_SECONDS = 3
# How many detectors a sample takes through them.
CARRIED = 75
# Files whose tests share what takes long, and run in one process.
TOGETHER = {"test_typing"}
NAMES = dict(skad.all_detectors())
# What docstrings' examples need beside what skad itself does.
EXAMPLES_NEED = {"SeasonalTrendResiduals": "statsmodels"}


def pytest_addoption(parser):
    """Let the caller choose the tests."""
    parser.addoption(
        "--full", action="store_true", help="run the tests that are sampled otherwise"
    )
    parser.addoption(
        "--rotation",
        type=int,
        help="which sample to run; the number of commits unless given",
    )


def pytest_configure(config):
    """Choose the sample, once for all processes."""
    config.pluginmanager.register(Seconds())
    if config.option.rotation is None:
        counted = subprocess.run(
            ["git", "rev-list", "--count", "HEAD"],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
        config.option.rotation = int(counted.stdout or 0)


def pytest_report_header(config):
    """Say which tests run."""
    if config.option.full:
        return "all tests (--full)"
    return f"a sample of the large matrices: --rotation={config.option.rotation}"


def subject(item):
    """Return the detector that a test for all, or a docstring, is about, or None."""
    if isinstance(item, pytest.DoctestItem):
        return next((name for name in item.name.split(".") if name in NAMES), None)
    for_all = item.path.stem in COMMON or item.get_closest_marker("by_turns")
    if not for_all or not hasattr(item, "callspec"):
        return None
    for found in item.callspec.params.values():
        found = type(found).__name__ if isinstance(found, BaseDetector) else found
        found = found.split("-")[0] if isinstance(found, str) else None
        if found in NAMES:
            return found
    return None


def changed():
    """Return the files that the last commit changed, and those that none holds yet."""
    told = [
        subprocess.run(
            ["git", *command.split()],
            cwd=pathlib.Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        for command in (
            "diff --name-only HEAD~1",  # nothing where the clone is one commit deep
            "ls-files --others --exclude-standard",
        )
    ]
    return set("".join(told).split("\n"))


def on_turn(rotation):
    """Return the names of the detectors that the common tests of a sample are for."""
    first, touched = rotation * CARRIED, changed()
    return {
        name
        for place, (name, kind) in enumerate(sorted(NAMES.items()))
        if (place + first) % len(NAMES) < CARRIED
        or f"{kind.__module__.replace('.', '/')}.py" in touched
    }


def chosen(item, rotation, names):
    """Tell whether a test runs without --full."""
    if item.get_closest_marker("full") or subject(item) not in names:
        return False
    n = math.prod(marker.args[0] for marker in item.iter_markers("sampled"))
    return (zlib.crc32(item.nodeid.encode()) + rotation) % n == 0


def pytest_collection_modifyitems(config, items):
    """Leave tests out, and bring those of one detector together."""
    if not config.option.full:
        rotation = config.option.rotation
        names = {None, *on_turn(rotation)}
        kept = [item for item in items if chosen(item, rotation, names)]
        config.hook.pytest_deselected(
            items=[item for item in items if item not in set(kept)]
        )
        items[:] = kept
    files = {}
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker(WORTHLESS)
            package = EXAMPLES_NEED.get(item.name.rpartition(".")[2])
            if package is not None and find_spec(package) is None:
                item.add_marker(pytest.mark.skip(reason=f"needs {package}"))
        files.setdefault(item.path, len(files))
        alone = item.path.stem if item.path.stem in TOGETHER else item.nodeid
        group = subject(item) or alone.split("[")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: (files[item.path], subject(item) or ""))


def pytest_collection_finish():
    """Spare full garbage collections what stays for the whole run, imports and tests.

    Looking at all that takes longer than tens of small fits, and is put down to the
    detector that happens to be tested, as are what torch imports with its optimizers.
    """
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    gc.freeze()


class Seconds:
    """Notes the CPU seconds of tests, and of docstrings, that are about a detector.

    A plugin of its own, since hooks of this file do not see docstrings of the package.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        """Note the seconds of one."""
        start = time.process_time()
        try:
            return (yield)
        finally:
            # the whole table of bad input is for all detectors on the same path
            whole = any(name == "whole" for name, _ in item.user_properties)
            name, example = subject(item), isinstance(item, pytest.DoctestItem)
            if name and not whole and (example or item.path.stem in COMMON):
                if example:
                    name += ", its docstring"
                spent = time.process_time() - start
                item.user_properties.append(("seconds", (name, spent)))


@pytest.fixture
def own_generator():
    """Draw from torch's generator as if nobody had, and leave it as it was."""
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        yield


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


def pytest_terminal_summary(terminalreporter, config):
    """Print what all workers counted: cells of tables, and seconds of detectors."""
    cells, whole, seconds = 0, set(), collections.Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, value in report.user_properties:
                if name == "cells":
                    cells += value
                elif name == "whole":
                    whole.add(value)
                elif name == "seconds":
                    seconds[value[0]] += value[1]
    write = terminalreporter.write_line
    if cells:
        write(f"{cells} cells of bad input x detector x method were checked")
    if whole:
        write(f"whole tables of bad input: {', '.join(sorted(whole))}")
    if not seconds:
        return
    mean = sum(seconds.values()) / len({name.split(",")[0] for name in seconds})
    write(f"The common tests cost {mean:.1f} CPU seconds a detector; the slowest:")
    for name, spent in seconds.most_common(10):
        write(f"{spent:8.1f} s  {name}")
    slow = [name for name, spent in seconds.items() if spent > MOST_SECONDS]
    if slow and not config.option.full:
        terminalreporter.section("detectors that are too slow to test", red=True)
        write(f"More than {MOST_SECONDS} s: {', '.join(sorted(slow))}", red=True)
        write("Give them cheaper settings in tests/settings.", red=True)
