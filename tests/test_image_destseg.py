"""DeSTSeg: textures, a student that sees through them and a head that finds them."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch.nn import functional as F  # noqa: N812

import skad
from skad.image import DeSTSeg
from skad.image.student._destseg import EncoderDecoder
from skad.nn.corruption import TexturePaste, blend, foreign_textures
from skad.nn.perlin import perlin_masks, rotated
from skad.nn.residual import Pyramid
from skad.nn.segmentation import AtrousPyramid, Segmenter, on_grid, segmentation_loss
from tests.test_image_networks import GRID, RESNET, as_batch, pictures
from tests.test_training_resume import At, Stopped, assert_same_weights

SMALL = DeSTSeg(
    **GRID,
    student_channels=(4, 8),
    segmenter_channels=8,
    student_epochs=2,
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
    net = detector.net_.double()
    return net, detector._describe(as_batch(good[:3]))


class Known(torch.nn.Module):
    """Brightens the upper left of pictures, always by the same."""

    def forward(self, x):
        mask = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
        mask[:, :11, :7] = True
        return torch.where(mask[:, None], x + 0.3, x), mask


# ------------------------------------------------------------------------ the textures


@pytest.mark.parametrize("size", [(9, 14), (12, 5), (8, 8)])
@pytest.mark.parametrize("angle", [0.0, 0.7, -1.2, math.pi / 2])
def test_turned_noise_is_that_of_the_place_before(size, angle):
    h, w = size
    noise = torch.rand(1, h, w, dtype=torch.float64) + 1
    found = rotated(noise, torch.tensor([angle], dtype=torch.float64))[0]
    for i, j in np.ndindex(h, w):
        y, x = i - (h - 1) / 2, j - (w - 1) / 2
        was_x = math.cos(angle) * x - math.sin(angle) * y + (w - 1) / 2
        was_y = math.sin(angle) * x + math.cos(angle) * y + (h - 1) / 2
        if min(abs(was_x % 1 - 0.5), abs(was_y % 1 - 0.5)) < 1e-9:
            continue  # between two places
        row, column = round(was_y), round(was_x)
        inside = 0 <= row < h and 0 <= column < w
        assert found[i, j] == (noise[0, row, column] if inside else 0)


def test_turned_masks_lose_the_grain_along_the_sides():
    """Of cells as long as the picture edges run along its sides, unless turned."""
    straight, turned = (
        perlin_masks(300, (32, 32), 0.3, turned=each) for each in (False, True)
    )
    assert turned.any((1, 2)).float().mean() > 0.95

    def along(masks):
        edges = [masks.diff(dim=axis).float().mean((1, 2)) for axis in (1, 2)]
        least, most = torch.stack(edges).sort(0).values
        return float((least < 0.2 * most).float().mean())

    assert along(straight) > 1.5 * along(turned)


@pytest.mark.parametrize("shape", [(7, 3, 24, 20), (4, 1, 1, 9), (3, 2, 5, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pasted_picture_is_as_it_was_where_the_mask_says_so(shape, dtype):
    x = torch.rand(shape, dtype=dtype)
    torch.manual_seed(3)
    seen, mask = TexturePaste()(x)
    assert mask.shape == (shape[0], *shape[2:])
    assert seen.dtype == dtype
    assert_array_equal(seen.movedim(1, 3)[~mask], x.movedim(1, 3)[~mask])
    assert mask.any()
    torch.manual_seed(3)
    assert_array_equal(TexturePaste()(x)[0], seen)


def test_a_picture_is_blended_with_the_share_that_is_left():
    x, textures = torch.rand(2, 3, 3, 4, 5, dtype=torch.float64)
    mask, share = torch.rand(3, 4, 5) < 0.5, torch.tensor([0.0, 0.25, 1.0])
    found = blend(x, textures, mask, share)
    for i, c, row, column in np.ndindex(3, 3, 4, 5):
        left = float(share[i]) if mask[i, row, column] else 1.0
        place = i, c, row, column
        assert_allclose(found[place], left * x[place] + (1 - left) * textures[place])


def test_shares_and_clean_pictures_are_as_often_as_is_said(monkeypatch):
    given = {}

    def noted(x, textures, mask, share):
        given.update(textures=textures, share=share)
        return blend(x, textures, mask, share)

    monkeypatch.setattr("skad.nn.corruption.blend", noted)
    x = torch.rand(600, 1, 8, 8)
    mask = TexturePaste(clean_share=0.3)(x)[1]
    assert_allclose(mask.any((1, 2)).float().mean(), 0.7, atol=0.08)
    share = given["share"]
    assert_allclose([share.min(), share.mean(), share.max()], [0, 0.4, 0.8], atol=0.04)
    seen, mask = TexturePaste(most_left=0.0)(x)
    assert_allclose(
        seen.movedim(1, 3)[mask], given["textures"].movedim(1, 3)[mask], rtol=1e-6
    )
    assert foreign_textures(x).shape == x.shape


# ---------------------------------------------------------------------------- the head


def test_an_atrous_pyramid_sees_neighbours_at_its_distances():
    part = AtrousPyramid(2, 3, (2, 6)).double().eval()
    x = torch.rand(2, 2, 5, 7, dtype=torch.float64)
    scale = 1 / math.sqrt(1 + 1e-5)  # of the norms, which have seen nothing
    parts = [one[0].weight.detach().numpy() for one in (part.whole, *part.around)]
    joined, pictures = np.zeros((2, 9, 5, 7)), x.numpy()
    means = pictures.mean(axis=(2, 3))
    for i, out, row, column in np.ndindex(2, 3, 5, 7):
        joined[i, out, row, column] = means[i] @ parts[0][out, :, 0, 0]
        for n, distance in enumerate((2, 6), start=1):
            for down, right in np.ndindex(3, 3):
                r = row + (down - 1) * distance
                c = column + (right - 1) * distance
                if 0 <= r < 5 and 0 <= c < 7:
                    seen = pictures[i, :, r, c] @ parts[n][out, :, down, right]
                    joined[i, 3 * n + out, row, column] += seen
    joined = torch.tensor(np.maximum(scale * joined, 0))
    expected = F.conv2d(joined, part.fusion[0].weight, padding=1)
    assert_allclose(part(x).detach(), (scale * expected).relu().detach())


def test_the_heads_loss_is_its_formula():
    logits = 3 * torch.randn(2, 4, 5, dtype=torch.float64)
    mask = (torch.rand(2, 4, 5) < 0.3).double()
    total = 0.0
    for z, m in zip(logits.flatten().tolist(), mask.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        right = p if m else 1 - p
        total += (1 - right) ** 4 * -math.log(right) + abs(p - m)
    assert_allclose(segmentation_loss(logits, mask), total / 40)
    plain = F.binary_cross_entropy_with_logits(logits, mask)
    apart = (logits.sigmoid() - mask).abs().mean()
    assert_allclose(segmentation_loss(logits, mask, gamma=0), plain + apart)
    assert Segmenter(6, 4)(torch.rand(1, 6, 1, 9)).shape == (1, 1, 9)


def test_a_place_lies_in_the_mask_by_the_half_of_it():
    mask = torch.zeros(1, 8, 8)
    mask[0, 1:3, 1:3] = 1  # the middle of the first of four places
    mask[0, 5:7, 1] = 1  # half of the middle of the third
    mask[0, 1, 5] = 1  # a quarter
    assert_array_equal(on_grid(mask, (2, 2)), [[[1, 0], [1, 0]]])
    assert_array_equal(on_grid(mask, (8, 8)), mask)


# ------------------------------------------------------------------------- the student


def test_the_student_goes_through_one_small_map():
    shapes = [(3, 8, 10), (5, 4, 5)]
    student = EncoderDecoder(Pyramid((1, 32, 40), [(6, 2, 3)]), 6, shapes, 2, True)
    student.eval()
    found = student(torch.rand(2, 1, 32, 40))
    assert [tuple(each.shape[1:]) for each in found] == shapes
    assert min(each.min() for each in found) < 0

    class Nothing(torch.nn.Module):
        def forward(self, x):
            return [torch.zeros(len(x), 6, 2, 3)]

    student.encoder = Nothing()  # nothing goes across
    one, other = student(torch.rand(2, 1, 32, 40))[0]
    assert_array_equal(one.detach(), other.detach())


def cosines(a, b):
    """Return the cosines (b, h, w) of the places of arrays (b, c, h, w)."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / lengths


def test_the_student_of_altered_pictures_learns_the_maps_of_clean_ones(network):
    net, x = network
    net.corruption = Known()
    picture = x[:, : 32 * 32].view(3, 1, 32, 32)
    seen = Known()(picture)[0]
    expected = 0.0
    for theirs, own in zip(net.teacher(picture), net.student(seen), strict=True):
        apart = 1 - cosines(theirs.numpy(), own.detach().numpy())
        expected += sum(each.mean() for each in apart)  # over the batch
    ((group, loss),) = net.updates("student", x, None)
    assert group == "all"
    assert_allclose(loss.item(), expected, rtol=1e-6)
    assert_allclose(
        net.watched("student", x, None).item(),
        net.distances(*net.known(x)).item(),
    )


def test_products_of_equal_maps_sum_to_minus_one_for_each_layer(network):
    net, x = network
    maps, own = net.known(x)
    same = net.products(maps, maps)
    assert same.shape == (3, 14, 8, 8)
    assert_allclose(same[:, :6].sum(1), -1)
    assert_allclose(same.sum(1), -2)
    found = net.products(maps, own)[:, :6].sum(1)
    assert_allclose(found, -cosines(maps[0].numpy(), own[0].numpy()), atol=1e-12)
    wide = F.interpolate(
        -F.normalize(maps[1], dim=1) * F.normalize(own[1], dim=1),
        (8, 8),
        mode="bilinear",
    )
    assert_allclose(net.products(maps, own)[:, 6:], wide)


def test_the_head_sees_what_both_say_of_altered_pictures(network):
    net, x = network
    net.corruption = Known()
    picture = x[:, : 32 * 32].view(3, 1, 32, 32)
    seen = Known()(picture)[0]
    expected = net.segmenter(net.products(net.teacher(seen), net.student(seen)))
    logits, labels = net.segmentation(x)
    assert_allclose(logits, expected)
    rows = np.zeros((3, 8, 8))
    rows[:, :3, :2] = 1  # of 4 pixels: 11 and 7 are a half and more of the last
    assert_array_equal(labels, rows)
    ((_, loss),) = net.updates("segmentation", x, None)
    assert_allclose(loss.item(), segmentation_loss(expected, labels).item())
    assert_allclose(net.map(x), net.segmenter(net.products(*net.known(x))).sigmoid())


def test_the_student_stays_as_it_is_while_the_head_learns(good):
    one, more = (clone(SMALL).set_params(max_epochs=n).fit(good).net_ for n in (1, 3))
    for name, weight in one.student.state_dict().items():
        assert_array_equal(weight, more.student.state_dict()[name], name)
    assert not torch.equal(one.segmenter.head[3].weight, more.segmenter.head[3].weight)
    other = clone(SMALL).set_params(student_epochs=3).fit(good).net_
    first = "student.first.0.body.0.0.weight"
    assert not torch.equal(one.state_dict()[first], other.state_dict()[first])
    rates = [group["lr"] for group in one.groups("segmentation")["all"]]
    assert rates == [0.1, 0.01]
    known = {id(weight) for weight in one.groups("student")["all"]}
    assert known == {id(weight) for weight in one.student.parameters()}


def test_norms_settle_on_all_pictures(good):
    detector = clone(SMALL).set_params(batch_size=20, contamination=0.1).fit(good)
    net = detector.net_
    x = detector._describe(as_batch(good)).float()
    made, norm = net.student.encoder.stages[0][0]
    seen = made(net.teacher.normalised(x[:, : 32 * 32].view(-1, 1, 32, 32)))
    assert_allclose(norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    assert_allclose(norm.running_var, seen.transpose(0, 1).flatten(1).var(1), rtol=1e-3)
    # those of the head on altered pictures, which differ more
    torch.manual_seed(5)
    net.finish(lambda: iter([(x, None)]))
    torch.manual_seed(5)
    own = net.segmenter.blocks[0].body[0]
    picture = x[:, : 32 * 32].view(-1, 1, 32, 32)
    seen, _ = net.corruption(picture)
    products = net.products(net.teacher(seen), net.student(seen))
    expected = own[0](products)
    assert_allclose(own[1].running_mean, expected.mean((0, 2, 3)), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("phase", ["student", "segmentation"])
def test_a_training_goes_on_as_if_it_had_not_been_cut(phase, good, tmp_path):
    detector = clone(SMALL).set_params(contamination=0.1)
    whole = clone(detector).fit(good)
    cut = At(Stopped(), epoch=2 if phase == "student" else 1, phase=phase)
    with pytest.raises(Stopped):
        clone(detector).set_params(checkpoint=tmp_path, callbacks=[cut]).fit(good)
    again = clone(detector).set_params(checkpoint=tmp_path).fit(good)
    assert_same_weights(whole, again)
    assert_array_equal(whole.transform(good[:3]), again.transform(good[:3]))


# ------------------------------------------------------------------------ the detector


def test_the_score_is_the_mean_of_the_largest_pixels(good):
    detector = clone(SMALL).set_params(quantile=0.98).fit(good)
    maps = detector.transform(good[:3]).reshape(3, -1)
    expected = np.sort(maps, axis=1)[:, -20:].mean(axis=1)  # 2 % of 1,024
    assert_allclose(-detector.score_samples(good[:3]), expected)
    assert round((1 - DeSTSeg().quantile) * 256**2) in (98, 99, 100)


def test_a_student_of_a_resnet_is_one_with_a_stage_more(good):
    detector = clone(SMALL).set_params(
        **RESNET, layers=("layer1", "layer2"), student_epochs=1, max_epochs=1
    )
    net = detector.fit(good[:6]).net_
    assert net.student.encoder.layers == ("layer3",)
    assert not any(isinstance(one, torch.nn.Conv2d) for one in net.student.heads)
    assert [len(stage) for stage in net.student.stages] == [2, 2]
    assert net.segmenter.blocks[0].body[0][0].in_channels == 64 + 128
    assert net.grid == (8, 8)


@pytest.mark.sampled(3)
def test_it_finds_what_it_never_saw_and_goes_into_a_graph(good, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X = good.astype(np.float32)
    detector = clone(SMALL).set_params(
        backbone="gabor", layers=["scale2"], student_epochs=10, max_epochs=30
    )
    detector.fit(X)
    student, head = (
        [row["train_loss"] for row in detector.history_ if row["phase"] == phase]
        for phase in ("student", "segmentation")
    )
    assert student[-1] < student[0] / 5
    assert np.mean(head[-3:]) < 0.7 * head[0]
    bad = X[:4].copy()
    bad[:, 8:16, 16:24] = 0.9
    assert (detector.predict(bad) == -1).all()
    skad.export.to_onnx(detector, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    decisions, maps = session.run(None, {"pictures": bad[..., None]})
    assert_allclose(decisions, detector.decision_function(bad), atol=1e-4)
    assert_allclose(maps, detector.transform(bad), atol=1e-4)
