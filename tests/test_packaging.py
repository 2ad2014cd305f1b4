"""What is built and installed, what it is called, and what importing it costs."""

import pathlib
import re
import shutil
import tarfile
import tomllib
import zipfile
from importlib import import_module

import pytest

import skad
from tests._process import run, run_python

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = [f"skad.{name}" for name in (*skad._FAMILIES, *skad._TOOLS)]
# Nothing of this is imported by what lists names. NumPy and scikit-learn are as slow.
HEAVY = ("dask", "matplotlib", "numba", "numpy", "pandas", "PIL", "polars", "rich")
HEAVY += ("scipy", "skorch", "sklearn", "torch")
# The tree at its top, and files that stand beside it as they do in other projects.
TOP = {"skad", "tests", "benchmarks", "doc", "examples"}
TOP |= {"setup.cfg", "pyproject.toml", "README.md"}
SMALL = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in"}
SMALL |= {"Makefile", "SECURITY.md", "constraints.txt"}


def process(code, *options):
    """Return what Python prints that runs `code` in a process of its own."""
    return run_python(*options, "-c", code, cwd=ROOT).stdout


def pyproject():
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


# -------------------------------------------------------------------------------- names


def test_names_are_listed_without_importing_what_is_heavy():
    """Errors of warnings, too: nothing of skad warns when it is imported."""
    code = f"import sys, skad\nnames = dir(skad)\nfor name in {PACKAGES}:\n"
    code += "    names += dir(__import__(name, fromlist=['x']))\n"
    code += f"print('KNN' in names, [n for n in {HEAVY} if n in sys.modules])"
    assert process(code, "-W", "error") == "True []\n"


def test_names_that_are_listed_are_there_and_public_ones_are_listed():
    listed = set(dir(skad))
    public = {name for name, _ in skad.all_detectors()}
    public |= {"all_detectors", *skad._FAMILIES, *skad._TOOLS, *skad._FILES}
    assert public <= listed
    assert "import_module" not in listed
    assert all(hasattr(skad, name) for name in listed)
    for name in PACKAGES:
        module = import_module(name)
        assert set(module.__all__) <= set(dir(module))
        assert all(hasattr(module, name) for name in dir(module))


def test_a_star_brings_the_public_names():
    there = {}
    exec("from skad import *", there)
    assert set(there) - {"__builtins__"} == {n for n in dir(skad) if n[0] != "_"}


def test_importing_skad_takes_no_time():
    """A tenth of a second would be noticed; Python itself takes longer than skad."""
    code = "import time; t = time.process_time(); import skad; dir(skad)\n"
    code += "print(time.process_time() - t)"
    assert min(float(process(code)) for _ in range(3)) < 0.1


# ---------------------------------------------------------------------- files and facts


def tracked():
    """Return the paths of the files that git knows, none where this is no checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = run(command, cwd=ROOT, check=False)
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_the_top_of_the_tree_is_a_table_of_contents():
    found = {name.split("/")[0] for name in tracked()}
    assert {name for name in found if name[0] != "."} <= TOP | SMALL
    assert found >= TOP


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (\S+)$", citation, re.M)[1] == skad.__version__
    assert pyproject()["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "skad.__version__"
    }


def test_ci_runs_what_a_change_has_to_pass_on_the_pythons_that_are_named():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    assert "- run: .ci/run\n" in text
    (matrix,) = re.findall(r"^ +python: \[(.+)\]$", text, re.M)
    project = pyproject()["project"]
    named = [
        line.rpartition(" ")[2]
        for line in project["classifiers"]
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    assert re.findall(r"[\d.]+", matrix) == named
    assert project["requires-python"] == f">={named[0]}"


# ------------------------------------------------------------------------- distribution


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the sdist and the wheel, built from a copy of the tree."""
    source = tmp_path_factory.mktemp("source")
    for name in tracked():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    (source / "skad" / "__pycache__").mkdir()
    (source / "skad" / "__pycache__" / "base.cpython-311.pyc").touch()
    (source / "doc" / "_build").mkdir()
    (source / "doc" / "_build" / "index.html").touch()
    code = "from setuptools import build_meta as b\n"
    code += "print(b.build_sdist('dist'), b.build_wheel('dist'))"
    done = run_python("-c", code, cwd=source)
    return [source / "dist" / name for name in done.stdout.split()[-2:]]


@pytest.mark.full
def test_the_sdist_holds_what_the_repository_holds(built, tmp_path):
    sdist = built[0]
    assert sdist.name == f"skad-{skad.__version__}.tar.gz"
    with tarfile.open(sdist) as archive:
        members = [one.name.partition("/")[2] for one in archive if one.isfile()]
        archive.extractall(tmp_path, filter="data")
    made = {name for name in members if name.split("/")[0] == "skad.egg-info"}
    assert set(members) - made - {"PKG-INFO"} == set(tracked())
    (folder,) = tmp_path.iterdir()
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--rotation", "0", "tests/test_neighbors.py", "-k", "KNN or LOF"]
    done = run_python(*command, cwd=folder)
    assert " passed" in done.stdout


@pytest.mark.full
def test_the_wheel_is_the_package_and_nothing_else(built, tmp_path):
    wheel = built[1]
    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
        (metadata,) = [name for name in members if name.endswith("/METADATA")]
        facts = archive.read(metadata).decode()
        archive.extractall(tmp_path)
    info = metadata.split("/")[0]
    files = {name for name in members if not name.startswith(f"{info}/")}
    assert files == {name for name in tracked() if name.startswith("skad/")}
    assert {"skad/py.typed", "skad/__init__.pyi", "skad/neighbors/__init__.pyi"} < files
    assert f"{info}/licenses/LICENSE" in members
    assert f"\nVersion: {skad.__version__}\n" in facts
    assert "\nRequires-Python: >=3.11\n" in facts
    assert "\nLicense-Expression: BSD-3-Clause\n" in facts
    for extra in pyproject()["project"]["optional-dependencies"]:
        assert f"\nProvides-Extra: {extra}\n" in facts
    code = "import skad; print(skad.__file__); skad.KNN(1).fit([[0.0], [1.0], [2.0]])\n"
    code += "from skad.__main__ import main; main(['list'])"
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = run_python("-c", code, cwd=tmp_path, env=environment)
    assert done.stdout.startswith(str(tmp_path))
    assert "KNN" in done.stdout


@pytest.mark.full
def test_the_wheel_installs(built, tmp_path):
    """Into an environment of its own, which sees what is installed here."""
    run_python("-m", "venv", "--without-pip", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    command = ["-m", "pip", "--python", python, "install", "--no-deps"]
    command += ["--no-index", "--disable-pip-version-check", "--quiet", built[1]]
    run_python(*command, cwd=tmp_path)
    libraries = pathlib.Path(pytest.__file__).parents[1]
    (site / "libraries.pth").write_text(str(libraries), "utf-8")
    done = run(
        [tmp_path / "env" / "bin" / "skad", "--version"], cwd=tmp_path, env={"PATH": ""}
    )
    assert skad.__version__ in done.stdout
