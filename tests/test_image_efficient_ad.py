"""EfficientAD: its losses, its maps and their scale, and what its teacher knows."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skad._training._held_out import held_samples
from skad.image import EfficientAD, PictureFiles

SMALL = {"channels": 6, "width": 4, "latent_size": 8, "random_state": 0}
QUICK = EfficientAD(**SMALL, teacher_epochs=2, max_epochs=2, batch_size=4, lr=0.003)


def pictures(n, seed=0, size=(32, 32)):
    """Return pictures (n, h, w) of stripes, a little different each."""
    rng = np.random.default_rng(seed)
    stripes = 0.5 + 0.2 * np.sin(np.arange(size[1]) / 2)
    return stripes + rng.normal(0, 0.01, size=(n, *size))


@pytest.fixture(scope="module")
def good():
    return pictures(20)


@pytest.fixture(scope="module")
def others():
    return np.random.default_rng(5).uniform(size=(12, 32, 32))


@pytest.fixture(scope="module")
def trained(good):
    return clone(QUICK).fit(good)


def samples(detector, X):
    return detector._describe(torch.tensor(X)[..., None])


def said_of(network, x):
    """Return what teacher, student and autoencoder say, arrays (b, c, gh, gw)."""
    x = x.reshape(-1, 1, 32, 32).expand(-1, 3, -1, -1)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    ready = ((x - mean) / std).double()
    both = (True, True)  # sides of less than 64 pixels
    teacher = network.teacher(ready, both).numpy()
    scale = [
        each.numpy()[:, None, None] for each in (network.scale.mean, network.scale.std)
    ]
    student = network.student(ready, both).numpy()
    rebuilt = network.autoencoder(ready).numpy()
    return (teacher - scale[0]) / scale[1], student[:, :6], student[:, 6:], rebuilt


def test_the_loss_is_the_papers(trained, good, others):
    network = clone(QUICK).set_params(hard_quantile=0.9).fit(good).net_.double()
    x = torch.cat([samples(trained, good[:3]), samples(trained, others[:2])])
    y = torch.tensor([1, 0, 1, -1, -1])
    teacher, student, second, rebuilt = said_of(network, x)
    hard = []
    for d in (teacher[:3] - student[:3]) ** 2:
        hard.append(np.mean([v for v in d.ravel() if v >= np.quantile(d, 0.9)]))
    own = np.mean(hard)
    own += np.mean((teacher[:3] - rebuilt[:3]) ** 2)
    own += np.mean((rebuilt[:3] - second[:3]) ** 2)
    assert_allclose(network.loss(x[:3], None).item(), own, rtol=1e-6)
    expected = own + np.mean(student[3:] ** 2)
    assert_allclose(network.loss(x, y).item(), expected, rtol=1e-6)
    network.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert network.loss(x, y).item() != network.loss(x, y).item()  # other colours


def test_the_last_term_teaches_the_autoencoder_too(trained, good):
    network = clone(QUICK).fit(good).net_.double().requires_grad_(True)
    network.zero_grad(set_to_none=True)
    x = samples(trained, good[:2])
    network.loss(x, None).backward()
    pictures = x.view(-1, 1, 32, 32)
    rebuilt = network.autoencoder(network._input(pictures))
    second = network.learned(pictures)[1]
    own = (network.taught(pictures) - rebuilt).square().mean()
    own = own + (rebuilt - second).square().mean()
    weights = list(network.autoencoder.parameters())
    for weight, expected in zip(
        weights, torch.autograd.grad(own, weights), strict=True
    ):
        assert_allclose(weight.grad, expected, rtol=1e-9, atol=1e-15)
    assert any(weight.grad.abs().sum() > 0 for weight in network.student.parameters())
    assert all(weight.grad is None for weight in network.teacher.parameters())


def test_maps_are_on_the_scale_of_held_out_pictures(trained, good):
    network = clone(trained).fit(good).net_.double()
    held, _ = trained._split(20, None)
    assert trained.n_held_out_ == len(held) == 5
    whole = []
    for each in (good[held], pictures(3, seed=7)):
        teacher, student, second, rebuilt = said_of(network, samples(trained, each))
        whole.append(
            [((teacher - student) ** 2).mean(1), ((rebuilt - second) ** 2).mean(1)]
        )
    total = 0
    for calm, new in zip(*whole, strict=True):
        low, high = np.quantile(calm, [0.9, 0.995])
        on_scale = 0.1 * (calm - low) / (high - low)
        assert_allclose(np.quantile(on_scale, [0.9, 0.995]), [0, 0.1], atol=1e-12)
        total = total + 0.1 * (new - low) / (high - low) / 2
    found = network.map(samples(trained, pictures(3, seed=7))).numpy()
    assert_allclose(found, total, rtol=1e-4, atol=1e-4)
    wide = torch.nn.functional.interpolate(
        torch.tensor(total)[:, None], (32, 32), mode="bilinear"
    )
    maps = trained.transform(pictures(3, seed=7))
    assert_allclose(maps, wide[:, 0], rtol=1e-4, atol=1e-4)
    scores = trained.score_samples(pictures(3, seed=7))
    assert_allclose(-scores, maps.max(axis=(1, 2)))


def test_a_number_as_contamination_holds_pictures_out_too(trained, good):
    other = clone(QUICK).set_params(contamination=0.1).fit(good)
    assert other.n_held_out_ == 5
    assert_array_equal(other.score_samples(good), trained.score_samples(good))
    assert (other.predict(good) == -1).sum() == 2


def test_the_scale_and_offset_of_a_teachers_channels_change_nothing(trained, good):
    x = samples(trained, good)
    network = clone(QUICK).fit(good).net_.double()
    before = network.map(x)
    last = network.teacher.convolutions[-1]
    factor = torch.arange(1.0, 7.0).double()
    last.weight.data *= factor[:, None, None, None]
    last.bias.data = last.bias * factor + 30
    assert (network.map(x) - before).abs().max() > 1
    kept = torch.tensor(trained._split(20, None)[1])
    network.begin("student", lambda: [(x[kept], None)])
    assert_allclose(network.map(x), before, rtol=1e-4, atol=1e-4)


def test_the_student_is_kept_from_knowing_the_teacher_elsewhere(trained, good, others):
    longer = clone(QUICK).set_params(
        teacher=trained.net_.teacher.state_dict(), max_epochs=30
    )
    plain = clone(longer).fit(good)
    known = clone(longer).fit(good, X_outliers=others)
    assert known.n_samples_seen_ == 32
    x = samples(plain, others).view(-1, 1, 32, 32)
    said = [
        float(each.net_.double().learned(x)[0].square().mean())
        for each in (plain, known)
    ]
    assert said[1] < 0.6 * said[0]


def test_other_pictures_are_those_labelled_so(good, others):
    joined, y = np.concatenate([good, others]), np.repeat([1, -1], [20, 12])
    expected = clone(QUICK).fit(joined, y)
    assert expected.n_held_out_ == 5
    for given in (others, lambda: others, torch.tensor(others)):
        found = clone(QUICK).fit(good, X_outliers=given)
        assert_array_equal(found.score_samples(good), expected.score_samples(good))
    tensor = clone(QUICK).fit(torch.tensor(good), X_outliers=others)
    scores = tensor.score_samples(torch.tensor(good))
    assert_allclose(scores, expected.score_samples(good), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"X_outliers cannot be used: .* expected"):
        clone(QUICK).fit(good, X_outliers=others[:, :16])


def test_other_pictures_may_be_files_beside_files_or_arrays(tmp_path, good, others):
    image = pytest.importorskip("PIL.Image")
    paths = []
    for i, each in enumerate([*good, *others]):
        paths.append(tmp_path / f"{i}.png")
        image.fromarray((255 * each.clip(0, 1)).astype(np.uint8)).save(paths[-1])
    files = PictureFiles(paths[:20]), PictureFiles(paths[20:])
    arrays = [np.asarray(each) for each in files]
    expected = clone(QUICK).fit(arrays[0], X_outliers=arrays[1])
    scores = expected.score_samples(arrays[0])
    for one, two in (files, (files[0], arrays[1]), (arrays[0], files[1])):
        found = clone(QUICK).fit(one, X_outliers=two)
        assert_array_equal(found.score_samples(arrays[0]), scores)
    joined = files[0].joined(files[1])
    assert joined.shape == (32, 32, 32, 1)
    assert_array_equal(joined[18:22], np.concatenate(arrays)[18:22])
    assert len(files[0]) == 20


def test_the_teacher_learns_what_the_backbone_says(good, others):
    detector = clone(QUICK).set_params(teacher_epochs=30, max_epochs=1, batch_size=2)
    detector.fit(good, X_outliers=others)
    losses = [
        row["train_loss"] for row in detector.history_ if row["phase"] == "teacher"
    ]
    assert len(losses) == 30
    assert losses[0] > 0.8
    assert losses[-1] < 0.6 * losses[0]
    assert detector.net_.describe is None
    # features (b, gh, gw, d) in groups of channels, on the teacher's grid
    network = clone(QUICK).fit(good).net_
    network.describe = lambda x: torch.arange(12.0).expand(len(x), 4, 4, 12)
    found = network._described(torch.zeros(2, 1, 32, 32))
    assert found.shape == (2, 6, 8, 8)
    assert_allclose(found[1, :, 3, 3], [0.5, 2.5, 4.5, 6.5, 8.5, 10.5], rtol=1e-6)


def test_a_teacher_may_come_from_a_file(tmp_path, trained, good):
    state = trained.net_.teacher.state_dict()
    numbers = iter([0, 0, 3, 3, 6, 6, 8, 8])  # as in a torch.nn.Sequential
    path = tmp_path / "teacher_small.pth"
    torch.save({f"{next(numbers)}.{n.split('.')[-1]}": state[n] for n in state}, path)
    for teacher in (path, str(path), state):
        found = clone(QUICK).set_params(teacher=teacher).fit(good)
        assert {row["phase"] for row in found.history_} == {"student"}
        for name, value in found.net_.teacher.state_dict().items():
            assert_array_equal(value, state[name])
    with pytest.raises(ValueError, match="do not fit the teacher: 2 arrays of another"):
        clone(QUICK).set_params(teacher=path, channels=7).fit(good)
    with pytest.raises(ValueError, match="do not fit the teacher"):
        clone(QUICK).set_params(teacher=path, size="medium").fit(good)
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        clone(QUICK).set_params(teacher="nowhere.pth").fit(good)


@pytest.mark.parametrize("n", [30, 150])
def test_held_out_pictures_are_scored_by_the_scale_of_the_others(n):
    """Each by that of all others, or in twenty parts where there are more."""
    X = pictures(n, size=(36, 36))
    detector = clone(QUICK).set_params(teacher_epochs=0, max_epochs=1, random_state=0)
    detector._keeps_honest = True
    detector.fit(X)
    held = held_samples(n, detector.validation_fraction, at_least=5)
    network = copy.deepcopy(detector.net_)
    known = network.calibration.low.clone()
    with torch.no_grad():
        x = samples(detector, X[held].astype(np.float32))
        raw = network.raw_maps(x)
        expected = np.empty(len(held))
        parts = min(20, len(held))
        assert (len(held) > 20) == (n > 100)
        for i in range(parts):
            own = np.arange(len(held)) % parts == i
            network.calibration.learn([raw[:, torch.tensor(~own)]])
            expected[own] = detector._pool(network.map(x[torch.tensor(own)]))
    assert_allclose(detector._honest_, expected, rtol=1e-5)
    assert_array_equal(detector.net_.calibration.low, known)  # as it was
    seen = -detector.score_samples(X[held])
    assert np.abs(detector._honest_ / seen - 1).max() > 1e-3


def test_the_border_of_the_map_repeats_what_is_inside():
    X = pictures(6, size=(72, 40))
    detector = clone(QUICK).set_params(teacher_epochs=1, max_epochs=1).fit(X)
    network = detector.net_
    assert network.padded == (False, True)
    with torch.no_grad():
        maps = network.map(samples(detector, X.astype(np.float32)))
        raw = network.raw_maps(torch.tensor(X).flatten(1).float())
    assert raw.shape == (2, 6, 10, 10)
    assert maps.shape == (6, 18, 10)
    for i in range(4):
        assert_array_equal(maps[:, i], maps[:, 4])
        assert_array_equal(maps[:, -1 - i], maps[:, -5])
    assert_allclose(maps[:, 4:-4], network.calibration(raw).mean(0), rtol=1e-5)


def test_a_spot_is_where_the_map_says_without_zeros_around():
    rng = np.random.default_rng(0)
    X = 0.5 + 0.05 * rng.normal(size=(16, 96, 96))
    spot = X[:1].copy()
    spot[0, 60:68, 28:36] = 1
    detector = clone(QUICK).set_params(max_epochs=4).fit(X)
    row, column = np.unravel_index(detector.transform(spot)[0].argmax(), (96, 96))
    assert abs(row - 64) < 16
    assert abs(column - 32) < 16
    assert detector.predict(spot) == [-1]


def test_the_last_twentieth_has_a_tenth_of_the_rate(good):
    from skorch.callbacks import Callback

    class Rates(Callback):
        seen = []

        def on_epoch_begin(self, net, **others):
            self.seen.append(net.optimizer_.param_groups[0]["lr"])

    Rates.seen.clear()
    detector = clone(QUICK).set_params(
        teacher_epochs=2, max_epochs=20, callbacks=[Rates()], batch_size=20
    )
    detector.fit(good)
    assert_allclose(Rates.seen, [0.003] * 21 + [0.0003])


def test_a_warm_start_keeps_the_teacher(good):
    detector = clone(QUICK).set_params(warm_start=True).fit(good)
    before = detector.net_.teacher.state_dict()
    again = detector.fit(good)
    assert [row["phase"] for row in again.history_] == ["teacher"] * 2 + ["student"] * 4
    for name, value in again.net_.teacher.state_dict().items():
        assert_array_equal(value, before[name])


def test_the_medium_size_is_the_other_network(trained, good):
    detector = clone(QUICK).set_params(size="medium", max_epochs=1).fit(good)
    for name, out in (("teacher", 6), ("student", 12)):
        parts = getattr(detector.net_, name).convolutions
        assert [part.out_channels for part in parts] == [4, 8, 8, 8, out, out]
        assert [part.kernel_size[0] for part in parts] == [4, 4, 1, 3, 4, 1]
    assert [p.out_channels for p in trained.net_.student.convolutions] == [4, 8, 8, 12]
    assert detector.transform(good[:2]).shape == (2, 32, 32)
