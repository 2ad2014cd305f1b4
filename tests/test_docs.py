"""The documentation: its code runs, its links lead somewhere, its lists are whole."""

import doctest
import pathlib
import re
import runpy
import sys
import tomllib

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

import skad
from skad.base import BaseDetector

ROOT = pathlib.Path(__file__).parents[1]
MADE = {"_build", "generated"}  # by `make doc`
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted(
        path
        for path in (ROOT / "doc").rglob("*.rst")
        if not MADE & set(path.relative_to(ROOT / "doc").parts)
    ),
]
GUIDE = [path for path in PAGES if "user_guide" in (path.stem, path.parent.name)]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def fenced(text):
    """Return the Python blocks of a Markdown page."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def run_doctest(name, source):
    """Run the examples of a page; return how many there were."""
    test = doctest.DocTestParser().get_doctest(source, {}, name, name, 0)
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report = []
    runner.run(test, out=report.append, clear_globs=False)
    assert runner.failures == 0, "".join(report)
    return runner.tries


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_code_of_pages(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "\n\n".join(block for block in fenced(text) if ">>>" in block)
    tried = run_doctest(path.name, text)
    if path.name in ("README.md", "user_guide.rst"):
        assert tried > 5


def test_a_wrong_page_fails():
    with pytest.raises(AssertionError, match="Expected"):
        run_doctest("page", ">>> 1 + 1\n3\n")


def test_the_worked_example_of_a_detector(tmp_path, monkeypatch, blobs):
    [source] = fenced((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(source.splitlines()) < 60
    # a module of its own, so that it can be pickled
    (tmp_path / "median_deviation.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    from median_deviation import MedianDeviation

    results = check_estimator(MedianDeviation(), on_fail=None, on_skip=None)
    failed = [row["check_name"] for row in results if row["status"] != "passed"]
    assert failed == []
    assert issubclass(MedianDeviation, BaseDetector)

    train, normal, anomalies = blobs
    detector = MedianDeviation().fit(train)
    assert np.mean(detector.predict(anomalies) == -1) > 0.9
    assert np.mean(detector.predict(normal) == 1) > 0.8
    torch = pytest.importorskip("torch")
    scores = detector.score_samples(torch.asarray(normal))
    np.testing.assert_allclose(scores.numpy(), detector.score_samples(normal))
    with pytest.raises(ValueError, match="'min_deviation' parameter"):
        MedianDeviation(min_deviation=0).fit(train)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


def test_the_label_free_example_chooses_as_labels_would(capsys):
    runpy.run_path(str(ROOT / "examples" / "label_free_search.py"))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    best = max(rows, key=lambda row: float(row[2]))
    assert best[-1] == "chosen"


def test_the_readme_lists_every_detector():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"`(\w+)`", text.split("## Detectors")[1].split("\n## ")[0])
    )
    names = {name for name, _ in skad.all_detectors()}
    assert names <= listed
    assert listed - names == set()


def test_the_readme_names_commands_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(?:.*`)?make (\w+)", text, flags=re.M))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= targets
    assert targets <= set(re.findall(r"^(\w+):", makefile, flags=re.M))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_files(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"`(doc/[\w/.]+|examples/[\w/.]+|tests/\w+\.py)`", text):
        assert (ROOT / target).exists(), target


def test_docstrings_refer_to_anchors_that_exist():
    guide = "".join(path.read_text(encoding="utf-8") for path in GUIDE)
    anchors = set(re.findall(r"^\.\. _([\w-]+):$", guide, flags=re.M))
    used = {
        anchor
        for file in (ROOT / "skad").rglob("*.py")
        for anchor in re.findall(
            r":ref:`User Guide <(\w+)>`", file.read_text(encoding="utf-8")
        )
    }
    assert used
    assert used <= anchors


def test_the_guide_names_every_detector():
    guide = "".join(path.read_text(encoding="utf-8") for path in GUIDE)
    for name, _ in skad.all_detectors():
        assert f"``{name}``" in guide, name


def test_every_requirement_is_pinned():
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pins)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins}
    assert {re.match(r"[\w-]+", line)[0].lower() for line in wanted} <= pinned


def test_the_changelog_knows_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[({re.escape(skad.__version__)}|Unreleased)\]", text, re.M)
