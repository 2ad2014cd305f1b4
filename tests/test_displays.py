"""Displays: what they compute, what they draw, and that it looks as it did.

The pictures in tests/images are what was drawn when somebody last looked at it. Text is
left out, since fonts differ between machines. After a change that is meant, draw them
anew and look at them: `SKAD_DRAW_IMAGES=1 python -m pytest tests/test_displays.py`.
"""

import inspect
import os
import pathlib

import numpy as np
import pytest
from scipy.special import ndtri
from sklearn.metrics import precision_recall_curve, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad import inspection
from skad.inspection import (
    AnomalyMapDisplay,
    DetectorComparisonDisplay,
    FeatureBlameDisplay,
    ScoreDistributionDisplay,
    SeriesDisplay,
    ThresholdDisplay,
)
from skad.inspection._plots import asinh_ticks, tick_label
from skad.metrics import average_precision
from skad.model_selection import NoveltyKFold
from tests._process import run_python

pytest.importorskip("matplotlib")
from matplotlib.figure import Figure
from matplotlib.text import Text

IMAGES = pathlib.Path(__file__).parent / "images"
DRAW = bool(os.environ.get("SKAD_DRAW_IMAGES"))

# Root mean square difference of the channels, 0 to 255. Another release of matplotlib
# may smooth edges otherwise; a curve that moves by a few pixels makes more.
TOLERANCE = 3.0

DISPLAYS = [
    getattr(inspection, name) for name in inspection.__all__ if "Display" in name
]

pytestmark = pytest.mark.filterwarnings("error")


# --------------------------------------------------------------------- what is computed


@pytest.fixture(scope="module")
def scored(blobs):
    """A fitted detector, rows, labels and the decision function."""
    train, normal, anomalies = blobs
    X = np.concatenate([normal, anomalies])
    y = np.repeat([1, -1], [len(normal), len(anomalies)])
    detector = skad.KNN().fit(train)
    return detector, X, y, detector.decision_function(X)


@pytest.mark.parametrize("display", DISPLAYS, ids=lambda display: display.__name__)
def test_conventions(display):
    assert display.__doc__
    for name in ("from_estimator", "from_predictions", "plot"):
        parameters = inspect.signature(getattr(display, name)).parameters
        assert parameters["ax"].default is None
        positional = [p for p in parameters.values() if p.kind == p.KEYWORD_ONLY]
        assert positional, "options are given by name"


def test_displays_draw_at_once_on_the_axes_they_are_given(scored):
    detector, X, y, decision = scored
    ax = Figure().subplots()
    for display in (
        ScoreDistributionDisplay.from_estimator(detector, X, y, ax=ax),
        ThresholdDisplay.from_predictions(decision, y, ax=ax),
        FeatureBlameDisplay.from_estimator(detector, X, ax=ax),
        DetectorComparisonDisplay.from_estimator([detector], X, y, ax=ax),
    ):
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
        again = display.plot()  # on a figure of pyplot's
        assert again is display
        assert display.ax_ is not ax


def test_matplotlib_is_imported_to_draw():
    code = (
        "import sys, skad.inspection as i; assert i.ThresholdDisplay; "
        "assert 'matplotlib' not in sys.modules"
    )
    run_python("-c", code)


def test_names_come_from_the_last_step(scored):
    _, X, y, _ = scored
    model = make_pipeline(StandardScaler(), skad.KNN()).fit(X)
    for display in (ScoreDistributionDisplay, ThresholdDisplay):
        assert display.from_estimator(model, X, y).name == "KNN"
        drawn = display.from_estimator(model, X, y, name="mine")
        assert "mine" in drawn.ax_.get_xlabel()


def test_thresholds_match_what_predict_would_say(scored):
    _, _, y, decision = scored
    display = ThresholdDisplay.from_predictions(decision, y)
    assert len(display.thresholds) == len(np.unique(decision)) + 1
    for k in range(0, len(display.thresholds), 7):
        flagged = decision < display.thresholds[k]
        assert display.alarm_rate[k] == flagged.mean()
        assert display.recall[k] == flagged[y == -1].mean()
        if flagged.any():
            assert display.precision[k] == (y[flagged] == -1).mean()
        else:
            assert np.isnan(display.precision[k])
    own = np.searchsorted(display.thresholds, 0)
    assert display.alarm_rate[own] == (decision < 0).mean()


def test_thresholds_against_scikit_learn(scored):
    _, _, y, decision = scored
    display = ThresholdDisplay.from_predictions(decision, y)
    precision, recall, _ = precision_recall_curve(y == -1, -decision)
    np.testing.assert_allclose(display.precision[1:], precision[:-1][::-1])
    np.testing.assert_allclose(display.recall[1:], recall[:-1][::-1])


def test_thresholds_with_ties_and_without_labels():
    display = ThresholdDisplay.from_predictions([1.0, 1.0, -2.0, 1.0])
    assert display.thresholds[:2].tolist() == [-2, 1]
    assert display.alarm_rate.tolist() == [0, 0.25, 1]
    assert display.precision is None
    assert list(display.lines_) == ["alarm rate"]
    assert display.lines_["alarm rate"].get_drawstyle() == "steps-pre"


def test_threshold_axis_is_that_of_the_distribution(scored):
    _, _, _, decision = scored
    tail = np.append(decision, -1e6)
    for values in (decision, tail):
        scale = ScoreDistributionDisplay.from_predictions(values).ax_.get_xscale()
        assert ThresholdDisplay.from_predictions(values).ax_.get_xscale() == scale


def test_ticks_of_long_tails_have_room():
    ticks = asinh_ticks(-1e6, 50.0, 1.0)
    assert 0 in ticks
    assert min(ticks) == -1e6
    places = np.arcsinh(ticks)
    assert np.diff(places).min() > (np.arcsinh(50) + np.arcsinh(1e6)) / 9
    assert len(ticks) > 4
    assert {1e3, 1e4, 1e5} <= set(asinh_ticks(1e3, 1e5, 1.0))
    assert len(asinh_ticks(-800.0, 90.0, 15.0)) > 4
    assert [tick_label(tick) for tick in (0.0, -500.0, 1e5, -2e6, 1e-3)] == [
        "0",
        "\N{MINUS SIGN}500",
        "$10^{5}$",
        r"$-2\times 10^{6}$",
        "$10^{-3}$",
    ]


def test_threshold_errors():
    make = ThresholdDisplay.from_predictions
    with pytest.raises(ValueError, match="y has no anomaly"):
        make([1.0, 2.0], [1, 1])
    with pytest.raises(ValueError, match="2 values, y has 3"):
        make([1.0, 2.0], [1, -1, 1])
    with pytest.raises(ValueError, match="decision contains NaN"):
        make([1.0, np.nan])
    with pytest.raises(ValueError, match="y has labels other than"):
        make([1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match="one value per sample"):
        make(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="2 values, y has 1"):
        ScoreDistributionDisplay.from_predictions([1.0, 2.0], [1])


def test_blame_adds_up_and_says_how_much_is_left_out(scored):
    detector, X, y, _ = scored
    display = FeatureBlameDisplay.from_estimator(
        detector, X[y == -1], names=list("abcdef"), n_features=4
    )
    np.testing.assert_allclose(display.shares.sum(axis=1), 1)
    widths = [bar.get_width() for bar in display.bars_]
    assert sum(widths) == pytest.approx(1)
    assert widths[:4] == sorted(widths[:4], reverse=True)
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["abcdef"[j] for j in display.features_] + ["2 others"]
    segments = display.whiskers_.get_segments()
    j = display.features_[0]
    low, high = np.quantile(display.shares[:, j], [0.25, 0.75])
    np.testing.assert_allclose(segments[0][:, 0], [low, high])


def test_blame_counts_every_sample_alike():
    maps = np.array([[1.0, 0.0], [0.0, 1e9]])
    display = FeatureBlameDisplay.from_predictions(maps)
    assert [bar.get_width() for bar in display.bars_] == [0.5, 0.5]
    assert FeatureBlameDisplay.from_predictions([[0.0, 0.0]]).shares.tolist() == [
        [0, 0]
    ]


def test_blame_directions(scored):
    detector, X, _, _ = scored
    train = np.zeros((5, 6))
    rows = np.array([[1.0, -1, 0, 1, 1, -1]] * 3 + [[1.0, -1, 0, -1, 0, 1]])
    display = FeatureBlameDisplay.from_estimator(detector, rows, X_train=train)
    assert display.direction.tolist() == [1, -1, 0, 1, 1, -1]
    rows[2, 3] = -1  # now two of four
    display = FeatureBlameDisplay.from_estimator(detector, rows, X_train=train)
    assert display.direction[3] == 0
    above, below = display.ax_.collections[-2:]
    assert len(above.get_offsets()) == 2
    assert len(below.get_offsets()) == 2
    assert FeatureBlameDisplay.from_estimator(detector, X).direction is None


def test_blame_of_maps_with_signs():
    display = FeatureBlameDisplay.from_predictions([[3.0, -1.0, 0.0]])
    assert display.shares.tolist() == [[0.75, -0.25, 0]]
    assert display.whiskers_ is None
    assert "below 0" in display.ax_.get_xlabel()
    colors = {bar.get_facecolor() for bar in display.bars_[:2]}
    assert len(colors) == 2


def test_blame_of_frames(blobs):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(blobs[0], columns=list("abcdef"))
    detector = skad.KNN().fit(frame)
    display = FeatureBlameDisplay.from_estimator(detector, frame[:3], X_train=frame)
    assert display.names == list("abcdef")


def test_blame_errors(scored):
    X = scored[1]
    make = FeatureBlameDisplay.from_predictions
    with pytest.raises(ValueError, match="AnomalyMapDisplay"):
        make(np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match="3 features, names has 2"):
        make(np.zeros((2, 3)), names=["a", "b"])
    with pytest.raises(ValueError, match=r"deviations \(1, 3\)"):
        make(np.zeros((2, 3)), deviations=np.zeros((1, 3)))
    from sklearn.decomposition import PCA

    model = make_pipeline(PCA(2), skad.KNN()).fit(X)
    with pytest.raises(ValueError, match="leave X_train out"):
        FeatureBlameDisplay.from_estimator(model, X, X_train=X)


def test_comparison_of_fitted_detectors(scored):
    detector, X, y, decision = scored
    display = DetectorComparisonDisplay.from_estimator([detector], X, y)
    assert display.names == ["KNN"]
    assert display.roc_auc.tolist() == [[roc_auc_score(y == 1, decision)]]
    found = average_precision(y, -decision)
    assert display.average_precision.tolist() == [[found]]
    assert display.anomaly_share == np.mean(y == -1)
    assert display.ranges_ == {}  # one fold has no range


def test_comparison_over_folds(scored):
    _, X, y, _ = scored
    cv = NoveltyKFold(3, shuffle=True, random_state=0)
    detectors = {"near": skad.KNN(), "forest": skad.IsolationForest(random_state=0)}
    display = DetectorComparisonDisplay.from_estimator(detectors, X, y, cv=cv)
    for k, detector in enumerate(detectors.values()):
        for fold, (train, test) in enumerate(cv.split(X, y)):
            decision = detector.fit(X[train]).decision_function(X[test])
            area = roc_auc_score(y[test] == 1, decision)
            assert display.roc_auc[k, fold] == pytest.approx(area)
    best = int(np.argmax(display.roc_auc.mean(axis=1)))
    assert display.order_[0] == best
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels[0] == list(detectors)[best]
    assert display.plot(sort=False).order_ == [0, 1]
    [segment] = display.ranges_["roc_auc"].get_segments()[:1]
    assert segment[:, 0].tolist() == [*np.quantile(display.roc_auc[0], [0, 1])]


def test_comparison_of_predictions_by_fold(scored):
    _, _, y, decision = scored
    folds = np.arange(len(y)) % 2
    display = DetectorComparisonDisplay.from_predictions(
        {"a": decision, "b": -decision}, y, folds=folds
    )
    for fold in (0, 1):
        own = folds == fold
        area = roc_auc_score(y[own] == 1, decision[own])
        assert display.roc_auc[:, fold] == pytest.approx([area, 1 - area])


def test_comparison_names_and_errors(scored):
    detector, X, y, decision = scored
    display = DetectorComparisonDisplay.from_estimator([detector, detector], X, y)
    assert display.names == ["KNN 1", "KNN 2"]
    make = DetectorComparisonDisplay.from_predictions
    with pytest.raises(ValueError, match="NoveltyKFold"):
        make({"a": decision[:5]}, y[:5])
    with pytest.raises(ValueError, match=r"decisions\['a'\] has 5 values"):
        make({"a": decision[:5]}, y)
    with pytest.raises(ValueError, match="contains NaN"):
        make({"a": np.full(len(y), np.nan)}, y)


def test_keyword_dictionaries_reach_matplotlib(scored):
    detector, X, y, decision = scored
    display = ScoreDistributionDisplay.from_predictions(
        decision, y, bar_kwargs={"alpha": 0.3}, line_kwargs={"linewidth": 5}
    )
    assert display.bars_[0][0].get_alpha() == 0.3
    assert display.line_.get_linewidth() == 5
    display = ThresholdDisplay.from_predictions(
        decision, y, curve_kwargs={"linewidth": 4}
    )
    assert display.lines_["recall"].get_linewidth() == 4
    display = FeatureBlameDisplay.from_estimator(
        detector,
        X,
        bar_kwargs={"height": 0.5},
        line_kwargs={"linewidth": 3, "label": "middle half"},
    )
    assert display.bars_[0].get_height() == 0.5
    assert display.whiskers_.get_linewidth() == 3
    assert display.whiskers_.get_label() == "middle half"
    display = DetectorComparisonDisplay.from_estimator(
        [detector], X, y, point_kwargs={"s": 99}
    )
    assert display.means_["roc_auc"].get_sizes().tolist() == [99]


# ----------------------------------------------------------------------- how they look

NORMAL = 2 + ndtri(np.linspace(0.005, 0.995, 200))
ODD = -1 + 2 * ndtri(np.linspace(0.01, 0.99, 60))
LABELS = np.repeat([1, -1], [200, 60])


def draw_score_distribution(axes, shift=0.0):
    decision = np.concatenate([NORMAL + shift, ODD])
    display = ScoreDistributionDisplay(decision, LABELS, 2 + 1.1 * (NORMAL - 2))
    display.plot(axes(), bins=20)


def draw_long_tails(axes, shift=0.0):
    tail = np.concatenate([NORMAL + shift, -np.geomspace(3, 1e5, 40)])
    ScoreDistributionDisplay(tail).plot(axes(), bins=20)


def draw_thresholds(axes, shift=0.0):
    decision = np.concatenate([NORMAL + shift, ODD])
    ThresholdDisplay.from_predictions(decision, LABELS, ax=axes())


def draw_alarm_rate(axes, shift=0.0):
    ThresholdDisplay.from_predictions(NORMAL + shift, ax=axes())


def draw_feature_blame(axes, shift=0.0):
    at = np.arange(12)
    maps = 1 / (1 + at) + 0.3 * np.sin(at + np.arange(9)[:, None]) ** 2
    maps[:, 3] += shift
    deviations = np.tile(np.where(at % 3 == 0, -1.0, at % 2), (9, 1))
    FeatureBlameDisplay.from_predictions(
        maps, deviations=deviations, ax=axes(), n_features=6
    )


def draw_signed_blame(axes, shift=0.0):
    maps = [[0.9, -0.5 - shift, 0.4, 0.1, -0.05]]
    FeatureBlameDisplay.from_predictions(maps, ax=axes())


def draw_comparison(axes, shift=0.0):
    area = 0.9 - 0.08 * np.arange(4)[:, None] + 0.03 * np.sin(np.arange(5))
    area[1] -= 0.2 * shift
    DetectorComparisonDisplay(list("abcd"), area, area - 0.15, 0.2).plot(axes())


def draw_series(axes, shift=0.0):
    t = np.arange(400)
    X = np.stack([np.sin(t / 9), np.cos(t / 15) + shift * (t > 200)], axis=1)
    score = -1.0 - 4 * ((t > 250) & (t < 270))
    y = np.where((t > 245) & (t < 275), -1, 1)
    SeriesDisplay(X, score, -2.0, y=y).plot(axes(3))


def draw_anomaly_map(axes, shift=0.0):
    down, across = np.mgrid[:24, :32]
    pictures = 0.5 + 0.3 * np.stack([np.sin(across / 3), np.cos(down / 4)])
    place = np.array([8, 20])[:, None, None] + 8 * shift
    maps = np.exp(-((across - place) ** 2 + (down - 12) ** 2) / 20)
    masks = maps > 0.7
    display = AnomalyMapDisplay(pictures, maps, masks, threshold=0.5)
    display.plot(axes(2, 3), colorbar=False)


DRAWN = {
    name.removeprefix("draw_"): function
    for name, function in list(globals().items())
    if name.startswith("draw_")
}


def render(draw, **options):
    """Return the picture (240, 320, 3) that a function draws, without text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = Figure(figsize=(3.2, 2.4), dpi=100)  # no layout: it depends on fonts
    figure.subplots_adjust(0.1, 0.1, 0.95, 0.9)
    canvas = FigureCanvasAgg(figure)
    draw(figure.subplots, **options)
    canvas.draw()
    for text in figure.findobj(Text):
        text.set_visible(False)
    for ax in figure.axes:
        if ax.get_legend() is not None:
            ax.get_legend().set_visible(False)  # as wide as its text
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def difference(first, second):
    """Return the root mean square difference of two pictures."""
    return float(np.sqrt(np.mean((first.astype(float) - second) ** 2)))


@pytest.mark.parametrize("name", DRAWN)
def test_displays_look_as_they_did(name, tmp_path):
    image = pytest.importorskip("PIL.Image")
    drawn = render(DRAWN[name])
    path = IMAGES / f"{name}.png"
    if DRAW:
        image.fromarray(drawn).save(path, optimize=True)
        pytest.skip(f"{path} was drawn anew: look at it")
    expected = np.asarray(image.open(path).convert("RGB"))
    found = difference(drawn, expected)
    if found > TOLERANCE:
        image.fromarray(drawn).save(tmp_path / path.name)
        pytest.fail(f"{path.name} differs by {found:.2f}; see {tmp_path / path.name}")


@pytest.mark.parametrize("name", DRAWN)
def test_a_change_would_be_seen(name):
    image = pytest.importorskip("PIL.Image")
    expected = np.asarray(image.open(IMAGES / f"{name}.png").convert("RGB"))
    changed = render(DRAWN[name], shift=0.5)
    assert difference(changed, expected) > 1.5 * TOLERANCE


def test_every_display_has_a_picture():
    drawn = "".join(inspect.getsource(function) for function in DRAWN.values())
    for display in DISPLAYS:
        assert f"{display.__name__}" in drawn
    assert {path.stem for path in IMAGES.glob("*.png")} == set(DRAWN)
