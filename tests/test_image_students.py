"""Students and decoders that learn from altered pictures."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from skorch.callbacks import Callback

from skad.image import CDO, RDPlusPlus, ReContrast, ReverseDistillation
from skad.image.student._rd_plus_plus import apart, instance_norm, transport
from skad.image.student._recontrast import hard_cosines
from skad.nn.corruption import NoiseRectangles, SimplexRectangle
from skad.nn.simplex import simplex_noise
from tests.test_image_networks import GRID, RESNET, as_batch, pictures
from tests.test_transport import exact

SMALL = {"max_epochs": 2, "batch_size": 4, "random_state": 0, "smoothing": 0}


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.fixture(scope="module")
def good():
    return pictures(20)


# ---------------------------------------------------------------------------- the noise


def test_simplex_noise_is_smooth_everywhere():
    """Also where two tetrahedra meet: a wrong corner would leave a step there."""
    table = torch.randperm(256)
    start, way = torch.randn(2, 200, 1, 3, dtype=torch.float64)
    steps = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    values = simplex_noise(5 * start + way * steps, table)
    assert values.abs().max() < 1
    assert values.std() > 0.1
    slope = values.diff(dim=1) / (way.norm(dim=2) / 2000)
    assert slope.abs().max() < 8
    assert (slope.diff(dim=1) / (way.norm(dim=2) / 2000)).abs().max() < 60


def test_simplex_noise_is_zero_at_corners_and_repeats():
    table = torch.randperm(256)
    cells = torch.randint(-5, 5, (50, 3)).double()
    corners = cells - cells.sum(1, keepdim=True) / 6
    assert_allclose(simplex_noise(corners, table), 0, atol=1e-12)
    near = simplex_noise(corners + torch.tensor([0.1, 0.05, 0]), table)
    assert near.abs().max() > 0.1
    skew = torch.tensor([256.0, 0, 0]).double()
    again = corners + skew - skew.sum() / 6 + torch.tensor([0.1, 0.05, 0])
    assert_allclose(simplex_noise(again, table), near, atol=1e-10)


def test_a_simplex_rectangle_changes_its_mask_and_nothing_else():
    x = torch.rand(6, 3, 96, 160)
    seen, mask = SimplexRectangle()(x)
    different = (seen != x).any(1)
    assert not different[~mask].any()
    assert different[mask].float().mean() > 0.99
    assert (seen - x).abs().max() < 0.2 * 3
    for each in mask:
        rows, columns = each.any(1), each.any(0)
        assert 10 <= rows.sum() <= 11
        assert 10 <= columns.sum() <= 19
        assert each.sum() == rows.sum() * columns.sum()
    assert SimplexRectangle()(torch.rand(2, 1, 1, 9))[1].sum() == 2


# --------------------------------------------------------------------------------- RD++


RDPP = RDPlusPlus(**SMALL, **GRID)


class Known(torch.nn.Module):
    """Noise that is always the same."""

    def __init__(self, noise):
        super().__init__()
        self.noise = noise

    def forward(self, x):
        return x + self.noise, None


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_rd_plus_plus_loss_is_the_papers(good):
    detector = clone(RDPP).set_params(projection_weight=0.3, transport_weight=0.7)
    network = detector.fit(good).net_.double()
    x = detector._describe(as_batch(good[:3]))
    picture, maps = network.known(x)
    assert_allclose(picture[:, 0], good[:3])
    projected = network.projected(maps)
    rebuilt = network.decoder(network.bottleneck(projected))
    # a mean of noise that is known
    network.corruption = Known(0.3 * torch.eye(32).double())
    noisy = network.teacher(picture + 0.3 * torch.eye(32).double())
    again = network.projected(noisy)
    expected = 0
    parts = [[each.numpy() for each in p] for p in (maps, projected, rebuilt)]
    parts += [[each.numpy() for each in p] for p in (noisy, again)]
    for theirs, clean, made, seen, second in zip(*parts, strict=True):
        flat = [each.reshape(3, -1) for each in (theirs, made, seen, clean)]
        distilled = 1 - np.mean([cosine(a, b) for a, b in zip(*flat[:2], strict=True)])
        places = [
            np.moveaxis(each, 1, 3).reshape(-1, each.shape[1])
            for each in (second, clean)
        ]
        undone = 1 - np.mean([cosine(a, b) for a, b in zip(*places, strict=True)])
        left = np.mean(
            [max(0, cosine(a, b) - 0.5) for a, b in zip(*flat[2:], strict=True)]
        )
        carried = transport(torch.tensor(clean)).item()
        expected += distilled
        expected += 0.3 * (0.7 * carried + 0.01 * undone + 0.1 * left) / 1.11
        assert carried > 1e-4
        assert undone > 1e-4
    ((group, loss),) = network.updates("fit", x, None)
    assert group == "all"
    assert_allclose(loss.item(), expected, rtol=1e-9)


def test_the_transport_is_that_of_a_solver():
    """Between the features of one picture and of the next, whatever their places."""
    maps = torch.randn(3, 5, 4, 4, dtype=torch.float64)
    rows = maps.flatten(2).mT.numpy()
    rows = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    expected = np.mean([exact(rows[i], rows[i - 1])[0] for i in range(3)])
    assert_allclose(transport(maps).item(), expected, rtol=0.06)  # the blur
    assert expected > 0.1
    shuffled = maps[:1].flatten(2)[..., torch.randperm(16)].view(1, 5, 4, 4)
    assert_allclose(transport(torch.cat([maps[:1], shuffled])).item(), 0, atol=1e-9)
    assert transport(maps[:1]).item() == 0
    wide = torch.randn(2, 3, 40, 40, requires_grad=True)
    transport(wide).backward()
    assert wide.grad.abs().sum() > 0
    # 256 of the 1600 places, the same of both
    assert (wide.grad.abs().sum(1) > 0).flatten(1).sum(1).tolist() == [256, 256]


def test_the_transport_makes_pictures_alike(good):
    """The term is no constant: where it counts, it becomes smaller."""
    light = np.linspace(0.3, 1, 20)[:, None, None] * good[:, ::-1]
    light[::2] = light[::2].transpose(0, 2, 1)
    found = []
    for weight in (0.0, 3.0):
        detector = clone(RDPP).set_params(
            transport_weight=weight, max_epochs=15, batch_size=10, projection_lr=0.01
        )
        network = detector.fit(light).net_
        maps = network.known(detector._describe(as_batch(light)).float())[1]
        with torch.no_grad():
            found.append(sum(float(transport(p)) for p in network.projected(maps)))
    assert found[1] < 0.7 * found[0]


def test_with_no_projection_it_is_reverse_distillation(good):
    plain = ReverseDistillation(**SMALL, **GRID, similarity="maps").fit(good)
    detector = clone(RDPP).set_params(projection_weight=0.0).fit(good)
    network = detector.net_.double()
    x, y = (one._describe(as_batch(good[:4])) for one in (detector, plain))
    before = network.map(x)
    network.projections = torch.nn.ModuleList(torch.nn.Identity() for _ in range(2))
    state = plain.net_.double().state_dict()
    assert not network.load_state_dict(state, strict=False).unexpected_keys
    ((_, loss),) = network.updates("fit", x, None)
    assert_allclose(loss.item(), plain.net_.loss(y, None).item(), rtol=1e-12)
    assert_allclose(network.map(x), plain.net_.map(y), rtol=1e-12)
    assert not np.allclose(before, network.map(x))


def test_what_noise_leaves_is_nothing_without_noise(good):
    network = clone(RDPP).fit(good).net_.double()
    x = clone(RDPP).fit(good)._describe(as_batch(good[:3]))
    network.corruption, network.transport_weight = Known(0.0), 0.0
    picture, maps = network.known(x)
    projected = network.projected(maps)
    pairs = zip(network.teacher(picture), projected, strict=True)
    expected = 0.1 * sum(apart(*pair) for pair in pairs) / 1.11
    found = network.projection_loss(picture, projected)
    assert_allclose(found.item(), expected.item(), atol=1e-12)


def test_instance_norm_is_torchs():
    x = torch.randn(3, 4, 5, 6)
    assert_allclose(
        instance_norm(x), torch.nn.functional.instance_norm(x), rtol=1e-4, atol=1e-6
    )
    assert_allclose(instance_norm(x[..., :1, :3]), x[..., :1, :3])


def test_the_teacher_is_the_backbone_and_stays_as_it_is(good):
    colour = np.repeat(good[:6, ..., None], 3, axis=3)
    detector = RDPlusPlus(**SMALL, **RESNET)
    for X in (colour, good[:6]):  # grey pictures are repeated
        detector = clone(detector).set_params(max_epochs=1).fit(X)
        x = torch.tensor(X).float().reshape(6, 32, 32, -1)
        found = detector.net_.teacher(x.permute(0, 3, 1, 2))
        expected = detector.embedding_.feature_maps(x)
        for one, other in zip(found, expected, strict=True):
            assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    rates = [group.get("lr") for group in detector.net_.groups("fit")["all"]]
    assert rates == [None, 0.001]


# --------------------------------------------------------------------------- ReContrast


RECONTRAST = ReContrast(**SMALL, **GRID)


def test_each_encoder_is_rebuilt_from_what_the_other_says(good):
    detector = clone(RECONTRAST).set_params(encoder_lr=0.01).fit(good)
    network = detector.net_.double()
    x = detector._describe(as_batch(good[:3]))
    frozen = [
        each.numpy() for each in detector.embedding_.feature_maps(as_batch(good[:3]))
    ]
    own = [each.numpy() for each in network.encoder(torch.tensor(good[:3, None]))]
    assert not np.allclose(frozen[0], own[0])
    pairs = network.pairs(x)
    for (theirs, _), expected in zip(pairs, [*frozen, *own], strict=True):
        assert_allclose(theirs, expected, rtol=1e-5, atol=1e-6)
    # what is made for the frozen one does not see it
    other = x.clone()
    other[:, 32 * 32 :] += 1
    for i, (before, after) in enumerate(zip(pairs, network.pairs(other), strict=True)):
        assert torch.equal(before[1], after[1]) == (i < 2)
        assert torch.equal(before[0], after[0]) == (i >= 2)
    loss, total = 0, 0
    for theirs, made in pairs:
        theirs, made = theirs.numpy(), made.numpy()
        flat = [each.reshape(3, -1) for each in (theirs, made)]
        loss += np.mean([1 - cosine(a, b) for a, b in zip(*flat, strict=True)]) / 2
        across = (theirs * made).sum(1) / np.linalg.norm(theirs, axis=1)
        places = torch.tensor(1 - across / np.linalg.norm(made, axis=1))
        wide = torch.nn.functional.interpolate(
            places[:, None], (32, 32), mode="bilinear"
        )
        total = total + wide[:, 0].numpy()
    assert_allclose(network.loss(x, None).item(), loss)
    assert_allclose(detector.transform(good[:3]), total, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("margin", [-np.inf, -0.5, 1.0, np.inf])
def test_easy_places_have_no_gradient_and_all_have_a_value(margin):
    theirs, made = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    theirs, made = theirs.requires_grad_(True), made.requires_grad_(True)
    found = hard_cosines(theirs, made, margin)
    cosines = torch.nn.functional.cosine_similarity
    plain = (1 - cosines(theirs.flatten(1).detach(), made.flatten(1))).mean()
    assert_allclose(found.item(), plain.item())
    (whole,) = torch.autograd.grad(plain, made)
    if np.isposinf(margin):
        assert not torch.autograd.grad(found, made)[0].any()
        return
    gradient, none = torch.autograd.grad(found, (made, theirs), allow_unused=True)
    assert none is None
    places = (1 - cosines(theirs, made)).detach().numpy()
    hard = places >= places.mean() + margin * places.std()
    assert_allclose(gradient, whole * torch.tensor(hard)[:, None], atol=1e-15)
    assert hard.all() == np.isneginf(margin)


def test_alike_encoders_and_heads_are_rebuilt_alike(good):
    network = clone(RECONTRAST).set_params(encoder_lr=1e-12).fit(good).net_.double()
    x = clone(RECONTRAST).fit(good)._describe(as_batch(good[:3]))
    network.heads[1].load_state_dict(network.heads[0].state_dict())
    one, two, three, four = network.pairs(x)
    for a, b in ((one, three), (two, four)):
        for first, second in zip(a, b, strict=True):
            assert_allclose(first, second, rtol=1e-4, atol=1e-5)


def test_the_frozen_encoder_stays_and_the_margin_rises(good):
    class Margins(Callback):
        seen = []

        def on_batch_begin(self, net, training=False, **others):
            if training:
                self.seen.append(net.module_.margin)

    Margins.seen.clear()
    detector = clone(RECONTRAST).set_params(
        max_epochs=40, batch_size=20, callbacks=[Margins()], hard_margin=2.0
    )
    detector.fit(good)
    assert_allclose(Margins.seen, [-3, -1.75, -0.5, 0.75, *[2.0] * 36])
    start = GRID["backbone"].state_dict()
    for name, value in detector.embedding_.backbone_.state_dict().items():
        assert torch.equal(value, start[name.removeprefix("module.")])
    moved = dict(detector.net_.encoder.named_parameters())
    far = [(moved[f"module.{n}"] - start[n]).abs().max().item() for n in start]
    # a step of AdamW is no longer than the rate
    assert all(1e-5 < one <= 40 * 1.05e-5 for one in far)


def test_norms_of_the_trained_encoder_keep_their_statistics(good):
    body = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 4, 4), torch.nn.BatchNorm2d(4))
    detector = ReContrast(
        backbone=body, layers=("1",), normalization=None, **{**SMALL, "encoder_lr": 0.1}
    ).fit(good)
    norms = [
        m
        for m in detector.net_.encoder.modules()
        if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert_allclose(norms[0].running_mean, 0)
    assert (norms[0].weight - 1).abs().max() > 0.05
    settled = [
        m
        for m in detector.net_.bottleneck.modules()
        if isinstance(m, torch.nn.BatchNorm2d)
    ]
    assert settled[0].running_mean.abs().max() > 1e-3


# ---------------------------------------------------------------------------------- CDO


FAILS = CDO(**SMALL, **GRID, student_channels=(8, 16), lr=0.01)


class Pasted(torch.nn.Module):
    """A white square in all pictures but the first."""

    def forward(self, x):
        mask = torch.zeros(x[:, 0].shape, dtype=torch.bool)
        mask[1:, 9:19, 4:12] = True
        return torch.where(mask[:, None], 1.0, x), mask


def unit_distances(network, picture):
    """Return d (b, 8, 8) of both layers, of pictures (b, h, w)."""
    x = torch.tensor(picture[:, None])
    found = []
    for pair in zip(network.teacher(x), network.student(x), strict=True):
        wide = [
            torch.nn.functional.interpolate(each, (8, 8), mode="bilinear").numpy()
            for each in pair
        ]
        wide = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in wide]
        found.append(((wide[0] - wide[1]) ** 2).sum(1))
    return found


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_cdo_loss_is_the_papers(gamma, good):
    detector = clone(FAILS).set_params(gamma=gamma).fit(good)
    network = detector.net_.double()
    network.corruption = Pasted()
    seen = good[:3].copy()
    seen[1:, 9:19, 4:12] = 1
    mask = np.zeros((3, 8, 8), dtype=bool)
    mask[1:, 2:5, 1:3] = True  # places of 4 pixels that the square touches
    expected = 0
    for d in unit_distances(network, seen):
        w_n = (d[~mask] / d[~mask].mean()) ** gamma
        w_s = (d[mask].mean() / d[mask]) ** gamma
        total = (w_n * d[~mask]).sum() - (w_s * d[mask]).sum()
        expected += total / (w_n.sum() + w_s.sum())
    x = detector._describe(as_batch(good[:3]))
    ((_, loss),) = network.updates("fit", x, None)
    assert_allclose(loss.item(), expected, rtol=1e-6)
    clean = sum(
        ((d / d.mean()) ** gamma * d).sum() / ((d / d.mean()) ** gamma).sum()
        for d in unit_distances(network, good[:3])
    )
    assert_allclose(network.loss(x, None).item(), clean, rtol=1e-6)


def test_cdo_map_and_score_are_the_papers(good):
    detector = clone(FAILS).fit(good)
    network = detector.net_.double()
    cosines = [d / 2 for d in unit_distances(network, good[:3])]
    wide = sum(
        torch.nn.functional.interpolate(
            torch.tensor(each)[:, None], (32, 32), mode="bilinear"
        )[:, 0]
        for each in cosines
    ).numpy()
    assert_allclose(detector.transform(good[:3]), wide, rtol=1e-5, atol=1e-8)
    largest = np.sort(wide.reshape(3, -1), axis=1)[:, -10:].mean(axis=1)
    assert_allclose(-detector.score_samples(good[:3]), largest, rtol=0.02)


class Untold(NoiseRectangles):
    """Noise that counts as normal."""

    def forward(self, x):
        return super().forward(x)[0], None


class ComesNear(CDO):
    def _network(self, shapes):
        network = super()._network(shapes)
        network.corruption = Untold()
        return network


def test_the_student_stays_away_in_noise(good):
    """More than one that is to come near there too, relative to normal places."""
    shares = []
    for cls in (ComesNear, CDO):
        detector = cls(**clone(FAILS).set_params(max_epochs=30).get_params())
        network = detector.fit(good).net_
        seen = torch.tensor(pictures(5, seed=3)[:, None]).float()
        seen[:, :, 8:16, 8:16] = torch.rand(5, 1, 8, 8)
        with torch.no_grad():
            d = sum(network.distances(seen, seen))
        noisy = torch.zeros(8, 8, dtype=torch.bool)
        noisy[2:4, 2:4] = True
        shares.append(float(d[:, noisy].mean() / d[:, ~noisy].mean()))
    assert shares[1] > 1.5 * shares[0]
