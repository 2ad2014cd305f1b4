"""Type checkers know what the constructors take, through the public names."""

import ast
import inspect
import os
import pathlib
import re
from importlib import import_module

import pytest

import skad
from skad import _sklearn
from tests._process import run_python
from tests._stubs import stubs

PACKAGE = pathlib.Path(skad.__file__).parent
ROOT = PACKAGE.parent

RIGHT = """
from typing import Any, assert_type

import skad
import skad.image
from skad import KNN
from skad._answers import Inspection

memae = skad.MemAE(n_items=5, hidden_sizes=(8, 4), lr=0.01, contamination=0.1)
patches = skad.PatchCore(coreset_ratio=0.2, image_shape=(8, 8), backbone="gabor")
patches = skad.image.PatchCore(smoothing=2.0, false_alarm_rate=0.01)
odin = skad.ODIN(None, temperature=10.0, epsilon=(0.0, 0.1))
held = skad.ConformalDetector(KNN(5), method="cross")
fitted = KNN(5, method="mean").fit([[0.0], [1.0]])
assert_type(fitted, KNN)
assert_type(memae.fit([[0.0], [1.0]]).inspect([[0.0]]), Inspection)
fitted.set_output(transform="pandas").set_params(p=1).transform([[0.0]])
fitted.predict([[0.0]]) + fitted.offset_ + fitted.n_features_in_
assert_type(fitted.n_neighbors, int)
"""

# What takes mypy longest to read, and no parameter's type is of.
CONFIG = """
[mypy]
[mypy-joblib.*,matplotlib.*,pandas.*,scipy.*,skorch.*,sklearn.*,torch.*]
follow_imports = skip
"""

# A line, and what mypy says of it.
WRONG = {
    "skad.MemAE(n_itens=5)": '"n_itens" for "MemAE"',
    "skad.reconstruction.MemAE(max_epoch=5)": '"max_epoch" for "MemAE"',
    "skad.PatchCore(coreset=0.2)": '"coreset" for "PatchCore"',
    "skad.image.PatchCore(smooting=2.0)": '"smooting" for "PatchCore"',
    "skad.ODIN(temprature=10.0)": '"temprature" for "ODIN"',
    'KNN(5, "mean")': 'Too many positional arguments for "KNN"',
    'KNN(n_neighbors="5")': 'expected "int"',
    "skad.SVDD(contamination=0.1)": '"contamination" for "SVDD"',
    "skad.OneClassSVM(false_alarm_rate=0.1)": '"false_alarm_rate" for "OneClassSVM"',
    "skad.ConformalDetector(contamination=0.1)": '"contamination" for',
    'skad.LSTMForecaster(align="end")': '"align" for "LSTMForecaster"',
    "skad.MemAE(5)": 'Too many positional arguments for "MemAE"',
    "KNN().fot([[0.0]])": '"KNN" has no attribute "fot"',
    "skad.Nearest()": 'no attribute "Nearest"',
}


def mypy(folder, script):
    """Return what mypy prints of a script, without the summary."""
    file = folder / "script.py"
    file.write_text(script, "utf-8")
    command = ["-m", "mypy", "--follow-imports=silent", "--strict"]
    command += ["--no-color-output", "--no-error-summary", "--no-pretty"]
    command += [f"--cache-dir={folder}", "--config-file=mypy.ini", file.name]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = run_python(*command, cwd=folder, env=environment, check=False)
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all runs, since the first reads NumPy and skad."""
    folder = tmp_path_factory.mktemp("mypy")
    (folder / "mypy.ini").write_text(CONFIG, "utf-8")
    return folder


def test_mypy_takes_what_is_right(folder):
    assert mypy(folder, RIGHT) == []


def test_mypy_refuses_what_is_wrong(folder):
    head = ["import skad", "import skad.image", "from skad import KNN"]
    found = mypy(folder, "\n".join([*head, *WRONG, ""]))
    found = [line for line in found if ": error: " in line]
    assert len(found) == len(WRONG)
    for number, (line, (wrong, message)) in enumerate(
        zip(found, WRONG.items(), strict=True), start=len(head) + 1
    ):
        assert line.startswith(f"script.py:{number}: "), wrong
        assert message in line


def test_mypy_knows_every_constructor(folder):
    """What mypy takes and what the constructor takes are the same names."""
    detectors = [d for _, d in skad.all_detectors()]
    lines = ["import skad"]
    for detector in detectors:
        lines.append(f"reveal_type(skad.{detector.__name__})")
    found = mypy(folder, "\n".join([*lines, ""]))
    assert len(found) == len(detectors)
    for detector, line in zip(detectors, found, strict=True):
        names = list(inspect.signature(detector).parameters)
        for name in names:
            assert f"{name}: " in line, (detector, name)
        assert line.count(" =") == len(names), detector


def test_stubs_are_current():
    assert set(stubs()) == set(PACKAGE.rglob("__init__.pyi"))
    for path, text in stubs().items():
        assert path.read_text("utf-8") == text, "run python -m tests._stubs"


def test_stubs_hold_what_the_packages_hold():
    for path, text in stubs().items():
        package = path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        module = import_module(package)
        names = [line.split(" as ")[1] for line in text.splitlines() if " as " in line]
        for family in re.findall(r"^from (\S+) import \*", text, re.MULTILINE):
            names += import_module(family).__all__
        for name in names:
            assert hasattr(module, name), name
        if module is skad:
            public = [name for name, _ in skad.all_detectors()]
            public += [*skad._FAMILIES, *skad._TOOLS, *skad._FILES]
        else:
            public = module.__all__
        assert set(public) <= set(names)


def test_the_stub_of_scikit_learn_tells_the_truth():
    path = pathlib.Path(_sklearn.__file__).with_suffix(".pyi")
    tree = ast.parse(path.read_text("utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    stated = {node.name for node in tree.body if hasattr(node, "name")}
    stated |= {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert stated == set(_sklearn.__all__)
    for node in classes:
        real = getattr(_sklearn, node.name)
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and "request" not in method.name:
                assert hasattr(real, method.name), (node.name, method.name)


def test_the_wheel_takes_stubs_along():
    from setuptools.config.pyprojecttoml import read_configuration

    assert PACKAGE.joinpath("py.typed").exists()
    settings = read_configuration(ROOT / "pyproject.toml")["tool"]["setuptools"]
    assert {"*.pyi", "py.typed"} <= set(settings["package-data"][""])
