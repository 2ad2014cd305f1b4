"""The report: what `examine` gathers and what stands on the page."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad.inspection import (
    ScoreDistributionDisplay,
    detection_metrics,
    examine,
    heat_overlay,
    top_columns,
    write_report,
    write_scores,
)


@pytest.fixture(scope="module")
def data(blobs):
    train, normal, anomalies = blobs
    X = np.concatenate([normal, anomalies])
    return train, X, np.repeat([1, -1], [len(normal), len(anomalies)])


@pytest.fixture(scope="module")
def findings(data):
    train, X, y = data
    return examine(skad.Mahalanobis(), train, X, y_test=y, title="Blobs <&>")


class Distances(OutlierMixin, BaseEstimator):
    """A detector that knows nothing of skad: distances from the mean."""

    def fit(self, X, y=None):
        self.mean_ = X.mean(axis=0)
        self.offset_ = -3.0
        return self

    def score_samples(self, X):
        return -np.sqrt(self.transform(X).sum(axis=1))

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_

    def transform(self, X):
        return (X - self.mean_) ** 2


class Page(HTMLParser):
    """Collects what a page is made of."""

    VOID = ("meta", "img", "source", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.images, self.text = [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read_page(path):
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


# ---------------------------------------------------------------------------- findings


def test_examine_says_what_the_detector_says(data, findings):
    train, X, y = data
    detector = skad.Mahalanobis().fit(train)
    np.testing.assert_allclose(findings.score, detector.score_samples(X), rtol=1e-12)
    np.testing.assert_allclose(findings.decision, detector.decision_function(X))
    assert findings.threshold == detector.offset_
    assert (findings.flagged == (detector.predict(X) == -1)).all()
    honest = detector._honest_anomaly(train, None, None)
    np.testing.assert_allclose(
        findings.train_decision, -np.sort(honest) - detector.offset_
    )
    assert findings.as_new
    assert np.mean(findings.train_decision < 0) == pytest.approx(0.05, abs=0.01)
    order = np.argsort(detector.score_samples(X))
    assert findings.shown.tolist() == order[:12].tolist()
    maps = detector.transform(X)
    np.testing.assert_allclose(findings.maps, maps[order[:12]])
    assert (findings.top_features[:, 0] == maps.argmax(axis=1)).all()
    np.testing.assert_allclose(
        findings.mean_map, maps[detector.predict(X) == -1].mean(axis=0)
    )
    assert findings.metrics["ROC AUC"] == roc_auc_score(y == -1, -findings.score)


def test_examine_in_blocks_is_the_same(data, monkeypatch):
    train, X, _ = data
    whole = examine(skad.Mahalanobis(), train, X)
    monkeypatch.setattr("skad.inspection._rows._BLOCK_ELEMENTS", 7 * X.shape[1])
    seen = []

    def track(blocks, description, total):
        seen.append((description, total))
        yield from blocks

    parts = examine(skad.Mahalanobis(), train, X, track=track)
    np.testing.assert_allclose(parts.score, whole.score, rtol=1e-12)
    np.testing.assert_allclose(parts.mean_map, whole.mean_map, rtol=1e-12)
    assert (parts.top_features == whole.top_features).all()
    assert seen == [("score", 20)]


def test_examine_with_a_share_of_the_training_rows(data):
    train, X, _ = data
    found = examine(skad.Mahalanobis(contamination=0.1), train, X)
    expected = skad.Mahalanobis(contamination=0.1).fit(train).decision_function(train)
    np.testing.assert_allclose(-np.sort(-found.train_decision), -np.sort(-expected))
    assert np.mean(found.train_decision < 0) == 0.1
    assert not found.as_new
    assert found.meaning == "10 % of the training rows are below it"


def test_examine_a_detector_of_another_library(data, monkeypatch):
    train, X, _ = data
    monkeypatch.setattr("skad.inspection._rows._TRAINING_ROWS", 100)
    found = examine(Distances(), train, X)
    detector = Distances().fit(train)
    np.testing.assert_allclose(
        found.train_decision, detector.decision_function(train[::3])
    )
    np.testing.assert_allclose(found.decision, detector.decision_function(X))
    np.testing.assert_allclose(found.maps, detector.transform(X[found.shown]))
    assert found.meaning == "the detector's own"
    assert found.n_train == 300


class CountsRows(skad.Mahalanobis):
    """Counts the rows that it is asked about."""

    seen = 0

    def _in_blocks(self, function, X, **options):
        CountsRows.seen += len(X)
        return super()._in_blocks(function, X, **options)


def test_every_row_is_looked_at_once(data):
    train, X, _ = data
    CountsRows.seen = 0
    CountsRows().fit(train)
    of_fit, CountsRows.seen = CountsRows.seen, 0
    examine(CountsRows(), train, X, compared=[1, 2])
    assert CountsRows.seen == of_fit + len(X)


def test_examine_a_pipeline(data):
    train, X, _ = data
    model = make_pipeline(StandardScaler(), skad.KNN(n_neighbors=3))
    found = examine(model, train, X)
    assert found.name == "KNN"
    assert found.setting == "StandardScaler(), then KNN(n_neighbors=3)"
    np.testing.assert_allclose(found.decision, model.decision_function(X))
    np.testing.assert_allclose(found.maps, model.transform(X[found.shown]))
    assert found.metrics == {}


def test_detection_metrics_against_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.choice([1, -1], size=200)
    decision = rng.normal(size=200) + y
    found = detection_metrics(y, decision)
    assert found["ROC AUC"] == roc_auc_score(y, decision)
    assert found["average precision"] == average_precision_score(y == -1, -decision)
    hits = np.sum((decision < 0) & (y == -1))
    assert found["precision"] == pytest.approx(hits / np.sum(decision < 0))
    assert found["recall"] == pytest.approx(hits / np.sum(y == -1))
    assert detection_metrics([1, 1], [0.1, 0.2]) == {}
    assert detection_metrics([1, -1], [0.1, 0.2])["precision"] == 0


def test_top_columns_takes_ties_in_order():
    maps = np.array([[1.0, 1.0, 2.0, 1.0]])
    assert top_columns(maps, 3).tolist() == [[2, 0, 1]]
    assert top_columns(maps, 9).tolist() == [[2, 0, 1, 3]]


def test_write_scores(tmp_path, findings):
    write_scores(tmp_path / "scores.csv", findings)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    header = "row,score,decision,label,true_label,feature_1,feature_2,feature_3"
    assert lines[0] == header
    assert len(lines) == 141
    row, score, decision, label, truth, first, *_ = lines[101].split(",")
    assert (row, label, truth) == ("100", "-1", "-1")
    assert float(score) == findings.score[100]
    assert float(decision) == findings.decision[100]
    assert first == f"x{findings.top_features[100, 0]}"


# -------------------------------------------------------------------------------- page


def test_page_is_whole_and_needs_nothing_else(tmp_path, findings):
    text, page = read_page(write_report(tmp_path / "new" / "folder", [findings]))
    assert "script" not in page.tags
    assert "http" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", text)
    assert not re.search(r'(src|href|srcset)="(?!data:|#)', text)
    assert "prefers-color-scheme: dark" in text
    assert all(image["alt"] for image in page.images)
    assert page.tags.count("h1") == 1


def test_page_says_what_was_found(tmp_path, findings):
    text, page = read_page(write_report(tmp_path, [findings], title="Title <&>"))
    assert "Title &lt;&amp;&gt;" in text
    assert "Blobs <&>" in page.text
    flagged = int(findings.flagged.sum())
    assert f"flags {flagged} of 140 new rows" in page.text
    for words in ("Mahalanobis()", "ROC AUC", "300", "threshold of the score"):
        assert words in page.text
    for row in findings.shown:
        assert f"Row {row}, " in page.text
        first = f"x{findings.top_features[row, 0]}"
        card = text.split(f"Row {row}, ")[1]
        assert re.search(r"<li><span>(\w+)</span>", card)[1] == first
    assert 'style="width:100.0%"' in text


def test_page_with_pictures_and_comparison(tmp_path):
    rng = np.random.default_rng(0)
    train, X = rng.normal(size=(60, 12)), rng.normal(size=(30, 12))
    X[4, 7] = 40
    found = [
        examine(
            detector,
            train,
            X,
            image_shape=(3, 4),
            y_test=np.where(np.arange(30) == 4, -1, 1),
            compared=[4, 5],
        )
        for detector in (skad.Mahalanobis(), skad.KNN())
    ]
    text, page = read_page(write_report(tmp_path, found[:1], comparison=found))
    assert page.text.count("Row 4, anomaly") == 1
    assert "Anomaly map of row 4, largest at x7" in text
    gallery = text.split('<table class="gallery">')[1].split("</table>")[0]
    assert gallery.count("<img") == 6
    assert re.findall(r'scope="row">(\w+)<', gallery) == [
        "picture",
        "Mahalanobis",
        "KNN",
    ]


def test_page_without_anomalies_or_spread(tmp_path):
    X = np.zeros((20, 2))
    found = examine(skad.Mahalanobis(), X, X)
    assert not found.flagged.any()
    _, page = read_page(write_report(tmp_path, [found]))
    assert "flags 0 of 20 new rows" in page.text
    assert "Over all flagged rows" not in page.text


def test_page_of_many_rows_stays_small(tmp_path):
    X = np.random.default_rng(0).normal(size=(100_000, 5))
    found = examine(skad.Mahalanobis(), X, X)
    path = write_report(tmp_path, [found])
    assert path.stat().st_size < 300_000


def test_numbers_are_plain():
    from skad.inspection._html import number, numbers

    assert number(0.0) == "0"
    assert number(-1234.5678) == "\N{MINUS SIGN}1235"
    assert number(123456.0) == "123456"
    assert number(3.25e12) == "3.25e+12"
    assert numbers(np.array([1.0, -20.5])) == ["1.00", "\N{MINUS SIGN}20.50"]
    assert numbers(np.array([3e9, 1.0])) == ["3.000e+09", "1.000e+00"]
    assert numbers(np.array([0.0])) == ["0.000e+00"]


# ------------------------------------------------------------------------------- plots


def test_score_distribution_display(data):
    train, X, y = data
    detector = skad.Mahalanobis().fit(train)
    display = ScoreDistributionDisplay.from_estimator(detector, X, y, X_train=train)
    ax = display.plot().ax_
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "normal test rows",
        "anomalous test rows",
        "training rows",
        "threshold",
    ]
    # each kind of rows adds up to one
    for container in ax.containers[:2]:
        heights = sum(patch.get_height() for patch in container)
        assert heights == pytest.approx(1)
    [line] = ax.lines
    assert set(line.get_xdata()) == {0}


def test_score_distribution_of_long_tails_is_not_linear():
    tail = np.r_[np.random.default_rng(0).normal(size=1000), -1e6]
    ax = ScoreDistributionDisplay(tail).plot().ax_
    assert ax.get_xscale() == "asinh"
    heights = [patch.get_height() for patch in ax.containers[0]]
    assert sum(heights) == pytest.approx(1)
    assert max(heights) < 0.9
    assert ScoreDistributionDisplay(tail[:-1]).plot().ax_.get_xscale() == "linear"


def test_plots_leave_pyplot_alone(findings):
    import sys

    import matplotlib
    from matplotlib.figure import Figure

    before = dict(matplotlib.rcParams)
    ScoreDistributionDisplay(findings.decision).plot(Figure().subplots(), ink="white")
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_heat_overlay():
    image = np.array([[0.0, 2.0], [1.0, 2.0]])
    rgb = heat_overlay(image, np.array([[4.0, 0.0], [-3.0, 2.0]]))
    assert rgb.dtype == np.uint8
    assert rgb[0, 0].tolist() == [255, 115, 0]  # the hottest: pure orange
    assert rgb[0, 1].tolist() == [178, 178, 178]  # nothing there: the picture
    assert rgb[1, 0].tolist() == [89, 89, 89]  # less than nothing: the picture
    assert rgb[1, 1].tolist() == [217, 147, 89]  # half of each
    assert heat_overlay(np.zeros((2, 2)), np.zeros((2, 2))).max() == 0


def test_extremes_lose_no_peak():
    from skad.inspection._series import extremes

    values = np.random.default_rng(0).normal(size=10_007)
    values[[3, 5000, 10_006]] = [50, -60, 70]
    at = extremes(values, 100)
    assert len(at) <= 2 * 101 + 2
    assert (np.diff(at) > 0).all()
    assert {0, 3, 5000, 10_006} <= set(at.tolist())
    assert extremes(values[:150], 100).tolist() == list(range(150))


def test_series_display():
    from skad.inspection import SeriesDisplay

    X = np.random.default_rng(0).normal(size=(5000, 6))
    score, maps = np.zeros(5000), np.zeros((5000, 6))
    score[100:110], maps[100:110, 4] = -5, 9
    y = np.where(np.arange(5000) < 50, -1, 1)
    display = SeriesDisplay.from_predictions(X, score, threshold=-1, maps=maps, y=y)
    drawn = display.plot(channels=[4])
    assert len(drawn.axes_) == 2
    assert len(drawn.axes_[0].lines[0].get_xdata()) <= 2002
    shaded, true = drawn.axes_[0].collections
    [box] = [path.get_extents() for path in shaded.get_paths()]
    assert box.x0 <= 100
    assert 109 <= box.x1 <= 112
    assert true.get_paths()[0].get_extents().x0 <= 0
    assert 4 in display.plot().channels_
    with pytest.raises(ValueError, match="5000 time steps, score has 3"):
        SeriesDisplay.from_predictions(X, score[:3])
    with pytest.raises(ValueError, match="need 2"):
        display.plot(np.array([None, None, None]), channels=[0])


@pytest.mark.parametrize("scaled", [False, True])
def test_series_display_asks_once(scaled, monkeypatch):
    from skad.inspection import SeriesDisplay

    X = np.sin(np.arange(300) / 3)[:, None]
    X[200:205] = 3
    groups = np.repeat(["a", "b"], 150)
    detector = skad.SubsequenceKNN(window_size=10, contamination=0.05)
    seen = StandardScaler().fit_transform(X) if scaled else X
    detector.fit(seen, groups=groups)
    score = detector.score_samples(seen, groups=groups)
    maps = detector.transform(seen, groups=groups)
    for method in ("score_samples", "decision_function", "transform"):
        monkeypatch.setattr(skad.SubsequenceKNN, method, None, raising=False)
    model = detector
    if scaled:
        model = make_pipeline(StandardScaler().fit(X), detector)
    drawn = SeriesDisplay.from_estimator(model, X, groups=groups)
    np.testing.assert_allclose(drawn.score, score)
    np.testing.assert_allclose(drawn.maps, maps)
    assert drawn.threshold == detector.offset_
