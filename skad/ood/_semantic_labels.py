"""Semantic labels: inputs that a network gives short vectors for the class."""

from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._exposed_classifier import ExposedNetwork
from skad.ood._trained import TrainedClassifier


class SemanticLabelsNetwork(ExposedNetwork):
    """A network with several vectors for each input, one for each kind of label."""

    def __init__(
        self,
        shape,
        n_classes,
        architecture,
        hidden_sizes,
        label_embeddings,
        n_embeddings,
        embedding_size,
    ):
        if label_embeddings is None:
            labels = torch.randn(n_embeddings, n_classes, embedding_size)
        else:
            labels = torch.as_tensor(np.asarray(label_embeddings, np.float32))
            if labels.ndim == 2:
                labels = labels[None]
            if labels.ndim != 3 or labels.shape[1] != n_classes:
                raise ValueError(
                    f"label_embeddings has shape {tuple(labels.shape)}, expected "
                    f"(n_embeddings, {n_classes}, embedding_size): y has {n_classes} "
                    "classes."
                )
            if not (torch.isfinite(labels).all() and labels.norm(dim=2).all()):
                raise ValueError("label_embeddings has NaN, infinity or a vector of 0.")
        super().__init__(
            shape, len(labels) * labels.shape[2], architecture, hidden_sizes
        )
        # (k, c, e)
        self.register_buffer("labels", functional.normalize(labels, dim=2))

    def judge(self, x):
        """Return the vectors (b, k, e) of inputs."""
        k, _, size = self.labels.shape
        return self.classifier(x).reshape(-1, k, size)

    def forward(self, x):
        """Return the sum (b, c) of cosines to the labels of each class."""
        vectors = functional.normalize(self.judge(x), dim=2)
        return torch.einsum("bke,kce->bc", vectors, self.labels)

    def inside(self, z, y):
        """Return the sum (b,) of cosine distances to the labels of the class."""
        cosines = functional.cosine_similarity(
            z, self.labels[:, y].movedim(0, 1), dim=2
        )
        return ((1 - cosines) / 2).sum(1)

    def anomaly(self, x):
        """Return minus the sum (b,) of squared lengths."""
        return -self.judge(x).square().sum((1, 2))


@with_parameters
class SemanticLabels(TrainedClassifier):
    r"""Inputs for which a network finds short vectors for the class.

    Every class :math:`c` has several labels, vectors :math:`e_k(c)` such as those of
    its word in different collections of texts. A network with a vector
    :math:`f_k(x)` for each is trained to point where the label does [1]_,

    .. math:: \min \; E_{(x, y)} \sum_k \frac12 \big(1 - \cos(f_k(x), e_k(y))\big).

    Its class is the one with the smallest sum of these distances. The loss leaves the
    lengths alone, which turn out small for inputs that look like no class. The anomaly
    is

    .. math:: a(x) = -\sum_k \|f_k(x)\|_2^2.

    The map attributes it to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    label_embeddings : array-like or None, default=None
        The vectors :math:`e_k(c)`, of shape (n_embeddings, n_classes, embedding_size)
        or of one label a class (n_classes, embedding_size), of classes in sorted order,
        as in `classes_`; None draws them at random, which is an ensemble of labels
        without meaning.
    n_embeddings : int, default=5
        Labels of a class, where they are drawn.
    embedding_size : int, default=32
        Length of vectors that are drawn. The paper's words have 300.

    See Also
    --------
    LogitNorm : Leaves the lengths out of the loss as well.
    MaxSoftmax : The plain classifier.

    Notes
    -----
    The vectors share all layers but the last. `net_` returns sums of cosines as logits.
    Known outliers are left out. Features should be on one scale (StandardScaler). On
    scikit-learn's digits (0 to 4 known) ROC AUC is .924 in the mean of three networks
    with drawn labels, no more than a plain classifier's `MaxSoftmax` (.928), and .912
    with one label a class.

    References
    ----------
    .. [1] G. Shalev, Y. Adi, J. Keshet, "Out-of-distribution detection using multiple
       semantic label representations", NeurIPS, 2018, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import SemanticLabels
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat([[-3, 3], [3, 3]], 100, axis=0) + rng.normal(size=(200, 2))
    >>> y = np.repeat(["left", "right"], 100)
    >>> detector = SemanticLabels(random_state=0).fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, 3.0], [3.0, 3.0], [0.0, -0.5]])
    array(['left', 'right', -1], dtype=object)
    """

    _network_class = SemanticLabelsNetwork
    _parameter_constraints = {
        "label_embeddings": ["array-like", None],
        "n_embeddings": [Interval(Integral, 1, None, closed="left")],
        "embedding_size": [Interval(Integral, 1, None, closed="left")],
    }

    label_embeddings: Any = None
    n_embeddings: int = 5
    embedding_size: int = 32
