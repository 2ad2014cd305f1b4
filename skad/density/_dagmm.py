"""DAGMM: a Gaussian mixture of codes and reconstruction errors, learned together."""

from math import log, pi
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import ShapedDetector
from skad.nn.architecture import build
from skad.nn.network import Network, over_channels

# Added to covariances, relative to each variance and absolutely.
_EPS = 1e-6


def mixture(z, memberships):
    """Return weights (k,), means (k, f) and covariances (k, f, f) of soft clusters.

    Zong et al., equation (5); `z` is (n, f) and `memberships` (n, k). Variances are
    enlarged by a millionth, relatively and absolutely, so that all can be inverted.
    """
    counts = memberships.sum(0)
    share = memberships / counts.clamp_min(1e-12)  # (n, k)
    means = share.T @ z
    centred = z[:, None] - means  # (n, k, f)
    covariances = torch.einsum("nk,nkf,nkg->kfg", share, centred, centred)
    variances = covariances.diagonal(dim1=1, dim2=2)
    covariances = covariances + torch.diag_embed(_EPS * (1 + variances))
    return counts / len(z), means, covariances


def precision_factors(covariances):
    """Return lower triangular `W` (k, f, f) with inverse covariances `W^T W`."""
    deviations = covariances.diagonal(dim1=1, dim2=2).sqrt()  # (k, f)
    scale = deviations[:, :, None] * deviations[:, None, :]
    factors, _ = torch.linalg.cholesky_ex(covariances / scale)
    inverse = torch.linalg.solve_triangular(
        factors, torch.diag_embed(torch.ones_like(deviations)), upper=False
    )
    return inverse / deviations[:, None, :]


def energy(z, weights, means, factors):
    """Return minus the log density of the mixture at `z`, (n,): equation (6)."""
    white = torch.einsum("kfg,nkg->nkf", factors, z[:, None] - means)
    height = factors.diagonal(dim1=1, dim2=2).log().sum(1) - z.shape[1] / 2 * log(
        2 * pi
    )
    logs = weights.clamp_min(1e-30).log() + height - (white**2).sum(2) / 2  # (n, k)
    return -logs.logsumexp(1)


class DAGMMNetwork(Network):
    """Compression network, estimation network and the mixture of all samples."""

    def __init__(
        self,
        shape,
        latent_size,
        architecture,
        hidden_sizes,
        n_components,
        estimation_size,
        dropout,
        energy_weight,
        covariance_weight,
    ):
        super().__init__()
        self.encoder = build(architecture, shape, (latent_size,), hidden_sizes)
        self.decoder = build(architecture, (latent_size,), shape, hidden_sizes)
        size = latent_size + 2
        self.estimator = nn.Sequential(
            nn.Linear(size, estimation_size),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(estimation_size, n_components),
            nn.Softmax(dim=1),
        )
        self.energy_weight, self.covariance_weight = energy_weight, covariance_weight
        k = n_components
        self.register_buffer("weights", torch.full((k,), 1 / k))
        self.register_buffer("means", torch.zeros(k, size))
        self.register_buffer("covariances", torch.eye(size).repeat(k, 1, 1))
        self.register_buffer("factors", torch.eye(size).repeat(k, 1, 1))

    def features(self, x):
        """Return code, relative distance and cosine, (b, latent_size + 2), and rebuilt.

        Equations (1) to (3).
        """
        code = self.encoder(x)
        rebuilt = self.decoder(code)
        flat, again = x.flatten(1), rebuilt.flatten(1)
        distance = (flat - again).norm(dim=1) / flat.norm(dim=1).clamp_min(1e-6)
        cosine = functional.cosine_similarity(flat, again, eps=1e-6)
        return torch.cat([code, distance[:, None], cosine[:, None]], 1), rebuilt

    def reconstruct(self, x):
        """Return what the decoder makes of the code of `x`."""
        return self.decoder(self.encoder(x))

    def loss(self, x, y):
        """Return the objective, equation (7), with the mixture of the batch."""
        z, rebuilt = self.features(x)
        memberships = self.estimator(z)
        with torch.autocast(x.device.type, enabled=False):  # no inverse of half floats
            z = z.float()
            weights, means, covariances = mixture(z, memberships.float())
            energies = energy(z, weights, means, precision_factors(covariances))
        variances = covariances.diagonal(dim1=1, dim2=2)
        return (
            ((x - rebuilt) ** 2).flatten(1).sum(1).mean()
            + self.energy_weight * energies.mean()
            + self.covariance_weight * (1 / variances).sum()
        )

    def finish(self, batches, held=None):
        """Fix the mixture of all training samples."""
        z = torch.cat([self.features(x)[0] for x, _ in batches()])
        memberships = self.estimator(z)
        if z.device.type != "mps":
            z, memberships = z.double(), memberships.double()
        weights, means, covariances = mixture(z, memberships)
        self.weights.copy_(weights)
        self.means.copy_(means)
        self.covariances.copy_(covariances)
        self.factors.copy_(precision_factors(covariances))

    def anomaly(self, x):
        """Return the energy."""
        z, _ = self.features(x)
        return energy(z, self.weights, self.means, self.factors)

    def map(self, x):
        """Return the squared error of every element, summed over channels."""
        return over_channels((x - self.features(x)[1]) ** 2)

    def inspect(self, x):
        """Return the energy and the errors of one reconstruction."""
        z, rebuilt = self.features(x)
        anomaly = energy(z, self.weights, self.means, self.factors)
        return anomaly, over_channels((x - rebuilt) ** 2)


@with_parameters
class DAGMM(ShapedDetector):
    r"""Samples whose code and reconstruction error have low density together.

    A compression network, an autoencoder with code :math:`z_c` and reconstruction
    :math:`x'`, describes a sample by :math:`z = (z_c, \|x - x'\| / \|x\|, \cos(x,
    x'))`; an estimation network with a softmax says to which of :math:`K` components it
    belongs. Weights :math:`\phi_k`, means :math:`\mu_k` and covariances
    :math:`\Sigma_k` of the components follow from these memberships, and the anomaly is
    the energy [1]_ (equation 6)

    .. math:: a(x) = -\log \sum_k \phi_k \, N(z; \mu_k, \Sigma_k).

    Both networks are trained together (equation 7) to make small, in the mean over
    samples, :math:`\|x - x'\|^2 + \lambda_1 a(x)`, plus :math:`\lambda_2 \sum_{k, j}
    1 / \Sigma_{kjj}`; the mixture is that of the batch in training and that of all
    training samples in scores. The map is the squared error of every element,
    :math:`(x - x')^2`, of which the energy judges the sum; what is unusual in the code
    alone has no place in it.

    Read more in the :ref:`User Guide <density>`.

    Parameters
    ----------
    latent_size : int, default=2
        Length of the code; the paper's 1 for KDDCUP and thyroid, 2 for arrhythmia.
    n_components : int, default=2
        Components :math:`K`; the paper's 4 for KDDCUP, 2 for smaller tables.
    estimation_size : int, default=10
        Hidden units of the estimation network.
    dropout : float, default=0.5
        Share of hidden units that the estimation network drops in training.
    energy_weight : float, default=0.1
        :math:`\lambda_1`.
    covariance_weight : float, default=0.005
        :math:`\lambda_2`.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with `encoder`, `decoder`, `estimator`, and the mixture's
        `weights`, `means` and `covariances`.

    See Also
    --------
    GMM : A mixture of the samples themselves.

    Notes
    -----
    Variances are enlarged by 1e-6 of themselves and by 1e-6, so that covariances can be
    inverted. The paper trains with a learning rate of 0.0001 for up to 20,000 epochs;
    the defaults here are for the same loss in fewer steps. Its networks have tanh units
    between layers of sizes that it chooses for each table (`hidden_sizes`).
    Features should be on one scale (StandardScaler). Training is in float32, scoring in
    the dtype of `X`. Weak on small tables: trained on 250 rows of each of ten it gets a
    ROC AUC of .78 in the mean, without training .76, and the norm of the standardized
    row .83. On 19 others training is not worth its time, .64 with and without it, and
    the norm .68; other rates, codes of 1 to 8, more epochs, one component or no dropout
    change little (.62 to .69).

    References
    ----------
    .. [1] B. Zong et al., "Deep autoencoding Gaussian mixture model for unsupervised
       anomaly detection", ICLR, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.density import DAGMM
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> X += 0.1 * np.random.default_rng(1).normal(size=X.shape)
    >>> detector = DAGMM(random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-1.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-2.0]]).argmax())
    5
    """

    _network_class = DAGMMNetwork
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "estimation_size": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "energy_weight": [Interval(Real, 0, None, closed="left")],
        "covariance_weight": [Interval(Real, 0, None, closed="left")],
    }

    latent_size: int = 2
    n_components: int = 2
    estimation_size: int = 10
    dropout: float = 0.5
    energy_weight: float = 0.1
    covariance_weight: float = 0.005
    max_epochs: int = 100
