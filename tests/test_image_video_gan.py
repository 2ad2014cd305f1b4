"""VideoGAN: two generators, their losses, what is no pair, and what training tells."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.embedding import PatchEmbedding
from skad.image import PictureFiles, VideoGAN
from skad.image.restoration._video_gan import VideoGANNetwork

SIZE, SIDE, SPEED = 24, 6, 0.75
PLAIN = np.ones((SIDE, SIDE))
CHECKED = np.indices((SIDE, SIDE)).sum(0) % 2 * 0.5 + 0.5


class Pixels(nn.Module):
    """A teacher whose two layers are the picture and its halves in size."""

    def forward(self, x):
        return [x, F.avg_pool2d(x, 2)]


def net(n_frame=1, n_motion=1, size=(SIZE, SIZE), **others):
    """Return a network in evaluation mode, in float64, of pictures in 0..1."""
    given = {"channels": 2, "adversarial_weight": 0.7, "error_weight": 3.0}
    given |= {"dropout": 0.0, "motion_weight": 2.0, "measure": "generators", **others}
    shape = n_frame + n_motion, *size
    made = VideoGANNetwork(shape, Pixels(), n_frame, **given).double().eval()
    for each in made.both:
        each.bound.low.fill_(-1.0)
        each.bound.high.fill_(1.0)
    return made


# ---------------------------------------------------------------------------- an oracle


class Lookup(nn.Module):
    """Finds the square in one half of pairs, and draws what is normal in the other."""

    def __init__(self, at_rest, normal):
        super().__init__()
        self.at_rest, self.normal = at_rest, torch.as_tensor(normal)

    def forward(self, x):
        made = torch.full_like(x, -1.0 if self.at_rest == "motion" else 0.0)
        rest = 0.0 if self.at_rest == "motion" else -1.0
        for one, seen in zip(made, x, strict=True):
            rows, columns = torch.nonzero(seen[0] != rest, as_tuple=True)
            top, left = rows.min(), columns.min()
            one[0, top : top + SIDE, left : left + SIDE] = self.normal
        return (made.clamp(-1 + 1e-9, 1 - 1e-9)).atanh()  # bounds are a tanh


def scene(look=PLAIN, speed=SPEED, top=6, left=8):
    """Return a pair (2, h, w): a square, and the speed of its pixels, .5 at rest."""
    pair = np.zeros((2, SIZE, SIZE))
    pair[1] = 0.5
    place = np.s_[top : top + SIDE, left : left + SIDE]
    pair[0][place], pair[1][place] = look, speed
    return pair


def oracle(**others):
    made = net(**others)
    made.to_frame.generator = Lookup("motion", 2 * PLAIN - 1)
    made.to_motion.generator = Lookup("frame", 2 * SPEED - 1 + 0 * PLAIN)
    return made


def differences(made, *pairs):
    x = torch.as_tensor(np.stack(pairs)).flatten(1)
    return made.differences(x).detach().numpy()


def test_a_wrong_speed_is_in_the_motion_and_a_wrong_look_in_the_frame():
    made = oracle()
    normal, fast, other = scene(), scene(speed=1.0), scene(look=CHECKED)
    inside = scene()[0] > 0
    looks, moves = differences(made, normal, fast, other)
    assert_allclose(looks[0], 0, atol=1e-8)
    assert_allclose(moves[0], 0, atol=1e-8)
    assert_allclose(looks[1], 0, atol=1e-8)
    assert_allclose(moves[1], np.where(inside, 0.5, 0), atol=1e-8)
    assert_allclose(moves[2], 0, atol=1e-8)
    assert looks[2][inside].mean() > 0.1
    # the coarse layer is interpolated, by a pixel to all sides
    near = scene()[0] * 0
    near[5 : 6 + SIDE + 1, 7 : 8 + SIDE + 1] = 1
    assert_allclose(looks[2][near == 0], 0, atol=1e-8)


def test_the_map_is_the_sum_of_both_by_their_largest_in_training():
    made = oracle(motion_weight=5.0)
    faint, fast = scene(look=0.9 * PLAIN), scene(speed=0.8)
    train = torch.as_tensor(np.stack([scene(), faint, fast])).flatten(1)
    made.finish(lambda: ((x[None], None) for x in train))
    # frames in 0..1, motion in -1..1 as networks take it
    assert_allclose(made.largest, [0.1, 0.1], rtol=1e-5)
    both = scene(look=0.8 * PLAIN, speed=1.0)
    found = made.map(torch.as_tensor(both[None]).flatten(1))[0].numpy()
    middle = np.s_[8:10, 10:12]
    assert_allclose(found[middle], 0.2 / 0.1 + 5 * 0.5 / 0.1, rtol=1e-5)
    assert_allclose(found[:3], 0, atol=1e-6)


def test_a_difference_is_a_mean_over_channels_and_layers():
    made, x = net(3, 2, (8, 10)), torch.rand(4, 5 * 80).double()
    pair = 2 * x.view(4, 5, 8, 10) - 1
    frame, motion = pair[:, :3], pair[:, 3:]
    other = made.to_frame.generator(motion).tanh()
    fine = ((frame - other).abs() / 2).mean(1)
    coarse = (F.avg_pool2d(frame - other, 2).abs() / 2).mean(1, keepdim=True)
    coarse = F.interpolate(coarse, (8, 10), mode="bilinear")[:, 0]
    moves = (motion - made.to_motion.generator(frame).tanh()).abs().mean(1)
    made.largest.copy_(torch.tensor([0.5, 4.0]))
    found = made.differences(x)
    assert_allclose(found[0].detach(), ((fine + coarse) / 2).detach())
    assert_allclose(found[1].detach(), moves.detach())
    expected = (fine + coarse) + 2 * moves / 4
    assert_allclose(made.map(x).detach(), expected.detach())
    seen, rebuilt = made.rebuilt(x)
    assert_allclose(seen, pair)
    assert_allclose(rebuilt[:, :3].detach(), other.detach())


# ----------------------------------------------------------------------------- training


def test_losses_are_those_of_pix2pix():
    made, x = net(2, 1, (16, 16)), torch.rand(5, 3 * 256).double()
    pair = 2 * x.view(5, 3, 16, 16) - 1
    halves = {"frame": pair[:, :2], "motion": pair[:, 2:]}
    (one, critics), (other, generators) = made.updates("fit", x, None)
    assert (one, other) == ("critic", "generator")
    bce, judged, learned = F.binary_cross_entropy_with_logits, 0.0, 0.0
    for each, given, wanted in (
        (made.to_frame, "motion", "frame"),
        (made.to_motion, "frame", "motion"),
    ):
        given, wanted = halves[given], halves[wanted]
        new = each.generator(given).tanh()
        real = each.critic(torch.cat([given, wanted], 1))[0]
        fake = each.critic(torch.cat([given, new], 1))[0]
        ones = torch.ones_like(real)
        judged = judged + bce(real, ones) + bce(fake, 0 * ones)
        learned = learned + 3 * (new - wanted).abs().mean() + 0.7 * bce(fake, ones)
    assert_allclose(critics.item(), judged.item())
    assert_allclose(generators.item(), learned.item())
    groups = made.groups("fit")
    for name, weights in groups.items():
        parts = [getattr(each, name).parameters() for each in made.both]
        assert set(weights) == {weight for part in parts for weight in part}


def test_critics_doubt_patches_of_pairs():
    made, x = (
        net(1, 2, (32, 32), measure="discriminators"),
        torch.rand(3, 3072).double(),
    )
    pair = 2 * x.view(3, 3, 32, 32) - 1
    swapped = torch.cat([pair[:, 1:], pair[:, :1]], 1)
    doubts = [
        1 / (1 + made.to_frame.critic(swapped)[0].exp()),
        1 / (1 + made.to_motion.critic(pair)[0].exp()),
    ]
    expected = sum(F.interpolate(each, (32, 32), mode="bilinear") for each in doubts)
    assert_allclose(made.map(x).detach(), expected[:, 0].detach())


def test_dropout_is_for_training():
    made, x = net(dropout=0.5), torch.rand(2, 2 * SIZE**2).double()
    assert torch.equal(made.map(x), made.map(x))
    made.train()
    one, other = (made.to_motion.loss(x, None).item() for _ in range(2))
    assert one != other


# ------------------------------------------------------------------------ the estimator

SMALL = {"channels": 8, "batch_size": 8, "max_epochs": 15, "lr": 2e-3}
SMALL |= {"contamination": 0.1, "random_state": 0}


def video(rng, speed=1, look=PLAIN, n_frames=9):
    """Return pairs (n, h, w, 2) of frames and the differences to the next ones."""
    frames, top, left = np.zeros((n_frames, 32, 32)), *rng.integers(2, 20, size=2)
    for i, frame in enumerate(frames):
        columns = (left + i * speed + np.arange(SIDE)) % 32
        frame[top : top + SIDE, columns] = look
    frames += rng.normal(0, 0.01, frames.shape)
    motion = (1 + np.diff(frames, axis=0)) / 2
    return np.stack([frames[:-1], motion], axis=-1).astype(np.float32)


def videos(rng, n, **others):
    return np.concatenate([video(rng, **others) for _ in range(n)])


def test_training_tells_other_speeds_and_looks():
    rng = np.random.default_rng(0)
    train, normal = videos(rng, 8), videos(rng, 3)
    fast, other = videos(rng, 3, speed=3), videos(rng, 3, look=CHECKED)

    def told(detector):
        usual = detector.score_samples(normal)
        labels = np.repeat([1, 0], len(usual))
        return [
            roc_auc_score(labels, np.concatenate([usual, detector.score_samples(X)]))
            for X in (fast, other)
        ]

    with pytest.warns(UserWarning, match="no better than their mean"):
        untrained = VideoGAN(**{**SMALL, "max_epochs": 1, "lr": 1e-12}).fit(train)
    trained = VideoGAN(**SMALL).fit(train)
    assert min(told(trained)) > 0.85
    for before, after in zip(told(untrained), told(trained), strict=True):
        assert after > before + 0.1
    scores = trained.score_samples(normal)
    assert_array_equal(scores, trained.score_samples(normal))
    assert_allclose(-scores, trained.transform(normal).max((1, 2)))


def test_what_scores_divide_by_is_of_the_training_pairs():
    train = videos(np.random.default_rng(0), 2)
    detector = VideoGAN(**{**SMALL, "max_epochs": 2}).fit(train)
    made, x = detector.net_, torch.as_tensor(train).permute(0, 3, 1, 2).flatten(1)
    with torch.no_grad():
        largest = made.differences(x).amax((1, 2, 3))
    assert_allclose(made.largest, largest, rtol=1e-4)
    assert (made.largest != 1).all()
    still = np.zeros((4, 8, 8, 2))
    with pytest.warns(UserWarning, match="tells none of them from the others"):
        detector = VideoGAN(**{**SMALL, "max_epochs": 2}).fit(still)
    assert np.isfinite(detector.score_samples(still)).all()


def test_frames_alone_are_described():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(6, 16, 20, 5)).astype(np.float32)
    short = {**SMALL, "channels": 2, "max_epochs": 1}
    detector = VideoGAN(**short, frame_channels=3, image_size=12).fit(X)
    assert detector.embedding_.image_shape_ == (16, 20, 3)
    assert detector.net_.to_motion.generator.down[0][0].in_channels == 3
    assert detector.net_.to_frame.generator.down[0][0].in_channels == 2
    assert detector.transform(X).shape == (6, 16, 20)
    rows = VideoGAN(
        **short, frame_channels=3, image_size=12, image_shape=(16, 20, 5)
    ).fit(X.reshape(6, -1))
    assert_allclose(
        rows.score_samples(X.reshape(6, -1)), detector.score_samples(X), rtol=1e-6
    )
    own = PatchEmbedding(layers=["scale1"], image_size=12)
    given = VideoGAN(**short, frame_channels=3, embedding=own).fit(X)
    assert given.embedding_.layers_ == ("scale1",)
    resnet = VideoGAN(
        **short, frame_channels=1, backbone="resnet18", weights="random"
    ).fit(X[..., :2])
    assert resnet.embedding_.layers_ == ("layer3",)
    assert resnet.net_.teacher.repeat == 3


def test_what_is_no_pair_is_said(tmp_path):
    from PIL import Image

    X = np.random.default_rng(0).uniform(size=(6, 8, 8))
    with pytest.raises(ValueError, match=r"of 1 channel.*np.stack.*frame_channels"):
        VideoGAN().fit(X)
    with pytest.raises(ValueError, match="of 1 channel"):
        VideoGAN(frame_channels=1).fit(X.reshape(6, 64))
    odd = np.stack([X, X, X], axis=-1)
    with pytest.raises(ValueError, match=r"of 3 channels.*pass frame_channels"):
        VideoGAN().fit(odd)
    with pytest.raises(ValueError, match="frame_channels=3 leaves none of the 3"):
        VideoGAN(frame_channels=3).fit(odd)
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file in files:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8) + 9).save(file)
    with pytest.raises(ValueError, match=r"of 3 channels.*pass frame_channels"):
        VideoGAN().fit(PictureFiles(files))
