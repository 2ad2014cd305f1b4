"""What a classifier is found to be: nets, modules, pipelines, and their layers."""

import pickle
import types
import warnings

import numpy as np
import pytest
import skorch
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from skad.embedding._classifier import ClassifierView, Outputs
from skad.embedding._classifier_fit import class_codes
from skad.ood import (
    SHE,
    Energy,
    MahalanobisOOD,
    MaxLogit,
    MaxSoftmax,
    OODDetector,
    ViM,
    compare,
    extract,
)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    return 2 * rng.normal(size=(3, 4))[y] + rng.normal(size=(90, 4)), y


def layers(n_outputs=3, *more):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 6),
        torch.nn.BatchNorm1d(6),
        torch.nn.ReLU(),
        torch.nn.Linear(6, n_outputs),
        *more,
    )


@pytest.mark.parametrize(
    ("classifier", "logits", "decision", "probabilities", "gradients"),
    [
        (LogisticRegression(), True, True, True, True),
        (LinearDiscriminantAnalysis(), True, True, True, True),
        (MLPClassifier((5,), max_iter=20), True, True, True, True),
        (make_pipeline(StandardScaler(), LogisticRegression()), *[True] * 4),
        (make_pipeline(PCA(2), LogisticRegression()), True, True, True, False),
        (HistGradientBoostingClassifier(max_iter=3), True, True, True, False),
        (GaussianNB(), True, True, True, False),
        (SVC(), False, True, False, False),
        (SVC(decision_function_shape="ovo"), False, True, False, False),
        (RidgeClassifier(), False, True, False, True),
        (SGDClassifier(loss="log_loss", random_state=0), False, True, True, True),
    ],
    ids=lambda v: type(v).__name__ if not isinstance(v, bool) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_what_scikit_learns_classifiers_are(
    data, classifier, logits, decision, probabilities, gradients
):
    X, y = data
    if isinstance(classifier, SVC) and classifier.decision_function_shape == "ovo":
        y = np.arange(90) % 4  # six pairs of classes
        decision = False
    view = ClassifierView(classifier.fit(X, y), X)
    assert view.has_logits == logits
    assert view.has_decision == decision
    assert view.has_probabilities == probabilities
    assert view.has_gradients == gradients
    outputs = Outputs(view, X)
    if logits:
        expected = classifier.predict_proba(X)
        assert_allclose(softmax(outputs.logits, axis=1), expected, atol=1e-5)
        assert_allclose(outputs.probabilities(), expected, atol=1e-5)
    if view.head is not None:
        weight, bias = view.head
        found = outputs["penultimate"] @ weight.T + bias
        assert_allclose(found, outputs.decision, rtol=1e-9, atol=1e-9)
    if decision:
        assert_array_equal(outputs.predicted(), classifier.predict(X))


@pytest.mark.parametrize(
    "classifier",
    [LogisticRegression(), MLPClassifier((5,), max_iter=20), SVC(), GaussianNB()],
    ids=lambda c: type(c).__name__,
)
@pytest.mark.filterwarnings("ignore")
def test_binary_margins_are_centred_logits(data, classifier):
    X, y = data
    detector = MaxLogit(classifier).fit(X, np.where(y > 0, "b", "a"))
    z = extract(FrozenEstimator(detector.classifier_), X).decision
    if hasattr(classifier, "decision_function"):
        margin = detector.classifier_.decision_function(X)
        assert_allclose(z, np.c_[-margin / 2, margin / 2], rtol=1e-9, atol=1e-12)
    assert_array_equal(detector.classes_[z.argmax(1)], detector.classifier_.predict(X))


def test_modules_that_return_probabilities_have_the_logits_before_them(data):
    X, y = data
    plain = Energy(layers()).fit(X, y).score_samples(X)
    for last in (torch.nn.Softmax(dim=1), torch.nn.LogSoftmax(dim=1)):
        detector = Energy(layers(3, last)).fit(X, y)
        assert_allclose(detector.score_samples(X), plain, rtol=1e-9)

    class Chances(torch.nn.Module):
        def forward(self, x):
            return torch.softmax(x[:, :3] ** 2, dim=1)

    with pytest.raises(ValueError, match="Chances gives its class probabilities only"):
        Energy(Chances()).fit(X, y)
    p = softmax(X[:, :3] ** 2, axis=1).max(axis=1)
    assert_allclose(MaxSoftmax(Chances()).fit(X, y).score_samples(X), p)


def test_a_single_output_is_a_binary_margin(data):
    X, y = data
    net = layers(1)
    z = net.double().eval()(torch.as_tensor(X)).detach().numpy()[:, 0]
    found = MaxLogit(net.float()).fit(X, y > 0).score_samples(X)
    assert_allclose(found, np.abs(z) / 2, rtol=1e-5)


class Says(torch.nn.Module):
    """Ends in what `say` makes of the logits."""

    def __init__(self, say):
        super().__init__()
        self.net, self.say = layers(), say

    def forward(self, x):
        return self.say(self.net(x))


@pytest.mark.parametrize(
    "say",
    [
        lambda z: {"logits": z, "loss": z.sum()},
        lambda z: types.SimpleNamespace(logits=z),  # as transformers' outputs have them
        lambda z: (z, z.sum()),
    ],
)
def test_modules_that_return_more_than_logits(data, say):
    X, y = data
    found = Energy(Says(say)).fit(X, y)
    alone = Energy(layers()).fit(X, y)
    assert_array_equal(found.score_samples(X), alone.score_samples(X))
    assert_array_equal(found.transform(X[:3]), alone.transform(X[:3]))


@pytest.mark.parametrize("say", [lambda z: {"out": z}, lambda z: 3.0, lambda z: ()])
def test_modules_without_logits_are_refused(data, say):
    with pytest.raises(ValueError, match=r"Says returns .*; a classifier returns a"):
        Energy(Says(say)).fit(*data)


def test_a_module_that_keeps_its_activations(data):
    X, y = data

    class Keeps(Says):
        def forward(self, x):
            self.seen = [self.net[0](x)]
            return self.net(x)

    net = Keeps(None).eval()
    net(torch.ones(2, 4))
    kept = net.seen[0]
    alone = Energy(layers()).fit(X, y)
    assert_array_equal(Energy(net).fit(X, y).score_samples(X), alone.score_samples(X))
    assert net.seen[0] is kept
    assert kept.grad_fn is not None


@pytest.mark.parametrize("classifier", [SVC(), LinearSVC(), RidgeClassifier()])
def test_a_predicted_class_needs_no_probabilities(data, classifier):
    X, y = data
    detector = SHE(classifier, metric="euclidean").fit(X, y)
    predicted = detector.classifier_.predict(X)
    means = np.stack([X[(y == k) & (predicted == k)].mean(0) for k in range(3)])
    expected = np.linalg.norm(X - means[predicted], axis=1)
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-9)


def test_what_a_search_has_found_is_the_classifier(data):
    X, y = data
    steps = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(steps, {"logisticregression__C": [0.1, 1.0]}, cv=2)
    found = search.fit(X, y).best_estimator_
    alone = ViM(FrozenEstimator(found)).fit(X, y)
    for classifier in (FrozenEstimator(search), search):
        detector = ViM(classifier).fit(X, y)
        assert_allclose(detector.score_samples(X), alone.score_samples(X), rtol=1e-9)
    assert detector._view_.layers == alone._view_.layers


def test_a_classifier_that_does_not_know_the_labels_is_told_of(data):
    X, y = data
    net = torch.nn.Linear(4, 3)
    known = LinearDiscriminantAnalysis().fit(X, y)
    with torch.no_grad():
        net.weight[:] = torch.as_tensor(known.coef_)
        net.bias[:] = torch.as_tensor(known.intercept_)
    names = np.array(["low", "mid", "high"])  # whose order is not the sorted one
    for method in (MaxSoftmax, MahalanobisOOD):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            method(net).fit(X, y)
            method(net).fit(X)
            method(FrozenEstimator(known)).fit(X, y)
            method(net).fit(X[:19], names[y][:19])  # too few to tell
        with pytest.warns(UserWarning, match="as the classes 'high', 'low', 'mid'"):
            method(net).fit(X, names[y])
        with pytest.warns(UserWarning, match="those it was trained on"):
            method(FrozenEstimator(known)).fit(-X, y)


def test_layers_by_name(data):
    X, y = data
    net = layers()
    middle = net[:3].double().eval()(torch.as_tensor(X)).detach().numpy()
    outputs = extract(net.float(), X, layers=("2", "penultimate", "input", "decision"))
    assert_allclose(outputs["2"], middle, rtol=1e-5, atol=1e-6)
    assert_array_equal(outputs["2"], outputs["penultimate"])
    assert_array_equal(outputs["input"], X)
    with pytest.raises(
        ValueError, match=r"layer='last' is not a layer .*'penultimate'"
    ):
        MahalanobisOOD(net, layer="last").fit(X, y)
    pipe = make_pipeline(StandardScaler(), PCA(3), LogisticRegression())
    detector = MahalanobisOOD(pipe, layer="pca").fit(X, y)
    reduced = detector.classifier_[:-1].transform(X)
    truth = MahalanobisOOD().fit(reduced, y).score_samples(reduced)
    assert_allclose(detector.score_samples(X), truth, rtol=1e-9)
    same = MahalanobisOOD(pipe).fit(X, y)  # what enters the classifier
    assert_allclose(same.score_samples(X), truth, rtol=1e-9)


class TwoMaps(torch.nn.Module):
    """Maps, then tokens, then classes."""

    def __init__(self):
        super().__init__()
        self.maps = torch.nn.Conv2d(1, 6, 3, padding=1)
        self.last = torch.nn.Linear(6, 3)

    def forward(self, x):
        maps = torch.relu(self.maps(x))
        return self.last(maps.mean(dim=(2, 3)))


def test_maps_are_averaged_over_place():
    torch.manual_seed(0)
    net, X = TwoMaps(), np.random.default_rng(0).random((20, 5, 4))
    outputs = extract(net, X, layers=("maps", "penultimate"))
    maps = net.double().maps(torch.as_tensor(X)[:, None]).mean(dim=(2, 3))
    assert_allclose(outputs["maps"], maps.detach(), rtol=1e-5, atol=1e-7)
    assert outputs["penultimate"].shape == (20, 6)


@pytest.fixture(scope="module")
def skorch_net():
    return skorch.NeuralNetClassifier(
        layers,
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=3,
        lr=0.1,
        verbose=0,
        train_split=None,
    )


def test_skorch_nets_are_fitted_inside_or_before(data, skorch_net):
    X, y = data
    names = np.array(["x", "y", "z"])[y]
    detector = Energy(skorch_net).fit(X, names)
    assert_array_equal(detector.classes_, ["x", "y", "z"])
    assert set(detector.predict_with_rejection(X)) <= {"x", "y", "z", -1}
    assert not skorch_net.__dict__.get("initialized_", False)
    fitted = detector.classifier_
    logits = fitted.forward(X.astype(np.float32)).numpy()
    frozen = Energy(FrozenEstimator(fitted)).fit(X.astype(np.float32))
    expected = np.log(np.exp(logits).sum(1))
    found = frozen.score_samples(X.astype(np.float32))
    assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    pipe = make_pipeline(StandardScaler(), skorch_net)
    inside = MahalanobisOOD(pipe, epsilon=0.01).fit(X.astype(np.float32), names)
    assert np.isfinite(inside.score_samples(X)).all()


@pytest.mark.filterwarnings("ignore:The classifier of this:UserWarning")
def test_a_net_of_pictures_is_fitted_to_pictures():
    X = np.random.default_rng(0).random((60, 5, 4)).astype(np.float32)
    y = np.arange(60) % 3
    net = skorch.NeuralNetClassifier(
        TwoMaps,
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=2,
        verbose=0,
        train_split=None,
    )
    torch.manual_seed(0)
    detector = MaxSoftmax(net, contamination=0.1).fit(X, np.array(["x", "y", "z"])[y])
    torch.manual_seed(0)
    alone = net.fit(X[:, None], y)
    largest = alone.predict_proba(X[:, None]).max(axis=1)
    assert_allclose(detector.score_samples(X), largest, rtol=1e-5)
    scores = compare([MaxSoftmax()], net, X, y, X_test=X)["MaxSoftmax"]
    assert scores.shape == (60,)
    # copies for the threshold see pictures as well
    assert np.isfinite(MaxSoftmax(net).fit(X, y).offset_)


def test_a_net_that_learned_from_neither_is_refused(data, skorch_net):
    X = data[0]
    wrong = skorch_net.set_params(criterion=torch.nn.NLLLoss, max_epochs=1)
    fitted = wrong.initialize()
    fitted.classes_inferred_ = np.arange(3)
    with pytest.raises(ValueError, match="neither probabilities nor logits"):
        Energy(FrozenEstimator(fitted)).fit(X)
    wrong.set_params(criterion=torch.nn.CrossEntropyLoss, max_epochs=3)


def test_frames_reach_pipelines_that_were_fitted_on_them(data):
    pd = pytest.importorskip("pandas")
    X, y = data
    frame = pd.DataFrame(X, columns=list("abcd"))
    pipe = make_pipeline(
        make_column_transformer((StandardScaler(), ["b", "d"])), LogisticRegression()
    ).fit(frame, y)
    detector = Energy(FrozenEstimator(pipe)).fit(frame)
    expected = np.log(np.exp(pipe.decision_function(frame)).sum(1))
    assert_allclose(detector.score_samples(frame), expected, rtol=1e-9)


def test_classes_and_columns():
    classes, codes = class_codes(np.array([7, 5, 7]), np.array([9, 7, 5]))
    assert_array_equal(codes, [1, 2, 1])
    classes, codes = class_codes(np.array([0, 2]), None, 4)
    assert_array_equal(classes, [0, 1, 2, 3])
    assert_array_equal(codes, [0, 2])
    with pytest.raises(ValueError, match="2 classes and the classifier 4 outputs"):
        class_codes(np.array([5, 7]), None, 4)
    with pytest.raises(ValueError, match="which the classifier does not know"):
        class_codes(np.array([5, 8]), np.array([5, 7]))


def test_pickles_hold_the_network(data):
    X, y = data
    detector = MahalanobisOOD(layers()).fit(X, y)
    again = pickle.loads(pickle.dumps(detector))
    assert_array_equal(again.score_samples(X), detector.score_samples(X))
    assert_array_equal(again.transform(X[:2]), detector.transform(X[:2]))


def test_a_detector_for_each_class(data):
    from sklearn.ensemble import IsolationForest

    from skad import GMM, KNN

    X, y = data
    names = np.array(["a", "b", "c"])[y]
    forest = IsolationForest(n_estimators=5, random_state=0)
    for inner in (KNN(n_neighbors=3), GMM(), forest):
        lift = OODDetector(layers(), inner, layer="2", per_class=True).fit(X, names)
        features = extract(lift.classifier, X, layers=("2",))["2"].numpy()
        alone = [inner.fit(features[y == k]).score_samples(features) for k in range(3)]
        assert_allclose(lift.score_samples(X), np.max(alone, axis=0), rtol=1e-6)
        assert lift.transform(X[:3]).shape == (3, 4)
        assert len(lift.detectors_) == 3
        assert not hasattr(lift, "detector_")
    # without labels what a fitted classifier predicts
    lift = OODDetector(layers(), GMM(), per_class=True)
    predicted = np.asarray(extract(lift.classifier, X).predicted())
    assert_array_equal(
        lift.fit(X).score_samples(X), lift.fit(X, predicted).score_samples(X)
    )
    with pytest.raises(ValueError, match="requires y"):
        OODDetector(per_class=True).fit(X)
    few = np.where(np.arange(len(y)) == 7, 9, y)
    with pytest.raises(ValueError, match="1 rows of the class 9"):
        OODDetector(None, GMM(), per_class=True).fit(X, few)


def test_gradients_come_from_the_nearest_class(data):
    from skad import Mahalanobis

    X, y = data
    lift = OODDetector(layers(), Mahalanobis(), per_class=True, attribution="gradient")
    maps = lift.fit(X, y).transform(X[:5])
    anomaly, step = -lift.score_samples(X[:5]), 1e-6
    for j in range(4):
        moved = X[:5].copy()
        moved[:, j] += step
        slope = (-lift.score_samples(moved) - anomaly) / step
        assert_allclose(maps[:, j], np.abs(slope), rtol=1e-2, atol=1e-3)


def test_any_detector_on_features(data):
    from sklearn.ensemble import IsolationForest

    from skad import ECOD, KNN

    X, y = data
    for inner in (KNN(), ECOD(), IsolationForest(n_estimators=5, random_state=0)):
        lift = OODDetector(layers(), inner, layer="2").fit(X, y)
        features = extract(lift.classifier, X, layers=("2",))["2"].numpy()
        truth = inner.fit(features).score_samples(features)
        assert_allclose(lift.score_samples(X), truth, rtol=1e-6)
        assert lift.transform(X[:3]).shape == (3, 4)
    with pytest.raises(ValueError, match="lets none through"):
        OODDetector(layers(), inner, attribution="gradient").fit(X, y)
