"""What students of pictures are put together from, each part against a plain loop."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skad.nn.corruption import ColourJitter, NoiseRectangles, grey, jitter, paste
from skad.nn.description import (
    DescriptionAutoEncoder,
    PatchDescription,
    by_order,
    needs_zeros,
)
from skad.nn.distillation import (
    AboveMargin,
    AboveQuantile,
    Distillation,
    GradientAbove,
    MapCalibration,
    Power,
)
from skad.nn.statistics import ChannelScale

pytestmark = pytest.mark.usefixtures("own_generator")


def distances(*shape, grad=False):
    return torch.rand(*shape, dtype=torch.float64).square().requires_grad_(grad)


# ------------------------------------------------------------------------- hard places


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("shape", [(3, 2, 5, 4), (2, 11), (1, 1)])
def test_above_quantile_is_the_mean_of_each_samples_largest(q, shape):
    d = distances(*shape, grad=True)
    loss = AboveQuantile(q)(d)
    expected, counted = [], np.zeros(shape)
    for i, each in enumerate(d.detach().numpy()):
        least = np.quantile(each, q)
        expected.append(np.mean([v for v in each.ravel() if v >= least]))
        counted[i] = (each >= least) / (each >= least).sum() / shape[0]
    assert_allclose(loss.item(), np.mean(expected))
    loss.backward()
    assert_allclose(d.grad, counted)  # the quantile itself is a constant


def test_at_quantile_zero_it_is_the_mean_and_samples_count_alike():
    d = distances(4, 3, 5, 5)
    assert_allclose(AboveQuantile(0)(d), d.mean())
    d[0, 0] = d[0].max()  # 25 equal values above the quantile of one sample
    parts = [AboveQuantile(0.9)(one[None]).item() for one in d]
    assert_allclose(AboveQuantile(0.9)(d).item(), np.mean(parts))


def test_the_quantile_takes_more_elements_than_torchs_own():
    d = torch.rand(1, 2**24 + 5)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(d, 0.999)
    assert_allclose(AboveQuantile(0.999)(d), 0.9995, atol=1e-4)


def test_above_margin_follows_the_batches():
    part, margin = AboveMargin(0.3, 1.5).double(), 0.0
    for _ in range(3):
        d = distances(2, 6, 5, grad=True)
        loss, values = part(d), d.detach().numpy()
        margin = 0.3 * margin + 0.7 * (values.mean() + 1.5 * values.std())
        hard = [v for v in values.ravel() if v >= margin]
        assert len(hard) > 2
        assert_allclose(loss.item(), np.mean(hard))
        loss.backward()
        assert_allclose(d.grad, (values >= margin) / len(hard))
    part.eval()
    part(100 * d)  # what is held out moves nothing
    assert_allclose(part.margin, margin)
    assert_allclose(part(d / 1e6).item(), d.max().item() / 1e6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_power_counts_altered_places_negative(gamma):
    d, mask = distances(2, 6, 5, grad=True), torch.rand(2, 6, 5) < 0.3
    loss = Power(gamma)(d, mask)
    values, altered = d.detach().numpy(), mask.numpy()
    over, under, total = values[~altered].mean(), values[altered].mean(), 0.0
    parts, weights = 0.0, np.zeros_like(values)
    for place in np.ndindex(*values.shape):
        if altered[place]:
            weights[place] = -((under / values[place]) ** gamma)
        else:
            weights[place] = (values[place] / over) ** gamma
        parts += weights[place] * values[place]
        total += abs(weights[place])
    assert_allclose(loss.item(), parts / total)
    loss.backward()
    assert_allclose(d.grad, weights / total)
    assert_allclose(Power(gamma)(7 * d, mask).item(), 7 * loss.item())  # free of scale


def test_power_of_pictures_that_nothing_or_everything_was_altered_in():
    d = distances(2, 4, 4)
    none = torch.zeros(2, 4, 4, dtype=torch.bool)
    assert_allclose(Power(2)(d, none), Power(2)(d))
    assert_allclose(Power(0)(d, none), d.mean())
    assert_allclose(Power(0)(d, ~none), -d.mean())
    assert torch.isfinite(Power(2)(0 * d, none))


@pytest.mark.parametrize("a", [-1.0, 0.0, 1.0])
def test_gradient_above_leaves_the_value_as_it_is(a):
    d = distances(3, 4, 5, grad=True)
    loss = GradientAbove(a)(d)
    assert_allclose(loss.item(), d.mean().item())
    loss.backward()
    values = d.detach().numpy()
    expected = (values >= values.mean() + a * values.std()) / values.size
    assert np.count_nonzero(expected) > 0
    assert_allclose(d.grad, expected)


# ------------------------------------------------------------------- scales of maps


RULES = {
    "quantile": lambda m: np.quantile(m, [0.8, 0.95]),
    "standard": lambda m: (m.mean(), m.mean() + m.std()),
    "range": lambda m: (m.min(), m.max()),
}


@pytest.mark.parametrize("rule", RULES)
def test_calibration_is_the_rule_of_all_places_of_all_pictures(rule):
    maps = torch.rand(2, 7, 3, 4, dtype=torch.float64).square() * 5 + 1
    part = MapCalibration(2, rule, (0.8, 0.95), 0.3).double()
    part.learn(maps.split(3, dim=1))
    found = part(maps)
    for own, calibrated in zip(maps.numpy(), found.numpy(), strict=True):
        low, high = RULES[rule](own)
        assert_allclose(calibrated, 0.3 * (own - low) / (high - low))
    moved = MapCalibration(2, rule, (0.8, 0.95), 0.3).double()
    moved.learn([4 * maps - 3])
    assert_allclose(moved(4 * maps - 3), found)


def test_calibration_of_equal_maps_is_finite():
    part = MapCalibration(1, "range")
    part.learn([torch.full((1, 2, 3, 3), 5.0)])
    assert_array_equal(part(torch.full((1, 1, 1, 1), 5.0)), [[[[0.0]]]])
    assert torch.isfinite(part(torch.full((1, 1, 1, 1), 6.0))).all()


def test_channel_scale_is_that_of_all_places():
    maps = torch.rand(6, 4, 3, 5) * torch.tensor([1.0, 9, 100, 0])[:, None, None] + 1000
    part = ChannelScale(4)
    part.learn(iter(maps.split(4)))
    each = maps.double().transpose(0, 1).flatten(1).numpy()  # (c, n h w)
    assert_allclose(part.mean, each.mean(1), rtol=1e-6)
    assert_allclose(part.std, [*each.std(1)[:3], 1], rtol=1e-5)
    found = part(maps)[:, :3].transpose(0, 1).flatten(1).numpy()
    assert_allclose(found.mean(1), 0, atol=1e-3)
    assert_allclose(found.std(1), 1, rtol=1e-3)


# -------------------------------------------------------------------------- corruption


def test_jitter_changes_what_it_says():
    x = torch.rand(3, 3, 4, 5, dtype=torch.float64)
    kinds, factors = torch.tensor([0, 1, 2]), torch.tensor([1.2, 0.8, 1.5]).double()
    found = jitter(x, kinds, factors).numpy()
    for kind, one, seen in zip(range(3), x.numpy(), found, strict=True):
        luma = 0.299 * one[0] + 0.587 * one[1] + 0.114 * one[2]
        factor = factors[kind].item()
        for place in np.ndindex(one.shape):
            none = [0, luma.mean(), luma[place[1:]]][kind]
            expected = factor * one[place] + (1 - factor) * none
            assert_allclose(seen[place], expected)
    assert_allclose(grey(x[:, :2]), x[:, :2].mean(1, keepdim=True))


def test_colour_jitter_changes_one_of_three_and_is_seeded():
    x = torch.rand(1, 3, 4, 4).expand(300, -1, -1, -1)
    torch.manual_seed(3)
    found = ColourJitter()(x)
    torch.manual_seed(3)
    assert_array_equal(ColourJitter()(x), found)
    luma = grey(found).flatten(1)
    own = grey(x).flatten(1)
    saturated = (luma - own).abs().amax(1) < 1e-5
    contrast = (luma.mean(1) - own.mean(1)).abs() < 1e-5
    kinds = [saturated.sum(), (contrast & ~saturated).sum(), (~contrast).sum()]
    assert min(kinds) > 60
    factor = (found / x).flatten(1)[~contrast]
    assert_allclose(factor.std(1), 0, atol=1e-5)
    assert 0.8 <= factor.min() < 0.82
    assert 1.18 < factor.max() <= 1.2


def test_rectangles_are_where_the_mask_says():
    x, noise = torch.rand(2, 3, 8, 9), torch.rand(2, 3, 8, 9)
    seen, mask = paste(x, [(0, 1, 2, 4, 9), (0, 3, 0, 5, 3)], noise)
    for i, row, column in np.ndindex(2, 8, 9):
        one = 1 <= row < 4 and column >= 2
        inside = i == 0 and (one or (3 <= row < 5 and column < 3))
        assert mask[i, row, column] == inside
        expected = noise if inside else x
        assert_array_equal(seen[i, :, row, column], expected[i, :, row, column])


def test_noise_rectangles_have_the_papers_number_and_sizes():
    part = NoiseRectangles()
    boxes = part.boxes((500, 1, 200, 400))
    counts = np.bincount([one[0] for one in boxes], minlength=500)
    assert_allclose(np.bincount(counts) / 500, 0.2, atol=0.06)
    for _, top, left, bottom, right in boxes:
        assert 0 <= top < bottom
        assert 0 <= left < right
    inside = [b for b in boxes if min(b[1:3]) > 0 and b[3] < 200 and b[4] < 400]
    heights = np.array([b[3] - b[1] for b in inside])
    widths = np.array([b[4] - b[2] for b in inside])
    assert 9 <= heights.min() <= 12
    assert 38 <= heights.max() <= 41
    assert 19 <= widths.min() <= 23
    assert 76 <= widths.max() <= 81
    x = torch.zeros(9, 1, 20, 20)
    seen, mask = part(x)
    assert mask.any()
    assert_array_equal(seen[:, 0] > 0, mask)
    assert seen.max() <= 1


# ------------------------------------------------------------------------- the networks


class Doubled(Distillation):
    """A teacher that knows the picture, a student that says a part of it."""

    def __init__(self, size, **others):
        super().__init__(size, **others)
        self.share = torch.nn.Parameter(torch.tensor(0.25))

    def pairs(self, seen, clean):
        half = torch.nn.functional.avg_pool2d
        return [
            (clean, self.share * seen),
            (half(clean, 2), self.share * half(seen, 2)),
        ]


class Half(torch.nn.Module):
    """Brightens the upper half."""

    def forward(self, x):
        mask = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
        mask[:, :3] = True
        return torch.where(mask[:, None], x + 1, x), mask


def test_distillation_shows_the_student_what_is_altered():
    x = torch.rand(2, 3, 4, 4)
    plain = Doubled((4, 4), hard=AboveQuantile(0))
    small = torch.nn.functional.avg_pool2d(x, 2)
    errors = [(0.75 * each).square() for each in (x, small)]
    expected = sum(each.mean() for each in errors)
    assert_allclose(plain.loss(x, None).item(), expected.item(), rtol=1e-6)
    wide = torch.nn.functional.interpolate(
        errors[1].mean(1, keepdim=True), (4, 4), mode="bilinear"
    )
    total = errors[0].mean(1) + wide[:, 0]
    assert_allclose(plain.map(x).detach(), total, rtol=1e-6)
    seen = []

    class Keep(torch.nn.Module):
        def forward(self, d, mask=None):
            seen.append((d.detach(), mask))
            return d.mean()

    altered = Doubled((4, 4), hard=Keep(), corruption=Half())
    altered.loss(x, None)
    above = torch.zeros(2, 1, 4, 4)
    above[:, :, :3] = 1
    assert_allclose(seen[0][0], (x - 0.25 * (x + above)).square(), rtol=1e-5)
    # of the coarse grid, each place that a part of the mask lies in
    assert [mask.sum((1, 2)).tolist() for _, mask in seen] == [[12, 12], [4, 4]]
    assert_allclose(altered.map(x).detach(), total, rtol=1e-6)  # scores see the picture


def parameters(module):
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize(
    ("size", "out", "n"),
    [
        ("small", 384, 2_694_144),
        ("small", 768, 4_267_392),
        ("medium", 384, 8_026_624),
        ("medium", 768, 11_615_488),
    ],
)
def test_descriptions_have_the_papers_sizes(size, out, n):
    with torch.device("meta"):
        module = PatchDescription(3, out, size)
        assert parameters(module) == n
        x = torch.zeros(1, 3, 256, 256)
        assert module(x).shape == (1, out, 56, 56)
        assert module(x, (True, True)).shape == (1, out, 64, 64)
        assert module(x, (True, False)).shape == (1, out, 64, 56)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_a_description_is_that_of_each_square_by_itself(size):
    module = PatchDescription(2, 5, size, width=4).double()
    x = torch.rand(1, 2, 65, 61, dtype=torch.float64)
    found = module(x)
    assert found.shape == (1, 5, 9, 8)
    for i, j in np.ndindex(9, 8):
        square = x[:, :, 4 * i : 4 * i + 33, 4 * j : 4 * j + 33]
        assert_allclose(
            module(square)[0, :, 0, 0].detach(), found[0, :, i, j].detach(), atol=1e-12
        )


def test_files_of_descriptions_may_number_their_layers_in_any_way():
    module = PatchDescription(3, 5, "medium", width=4)
    own = {name: value.numpy() for name, value in module.state_dict().items()}
    numbers = [0, 3, 6, 8, 10, 12]  # of a torch.nn.Sequential
    other = {
        f"{numbers[int(name.split('.')[1])]}.{name.split('.')[2]}": value
        for name, value in own.items()
    }
    named = {f"conv{1 + int(n.split('.')[1])}.{n.split('.')[2]}": own[n] for n in own}
    for arrays in (other, named, dict(sorted(other.items()))):
        found = by_order(arrays, module)
        assert list(found) == list(own)
        assert all(found[name] is own[name] for name in own)
    assert by_order({"0.weight": own["convolutions.0.weight"]}, module).keys() == {
        "0.weight"
    }


@pytest.mark.parametrize("size", [(256, 256), (64, 300), (33, 40), (1, 6), (1, 1)])
def test_the_autoencoder_takes_pictures_of_any_size(size):
    module = DescriptionAutoEncoder((3, *size), (4, 7, 5)).eval()
    x = torch.rand(2, 3, *size)
    code = module.encode(x)
    assert code.shape[1] == 64
    if max(size) <= 256:
        assert code.shape[2:] == (1, 1)
    assert module(x).shape == (2, 4, 7, 5)
    if size == (256, 256):
        sizes = [(n, n) for n in (3, 8, 15, 32, 63, 127)] + [(7, 5)]
        assert module.sizes == sizes
        assert module(x).std() > 0
    assert needs_zeros(size) == tuple(n < 64 for n in size)
