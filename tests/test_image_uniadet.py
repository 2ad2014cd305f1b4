"""UniADet: two vectors a layer and task, a memory, and the copies it learns from."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone

from skad.embedding import ViTEmbedding
from skad.image import UniADet
from skad.image.discriminative._two_vectors import away_from, map_loss
from skad.nn.losses import dice, focal_of
from skad.nn.mosaic import cells_of, cuts, mosaics, regrouped
from tests._pixels import Pixels
from tests._transformer import TinyViT

PIXELS = {"backbone": Pixels, "layers": ("pixel",), "smoothing": 0}


def pictures(n, *shape, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(size=(n, *shape)).astype(np.float32)


def vectors(n_layers, width, seed=0):
    random = np.random.default_rng(seed)
    names = [f"{kind}_{i}" for kind in ("picture", "place") for i in range(n_layers)]
    return {name: random.normal(size=(2, width)) for name in names}


def embedding(layers=(1, 3)):
    return ViTEmbedding(TinyViT, layers)


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def second(w, token, tau):
    """Return the softmax share of the second vector."""
    parts = [math.exp(cosine(one, token) / tau) for one in w]
    return parts[1] / sum(parts)


@pytest.mark.parametrize("n_shots", [0, 2])
def test_it_is_the_loop_over_layers_and_tokens(n_shots):
    X, new = pictures(5, 16, 20, 3), pictures(2, 16, 20, 3, seed=1)
    given = vectors(2, 12)
    detector = UniADet(
        embedding=embedding(),
        vectors=given,
        n_shots=n_shots,
        temperature=0.3,
        map_weight=0.2,
        memory_weight=0.7,
        smoothing=0,
    ).fit(X)
    fitted = embedding().fit(X)
    with torch.no_grad():
        known, asked = (
            [(whole.double().numpy(), maps.double().numpy()) for whole, maps in one]
            for one in (fitted.tokens(torch.tensor(each)) for each in (X, new))
        )
    patches = detector._patches(torch.tensor(new)).numpy()
    for i, score in enumerate(detector.score_samples(new)):
        whole = [second(given[f"picture_{k}"], asked[k][0][i], 0.3) for k in (0, 1)]
        for row, column in np.ndindex(4, 5):
            tokens = [asked[k][1][i, :, row, column] for k in (0, 1)]
            found = [second(given[f"place_{k}"], tokens[k], 0.3) for k in (0, 1)]
            expected = np.mean(found)
            if n_shots:
                away = [
                    min(
                        1 - cosine(tokens[k], known[k][1][j, :, r, c])
                        for j in range(2)
                        for r, c in np.ndindex(4, 5)
                    )
                    for k in (0, 1)
                ]
                expected = 0.3 * expected + 0.7 * np.mean(away)
            assert patches[i, row, column] == pytest.approx(expected, abs=1e-5)
        top = patches[i].max()
        assert -score == pytest.approx(0.8 * np.mean(whole) + 0.2 * top, abs=1e-5)


def test_layers_are_judged_apart():
    X, given = pictures(4, 16, 16, 3), vectors(2, 12)
    alone = []
    for i, layer in enumerate((1, 3)):
        own = {f"{kind}_0": given[f"{kind}_{i}"] for kind in ("picture", "place")}
        alone.append(
            UniADet(embedding=embedding((layer,)), vectors=own, map_weight=0).fit(X)
        )
    both = UniADet(embedding=embedding(), vectors=given, map_weight=0).fit(X)
    for name in ("score_samples", "transform"):
        expected = np.mean([getattr(each, name)(X) for each in alone], axis=0)
        assert_allclose(getattr(both, name)(X), expected, rtol=1e-5)


def test_each_vector_learns_by_its_own_layer_and_task():
    X = pictures(4, 16, 16, 3)
    net = UniADet(embedding=embedding(), max_epochs=1, random_state=0).fit(X).net_
    net.requires_grad_(True)
    samples = torch.rand(3, net.n_copies * (net.n_numbers + math.prod(net.mask_size)))
    masks = samples[:, net.n_copies * net.n_numbers :]
    masks[:] = (masks > 0.5).float()
    net.zero_grad()  # of the training
    net.loss(samples, None).backward()
    before = [w.weight.grad.clone() for w in (*net.of_pictures, *net.of_places)]
    assert all(one.abs().max() > 0 for one in before)
    # tokens of the first layer's places change, and the gradient of these alone
    at = net.widths[0]
    copies = samples[:, : net.n_copies * net.n_numbers]
    copies.unflatten(1, (net.n_copies, -1))[:, :, at : at + 12 * 16] += 1.0
    net.zero_grad()
    net.loss(samples, None).backward()
    after = [w.weight.grad for w in (*net.of_pictures, *net.of_places)]
    same = [torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert same == [True, True, False, True]


def test_losses_of_maps():
    masks = torch.zeros(2, 4, 5)
    masks[0, :2], masks[1, 0, :3] = 1, 1
    assert_allclose(focal_of(masks, masks), 0, atol=1e-9)
    assert_allclose(dice(masks, masks), 0, atol=1e-7)
    half = torch.full_like(masks, 0.5)
    assert_allclose(focal_of(half, masks), 0.25 * math.log(2), rtol=1e-4)
    # uniform maps: per picture 1 - (2 q s + 1) / (q n + s + 1)
    expected = np.mean([1 - (2 * 0.5 * s + 1) / (10 + s + 1) for s in (10, 3)])
    assert_allclose(dice(half, masks), expected, rtol=1e-6)
    p = torch.rand(2, 4, 5)
    found = [
        -((1 - one) ** 2) * math.log(one)
        for one in torch.where(masks == 1, p, 1 - p).flatten().tolist()
    ]
    assert_allclose(focal_of(p, masks), np.mean(found), rtol=1e-3)
    expected = focal_of(p, masks) + dice(p, masks) + dice(1 - p, 1 - masks)
    assert_allclose(map_loss(p, masks), expected)
    assert map_loss(p, masks) > 0.3


class Wide(Pixels):
    """Has "pixel", the three channels turned into 24."""

    def __init__(self):
        super().__init__()
        turn = torch.linalg.qr(torch.randn(24, 3, generator=torch.manual_seed(1)))[0]
        self.register_buffer("turn", turn)

    def forward(self, x):
        return self.pixel(torch.einsum("oc,bchw->bohw", self.turn, x))


def planted(n, n_bad, seed=0):
    """Return pictures with squares that are moved to red from green, and masks."""
    random = np.random.default_rng(seed)
    X = random.normal(0.5, 0.08, size=(n, 12, 12, 3))
    masks = np.zeros((n, 12, 12))
    for mask in masks[:n_bad]:
        top, left = random.integers(0, 8, size=2)
        mask[top : top + 4, left : left + 4] = 1
    X[..., 0] += 0.2 * masks
    X[..., 1] -= 0.2 * masks
    return X.clip(0, 1), masks


def test_vectors_turn_to_where_anomalies_lie():
    X, masks = planted(60, 20)
    detector = UniADet(
        **{**PIXELS, "backbone": Wide},
        normalization=(0.5, 1.0),
        n_views=0,
        lr=0.01,
        random_state=0,
    ).fit(X, masks=masks)
    w = detector.vectors_["place_0"]
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    away = w[1] - w[0]
    turn = detector.embedding_.backbone_.module.turn.numpy()
    assert cosine(away @ turn, np.array([1.0, -1.0, 0.0])) > 0.95
    new, where = planted(40, 20, seed=3)
    bad = detector.transform(new)
    inside, outside = bad[where == 1], bad[where == 0]
    assert np.mean(inside[:, None] > outside[::50]) > 0.9
    scores = detector.score_samples(new)
    assert np.mean(scores[:20, None] < scores[20:]) > 0.85


def test_without_anomalies_it_learns_from_pasted_textures():
    random = np.random.default_rng(0)
    stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    X = stripes + random.normal(0, 0.02, size=(30, 32, 32))
    bad = X[:8].copy()
    for i, picture in enumerate(bad):
        picture[2 * i : 2 * i + 8, 8:16] = 0.9
    with pytest.warns(UserWarning, match="no label -1"):
        detector = UniADet(random_state=0, max_epochs=15).fit(X[8:], np.ones(22))
    scores = detector.score_samples(np.concatenate([bad, X[:8]]))
    assert scores[:8].max() < scores[8:].min()


def test_a_picture_of_the_memory_is_at_zero():
    X = pictures(6, 16, 16, 3)
    detector = UniADet(
        embedding=embedding(),
        vectors=vectors(2, 12),
        n_shots=4,
        memory_weight=1,
        map_weight=1,
        contamination=0.3,
    ).fit(X)
    assert_array_equal(detector.score_samples(X)[:4], 0)
    assert (detector.score_samples(X)[4:] < -1e-3).all()
    bank = torch.nn.functional.normalize(torch.rand(50, 8), dim=1)
    assert_array_equal(away_from(3 * bank[:5], bank) < 1e-12, True)
    # known anomalies are not in the memory, and "all" are all others
    y = np.array([-1, 1, 1, 1, 1, 1])
    with_all = detector.set_params(n_shots="all").fit(X, y)
    assert with_all.net_.bank_0.shape == (5 * 16, 12)
    assert_array_equal(with_all.score_samples(X)[1:], 0)
    assert with_all.score_samples(X)[0] < -1e-3


def test_given_vectors_are_not_trained_and_scores_do_not_depend_on_x(tmp_path):
    X, other, new = (pictures(n, 16, 16, 3, seed=n) for n in (20, 15, 6))
    learned = UniADet(embedding=embedding(), max_epochs=3, random_state=0).fit(X)
    given = learned.vectors_
    both = [
        UniADet(embedding=embedding(), vectors=given, max_epochs=9).fit(each)
        for each in (X, other)
    ]
    for detector in both:
        assert detector.history_ == []
        for name, value in detector.vectors_.items():
            assert_array_equal(value, given[name])
        assert_array_equal(detector.score_samples(new), learned.score_samples(new))
    path = tmp_path / "vectors.npz"
    np.savez(path, **given)
    read = clone(UniADet(embedding=embedding(), vectors=dict(np.load(path))))
    assert_array_equal(read.fit(X).score_samples(new), learned.score_samples(new))
    # no picture is held out of what learns from none
    assert both[0].n_held_out_ == 0
    assert_array_equal(
        np.sort(both[1]._threshold_anomaly_), np.sort(-both[1].score_samples(other))
    )


def test_pictures_and_copies_go_through_the_backbone_once():
    class Counting(TinyViT):
        seen = 0

        def forward(self, x):
            Counting.seen += len(x)
            return super().forward(x)

    X = pictures(20, 16, 16, 3)
    for n_views, n_expected in ((0, 2), (2, 6)):
        Counting.seen = 0
        UniADet(
            embedding=ViTEmbedding(Counting, (1, 3)), n_views=n_views, max_epochs=4
        ).fit(X)
        assert 20 * n_expected <= Counting.seen <= 20 * n_expected + 3


def test_the_label_alone_teaches_the_vectors_of_pictures():
    X, masks = planted(30, 10)
    y = np.repeat([-1, 1], [10, 20])
    shown = masks.copy()
    shown[2:10] = np.nan
    net = UniADet(**PIXELS, max_epochs=1, random_state=0).fit(X, y, masks=shown).net_
    n = 4
    x = torch.rand(n, net.n_copies * (net.n_numbers + 144))
    x[:, net.n_copies * net.n_numbers :] = 0
    x[1, net.n_copies * net.n_numbers :] = torch.nan
    x[2, net.n_copies * net.n_numbers + 5] = 1
    _, _, labels = net.copies(x, torch.tensor([1, -1, -1, 0]))
    assert net.n_copies == 2
    assert_array_equal(labels.view(n, 2), [[0, 0], [1, 1], [1, 0], [0, 0]])
    net.requires_grad_(True)
    net.zero_grad()
    net.loss(x[1:2], torch.tensor([-1])).backward()
    assert net.of_places[0].weight.grad is None
    assert net.of_pictures[0].weight.grad.abs().max() > 0


def test_features_that_do_not_fit_are_described_again():
    X, masks = planted(24, 8)
    given = {**PIXELS, "max_epochs": 2, "n_views": 0, "random_state": 0}
    detector = UniADet(**given).fit(X, masks=masks)
    with config_context(working_memory=1e-3):
        again = UniADet(**given).fit(X, masks=masks)
    for name, value in detector.vectors_.items():
        assert_allclose(again.vectors_[name], value, rtol=1e-4, atol=1e-6)


# ----------------------------------------------------------------------------- copies


def test_a_mosaic_has_its_tiles_in_their_places():
    x = torch.arange(4.0)[:, None, None, None].expand(4, 2, 6, 8)
    masks = (torch.arange(4) == 3).float()[:, None, None].expand(4, 6, 8)
    tiles = torch.tensor([[0, 1, 2, 3], [3, 3, 0, 0]])
    whole, marks = mosaics(x, masks, tiles, 2, 2)
    assert whole.shape == (2, 2, 6, 8)
    assert_array_equal(whole[0, 0, ::3, ::4], [[0, 1], [2, 3]])
    assert_array_equal(whole[1, 1, :3], 3)
    assert_array_equal(marks, (whole[:, 0] == 3).float())
    # sides that are no multiple
    whole, marks = mosaics(x[:, :, :5, :7], masks[:, :5, :7], tiles, 2, 2)
    assert whole.shape == (2, 2, 5, 7)
    assert marks.shape == (2, 5, 7)


def test_a_cut_is_a_cell_made_as_large_as_the_picture():
    x = torch.arange(48.0).view(1, 1, 6, 8).repeat(2, 1, 1, 1)
    masks = torch.zeros(2, 6, 8)
    masks[1, 5, 0] = 1
    seen, marks = cuts(x, masks, (1, 2), 2, 2)
    expected = torch.nn.functional.interpolate(
        x[:1, :, :3, 4:], (6, 8), mode="bilinear"
    )
    assert_allclose(seen[0], expected[0])
    assert_array_equal(marks[0], 0)
    assert_array_equal(np.unique(marks[1].nonzero()[:, 0]), [4, 5])
    assert_array_equal(np.unique(marks[1].nonzero()[:, 1]), [0, 1])
    assert_array_equal(
        cells_of(masks, 2, 2), [[True, True, True, True], [False, False, True, False]]
    )


def test_copies_show_what_their_pictures_are():
    torch.manual_seed(0)
    n = 60
    masks = torch.zeros(n, 12, 12)
    for i in range(0, n, 3):
        masks[i, (i // 3) % 9 : (i // 3) % 9 + 3, 2:5] = 1
    x = masks[:, None] * 10 + torch.arange(n)[:, None, None, None] / n
    seen, marks = regrouped(x, masks)
    assert_array_equal(marks.amax((1, 2))[1::3], 0)  # normal ones stay normal
    assert_array_equal(marks.amax((1, 2))[2::3], 0)
    assert (marks.amax((1, 2))[::3] == 1).all()
    # masks go where their pixels go
    assert (seen[:, 0][marks == 0] < 10).all()
    assert (seen[:, 0][marks == 1] > 1).all()
    whole = (marks == masks).flatten(1).all(1)
    other = ~(seen == x).flatten(1).all(1)
    assert other[::3].float().mean() > 0.9
    assert not whole[::3].all()
    # cells of one normal picture have one value, which mosaics have beside others
    kinds = [len(np.unique(one.numpy().round(4))) for one in seen[1::3, 0]]
    assert {1} < set(kinds)
    assert max(kinds) <= 9
    for i in range(1, n, 3):
        assert (seen[i] - i / n).abs().min() < 1e-4


def test_pictures_of_unknown_masks_stay_and_join_no_other():
    torch.manual_seed(0)
    x = torch.ones(20, 1, 8, 8)
    masks = torch.zeros(20, 8, 8)
    x[:5], masks[:5] = 7, torch.nan
    x[5:8, :, :4], masks[5:8, :4] = 3, 1
    seen, marks = regrouped(x, masks)
    assert_array_equal(seen[:5], 7)
    assert marks[:5].isnan().all()
    assert not marks[5:].isnan().any()
    assert (seen[5:] < 7).all()
    line, marks = regrouped(torch.rand(6, 1, 1, 2), torch.zeros(6, 1, 2))
    assert line.shape == (6, 1, 1, 2)
    assert marks.shape == (6, 1, 2)


# ----------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: given.pop("place_1"), "2 layers want picture_0, picture_1"),
        (lambda given: given.update(place_1=np.ones((2, 5))), "numbers of shape"),
        (lambda given: given.update(place_1=np.full((2, 12), np.nan)), "not finite"),
    ],
)
def test_vectors_that_do_not_fit_are_named(change, message):
    given = vectors(2, 12)
    change(given)
    with pytest.raises(ValueError, match=message):
        UniADet(embedding=embedding(), vectors=given).fit(pictures(4, 16, 16, 3))


def test_there_are_no_vectors_before_fit():
    assert not hasattr(UniADet(), "vectors_")
