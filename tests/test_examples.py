"""The examples run, draw and say what their text claims."""

import ast
import pathlib
import re
import runpy
import sys
from importlib.util import find_spec

import pytest

pytest.importorskip("matplotlib")
from matplotlib import pyplot

FOLDER = pathlib.Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
OPTIONAL = {"onnxruntime", "pandas", "rich"}
NEEDS = {  # what examples need without importing it by name
    "plot_network": ["rich", "sklearn.callback"],
    "plot_patchcore": ["PIL"],
    "plot_save_and_deploy": ["onnxscript"],
    "plot_tiled_picture": ["PIL"],
}


def needed(path):
    """Return the packages that an example needs beyond those of skad."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    return sorted(imported & OPTIONAL) + NEEDS.get(path.stem, [])


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run an example by name, return what it printed; its figures stay open."""

    def run(name):
        path = FOLDER / f"{name}.py"
        for package in needed(path):
            if find_spec(package) is None:
                pytest.skip(f"{package} is not installed")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(path)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("error")
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES])
def test_examples_run(name, run, tmp_path):
    printed = run(name)
    assert printed
    figures = [pyplot.figure(number) for number in pyplot.get_fignums()]
    assert figures
    for figure in figures:
        figure.savefig(tmp_path / "figure.png", dpi=50)  # draws all of it
        width = figure.get_size_inches()[0] * figure.dpi
        assert width <= 1000
    assert not [path for path in tmp_path.iterdir() if path.name != "figure.png"]
    if name in CLAIMS:
        CLAIMS[name](printed)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_have_the_gallery_s_form(path):
    text = path.read_text(encoding="utf-8")
    assert path.name.startswith("plot_")
    title, underline, *_ = ast.get_docstring(ast.parse(text)).splitlines()
    assert underline == "=" * len(title)
    assert "\n# %%\n" in text
    assert "plt.show()" in text


# -------------------------------------------------------------- what the texts claim


def numbers(pattern, printed):
    return [float(found) for found in re.findall(pattern, printed)]


def the_chosen_bandwidth_is_what_labels_would_choose(printed):
    rows = [line.split() for line in printed.splitlines()[1:]]
    best = max(rows, key=lambda row: float(row[2]))
    assert best[-1] == "chosen"


def the_stated_rate_holds(printed):
    bare, auto, conformal = numbers(r"flags ([\d.]+)% of the normal", printed)
    assert bare > 7
    assert 3 < auto < 7
    assert conformal < 5


def defects_are_flagged_and_good_pictures_are_not(printed):
    assert printed.count("flagged: True") == 3
    assert len(re.findall(r"good .*flagged: False", printed)) == 2
    assert numbers(r"over pixels: ([\d.]+)", printed)[0] > 0.9


def the_change_stands_out(printed):
    changed, unchanged = numbers(r"the map is ([\d.]+)", printed)
    assert changed > 1.5 * unchanged


def the_odd_beat_is_found(printed):
    [found] = numbers(r"score at ([\d.]+) s", printed)
    [true] = numbers(r"beat is at ([\d.]+) s", printed)
    assert abs(found - true) < 0.5
    first, last = (
        numbers(r"from ([\d.]+) s", printed)[0],
        numbers(r"to ([\d.]+) s", printed)[0],
    )
    assert true - 0.5 < first < last < true + 1.5


def the_scan_is_found(printed):
    assert numbers(r"edges of the scan: ([\d.]+)", printed)[0] > 0.99
    assert "machine 7 raises most" in printed


def features_beat_confidence(printed):
    areas = dict(re.findall(r"^(\w+) +ROC AUC ([\d.]+)", printed, flags=re.M))
    assert float(areas["KNNOOD"]) > float(areas["MaxSoftmax"])


def the_file_and_the_model_agree_with_the_detector(printed):
    assert "scores are the same: True" in printed
    assert "damaged or changed" in printed
    assert numbers(r"maps: ([\de.-]+) of", printed)[0] < 1e-4


def most_other_wines_are_flagged(printed):
    second, third, same = numbers(r": (\d+)% are flagged", printed)
    assert min(second, third) > 90
    assert same < 20


def weights_tell_kinds(printed):
    weighted, even = numbers(r"Rand index ([\d.]+)", printed)
    assert weighted > 0.9 > 0.6 > even


CLAIMS = {
    "plot_anomaly_clustering": weights_tell_kinds,
    "plot_conformal": the_stated_rate_holds,
    "plot_discord": the_odd_beat_is_found,
    "plot_edge_stream": the_scan_is_found,
    "plot_feature_blame": most_other_wines_are_flagged,
    "plot_label_free_search": the_chosen_bandwidth_is_what_labels_would_choose,
    "plot_ood_search": features_beat_confidence,
    "plot_patchcore": defects_are_flagged_and_good_pictures_are_not,
    "plot_save_and_deploy": the_file_and_the_model_agree_with_the_detector,
    "plot_tiled_picture": the_change_stands_out,
}


def test_claims_are_those_of_examples():
    assert set(CLAIMS) | set(NEEDS) <= {path.stem for path in EXAMPLES}
