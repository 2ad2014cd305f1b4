"""AnoSeg, OCRGAN and SCADN: their generators and critics, losses, scores and maps."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._training._held_out import held_samples
from skad.image import OCRGAN, SCADN, AnoSeg
from skad.image.restoration._adversarial import RestorationNetwork
from skad.image.restoration._anoseg import (
    AnoSegNetwork,
    HardAugmentation,
    with_places,
)
from skad.image.restoration._ocrgan import (
    ChannelSelection,
    OCRGANNetwork,
    TwoBandGenerator,
    bands,
    blurred,
)
from skad.image.restoration._scadn import SCADNNetwork, striped
from skad.nn.restorers import (
    EncoderCritic,
    InpaintingGenerator,
    PatchCritic,
    PlaceNorm,
    SkipGenerator,
    growing,
    shrinking,
)
from tests._restoration import SIZES, pictures

pytestmark = pytest.mark.usefixtures("own_generator")


# --------------------------------------------------------------- the parts of networks


@pytest.mark.parametrize("size", SIZES)
def test_sizes_halve_and_come_back(size):
    x = torch.rand(2, 3, *size)
    for stride in (1, 2):
        layer, after = shrinking(3, 4, size, stride)
        assert layer(x).shape == (2, 4, *after)
        if stride == 2:
            assert after == tuple(max(1, n // 2) for n in size)
            assert growing(4, 3, size)(layer(x)).shape == x.shape


@pytest.mark.parametrize("size", SIZES)
def test_generators_make_pictures_of_any_size(size):
    x = torch.rand(2, 3, *size)
    made = InpaintingGenerator((3, *size), 4, 1)(x)
    assert made.shape == x.shape
    if max(size) > 1:  # other pictures, other restorations
        assert not torch.allclose(made[0], made[1], atol=1e-4)
    generator = SkipGenerator((3, *size), 2, 4, dropout=0.5)
    assert generator(x).shape == (2, 2, *size)
    assert generator.widths == [4 * min(8, 2**i) for i in range(len(generator.down))]
    logits, features = PatchCritic((3, *size), 4)(x)
    assert (logits.shape[:2], features.shape[:2]) == ((2, 1), (2, 32))


def test_a_skip_generator_goes_down_to_a_pixel_and_hands_all_across():
    generator = SkipGenerator((1, 32, 32), 1, 2, dropout=0.5).eval()
    assert len(generator.down) == 5
    dropped = [i for i, up in enumerate(generator.up) if isinstance(up[-1], nn.Dropout)]
    assert dropped == [1, 2, 3]
    x = torch.rand(1, 1, 32, 32)
    seen = []
    for layer in generator.down:
        x = layer(x)
        seen.append(x)
    assert [each.shape[2] for each in seen] == [16, 8, 4, 2, 1]
    whole = generator.rise(seen)
    for i in range(5):
        without = [torch.zeros_like(x) if i == j else x for j, x in enumerate(seen)]
        assert not torch.allclose(generator.rise(without), whole)


def test_places_are_normalised_by_picture():
    x = torch.rand(3, 2, 4, 5).double()
    found = PlaceNorm()(x)
    for one, by_itself in zip(found, x, strict=True):
        for channel, own in zip(one, by_itself, strict=True):
            expected = (own - own.mean()) / (own.var(correction=0) + 1e-5).sqrt()
            assert_allclose(channel, expected)
    assert_array_equal(PlaceNorm()(x[..., :1, :1]), x[..., :1, :1])


def test_a_critic_judges_patches_of_70_pixels():
    critic = PatchCritic((1, 128, 128), 2, spectral=True).eval()
    x = torch.rand(1, 1, 128, 128, requires_grad=True)
    logits, _ = critic(x)
    assert logits.shape[2:] == (14, 14)
    logits[0, 0, 7, 7].backward()
    rows, columns = np.nonzero(x.grad[0, 0].numpy())
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (70, 70)


# ---------------------------------------------------------------- the losses in common


class Half(nn.Module):
    """Makes half of what it sees."""

    def __init__(self):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.share * x


class Sums(nn.Module):
    """Its logit is the sum of a picture, its features are the pixels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        features = self.weight * x.flatten(1)
        return features.sum(1), features


class Worse(RestorationNetwork):
    """Shows the critic pictures upside down as fake as well."""

    def worse(self, x):
        return x.flip(2)


def network(cls=RestorationNetwork, weights=(0.7, 0.4)):
    net = cls((2, 3, 4), Half(), Sums(), *weights).double()
    net.bound = nn.Identity()
    return net


@pytest.mark.parametrize("cls", [RestorationNetwork, Worse])
def test_both_sides_lose_as_the_formulas_say(cls):
    net, x = network(cls), torch.rand(5, 24).double()
    (first, critic), (second, generator) = net.updates("fit", x, None)
    assert (first, second) == ("critic", "generator")
    one, none = torch.ones(5).double(), torch.zeros(5).double()
    total = 0.3 * x.sum(1)
    bce = F.binary_cross_entropy_with_logits
    gap = (0.3 * 0.5 * x).square().mean()
    expected = bce(total, one) + bce(total / 2, none) + 0.4 * gap
    if cls is Worse:  # its sum is that of the picture
        expected = expected + bce(total, none)
    assert_allclose(critic.item(), expected.item())
    expected = (x / 2).mean() + 0.7 * bce(total / 2, one) + 0.4 * gap
    assert_allclose(generator.item(), expected.item())


def test_each_side_learns_from_its_own_loss():
    net, x = network(), torch.rand(5, 24).double()
    updates = net.updates("fit", x, None)
    next(updates)[1].backward()
    assert net.critic.weight.grad.abs() > 0
    assert net.generator.share.grad is None
    net.zero_grad()
    next(updates)[1].backward()
    assert net.generator.share.grad.abs() > 0
    assert net.critic.weight.grad is None


def test_the_critic_may_have_no_say():
    X, small = pictures(8), {"channels": 2, "n_blocks": 1, "n_stripes": (4,)}
    found = []
    for weight, lr in ((0, 1e-5), (0, 0.1), (5.0, 0.1)):
        detector = SCADN(**small, adversarial_weight=weight, critic_lr=lr, max_epochs=2)
        found.append(detector.set_params(random_state=0).fit(X).transform(X))
    assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])


def test_what_is_made_has_the_range_of_pictures_or_of_the_data():
    net = SCADNNetwork((1, 1, 6), (4,), 2, 1, 0.01, 4.0, True)
    rows = torch.tensor([[0.2, 0.5, 0.1, 0.9, 0.4, 0.3]])
    for scale, low, high in ((1.0, 0, 1), (-3.0, -2.7, 1), (5.0, 0, 4.5)):
        net.bound.low.fill_(torch.inf)
        net.bound.high.fill_(-torch.inf)
        net.begin("fit", lambda scale=scale: [(scale * rows, None)])
        ends = net.bound(torch.tensor([-50.0, 50.0]).view(2, 1, 1, 1)).flatten()
        assert_allclose(ends, [low, high], atol=1e-6)


# ------------------------------------------------------------------------------- SCADN


@pytest.mark.parametrize("size", [*SIZES, (64, 48)])
@pytest.mark.parametrize("n_stripes", [4, 8, 16])
def test_a_mask_of_each_direction_hides_every_pixel(size, n_stripes):
    masks = striped(size, n_stripes)
    directions = max(1, sum(n > 1 for n in size))
    assert masks.shape == (2 * directions, *size)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert_array_equal((1 - masks).sum(0), np.full(size, directions))


def test_stripes_are_those_of_the_authors():
    for n in (4, 8, 16):
        mask = np.ones((64, 64))
        for i in range(0, n, 2):
            mask[i * 64 // n : (i + 1) * 64 // n] = 0
        expected = np.stack([mask, 1 - mask, mask.T, 1 - mask.T])
        assert_array_equal(striped((64, 64), n), expected)


def scadn(size=(16, 16), n_stripes=(4, 8), **others):
    given = {"channels": 2, "n_blocks": 1, "adversarial_weight": 0.01}
    given |= {"seen_weight": 4.0, "mirror": False, **others}
    net = SCADNNetwork((2, *size), n_stripes, **given).double().eval()
    net.bound.low.fill_(0.0)
    net.bound.high.fill_(1.0)
    return net


class Template(nn.Module):
    """Returns one picture, whatever it is shown."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def forward(self, x):
        return (2 * self.picture - 1).atanh().expand_as(x)


def test_a_generator_that_knows_the_picture_leaves_the_squared_defect():
    net, clean = scadn(), 0.2 + 0.6 * torch.rand(2, 16, 16).double()
    net.generator = Template(clean)
    x = clean.expand(3, 2, 16, 16).clone()
    x[1, :, 4:7, 9:12] += 0.1
    x[2, 0, 10, 3] -= 0.2
    found = net.map(x.flatten(1))
    assert_allclose(found, (x - clean).square().mean(1), atol=1e-12)
    assert found[2].argmax() == 10 * 16 + 3


def test_errors_are_of_hidden_places_and_the_larger_one_counts():
    net, x = scadn(size=(6, 10)), torch.rand(2, 2, 6, 10).double()
    found = net.errors(x)
    for k, n in enumerate((4, 8)):
        masks = striped((6, 10), n).double()
        made = [net.bound(net.generator(mask * x)) for mask in masks]
        for b, i, j in np.ndindex(2, 6, 10):
            errors = [
                float((x[b, :, i, j] - one[b, :, i, j]).square().mean())
                for mask, one in zip(masks, made, strict=True)
                if mask[i, j] == 0
            ]
            assert len(errors) == 2
            assert_allclose(float(found[b, k, i, j]), max(errors))


def test_the_scale_counts_that_is_farthest_above_its_mean():
    net, errors = scadn(n_stripes=(4, 8, 16)), torch.rand(5, 3, 16, 16).double()
    errors[:, 1] *= 3
    net.errors = lambda x: errors
    net.usual.copy_(torch.tensor([0.5, 1.5, 0.5]))
    found = net.map(torch.zeros(5, 512).double())
    chosen = set()
    for one, parts in zip(found, errors, strict=True):
        above = parts.mean((1, 2)) - net.usual
        chosen.add(int(above.argmax()))
        assert_array_equal(one, parts[above.argmax()])
    assert len(chosen) > 1


def test_the_usual_errors_are_those_of_normal_pictures():
    X = pictures(20)
    detector = SCADN(channels=2, n_blocks=1, max_epochs=1, random_state=0).fit(X)
    net = detector.net_.double()
    held = X[held_samples(20, 0.2, at_least=5)]
    assert len(held) == detector.n_held_out_
    x = torch.tensor(held)[:, None]
    assert_allclose(net.usual, net.errors(x).mean((0, 2, 3)), rtol=1e-4)


def test_what_was_seen_weighs_four_times():
    net = scadn()
    x, made = torch.rand(2, 3, 2, 16, 16).double()
    mask = net.masks[[0, 5, 6]].double()
    hidden = (made * (1 - mask) - x * (1 - mask)).square().mean()
    seen = (made * mask - x * mask).square().mean()
    expected = (hidden + 4 * seen) / mask.mean()
    assert_allclose(float(net.error(x, made, mask)), float(expected))


def test_training_hides_stripes_and_mirrors_half_of_the_pictures():
    net = scadn(mirror=True).train()
    x = torch.rand(400, 2, 16, 16).double()
    found = net.pictures(x.flatten(1))
    turned = (found == x.flip(3)).flatten(1).all(1)
    assert (turned | (found == x).flatten(1).all(1)).all()
    assert 150 < turned.sum() < 250
    seen, masks = net.altered(x)
    assert_array_equal(seen, x * masks)
    kinds = {tuple(mask.flatten().tolist()) for mask in masks}
    assert len(kinds) == 8
    assert_allclose(float(masks.mean()), 0.5)
    assert_array_equal(net.eval().pictures(x.flatten(1)), x)
    row = SCADNNetwork((1, 1, 6), (4,), 2, 1, 0.01, 4.0, True).train()
    assert_array_equal(row.pictures(x[:, 0, 0, :6])[:, 0, 0], x[:, 0, 0, :6])


def test_what_is_filled_in_is_the_mean_of_all_masks():
    net, clean = scadn(), 0.2 + 0.6 * torch.rand(2, 16, 16).double()
    net.generator = Template(clean)
    x = torch.rand(3, 2, 16, 16).double()
    assert_allclose(net.reconstruct(x), clean.expand_as(x))
    x, made = net.rebuilt(x.flatten(1))
    assert_allclose(made, clean.expand_as(x))


@pytest.mark.parametrize("wrong", [(), (1,), (4, 2.5), ("a",)])
def test_stripes_are_whole_numbers(wrong):
    with pytest.raises(ValueError, match="n_stripes"):
        SCADN(n_stripes=wrong).fit(pictures(4))


# ------------------------------------------------------------------------------ OCRGAN


@pytest.mark.parametrize("size", SIZES)
def test_bands_add_up_to_the_picture(size):
    x = 2 * torch.rand(2, 3, *size).double() - 1
    low, high = bands(x)
    assert_allclose(low + high, x, rtol=0, atol=1e-15)
    assert (high < 0).any() or max(size) == 1  # nothing is cut off at 0
    flat = torch.full((1, 1, *size), 0.7).double()
    assert_allclose(bands(flat)[0], flat, rtol=1e-12)  # all of it is low


def test_the_low_band_is_the_pyramid_s():
    """Against OpenCV's definition of its halving and doubling, written out."""
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    x = np.random.default_rng(0).random((12, 10))

    def filtered(x):
        wide = np.pad(x, 2, mode="reflect")
        h, w = x.shape
        return sum(
            kernel[i] * kernel[j] * wide[i : i + h, j : j + w]
            for i, j in np.ndindex(5, 5)
        )

    assert_allclose(blurred(torch.tensor(x)[None, None], kernel)[0, 0], filtered(x))
    zeros = np.zeros_like(x)
    zeros[::2, ::2] = filtered(x)[::2, ::2]
    assert_allclose(bands(torch.tensor(x)[None, None])[0][0, 0], 4 * filtered(zeros))


def test_a_wave_of_two_pixels_is_high_and_a_slow_one_is_low():
    steps = torch.arange(32.0).double()
    for wave, share in ((torch.cos(torch.pi * steps), 0), (torch.cos(steps / 10), 1)):
        x = wave.expand(1, 1, 32, 32)
        low = bands(x)[0]
        kept = (low.square().mean() / x.square().mean()).sqrt()
        assert abs(kept - share) < 0.05


def test_weights_of_a_channel_sum_to_one():
    select = ChannelSelection(7).double()
    low, high = torch.rand(2, 3, 7, 4, 5).double()
    weights = select.weights(low, high)
    assert weights.shape == (2, 3, 7)
    assert_allclose(weights.sum(0).detach(), np.ones((3, 7)))
    inner = (low + high).mean((2, 3)) @ select.squeeze.weight.T + select.squeeze.bias
    scores = [inner @ each.weight.T + each.bias for each in select.excite]
    share = torch.sigmoid(scores[0] - scores[1])[..., None, None]
    first, second = select(low, high)
    assert_allclose(first.detach(), (share * low).detach())
    assert_allclose(second.detach(), ((1 - share) * high).detach())


def test_without_a_choice_there_are_two_halved_networks():
    generator = TwoBandGenerator((2, 8, 8), 3).double().eval()
    for select in generator.select:
        for layer in select.excite:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    low, high = torch.rand(2, 4, 2, 8, 8).double()
    for one, network, made in zip(
        (low, high), (generator.low, generator.high), generator(low, high), strict=True
    ):
        seen = []
        for layer in network.down:
            one = layer(one) / 2
            seen.append(one)
        assert_allclose(network.rise(seen).detach(), made.detach())


def ocrgan(size=(16, 16), **others):
    given = {"channels": 2, "adversarial_weight": 0.7, "error_weight": 5.0}
    given |= {"feature_weight": 0.4, "score_weight": 0.9, **others}
    net = OCRGANNetwork((2, *size), **given).double()
    net.bound.low.fill_(-1.0)
    net.bound.high.fill_(1.0)
    return net


def test_the_selection_is_trained_and_saved():
    X = pictures(12)
    detector = OCRGAN(channels=2, max_epochs=1, random_state=0).fit(X)
    state = detector.net_.state_dict()
    names = [name for name in state if name.startswith("generator.select.")]
    assert len(names) == 6 * len(detector.net_.generator.select)
    further = detector.set_params(max_epochs=3).fit(X).net_.state_dict()
    for name in names:
        moved = not torch.equal(state[name], further[name])
        assert moved, name
    assert_array_equal(detector.score_samples(X), detector.score_samples(X))


def test_errors_and_features_count_as_they_are_weighed():
    net, x = ocrgan().eval(), torch.rand(5, 512).double()
    errors, anomaly = net.both(x)
    given = 2 * x.view(5, 2, 16, 16) - 1
    low, high = net.generator(*bands(given))
    made = low.tanh() + 2 * high.tanh()
    squares = (given - made).square()
    gap = (net.critic(given)[1] - net.critic(made)[1]).square().mean(1)
    expected = 0.9 * squares.flatten(1).mean(1) + 0.1 * gap
    assert_allclose(errors.detach(), squares.mean(1).detach())
    assert_allclose(anomaly.detach(), expected.detach())
    net.share = 1
    assert_allclose(net.anomaly(x).detach(), errors.mean((1, 2)).detach())


def test_the_critic_is_shown_pasted_pictures_as_fake():
    net, x = ocrgan(), torch.rand(6, 512).double()
    shown, critic = [], net.critic
    critic.register_forward_hook(lambda module, given, out: shown.append(given[0]))
    _, loss = next(net.updates("fit", x, None))
    real, made, pasted = shown
    assert_allclose(real, 2 * x.view(6, 2, 16, 16) - 1)
    share = (pasted == real).double().mean()
    assert 0.6 < share < 0.99
    bce, one = F.binary_cross_entropy_with_logits, torch.ones(6).double()
    (first, target), (second, features), (third, _) = map(critic, (real, made, pasted))
    expected = bce(first, one) + bce(second, 0 * one) + bce(third, 0 * one)
    expected = expected + 0.4 * (features - target).square().mean()
    assert_allclose(loss.item(), expected.item())


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_described_by_a_hundred_numbers(size):
    logits, features = EncoderCritic((2, *size), 3)(torch.rand(4, 2, *size))
    assert (logits.shape, features.shape) == ((4,), (4, 100))
    assert_array_equal(bands(torch.rand(1, 2, *size))[0].shape, (1, 2, *size))


# ------------------------------------------------------------------------------ AnoSeg


def test_places_are_channels():
    x = torch.rand(2, 3, 3, 5)
    found = with_places(x)
    assert_array_equal(found[:, :3], x)
    rows, columns = np.mgrid[-1:1:3j, -1:1:5j]
    assert_allclose(found[1, 3], rows, atol=1e-7)
    assert_allclose(found[0, 4], columns, atol=1e-7)
    assert_array_equal(with_places(torch.rand(1, 1, 1, 1))[0, 1:, 0, 0], [0, 0])


class Places(nn.Module):
    """Marks what is bright on the right, and makes nothing."""

    def forward(self, x):
        return torch.cat([x[:, :1] * 0, x[:, :1] * x[:, 2:]], 1)


def test_the_same_dot_is_judged_by_its_place():
    net = AnoSegNetwork((1, 9, 9), 2, 0.5, 0.01, 1.0).double()
    net.generator = Places()
    x = torch.zeros(2, 1, 9, 9).double()
    x[0, 0, 4, 1] = x[1, 0, 4, 7] = 1.0
    left, right = net.map(x.flatten(1))
    assert (left[4, 1], right[4, 7]) == (-0.75, 0.75)


@pytest.mark.parametrize("size", SIZES)
def test_pieces_are_marked_where_pixels_differ(size):
    low, high = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    x = torch.rand(60, 3, *size)
    seen, mask = HardAugmentation((3, *size))(x, low, high)
    assert_array_equal(mask, (seen != x).any(1))
    assert ((seen >= 0) & (seen <= 1)).all()
    shares = mask.double().mean((1, 2))
    assert shares.max() > 0
    if min(size) > 10:
        assert 0.005 < shares.mean() < 0.12  # scars are small
        assert shares.max() <= 0.16
    flat = torch.full((5, 3, *size), 0.5)
    still = HardAugmentation((3, *size), 0.0)(flat, low, high)
    assert not still[1].any()


def test_pictures_are_changed_beyond_what_is_normal():
    augmentation = HardAugmentation((1, 8, 8), 0.0)
    x = torch.arange(64.0).view(1, 1, 8, 8).expand(400, 1, 8, 8)
    found = {tuple(one.flatten().tolist()) for one in augmentation.changed(x)}
    assert tuple(x[0].flatten().tolist()) not in found
    for turn in (1, 2, 3):
        assert tuple(x[0, 0].rot90(turn).flatten().tolist()) in found
    assert len(found) > 15  # orders of quarters


def anoseg():
    net = AnoSegNetwork((2, 8, 8), 2, 0.5, 0.3, 0.6).double()
    net.bound.low.fill_(0.0)
    net.bound.high.fill_(1.0)
    return net


def test_it_loses_by_pictures_pieces_and_the_critic():
    net, x = anoseg().eval(), torch.rand(6, 128).double()
    shown, seen = [], []
    net.critic.register_forward_hook(lambda module, given, out: shown.append(given[0]))
    net.generator.register_forward_hook(
        lambda module, given, out: seen.append((given[0], out))
    )
    (_, critic), (_, generator) = net.updates("fit", x, None)
    given = x.view(6, 2, 8, 8)
    ((looked, out),) = seen
    pasted, odds = looked[6:, :2], out[:, 2]
    assert_array_equal(looked[:6, :2], given)
    assert_array_equal(looked, with_places(looked[:, :2]))
    mask = torch.cat([torch.zeros(6, 8, 8), (pasted != given).any(1)]).double()
    assert 0 < mask.mean() < 0.2
    made = (1 + out[:, :2].tanh()) / 2
    real = torch.cat([given, torch.zeros(6, 1, 8, 8)], 1)
    fake = torch.cat([made[:6], odds[:6].sigmoid()[:, None]], 1)
    for one, expected in zip(shown, (real, fake, fake), strict=True):
        assert_allclose(one.detach(), expected.detach())
    bce = F.binary_cross_entropy_with_logits
    first, second = net.critic(real)[0], net.critic(fake)[0]
    expected = bce(first, torch.ones_like(first)) + bce(second, torch.zeros_like(first))
    assert_allclose(critic.item(), expected.item())
    expected = (made - torch.cat([given, given])).abs().mean()
    halves = bce(odds[mask > 0], mask[mask > 0]), bce(odds[mask == 0], mask[mask == 0])
    expected = expected + 0.6 * sum(halves) / 2
    expected = expected + 0.3 * bce(second, torch.ones_like(second))
    assert_allclose(generator.item(), expected.item())


def test_it_learns_to_mark_what_was_pasted():
    rng = np.random.default_rng(0)
    stripes = 0.5 + 0.2 * np.sin(np.arange(16) / 2)
    X, new = stripes + rng.normal(0, 0.01, size=(2, 32, 16, 16))
    settings = {"channels": 8, "max_epochs": 60, "lr": 0.002, "random_state": 0}
    net = AnoSeg(**settings, contamination=0.1).fit(X).net_.double()
    seen, mask = net.altered(torch.tensor(new)[:, None])
    found = net.map(seen.flatten(1))
    inside, outside = found[mask[:, 0] > 0], found[mask[:, 0] == 0]
    auc = (inside[:, None] > outside[None, ::50]).double().mean()
    assert auc > 0.75
