"""Codes of SimCLR, as a transformer: what it learns, and where it stands."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import check_estimator

import skad
from skad._training._held_out import held_samples
from skad.embedding import SimCLR
from skad.self_supervised import SSD

SMALL = {
    "hidden_sizes": (4,),
    "code_size": 8,
    "projection_size": 6,
    "max_epochs": 2,
    "batch_size": 16,
    "random_state": 0,
}


def stairs(n, seed, turned=False):
    """Return pictures with one bright corner, whose edges run as in no turned copy."""
    rng = np.random.default_rng(seed)
    X = 0.1 * rng.uniform(size=(n, 12, 12))
    X[:, 1:5, 1:9] += 0.5
    X[:, 1:9, 1:4] += 0.3
    return np.ascontiguousarray(np.rot90(X, 1, (1, 2))) if turned else X


def test_codes_are_those_of_ssd():
    """The same training, of which SSD takes Gaussians."""
    X, new = stairs(30, 0), stairs(4, 1)
    codes = SimCLR(**SMALL).fit(X)
    same = SSD(
        **SMALL,
        lr=codes.lr,
        least_crop=codes.least_crop,
        weight_decay=codes.weight_decay,
        contamination=0.1,
    ).fit(X)
    x = torch.as_tensor(new)[:, None]
    expected = same.net_.double().encoder(x)
    assert_allclose(codes.transform(new), expected, rtol=1e-5)
    assert [row["train_loss"] for row in codes.history_] == (
        pytest.approx([row["train_loss"] for row in same.history_])
    )


def test_all_pictures_are_trained_on_unless_patience_watches_some():
    X = stairs(40, 0)
    seen = []

    class Encoder(torch.nn.Module):
        def __init__(self, input_shape, output_shape):
            super().__init__()
            self.linear = torch.nn.Linear(144, *output_shape)

        def forward(self, x):
            if self.training:
                seen.append(len(x))
            return self.linear(x.flatten(1))

    fitted = SimCLR(**{**SMALL, "hidden_sizes": None}, architecture=Encoder)
    fitted.fit(X)
    assert sum(seen) == 2 * 2 * 40
    seen.clear()
    fitted.set_params(patience=5, validation_fraction=0.25).fit(X)
    assert sum(seen) == 2 * 2 * (40 - len(held_samples(40, 0.25)))
    assert "valid_loss" in fitted.history_[0]


def test_it_stands_before_a_detector_of_rows():
    X, new = stairs(60, 0), stairs(10, 1)
    codes = SimCLR(**{**SMALL, "max_epochs": 10})
    whole = make_pipeline(codes, Normalizer(), skad.KNN()).fit(X)
    odd = whole.score_samples(stairs(10, 2, turned=True))
    usual = whole.score_samples(new)
    assert odd.max() < usual.min()
    # by hand
    found = Normalizer().fit_transform(clone(codes).fit_transform(X))
    head = skad.KNN().fit(found)
    by_hand = Normalizer().transform(whole[0].transform(new))
    assert_allclose(head.score_samples(by_hand), usual, rtol=1e-6)


def test_tensors_rows_names_and_frames():
    X = stairs(20, 0)
    codes = SimCLR(**SMALL).fit(X)
    found = codes.transform(X)
    assert found.dtype == np.float64
    assert codes.transform(X.astype(np.float32)).dtype == np.float32
    assert_array_equal(codes.transform(torch.tensor(X)), torch.tensor(found))
    flat = SimCLR(**SMALL, image_shape=(12, 12)).fit(X.reshape(20, -1))
    assert_allclose(flat.transform(X.reshape(20, -1)), found)
    assert list(codes.get_feature_names_out()[[0, -1]]) == ["simclr0", "simclr7"]
    pytest.importorskip("pandas")
    flat.set_output(transform="pandas")
    frame = flat.transform(X.reshape(20, -1))
    assert list(frame.columns) == list(codes.get_feature_names_out())
    assert_allclose(frame, found)


def test_another_fit_goes_on_where_it_is_asked_to():
    X = stairs(20, 0)
    codes = SimCLR(**SMALL, warm_start=True).fit(X)
    first = codes.transform(X)
    codes.fit(X)
    assert len(codes.history_) == 4
    codes.set_params(warm_start=False).fit(X)
    assert len(codes.history_) == 2
    assert_array_equal(codes.transform(X), first)
    again = pickle.loads(pickle.dumps(codes))
    assert_array_equal(again.transform(X), first)


def test_a_fit_that_fails_leaves_nothing_behind():
    codes = SimCLR(**SMALL)
    with pytest.raises(ValueError, match="hidden_sizes"):
        clone(codes).set_params(hidden_sizes=(0,)).fit(stairs(5, 0))
    with pytest.raises(ValueError, match="temperature"):
        clone(codes).set_params(temperature=0.0).fit(stairs(5, 0))
    with pytest.raises(ValueError, match="81 features"):
        codes.fit(stairs(5, 0)).transform(np.zeros((2, 9, 9)))


def test_scikit_learns_checks():
    check_estimator(SimCLR(**{**SMALL, "max_epochs": 1}))
