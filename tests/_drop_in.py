"""Runs scikit-learn's own tests of a class on ours, with the import replaced.

Run as ``python -m tests._drop_in`` to see what fails where.
"""

import dataclasses
import json
import os
import re
import sys
from pathlib import Path

import sklearn

from tests._process import run_python

ROOT = Path(__file__).parents[1]

# The fixtures of scikit-learn's own suite, in its default settings.
CONFTEST = """
import json
import numpy as np
import pytest

@pytest.fixture
def global_random_seed():
    return 42

@pytest.fixture
def global_dtype():
    return np.float64

outcomes = {}

def pytest_configure(config):
    config.addinivalue_line("markers", "thread_unsafe: as scikit-learn marks it")

def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        name = report.nodeid.partition("::")[2]
        wrong = "" if report.outcome == "passed" else str(report.longrepr)
        outcomes[name] = report.outcome, wrong.strip().rpartition("\\n")[2]

def pytest_sessionfinish():
    with open("outcomes.json", "w") as file:
        json.dump(outcomes, file)
"""


@dataclasses.dataclass(frozen=True)
class Peer:
    """A file of scikit-learn's tests, and how it is made to test a class of ours.

    Parameters
    ----------
    file : str
        The test file, in scikit-learn's folder.
    imports : str
        The line that imports our class, put after the imports of the file.
    lines : tuple of (str, str, str)
        What is written there, a regular expression; what is written here; and where the
        page for people who come from scikit-learn says so.
    tests : str
        Regular expression of the tests that are of the class.
    """

    file: str
    imports: str
    lines: tuple = ()
    tests: str = ""


PEERS = {
    "IsolationForest": Peer(
        "ensemble/tests/test_iforest.py", "from skad import IsolationForest"
    ),
    "LOF": Peer(
        "neighbors/tests/test_lof.py",
        "from skad import LOF",
        (
            (r"neighbors\.LocalOutlierFactor", "LOF", "``LocalOutlierFactor``"),
            (r"(, )?\bnovelty=\w+\b", "", "``novelty``"),
        ),
    ),
    "KDE": Peer(
        "neighbors/tests/test_kde.py",
        "from skad import KDE as KernelDensity",
        (
            (r", atol=atol, rtol=rtol", "", "``atol``, ``rtol``"),
            (r"kerneldensity__", "kde__", "``kde__bandwidth``"),
        ),
    ),
    "OneClassSVM": Peer(
        "svm/tests/test_svm.py",
        "from skad import OneClassSVM; svm.OneClassSVM = OneClassSVM",
        tests=r"oneclass|OneClassSVM",
    ),
}


def outcomes(name, folder):
    """Return {test: (outcome, last line)} of scikit-learn's tests on the class."""
    peer = PEERS[name]
    source = (Path(sklearn.__file__).parent / peer.file).read_text()
    for there, here, _ in peer.lines:
        source, found = re.subn(there, here, source)
        assert found, f"scikit-learn's {peer.file} has no {there}"
    # after the last import that begins a line
    end = [found.end() for found in re.finditer(r"^from .*?$", source, re.M)][-1]
    while source[:end].count("(") > source[:end].count(")"):
        end = source.index("\n", end + 1)
    source = f"{source[:end]}\n{peer.imports}\n{source[end:]}"
    (folder / "test_peer.py").write_text(source)
    (folder / "conftest.py").write_text(CONFTEST)
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "no:xdist", "--tb=line", "-c", "/dev/null", "test_peer.py"]
    command += ["--rootdir", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = run_python(*command, cwd=folder, env=environment, check=False)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    found = json.loads((folder / "outcomes.json").read_text())
    return {test: row for test, row in found.items() if re.search(peer.tests, test)}


if __name__ == "__main__":
    import tempfile

    for name in sys.argv[1:] or PEERS:
        with tempfile.TemporaryDirectory() as folder:
            found = outcomes(name, Path(folder))
        passed = sum(outcome == "passed" for outcome, _ in found.values())
        print(f"{name}: {passed} of {len(found)}")
        for test, (outcome, wrong) in found.items():
            if outcome != "passed":
                print(f"  {outcome} {test}: {wrong[-150:]}")
