"""The documentation: its code runs, its links lead somewhere, its lists are whole."""

import ast
import doctest
import importlib
import inspect
import pathlib
import re
import sys
import textwrap
import tomllib
import types
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.utils.estimator_checks import check_estimator

import skad
from tests import _readme, _stubs, test_contract, test_style
from tests._instances import quick
from tests.conftest import WORTHLESS

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
MIGRATION = ROOT / "doc" / "migration.rst"
ADDING = ROOT / "doc" / "adding_a_detector.rst"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def fenced(text):
    """Return the Python blocks of a Markdown page."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def run_doctest(name, source, names=None):
    """Run the examples of a page; return how many there were.

    They find `names`, and what they define is left there.
    """
    names = {} if names is None else names
    test = doctest.DocTestParser().get_doctest(source, {}, name, name, 0)
    test.globs = names
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    report = []
    runner.run(test, out=report.append, clear_globs=False)
    assert runner.failures == 0, "".join(report)
    return runner.tries


@WORTHLESS
@pytest.mark.parametrize(
    "path",
    [path for path in PAGES if path not in (ADDING, MIGRATION)],  # they run below
    ids=lambda path: path.name,
)
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


# Of each file of the page on adding a detector a change that makes it wrong: the tests
# that the page writes have to notice.
WRONG = {
    "MedianDeviation": ("np.abs(X - median), axis=0)", "X - median, axis=0)"),
    "SparseAutoEncoder": ("code.abs()", "code.square()"),
    "PlaceDeviation": ("features.mean(0)", "features.mean((0, 1, 2))"),
    "SpatialDepth": ("* n / (n - 1)", ""),
}


def captioned(text):
    """Return [(path, code)] of the files that a page writes."""
    blocks = re.findall(
        r"^\.\. code-block:: python\n   :caption: (\S+)\n\n((?: .*\n|\n)+)",
        text,
        flags=re.MULTILINE,
    )
    return [(path, textwrap.dedent(code).strip() + "\n") for path, code in blocks]


class Written:
    """The files of the page on adding a detector, below a package of their own.

    What they define can be pickled, and is no part of skad.
    """

    def __init__(self, folder):
        self.files = captioned(ADDING.read_text(encoding="utf-8"))
        self.root = folder / "written"
        for path, code in self.files:
            if path.startswith("skad/"):
                file = folder / path.replace("skad", "written", 1)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(code, encoding="utf-8")
        (self.root / "__init__.py").touch()
        [init] = self.root.glob("*/__init__.py")  # of the new family
        assert _stubs.is_lazy(init)
        for family in [one for one in self.root.iterdir() if one.is_dir()]:
            stub = _stubs.package_stub(family, self.root)
            (family / "__init__.py").write_text(init.read_text("utf-8"), "utf-8")
            (family / "__init__.pyi").write_text(stub, "utf-8")

    def check(self, path, module=None):
        """Run the tests of a file, on the detector of `module` where one is given."""
        code = dict(self.files)[path].replace("from skad.", "from written.")
        names = {"__name__": path}
        exec(compile(code, path, "exec"), names)
        if module is not None:
            names |= {name: vars(module)[name] for name in names if name in WRONG}
        tests = [one for name, one in names.items() if name.startswith("test_")]
        assert tests
        for test in tests:
            test()

    def file_of(self, name):
        """Return the page's path of a detector, its code and its tests' path."""
        for path, code in self.files:
            if f"class {name}(" in code:
                return path, code, f"tests/test_{path.split('/')[1]}.py"
        raise KeyError(name)

    def instance(self, name):
        """Return a detector of the page in the settings that the page gives it."""
        settings = [path for path, _ in self.files if path.startswith("tests/settings")]
        for path in settings:
            names = {}
            exec(dict(self.files)[path], names)
            if name in names:
                return vars_of(name)(**names[name].cheap)
        return vars_of(name)()


def vars_of(name):
    """Return a class that the page writes by its family."""
    for family in ("marginal", "reconstruction", "image", "depth"):
        module = importlib.import_module(f"written.{family}")
        if name in module.__all__:
            return getattr(module, name)
    raise KeyError(name)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield Written(folder)
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == "written"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", WRONG)
def test_the_written_detectors_pass_the_estimator_checks(written, name):
    [detector] = quick([written.instance(name)])
    results = check_estimator(detector, on_fail=None, on_skip=None)
    failed = [row["check_name"] for row in results if row["status"] != "passed"]
    assert failed == []
    assert len(results) > 40


CONTRACT = [
    function
    for name, function in vars(test_contract).items()
    if name.startswith("test_")
    and list(inspect.signature(function).parameters) == ["detector", "blobs"]
]


@pytest.mark.parametrize("held", CONTRACT, ids=lambda held: held.__name__)
@pytest.mark.parametrize("name", WRONG)
def test_the_written_detectors_keep_the_contract(written, name, held, blobs):
    held(written.instance(name), blobs)


@pytest.mark.parametrize("method", test_contract.PUBLIC)
def test_the_written_detector_refuses_bad_rows(written, method, blobs):
    detector = written.instance("MedianDeviation")
    test_contract.test_bad_rows_are_refused(detector, blobs, method)


@pytest.mark.parametrize("name", WRONG)
def test_the_tests_of_the_page_see_what_is_wrong(written, name):
    _, code, tests = written.file_of(name)
    written.check(tests)
    right, wrong = WRONG[name]
    assert right in code
    module = types.ModuleType("wrong")
    exec(code.replace(right, wrong), vars(module))
    with pytest.raises(AssertionError):
        written.check(tests, module)


@pytest.mark.parametrize("name", WRONG)
@WORTHLESS
def test_the_written_detectors_are_documented(written, name, monkeypatch):
    monkeypatch.setitem(test_style.HEIGHTS, "depth", test_style.HEIGHTS["density"])
    path, code, _ = written.file_of(name)
    cls = vars_of(name)
    test_style.check_docstring(cls, ["Parameters", "References", "Examples"])
    assert not list(test_style.repetitions(cls))
    rules = [
        fault
        for faults in test_style.FAULTS
        for fault in faults(path.removeprefix("skad/"), ast.parse(code))
    ]
    assert not rules
    module = sys.modules[cls.__module__]
    assert run_doctest("docstring", cls.__doc__, dict(vars(module))) > 1
    assert len(code.splitlines()) < 100


@WORTHLESS
def test_the_page_on_adding_runs(written):
    names = {"np": np, "MedianDeviation": vars_of("MedianDeviation")}
    text = ADDING.read_text(encoding="utf-8")
    text = text.split("What it can do now")[1].split("\nA network\n")[0]
    assert run_doctest("page", text, names) > 10
    assert len(CONTRACT) > 10


def calls(page):
    """Return (there, here) of the rows of the tables of calls, reST's backticks off."""
    tables = re.findall(r"   :class: calls\n\n((?:   .*\n)+)", page)
    rows = [row for table in tables for row in table.split("   * - ")[2:]]
    cells = [re.split(r"\n     - ?", row.rstrip("\n")) for row in rows]
    assert {len(row) for row in cells} == {3}
    return [(there, here.strip("`")) for there, here, _ in cells]


@WORTHLESS
def test_every_call_of_the_migration_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = MIGRATION.read_text(encoding="utf-8")
    names = {}
    assert run_doctest("migration", page, names) > 60
    names |= dict(skad.all_detectors())
    found = calls(page)
    assert len(found) > 40
    for _, here in found:
        detector = eval(here, names)
        detector._validate_params()  # every parameter is one that `fit` would take
        assert type(detector).__name__ in dict(skad.all_detectors()), here


@pytest.fixture(scope="module")
def table():
    """Return the part of the manual's extensions that reads rows off the classes."""
    folder = str(ROOT / "doc" / "_ext")
    sys.path.insert(0, folder)
    module = importlib.import_module("detector_rows")
    yield module
    sys.path.remove(folder)


@pytest.mark.parametrize("name", [name for name, _ in skad.all_detectors()])
def test_the_table_of_detectors_has_no_gap(table, name):
    row = table.row(getattr(skad, name))
    assert all(row.values()), row
    year = re.search(r"\((\d{4})\), \*.+\*$", row["Paper"])[1]
    assert 1900 < int(year) < 2100
    assert not re.search(r"\]_|\.\. math|[;:,.]$", " ".join(row.values()))


@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("KNN", "Paper", "Ramaswamy et al. (2000)"),
        ("ECOD", "Localization", "features; sums to the score"),
        ("KNN", "Cost", "O(n d)"),
        ("SVDD", "Labels", "known anomalies, optional"),
        ("KNN", "Labels", "none"),
        ("Energy", "Labels", "classes"),
        ("KNNOOD", "Labels", "classes, optional"),
        ("WindowDetector", "Labels", "what its detector uses"),
        ("AutoEncoder", "Input", "rows, pictures"),
        ("AutoEncoder", "Cost", "Trains at most 50 epochs of a network"),
        ("PatchCore", "Input", "pictures"),
        ("MatrixProfile", "Input", "series, also with NaN"),
        ("MIDAS", "Input", "edges in the order of time"),
    ],
)
def test_the_table_of_detectors_says_what_the_code_says(table, name, column, expected):
    found = table.row(getattr(skad, name))[column]
    assert expected in found if column in ("Paper", "Cost") else found == expected


def test_the_readme_lists_every_detector():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"`(\w+)`", text.split("## Detectors")[1].split("\n## ")[0])
    )
    assert listed == {name for name, _ in skad.all_detectors()}


def test_the_table_of_the_readme_says_what_the_packages_say():
    text = _readme.FILE.read_text(encoding="utf-8")
    assert _readme.with_table(text) == text, "run make format"
    wrong = text.replace("compare a row with its nearest training rows", "compare")
    assert wrong != text
    assert _readme.with_table(wrong) == text


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


def is_named(text, detector):
    """Tell whether a text names a detector, as a literal or by a link."""
    return re.search(rf"``{detector}``|\.{detector}`", text)


def test_the_guide_names_every_detector():
    guide = "".join(path.read_text(encoding="utf-8") for path in GUIDE)
    for name, _ in skad.all_detectors():
        assert is_named(guide, name), name


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
    names = {re.match(r"[\w-]+", line)[0].lower() for line in wanted}
    assert names - {"skad"} <= pinned  # the extra `all` names those of skad


def test_the_changelog_knows_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[({re.escape(skad.__version__)}|Unreleased)\]", text, re.M)


@pytest.fixture(scope="module")
def extensions():
    """Return a function that imports one of the manual's extensions."""
    folder = str(ROOT / "doc" / "_ext")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


def test_what_two_modules_make_public_has_one_page(extensions):
    """Sphinx warns of a second description, and `make doc` fails on a warning."""
    described = [
        (member.__module__, getattr(member, "__qualname__", name))
        for module, names in extensions("public_names").modules().items()
        for name in names
        for member in [getattr(importlib.import_module(module), name)]
    ]
    assert len(described) > 150
    assert len(set(described)) == len(described)


def test_figures_of_the_table_are_those_of_the_results(extensions):
    module = extensions("detector_figures")
    results = module.read("tables_accuracy")
    [expected] = [
        float(row["auc"])
        for row in results
        if (row["dataset"], row["setting"], row["detector"])
        == ("mean", "semi", "KNN()")
    ]
    found = module.figures(skad.KNN, "tables")
    figure, baseline = re.fullmatch(r"([\d.]+) \(([\d.]+)\)", found["Quality"]).groups()
    assert float(figure) == pytest.approx(expected, abs=5e-4)
    assert 0.5 < float(baseline) < float(figure)
    assert found["Honest scores"] == skad.KNN._honesty
    assert found["Weights"] == "no"
    # Mahalanobis() itself, not its variant with another covariance
    plain = module.of_detector(results, "Mahalanobis")
    assert {row["detector"] for row in plain} == {"Mahalanobis()"}
    # KNN is not KNNOOD, and LOF is nobody's prefix
    assert module.of_detector(module.read("ood_digits"), "KNN", "method") == []
    assert module.figures(skad.ADAE, "tables")["Quality"] == ""
    assert module.figures(skad.SimpleNet, "pictures")["Weights"] == "yes"
    assert module.figures(skad.PaDiM, "pictures")["Weights"] == "better with"


@pytest.mark.parametrize("name", [name for name, _ in skad.all_detectors()])
def test_measured_cells_have_their_form(extensions, table, name):
    cls = getattr(skad, name)
    found = extensions("detector_figures").figures(cls, table.kind(cls))
    forms = {
        "Quality": r"(\d\.\d{3}(, \d\.\d{3})?( \(\d\.\d{3}\))?)?",
        "Flagged": r"(\d+\.\d\s%( \(\d+\.\d\s%\))*)?",
        "Honest scores": r"[a-z' -]+",
        "Seconds": r"([\d.e-]+(, .+)?)?",
        "Weights": r"(no|yes|better with|the classifier's|as its detector)?",
    }
    assert list(found) == list(forms)
    for column, form in forms.items():
        assert re.fullmatch(form, found[column]), (column, found[column])


def test_the_page_on_thresholds_explains_where_they_come_from():
    page = (ROOT / "doc" / "thresholds.rst").read_text(encoding="utf-8")
    for name, cls in skad.all_detectors():
        assert f"**{cls._honesty}**" in page, name


@pytest.mark.parametrize("narrow", [False, True])
def test_the_decision_chart_is_sound(extensions, narrow):
    module = extensions("decision_chart")
    names = {name for name, _ in skad.all_detectors()}
    leaves = [
        name for branch in module.TREE.values() for _, found in branch for name in found
    ]
    assert set(leaves) <= names
    kinds = [kind for column in module.COLUMNS for kind in column]
    assert kinds == list(module.TREE)
    columns = [kinds] if narrow else module.COLUMNS
    drawing = ElementTree.fromstring(
        module.chart(columns, "narrow" if narrow else "wide", "to/{}".format)
    )
    width, height = map(float, drawing.get("viewBox").split()[2:])
    links = [link.get("href") for link in drawing.iter("a")]
    assert links == [f"to/{name}" for name in leaves]
    assert drawing.find("title").text
    boxes = [
        [float(box.get(key)) for key in ("x", "y", "width", "height")]
        for box in drawing.iter("rect")
    ]
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0
        assert x + w <= width
        assert y + h <= height
        for a, b, c, d in boxes[:i]:  # no box over another
            assert x >= a + c or a >= x + w or y >= b + d or b >= y + h


# ------------------------------------------------------------------- lists and figures


@pytest.mark.parametrize("family", skad._WITH_DETECTORS)
def test_the_page_of_a_family_names_its_detectors(family):
    text = (ROOT / "doc" / "user_guide" / f"{family}.rst").read_text("utf-8")
    members = set(importlib.import_module(f"skad.{family}").__all__)
    for name in members & {name for name, _ in skad.all_detectors()}:
        assert is_named(text, name), name
    assert re.search(r"^\.\. family-figures:: " + family + "$", text, re.M)


def lacking(page):
    """Return what a page says that skad does not have, of other libraries."""
    (names,) = re.findall(r"There is no counterpart here of ([^.]+)\.", page)
    return set(re.findall(r"\b[A-Z][A-Za-z]*[A-Z]\w*\b", names))


def test_what_is_said_to_be_missing_is_missing():
    found = lacking(MIGRATION.read_text("utf-8"))
    assert "LMDD" in found
    assert not {name for name in found if hasattr(skad, name)}
    assert hasattr(skad, *lacking("There is no counterpart here of CBLOF."))


ROLE = re.compile(r"(?<!`):(quality|measured):`([^`]+)`")
ROLES = [
    (path, *found) for path in PAGES for found in ROLE.findall(path.read_text("utf-8"))
]


@pytest.mark.parametrize(("path", "role", "text"), ROLES)
def test_figures_in_the_text_are_there(extensions, path, role, text):
    module = extensions("how_good")
    found = {"quality": module.quality_of, "measured": module.cell}[role](text)
    assert re.fullmatch(r"\d\.\d{3}", found)


def test_figures_that_are_not_there_are_refused(extensions):
    module = extensions("how_good")
    with pytest.raises(ValueError, match="no figure of ADAE"):
        module.quality_of("ADAE")
    with pytest.raises(ValueError, match="matches 0 rows"):
        module.cell("tables_label_free auc dataset=none")
    with pytest.raises(ValueError, match=r"matches \d+ rows"):
        module.cell("tables_label_free auc criterion=excess_mass")


def test_tables_beside_peers_are_those_of_the_results(extensions):
    module = extensions("how_good")
    tables = module.beside_peers()
    (knn,) = [r for r in tables["Rows of a table"][1] if r["Detector"] == "``KNN()``"]
    assert knn["ROC AUC"] == module.quality_of("KNN")
    assert knn["PyOD"]
    for _, rows in tables.values():
        assert len(rows) > 5
        assert all(rows[0].keys() == row.keys() for row in rows)
    readme = (ROOT / "README.md").read_text("utf-8")
    times = module.times()
    assert len(times) > 20
    for row in times:
        cells = [text.replace("``", "`") for text in row.values()]
        assert f"| {' | '.join(cells)} |" in readme
    assert module.balance([2.0, 1.0, 0.5]).endswith("in 2, and slower in 1.")
    assert len(module.networks()) > 5
    grid = module.grid()
    assert {row["Detector"] for row in grid} >= {"``KNN()``", "``ECOD()``"}
    measured = [row["ratio"] for row in module.read("tables_grid")]
    shown = [text for row in grid for text in list(row.values())[3:] if text]
    assert len(shown) == len(measured)
    assert len(module.grid_ratios()) == sum(ratio != "" for ratio in measured)


def test_the_page_of_figures_has_none_that_is_typed():
    page = (ROOT / "doc" / "how_good.rst").read_text("utf-8")
    assert not re.search(r"\d\.\d", page)
    for directive in ("quality-beside-peers", "speed-beside-peers"):
        assert f".. {directive}::" in page


def test_classes_lead_to_the_examples_that_use_them(extensions):
    """sphinx-gallery files an example under the shortest name of what it uses."""
    names = extensions("gallery").gallery_names
    used = {}
    for path in (ROOT / "examples").glob("plot_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("skad"):
                for alias in node.names:
                    used[alias.name] = getattr(
                        importlib.import_module(node.module), alias.name
                    )
    classes = {name: cls for name, cls in used.items() if isinstance(cls, type)}
    assert {"KNN", "ThresholdDisplay"} <= set(classes)
    for name, cls in classes.items():
        full = f"skad.{cls.__module__.split('.')[1]}.{name}"
        short = f"skad.{name}" if hasattr(skad, name) else full
        assert names(full).split()[0] == short
    assert "skad.inspection.ThresholdDisplay.from_estimator" in names(
        "skad.inspection.ThresholdDisplay"
    )
    template = ROOT / "doc" / "_templates" / "autosummary" / "class.rst"
    assert "minigallery:: {{ gallery_names(fullname) }}" in template.read_text("utf-8")


def test_the_landing_page_shows_how_it_is_installed_and_used():
    page = (ROOT / "doc" / "index.rst").read_text("utf-8")
    assert "pip install" in page
    (code,) = re.findall(r"code-block:: python\n\n((?:   .*\n|\n)+)", page)
    rng = np.random.default_rng(0)
    names = {
        "good_pictures": rng.random((4, 32, 32)),
        "new_pictures": np.ones((1, 32, 32)),
    }
    exec(textwrap.dedent(code), names)
    assert names["maps"].shape == (1, 32, 32)
    for name in re.findall(r"\.\./examples/\w+\.py", page):
        assert (ROOT / "doc" / name).exists()
