"""What an optional package is needed for says so, before the work and not after it."""

import os
import pathlib
import re
import sys
import tomllib

import pytest

from skad._needed import EXTRAS, LIBRARIES, PROJECTS
from tests._process import run_python

ROOT = pathlib.Path(__file__).parents[1]

# Extras that add nothing a user calls, and those that bring others together.
ASIDE = {"all", "doc", "lint", "safe", "test"}
# Packages of the other extras that nothing of skad asks for.
BESIDE = {
    "numba": "compiles what arrays compute as well, in more time",
    "dask": "who passes a Dask collection has it",
    "onnxruntime": "runs the models that are written, outside of skad",
    "rich": "the command line does without, and draws no bars",
}

# Runs in a process of its own, where a package cannot be imported. `refused` is what
# the calls below are given: an ImportError has to come, and before `Work` begins.
HEAD = """
import importlib.abc, os, sys, warnings
import numpy as np

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == PACKAGE:
            raise ModuleNotFoundError(f"No module named {PACKAGE!r}", name=PACKAGE)

sys.meta_path.insert(0, Blocked())
import skad, skad.inspection
from skad.inspection import *

X = np.random.default_rng(0).normal(size=(30, 3))
y = np.repeat([1, -1], [25, 5])
pictures = np.random.default_rng(0).random((6, 16, 16))

class Work(skad.ECOD):
    '''A detector whose every hour is lost.'''

    def _fit(self, X, y=None):
        raise AssertionError("the work began")

    _map = _fit

def refused(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ImportError as error:
        assert NAME in str(error) and LINE in str(error), error
        return str(error)
    raise AssertionError(f"{call} needed no {PACKAGE}")

fitted = skad.ECOD().fit(X)
fitted.__class__ = Work
"""

CALLS = {
    "matplotlib": """
for display in (ScoreDistributionDisplay, ThresholdDisplay):
    refused(display.from_estimator, fitted, X, y)
refused(FeatureBlameDisplay.from_estimator, fitted, X)
refused(AnomalyMapDisplay.from_estimator, fitted, pictures)
refused(SeriesDisplay.from_estimator, fitted, X)
refused(DetectorComparisonDisplay.from_estimator, [fitted], X, y)
refused(DetectorComparisonDisplay.from_estimator, [Work()], X, y, cv=2)
refused(ScoreDistributionDisplay.from_predictions, np.arange(9.0))
refused(ThresholdDisplay.from_predictions, np.arange(9.0))
refused(AnomalyMapDisplay.from_predictions, pictures, pictures)
refused(FeatureBlameDisplay.from_predictions, np.ones((3, 2)))
refused(SeriesDisplay.from_predictions, X, X[:, 0])
refused(write_report, "report", [])
assert not os.path.exists("report")
np.savez("rows.npz", X=X)
from skad._commands import demo, detect
from skad._commands._parser import parser_of
import argparse
def begins(*args, **kwargs):
    raise AssertionError("the work began")
sys.modules["skad._commands._demo"].examine = begins
sys.modules["skad._commands._detect"].learn = begins
runs = dict.fromkeys(("detect", "fit", "score", "demo", "list"))
parser = parser_of(argparse.ArgumentParser, runs)
options = "detect --train rows.npz --test rows.npz --detector KNN --out report"
refused(detect, parser.parse_args(options.split()))
refused(demo, "other", say=lambda *args, **kwargs: None)
assert not os.path.exists("other")
""",
    "PIL": """
refused(examine_pictures, Work(), pictures, pictures, maps="png", folder=".")
refused(write_report, "report", [])
with open("a.png", "wb") as file:
    file.write(b"0")
refused(skad.PaDiM().fit, ["a.png", "a.png"])
os.makedirs("train/good")
os.rename("a.png", "train/good/a.png")
refused(skad.image.load_folder, "train/good")
""",
    "pandas": """
from skad.datasets import read_table
from skad._times import read_times
for name in ("a.csv", "a.tsv", "a.parquet"):
    with open(name, "w") as file:
        file.write("a,b\\n1,2\\n")
    refused(read_table, name)
from skad._times import _named
refused(_named, np.array(["1"]), ["1"], "%y")
from skad.embedding._estimator_tails import named
refused(named, X, ["a", "b", "c"])
""",
    "pyarrow": """
from skad.datasets import read_table
with open("a.parquet", "wb") as file:
    file.write(b"PAR1")
said = refused(read_table, "a.parquet")
assert "a.parquet" in said
""",
    "pynndescent": """
for cls in (skad.KNN, skad.LOF):
    refused(cls(algorithm="pynndescent").fit, X)
    refused(skad.WindowDetector(cls(algorithm="pynndescent")).fit, X)
inner = skad.KNN(algorithm="pynndescent")
members = [("first", Work()), ("second", inner)]
refused(skad.ScoreEnsemble(members).fit, X)
class Slow(skad.embedding.PatchEmbedding):
    def fit(self, *args, **kwargs):
        raise AssertionError("the work began")
refused(skad.PatchDetector(Slow(), inner).fit, pictures)
refused(skad.ConformalDetector(inner, method="cross").fit, X)
""",
    "statsmodels": """
seasons = skad.series.SeasonalTrendResiduals(5)
refused(seasons.fit, X)
from sklearn.pipeline import make_pipeline
refused(make_pipeline(seasons, Work()).fit, X)
""",
    "onnx": """
detector = skad.PaDiM(n_features=2).fit(pictures)
import skad.export._onnx as export
export._model = None
refused(skad.export.to_onnx, detector, "a.onnx")
""",
}
CALLS["onnxscript"] = CALLS["onnx"]
CALLS["safetensors"] = """
refused(skad.save, skad.KNN().fit(X), "a.skad")
np.savez("rows.npz", X=X)
from skad.__main__ import main
from skad._commands import fit
assert main(["list"]) == 0
def begins(*args, **kwargs):
    raise AssertionError("the work began")
sys.modules["skad._commands._fit"].learn = begins
assert main("fit --train rows.npz --detector KNN --out a.skad".split()) == 2
"""
for _library in LIBRARIES:
    CALLS[_library] = f"""
refused(skad.PatchCore(backbone="{_library}/resnet18").fit, pictures)
members = [("first", Work()), ("second", skad.STFPM(backbone="{_library}/resnet18"))]
refused(skad.ScoreEnsemble(members).fit, pictures)
"""


def run(package, calls, folder):
    """Run calls where a package cannot be imported; return what failed."""
    name = PROJECTS.get(package, package)
    line = f"'skad[{EXTRAS[package]}]'" if package in EXTRAS else package
    names = f"PACKAGE, NAME, LINE = {package!r}, {name!r}, {'pip install ' + line!r}\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return run_python(
        "-c", names + HEAD + calls, cwd=folder, env=environment, check=False
    ).stderr


@pytest.mark.sampled(3)
@pytest.mark.parametrize("package", CALLS)
def test_a_package_that_is_missing_is_named_before_the_work_begins(package, tmp_path):
    said = "skad: error: a model's file needs safetensors: pip install safetensors\n"
    expected = said if package == "safetensors" else ""
    assert run(package, CALLS[package], tmp_path) == expected


@pytest.mark.parametrize("package", ["joblib", "torch"])  # sooner and later
def test_the_command_line_says_in_one_line_what_is_missing(package, tmp_path):
    calls = "from skad.__main__ import main\nassert main(['list']) == 2"
    expected = f"skad: error: No module named {package!r}; pip install skad brings it\n"
    lines = HEAD.partition("import skad, skad.inspection")[0]
    names = f"PACKAGE = {package!r}\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = run_python(
        "-c", names + lines + calls, cwd=tmp_path, env=environment, check=False
    )
    assert found.stderr == expected


def test_work_that_begins_is_seen(tmp_path):
    assert "the work began" in run("pandas", "Work().fit(X)", tmp_path)
    assert "needed no pandas" in run("pandas", "refused(skad.KNN().fit, X)", tmp_path)


def packages(requirements):
    """Return the names of requirements, as they are imported."""
    imported = {name.lower(): module for module, name in PROJECTS.items()}
    names = [re.match(r"[\w-]+", line)[0].lower() for line in requirements]
    return [imported.get(name, name) for name in names]


def extras():
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]["optional-dependencies"]


def test_every_package_of_an_extra_is_asked_for():
    found = {
        (package, extra)
        for extra, requirements in extras().items()
        if extra not in ASIDE
        for package in packages(requirements)
        if package not in BESIDE
    }
    assert found >= set(EXTRAS.items())
    assert {package for package, _ in found} == set(EXTRAS)
    # and one that every installation brings, which commands can do without
    assert set(CALLS) == {*EXTRAS, *LIBRARIES, "safetensors"}


def test_all_brings_every_extra_that_users_have():
    (line,) = extras()["all"]
    assert set(re.fullmatch(r"skad\[(.+)\]", line)[1].split(",")) == (
        set(extras()) - ASIDE
    )


def test_a_package_that_is_broken_says_why(monkeypatch, tmp_path):
    from skad._needed import need

    (tmp_path / "onnxscript.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxscript", raising=False)
    with pytest.raises(ImportError, match=r"No module named 'no_such_module'.*skad\["):
        need("onnxscript", "this")
