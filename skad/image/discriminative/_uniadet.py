"""UniADet: two vectors a layer and task, which tokens of a frozen network lie near."""

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
import torch
from sklearn import get_config

from skad._array import to_numpy
from skad._fit_parameters import MasksMixin
from skad._parameters import with_parameters
from skad._samples import LazySamples
from skad._sklearn import Interval, StrOptions
from skad._training import from_parameters, warm_cosine
from skad.image._base import as_tensor
from skad.image._trained import OwnScoreDetector
from skad.image.discriminative._two_vectors import UniADetNetwork
from skad.nn.corruption import TexturePaste
from skad.nn.mosaic import regrouped, shrunk_masks


class Described(LazySamples):
    """Samples of training pictures and of copies of them, described when asked for.

    Parameters
    ----------
    describe : callable
        From the numbers (b,) of pictures to samples (b, m).
    n : int
        Number of pictures.
    first : tensor of shape (b, m)
        The samples of the first of them.
    """

    def __init__(self, describe, n, first):
        super().__init__(np.arange(n), first.shape[1:], first.device)
        self.describe, self.nbytes = describe, n * first[0].nbytes

    def _make(self, places):
        with torch.no_grad():
            return self.describe(places)


@with_parameters
class UniADet(MasksMixin, OwnScoreDetector):
    r"""Pictures and patches whose tokens lie near vectors that stand for anomalies.

    A frozen vision transformer describes a picture by a token for the whole,
    :math:`t_l`, and one for each patch, :math:`t_{l,p}`, in each of some layers
    :math:`l`. Defects of many objects differ in the same way from what is normal, so
    that two vectors :math:`w_0, w_1` of each layer, learned once, judge others [1]_:

    .. math:: p(t) = \operatorname{softmax}\left(\frac{\cos(w_0, t)}{\tau},
        \frac{\cos(w_1, t)}{\tau}\right)_1.

    Pictures and patches have vectors of their own. The first learn by the cross-entropy
    of whole pictures; the second by the focal loss and the Dice losses of both sides of
    the map of their :math:`p`, interpolated to the pixels. The anomaly of a patch is
    the mean of :math:`p(t_{l,p})` over the layers. With `n_shots` normal pictures it is
    averaged with the mean over the layers of :math:`1 - \max_m \cos(t_{l,p}, m)`,
    where :math:`m` are the tokens of their patches. The map is that, interpolated to
    the pixels of the picture and smoothed; the score is the mean of :math:`p(t_l)`,
    averaged with the largest anomaly of a patch.

    What is anomalous, `masks` (or `boxes`) of pictures labelled -1 say in `fit`; of
    those without one it knows the label alone. Where no picture is known to be
    anomalous, it pastes other textures into all. Vectors that were learned from
    pictures of other objects judge those at hand without any training::

        known = UniADet(embedding=embedding).fit(others, y, masks=masks)
        detector = UniADet(embedding=embedding, vectors=known.vectors_).fit(X)

    Then `fit` takes the threshold from `X`, and the memory, and scores depend on `X` in
    nothing else.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    vectors : dict of array or None, default=None
        `vectors_` of a detector with the same layers, to judge with; None learns some.
        ``numpy.savez(path, **detector.vectors_)`` makes a file of them, which
        ``dict(numpy.load(path))`` reads.
    n_shots : int or "all", default=0
        How many normal training pictures, the first ones, the memory holds; 0 is none.
    n_views : int, default=1
        Copies of each training picture that are learned from beside it, rearranged: it
        and others in 2 x 2 or 3 x 3 cells, or one of its own such cells enlarged.
    temperature : float, default=0.07
        The temperature :math:`\tau`.
    map_weight : float, default=0.5
        Share of the largest anomaly of a patch in the score; 0 is the whole picture's
        vectors alone.
    memory_weight : float, default=0.5
        Share of the memory in the anomaly of a patch.
    anomaly_share : float, default=0.5
        Share of each batch that is drawn from the known anomalies, with replacement.
    max_epochs : int, default=50
        Passes over the training pictures; none are made with `vectors`.
    lr : float, default=0.001
        Learning rate; falls to a tenth along a cosine.
    random_state : int, RandomState instance or None, default=None
        Draws the first vectors, the batches, the textures and the copies. Pass an int
        for reproducible results.

    Attributes
    ----------
    vectors_ : dict of ndarray of shape (2, n_features)
        The vectors, first :math:`w_0`, then :math:`w_1`: "picture_0" and "place_0" of
        the first layer, and so on.
    net_ : torch.nn.Module
        The network, with its vectors `of_pictures` and `of_places`.

    See Also
    --------
    AnomalyDINO : A memory alone.
    BGAD : A flow that masks of known anomalies push.
    skad.embedding.ViTEmbedding : The transformer's layers, as `embedding`.

    Notes
    -----
    The paper's is ``UniADet(embedding=ViTEmbedding(model, layers=(11, 14, 17, 20, 23),
    image_size=518))`` with a DINOv2 with registers, ViT-L/14, and vectors learned from
    the test pictures of other objects. It is built on whatever describes patches, with
    the mean of these for the whole picture where there is no class token; with another
    network it has that network's quality.

    With a ResNet-18 in its place, at 128 pixels, areas under the ROC curve of pictures
    / of pixels are 0.71 / 0.64 on magnetic tiles, learned from pasted textures in 80
    normal ones, and 0.74 / 0.71 with all of them in the memory; 40 marked tiles beside
    them make 0.76 / 0.81, where `PatchCore` has 0.90 / 0.77. On cookies it is 0.96 /
    0.89 from pasted textures and 0.98 / 0.95 with the memory, `PatchCore` 1.00 / 0.95.
    Vectors of the tiles do not carry over to cookies with this network: 0.40 / 0.81,
    and 0.53 / 0.89 with four cookies in the memory. On a transformer of the paper's
    size it was not measured here.

    The authors have published what it is, and no code. The layers, the temperature, the
    optimizer, the halves of which anomalies and scores are made, and what their
    class-aware augmentation does, `n_views`, are those of two reproductions by others,
    which agree in most, and five layers are as many as the paper's number of weights
    tells. 15 epochs there are thousands of steps; here there are more epochs, as
    pictures are fewer. Ours are: copies are drawn once and described once, where theirs
    are new in each epoch; a mosaic consists of neighbours in `X`, within a batch of
    `batch_size`, so that pictures of several objects are to be sorted by these; CLIP's
    tokens are taken before their projection; and without known anomalies textures are
    pasted, which the paper does not do.

    Each training picture and each copy goes through the backbone once; tokens are kept
    where they fit in scikit-learn's ``working_memory``. Training is in float32, scoring
    in the dtype of `X`.

    References
    ----------
    .. [1] B.-B. Gao and C. Wang, "One language-free foundation model is enough for
       universal vision anomaly detection", arXiv:2601.05552, 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import UniADet
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = UniADet(smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    vectors: dict | None = None
    n_shots: int | str = 0
    n_views: int = 1
    temperature: float = 0.07
    map_weight: float = 0.5
    memory_weight: float = 0.5
    anomaly_share: float = 0.5
    max_epochs: int = 50
    lr: float = 1e-3
    optimizer: str | Callable = "adamw"
    weight_decay: float = 0.01

    _network_class = UniADetNetwork
    _resnet_layers = ("layer2", "layer3")
    _uses_labels = True
    _parameter_constraints = {
        "vectors": [dict, None],
        "n_shots": [Interval(Integral, 0, None, closed="left"), StrOptions({"all"})],
        "n_views": [Interval(Integral, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "map_weight": [Interval(Real, 0, 1, closed="both")],
        "memory_weight": [Interval(Real, 0, 1, closed="both")],
        "anomaly_share": [Interval(Real, 0, 1, closed="neither")],
    }

    @property
    def _exports(self):
        return self.n_shots == 0  # the memory is searched in blocks

    @property
    def vectors_(self):
        """The vectors, normal and anomalous, of each layer and task."""
        if not hasattr(self, "net_"):
            raise AttributeError("vectors_ is there after fit.")
        kinds = {"picture": self.net_.of_pictures, "place": self.net_.of_places}
        return {
            f"{kind}_{i}": to_numpy(one.weight)
            for kind, layers in kinds.items()
            for i, one in enumerate(layers)
        }

    # --------------------------------------------------------------------- training

    def _anomaly_share(self):
        return self.anomaly_share

    def _epochs(self, phase):
        return self.max_epochs if self.vectors is None else 0

    def _whole_epochs(self, X):
        return max(1, self._epochs("fit"))

    def _own_callbacks(self, phase, n_epochs):
        return warm_cosine(n_epochs, warm=0, end=0.1) if n_epochs else ()

    def _training_labels(self, X, y):
        """Return labels (n,), None without anomalies."""
        labels = super()._training_labels(X, y)
        return None if labels is None or not (labels == -1).any() else labels

    def _run(self, X, y, labels, seed, n_epochs):
        self._labels_ = labels
        try:
            super()._run(X, y, labels, seed, n_epochs)
        finally:
            del self._labels_

    def _network(self, shapes):
        size = self._seen_size()
        return from_parameters(
            self, UniADetNetwork, shapes, mask_size=size, n_copies=self._n_copies()
        )

    # ---------------------------------------------------------------------- samples

    def _n_copies(self):
        """Return the pictures of a training sample, itself among them."""
        if self.vectors is not None:
            return 0
        return (1 + self.n_views) * (2 if self._labels_ is None else 1)

    def _layers(self, x):
        """Return the tokens (b, d) of pictures and (b, d, gh, gw) of places, by layers.

        The mean of its places stands for a picture where there is no class token.
        """
        if hasattr(self.embedding_, "tokens"):
            layers = self.embedding_.tokens(x)
        else:
            layers = [(None, each) for each in self.embedding_.feature_maps(x)]
        found = []
        for whole, places in layers:
            found += [places.mean((2, 3)) if whole is None else whole, places]
        return found

    def _copied(self, x, masks, pastes):
        """Return copies of pictures (b, h, w, c), a list, and their masks (b, h, w)."""
        x = x.movedim(3, 1)
        pictures, marks = [x], [masks]
        if pastes:
            seen, where = TexturePaste()(x)
            pictures, marks = [x, seen], [masks, where.to(masks)]
        whole = torch.cat(pictures), torch.cat(marks)
        for _ in range(self.n_views):
            for one, kept in zip(regrouped(*whole), (pictures, marks), strict=True):
                kept += one.split(len(x))
        return [each.movedim(1, 3) for each in pictures], marks

    def _samples(self, X):
        masks = None
        if self._labels_ is not None:
            masks = torch.from_numpy(self._masks_of(self._labels_))
            masks = masks.unflatten(1, tuple(self.image_shape_[:2]))

        def describe(rows):
            x = as_tensor(X[rows]).float()
            if self.vectors is not None:
                return self._describe(x)
            own = x.new_zeros(x.shape[:3]) if masks is None else masks[rows].to(x)
            pictures, marks = self._copied(x, own, masks is None)
            parts = [self._describe(each) for each in pictures]
            parts += [
                shrunk_masks(each, self._seen_size()).flatten(1) for each in marks
            ]
            return torch.cat(parts, 1)

        parts = self._batches(len(X))
        rows = next(parts)
        with torch.no_grad():
            first = as_tensor(X[rows][:1]).float()
            self._shapes_ = [tuple(each.shape[1:]) for each in self._layers(first)]
            first = describe(rows)
        samples = Described(describe, len(X), first)
        if samples.nbytes > get_config()["working_memory"] * 2**20:
            return samples
        kept = first.new_empty(samples.shape)
        kept[rows] = first
        for rows in parts:
            kept[rows] = samples[rows]
        return kept

    # ---------------------------------------------------------------- the threshold

    def _holds_out(self):
        return super()._holds_out() and not self._is_given()

    def _is_given(self):
        """Tell whether nothing of the training pictures is in the scores."""
        return self.vectors is not None and self.n_shots == 0

    def _honest_anomaly(self, X, y, anomaly, **params):
        if self._is_given():
            return self._seen_anomaly(X, anomaly)
        return super()._honest_anomaly(X, y, anomaly, **params)
