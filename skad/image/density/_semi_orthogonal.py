"""Semi-orthogonal embedding: PaDiM on random directions of the features."""

from skad._parameters import with_parameters
from skad.image.density._padim import PlaceGaussians


@with_parameters
class SemiOrthogonal(PlaceGaussians):
    r"""Patches off the Gaussian of their place in random orthonormal directions.

    The features :math:`x_{ij}` that several layers of a network have at a place are
    multiplied by one random matrix :math:`W` with orthonormal columns [1]_, where
    :class:`PaDiM` draws some of them. Over the normal pictures :math:`W^T x_{ij}` has a
    mean :math:`\mu_{ij}` and a covariance :math:`\Sigma_{ij}` with :math:`\epsilon I`
    added, and the anomaly of a patch is the distance

    .. math:: \sqrt{(W^T x_{ij} - \mu_{ij})^T \Sigma_{ij}^{-1}
        (W^T x_{ij} - \mu_{ij})}.

    The map is that, interpolated to the pixels of the picture and smoothed, and the
    score is its maximum. It is ``PaDiM(reduction="orthogonal")``.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_features : int or None, default=100
        Directions, the columns of :math:`W`: 100 in the paper with a ResNet-18 and 300
        with a Wide-ResNet-50-2. None takes all features as they are.

    See Also
    --------
    PaDiM : Draws features.

    Notes
    -----
    What is said of `PaDiM` holds here: cost, threshold and departures. The authors
    divide covariances by the number of pictures, here it is one less.

    With a ResNet-18, at 128 pixels, areas under the ROC curve of pictures / of pixels
    are 0.910 / 0.749 on 80 magnetic tiles and 0.996 / 0.929 on cookies, those of
    `PatchCore` 0.903 / 0.768 and 0.998 / 0.955
    (``benchmarks/results/images_training.tsv``).

    References
    ----------
    .. [1] J.-H. Kim, D.-H. Kim, S. Yi and T. Lee, "Semi-orthogonal embedding for
       efficient unsupervised anomaly segmentation", 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import SemiOrthogonal
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = SemiOrthogonal(smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    reduction: str = "orthogonal"
