"""Students, decoders and discriminators on the features of pictures."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback

from skad._samples import Maps
from skad.embedding._resnet import ResNet
from skad.image import (
    CFA,
    DFR,
    STFPM,
    PictureFiles,
    ReverseDistillation,
    SimpleNet,
    load_folder,
)
from skad.image._trained import split_maps
from skad.image.discriminative._simplenet import truncated_l1
from skad.image.student._reverse_distillation import ReverseDistillationNetwork
from skad.nn.residual import (
    Norm,
    Pyramid,
    Residual,
    direction_distance,
    halvings,
)
from skad.nn.statistics import settle_norms


class Grid(torch.nn.Module):
    """A backbone whose features are those of squares of 4 x 4 pixels, strided."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.first = torch.nn.Conv2d(1, 6, 4, stride=4, bias=False)
        self.second = torch.nn.Conv2d(6, 8, 2, stride=2, bias=False)
        for part in (self.first, self.second):
            part.weight.data = torch.randn(part.weight.shape, generator=draw)

    def forward(self, x):
        return self.second(self.first(x))


GRID = {"backbone": Grid(), "layers": ("first", "second")}
RESNET = {"backbone": "resnet18", "weights": "random"}
SMALL = {"max_epochs": 2, "batch_size": 4, "random_state": 0}
DETECTORS = {
    "stfpm": STFPM(student_channels=(8, 16), **SMALL),
    "reverse": ReverseDistillation(smoothing=0, **SMALL),
    "simplenet": SimpleNet(smoothing=0, hidden_size=32, **SMALL),
    "cfa": CFA(smoothing=0, **SMALL),
}
every_detector = pytest.mark.parametrize(
    "detector", DETECTORS.values(), ids=list(DETECTORS)
)


def pictures(n, seed=0, size=(32, 32)):
    """Return pictures (n, h, w) of stripes, a little different each."""
    rng = np.random.default_rng(seed)
    stripes = 0.5 + 0.2 * np.sin(np.arange(size[1]) / 2)
    return stripes + rng.normal(0, 0.01, size=(n, *size))


@pytest.fixture(scope="module")
def stripes():
    """Twenty normal pictures, five new ones and the same with a bright square."""
    train, normal = pictures(20), pictures(5, seed=1)
    bad = normal.copy()
    bad[:, 8:16, 16:24] = 0.9
    return train, normal, bad


@pytest.fixture(scope="module")
def trained(stripes):
    """Detectors with the papers' rates, trained long enough."""
    epochs = {"stfpm": 12, "reverse": 8, "simplenet": 20, "cfa": 30}
    return {
        name: clone(detector)
        .set_params(max_epochs=epochs[name], hidden_size=256)
        .fit(stripes[0])
        if name == "simplenet"
        else clone(detector).set_params(max_epochs=epochs[name]).fit(stripes[0])
        for name, detector in DETECTORS.items()
    }


def as_batch(X):
    return torch.tensor(X)[..., None]


# --------------------------------------------------------------------------- the blocks


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    shapes=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 24), st.integers(1, 24)),
        min_size=1,
        max_size=4,
    ),
)
def test_students_have_the_maps_of_any_teacher(size, shapes):
    """Grids of one row, of odd sizes, in any order, even larger than the picture."""
    with torch.random.fork_rng(), torch.no_grad():
        pyramid = Pyramid((2, *size), shapes, (4, 8)).eval()
        found = pyramid(torch.zeros(3, 2, *size))
        assert [tuple(each.shape[1:]) for each in found] == shapes
        decoder = ReverseDistillationNetwork(
            shapes, size, (1,) * len(shapes) + (2,), None, True, "places"
        ).eval()
        flat = torch.zeros(3, sum(c * h * w for c, h, w in shapes))
        pairs = decoder.pairs(flat)
        assert len(pairs) == len(shapes)
        assert all(teacher.shape == rebuilt.shape for teacher, rebuilt in pairs)
        assert decoder.map(flat).shape == (3, *size)


@pytest.mark.parametrize("n_blocks", [1, 3])
def test_blocks_of_reverse_distillation(n_blocks, stripes):
    detector = ReverseDistillation(n_blocks=n_blocks, max_epochs=1).fit(stripes[0])
    network = detector.net_
    assert len(network.bottleneck.embedding) == n_blocks
    assert {len(stage) for stage in network.decoder.stages} == {n_blocks}


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_halvings_stop_above_the_target(n, m, k):
    for stride in halvings((n, k), (m, m)):
        n, k = -(-n // stride[0]), -(-k // stride[1])
    for length in (n, k):
        assert length <= m or -(-length // 2) < m


def test_a_single_value_is_normalised_by_what_was_seen():
    norm = Norm(3)
    norm.running_mean += 2
    x = torch.arange(3.0).view(1, 3, 1, 1)
    assert_allclose(norm(x).detach(), x - 2, atol=1e-4)
    assert_allclose(norm.running_mean, 2)
    norm(torch.zeros(2, 3, 1, 1))
    assert_allclose(norm.running_mean, 1.8)


@pytest.mark.parametrize("inner", [None, 4])
def test_blocks_change_size_as_their_stride_says(inner):
    x = torch.zeros(2, 6, 5, 8)
    with torch.random.fork_rng():
        assert Residual(6, 7, (1, 2), inner)(x).shape == (2, 7, 5, 4)
        assert Residual(6, 7, (1, 2), inner, up=True)(x).shape == (2, 7, 5, 16)
        assert isinstance(Residual(6, 6, inner=inner).short, torch.nn.Identity)


def test_distance_of_directions_is_one_minus_the_cosine():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 7, 4, 5))
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found = direction_distance(torch.tensor(a), torch.tensor(b))
    assert_allclose(found, 1 - (a * b).sum(axis=1) / lengths, atol=1e-12)
    assert_array_equal(direction_distance(torch.tensor(a), torch.tensor(a)), 0)
    zero = torch.zeros(1, 3, 2, 2)
    assert_array_equal(direction_distance(zero, zero), 0)


# ---------------------------------------------------------------------- what they share


@every_detector
def test_the_square_is_found_where_it_is(detector, trained, stripes):
    detector = next(d for d in trained.values() if type(d) is type(detector))
    _, normal, bad = stripes
    assert detector.score_samples(bad).max() < detector.score_samples(normal).min()
    for each in detector.transform(bad):
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 5 <= row <= 18
        assert 13 <= column <= 26


@every_detector
def test_the_papers_rates_make_the_loss_small(detector, trained):
    detector = next(d for d in trained.values() if type(d) is type(detector))
    losses = [row["train_loss"] for row in detector.history_]
    assert losses[-1] < (0.85 if isinstance(detector, SimpleNet) else 0.2) * losses[0]


@every_detector
def test_the_score_is_the_largest_value_of_the_map(detector, stripes):
    detector = clone(detector).set_params(smoothing=1.0).fit(stripes[0])
    maps = detector.transform(stripes[2])
    assert maps.shape == stripes[2].shape
    assert_allclose(-detector.score_samples(stripes[2]), maps.max(axis=(1, 2)))


@every_detector
def test_same_seed_same_result(detector, stripes):
    train, _, bad = stripes
    torch.rand(3)  # wherever the global generator is
    first = clone(detector).fit(train).score_samples(bad)
    state = torch.random.get_rng_state()
    assert_array_equal(clone(detector).fit(train).score_samples(bad), first)
    assert_array_equal(torch.random.get_rng_state(), state)
    other = clone(detector).set_params(random_state=1).fit(train).score_samples(bad)
    assert (other != first).any()


# Half of the side of what a value of the map depends on, at most; CFA knows the place.
REACH = {"stfpm": 72, "reverse": 128, "simplenet": 32}


@pytest.mark.parametrize("name", REACH)
def test_a_shift_by_whole_strides_moves_the_map(name):
    reach, inside = REACH[name], 16
    size = 2 * reach + inside + 16
    detector = clone(DETECTORS[name]).set_params(**GRID, max_epochs=1)
    X = np.random.default_rng(0).normal(size=(2, size, size))
    detector.fit(X)
    moved = np.roll(X, (16, 16), axis=(1, 2))
    here = detector.transform(X)[:, reach : reach + inside, reach : reach + inside]
    there = slice(reach + 16, reach + inside + 16)
    found = detector.transform(moved)[:, there, there]
    assert here.std() > 1e-4 * np.abs(here).mean()
    assert_allclose(found, here, rtol=1e-9)
    unmoved = detector.transform(moved)[:, reach : reach + inside, reach:][:, :, :16]
    assert np.abs(unmoved - here).max() > here.std()


@pytest.mark.sampled(3)
@every_detector
@pytest.mark.parametrize("kind", ["uint8", "colour", "tensor", "rows", "one", "row"])
def test_kinds_of_pictures(detector, stripes, kind):
    train = stripes[0][:6]
    detector = clone(detector)
    if kind == "one":
        scores = detector.fit(train[:1]).score_samples(stripes[2])
        assert np.isfinite(scores).all()
    elif kind == "row":  # one row of pixels, one picture: a grid of one place
        detector.fit(train[:1, 0, :2])
        assert detector.transform(train[:3, 0, :2]).shape == (3, 2)
    elif kind == "colour":
        colour = np.stack([train, train[:, ::-1], train[..., ::-1]], axis=3)
        assert detector.fit(colour).transform(colour[:2]).shape == (2, 32, 32)
    elif kind == "uint8":
        grey = (255 * train.clip(0, 1)).astype(np.uint8)
        exact = clone(detector).fit(grey / np.float32(255))
        scores = detector.fit(grey).score_samples(grey)
        expected = exact.score_samples(grey / np.float32(255))
        assert_allclose(scores, expected, rtol=1e-6, atol=1e-12)
    else:
        plain = clone(detector).fit(train)
        if kind == "tensor":
            X = torch.tensor(train)
        else:
            X = train.reshape(6, -1)
            detector.set_params(image_shape=(32, 32))
        maps = detector.fit(X).transform(X)
        assert torch.is_tensor(maps) == (kind == "tensor")
        assert_allclose(maps, plain.transform(train), rtol=1e-6, atol=1e-12)


@every_detector
def test_a_resized_picture_keeps_its_own_map(detector, stripes):
    wide = pictures(6, size=(20, 40))
    detector = clone(detector).set_params(image_size=(16, 24)).fit(wide)
    assert detector.transform(wide).shape == (6, 20, 40)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (STFPM(student_channels=()), r"student_channels=\(\) must be"),
        (STFPM(student_channels=(8, 0.5)), "student_channels"),
        (STFPM(max_epochs=0), "max_epochs"),
        (ReverseDistillation(similarity="cosine"), "similarity"),
        (ReverseDistillation(n_blocks=0), "n_blocks"),
        (SimpleNet(noise=0.0), "noise"),
        (SimpleNet(margin=-1.0), "margin"),
        (SimpleNet(hidden_size=0), "hidden_size"),
        (SimpleNet(adaptor_lr=0.0), "adaptor_lr"),
        (SimpleNet(stop_loss=0.0), "stop_loss"),
        (SimpleNet(neighborhood=2), "neighborhood=2 must be odd"),
        (SimpleNet(backbone="resnet18", layers=("layer9",)), "layer9"),
    ],
)
def test_wrong_parameters(detector, message, stripes):
    with pytest.raises(ValueError, match=message):
        detector.fit(stripes[0])


@every_detector
def test_values_too_large_for_float32_are_refused(detector, stripes):
    large = 1e12 * stripes[0]
    rows = large[:, 0]
    for X in (rows, torch.tensor(rows)):
        with pytest.raises(ValueError, match="too large for a network in float32"):
            clone(detector).fit(X)
    for X in (large, torch.tensor(large)):
        with pytest.raises(ValueError, match=r"pictures are uint8, floats in 0\.\.1"):
            clone(detector).fit(X)


# -------------------------------------------------------- training on a backbone's maps


@every_detector
@pytest.mark.parametrize("patience", [None, 5])
def test_a_fit_in_bounded_memory_is_the_same(detector, stripes, patience, monkeypatch):
    detector = clone(detector).set_params(patience=patience, validation_fraction=0.2)
    # no more pictures at once where nothing is trained: norms know their batches
    monkeypatch.setattr("skad.image._trained._SCORED_ELEMENTS", 1)
    whole = clone(detector).fit(stripes[0])
    asked = []
    taken = Maps.__getitem__

    def record(self, rows):
        found = taken(self, rows)
        asked.append(1 if isinstance(rows, int) else len(found))
        return found

    monkeypatch.setattr(Maps, "__getitem__", record)
    # no batches ahead
    monkeypatch.setattr("skad._training._batches._GATHERED_ELEMENTS", 1)
    with config_context(working_memory=1e-3):
        parts = clone(detector).fit(stripes[0])
    assert sum(asked) > 2 * 15  # both epochs asked for all pictures of theirs
    assert max(asked) <= 4 + 1
    for name, value in whole.net_.state_dict().items():
        assert_allclose(parts.net_.state_dict()[name], value, rtol=2e-3, atol=2e-4)
    if patience is not None:
        assert all(np.isfinite(row["valid_loss"]) for row in parts.history_)


def test_maps_are_those_of_the_pictures_asked_for():
    X = np.arange(24.0).reshape(6, 2, 2, 1)
    maps = Maps(X, lambda x: x.flatten(1))
    assert len(maps) == 6
    assert maps.shape == (6, 4)
    assert maps.nbytes == 6 * 4 * 4
    assert maps[2].tolist() == [8, 9, 10, 11]
    assert maps[torch.tensor([4, 0])][:, 0].tolist() == [16, 0]
    some = maps.subset(torch.tensor([5, 1, 3]))
    assert len(some) == 3
    assert some[1:][:, 0].tolist() == [4, 12]
    assert some[torch.tensor([2, 0])][:, 0].tolist() == [12, 20]
    assert some.subset(torch.tensor([1]))[:][:, 0].tolist() == [4]
    assert maps.float() is maps.to("cpu") is maps


@every_detector
def test_too_few_pictures_for_patience(detector, stripes):
    with pytest.raises(ValueError, match="patience=3 needs 3 pictures"):
        clone(detector).set_params(patience=3).fit(stripes[0][:2])


@every_detector
def test_a_warm_start_goes_on(detector, stripes):
    train = stripes[0]
    detector = clone(detector).set_params(warm_start=True).fit(train)
    embedding, first = detector.embedding_, detector.net_
    losses = [row["train_loss"] for row in detector.history_]
    detector.fit(train)
    assert detector.embedding_ is embedding
    assert detector.net_ is not first
    assert len(detector.history_) == 4
    assert detector.history_[2]["train_loss"] < losses[0]


class Killed(Exception):  # noqa: N818 (no error)
    """Ends a fit as if the machine had."""


class Kill(Callback):
    """Raises in the second epoch, after the first was saved."""

    def on_epoch_begin(self, net, **parameters):
        if len(net.history) == 2:
            raise Killed


@pytest.mark.parametrize("name", DETECTORS)
def test_a_killed_fit_on_files_goes_on(name, stripes, tmp_path):
    from PIL import Image

    paths = []
    for i, picture in enumerate(stripes[0][:8]):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray((255 * picture.clip(0, 1)).astype(np.uint8)).save(paths[-1])
    # a module is known by its weights, in another process as well
    settings = {**GRID} if name == "simplenet" else {}
    whole = clone(DETECTORS[name]).set_params(**settings).fit(paths)
    killed = clone(DETECTORS[name]).set_params(**settings, callbacks=[Kill()])
    killed.set_params(checkpoint=tmp_path / "fit")
    with pytest.raises(Killed):
        killed.fit(paths)
    resumed = clone(killed).set_params(callbacks=None).fit(PictureFiles(paths))
    assert [row["epoch"] for row in resumed.history_] == [1, 2]
    assert_array_equal(resumed.score_samples(paths), whole.score_samples(paths))
    with pytest.raises(ValueError, match="other parameters or other data"):
        clone(killed).set_params(callbacks=None).fit(paths[:5])


def test_scikit_learn_callbacks_see_pictures_and_epochs(stripes):
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="roc_auc")
    y = np.where(np.arange(20) < 15, 1, -1)
    detector = clone(DETECTORS["simplenet"]).set_callbacks(monitor)
    detector.fit(stripes[0], y)
    tasks = {row["task_name"] for row in monitor.get_logs().data}
    assert "fit epochs step" in tasks
    plain = clone(DETECTORS["simplenet"]).fit(stripes[0])
    assert detector.offset_ == plain.offset_


# -------------------------------------------------------------------------------- STFPM


def normalised(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_stfpm_loss_and_map_are_the_papers(stripes):
    detector = clone(DETECTORS["stfpm"]).set_params(**GRID).fit(stripes[0])
    x = detector._describe(as_batch(stripes[2]))
    network = detector.net_.double()
    picture, *teacher = split_maps(x, network.shapes)
    assert [tuple(each.shape[1:]) for each in teacher] == [(6, 8, 8), (8, 4, 4)]
    assert_allclose(picture[:, 0], stripes[2])
    loss, product = 0, 1
    for theirs, own in zip(teacher, network.student(picture), strict=True):
        theirs, own = normalised(theirs.numpy()), normalised(own.numpy())
        places = np.zeros((5, *theirs.shape[2:]))
        for i in range(places.shape[1]):
            for j in range(places.shape[2]):
                rest = theirs[:, :, i, j] - own[:, :, i, j]
                places[:, i, j] = 0.5 * (rest**2).sum(axis=1)
        loss += places.mean(axis=(1, 2)).mean()
        wide = torch.nn.functional.interpolate(
            torch.tensor(places)[:, None], (32, 32), mode="bilinear"
        )
        product = product * wide[:, 0].numpy()
    assert_allclose(float(network.loss(x, None)), loss)
    assert_allclose(detector.transform(stripes[2]), product, rtol=1e-9)


def teach(student, teacher):
    """Give a ResNet with batch norms the weights of one without."""
    known = teacher.state_dict()
    for name, part in student.named_modules():
        if isinstance(part, torch.nn.Conv2d):
            part.weight.data = known[f"{name}.weight"].clone()
        if isinstance(part, torch.nn.BatchNorm2d):
            head, _, last = name.rpartition(".")
            last = last.replace("bn", "conv") if last.startswith("bn") else "0"
            bias = known[".".join(filter(None, (head, last, "bias")))]
            part.weight.data, part.bias.data = torch.ones_like(bias), bias.clone()
            part.running_mean, part.running_var = 0 * bias, 1 - part.eps + 0 * bias


def test_the_map_is_zero_where_the_student_knows_all_that_the_teacher_knows(stripes):
    colour = np.repeat(stripes[2][..., None], 3, axis=3)
    detector = STFPM(**RESNET, **{**SMALL, "max_epochs": 1}).fit(colour)
    student = detector.net_.student
    assert isinstance(student, ResNet)
    assert student.norm
    assert student.layers == ("layer1", "layer2", "layer3")
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in student.modules())
    assert detector.transform(colour).max() > 1e-3
    teach(student, detector.embedding_.backbone_)
    x = detector._describe(as_batch(stripes[2]).expand(-1, -1, -1, 3))
    for distance in detector.net_.double().distances(x):
        assert_allclose(distance, 0, atol=1e-10)
    assert_allclose(detector.transform(colour), 0, atol=1e-20)


# ----------------------------------------------------------------- reverse distillation


@pytest.mark.parametrize("similarity", ["places", "maps"])
def test_reverse_distillation_is_the_papers(similarity, stripes):
    detector = ReverseDistillation(similarity=similarity, smoothing=0, **SMALL, **GRID)
    detector.fit(stripes[0])
    x, network = detector._describe(as_batch(stripes[2])), detector.net_.double()
    loss, total = 0, 0
    for theirs, own in network.pairs(x):
        theirs, own = theirs.numpy(), own.numpy()
        cosines = (normalised(theirs) * normalised(own)).sum(axis=1)
        wide = torch.nn.functional.interpolate(
            torch.tensor(1 - cosines)[:, None], (32, 32), mode="bilinear"
        )
        total = total + wide[:, 0].numpy()
        if similarity == "maps":
            theirs, own = theirs.reshape(5, -1), own.reshape(5, -1)
            cosines = (normalised(theirs) * normalised(own)).sum(axis=1)
        loss += (1 - cosines).mean()
    assert_allclose(float(network.loss(x, None)), loss)
    assert_allclose(detector.transform(stripes[2]), total, rtol=1e-9, atol=1e-12)


class Known(torch.nn.Module):
    """A decoder that is told the answer."""

    def __init__(self, maps):
        super().__init__()
        self.maps = maps

    def forward(self, x):
        return self.maps


def test_the_map_is_zero_where_everything_is_rebuilt(stripes):
    detector = ReverseDistillation(smoothing=0, **SMALL).fit(stripes[0])
    x, network = detector._describe(as_batch(stripes[2])), detector.net_.double()
    assert network.map(x).min() > 0
    network.decoder = Known([3 * teacher for teacher, _ in network.pairs(x)])
    assert_allclose(network.map(x), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "shape", "n_blocks"),
    [
        ("resnet18", (512, 4, 4), [2, 2, 2]),
        ("resnet34", (512, 4, 4), [3, 4, 6]),
        ("wide_resnet50_2", (2048, 4, 4), [3, 4, 6]),
    ],
)
def test_the_decoder_is_the_teacher_turned_around(name, shape, n_blocks):
    """Sizes of the paper's networks, without memory for their weights."""
    detector = ReverseDistillation()
    with torch.device("meta"):
        teacher = ResNet(name, ("layer1", "layer2", "layer3"), norm=False)
        maps = [tuple(m.shape[1:]) for m in teacher(torch.zeros(1, 3, 128, 128))]
        detector._resnet_name = lambda: name
        detector.image_shape_ = (128, 128, 3)
        network = detector._network(maps)
        flat = torch.zeros(2, sum(c * h * w for c, h, w in maps))
        pairs = network.train().pairs(flat)
    assert network.bottleneck.shape == shape
    assert [len(stage) for stage in network.decoder.stages] == n_blocks
    assert [tuple(rebuilt.shape[1:]) for _, rebuilt in pairs] == maps
    inner = network.decoder.stages[0][1].body[0][0].weight.shape
    width = 512 if name.startswith("wide") else 256
    assert inner[0] == width


@pytest.mark.parametrize("cls", [DFR, ReverseDistillation, STFPM])
def test_norms_know_all_training_pictures(cls, stripes):
    """And no average over the last steps, while the weights moved."""
    train = stripes[0][:12]  # one batch, where nothing is trained
    detector = cls(**SMALL, contamination=0.1).fit(train)
    network, seen = copy.deepcopy(detector.net_).train(), {}

    def note(part, inputs):
        x = inputs[0].movedim(1, 0).flatten(1)
        seen[part] = x.mean(1), x.var(1)

    norms = {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, torch.nn.BatchNorm2d)
    }
    for part in norms.values():
        part.register_forward_pre_hook(note)
    network.loss(detector._describe(as_batch(train)).float(), None)
    for name, part in norms.items():
        settled = detector.net_.get_submodule(name)
        assert not settled.training
        assert settled.momentum == 0.1
        mean, variance = seen[part]
        assert_allclose(settled.running_mean, mean.detach(), rtol=1e-4, atol=1e-5)
        assert_allclose(settled.running_var, variance.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cls", [DFR, ReverseDistillation, STFPM])
def test_norms_do_not_depend_on_the_order_of_the_pictures(cls, stripes):
    """Sorted by their light, those of a batch are more alike than those of training."""
    light = np.linspace(0.2, 1, 12)[:, None, None]
    train = stripes[0][:12] * light
    detector = cls(**SMALL, contamination=0.1).fit(train)
    samples = detector._describe(as_batch(train)).float()
    norms = [
        part
        for part in detector.net_.modules()
        if isinstance(part, torch.nn.BatchNorm2d)
    ]
    found = []
    for batches in ([samples], samples.split(4), samples.roll(2, 0).split(4)):
        settle_norms(detector.net_, batches)
        # behind it, batches are normalised by themselves
        found.append((norms[0].running_mean.clone(), norms[0].running_var.clone()))
    for mean, variance in found[1:]:
        assert_allclose(mean, found[0][0], rtol=1e-3, atol=1e-5)
        assert_allclose(variance, found[0][1], rtol=0.02)


def test_layers_may_come_in_any_order(stripes):
    turned = {**GRID, "layers": ("second", "first")}
    for cls in (ReverseDistillation, STFPM):
        detector = cls(**SMALL, **turned).fit(stripes[0])
        again = cls(**SMALL, **GRID).fit(stripes[0])
        found = detector.score_samples(stripes[2])
        assert_allclose(found, again.score_samples(stripes[2]), rtol=1e-2)


# ---------------------------------------------------------------------------- SimpleNet


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), margin=st.floats(0.01, 3))
def test_the_truncated_loss_is_the_papers(seed, margin):
    normal, noisy = np.random.default_rng(seed).normal(size=(2, 20))
    expected = np.mean(
        [
            max(0, margin - a) + max(0, margin + b)
            for a, b in zip(normal, noisy, strict=True)
        ]
    )
    found = truncated_l1(torch.tensor(normal), torch.tensor(noisy), margin)
    assert_allclose(float(found), expected, atol=1e-12)


def discriminator(network, q):
    """Return D (n,) of adapted features (n, d) in NumPy."""
    first, norm, _, last = network.discriminator
    h = q @ first.weight.numpy().T + first.bias.numpy()
    h = (h - norm.running_mean.numpy()) / np.sqrt(norm.running_var.numpy() + norm.eps)
    h = h * norm.weight.numpy() + norm.bias.numpy()
    return np.where(h > 0, h, 0.2 * h) @ last.weight.numpy()[0]


def test_simplenet_in_numpy(stripes):
    """Features without noise when scoring, with noise in the loss."""
    detector = SimpleNet(neighborhood=1, noise=0.3, smoothing=0, **SMALL, **GRID)
    detector.fit(stripes[0])
    x, network = detector._describe(as_batch(stripes[2])), detector.net_.double()
    features = x.numpy().reshape(-1, 14)
    weight, bias = (each.numpy() for each in network.adaptor.parameters())
    q = features @ weight.T + bias
    values = discriminator(network, q).reshape(5, 8, 8)
    assert_allclose(network.map(x), -values, rtol=1e-9, atol=1e-12)
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(7)
        noise = torch.randn(q.shape, dtype=torch.float64).numpy()
        torch.default_generator.manual_seed(7)
        loss = float(network.loss(x, None))
    noisy = discriminator(network, q + 0.3 * noise)
    expected = np.maximum(0, 0.5 - values.ravel()) + np.maximum(0, 0.5 + noisy)
    assert_allclose(loss, expected.mean())
    assert_array_equal(network.map(x), network.map(x))


def test_the_norm_of_simplenet_knows_all_training_patches(stripes):
    """Not of the last steps alone, while the weights moved."""
    detector = SimpleNet(neighborhood=1, noise=0.3, smoothing=0, **SMALL, **GRID)
    detector.set_params(contamination=0.1).fit(stripes[0])
    network = detector.net_.double()
    first, norm, *_ = network.discriminator
    q = network.adapted(detector._describe(as_batch(stripes[0])))
    assert_allclose(norm.running_mean, first(q).mean(0), rtol=1e-4, atol=1e-5)
    noisy = q.repeat(50, 1)
    noisy[len(noisy) // 2 :] += 0.3 * torch.randn(len(noisy) // 2, q.shape[1])
    expected = first(noisy).var(0)
    assert_allclose(norm.running_var, expected, rtol=0.05)


def test_simplenet_ends_where_the_loss_is_low(stripes):
    settings = SMALL | GRID | {"lr": 0.01, "max_epochs": 40}
    detector = SimpleNet(neighborhood=1, noise=1.0, smoothing=0, **settings)
    detector.set_params(stop_loss=1.0).fit(stripes[0])
    losses = [epoch["train_loss"] for epoch in detector.history_]
    assert 1 < len(losses) < 40
    assert losses[-1] <= 0.5 < min(losses[:-1])
    detector.set_params(stop_loss=None).fit(stripes[0])
    assert len(detector.history_) == 40


def test_the_adaptor_has_a_rate_of_its_own(stripes):
    """Without decay, a rate of nothing leaves it where it started."""
    base = clone(DETECTORS["simplenet"]).set_params(weight_decay=0.0)
    one, three = (
        clone(base).set_params(adaptor_lr=1e-30, max_epochs=n).fit(stripes[0]).net_
        for n in (1, 3)
    )
    assert_array_equal(one.adaptor.weight, three.adaptor.weight)
    other = clone(base).set_params(max_epochs=1).fit(stripes[0]).net_
    moved = (other.adaptor.weight - one.adaptor.weight).abs().max()
    # Adam's first steps are as long as the rate: 5 of them
    assert 1e-4 < moved <= 5.5e-4
    known = one.discriminator[0].weight - three.discriminator[0].weight
    assert known.abs().max() > 2e-4


# ------------------------------------------------------------------------ real pictures


@pytest.mark.full
def test_cookies_with_a_real_backbone(shared):
    """By SimpleNet in a few epochs, at a quarter of the size."""
    weights = shared / "weights" / "resnet18_conv1_to_layer3_bnfolded.npz"
    folder = shared / "images" / "cookie"
    if not (weights.exists() and folder.exists()):
        pytest.skip("no cookies")
    data = load_folder(folder, size=(128, 128))
    detector = SimpleNet(
        backbone="resnet18", weights=weights, max_epochs=20, random_state=0
    ).fit(data.X_train)
    assert roc_auc_score(data.y_test, detector.score_samples(data.X_test)) > 0.97


@pytest.mark.parametrize("kind", ["maps", "pictures", "pictures+maps"])
def test_samples_are_of_the_kind_that_a_method_names(kind, stripes):
    class Kind(STFPM):
        _kind = kind

    x = torch.from_numpy(stripes[0][:2]).float()
    x = x if x.ndim == 4 else x[..., None]
    detector = STFPM(max_epochs=1, student_channels=(4,), random_state=0)
    detector.fit(stripes[0])
    other = Kind()
    vars(other).update(vars(detector))
    picture, maps = (
        detector.embedding_.network_input(x),
        detector.embedding_.feature_maps(x),
    )
    expected = {"maps": maps, "pictures": [picture], "pictures+maps": [picture, *maps]}
    found = other._layers(x)
    assert len(found) == len(expected[kind])
    for one, two in zip(found, expected[kind], strict=True):
        assert torch.equal(one, two)
