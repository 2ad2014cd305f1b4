"""GPND: the likelihood along and across the manifold that a decoder draws."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from scipy.optimize import minimize

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import IncrementalNetworkMixin
from skad.adversarial._aae import AAENetwork
from skad.adversarial._game import GameDetector
from skad.nn.adversarial import (
    Discriminator,
    discriminator_loss,
    frozen,
    generator_loss,
    judged_together,
)
from skad.nn.network import over_channels

# Bins of the histogram of errors, and the log density where it is empty (1e-308).
_BINS, _EMPTY = 30, -709.2
# Singular values of a Jacobian below this times the largest are raised to it: the
# decoder does not move in their directions, but for rounding.
_FLAT = 1e-5
# Lengths and singular values from here on count, in whatever dtype.
_TINY = float(torch.finfo(torch.float32).tiny)
# Shapes of generalised normals: between cusps and what is nearly uniform.
_SHAPES = 0.3, 30.0


def generalized_normal(values):
    r"""Return the location, scale and shape of greatest likelihood of values (n,).

    Of the density :math:`\beta e^{-(|x - \mu| / s)^\beta} / (2 s \Gamma(1 / \beta))`;
    for a location and a shape the scale is the mean of :math:`\beta |x - \mu|^\beta` to
    the power of :math:`1 / \beta`. Shapes are between 0.3 and 30: beyond, a location at
    one of the values would be infinitely likely.
    """
    center, deviation = float(np.mean(values)), float(np.std(values))
    if deviation <= 1e-12 * max(1.0, abs(center)):
        return center, max(1e-6, 1e-6 * abs(center)), 2.0
    standard = (values - center) / deviation

    def scale_of(location, shape):
        away = np.abs(standard - location)
        largest = away.max()
        mean = np.mean((away / largest) ** shape)
        return largest * (shape * mean) ** (1 / shape)

    def cost(point):
        location, shape = point[0], np.clip(np.exp(point[1]), *_SHAPES)
        log_scale = math.log(scale_of(location, shape))
        return log_scale + math.lgamma(1 / shape) - math.log(shape) + 1 / shape

    found = minimize(cost, [0.0, math.log(2.0)], method="Nelder-Mead").x
    shape = float(np.clip(np.exp(found[1]), *_SHAPES))
    location = center + deviation * found[0]
    return float(location), float(deviation * scale_of(found[0], shape)), shape


class GPNDNetwork(AAENetwork):
    """Adversarial autoencoder with a critic of samples, and densities of its parts."""

    def __init__(
        self,
        shape,
        latent_size,
        feature_size,
        reconstruction_weight,
        perpendicular_power,
        measure,
        architecture,
        hidden_sizes,
    ):
        super().__init__(
            shape, latent_size, feature_size, measure, architecture, hidden_sizes
        )
        self.critic = Discriminator(
            shape, architecture, hidden_sizes, n_features=feature_size
        )
        self.weight = reconstruction_weight
        left = perpendicular_power * (math.prod(shape) - latent_size)
        self.dimension = max(1.0, left)  # that errors count for
        self.register_buffer("codes", torch.ones(3, latent_size))
        self.register_buffer("edges", torch.linspace(0, 1, _BINS + 1))
        self.register_buffer("log_heights", torch.zeros(_BINS))

    def groups(self, phase):
        """Return the weights of both critics, the decoder's and the autoencoder's."""
        decoder = list(self.decoder.parameters())
        return {
            "critic": self.critic.parameters(),
            "generator": decoder,
            "discriminator": self.discriminator.parameters(),
            "autoencoder": [*self.encoder.parameters(), *decoder],
        }

    def updates(self, phase, x, y):
        """Yield both sides of the game on samples, then of that on codes."""
        code = self.encoder(x)
        with torch.no_grad():
            made = self.decoder(torch.randn_like(code))
        logits = judged_together(self.critic, (x,), (made,))
        yield "critic", discriminator_loss(*logits)
        with frozen(self.critic):
            made = self.critic(self.decoder(torch.randn_like(code)))[0]
        yield "generator", generator_loss(made)
        prior = torch.randn_like(code)
        logits = judged_together(self.discriminator, (prior,), (code.detach(),))
        yield "discriminator", discriminator_loss(*logits)
        with frozen(self.discriminator):
            hidden = generator_loss(self.discriminator(code)[0])
        error = (x - self.decoder(code)).square().mean()
        yield "autoencoder", self.weight * error + hidden

    def finish(self, batches, held=None):
        """Take the densities of codes and of errors from the training data."""
        codes, errors = [], []
        for x, _ in batches():
            code = self.encoder(x)
            codes.append(code.double().cpu())
            error = (x - self.decoder(code)).flatten(1)
            errors.append(error.norm(dim=1).double().cpu())
        codes, errors = torch.cat(codes).numpy(), torch.cat(errors).numpy()
        fits = [generalized_normal(one) for one in codes.T]
        self.codes.copy_(torch.tensor(fits).T)
        heights, edges = np.histogram(errors, bins=_BINS, density=True)
        with np.errstate(divide="ignore"):
            heights = np.maximum(np.log(heights), _EMPTY)
        edges[-1] *= 1 + 1e-5  # or rounding would put the largest error beyond it
        self.edges.copy_(torch.from_numpy(edges))
        self.log_heights.copy_(torch.from_numpy(heights))

    def log_code_density(self, code):
        """Return the log density (b,) of codes under the generalised normals."""
        location, scale, shape = self.codes
        away = ((code - location) / scale).abs() ** shape
        constant = (shape / (2 * scale)).log() - torch.lgamma(1 / shape)
        return (constant - away).sum(1)

    def log_radius_density(self, radius):
        """Return the log density (b,) of errors' lengths, by the histogram.

        Left of it the density falls to 0 as the length does, right of it there is none.
        """
        first, last = self.edges[0], self.edges[-1]
        place = torch.searchsorted(self.edges, radius.contiguous(), right=True) - 1
        inside = self.log_heights[place.clamp(0, _BINS - 1)]
        left = self.log_heights[0] + (radius / first).log()
        found = torch.where(radius < first, left, inside)
        return torch.where(radius > last, _EMPTY, found).clamp(min=_EMPTY)

    def stretch(self, code):
        r"""Return the log volume (b,) that the decoder makes of a unit of codes.

        Half the log determinant of :math:`J^T J`, of the Jacobian :math:`J` at a code:
        one derivative of a derivative for each element of the code.
        """
        units = torch.eye(code.shape[1], dtype=code.dtype, device=code.device)
        with torch.enable_grad():
            code = code.detach().requires_grad_(True)
            made = self.decoder(code)
            # what stands behind is linear in `weights`: its derivative is the Jacobian;
            # forward differentiation has one state for all threads
            weights = torch.zeros_like(made, requires_grad=True)
            (back,) = torch.autograd.grad(made, code, weights, create_graph=True)
            columns = [
                torch.autograd.grad(
                    back, weights, unit.expand_as(back), retain_graph=True
                )[0]
                for unit in units
            ]
        jacobian = torch.stack(columns, 1).flatten(2)  # (b, k, m)
        values = torch.linalg.svdvals(jacobian)
        values = values.maximum(_FLAT * values[:, :1])
        return values.clamp(min=_TINY).log().sum(1)

    def log_density(self, x, code, rebuilt):
        """Return the log likelihood (b,) of samples with their codes."""
        radius = (x - rebuilt).flatten(1).norm(dim=1)
        radius = radius.clamp(min=_TINY)
        n = self.dimension
        sphere = math.lgamma(n / 2) - math.log(2) - n / 2 * math.log(math.pi)
        across = sphere - (n - 1) * radius.log() + self.log_radius_density(radius)
        return self.log_code_density(code) - self.stretch(code) + across

    def anomaly(self, x):
        """Return the squared error, or minus the log likelihood."""
        return self.inspect(x)[0]

    def inspect(self, x):
        """Return the anomaly and the errors of samples that are rebuilt once."""
        code = self.encoder(x)
        rebuilt = self.decoder(code)
        maps = over_channels((x - rebuilt).square())
        if self.measure == "reconstruction":
            return maps.flatten(1).sum(1), maps
        return -self.log_density(x, code, rebuilt), maps


@with_parameters
class GPND(IncrementalNetworkMixin, GameDetector):
    r"""Samples that are unlikely along or across the manifold of normal ones.

    An adversarial autoencoder, with encoder :math:`e`, decoder :math:`d` and a
    discriminator of codes as in `AAE`, has a second critic, of samples that the decoder
    makes of draws from the prior :math:`N(0, I)`. What the decoder makes is a manifold
    of as many dimensions as the code has, and the likelihood of a sample is the product
    of that of its place on it and that of its distance to it [1]_:

    .. math:: a(x) = -\log p_z(e(x)) + \sum_j \log s_j - \log p_\perp(\|x - d(e(x))\|),
        \qquad p_\perp(r) = \frac{\Gamma(N / 2)}{2 \pi^{N / 2} r^{N - 1}} p_r(r),

    with the singular values :math:`s_j` of the decoder's Jacobian at the code. The
    density :math:`p_z` is a product of generalised normals, one for each element of
    codes, and :math:`p_r` a histogram of 30 bins, both of the training data. The map is
    the squared error of every element, summed over channels: the last term depends on
    its sum, the others do not.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=8
        Length of the code, the dimension of the manifold.
    feature_size : int, default=64
        Units before the last layer of both critics, and of the hidden layer of that of
        codes.
    reconstruction_weight : float, default=2.0
        Weight of the mean squared error beside the autoencoder's part of the game.
    perpendicular_power : float, default=0.2
        The number :math:`N` is the number of elements less `latent_size`, times this,
        and at least 1; 1 is the likelihood.
    measure : {"likelihood", "reconstruction"}, default="likelihood"
        The anomaly above, or the squared error, to which the map then sums.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder`, `discriminator` of codes and
        `critic` of samples.

    See Also
    --------
    AAE : The same without the critic of samples, and with one of the parts as a score.

    Notes
    -----
    On ten small tables, trained on 250 rows of each, the ROC AUC is .87 in the mean,
    where the norm of the standardized row gets .83. On pictures it is slightly below
    the distance to the mean: three classes of Fashion-MNIST against the others get .85
    in the mean, by 1,500 pictures in 20 epochs of linear layers, and the distance .86;
    two of them .83 by convolutions, 600 pictures in 12 epochs, and the distance .85.

    The authors' code, from which `perpendicular_power` comes, takes the Jacobian of the
    encoder and adds the logarithms of its singular values where they have to be
    subtracted; here it is the decoder's, and in the linear Gaussian case with
    ``perpendicular_power=1`` the anomaly is minus the log likelihood. The paper has
    :math:`N` as the exponent of :math:`r` instead of :math:`N - 1`. The authors rebuild
    by the binary cross entropy of pictures in 0..1, and take a threshold from
    anomalies. Left of the histogram the density falls to zero in a line, right of it
    and in empty bins it is 1e-308. Singular values below 1e-5 times the largest are
    raised to that, as a decoder with a layer of fewer units than the code has elements
    does not move in some directions. A score takes one pass back through the decoder
    for each element of the code. Features should be on one scale (StandardScaler).
    Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] S. Pidhorskyi, R. Almohsen, D. A. Adjeroh and G. Doretto, "Generative
       probabilistic novelty detection with adversarial autoencoders", NeurIPS, 2018,
       sections 3 and 4. arXiv:1807.02588.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import GPND
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = GPND(latent_size=1, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-8.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-8.0]]).argmax())
    5
    """

    _network_class = GPNDNetwork
    _optimizer_options = {"betas": (0.5, 0.999)}
    _exports = False  # its scores take derivatives
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "feature_size": [Interval(Integral, 1, None, closed="left")],
        "reconstruction_weight": [Interval(Real, 0, None, closed="left")],
        "perpendicular_power": [Interval(Real, 0, None, closed="left")],
        "measure": [StrOptions({"likelihood", "reconstruction"})],
    }

    latent_size: int = 8
    feature_size: int = 64
    reconstruction_weight: float = 2.0
    perpendicular_power: float = 0.2
    measure: str = "likelihood"
    lr: float = 2e-3

    @property
    def _map_sums_to_score(self):
        return self.measure == "reconstruction"
