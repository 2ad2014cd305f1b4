"""Detectors with other labels than one number a class: vectors, and a hierarchy."""

import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cosine
from scipy.special import log_softmax, logsumexp
from scipy.stats import entropy
from sklearn.base import clone

import skad
from skad.ood import HierarchicalNovelty, SemanticLabels
from skad.ood._hierarchical_novelty import HierarchicalNoveltyNetwork
from skad.ood._semantic_labels import SemanticLabelsNetwork
from skad.ood._taxonomy import branches, choices, lineages
from skad.ood._top_down import TopDownNetwork
from tests.test_ood_trained import SMALL, make


def vectors(labels=None, k=2, size=4):
    torch.manual_seed(0)
    net = SemanticLabelsNetwork((3,), 4, "mlp", (5,), labels, k, size)
    return net.double().requires_grad_(False)


def test_semantic_labels_are_the_formula():
    net = vectors()
    x, y = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 3, 2, 1, 1, 0])
    f, e = net.judge(x).numpy(), net.labels.numpy()
    assert f.shape == (6, 2, 4)
    loss = [
        sum(cosine(f[i, k], e[k, y[i]]) / 2 for k in range(2)) for i in range(len(x))
    ]
    assert_allclose(float(net.loss(x, y)), np.mean(loss))
    distances = [
        [sum(cosine(f[i, k], e[k, c]) for k in range(2)) for c in range(4)]
        for i in range(len(x))
    ]
    assert_allclose(net(x), 2 - np.array(distances), rtol=1e-5)
    assert_array_equal(net(x).argmax(1), np.argmin(distances, axis=1))
    assert_allclose(net.anomaly(x), -(f**2).sum((1, 2)))


def test_a_longer_vector_keeps_the_class_and_is_more_normal():
    net = vectors()
    x = torch.randn(6, 3, dtype=torch.float64)
    before, classes, first = net.anomaly(x), net(x), net.judge(x)[:, 0]
    last = net.classifier.layers[-1]
    last.weight[:4] *= 2
    last.bias[:4] *= 2
    assert_allclose(net(x), classes)
    assert_allclose(net.anomaly(x), before - 3 * first.square().sum(1))


def test_of_orthogonal_labels_the_largest_part_is_the_class():
    net = vectors(np.eye(4))
    x = torch.randn(50, 3, dtype=torch.float64)
    assert_array_equal(net(x).argmax(1), net.judge(x)[:, 0].argmax(1))


def test_given_labels_are_those_that_are_learned():
    X, y, _ = make()
    labels = np.random.default_rng(0).normal(size=(3, 3, 6))
    given = {**SMALL, "max_epochs": 40}
    detector = SemanticLabels(label_embeddings=labels, **given).fit(X, y)
    unit = labels / np.linalg.norm(labels, axis=2, keepdims=True)
    assert_allclose(detector.net_.labels, unit, rtol=1e-6)
    assert np.mean(detector.predict_with_rejection(X, reject=9) == y) > 0.9
    with pytest.raises(ValueError, match=r"label_embeddings has shape \(3, 2, 6\)"):
        SemanticLabels(label_embeddings=labels[:, :2], **given).fit(X, y)
    with pytest.raises(ValueError, match="a vector of 0"):
        SemanticLabels(label_embeddings=0 * labels, **given).fit(X, y)


# ------------------------------------------------------------------------- hierarchy

KINDS = {
    "poodle": "dog",
    "pug": "dog",
    "cat": "animal",
    "dog": "animal",
    "oak": "tree",
    "elm": "tree",
}
LEAVES = ["cat", "elm", "oak", "poodle", "pug"]


def below(name):
    """Return the classes and super-classes below one, and itself."""
    found = {name}
    for child, parent in KINDS.items():
        if parent == name:
            found |= below(child)
    return found


def test_the_child_that_an_output_lies_below():
    super_classes, found = branches(LEAVES, lineages(LEAVES, KINDS))
    assert super_classes == ["animal", "tree", "dog"]
    outputs = LEAVES + super_classes
    for name, row in zip(super_classes, found, strict=True):
        children = [child for child, parent in KINDS.items() if parent == name]
        expected = {frozenset(below(child) & set(outputs)) for child in children}
        inside = [i for i in range(len(row)) if row[i] >= 0]
        parts = {
            frozenset(outputs[j] for j in inside if row[j] == row[i]) for i in inside
        }
        assert parts == expected


def test_hierarchical_novelty_leaves_one_child_out_at_each_level():
    super_classes, found = branches(LEAVES, lineages(LEAVES, KINDS))
    torch.manual_seed(0)
    net = HierarchicalNoveltyNetwork((3,), 5, "mlp", (6,), 0.7, found).double()
    x, y = torch.randn(8, 3, dtype=torch.float64), torch.arange(8) % 5
    z, outputs = net.judge(x).detach().numpy(), LEAVES + super_classes
    expected = []
    for logits, label in zip(z, y.tolist(), strict=True):
        loss = logsumexp(logits) - logits[label]
        child = LEAVES[label]
        while child in KINDS:
            parent, gone = KINDS[child], below(child)
            rest = [
                z for z, name in zip(logits, outputs, strict=True) if name not in gone
            ]
            loss += 0.7 * (logsumexp(rest) - logits[outputs.index(parent)])
            child = parent
        expected.append(loss)
    assert_allclose(net.inside(net.judge(x), y).detach(), expected)
    assert_allclose(net(x).detach(), z[:, :5])
    assert_allclose(net.anomaly(x).detach(), z[:, 5:].max(1) - z[:, :5].max(1))


def test_below_one_root_it_leaves_each_class_out():
    X, y, _ = make()
    detector = HierarchicalNovelty(**{**SMALL, "max_epochs": 2}).fit(X, y)
    assert detector.super_classes_ == ["root"]
    net = detector.net_.double()
    x, codes = torch.as_tensor(X), torch.as_tensor(y)
    z = net.judge(x).numpy()
    rest = np.where(np.eye(4, dtype=bool)[y], -np.inf, z)
    expected = logsumexp(z, axis=1) - z[np.arange(len(y)), y]
    expected += logsumexp(rest, axis=1) - z[:, -1]
    assert_allclose(net.inside(net.judge(x), codes), expected, rtol=1e-6)


@pytest.mark.parametrize("strategy", ["left_out", "top_down", "joint"])
def test_a_new_leaf_is_new_in_its_super_class(strategy):
    rng = np.random.default_rng(0)
    centres = {
        "a1": (-6, 4), "a2": (-6, -4), "a3": (-6, 0),
        "b1": (6, 4), "b2": (6, -4), "b3": (6, 0),
    }  # fmt: skip
    kinds = {name: name[0] for name in centres} | {"a": "all", "b": "all"}

    def drawn(*names):
        rows = [rng.normal(centres[name], 0.4, size=(80, 2)) for name in names]
        return np.concatenate(rows), np.repeat(names, 80)

    X, y = drawn("a1", "a2", "b1", "b2")
    detector = HierarchicalNovelty(
        kinds,
        strategy=strategy,
        lr=0.01,
        max_epochs=60,
        random_state=0,
        architecture="mlp",
    ).fit(X / 5, y)
    new, truth = drawn("a3", "b3")
    found = detector.predict_with_super_classes(new / 5)
    assert np.mean(found == [each[0] for each in truth]) > 0.9
    assert np.mean(detector.predict_with_super_classes(X / 5) == y) > 0.9
    assert set(detector.predict_with_rejection(new / 5, reject="new")) == {"new"}


# -------------------------------------------------------------- from the top down


def top_down(weight=1.0):
    """Return a network of the kinds, the super-classes, and whose children are what."""
    super_classes, found = choices(LEAVES, lineages(LEAVES, KINDS))
    torch.manual_seed(0)
    net = TopDownNetwork((3,), 5, "mlp", (6,), weight, found).double()
    return net.requires_grad_(False), super_classes, found


def test_super_classes_choose_among_their_children():
    _, super_classes, found = top_down()
    assert super_classes[0] == "root"  # above both tops
    assert super_classes[-1] == "dog"
    assert set(super_classes[1:3]) == {"animal", "tree"}
    rows = dict(zip(super_classes, found.tolist(), strict=True))
    cat, elm, oak, poodle, pug = zip(
        *(rows[name] for name in super_classes), strict=True
    )
    assert poodle[:-1] == pug[:-1] != cat[:-1]
    assert {poodle[-1], pug[-1]} == {0, 1}
    assert cat[-1] == elm[-1] == oak[-1] == -1
    assert rows["root"][0] == rows["root"][3] != rows["root"][1] == rows["root"][2]
    assert {rows["tree"][1], rows["tree"][2]} == {0, 1}
    assert sorted({rows["animal"][i] for i in (0, 3, 4)}) == [0, 1]
    # where there is one child there is no choice, and with one top no other
    above = lineages(["a", "b"], {"a": "x", "b": "y", "x": "all", "y": "all"})
    names, found = choices(["a", "b"], above)
    assert names == ["all"]
    assert_array_equal(found, [[0, 1]])
    assert choices(["a", "b"], [["root"], ["z"]])[0] == ["root_"]


def test_the_top_down_loss_is_that_of_children_and_of_being_sure_elsewhere():
    net, _, found = top_down(0.7)
    x, y = torch.randn(8, 3, dtype=torch.float64), torch.arange(8) % 5
    z, start, expected = net.classifier(x).numpy(), 0, 0.0
    for children in found:
        n = children.max() + 1
        logs = log_softmax(z[:, start : start + n], axis=1)
        start += n
        inside = [
            -row[children[k]]
            for row, k in zip(logs, y, strict=True)
            if children[k] >= 0
        ]
        outside = [
            entropy(np.full(n, 1 / n), np.exp(row))
            for row, k in zip(logs, y, strict=True)
            if children[k] < 0
        ]
        expected += np.mean(inside) + (0.7 * np.mean(outside) if outside else 0)
    assert start == z.shape[1]
    assert_allclose(float(net.loss(x, y)), expected)


def test_the_way_down_takes_the_likeliest_child():
    net, super_classes, found = top_down()
    x = torch.randn(200, 3, dtype=torch.float64) * 4
    parts = [part.exp().numpy() for part in net.judge(x)]
    logs = net(x).numpy()
    assert_allclose(logsumexp(logs, axis=1), 0, atol=1e-12)
    leaves, sure = net.way(x)
    for i in range(len(x)):
        at, on_way = set(range(5)), []
        for p, children, name in zip(parts, found, super_classes, strict=True):
            if not at <= {k for k in range(5) if children[k] >= 0}:
                assert torch.isinf(sure[i, super_classes.index(name)])
                continue
            n = p.shape[1]
            on_way.append(entropy(np.full(n, 1 / n), p[i]))
            assert sure[i, super_classes.index(name)] == pytest.approx(on_way[-1])
            at &= {k for k in range(5) if children[k] == p[i].argmax()}
        assert at == {int(leaves[i])}
        assert float(net.anomaly(x[i : i + 1])) == pytest.approx(-min(on_way))
    assert len(set(leaves.tolist())) > 2
    for leaf in range(5):
        own = [p[:, c[leaf]] for p, c in zip(parts, found, strict=True) if c[leaf] >= 0]
        assert_allclose(logs[:, leaf], np.log(own).sum(0))


def test_an_input_is_new_in_the_first_super_class_that_is_unsure():
    rng = np.random.default_rng(0)
    names = np.array(LEAVES)
    X = rng.normal(size=(200, 4))
    y = names[np.arange(200) % 5]
    X[:, 0] += np.arange(200) % 5
    detector = HierarchicalNovelty(
        KINDS, strategy="top_down", max_epochs=15, contamination=0.4, random_state=0
    ).fit(X, y)
    found = detector.predict_with_super_classes(X)
    with torch.no_grad():
        leaves, sure = detector.net_.double().way(torch.as_tensor(X))
    for i, row in enumerate(sure.tolist()):
        unsure = [
            name
            for name, one in zip(detector.super_classes_, row, strict=True)
            if one < detector.offset_
        ]
        assert found[i] == (unsure[0] if unsure else detector.classes_[leaves[i]])
    assert {"root"} < set(found)


def test_both_strategies_together_leave_the_first_as_it_is():
    X, y, _ = make()
    kinds, few = {0: "a", 1: "a", 2: "b"}, {**SMALL, "max_epochs": 3}
    first = HierarchicalNovelty(kinds, strategy="top_down", **few).fit(X, y)
    joint = HierarchicalNovelty(kinds, strategy="joint", **few).fit(X, y)
    assert first.super_classes_ == ["root", "a"]
    assert joint.super_classes_ == ["a", "b"]
    expected = first.net_.state_dict()
    for name, value in joint.net_.top_down.state_dict().items():
        assert_array_equal(value, expected[name])
    net, x, codes = joint.net_.double(), torch.as_tensor(X), torch.as_tensor(y)
    [weight, bias] = [one.detach().numpy() for one in net.classifier.parameters()]
    found = first.net_.double().classifier(x).detach().numpy()
    z = found @ weight.T + bias  # of three classes, and of what is new in "a" and "b"
    assert_allclose(net.judge(x).detach(), z)
    assert_allclose(joint.score_samples(X), z[:, :3].max(1) - z[:, 3:].max(1))
    loss = logsumexp(z, axis=1) - z[np.arange(len(y)), y]
    rest = z.copy()
    rest[np.arange(len(y)), y] = -np.inf  # the child of its super-class
    loss += logsumexp(rest, axis=1) - z[np.arange(len(y)), 3 + y // 2]
    assert_allclose(float(net.loss(x, codes)), loss.mean())


@pytest.mark.parametrize("strategy", ["top_down", "joint"])
def test_other_strategies_keep_the_contract(tmp_path, strategy):
    X, y, _ = make()
    kinds = {0: "a", 1: "a", 2: "b"}
    detector = HierarchicalNovelty(
        kinds, strategy=strategy, **{**SMALL, "max_epochs": 3}
    ).fit(X, y)
    scores, maps = detector.score_samples(X), detector.transform(X[:5])
    assert_array_equal(detector.predict(X), np.where(scores < detector.offset_, -1, 1))
    assert_allclose(detector.score_samples(X[3:4]), scores[3:4], rtol=1e-7)
    assert_allclose(detector.score_samples(X.astype(np.float32)), scores, rtol=1e-3)
    skad.save(detector, tmp_path / "detector.skad")
    for other in (
        pickle.loads(pickle.dumps(detector)),
        skad.load(tmp_path / "detector.skad"),
        clone(detector).fit(X, y),
    ):
        assert_array_equal(other.score_samples(X), scores)
        assert_array_equal(other.transform(X[:5]), maps)
        assert_array_equal(
            other.predict_with_super_classes(X), detector.predict_with_super_classes(X)
        )


def test_top_down_below_one_root_is_a_plain_classifier():
    X, y, _ = make()
    detector = HierarchicalNovelty(
        strategy="top_down", **{**SMALL, "max_epochs": 2}
    ).fit(X, y)
    assert detector.super_classes_ == ["root"]
    net, x = detector.net_.double(), torch.as_tensor(X)
    z = net.classifier(x)
    loss = torch.nn.functional.cross_entropy(z, torch.as_tensor(y))
    assert_allclose(float(net.loss(x, torch.as_tensor(y))), float(loss))
    assert_allclose(net(x), log_softmax(z.numpy(), axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("hierarchy", "message"),
    [
        ({0: "a", 1: "a"}, "hierarchy has no super-class for the class 2"),
        ({0: "a", 1: "a", 2: "b", "b": "c", "c": "b"}, "in a circle at 'b'"),
        ({0: "a", 1: 0, 2: "a"}, "hierarchy puts 1 below the class 0"),
    ],
)
def test_hierarchies_that_are_none(hierarchy, message):
    X, y, _ = make()
    with pytest.raises(ValueError, match=message):
        HierarchicalNovelty(hierarchy, max_epochs=1).fit(X, y)


def test_a_warm_start_keeps_the_hierarchy():
    X, y, _ = make()
    kinds = {0: "a", 1: "a", 2: "b"}
    detector = HierarchicalNovelty(kinds, **{**SMALL, "max_epochs": 1})
    detector.set_params(warm_start=True).fit(X, y).fit(X, y)
    with pytest.raises(ValueError, match="hierarchy is not that of the last fit"):
        detector.set_params(hierarchy={0: "a", 1: "b", 2: "b"}).fit(X, y)
