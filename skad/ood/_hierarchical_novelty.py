"""Hierarchical novelty: inputs that are new, of the closest known kind."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from skad._array import to_numpy
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import from_parameters
from skad.ood._exposed_classifier import ExposedNetwork, mean_where
from skad.ood._trained import TrainedClassifier


def lineages(classes, hierarchy):
    """Return the super-classes of each class, from its parent to the root.

    Parameters
    ----------
    classes : list
        Class labels.
    hierarchy : mapping or None
        From a class or super-class to its parent; those at the top have none, or None.
        None puts all classes below one root.
    """
    if hierarchy is None:
        return [["root"] for _ in classes]
    found = []
    for label in classes:
        above, at = [], hierarchy.get(label)
        if at is None:
            raise ValueError(f"hierarchy has no super-class for the class {label!r}.")
        while at is not None:
            if at in above:
                raise ValueError(f"hierarchy goes round in a circle at {at!r}.")
            if at in classes:
                raise ValueError(f"hierarchy puts {label!r} below the class {at!r}.")
            above.append(at)
            at = hierarchy.get(at)
        found.append(above)
    return found


def branches(classes, above):
    """Return the super-classes, and below which of their children outputs lie.

    Parameters
    ----------
    classes : list
        Class labels, c of them.
    above : list of list
        As `lineages` returns them.

    Returns
    -------
    super_classes : list
        s of them, in the order in which classes name them.
    found : ndarray of shape (s, c + s)
        Of a super-class and an output, which is a class or the novel one of a
        super-class, the child of the first that the second lies below: a number that
        is the same where it is the same child, and -1 where the output lies below none.
    """
    super_classes = list(dict.fromkeys(each for own in above for each in own))
    places = {name: i for i, name in enumerate(super_classes)}
    found = np.full((len(places), len(classes) + len(places)), -1)
    for leaf, own in enumerate(above):
        way = [leaf, *(len(classes) + places[name] for name in own)]
        for depth, name in enumerate(own):
            # what lies on the way to `name` is below the child that is the way's last
            found[places[name], way[: depth + 1]] = way[depth]
    return super_classes, found


def levels(above):
    """Return super-classes from the top down, and lineages that end in one top.

    Parameters
    ----------
    above : list of list
        As `lineages` returns them. Where they end in several, "root" comes above.
    """
    names = {name for own in above for name in own}
    if len({own[-1] for own in above}) > 1:
        root = "root"
        while root in names:
            root += "_"
        above = [[*own, root] for own in above]
    depths = {}
    for own in above:
        depths |= {name: i for i, name in enumerate(reversed(own))}
    return sorted(depths, key=depths.get), above


def choices(classes, above):
    """Return the super-classes with several children, and which one classes lie below.

    Parameters
    ----------
    classes : list
        Class labels, c of them.
    above : list of list
        As `lineages` returns them.

    Returns
    -------
    super_classes : list
        s of them, from the top down.
    found : ndarray of shape (s, c)
        Numbers of the child of each, from 0, and -1 of classes that lie below none.
    """
    order, above = levels(above)
    names, found = branches(classes, above)
    rows, kept = [], []
    for name in order:
        own = found[names.index(name), : len(classes)]
        below = own >= 0
        children, codes = np.unique(own[below], return_inverse=True)
        if len(children) > 1:  # where there is no choice nothing is to be learned
            row = np.full(len(classes), -1)
            row[below] = codes
            rows, kept = [*rows, row], [*kept, name]
    return kept, np.array(rows)


class HierarchicalNoveltyNetwork(ExposedNetwork):
    """A classifier with an output for what is new in each super-class."""

    def __init__(
        self, shape, n_classes, architecture, hidden_sizes, left_out_weight, branches
    ):
        super().__init__(shape, branches.shape[1], architecture, hidden_sizes)
        self.n_classes, self.left_out_weight = n_classes, left_out_weight
        self.register_buffer("branches", torch.as_tensor(branches))  # (s, c + s)

    def judge(self, x):
        """Return the logits (b, c + s) of classes and of what is new."""
        return self.classifier(x)

    def forward(self, x):
        """Return the logits (b, c) of classes."""
        return self.judge(x)[:, : self.n_classes]

    def inside(self, z, y):
        """Return the losses (b,) of the class, and of its super-classes without it."""
        loss = super().inside(z, y)
        for novel, children in enumerate(self.branches, start=self.n_classes):
            own = children[y]  # (b,)
            gone = (children == own[:, None]) & (own >= 0)[:, None]
            rest = z.masked_fill(gone, -torch.inf).logsumexp(1)
            left_out = torch.where(own >= 0, rest - z[:, novel], 0.0)
            loss = loss + self.left_out_weight * left_out
        return loss

    def anomaly(self, x):
        """Return the log-odds (b,) of the likeliest new kind and class."""
        z = self.judge(x)
        return z[:, self.n_classes :].amax(1) - z[:, : self.n_classes].amax(1)


class TopDownNetwork(ExposedNetwork):
    """A classifier of the children of each super-class, unsure of all other rows.

    Parameters
    ----------
    shape : tuple of int
        Of samples.
    n_classes : int
        Number c of classes.
    architecture, hidden_sizes, uniform_weight
        As for `HierarchicalNovelty`.
    branches : ndarray of shape (s, c)
        As `choices` returns them.
    """

    def __init__(
        self, shape, n_classes, architecture, hidden_sizes, uniform_weight, branches
    ):
        self.sizes = [int(row.max()) + 1 for row in branches]
        super().__init__(shape, sum(self.sizes), architecture, hidden_sizes)
        self.uniform_weight = uniform_weight
        self.register_buffer("branches", torch.as_tensor(branches))

    def judge(self, x):
        """Return log-probabilities of children (b, n_s), a list by super-classes."""
        parts = self.classifier(x).split(self.sizes, 1)
        return [torch.log_softmax(part, 1) for part in parts]

    def forward(self, x):
        """Return the log-probabilities (b, c) of classes."""
        total = 0.0
        for logs, own in zip(self.judge(x), self.branches, strict=True):
            total = total + torch.where(own >= 0, logs[:, own.clamp(min=0)], 0.0)
        return total

    def loss(self, x, y):
        """Return what the children of each super-class cost, and being sure outside."""
        total = 0.0
        for logs, children in zip(self.judge(x), self.branches, strict=True):
            own = children[y]  # (b,)
            errors = -logs.gather(1, own.clamp(min=0)[:, None])[:, 0]
            unsure = mean_where(from_uniform(logs), own < 0)
            total = total + mean_where(errors, own >= 0) + self.uniform_weight * unsure
        return total

    def way(self, x):
        """Return the classes (b,) at the end of the way down, and how sure it is.

        That is the divergence (b, s) from the uniform distribution of the children of
        super-classes on the way, infinite for the others.
        """
        parts = self.judge(x)
        chosen = torch.stack([logs.argmax(1) for logs in parts], 1)  # (b, s)
        fits = (chosen[:, :, None] == self.branches) | (self.branches < 0)
        leaves = fits.all(1).int().argmax(1)  # one of each row
        sure = torch.stack([from_uniform(logs) for logs in parts], 1)
        return leaves, sure.masked_fill((self.branches < 0).T[leaves], torch.inf)

    def anomaly(self, x):
        """Return minus the least divergence (b,) on the way down."""
        return -self.way(x)[1].amin(1)


def from_uniform(logs):
    """Return the divergence (b,) of probabilities from the uniform distribution.

    It is that of the uniform one from them, of their logarithms (b, n).
    """
    return -logs.mean(1) - math.log(logs.shape[1])


@with_parameters(kw_only=False)
class HierarchicalNovelty(TrainedClassifier):
    r"""Inputs that are likelier new in a super-class than of any class.

    Classes lie below super-classes, which lie below others: a poodle is a dog, which is
    an animal. Beside the classes a network has an output :math:`N(s)` for what is new
    in each super-class :math:`s`, a dog of no known breed. No such input is needed for
    training: of a sample of the class :math:`y` and each super-class :math:`s` above
    it, the child of :math:`s` that :math:`y` lies below is left out with all that is
    below it, and without that the sample is new in :math:`s` [1]_:

    .. math:: \min \; E_{(x, y)} \Big[-\log p(y \mid x) - \lambda \sum_{s \succ y}
        \log p_{-s, y}\big(N(s) \mid x\big)\Big],

    where :math:`p` is a softmax over all outputs and :math:`p_{-s,y}` over those that
    are not left out. The anomaly is

    .. math:: a(x) = \max_s z_{N(s)}(x) - \max_c z_c(x)

    in logits :math:`z`.

    With ``strategy="top_down"`` each super-class has a softmax :math:`p_s` over its
    children instead, with the cross-entropy of the samples below it, and is to be
    unsure of all others: :math:`\lambda \, \mathrm{KL}(U \,\|\, p_s)` with the uniform
    distribution U is added, in the mean over these. The way of an input leads from the
    top to the likeliest child, and on from there to a class, and it is new where a
    super-class on the way is not sure,

    .. math:: a(x) = -\min_{s \text{ on the way}} \mathrm{KL}\big(U \,\|\, p_s(x)\big).

    The map attributes the anomaly to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    hierarchy : dict or None, default=None
        The parent of each class and super-class, such as ``{"poodle": "dog", "dog":
        "animal"}``; those at the top have none. None puts all classes below "root".
    strategy : {"left_out", "top_down"}, default="left_out"
        Whether children are left out in training, or each super-class has a classifier.
    left_out_weight : float, default=1.0
        Weight :math:`\lambda` of the losses with a child left out.
    uniform_weight : float, default=1.0
        With "top_down", weight :math:`\lambda` of being unsure of other samples.

    Attributes
    ----------
    super_classes_ : list
        Names of the super-classes, in the order of outputs. With "top_down" those with
        several children, from the top down; "root" is above where there is no one top.

    See Also
    --------
    SemanticLabels : Vectors as labels.
    MaxSoftmax : The plain classifier.

    Notes
    -----
    The paper moves the logits of what is new by a number and takes the largest of all;
    this is a threshold of the anomaly above. From the top down it has a threshold for
    each super-class, chosen on data, and here there is one for all, and linear
    classifiers of given features, which here share a network. What puts the second way
    below the first is not here; nor are its schedule and label smoothing, and it learns
    from features of a trained network. `predict_with_rejection` names the likeliest
    class of all, which may be another than that at the end of the way. Known outliers
    are left out. Features should be on one scale (StandardScaler).

    On scikit-learn's digits (0 to 4 known) ROC AUC is .928 in the mean of three
    networks, and .923 with a super-class of the round ones, about that of a plain
    classifier's `MaxSoftmax` (.928), and .46 without training. With ``left_out_weight=
    0``, which knows no super-class, it is .956: the losses name what is new, and do not
    help to find it. Of 7 to 9 as what is new "left_out" has .950 and "top_down" .955,
    with the round ones .927 and .915, and a plain classifier .937.

    References
    ----------
    .. [1] K. Lee, K. Lee, K. Min, Y. Zhang, J. Shin and H. Lee, "Hierarchical novelty
       detection for visual object recognition", CVPR, 2018, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import HierarchicalNovelty
    >>> rng = np.random.default_rng(0)
    >>> centres = np.array([[-4, 3], [-4, -3], [4, 3], [4, -3]])
    >>> X = np.repeat(centres, 50, axis=0) + 0.5 * rng.normal(size=(200, 2))
    >>> y = np.repeat(["poodle", "pug", "oak", "elm"], 50)
    >>> kinds = {"poodle": "dog", "pug": "dog", "oak": "tree", "elm": "tree"}
    >>> detector = HierarchicalNovelty(kinds, lr=0.01, random_state=0).fit(X, y)
    >>> detector.predict_with_super_classes([[-4.0, 3.0], [-4.0, 0.0], [4.0, 0.0]])
    array(['poodle', 'dog', 'tree'], dtype=object)
    """

    hierarchy: Mapping | None = None
    _: KW_ONLY
    strategy: str = "left_out"
    left_out_weight: float = 1.0
    uniform_weight: float = 1.0

    _network_class = HierarchicalNoveltyNetwork
    _parameter_constraints = {
        "hierarchy": [Mapping, None],
        "strategy": [StrOptions({"left_out", "top_down"})],
        "left_out_weight": [Interval(Real, 0, None, closed="left")],
        "uniform_weight": [Interval(Real, 0, None, closed="left")],
    }

    def _network(self, shape):
        classes = self.classes_.tolist()
        above = lineages(classes, self.hierarchy)
        made, kind = branches, HierarchicalNoveltyNetwork
        if self.strategy == "top_down":
            made, kind = choices, TopDownNetwork
        super_classes, found = made(classes, above)
        if hasattr(self, "net_"):  # a warm start
            known = self.net_.branches.numpy(force=True)
            if self.super_classes_ != super_classes or not np.array_equal(known, found):
                raise ValueError(
                    "hierarchy is not that of the last fit, with which this "
                    "HierarchicalNovelty goes on: set it back, or begin anew by fit "
                    "with warm_start=False."
                )
        self.super_classes_ = super_classes
        return from_parameters(self, kind, shape, self._n_classes, branches=found)

    def _way(self, network, X):
        with torch.no_grad():
            leaves, sure = network.way(self._samples(X))
            unsure = (sure < self.offset_).int().argmax(1)  # the first on the way
            return torch.stack([leaves, unsure], 1).to(sure)

    def _novel(self, network, X):
        with torch.no_grad():
            return network.judge(self._samples(X))[:, self._n_classes :]

    def predict_with_super_classes(self, X) -> Any:
        """Return the predicted class, or for outliers the super-class they are new in.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Class labels and names of super-classes, of dtype object.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        if self.strategy == "top_down":
            leaves, novel = to_numpy(self._in_blocks(self._way, X)).astype(int).T
        else:
            leaves = to_numpy(self._in_blocks(self._logits, X)).argmax(axis=1)
            novel = to_numpy(self._in_blocks(self._novel, X)).argmax(axis=1)
        outside = -to_numpy(self._in_blocks(self._anomaly, X)) - self.offset_ < 0
        labels = self.classes_[leaves].astype(object)
        for row in np.flatnonzero(outside):
            labels[row] = self.super_classes_[novel[row]]
        return labels
