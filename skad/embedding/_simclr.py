"""SimCLR: from pictures to codes that tell their views from those of others."""

from skad._parameters import with_parameters
from skad.embedding._learned_codes import CodesTraining, LearnedCodes, OfCodes
from skad.nn.contrast import ContrastiveNetwork


class CodesNetwork(OfCodes, ContrastiveNetwork):
    """An encoder of which nothing but the codes is asked."""


class SimCLRTraining(CodesTraining):
    """Trains the network of `SimCLR`."""

    _network_class = CodesNetwork


@with_parameters
class SimCLR(LearnedCodes):
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

    See Also
    --------
    CCD : Shifts of pictures and places of patches are told as well.
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

    _training_class = SimCLRTraining
