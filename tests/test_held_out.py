"""What a training holds out: which samples, and the threshold that they set."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import skad
from skad._limits import limit_of_seen, upper_limit
from skad._training._held_out import held_samples
from skad.one_class import DeepSAD, DeepSVDD
from skad.reconstruction import AutoEncoder
from tests._instances import CHEAP

SMALL = {"hidden_sizes": (8,), "latent_size": 2, "max_epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(100, 5)) @ rng.normal(size=(5, 5))


@pytest.fixture
def trained_on(monkeypatch):
    """Return a list of the sets of samples, by their first element, of each step."""
    seen = []
    loss = AutoEncoder(**SMALL).fit(np.eye(3)).net_.__class__.loss

    def spying(self, x, y):
        if self.training:
            seen.append(set(x[:, 0].tolist()))
        return loss(self, x, y)

    monkeypatch.setattr(
        "skad.reconstruction._autoencoder.AutoEncoderNetwork.loss", spying
    )
    return seen


def test_which_samples_depends_on_their_number_alone():
    for n in (12, 100, 1000):
        held = held_samples(n, 0.2, at_least=5)
        assert len(held) == pytest.approx(max(5, 0.2 * n), abs=1)
        assert_array_equal(held, np.unique(held))
    for period in (2, 5, 7, 24):  # what comes back in the rows is held out in its share
        counts = np.bincount(held % period, minlength=period)
        assert counts.min() >= 0.5 * counts.mean()
    whole = held_samples(1000, 0.2)
    parts = [start + held_samples(50, 0.2, start) for start in range(0, 1000, 50)]
    assert_array_equal(np.concatenate(parts), whole)
    assert_array_equal(held_samples(500, 0.2), whole[whole < 500])


def test_held_out_samples_set_the_threshold_and_are_never_trained_on(rows, trained_on):
    detector = AutoEncoder(**SMALL).fit(rows)
    held = held_samples(100, 0.2)
    assert detector.n_held_out_ == len(held) == 20
    seen = set().union(*trained_on)
    first = rows[:, 0].astype(np.float32).tolist()
    assert seen == {first[i] for i in np.setdiff1d(np.arange(100), held)}
    anomaly = -detector.score_samples(rows[held])
    assert detector.offset_ == -upper_limit(anomaly, 0.05)
    # another fit to the same rows does not train on them either
    trained_on.clear()
    detector.set_params(warm_start=True, random_state=7).fit(rows)
    assert set().union(*trained_on) == seen


def test_few_held_out_samples_that_are_alike_do_not_set_the_threshold_alone(rows):
    alike, held = rows[:40].copy(), held_samples(40, 0.2)
    alike[held] *= 0.01
    detector = AutoEncoder(**SMALL).fit(alike)
    anomaly = -detector.score_samples(alike)
    learned = np.delete(anomaly, held)
    assert upper_limit(learned, 0.05) > 2 * upper_limit(anomaly[held], 0.05)
    assert detector.offset_ == pytest.approx(-upper_limit(learned, 0.05))
    # where those that were trained on are the better known ones, it is the others'
    strange = rows[:40].copy()
    strange[held] *= 5
    detector = AutoEncoder(**SMALL).fit(strange)
    anomaly = -detector.score_samples(strange)
    assert detector.offset_ == pytest.approx(-upper_limit(anomaly[held], 0.05))


def test_known_anomalies_have_no_say_beside_few_held_out_samples(rows):
    X = np.concatenate([rows[:30], rows[30:34] + 30])
    y = np.repeat([0, -1], [30, 4])
    held = held_samples(30, 0.2)
    detector = DeepSAD(hidden_sizes=(8,), latent_size=2, max_epochs=2, random_state=0)
    anomaly = -detector.fit(X, y).score_samples(X[:30])
    limits = [
        upper_limit(part, 0.05) for part in (anomaly[held], np.delete(anomaly, held))
    ]
    assert detector.offset_ == pytest.approx(-max(limits), rel=1e-5)


def test_a_share_of_the_training_data_holds_nothing_out(rows, trained_on):
    detector = AutoEncoder(**SMALL, contamination=0.1).fit(rows)
    assert detector.n_held_out_ == 0
    assert len(set().union(*trained_on)) == 100
    assert np.mean(detector.predict(rows) == -1) == pytest.approx(0.1)


def test_patience_watches_what_sets_the_threshold(rows, monkeypatch):
    watched = []
    loss = AutoEncoder(**SMALL).fit(rows).net_.__class__.loss

    def spying(self, x, y):
        if not self.training:
            watched.append(x[:, 0].tolist())
        return loss(self, x, y)

    monkeypatch.setattr(
        "skad.reconstruction._autoencoder.AutoEncoderNetwork.loss", spying
    )
    AutoEncoder(**SMALL, patience=5).fit(rows)
    held = held_samples(100, 0.2)
    assert watched[0] == rows[held, 0].astype(np.float32).tolist()


def test_known_anomalies_set_no_threshold(rows):
    y = np.where(np.arange(100) % 3 == 0, -1, np.arange(100) % 2)
    settings = {**SMALL, "pretrain_epochs": 1}
    detector = DeepSAD(**settings).fit(rows, y)
    held = np.flatnonzero(y != -1)[held_samples(np.sum(y != -1), 0.2)]
    anomaly = -detector.score_samples(rows[held])
    assert detector.offset_ == -upper_limit(anomaly, 0.05)
    assert detector.n_held_out_ == len(held)


def test_the_soft_boundary_holds_nothing_out(rows):
    detector = DeepSVDD(**SMALL, objective="soft-boundary", pretrain_epochs=1).fit(rows)
    assert detector.n_held_out_ == 0
    assert detector.offset_ == -(detector.radius_**2)


def test_few_samples_are_all_trained_on(rows, trained_on):
    detector = AutoEncoder(**SMALL).fit(rows[:11])
    assert detector.n_held_out_ == 0
    assert len(set().union(*trained_on)) == 11
    # the threshold is no score of what was trained on
    assert detector.offset_ < detector.score_samples(rows[:11]).min()


def test_a_stream_keeps_out_what_its_pieces_held_out(rows, trained_on):
    held = held_samples(100, 0.2)
    first = rows[:, 0].astype(np.float32).tolist()
    found = []
    for size in (1, 7, 50):
        trained_on.clear()
        stream = AutoEncoder(**SMALL).partial_fit(rows[: max(2, size)])
        for start in range(max(2, size), 100, size):
            stream.partial_fit(rows[start : start + size])
        assert stream.n_held_out_ == 20
        assert set().union(*trained_on).isdisjoint({first[i] for i in held})
        anomaly = -stream.score_samples(rows[held])
        found.append((stream.offset_, -upper_limit(anomaly, 0.05)))
    for offset, expected in found:
        assert offset == expected


def test_a_stream_keeps_a_bounded_sample(rows, monkeypatch):
    monkeypatch.setattr(AutoEncoder, "_SAMPLE_ROWS", 8)
    stream = AutoEncoder(**SMALL)
    for start in range(0, 100, 20):
        stream.partial_fit(rows[start : start + 20])
    stride, kept = stream._held_sample_
    assert_array_equal(kept, rows[held_samples(100, 0.2)][::stride])
    assert len(kept) <= 8
    assert not hasattr(stream, "_trained_")


def test_what_searches_for_codes_scores_few_rows(rows, monkeypatch):
    monkeypatch.setattr(skad.AnoGAN, "_most_threshold_rows", 10)
    detector = skad.AnoGAN(**CHEAP["AnoGAN"], random_state=0).fit(rows)
    anomaly = -detector.score_samples(rows[held_samples(100, 0.2)][::2])
    assert detector.offset_ == pytest.approx(-upper_limit(anomaly, 0.05))


def test_no_samples_are_left():
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(ValueError, match=r"validation_fraction=0.99 leaves \d of 20"):
        AutoEncoder(**SMALL, validation_fraction=0.99).fit(X)


@pytest.mark.parametrize(("m", "least", "most"), [(40, 0.01, 0.12), (200, 0.03, 0.08)])
def test_what_one_fit_flags_is_as_far_from_the_rate_as_said(m, least, most):
    """As `validation_fraction` says it: the share beyond the limit of m samples."""
    uniform = np.random.default_rng(0).uniform(size=(4000, m))
    flagged = 1 - np.array([upper_limit(row, 0.05) for row in uniform])
    assert flagged.mean() == pytest.approx(0.05, abs=0.002)
    ends = np.quantile(flagged, [0.05, 0.95])
    assert np.round(ends, 2).tolist() == [least, most]
    assert f"{least:.2f} to {most:.2f}".replace("0.", ".") in " ".join(
        AutoEncoder.__doc__.split()
    )


def test_a_sample_that_sets_the_limit_does_not_pass_it_by_rounding():
    X = 3 * np.random.RandomState(0).uniform(size=(20, 3))
    given = {"max_epochs": 2, "play_epochs": 5, "n_generators": 3, "random_state": 1}
    detector = skad.MOGAAL(hidden_sizes=(16,), **given).fit(X, X[:, 0].astype(int))
    alone = [detector.predict(X[i : i + 1])[0] for i in range(len(X))]
    assert_array_equal(alone, detector.predict(X))
    for anomaly in ([1.0, 2.0, 3.0], [-3.0, -1.0, 0.0]):
        limit = upper_limit(np.array(anomaly), 0.05)
        seen = limit_of_seen(np.array(anomaly), 0.05)
        assert limit < seen < limit + 1e-7
