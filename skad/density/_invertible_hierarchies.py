"""Pictures that a flow of normal ones finds less likely than a flow of all kinds."""

from numbers import Integral, Real
from typing import Any

import torch
from torch.nn import functional

from skad._fit_parameters import OutliersMixin
from skad._parameters import absent, with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import from_parameters
from skad._training._pictures import PictureNetworkDetector
from skad.nn.glow import Glow
from skad.nn.network import FromMeanNetwork

# Share of a batch that is drawn from the general set.
_GENERAL_SHARE = 0.5
# Pictures that start the scales and shifts of a flow.
_STARTING = 256


class InvertibleHierarchiesNetwork(FromMeanNetwork):
    """A flow of pictures in general, and one of normal ones that goes on from it."""

    phases = ("general", "fit")
    warm_phases = ("fit",)
    unwatched_phases = ("general",)  # what it learns from is not held out

    def __init__(
        self,
        shape,
        n_scales,
        n_steps,
        hidden_size,
        measure,
        noise,
        mutation,
        outlier_weight,
        temperature,
    ):
        super().__init__(shape)
        self.general = Glow(shape, n_scales, n_steps, hidden_size)
        self.own = Glow(shape, n_scales, n_steps, hidden_size)
        self.measure, self.noise, self.mutation = measure, noise, mutation
        self.outlier_weight, self.temperature = outlier_weight, temperature
        self.register_buffer("range", torch.zeros(2))
        self.register_buffer("has_begun", torch.tensor(False))

    def groups(self, phase):
        """Return the parameters of the flow that learns in a phase."""
        flow = self.general if phase == "general" else self.own
        return {"all": flow.parameters()}

    def begin(self, phase, batches):
        """Start the general flow with some pictures, the other one as a copy of it."""
        if phase == "fit":
            if not self.has_begun:  # a warm start goes on
                self.own.load_state_dict(self.general.state_dict())
                self.has_begun.fill_(True)
            return
        low, high, n, parts = torch.inf, -torch.inf, 0, []
        for x, _ in batches():
            low, high = min(low, float(x.min())), max(high, float(x.max()))
        self.range.copy_(torch.tensor([low, high]))
        for x, y in batches():
            if n < _STARTING:
                parts.append(self.of_all_kinds(x, y))
                n += len(parts[-1])
        self.general.start(self.noisy(torch.cat(parts)[:_STARTING]))

    def of_all_kinds(self, x, y):
        """Return the pictures of a batch that are no normal ones.

        Where none is given, some of their values are replaced by random ones.
        """
        if y is not None:
            return x[y == -1]
        replaced = torch.rand_like(x) < self.mutation
        low, high = self.range
        return torch.where(replaced, low + (high - low) * torch.rand_like(x), x)

    def noisy(self, x):
        """Return pictures with uniform noise, in the place of rounding."""
        return x + self.noise * torch.rand_like(x)

    def updates(self, phase, x, y):
        """Yield the negative log-likelihood of a flow, and the loss of outliers."""
        others = self.of_all_kinds(x, y) if phase == "general" or y is not None else x
        if phase == "general":
            yield "all", self.unlikely(self.general, others)
            return
        loss = self.unlikely(self.own, x if y is None else x[y != -1])
        if self.outlier_weight and y is not None and len(others):
            loss = loss + self.outlier_loss(self.noisy(others))
        yield "all", loss

    def unlikely(self, flow, x):
        """Return the mean negative log-likelihood of pictures, 0 of none."""
        if not len(x):
            return 0.0 * sum(weight.sum() for weight in flow.parameters())
        return -flow.terms(self.noisy(x)).sum(1).mean()

    def ratio(self, x):
        """Return the log-likelihood of normal pictures less the general one (b,)."""
        return self.own.terms(x).sum(1) - self.general.terms(x).sum(1)

    def outlier_loss(self, x):
        """Return the loss of pictures of all kinds that are taken for normal ones."""
        ratio = self.ratio(x) / self.temperature
        return self.outlier_weight * functional.softplus(ratio).mean()

    def anomaly(self, x):
        """Return the anomaly (b,)."""
        x = x + self.noise / 2
        if self.measure == "last_scale":
            return -self.own.terms(x)[:, -1]
        return -self.ratio(x)


@with_parameters
class InvertibleHierarchies(OutliersMixin, PictureNetworkDetector):
    r"""Pictures that are no more likely among normal ones than among all kinds.

    What pictures of all kinds have in common, such as that neighbouring pixels are
    alike, makes up most of a likelihood and says nothing of what is normal. A flow in
    several scales (Glow) learns pictures of a general set, and a copy of it then goes
    on with normal pictures alone. The anomaly [1]_ is

    .. math:: a(x) = \log p_0(x) - \log p(x)

    with the densities :math:`p_0` of the first and :math:`p` of the second. The
    likelihood of such a flow is a sum over scales. With ``measure="last_scale"`` the
    anomaly is minus what the last one, of few numbers that see the whole picture, adds
    to :math:`\log p`. The map is the integrated gradients of the anomaly on the way
    from the mean picture: their sum is the anomaly less that of the mean, up to the
    error of the quadrature.

    Read more in the :ref:`User Guide <density>`.

    Parameters
    ----------
    measure : {"ratio", "last_scale"}, default="ratio"
        The anomaly, as above.
    n_scales : int, default=3
        Scales; after each but the last half of the numbers are done. Where one number
        is left there are fewer.
    n_steps : int, default=32
        Steps of a scale: a scale and shift of the channels, a convolution that mixes
        them, and a coupling.
    hidden_size : int, default=512
        Channels between the three convolutions of a coupling.
    noise : float, default=1 / 256
        What is added in training is uniform from 0 to this; scores see its half.
    mutation : float, default=0.2
        Where no general set is given: the probability that a value of a normal picture
        is replaced, as in :class:`LikelihoodRatio`.
    outlier_weight : float, default=0.0
        Weight :math:`\lambda` of the loss of general pictures that the second flow
        takes for normal, :math:`\log(1 + \exp((\log p - \log p_0) / T))`. 0 is the
        method without it; the authors have 6000.
    temperature : float, default=1000.0
        The temperature :math:`T` of that loss.
    general_epochs : int, default=250
        Epochs in which the first flow learns. 0 leaves it as it starts.
    max_epochs : int or "auto", default=250
        Epochs of the second flow after them.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches, noise and mutations. Pass an int for reproducible
        results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its flows `general` and `own`.

    See Also
    --------
    skad.ensemble.LikelihoodRatio : The ratio of any density to that of mutated samples.
    skad.ensemble.InputComplexity : Takes away how many bits a sample needs.

    Notes
    -----
    The general set is `X_outliers`, or pictures with the label -1; half of each batch
    is drawn from them, so that an epoch is one pass over the normal pictures. The
    authors have 80 million tiny pictures. Without any the first flow learns normal
    pictures of which some values are replaced at random, which is no idea of this
    method's: that is the background of :class:`LikelihoodRatio`. Of equal data for both
    flows the ratio is 0 as soon as the second has nothing to learn.

    Flows have millions of weights with the defaults, those of the authors, and want a
    GPU and thousands of pictures. Squares of 2 x 2 pixels become channels in each
    scale; where height and width are odd, all pixels of the scale do. Departures: the
    authors train by Adamax, here the optimizer is a parameter; they mirror and move
    pictures, here nothing is; of class labels they make a loss, here there are none.
    The threshold is never taken from the general set. Training is in float32, scoring
    in the dtype of `X`.

    The general set has to hold what normal pictures may be mistaken for. Flows of two
    scales with 4 steps and 32 channels learned 800 of 1,000 Fashion-MNIST pictures at
    14 x 14, 25 epochs each with ``lr=2e-3``, in 20 to 30 CPU seconds. Digits of MNIST
    are then told from other such pictures with a ROC AUC of .46 by the likelihood of
    the second flow, as often found; by the ratio to mutated pictures with .70, and by
    the last scale with .72. Where the general set is patches of one photograph the
    ratio has .20, since digits are even less likely among these, and the last scale
    .78. Other patches of the photograph are told with 1.00, and pictures that are
    upside down with .68.

    References
    ----------
    .. [1] R. Schirrmeister, Y. Zhou, T. Ball and D. Zhang, "Understanding anomaly
       detection with deep invertible networks through hierarchies of distributions and
       features", NeurIPS, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.density import InvertibleHierarchies
    >>> rng = np.random.default_rng(0)
    >>> general = rng.uniform(size=(60, 8, 8))
    >>> stripes = 0.5 + 0.3 * np.sin(np.arange(8))
    >>> normal = stripes + rng.normal(0, 0.1, size=(60, 8, 8))
    >>> detector = InvertibleHierarchies(
    ...     n_scales=2, n_steps=2, hidden_size=8, general_epochs=5, max_epochs=15,
    ...     lr=0.005, random_state=0,
    ... ).fit(normal, X_outliers=general)
    >>> new = stripes + rng.normal(0, 0.1, size=(8, 8))
    >>> detector.predict(np.stack([new, new.T, rng.uniform(size=(8, 8))]))
    array([ 1, -1, -1])
    """

    architecture: Any = absent()
    hidden_sizes: Any = absent()

    measure: str = "ratio"
    n_scales: int = 3
    n_steps: int = 32
    hidden_size: int = 512
    noise: float = 1 / 256
    mutation: float = 0.2
    outlier_weight: float = 0.0
    temperature: float = 1000.0
    general_epochs: int = 250
    max_epochs: int | str = 250
    batch_size: int = 64
    lr: float = 5e-4
    weight_decay: float = 5e-5

    _network_class = InvertibleHierarchiesNetwork
    _epoch_parameters = ("max_epochs", "general_epochs")
    _costly = ("general_epochs", "n_steps")
    _uses_labels = True
    _parameter_constraints = {
        "measure": [StrOptions({"ratio", "last_scale"})],
        "n_scales": [Interval(Integral, 1, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "mutation": [Interval(Real, 0, 1, closed="both")],
        "outlier_weight": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "general_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    def _network(self, shape):
        return from_parameters(self, InvertibleHierarchiesNetwork, shape)

    def _epochs(self, phase):
        return self.general_epochs if phase == "general" else self.max_epochs

    def _anomaly_share(self):
        return _GENERAL_SHARE

    def _training_labels(self, X, y):
        labels = super()._training_labels(X, y)
        return labels if labels is not None and (labels == -1).any() else None

    def _row_elements(self):
        return 16 * self.n_features_in_ * self.hidden_size
