"""What all opponents can be given: averaged weights, dropout, a range of samples."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skad.adversarial import (
    AAE,
    ADAE,
    ALAD,
    ALAE,
    ALOCC,
    EGBAD,
    GPND,
    HADGAN,
    OCGAN,
    RGI,
    AnoGAN,
    FAnoGAN,
    GANomaly,
    OGNet,
    SkipGANomaly,
)
from skad.nn.adversarial import Bounded, Discriminator
from skad.persistence._file import from_bytes, to_bytes
from tests._instances import identify

SMALL = {"max_epochs": 2, "hidden_sizes": (8,), "random_state": 0}
SMALL["contamination"] = 0.1  # so that nothing is held out
DETECTORS = [
    AAE(**SMALL),
    ADAE(**SMALL),
    ALAD(**SMALL),
    ALAE(**SMALL),
    ALOCC(**SMALL),
    AnoGAN(**SMALL, n_search_steps=2),
    EGBAD(**SMALL),
    FAnoGAN(**SMALL, n_critic=1),
    GANomaly(**SMALL),
    GPND(**SMALL),
    HADGAN(**SMALL),
    OCGAN(**SMALL, mining_epochs=1),
    OGNet(**SMALL, quality_epochs=1),
    RGI(**SMALL, n_search_steps=2),
    SkipGANomaly(**SMALL),
]
every = pytest.mark.parametrize("detector", DETECTORS, ids=identify)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(90, 5)) * [1, 2, 3, 1, 0]


def weights(detector):
    return {name: value.clone() for name, value in detector.net_.state_dict().items()}


def fitted(detector, X, **parameters):
    return clone(detector).set_params(**parameters).fit(X)


@every
def test_the_mean_of_weights_scores_and_does_not_train(detector, rows):
    last, mean = fitted(detector, rows), fitted(detector, rows, averaging=0.9)
    for one, other in zip(last.history_, mean.history_, strict=True):
        if one["phase"] == last.history_[0]["phase"]:  # later ones go on from the mean
            assert one["train_loss"] == other["train_loss"]
    assert not np.allclose(mean.score_samples(rows), last.score_samples(rows))


def test_the_mean_is_that_of_the_steps(rows):
    """One step an epoch, so that fits of fewer epochs are the weights on the way."""
    detector = EGBAD(**SMALL).set_params(batch_size=90)
    expected = weights(fitted(detector, rows, lr=1e-30, max_epochs=1))
    for step in range(1, 5):
        share = 1 - min(0.3, (1 + step) / (10 + step))
        here = weights(fitted(detector, rows, max_epochs=step))
        expected = {
            name: value + share * (here[name] - value)
            for name, value in expected.items()
        }
    found = weights(fitted(detector, rows, max_epochs=4, averaging=0.3))
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "detector", [one for one in DETECTORS if not isinstance(one, ADAE)], ids=identify
)
def test_dropout_trains_and_does_not_score(detector, rows):
    plain, detector = fitted(detector, rows), fitted(detector, rows, dropout=0.5)
    judges = [m for m in detector.net_.modules() if isinstance(m, Discriminator)]
    assert judges
    assert {judge.dropout.p for judge in judges} == {0.5}
    scores = detector.score_samples(rows)
    assert_array_equal(scores, detector.score_samples(rows))
    before, after = weights(plain), weights(detector)
    heads = [name for name in before if name.endswith("head.weight")]
    assert heads
    for name in heads:
        assert not np.allclose(before[name], after[name], atol=1e-6)


def test_dropout_is_of_the_features_below_the_logit():
    torch.manual_seed(0)
    judge = Discriminator((5,), "mlp", (8,), n_features=400)
    judge.dropout.p = 0.25
    with torch.no_grad():
        judge.head.weight.fill_(1.0)
        logits = torch.stack([judge(torch.ones(1, 5))[0] for _ in range(300)])
        features = judge(torch.ones(1, 5))[1]
        whole = judge.eval()(torch.ones(1, 5))[0]
    assert (features != 0).all()  # those that are compared are whole
    assert logits.std() > 0
    assert_allclose(logits.mean(), whole[0], rtol=0.05)


@every
@pytest.mark.parametrize("given", ["data", (-0.5, 0.25)])
def test_what_is_made_keeps_to_its_range(detector, given, rows):
    detector = fitted(detector, rows, output_range=given)
    low, high = (rows.min(0), rows.max(0)) if given == "data" else given
    slack = 1e-5 * np.abs(rows).max()
    bounded = [m for m in detector.net_.modules() if isinstance(m, Bounded)]
    assert bounded
    for part in bounded:
        far = part(torch.tensor([-100.0, 100.0])[:, None] * torch.ones(5))
        assert_allclose(far[0], np.broadcast_to(low, 5), atol=slack)
        assert_allclose(far[1], np.broadcast_to(high, 5), atol=slack)
    made = getattr(detector.net_, detector.net_.makers[0])
    assert isinstance(made[-1], Bounded)
    again = from_bytes(to_bytes(detector))
    assert_allclose(again.score_samples(rows), detector.score_samples(rows))


def test_a_range_of_pictures_is_of_each_channel():
    rng = np.random.default_rng(0)
    pictures = rng.uniform([0, 0.5, 0.9], [1, 0.6, 1], size=(20, 8, 8, 3))
    detector = fitted(EGBAD(**SMALL), pictures, output_range="data")
    (bounded,) = (m for m in detector.net_.modules() if isinstance(m, Bounded))
    assert_allclose(bounded.low.flatten(), [0, 0.5, 0.9], atol=0.02)
    assert_allclose(bounded.high.flatten(), [1, 0.6, 1], atol=0.02)


def test_more_rows_leave_the_range(rows):
    detector = EGBAD(**SMALL, output_range="data").partial_fit(rows)
    before = weights(detector)["generator.1.high"]
    detector.partial_fit(10 * rows)
    assert_array_equal(weights(detector)["generator.1.high"], before)


@pytest.mark.parametrize("given", [(1, 0), (0,), ("a", "b"), (0, 0), (0, 1, 2)])
def test_what_is_no_range_is_refused(given, rows):
    with pytest.raises(ValueError, match=r"output_range=.* give two numbers"):
        fitted(EGBAD(**SMALL), rows, output_range=given)
