"""The layers of the package, its docstrings and its rules of taste."""

import ast
import dataclasses
import inspect
import pathlib
import re
import textwrap
from importlib import import_module

import numpy as np
import pytest

import skad
from skad._parameters import with_parameters
from skad.base import BaseDetector
from tests._instances import SETTINGS, default_instance, labels_for, quick

ROOT = pathlib.Path(skad.__file__).parent
REPOSITORY = pathlib.Path(__file__).parents[1]
FILES = sorted(ROOT.rglob("*.py"))
TOOLS = ("calibration", "export", "inspection", "model_selection", "persistence")
LIFTED = ("image", "ood", "series")

# What a part may import lies lower. Parts of one height do not import one another.
HEIGHTS = {
    "_lazy": -1,
    "_names": -2,
    "_frames": -2,
    "_needed": -2,
    "_paths": -2,
    "_time_stamps": -2,
    "_times": -1,
    "_parameters": -1,
    "_random": -1,
    "_copies": -1,
    "nn": 0,
    "metrics": 0,
    "datasets": 0,
    "_sklearn": 1,
    "_array": 2,
    "_callbacks": 2,
    "_pictures": 2,
    "_sparse": 2,
    "_answers": 3,
    "_dask": 3,
    "_moments": 3,
    "_off_origin": 4,
    "_strays": 4,
    "_limits": 3,
    "_picture_values": 3,
    "_cross_fitting": 4,
    "_labels": 4,
    "_validation": 4,
    "_offset": 4.5,
    "_picture_input": 4.5,
    "_weights": 4.5,
    "_group_rows": 4,
    "_stretches": 5,
    "base": 5,
    # 6: any other private module, shared by families
    "_events": 6.5,
    "_organising": 6.5,
    "_training": 6.5,
    "embedding": 7,
    "_samples": 8,
    **dict.fromkeys(skad._FAMILIES, 8),
    **dict.fromkeys(LIFTED, 9),  # they carry the other families to other data
    **dict.fromkeys(TOOLS, 10),
    "__init__": 11,
    "_commands": 12,
    "__main__": 13,
}

# A lift may reach for its default detector when it is used.
LIFTS = {
    "ensemble/_base.py",
    "ensemble/_corrected_density.py",
    "ensemble/_detector_features.py",
    "ensemble/_feature_bagging.py",
    "ensemble/_refined.py",
    "ensemble/_score_ensemble.py",
}

# A lift of any detector of its own family, with one of them as its default.
FAMILY_LIFTS = {"image/_tiled.py"}

# Parts that cannot do anything without torch.
TORCH = (
    "nn",
    "_copies",
    "_samples",
    "_training",
    "embedding",
    "image",
    "self_supervised",
)

# The one training loop, the one place that seeds torch, and who else knows skorch.
LOOP = "_training/_loop.py"
SEEDS = "_training/_seeds.py"
FORKED = "_array.py"  # sets the threads of forked children
SKORCH = {
    LOOP: "skorch",
    "_training/_run.py": "skorch.callbacks",
    "_training/_schedules.py": "skorch.callbacks",
}

# Imported only where they are used, since each costs more than all of skad.
HEAVY = {
    "PIL",
    "dask",
    "matplotlib",
    "numba",
    "pandas",
    "polars",
    "pynndescent",
    "rich",
    "torch",
}


# More than this is two ideas, and two files.
MOST_LINES = 420


def n_lines(file):
    return len(file.read_text("utf-8").splitlines())


def part(path):
    """Return the part of the package that a file belongs to."""
    return path.split("/")[0].removesuffix(".py")


def height(name):
    if name not in HEIGHTS and name.startswith("_"):
        return 6
    return HEIGHTS[name]


def imports(tree):
    """Yield (module, names, inside a function) of every import."""
    inside = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.Lambda)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, [], id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield node.module, [alias.name for alias in node.names], id(node) in inside


def layering_faults(path, tree):
    own = part(path)
    for module, names, in_function in imports(tree):
        if module.split(".")[0] != "skad":
            continue
        targets = [module.split(".")[1]] if "." in module else names or ["__init__"]
        for target in targets:
            target = target if target in HEIGHTS or target[0] == "_" else "__init__"
            lift = path in LIFTS and in_function and target in skad._FAMILIES
            if target != own and not lift and height(target) >= height(own):
                yield f"{path} imports {module} ({target})"


def folder_faults(path, tree):
    """Folders of a family import what the family shares, and never one another."""
    family, *folders, name = path.split("/") if "/" in path else ("", path)
    if family not in skad._FAMILIES or path in FAMILY_LIFTS or name == "__init__.py":
        return
    for module, names, _ in imports(tree):
        parts = module.split(".")
        if parts[:2] == ["skad", family]:
            targets = parts[2:3] or names or [family]
        elif module == "skad":
            targets = [family] if family in (names or [family]) else []
        else:
            continue
        for target in targets:
            if target[0] != "_" and target not in folders:
                yield f"{path} imports {module} ({target})"


def private_import_faults(path, tree):
    for module, names, _ in imports(tree):
        parts = module.split(".")
        if parts[0] == "sklearn" and path != "_sklearn.py":
            private = [name for name in parts + names if name.startswith("_")]
            if private and private != ["__version__"]:
                yield f"{path} imports {private} of scikit-learn"


def heavy_import_faults(path, tree):
    bases = (
        "skad._training",
        "skad.adversarial._game",
        "skad.ood._exposed_classifier",
        "skad.adversarial._refiner",
        "skad.ood._trained",
        "skad.reconstruction._vae",
        "skad.series._forecaster",
        "skad.series._network",
        "skad.series._stepwise",
        "skad.supervised._base",
    )
    trained = any(module in bases for module, _, _ in imports(tree))
    for module, _, in_function in imports(tree):
        root = module.split(".")[0]
        if root == "skorch" and SKORCH.get(path) != module:
            yield f"{path} imports {module}"
        if root == "torch" and (trained or part(path) in TORCH):
            continue
        if root in HEAVY and not in_function:
            yield f"{path} imports {module} when it is imported"


def call_faults(path, tree):
    forbidden = {"manual_seed", "set_num_threads", "set_num_interop_threads"}
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension):
            names = {n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)}
            if "epoch" in names and path != LOOP:
                yield f"{path} has an epoch loop"
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.split(".")[-1]
        if last == "backward" and path != LOOP:
            yield f"{path} calls {name}"
        # a training seeds generators that it has forked
        forked = path == SEEDS and name.endswith(".manual_seed")
        forked = forked and name != "torch.manual_seed"
        forked = forked or name == "torch.Generator().manual_seed"  # one's own
        forked = forked or (path == FORKED and name == "torch.set_num_threads")
        if (last in forbidden and not forked) or name in (
            "np.random.seed",
            "random.seed",
        ):
            yield f"{path} calls {name}, which changes global state"
        # beyond 2^24 values it fails: skad.nn.statistics has another
        if name == "torch.quantile":
            yield f"{path} calls {name}"
        if name == "print" and part(path) not in ("__main__",):
            yield f"{path} prints"


def constructor_faults(path, tree):
    for node in ast.walk(tree):
        constructs = isinstance(node, ast.FunctionDef) and node.name == "__init__"
        if constructs and node.args.kwarg:
            yield f"{path} has a constructor with ** arguments"


FAULTS = [
    layering_faults,
    folder_faults,
    private_import_faults,
    heavy_import_faults,
    call_faults,
    constructor_faults,
]


@pytest.mark.parametrize("faults", FAULTS, ids=lambda check: check.__name__)
def test_no_file_breaks_a_rule(faults):
    found = [
        fault
        for file in FILES
        for fault in faults(
            file.relative_to(ROOT).as_posix(), ast.parse(file.read_text("utf-8"))
        )
    ]
    assert not found


@pytest.mark.parametrize(
    ("faults", "path", "source"),
    [
        (layering_faults, "density/_a.py", "from skad.neighbors import KNN"),
        (layering_faults, "density/_a.py", "def f():\n import skad.neighbors._knn"),
        (layering_faults, "density/_a.py", "from skad import neighbors"),
        (layering_faults, "density/_a.py", "from skad import KNN"),
        (layering_faults, "density/_a.py", "import skad"),
        (layering_faults, "density/_a.py", "from skad.model_selection import x"),
        (layering_faults, "base.py", "from skad.density import Mahalanobis"),
        (layering_faults, "_array.py", "from skad._validation import check_table"),
        (layering_faults, "_grouped.py", "from skad.series._base import a"),
        (layering_faults, "_grouped.py", "from skad.embedding import windows"),
        (layering_faults, "_sklearn.py", "from skad.base import BaseDetector"),
        (layering_faults, "datasets/_a.py", "from skad.base import BaseDetector"),
        (layering_faults, "inspection/_a.py", "from skad.model_selection import x"),
        (layering_faults, "ensemble/_feature_bagging.py", "import skad.density"),
        (folder_faults, "image/memory/_a.py", "import skad.image.density._padim"),
        (folder_faults, "image/memory/_a.py", "from skad.image.density._b import c"),
        (folder_faults, "image/memory/_a.py", "from skad.image.density import _b"),
        (
            folder_faults,
            "image/memory/_a.py",
            "def f():\n import skad.image.density",
        ),
        (folder_faults, "image/memory/_a.py", "from skad.image import PaDiM"),
        (folder_faults, "image/memory/_a.py", "import skad.image"),
        (folder_faults, "image/memory/_a.py", "from skad import image"),
        (folder_faults, "image/_base.py", "from skad.image.density._b import c"),
        (private_import_faults, "base.py", "from sklearn.base import _fit_context"),
        (private_import_faults, "base.py", "import sklearn.utils._mask"),
        (private_import_faults, "base.py", "def f():\n from sklearn._a import b"),
        (heavy_import_faults, "base.py", "import torch"),
        (heavy_import_faults, "base.py", "try:\n import torch.nn\nexcept E:\n pass"),
        (call_faults, "base.py", "loss.backward()"),
        (call_faults, "base.py", "for epoch in range(9):\n pass"),
        (call_faults, "base.py", "print(1)"),
        (call_faults, "base.py", "np.random.seed(0)"),
        (call_faults, "nn/memory.py", "torch.quantile(x.cpu(), 0.5)"),
        (call_faults, "base.py", "torch.manual_seed(0)"),
        (call_faults, "_training/_seeds.py", "torch.manual_seed(0)"),
        (call_faults, "_training/_run.py", "loss.backward()"),
        (call_faults, "_training/_run.py", "for epoch in range(9):\n pass"),
        (
            call_faults,
            "_training/_loop.py",
            "torch.default_generator.manual_seed(0)",
        ),
        (heavy_import_faults, "_training/_detector.py", "import skorch"),
        (heavy_import_faults, "_training/_run.py", "import skorch"),
        (layering_faults, "_training/_run.py", "from skad._samples import Maps"),
        (layering_faults, "embedding/_a.py", "from skad._samples import Maps"),
        (call_faults, "base.py", "torch.default_generator.manual_seed(0)"),
        (heavy_import_faults, "base.py", "def f():\n import skorch"),
        (call_faults, "base.py", "torch.set_num_threads(1)"),
        (constructor_faults, "base.py", "class A:\n def __init__(self, **k): pass"),
    ],
)
def test_the_rules_see_what_breaks_them(faults, path, source):
    assert list(faults(path, ast.parse(source)))


def test_the_rules_allow_what_is_meant():
    assert not list(
        layering_faults(
            "ensemble/_feature_bagging.py",
            ast.parse("def f():\n from skad.neighbors import LOF"),
        )
    )
    assert not list(
        layering_faults("density/_a.py", ast.parse("from skad.base import a"))
    )
    assert not list(
        heavy_import_faults("base.py", ast.parse("def f():\n import torch"))
    )
    for source in (
        "from skad.image._base import a",
        "from skad.image import _base",
        "from skad.image.memory._search import nearest",
        "from skad.image.memory import _search",
        "from skad.embedding import PatchEmbedding",
    ):
        assert not list(folder_faults("image/memory/_a.py", ast.parse(source)))


def test_files_are_where_they_are_looked_for():
    names = {file.relative_to(ROOT).as_posix() for file in FILES}
    assert not {name for name in names if name.endswith("utils.py")}
    unknown = {part(name) for name in names if part(name)[0] != "_"} - set(HEIGHTS)
    assert not unknown, "give the new part a height"
    assert not misplaced(names)


def misplaced(names):
    """Return files of families that are not family/_method or family/idea/_method."""
    found = [name for name in names if part(name) in skad._FAMILIES]
    shape = re.compile(r"[a-z_]+/([a-z][a-z_]*/)?_\w+\.py")
    stray = {name for name in found if not shape.fullmatch(name)}
    packages = {name.rpartition("/")[0] for name in found if "/__init__.py" in name}
    return stray | {name for name in found if name.rpartition("/")[0] not in packages}


@pytest.mark.parametrize(
    "name",
    [
        "image/padim.py",
        "image/memory/padim.py",
        "image/memory/bank/_padim.py",
        "image/_memory/_padim.py",
        "image/strange/_padim.py",
    ],
)
def test_the_search_for_misplaced_files_sees_them(name):
    packages = {"image/__init__.py", "image/memory/__init__.py"}
    assert not misplaced({*packages, "image/_base.py", "image/memory/_padim.py"})
    assert name in misplaced({*packages, name})


def test_folders_of_ideas_hold_no_public_names():
    for file in FILES:
        path = file.relative_to(ROOT).as_posix().split("/")
        if path[0] in skad._FAMILIES and path[2:] == ["__init__.py"]:
            (line,) = file.read_text("utf-8").splitlines()
            assert re.fullmatch(r'"""[A-Z].+\."""', line)
            assert path[1] not in import_module(f"skad.{path[0]}").__all__


def test_the_base_stays_small():
    assert n_lines(ROOT / "base.py") < 400


def test_no_file_is_long():
    long = {file.name for file in FILES if n_lines(file) > MOST_LINES}
    assert not long


# --------------------------------------------------------------------------- docstrings

ORDER = [
    "Parameters",
    "Returns",
    "Yields",
    "Raises",
    "Attributes",
    "See Also",
    "Notes",
    "References",
    "Examples",
]


def public_members():
    """Return (name, member) of all that the package exports, with its aliases once."""
    found = {}
    for module_name in (*skad._FAMILIES, *TOOLS, "datasets", "embedding", "metrics"):
        if not (ROOT / module_name).exists():
            continue
        module = import_module(f"skad.{module_name}")
        for name in module.__all__:
            found[f"{module_name}.{name}"] = getattr(module, name)
    return sorted(found.items())


# records say what their fields are where the fields are
CLASSES = [
    (name, member)
    for name, member in public_members()
    if inspect.isclass(member) and not dataclasses.is_dataclass(member)
]
FUNCTIONS = [(name, m) for name, m in public_members() if inspect.isfunction(m)]
METHODS = [
    (f"{name}.{method}", function)
    for name, member in CLASSES
    for method, function in vars(member).items()
    if inspect.isfunction(function) and method[0] != "_"
]


def sections(member):
    """Return {title: lines} of a numpydoc docstring, the summary under ''."""
    found, title = {"": []}, ""
    lines = re.sub(r"\\\n\s*", "", inspect.getdoc(member) or "").splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line and following and set(following) == {"-"}:
            title = line
            assert title not in found, f"section {title} twice"
            found[title] = []
        elif title == "" or set(line) != {"-"}:
            found[title].append(line)
    return found


def entries(lines):
    """Return [(name, type)] of a section of parameters; `a, b : type` are two."""
    found = []
    for line in lines:
        match = re.match(r"(\S.*?) : (.+)", line)
        if match:
            found += [(name, match[2]) for name in match[1].split(", ")]
    return found


def parameters(callable_):
    return [
        parameter
        for parameter in inspect.signature(callable_).parameters.values()
        if parameter.name not in ("self", "cls")
    ]


def check_docstring(member, required):
    doc = sections(member)
    titles = [title for title in doc if title]
    assert set(titles) <= set(ORDER), "unknown section"
    assert titles == [title for title in ORDER if title in titles], "order"
    assert set(required) <= set(titles), set(required) - set(titles)
    summary = doc[""]
    assert summary, "no docstring"
    assert summary[0].endswith("."), "the summary is one sentence on one line"
    assert len(summary) == 1 or summary[1] == "", "the summary is one line"
    documented = entries(doc.get("Parameters", []))
    assert [name for name, _ in documented] == [p.name for p in parameters(member)]
    for (name, kind), parameter in zip(documented, parameters(member), strict=True):
        stated = re.search(r"default=(.+)$", kind)
        if parameter.default is parameter.empty:
            assert not stated, f"{name} has no default"
            continue
        # `y : object`, ignored, needs no default
        if stated or kind != "object":
            assert stated, f"{name} states no default"
            assert ast.literal_eval(stated[1]) == parameter.default, name
    for reference in re.findall(r"\[(\d+)\]_", member.__doc__):
        assert f".. [{reference}]" in "\n".join(doc["References"])


@pytest.mark.parametrize(("name", "member"), CLASSES, ids=[name for name, _ in CLASSES])
def test_class_docstrings(name, member):
    required = ["Parameters", "Examples"]
    if issubclass(member, BaseDetector):
        required = ORDER[:1] + ORDER[4:]
    elif name.startswith("inspection.") or "Display" in name:
        required = ["Parameters"]
    check_docstring(member, required)
    if issubclass(member, BaseDetector):
        fitted = [name for name, _ in entries(sections(member)["Attributes"])]
        assert all(name.endswith("_") for name in fitted)
        assert {"offset_", "n_features_in_"} <= set(fitted)
        assert ">>>" in "\n".join(sections(member)["Examples"])
        assert re.search(
            r"\b(1[89]|20)\d\d\b", "\n".join(sections(member)["References"])
        )


@pytest.mark.parametrize(
    ("name", "member"),
    FUNCTIONS + METHODS,
    ids=[name for name, _ in FUNCTIONS + METHODS],
)
def test_function_docstrings(name, member):
    if not member.__doc__ and hasattr(BaseDetector, member.__name__):
        pytest.fail(f"{name} overrides the base without a docstring")
    if member.__name__ == "partial_fit" and not member.__doc__:
        return
    check_docstring(member, ["Parameters"] if parameters(member) else [])


# Attributes of other data (named columns, labels) or of other settings than the test's.
SOMETIMES = {
    "best_score_",
    "best_threshold_",
    "buckets_",
    "center_",
    "coef_",
    "curve_",
    "detectors_",
    "feature_names_in_",
    "frequencies_",
    "landmark_coef_",
    "landmarks_",
    "offsets_",
    "wave_coef_",
}


@pytest.mark.parametrize(
    ("name", "detector"), skad.all_detectors(), ids=[n for n, _ in skad.all_detectors()]
)
def test_attributes_in_the_docstring_exist(name, detector, blobs):
    X = blobs[0][:60]
    fitted = quick([default_instance(name)])[0].fit(X, labels_for(name, X))
    documented = {name for name, _ in entries(sections(detector)["Attributes"])}
    public = {n for n in vars(fitted) if n[-1] == "_" and n[0] != "_"}
    assert public <= documented, "fitted and not documented"
    holders = "detector_", "detectors_", "estimators_"
    held = any(hasattr(fitted, name) for name in holders)
    sometimes = SOMETIMES | ({"image_shape_"} if held else set())
    missing = {n for n in documented - sometimes if not hasattr(fitted, n)}
    assert not missing, "documented and not fitted"


class Good:
    """Do nothing.

    Parameters
    ----------
    a : int, default=1
        First.
    b : {"x", "y"}, \
            default="x"
        Second.

    Notes
    -----
    None.

    Examples
    --------
    None.
    """

    def __init__(self, a=1, b="x"):
        pass


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a : int", "c : int"),
        ("default=1", "default=2"),
        (", default=1", ""),
        ("Do nothing.", "Do nothing"),
        ("Notes\n    -----", "Other\n    -----"),
        ("    a : int, default=1\n        First.\n", ""),
        ("Notes\n    -----", "Examples\n    --------"),
        ("Second.", "Second [1]_."),
        ("Parameters\n    ----------", "Notes\n    -----"),
    ],
)
def test_the_docstring_check_sees_faults(old, new):
    check_docstring(Good, [])
    bad = type("Bad", (), {"__init__": Good.__init__})
    assert old in Good.__doc__
    bad.__doc__ = Good.__doc__.replace(old, new)
    with pytest.raises((AssertionError, KeyError)):
        check_docstring(bad, [])


# ------------------------------------------------------------------------------ classes

# What states a method of the contract for several families.
SHARED = (
    "skad.base",
    "skad._grouped",
    "skad._weights",
    "skad._fit_parameters",
    "skad.ood._outliers",
)
FINAL = ("fit", "score_samples", "decision_function", "predict", "fit_predict")


@pytest.mark.parametrize(
    ("name", "detector"), skad.all_detectors(), ids=[n for n, _ in skad.all_detectors()]
)
def test_nobody_overrides_the_contract(name, detector):
    """Only the base of a family or of several may, to take what data bring along."""
    for method in (*FINAL, "transform"):
        where = getattr(detector, method).__module__
        assert where in SHARED or where.endswith("._base")


def test_detectors_are_final_and_named_once():
    detectors = [detector for _, detector in skad.all_detectors()]
    for detector in detectors:
        parents = set(detector.__mro__[1:])
        assert not parents & set(detectors), f"{detector.__name__} inherits a method"
        assert not inspect.isabstract(detector)
        assert detector.__module__.split(".")[-1].startswith("_")
    names = [
        name.lower()
        for family in skad._FAMILIES
        for name in import_module(f"skad.{family}").__all__
    ]
    assert len(names) == len(set(names))
    assert len(np.unique([name for name, _ in skad.all_detectors()])) == len(detectors)


# --------------------------------------------------------------- parameters stated once


def constraints_in(cls):
    """Return {parameter: source} of the constraints that a class itself writes."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            if ast.unparse(node.targets[0]) == "_parameter_constraints":
                # the key of what is spread is None
                return {key and key.value: ast.unparse(value) for key, value in pairs}
    return {}


def documented(cls):
    """Return the entries {name: text} that a class itself writes, by section."""
    stated = vars(cls).get("_statement")
    return {
        "Parameters": stated.documented if stated else {},
        "Attributes": stated.fitted if stated else {},
    }


def text_of(entry):
    """Return what an entry of a docstring says, but for the default."""
    return re.sub(r"default=.+", "", entry).split()


def repetitions(cls):
    """Yield what a class says of parameters that one of its bases says as well."""
    bases = [base for base in cls.__mro__[1:] if base.__module__ != "builtins"]
    for title, found in documented(cls).items():
        for name, entry in found.items():
            others = [base for base in bases if name in documented(base)[title]]
            # the nearest, which may say something else than its own bases
            for base in others[:1]:
                if text_of(documented(base)[title][name]) == text_of(entry):
                    yield f"{cls.__name__} documents {name} as {base.__name__} does"
    constraints = constraints_in(cls)
    if None in constraints:
        yield f"{cls.__name__} spreads the constraints of another class"
    for base in bases:
        if base.__module__.split(".")[0] != cls.__module__.split(".")[0]:
            continue
        for name in constraints.items() & constraints_in(base).items():
            yield f"{cls.__name__} constrains {name} as {base.__name__} does"
    constructor = vars(cls).get("__init__")
    if constructor and constructor.__code__.co_name != "initialize":
        yield f"{cls.__name__} writes a constructor: use @with_parameters"


def stating_classes():
    """Return the classes of skad that detectors are made of."""
    found = {cls for _, detector in skad.all_detectors() for cls in detector.__mro__}
    return {cls for cls in found if cls.__module__.startswith("skad.")}


def test_classes_state_nothing_that_a_base_states():
    found = [fault for cls in stating_classes() for fault in repetitions(cls)]
    assert not found
    assert len(stating_classes()) > len(skad.all_detectors())


@with_parameters
class Stating(BaseDetector):
    """State one.

    Parameters
    ----------
    one : int, default=1
        First.
    """

    one: int = 1
    _parameter_constraints = {"one": [int]}


@with_parameters
class Documenting(Stating):
    """State one again.

    Parameters
    ----------
    one : int, default=2
        First.
    """

    one = 2


class Constraining(Stating):
    _parameter_constraints = {"one": [int]}


class Spreading(Stating):
    _parameter_constraints = {"two": [int], **Stating._parameter_constraints}


class Constructing(Stating):
    def __init__(self, one=1):
        self.one = one


@pytest.mark.parametrize(
    "cls",
    [Documenting, Constraining, Spreading, Constructing],
    ids=lambda c: c.__name__,
)
def test_repetitions_are_seen(cls):
    assert not list(repetitions(Stating))
    assert len(list(repetitions(cls))) == 1


# ---------------------------------------------------------------- nobody is left out

# Tests of a family that are not in a file with its name.
ELSEWHERE = {
    "test_midas": {"MIDAS", "MIDASR"},
    "test_reconstruction": {"DAGMM"},
    "test_training": {"DeepSAD", "DeepSVDD"},
}


def names_in(file):
    """Return the names that a file uses, in code and in texts; not what it imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"\w+", node.value))
    return found


def names_by_family(files):
    """Return {family: names} of what the files of each family's tests name."""
    found = {family: set() for family in skad._WITH_DETECTORS}
    for file in files:
        for family in found:
            if family in file.stem:
                found[family] |= names_in(file)
    return found


def test_tests_of_its_family_name_every_detector(tmp_path):
    found = names_by_family((REPOSITORY / "tests").glob("test_*.py"))
    for stem, names in ELSEWHERE.items():
        assert names <= names_in(REPOSITORY / "tests" / f"{stem}.py")
    known = set().union(*ELSEWHERE.values())
    missing = {
        name
        for name, detector in skad.all_detectors()
        if name not in found[detector.__module__.split(".")[1]] | known
    }
    assert not missing, "write a test of the mathematics in tests/test_<family>.py"
    (tmp_path / "test_density_a.py").write_text("from skad.density import KDE\nGMM()")
    assert names_by_family(tmp_path.glob("*.py"))["density"] == {"GMM"}


def test_settings_are_those_of_detectors():
    assert set(SETTINGS) <= {name for name, _ in skad.all_detectors()}


def test_the_changelog_names_every_detector():
    log = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    missing = {name for name, _ in skad.all_detectors() if f"`{name}`" not in log}
    assert not missing


def test_the_map_shows_every_folder():
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    shown = set(re.findall(r"[\w/]+(?=/(?:\s|$))", text.split("```")[3], re.MULTILINE))
    folders = {file.parent.name for file in FILES if file.parent != ROOT}
    assert folders <= shown, folders - shown


DATA = {"rows", "pictures", "series", "edges", "classifier", "detector"}


@pytest.mark.parametrize("family", skad._WITH_DETECTORS)
def test_families_say_what_data_they_look_at(family):
    found = {
        cls._data
        for _, cls in skad.all_detectors()
        if cls.__module__.split(".")[1] == family
    }
    assert found <= DATA, "the command line has to know it"
    assert ("rows" in found) == (family not in (*LIFTED, "calibration"))
