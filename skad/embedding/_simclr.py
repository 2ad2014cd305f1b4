"""SimCLR: from pictures to codes that tell their views from those of others."""

from operator import attrgetter
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from skad._parameters import with_parameters
from skad._sklearn import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from skad._training._contrastive import ContrastiveDetector, ContrastParameters
from skad._training._parameters import ShapeParameters, TrainingParameters
from skad.nn.contrast import ContrastiveNetwork


class CodesNetwork(ContrastiveNetwork):
    """An encoder of which nothing but the codes is asked."""

    def finish(self, batches, held=None):
        """Leave it as it is: no anomaly is scored."""

    def map(self, x):
        """Return the codes (b, d) of pictures."""
        return self.encoder(x)


class SimCLRTraining(ContrastiveDetector):
    """Trains the network, as a detector whose threshold nobody asks for."""

    _network_class = CodesNetwork
    _only_scores = True

    def _holds_out(self):
        return False


@with_parameters
class SimCLR(
    ClassNamePrefixFeaturesOutMixin,
    ContrastParameters,
    ShapeParameters,
    TrainingParameters,
    TransformerMixin,
    BaseEstimator,
):
    r"""Codes of pictures, by which a view of one is found among the views of others.

    A network :math:`f` and a projection :math:`g` learn from two random views (crops,
    other colours, flips) of each of b pictures. With the 2 b projected codes
    :math:`z = g(f(v))` at length one they make the mean of

    .. math:: -\log \frac{\exp(z_i \cdot z_{i'} / \tau)}
        {\sum_{m \ne i} \exp(z_i \cdot z_m / \tau)}

    small, where i and i' are the views of one picture [1]_. The codes of a picture are
    :math:`f(x)`, before the projection.

    It stands before any detector of rows in a `Pipeline`. Codes at length one are what
    most heads want: put a `sklearn.preprocessing.Normalizer` behind it.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    max_epochs : int or "auto", default=500
        Passes over the training pictures, with two views of each.
    patience : int or None, default=None
        Epochs without a better loss on held-out pictures after which training stops and
        the best weights are taken. None trains all epochs.
    validation_fraction : float, default=0.2
        Share of the pictures that `patience` watches, and that are not trained on;
        without it all are.
    callbacks : list of skorch callbacks or None, default=None
        Are copied into every training.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder` and `projection`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names.

    See Also
    --------
    skad.self_supervised.SSD : Such codes with Gaussians, and maps.
    skad.self_supervised.DROC : Turned copies as well, and a head of three.
    PatchEmbedding : Nothing is learned; vectors for each place.

    Notes
    -----
    Views keep their hue, are not blurred, and take half of the picture at least, where
    the authors' take .08 of it. A network of WRN-10-4 takes the place of ResNet-50;
    batches are small, as one-class heads like them, and the optimizer is plain gradient
    descent with momentum. A detector behind it that copies itself for its threshold
    copies itself alone: the codes of pictures that the network was trained on may be
    denser than those of new ones, so that more than `false_alarm_rate` of these are
    flagged. `SSD` and `DROC` hold pictures out of the training.

    An epoch takes two passes of each picture, a transformation one. The defaults are
    for a GPU, and thousands of pictures. Of 300 pictures of a class of Fashion-MNIST,
    ``hidden_sizes=(8, 16, 32), code_size=64`` learns in 20 epochs and half a minute
    enough for a ROC AUC of `KNN` on codes at length one of .87 against other classes,
    mean of two, and .80 with views of a fifth at least; without training, and by the
    distance to the mean picture, it is .81.

    References
    ----------
    .. [1] T. Chen, S. Kornblith, M. Norouzi and G. Hinton, "A simple framework for
       contrastive learning of visual representations", ICML, 2020, equation (1).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import Normalizer
    >>> from skad import KNN
    >>> from skad.embedding import SimCLR
    >>> X = np.random.default_rng(0).uniform(size=(30, 8, 8)) * np.arange(8) / 8
    >>> codes = SimCLR(hidden_sizes=(4,), code_size=8, max_epochs=2, random_state=0)
    >>> codes.fit_transform(X).shape
    (30, 8)
    >>> make_pipeline(codes, Normalizer(), KNN()).fit(X).score_samples(X[:2]).shape
    (2,)
    """

    max_epochs: int | str = 500
    least_crop: float = 0.5
    weight_decay: float = 1e-4

    _without = ("n_held_out_",)

    # all of it is the training's
    net_ = property(attrgetter("training_.net_"))
    history_ = property(attrgetter("training_.history_"))
    n_samples_seen_ = property(attrgetter("training_.n_samples_seen_"))
    device_ = property(attrgetter("training_.device_"))
    image_shape_ = property(attrgetter("training_.image_shape_"))
    n_features_in_ = property(attrgetter("training_.n_features_in_"))
    feature_names_in_ = property(attrgetter("training_.feature_names_in_"))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None) -> Self:
        """Learn codes of pictures like these.

        Parameters
        ----------
        X : array-like, tensor or files of shape (n_samples, height, width[, channels])
            Training pictures; also rows, with `image_shape` or as pictures of one line.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        training = getattr(self, "training_", None) if self.warm_start else None
        training = training or SimCLRTraining()
        self.training_ = training.set_params(**self.get_params(deep=False)).fit(X)
        return self

    def transform(self, X) -> Any:
        """Return the codes of pictures.

        Parameters
        ----------
        X : array-like, tensor or files of shape (n_samples, height, width[, channels])
            Pictures, as `fit` takes them.

        Returns
        -------
        codes : ndarray or tensor of shape (n_samples, code_size)
            In the dtype of `X`, and in its library and on its device.
        """
        check_is_fitted(self)
        X = self.training_._validate(X, reset=False)
        return self.training_._in_blocks(self.training_._map, X, dtype=X.dtype)

    @property
    def _n_features_out(self):
        return self.code_size

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags
