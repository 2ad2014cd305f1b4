"""DAF: discrepancies of a student and its teacher, and the network that reads them."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch.nn import functional as F  # noqa: N812

import skad
from skad._training._schedules import _warm_steps, warm_then_lower
from skad.image import DAF
from skad.image.student._daf import Ascent, dissimilarity
from skad.nn.segmentation import balanced_cross_entropy
from tests.test_image_networks import GRID, RESNET, as_batch, pictures

SMALL = DAF(
    **GRID,
    student_channels=(4, 8),
    segmenter_channels=8,
    max_epochs=2,
    batch_size=5,
    random_state=0,
)


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.fixture(scope="module")
def good():
    return pictures(20)


@pytest.fixture(scope="module")
def network(good):
    detector = clone(SMALL).fit(good)
    return detector.net_.double(), detector._describe(as_batch(good[:3]))


class Known(torch.nn.Module):
    """Brightens the upper left of pictures, always by the same."""

    def forward(self, x):
        mask = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
        mask[:, :12, :8] = True
        return torch.where(mask[:, None], x + 0.3, x), mask


# ------------------------------------------------------------------------- the parts


def test_dissimilarity_is_the_loop_over_windows():
    theirs, own = torch.rand(2, 2, 3, 9, 12, dtype=torch.float64) - 0.2
    found = dissimilarity(theirs, own)
    weights = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    for i, c in np.ndindex(2, 3):
        a, b = (np.asarray(each[i, c]) for each in (theirs, own))
        a, b = (np.pad(one / np.abs(one).max(), 5, "reflect") for one in (a, b))
        for row, column in np.ndindex(9, 12):
            place = slice(row, row + 11), slice(column, column + 11)
            p, q = (window * a[place]).sum(), (window * b[place]).sum()
            var_a = (window * a[place] ** 2).sum() - p**2
            var_b = (window * b[place] ** 2).sum() - q**2
            both = (window * a[place] * b[place]).sum() - p * q
            same = (2 * p * q + 0.01**2) / (p**2 + q**2 + 0.01**2)
            same *= (2 * both + 0.03**2) / (var_a + var_b + 0.03**2)
            assert_allclose(found[i, c, row, column], 1 - same, atol=1e-9)
    assert_allclose(dissimilarity(theirs, 3 * theirs), 0, atol=1e-12)
    assert torch.isfinite(dissimilarity(theirs, 0 * own)).all()


@pytest.mark.parametrize("n_altered", [0, 1, 5, 30, 40])
def test_the_cross_entropy_is_of_the_altered_and_the_hardest(n_altered):
    logits = 2 * torch.randn(2, 4, 5, dtype=torch.float64)
    mask = torch.zeros(40, dtype=torch.float64)
    mask[torch.randperm(40)[:n_altered]] = 1
    mask = mask.view(2, 4, 5)
    altered, others = [], []
    for z, m in zip(logits.flatten().tolist(), mask.flatten().tolist(), strict=True):
        (altered if m else others).append(math.log1p(math.exp(-z if m else z)))
    hardest = sorted(others)[::-1][: 3 * n_altered]
    expected = sum(altered + hardest) / max(1, len(altered + hardest))
    found = balanced_cross_entropy(logits.requires_grad_(True), mask)
    assert_allclose(found.item(), expected)
    found.backward()
    counted = (logits.grad != 0).sum().item()
    assert counted == len(altered) + len(hardest)


def test_rates_rise_and_fall_as_the_authors_do():
    rates = [_warm_steps(e, 50, (700, 1000), 0.2) for e in (0, 24, 49, 699, 700, 1100)]
    assert_allclose(rates, [0.02, 0.5, 1, 1, 0.2, 0.04])
    (callback,) = warm_then_lower(1200, 1 / 24, (7 / 12, 5 / 6), 0.2)
    known = callback.kwargs["lr_lambda"].keywords
    assert (known["n_warm"], known["ends"]) == (50, (700, 1000))
    assert _warm_steps(0, 0, (), 0.2) == 1


def test_the_ascent_goes_from_map_to_map_up_to_the_picture():
    shapes = [(5, 2, 3), (4, 5, 6), (3, 10, 12)]
    part = Ascent(shapes, (40, 47), 8)
    maps = [torch.rand(2, *shape) for shape in shapes]
    assert part(torch.rand(2, 8, 10, 12), maps).shape == (2, 40, 47)
    kinds = [(type(stage[0]).__name__, stage[0].kernel_size) for stage in part.stages]
    assert kinds == [
        ("Conv2d", (3, 3)),
        ("ConvTranspose2d", (2, 2)),
        ("Conv2d", (1, 1)),
    ]
    assert [stage[0].out_channels for stage in part.stages] == [8, 4, 2]
    assert part.sizes == [(2, 3), (5, 6), (10, 12), (20, 24)]
    for i in range(3):  # each has its say
        other = [each + (i == j) for j, each in enumerate(maps)]
        x = torch.rand(2, 8, 10, 12)
        part.eval()
        assert not torch.equal(part(x, maps), part(x, other))


# ------------------------------------------------------------------------ the network


def test_the_discrepancy_has_form_and_angle(network):
    net, x = network
    maps, own = net.known(x)
    assert [tuple(each.shape[1:]) for each in own] == [(6, 8, 8), (8, 4, 4)]
    for (form, angle), a, b in zip(
        net.discrepancies(maps, own), maps, own, strict=True
    ):
        assert_allclose(form, dissimilarity(a, b))
        assert_allclose(angle, 1 - F.cosine_similarity(a, b), atol=1e-12)
    same = net.discrepancies(maps, maps)
    assert max(float(each.abs().max()) for pair in same for each in pair) < 1e-9


def test_channels_are_repeated_to_be_joined(network):
    net, x = network
    maps, own = net.known(x)
    apart = net.discrepancies(maps, own)
    joined = np.zeros((3, 8, 8, 8))  # of 8 channels at most, at 8 x 8
    for form, angle in apart:
        both = (form + angle[:, None]).numpy()
        times = 8 // both.shape[2]
        both = both.repeat(times, axis=2).repeat(times, axis=3)
        for i in range(8):
            joined[:, i] += both[:, i % both.shape[1]]
    joined = F.relu(net.smooth(torch.tensor(joined)))
    expected = net.ascent(joined, own[::-1])  # the coarsest first
    assert_allclose(net.segmented(apart, own), expected)


def test_the_loss_is_of_normal_places_the_mask_and_the_sides(network):
    net, x = network
    net.corruption = Known()
    maps = net.known(x)[0]
    seen, mask = Known()(x[:, : 32 * 32].view(3, 1, 32, 32))
    own = net.student(seen)
    apart, expected = net.discrepancies(maps, own), 0.0
    for (form, angle), cell in zip(apart, (4, 8), strict=True):
        parts = []
        for i, row, column in np.ndindex(angle.shape):
            if row * cell >= 12 or column * cell >= 8:  # outside of the mask
                place = i, row, column
                parts.append(float(angle[place] + form[i, :, row, column].mean()))
        expected += np.mean(parts)
    mask = mask.double()
    expected += balanced_cross_entropy(net.segmented(apart, own), mask).item()
    for side, each in zip(net.sides, own, strict=True):
        wide = F.interpolate(side(each), (32, 32), mode="bilinear")[:, 0]
        expected += balanced_cross_entropy(wide, mask).item()
    assert_allclose(net.loss(x, None).item(), expected)


def test_the_map_is_the_sum_and_the_weighted_probability(good):
    detector = clone(SMALL).set_params(smoothing=0).fit(good)
    net = detector.net_.double()
    x = detector._describe(as_batch(good[:3]))
    maps, own = net.known(x)
    apart = net.discrepancies(maps, own)
    p = net.segmented(apart, own).sigmoid()
    layers = [
        F.interpolate((form.mean(1) + angle)[:, None], (32, 32), mode="bilinear")[:, 0]
        for form, angle in apart
    ]
    assert_allclose(detector.transform(good[:3]), sum(layers) + 3 * p, rtol=1e-6)
    found = detector.transform(good[:3]).reshape(3, -1)
    top = np.sort(found, axis=1)[:, -1:].mean(axis=1)  # .0008 of 1,024 pixels
    assert_allclose(-detector.score_samples(good[:3]), top)
    assert round((1 - DAF().quantile) * 256**2) in range(48, 54)
    net.weight = 0.0
    assert_allclose(net.map(x), sum(layers))


def test_everything_learns_from_altered_pictures(network):
    net, x = network
    net.train().requires_grad_(True)
    torch.manual_seed(1)
    net.loss(x, None).backward()
    assert all(weight.grad is not None for weight in net.parameters())
    for name in ("student", "smooth", "ascent", "sides"):
        weights = net.get_submodule(name).parameters()
        assert any(float(weight.grad.abs().max()) > 0 for weight in weights), name
    net.eval().requires_grad_(False)


def test_a_student_of_a_resnet_is_one_of_the_same_layers(good):
    detector = clone(SMALL).set_params(
        **RESNET, layers=("layer1", "layer2"), max_epochs=1
    )
    net = detector.fit(good[:6]).net_
    assert net.student.layers == ("layer1", "layer2")
    assert net.n_joined == 128
    x = torch.tensor(good[:2, None]).float()
    assert_array_equal(net.normaliser(x)[:, 2], (x[:, 0] - 0.406) / 0.225)


@pytest.mark.sampled(3)
def test_it_finds_what_it_never_saw_and_goes_into_a_graph(good, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X = good.astype(np.float32)
    detector = clone(SMALL).set_params(
        backbone="gabor", layers=["scale1", "scale2"], max_epochs=30, lr=0.003
    )
    detector.fit(X)
    losses = [row["train_loss"] for row in detector.history_]
    assert losses[-1] < 0.7 * losses[0]
    bad = X[:4].copy()
    bad[:, 8:16, 16:24] = 0.9
    assert (detector.predict(bad) == -1).all()
    skad.export.to_onnx(detector, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    decisions, maps = session.run(None, {"pictures": bad[..., None]})
    assert_allclose(decisions, detector.decision_function(bad), atol=1e-4)
    assert_allclose(maps, detector.transform(bad), atol=1e-4)
