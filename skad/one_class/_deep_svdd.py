"""Deep support vector data description."""

from numbers import Integral, Real

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import ShapedDetector
from skad.nn.hypersphere import BoundaryNetwork


@with_parameters
class DeepSVDD(ShapedDetector):
    r"""Samples that a trained encoder does not map close to a common centre.

    The mean code of the training samples under an encoder :math:`\phi` without bias
    terms, at random or pretrained as an autoencoder, becomes the centre :math:`c`, kept
    away from zero. Then the encoder is trained to pull the codes together, by the
    one-class objective

    .. math:: \min_\phi \; \frac{1}{n} \sum_i \|\phi(x_i) - c\|^2

    or with a soft boundary of radius :math:`R`,

    .. math:: \min_{R, \phi} \; R^2 + \frac{1}{\nu n} \sum_i
        \max(0, \|\phi(x_i) - c\|^2 - R^2),

    both with `weight_decay`. The anomaly is :math:`a(x) = \|\phi(x) - c\|^2`. The map
    is its integrated gradients on the way from the mean training sample: their sum is
    the anomaly less that of the mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    objective : {"one-class", "soft-boundary"}, default="one-class"
        Which of the two is minimised.
    nu : float, default=0.1
        Share :math:`\nu` of the training samples outside the soft boundary, in (0, 1).
    latent_size : int, default=64
        Length of the code.
    pretrain_epochs : int, default=0
        Epochs of an autoencoder that is trained before; 0 leaves the encoder at random.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between, from the sample's side; None is (128,)
        for linear layers and (32, 64, 128) for convolutions.
    n_warm_up_epochs : int, default=10
        Epochs before the soft boundary's radius follows the distances.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder`, `centre` and `radius`.
    radius_ : float
        The 1 - nu quantile of the training samples' distances to the centre.

    See Also
    --------
    DASVDD : Samples are rebuilt from their codes as well.
    DeepSAD : Takes known anomalies into account.
    SVDD : The smallest ball in a kernel's feature space.

    Notes
    -----
    Features should be on one scale (StandardScaler). After every epoch the radius is
    solved for over the whole training data, where the authors' code looks at the last
    batch alone; with the soft boundary it is the threshold of ``contamination="auto"``,
    and no samples are held out for one. Batch normalisation has no learned shift, as it
    would act as a bias. `history_` has the epochs of both phases, "pretrain" and "fit".

    The paper pretrains an autoencoder and goes on for 150 epochs. The longer codes are
    pulled together, the fewer directions the encoder keeps, and anomalies in others
    land at the centre too. Over 25 real tables a wide encoder at random, a low rate and
    no more than about 1,000 steps, the defaults, are better than no training, and
    a narrow one, pretraining and many more steps are worse: the files of
    benchmarks/results that begin with defaults_deepsvdd. For pictures, where filters at
    random are worth something, ``lr=1e-3`` that falls to zero did best
    (networks_pictures.tsv).

    References
    ----------
    .. [1] L. Ruff et al., "Deep one-class classification", ICML, 2018, equations (3)
       and (4), propositions 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.one_class import DeepSVDD
    >>> X = np.random.default_rng(0).normal(3.0, size=(200, 4))
    >>> detector = DeepSVDD(random_state=0).fit(X)
    >>> detector.predict([[3.0] * 4, [-3.0] * 4])
    array([ 1, -1])
    """

    _network_class = BoundaryNetwork
    _epoch_parameters = ("max_epochs", "pretrain_epochs")
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "objective": [StrOptions({"one-class", "soft-boundary"})],
        "nu": [Interval(Real, 0, 1, closed="neither")],
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left")],
        "n_warm_up_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    objective: str = "one-class"
    nu: float = 0.1
    latent_size: int = 64
    pretrain_epochs: int = 0
    n_warm_up_epochs: int = 10
    max_epochs: int | str = "auto"
    lr: float = 1e-4
    weight_decay: float = 1e-6

    def _epochs(self, phase):
        return self.pretrain_epochs if phase == "pretrain" else self.max_epochs

    def _holds_out(self):
        # the soft boundary is the threshold
        return self.objective == "one-class" and super()._holds_out()

    def _fit_offset(self, X, y, anomaly, **params):
        self.radius_ = float(self.net_.radius)
        if self.objective == "soft-boundary" and self.contamination == "auto":
            return -(self.radius_**2)
        return super()._fit_offset(X, y, anomaly, **params)
