"""Reverse distillation under other light: views, matching, and what they are for."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageEnhance, ImageOps
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from skad.image import ADShift, ReverseDistillation
from skad.nn import augmix
from skad.nn.augmix import AugMix
from skad.nn.corruption import grey
from skad.nn.matching import match
from tests.test_image_networks import GRID, RESNET, as_batch, pictures

SMALL = {"max_epochs": 2, "batch_size": 4, "random_state": 0, "smoothing": 0}
SHIFTED = ADShift(**SMALL, **GRID)


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.fixture(scope="module")
def good():
    return pictures(20)


# ----------------------------------------------------------------------------- matching


def test_matched_features_have_the_values_of_the_reference_and_their_own_order():
    features, reference = torch.randn(3, 4, 5, 6), torch.randn(4, 5, 6).exp()
    found = match(features, reference).flatten(2)
    for picture, own in zip(found, features.flatten(2), strict=True):
        assert_allclose(picture.sort(1).values, reference.flatten(1).sort(1).values)
        assert_array_equal(picture.argsort(1), own.argsort(1))
    part = match(features, reference.flatten(1), 0.3).flatten(2)
    assert_allclose(part, 0.7 * features.flatten(2) + 0.3 * found, rtol=1e-5)
    assert_array_equal(match(features, reference, 0.0), features)


def test_equal_features_are_ranked_by_their_places():
    features = torch.tensor([1.0, 0, 0, 1]).view(1, 1, 2, 2)
    reference = torch.tensor([9.0, 7, 6, 8]).view(1, 2, 2)
    assert match(features, reference).flatten().tolist() == [8, 6, 7, 9]


# -------------------------------------------------------------------------------- views


def colours(n=6, seed=0):
    """Return pictures of bytes (n, h, w, 3), of few colours and of many."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 256, size=(n, 40, 50, 3))
    found[::2] = 30 + found[::2] // 3
    found[1, 5:20] = 200
    return found.astype(np.uint8)


def as_floats(X):
    return torch.tensor(X / 255.0).permute(0, 3, 1, 2)


def as_bytes(x):
    return (255 * x).permute(0, 2, 3, 1).numpy()


LEVEL = 2.6
PILLOW = {
    "stretched": ImageOps.autocontrast,
    "equalized": ImageOps.equalize,
    "posterized": lambda x: ImageOps.posterize(x, 4 - int(0.4 * LEVEL)),
    "solarized": lambda x: ImageOps.solarize(x, 256 - int(25.6 * LEVEL)),
    "coloured": lambda x: ImageEnhance.Color(x).enhance(0.18 * LEVEL + 0.1),
    "sharpened": lambda x: ImageEnhance.Sharpness(x).enhance(0.18 * LEVEL + 0.1),
}


@pytest.mark.parametrize("name", PILLOW)
def test_what_augmix_does_is_what_pillow_does(name):
    X = colours()
    operation = getattr(augmix, name)
    levels = torch.full((len(X),), LEVEL)
    found = as_bytes(operation(as_floats(X), levels))
    expected = np.stack([np.asarray(PILLOW[name](Image.fromarray(x))) for x in X])
    exact = name in ("equalized", "posterized", "solarized")
    assert_allclose(found, expected, atol=1e-3 if exact else 1.6)  # it cuts off
    assert np.abs(expected - X.astype(float)).max() > 20
    # a level is that of its picture
    levels[1:] = 0.1
    alone = operation(as_floats(X[:1]), levels[:1])
    assert_allclose(operation(as_floats(X), levels)[:1], alone)


def test_views_of_one_value_or_one_row_are_pictures():
    for x in (torch.full((2, 1, 3, 4), 0.3), torch.rand(2, 3, 1, 7)):
        for operation in augmix.OPERATIONS:
            found = operation(x, torch.tensor([0.1, 3.0]))
            assert found.shape == x.shape
            assert found.isfinite().all()
    assert_array_equal(augmix.stretched(x := torch.full((2, 1, 3, 4), 0.3)), x)
    assert_array_equal(augmix.equalized(x), x)


def test_a_mixture_is_even_between_the_picture_and_its_chains(monkeypatch):
    x = torch.rand(4000, 1, 1, 2)
    monkeypatch.setattr(augmix, "OPERATIONS", [lambda x, levels: x + 1])
    depths = (AugMix()._chain(x, torch.full((4000,), 3)) - x)[:, 0, 0]
    counts = torch.stack([(depths[:, 0] - k).abs() < 1e-5 for k in (1, 2, 3)]).sum(1)
    assert counts.sum() == 4000
    assert counts.min() > 1200
    # of constants, only the share of the picture is left
    monkeypatch.setattr(augmix, "OPERATIONS", [lambda x, levels: torch.ones_like(x)])
    shares = ((AugMix()(x) - x) / (1 - x))[:, 0, 0]
    assert_allclose(shares[:, 0], shares[:, 1], atol=1e-3)
    assert_allclose(
        shares.quantile(torch.tensor([0.1, 0.5, 0.9])), [0.1, 0.5, 0.9], atol=0.03
    )
    seen = []
    monkeypatch.setattr(
        augmix, "OPERATIONS", [lambda x, levels: (seen.append(levels), x)[1]]
    )
    assert_allclose(AugMix()(x), x, atol=1e-6)  # weights are 1 in all
    levels = torch.cat(seen)
    assert levels.min() >= 0
    assert 2.8 < levels.max() <= 3
    # a quarter has no severity, and levels of a tenth at most
    assert 0.22 < (levels <= 0.1).float().mean() < 0.28


# ----------------------------------------------------------------------------- the loss


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_the_loss_is_that_of_pictures_and_of_how_far_their_views_are(good):
    detector = clone(SHIFTED).set_params(code_weight=0.3, map_weight=0.2).fit(good)
    network = detector.net_.double()
    x = detector._describe(as_batch(good[:3]))
    network.views = lambda x: (1 - x, 0.5 * x**2)

    def seen(picture):
        maps = network.teacher(picture)
        code = network.bottleneck(maps)
        rows = [maps, [code], network.decoder(code)]
        return [[each.flatten(1).numpy() for each in row] for row in rows]

    picture = torch.tensor(good[:3, None])
    maps, (code,), made = seen(picture)

    def away(a, b):
        return np.mean([1 - cosine(*pair) for pair in zip(a, b, strict=True)])

    expected = 0.5 * sum(away(*pair) for pair in zip(maps, made, strict=True))
    for view in (1 - picture, 0.5 * picture**2):
        _, (other,), (finest, _) = seen(view)
        expected += 0.3 * away(code, other) + 0.2 * away(made[0], finest)
        assert away(code, other) > 1e-4
    ((group, loss),) = network.updates("fit", x, None)
    assert group == "all"
    assert_allclose(loss.item(), expected)
    plain = sum(away(*pair) for pair in zip(maps, made, strict=True))
    assert_allclose(network.watched("fit", x, None).item(), plain)


def test_views_are_mixed_and_grey(good):
    colour = good[:6, ..., None] * np.array([0.2, 0.7, 1.0])
    detector = ADShift(**SMALL, **RESNET).set_params(max_epochs=1).fit(colour)
    picture = torch.tensor(colour).permute(0, 3, 1, 2)
    mixed, second = detector.net_.views(picture)
    assert_allclose(second, grey(picture).expand(-1, 3, -1, -1))
    torch.manual_seed(0)
    expected = AugMix()(picture)
    torch.manual_seed(0)
    assert_allclose(detector.net_.views(picture)[0], expected)
    assert not np.allclose(mixed, picture, atol=0.05)


def test_without_views_and_matching_it_is_reverse_distillation(good):
    detector = clone(SHIFTED).set_params(code_weight=0, map_weight=0, matching=0)
    plain = ReverseDistillation(**SMALL, **GRID, similarity="maps").fit(good)
    detector.fit(good)
    assert_allclose(detector.transform(good), plain.transform(good), rtol=1e-4)
    assert_allclose(detector.offset_, plain.offset_, rtol=1e-4)
    other = clone(detector).set_params(code_weight=0.05).fit(good)
    assert not np.allclose(other.transform(good), plain.transform(good), rtol=1e-2)


# ------------------------------------------------------------------------ the reference


def test_the_reference_is_a_training_picture(good):
    found = set()
    for seed in range(4):
        network = clone(SHIFTED).set_params(random_state=seed).fit(good).net_
        ((i,),) = np.nonzero(
            np.abs(good - network.reference.numpy()).max((1, 2)) < 1e-6
        )
        found.add(i)
        maps = network.teacher(network.reference[None])
        for k, each in enumerate(maps):
            assert_allclose(getattr(network, f"reference_map_{k}"), each[0], rtol=1e-5)
    assert len(found) > 1


def test_layers_see_the_matched_maps_of_those_before(good):
    detector = clone(SHIFTED).set_params(matching=0.7).fit(good)
    network = detector.net_.double()
    picture = torch.tensor(pictures(3, seed=5)[:, None])
    references = [network.reference_map_0, network.reference_map_1]
    body = network.teacher.module.module
    first = match(body.first(picture), references[0], 0.7)
    found = network.teacher.matched(picture, references, 0.7)
    assert_allclose(found[0], first)
    assert_allclose(found[1], body.second(first))
    assert not body.first._forward_hooks
    # and the map is of what is rebuilt from these
    made = network.decoder(network.bottleneck(found))
    expected = 0
    for theirs, own in zip(found, made, strict=True):
        places = 1 - torch.nn.functional.cosine_similarity(theirs, own)[:, None]
        expected = expected + torch.nn.functional.interpolate(
            places, (32, 32), mode="bilinear"
        )
    assert_allclose(detector.transform(picture[:, 0].numpy()), expected[:, 0])


def test_of_a_resnet_two_layers_are_matched(good):
    colour = np.repeat(good[:6, ..., None], 3, axis=3)
    detector = ADShift(**SMALL, **RESNET).set_params(max_epochs=1).fit(colour)
    teacher = detector.net_.teacher
    references = [getattr(detector.net_, f"reference_map_{i}") for i in range(3)]
    picture = torch.rand(2, 3, 32, 32)
    found = teacher.matched(picture, references, 0.5)
    body = teacher.module
    x = body.bn1(body.conv1(teacher.normalised(picture))).relu()
    x = torch.nn.functional.max_pool2d(x, 3, 2, 1)
    one = match(body.layer1(x), references[0], 0.5)
    two = match(body.layer2(one), references[1], 0.5)
    for each, expected in zip(found, (one, two, body.layer3(two)), strict=True):
        assert_allclose(each, expected, rtol=1e-4, atol=1e-5)


def test_layers_that_do_not_see_one_another_are_all_matched(good):
    network = ADShift(layers=("scale1", "scale2"), **SMALL).fit(good).net_
    references = [network.reference_map_0, network.reference_map_1]
    picture = torch.rand(2, 1, 32, 32)
    maps = network.teacher(picture)
    for each, plain, reference in zip(
        network.teacher.matched(picture, references, 0.5), maps, references, strict=True
    ):
        assert_allclose(each, match(plain, reference, 0.5))


def test_matched_features_of_other_light_and_contrast_are_the_same(good):
    """Of a linear layer they are in the same order, and all the rest is matched."""
    new = pictures(4, seed=3)
    for matching, same in ((1.0, True), (0.0, False)):
        detector = clone(SHIFTED).set_params(matching=matching).fit(good)
        maps = detector.transform(new), detector.transform(0.3 + 0.4 * new)
        assert np.allclose(*maps, rtol=1e-4, atol=1e-6) == same


def test_weights_above_one_are_refused(good):
    with pytest.raises(ValueError, match="more than 1 together"):
        ADShift(code_weight=0.6, map_weight=0.5).fit(good)


# -------------------------------------------------------------------------- other light


def stripes(n, seed):
    noise = np.random.default_rng(seed).normal(0, 0.03, size=(n, 32, 32))
    return 0.5 + 0.2 * np.sin(np.arange(32) / 2) + noise


def test_other_light_raises_fewer_alarms_than_for_reverse_distillation():
    new, bad = stripes(40, 1), stripes(40, 2)
    corners = np.random.default_rng(3).integers(2, 22, (40, 2))
    for x, (i, j) in zip(bad, corners, strict=True):
        x[i : i + 8, j : j + 8] = x[i : i + 8, j : j + 8].T.copy()
    found = []
    for cls in (ADShift, ReverseDistillation):
        detector = cls(max_epochs=6, batch_size=5, random_state=1).fit(stripes(30, 0))
        for light in (1, 0.6):
            pictures = light * np.concatenate([new, bad])
            scores = -detector.decision_function(pictures)
            assert roc_auc_score(np.arange(80) >= 40, scores) > 0.9
            found.append((scores[:40] > 0).mean())
    assert max(found[0], found[2]) < 0.2  # as they are
    assert found[1] < 0.5 < 0.9 < found[3]
