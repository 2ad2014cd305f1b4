"""Metrics of anomaly maps: slow definitions, golden values and wrong inputs."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    roc_auc_score,
    roc_curve,
)

from skad.metrics import (
    best_f1_threshold,
    fpr_at_recall,
    pixel_average_precision,
    pixel_roc_auc,
    pro_score,
)

PIXELWISE = [pixel_roc_auc, pixel_average_precision, pro_score, best_f1_threshold]


# ------------------------------------------------------------------ slow, obvious truth


def regions_of(mask):
    """Lists of the pixels of each region, found by walking to all eight neighbours."""
    left = {(int(i), int(j)) for i, j in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while left:
        region, border = [], [left.pop()]
        while border:
            i, j = border.pop()
            region.append((i, j))
            near = {(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            border += near
        regions.append(region)
    return regions


def naive_pro(masks, maps, limit):
    """The curve point by point, one threshold after the other, then trapezoids."""
    points = [(0.0, 0.0)]
    for threshold in sorted({v for m in maps for v in np.ravel(m)}, reverse=True):
        overlaps, false_alarms, normal = [], 0, 0
        for mask, heat in zip(masks, maps, strict=True):
            over = heat >= threshold
            for region in regions_of(mask):
                overlaps.append(np.mean([over[pixel] for pixel in region]))
            false_alarms += np.sum(over & ~mask)
            normal += np.sum(~mask)
        points.append((false_alarms / normal, np.mean(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def textures(n=6, size=16, seed=0):
    """Masks, every second one empty, and maps that see some of the defects."""
    rng = np.random.default_rng(seed)
    masks = [gaussian_filter(rng.normal(size=(size, size)), 2) > 0.15 for _ in range(n)]
    masks = np.array([mask & (i % 2 == 1) for i, mask in enumerate(masks)])
    maps = [gaussian_filter(rng.normal(size=(size, size)) + m, 1.5) for m in masks]
    return masks, np.array(maps)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("decimals", [1, 15])
def test_pro_equals_its_definition(limit, decimals):
    masks, maps = textures()
    maps = np.round(maps, decimals)  # one decimal: most pixels are tied
    found = pro_score(masks, maps, fpr_limit=limit)
    assert found == pytest.approx(naive_pro(masks, maps, limit), abs=1e-12)
    assert 0.1 < found < 0.95


@settings(max_examples=60, deadline=None)
@given(
    arrays(bool, (2, 4, 5)),
    arrays(np.int8, (2, 4, 5), elements=st.integers(0, 4)),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_pro_of_any_masks(masks, levels, limit):
    if masks.all() or not masks.any():
        return
    expected = naive_pro(masks, levels, limit)
    assert pro_score(masks, levels, fpr_limit=limit) == pytest.approx(expected)


def test_pro_by_hand():
    # Two regions, of one and of four pixels, six normal pixels. From the top: the
    # small region, a normal pixel, half of the large region, the other normal pixels.
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
    heat = np.array([[9, 8, 7, 7], [1, 2, 0, 0], [3, 4, 5, 6]], float)
    # PRO is 1/2 up to a rate of 1/7, where it rises to 1/2 + 1/4
    expected = (0.5 * (1 / 7) + 0.75 * (0.3 - 1 / 7)) / 0.3
    assert pro_score([mask], [heat]) == pytest.approx(expected)


def test_regions_touch_at_corners():
    mask = np.zeros((6, 6), bool)
    mask[[0, 1], [0, 1]] = True  # one region through the corner
    mask[4, 4] = True
    heat = np.where(mask, 1.0, 0.0)
    heat[1, 1] = heat[0, 0] = -1  # all of the first region missed
    assert pro_score([mask], [heat]) == pytest.approx(1 / 2)  # not 1 / 3


def test_pro_of_perfect_blind_and_wrong_maps():
    masks, _ = textures()
    assert pro_score(masks, masks.astype(float)) == pytest.approx(1)
    assert pro_score(masks, np.ones(masks.shape)) == pytest.approx(0.15)
    assert pro_score(masks, 1.0 - masks) == 0


def test_each_region_counts_the_same():
    mask = np.zeros((40, 40), bool)
    mask[2:20, 2:20] = True
    mask[30, 30] = True
    heat = np.zeros((40, 40))
    heat[30, 30] = 1  # the one pixel is found, 324 are missed
    assert pro_score([mask], [heat]) > 0.5
    assert pixel_roc_auc([mask], [heat]) < 0.51


def test_golden_values():
    """Taken from the sweep above and from scikit-learn on maps of plain formulas."""
    x, y = np.meshgrid(np.arange(32), np.arange(24))
    mask = ((x - 8) ** 2 + (y - 8) ** 2 < 20) | ((x > 22) & (y > 15))
    heat = np.exp(-((x - 9) ** 2 + (y - 9) ** 2) / 40) + 0.3 * np.sin(x / 3) ** 2
    good = 0.4 * np.cos(x * y / 17) ** 2
    masks, maps = [mask, np.zeros_like(mask)], np.round([heat, good], 6)
    assert pro_score(masks, maps) == pytest.approx(0.4883543850, abs=1e-9)
    assert pixel_roc_auc(masks, maps) == pytest.approx(0.6455983151, abs=1e-9)
    ap = pixel_average_precision(masks, maps)
    assert ap == pytest.approx(0.4544082031, abs=1e-9)


# -------------------------------------------------------------- against scikit-learn's


@pytest.mark.parametrize("decimals", [1, 15])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixelwise_figures_equal_scikit_learns(decimals, dtype):
    masks, maps = textures(seed=1)
    maps = np.round(maps, decimals).astype(dtype)
    truth, score = masks.ravel(), maps.ravel()
    auc = roc_auc_score(truth, score)
    assert pixel_roc_auc(masks, maps) == pytest.approx(auc, abs=1e-12)
    ap = average_precision_score(truth, score)
    assert pixel_average_precision(masks, maps) == pytest.approx(ap, abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 15])
def test_best_f1_is_the_largest_of_all_thresholds(decimals):
    masks, maps = textures(n=2, size=12, seed=2)
    maps = np.round(maps, decimals)
    threshold, f1 = best_f1_threshold(masks, maps)
    all_f1 = {t: f1_score(masks.ravel(), maps.ravel() >= t) for t in np.unique(maps)}
    assert f1 == pytest.approx(max(all_f1.values()))
    assert all_f1[threshold] == pytest.approx(f1)
    assert best_f1_threshold(masks.ravel(), maps.ravel()) == (threshold, f1)


def test_best_f1_of_scores_and_labels():
    assert best_f1_threshold([1, -1, -1], [0.0, 1.0, 2.0]) == (1.0, 1.0)
    assert best_f1_threshold([0, 1], [0.0, 2.0], pos_label=1) == (2.0, 1.0)
    # 1 of 1 with F1 = 2/3 at 3, and 2 of 3 with F1 = 2/3 at 1: the larger one
    assert best_f1_threshold([-1, 1, 1, -1], [3, 2, 2, 1])[0] == 3


@pytest.mark.parametrize("recall", [0.05, 0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("decimals", [1, 15])
def test_rate_at_recall_equals_the_roc_curves(recall, decimals):
    masks, maps = textures(seed=3)
    maps = np.round(maps, decimals)
    fpr, tpr, _ = roc_curve(masks.ravel(), maps.ravel(), drop_intermediate=False)
    expected = fpr[np.argmax(tpr >= recall)]
    assert fpr_at_recall(masks, maps, recall=recall) == expected
    assert fpr_at_recall(masks.ravel(), maps.ravel(), recall=recall) == expected


def test_rate_at_recall_by_hand():
    y, score = [-1, -1, 1, 1, 1, 1], [5, 2, 6, 4, 2, 1]
    assert fpr_at_recall(y, score, recall=0.5) == 0.25
    assert fpr_at_recall(y, score, recall=0.51) == 0.75


# ------------------------------------------------------------------------------- inputs


@pytest.mark.parametrize("metric", [*PIXELWISE, fpr_at_recall])
def test_forms_of_input_agree(metric):
    torch = pytest.importorskip("torch")
    masks, maps = textures(seed=4)
    expected = metric(masks, maps)
    assert metric(list(masks), list(maps)) == expected
    assert metric(255 * masks.astype(np.uint8), maps) == expected
    assert metric(torch.asarray(masks), torch.asarray(maps)) == expected
    assert metric([m if m.any() else None for m in masks], maps) == expected
    order = [3, 1, 0, 5, 4, 2]
    np.testing.assert_allclose(metric(masks[order], maps[order]), expected)


@pytest.mark.parametrize("metric", [*PIXELWISE, fpr_at_recall])
def test_pictures_of_different_sizes(metric):
    masks, maps = textures(n=2, seed=5)
    cut = [masks[0][:7], masks[1]], [maps[0][:7], maps[1]]
    # the good picture has no regions: only its pixels count, however they are arranged
    turned = [masks[0][:7].T, masks[1]], [maps[0][:7].T, maps[1]]
    assert metric(*cut) == metric(*turned)
    assert metric(*cut) != metric(masks, maps)


@pytest.mark.parametrize("metric", [pixel_roc_auc, pixel_average_precision, pro_score])
def test_only_the_order_of_values_counts(metric):
    masks, maps = textures(seed=6)
    rank = np.unique(maps, return_inverse=True)[1].reshape(maps.shape)
    assert metric(masks, rank) == metric(masks, maps)
    # scores far above 1 and below 0 are not cut off
    far = 1e6 * maps - 1e6
    assert metric(masks, far) == pytest.approx(metric(masks, maps))


@pytest.mark.parametrize("metric", PIXELWISE)
@pytest.mark.parametrize(
    ("masks", "maps", "message"),
    [
        (np.ones((2, 3, 3)), np.ones((1, 3, 3)), "2 masks and 1 maps"),
        (np.ones((2, 3, 3)), np.ones((2, 3, 4)), r"masks\[0\].*\(3, 3\).*\(3, 4\)"),
        ([np.ones((2, 2)), np.ones((3, 3))], np.ones((2, 2, 2)), r"masks\[1\].*\(3, 3"),
        (np.ones((1, 2, 2)), np.full((1, 2, 2), np.nan), r"maps\[0\] contains NaN"),
        (np.ones((1, 2, 2)), np.full((1, 2, 2), np.inf), r"maps\[0\] contains inf"),
        (-np.ones((1, 2, 2)), np.ones((1, 2, 2)), r"masks\[0\] must hold booleans"),
        (np.ones((1, 2, 2)), np.ones((1, 2, 2, 1)), r"maps\[0\] has shape \(2, 2, 1\)"),
        (np.ones((0, 2, 2)), np.ones((0, 2, 2)), "maps is empty"),
    ],
)
def test_wrong_inputs(metric, masks, maps, message):
    with pytest.raises(ValueError, match=message):
        metric(masks, maps)


def test_wrong_parameters():
    with pytest.raises(ValueError, match="fpr_limit=0"):
        pro_score([[[1, 0]]], [[[1, 0]]], fpr_limit=0)
    with pytest.raises(ValueError, match=r"recall=1\.5"):
        fpr_at_recall([1, -1], [1, 0], recall=1.5)
    with pytest.raises(ValueError, match="pos_label"):
        best_f1_threshold([0, 1], [0.0, 1.0])


@pytest.mark.parametrize("metric", [*PIXELWISE, fpr_at_recall])
def test_nothing_to_find_is_nan(metric):
    with pytest.warns(UndefinedMetricWarning):
        found = metric(np.zeros((2, 3, 3), bool), np.ones((2, 3, 3)))
    assert np.isnan(found).all()
