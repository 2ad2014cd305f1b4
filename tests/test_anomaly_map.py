"""Maps laid over pictures: what is drawn, on which scale, and where."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skad
from skad.image import PictureFiles
from skad.inspection import AnomalyMapDisplay
from tests._pixels import Pixels

matplotlib = pytest.importorskip("matplotlib")
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def pictures():
    return np.random.default_rng(0).random((3, 12, 16, 3))


@pytest.fixture
def maps():
    maps = np.random.default_rng(1).random((3, 12, 16))
    maps[1, 2:5, 3:7] += 5
    return maps


@pytest.fixture
def masks(maps):
    return maps > 2


def contours(panel):
    return [
        artist
        for artist in panel.collections
        if isinstance(artist, matplotlib.contour.ContourSet)
    ]


def test_panels_show_picture_map_and_mask(pictures, maps, masks):
    display = AnomalyMapDisplay.from_predictions(
        pictures, maps, masks=masks, threshold=2.0, titles=["a", "b", "c"]
    ).plot()
    assert display.axes_.shape == (3, 3)
    for i, (picture, heat, mask) in enumerate(display.axes_):
        np.testing.assert_allclose(picture.images[0].get_array(), pictures[i])
        grey, overlay = heat.images
        luma = pictures[i] @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(grey.get_array(), luma)
        np.testing.assert_allclose(overlay.get_array(), maps[i])
        marked = mask.images[1].get_array()[..., 3] > 0
        np.testing.assert_array_equal(marked, masks[i])
        assert picture.get_title(loc="left") == "abc"[i]
    assert [h.get_array() is not None for h in display.heats_] == [True] * 3
    assert [len(contours(line[1])) for line in display.axes_] == [0, 1, 0]
    assert contours(display.axes_[1, 1])[0].levels.tolist() == [2.0]
    assert len(display.figure_.axes) == 9 + 1  # and the colour bar


def test_one_scale_for_the_whole_set(pictures, maps):
    display = AnomalyMapDisplay.from_predictions(pictures, maps).plot(rows=[2, 0])
    assert display.axes_.shape == (2, 2)
    for heat in display.heats_:
        assert heat.get_clim() == (np.median(maps), maps.max())
    np.testing.assert_allclose(display.heats_[0].get_array(), maps[2])
    rgba = display.heats_[0].to_rgba(np.array([0.0, np.median(maps), maps.max(), 99]))
    np.testing.assert_allclose(rgba[:2, 3], 0)  # clear below the middle of all maps
    np.testing.assert_allclose(rgba[2], rgba[3])
    given = AnomalyMapDisplay(pictures, maps, vmin=-1, vmax=4).plot()
    assert given.heats_[1].get_clim() == (-1, 4)


def test_maps_without_any_spread(pictures):
    display = AnomalyMapDisplay.from_predictions(
        pictures, np.zeros((3, 12, 16)), threshold=0.0
    ).plot()
    assert display.heats_[0].get_clim() == (0, 1)
    display.figure_.savefig("/dev/null", format="png")


def test_kinds_of_pictures(pictures, maps, tmp_path):
    image = pytest.importorskip("PIL.Image")
    torch = pytest.importorskip("torch")
    whole = np.rint(255 * pictures).astype(np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, pixels in zip(paths, whole, strict=True):
        image.fromarray(pixels).save(path)
    for X in (whole, torch.asarray(whole), paths, [*map(str, paths)], [*whole]):
        display = AnomalyMapDisplay.from_predictions(X, maps).plot(rows=[1])
        found = display.axes_[0, 0].images[0].get_array()
        np.testing.assert_allclose(found, whole[1] / 255)
    display = AnomalyMapDisplay.from_predictions(PictureFiles(paths), maps)
    paths[0].unlink()  # only what is drawn is read
    display.plot(rows=[1, 2])
    deep = (pictures[..., :1] * 65535).astype(np.uint16)
    display = AnomalyMapDisplay.from_predictions(deep, maps).plot()
    found = display.axes_[2, 0].images[0].get_array()
    np.testing.assert_allclose(found, pictures[2, ..., 0], atol=1e-4)
    sizes = AnomalyMapDisplay.from_predictions(
        [pictures[0], pictures[1, :6]], [maps[0], maps[1, :6]]
    ).plot()
    assert sizes.heats_[1].get_array().shape == (6, 16)


def test_own_axes(pictures, maps, masks):
    from matplotlib.figure import Figure

    axes = Figure().subplots(2, 3)
    display = AnomalyMapDisplay.from_predictions(pictures, maps, masks=masks)
    display.plot(axes, rows=[0, 1])
    assert display.axes_.tolist() == axes.tolist()
    ax = Figure().subplots()
    display.plot(ax, rows=[1], colorbar=False)
    np.testing.assert_allclose(ax.images[1].get_array(), maps[1])
    assert display.figure_.axes == [ax]
    with pytest.raises(
        ValueError, match="ax has 6 axes; 3 pictures of 3 panels need 9"
    ):
        display.plot(axes)


def test_the_first_eight_are_drawn():
    X = np.zeros((20, 4, 4))
    assert AnomalyMapDisplay(X, X).plot().axes_.shape == (8, 2)
    assert AnomalyMapDisplay(X, X).plot(rows=range(20)).axes_.shape == (20, 2)


def test_wrong_sizes(pictures, maps, masks):
    make = AnomalyMapDisplay.from_predictions
    with pytest.raises(ValueError, match="X has 3 pictures, maps has 2"):
        make(pictures, maps[:2])
    with pytest.raises(ValueError, match="titles has 1"):
        make(pictures, maps, titles=["a"])
    with pytest.raises(ValueError, match=r"maps\[0\] has shape \(12, 15\)"):
        make(pictures, maps[..., 1:]).plot()
    with pytest.raises(ValueError, match=r"masks\[0\] has shape \(11, 16\)"):
        make(pictures, maps, masks=masks[:, 1:]).plot()
    with pytest.raises(ValueError, match=r"shape \(12, 16, 4\)"):
        make(np.zeros((3, 12, 16, 4)), maps).plot()


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(0.5, 0.05, size=(6, 32, 40)).clip(0, 1)
    bad = X.copy()
    bad[:3, 8:16, 8:16] = 1.0
    local = {"backbone": Pixels, "layers": ("pixel",)}
    return skad.PaDiM(**local, smoothing=1.0, random_state=0).fit(X), bad


def test_from_a_detector(fitted):
    detector, X = fitted
    display = AnomalyMapDisplay.from_estimator(detector, X).plot()
    np.testing.assert_allclose(display.maps, detector.transform(X))
    assert display.threshold == -detector.offset_
    flagged = detector.predict(X) == -1
    drawn = [len(contours(line[1])) for line in display.axes_]
    np.testing.assert_array_equal(drawn, flagged)
    assert flagged.any()
    assert not flagged.all()
    decision = detector.decision_function(X)
    assert display.axes_[2, 0].get_title(loc="left") == f"decision {decision[2]:.3g}"
    pipeline = make_pipeline(FunctionTransformer(), detector)
    assert AnomalyMapDisplay.from_estimator(pipeline, X).threshold == display.threshold


def test_no_contour_where_the_score_is_not_the_largest_value(fitted):
    _, X = fitted
    detector = skad.PatchDetector(smoothing=1.0, pooling="mean", random_state=0)
    detector.fit(X[3:])
    assert AnomalyMapDisplay.from_estimator(detector, X).threshold is None
    given = AnomalyMapDisplay.from_estimator(detector, X, threshold=0.5)
    assert given.threshold == 0.5


def test_from_rows_of_pixels(fitted):
    _, X = fitted
    rows = X.reshape(6, -1)
    as_rows = skad.PaDiM(smoothing=1.0, random_state=0, image_shape=(32, 40)).fit(rows)
    display = AnomalyMapDisplay.from_estimator(as_rows, rows)
    assert display.maps.shape == (6, 32, 40)
    np.testing.assert_allclose(display.plot().axes_[0, 0].images[0].get_array(), X[0])
    with pytest.raises(ValueError, match="KNN no image_shape"):
        AnomalyMapDisplay.from_estimator(skad.KNN(contamination=0.1).fit(rows), rows)
