"""GaussianAD: a Gaussian of whole pictures for each layer of a network."""

from typing import Any

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf

from skad._array import to_numpy
from skad._parameters import absent, with_parameters
from skad.image._base import BackboneDetector, as_tensor, owners_of


def shrunk_gaussian(rows):
    r"""Return the Gaussian of rows (n, d), and how far each is from that of the others.

    Without row i the mean moves and the covariance loses a term of rank one. The
    shrinkage s and the mean variance v are kept: with the deviation r of the row and
    :math:`A = (1 - s) \sum r r^T / (n - 1) + s v I`, the Sherman-Morrison formula is

    .. math:: M_i^2 = \left(\frac{n}{n - 1}\right)^2 \frac{q}{1 - (1 - s) n q /
        (n - 1)^2}, \qquad q = r^T A^{-1} r.

    Returns
    -------
    mean : tensor of shape (d,)
    whitening : tensor of shape (d, d)
        W with :math:`W^T W = \Sigma^{-1}` for Ledoit and Wolf's shrunk covariance;
        directions without variance are left out, as in the pseudo-inverse.
    apart : tensor of shape (n,)
        The distances :math:`M_i`.
    """
    found, n = to_numpy(rows).astype(np.float64), len(rows)
    covariance, shrinkage = ledoit_wolf(found)
    values, vectors = np.linalg.eigh(covariance)
    varies = values > values.max() * n * np.finfo(values.dtype).eps
    values = np.where(varies, values, np.inf)
    added = shrinkage * np.trace(covariance) / len(values)
    coded = (found - found.mean(axis=0)) @ vectors
    q = (coded**2 / ((values - added) * n / (n - 1) + added)).sum(axis=1)
    rest = 1 - (1 - shrinkage) * n / (n - 1) ** 2 * q
    rest = np.maximum(rest, np.finfo(rest.dtype).eps)
    apart = n / (n - 1) * np.sqrt(q / rest)
    mean, whitening = found.mean(axis=0), vectors.T / np.sqrt(values)[:, None]
    return tuple(torch.as_tensor(each) for each in (mean, whitening, apart))


@with_parameters
class GaussianAD(BackboneDetector):
    r"""Pictures that do not fit the Gaussian of the network's layers, as a whole.

    The mean over all places describes a picture in each of the L layers of a network,
    by :math:`f_l`. Over the normal pictures it has a mean :math:`\mu_l` and a
    covariance :math:`\Sigma_l`, shrunk as by Ledoit and Wolf. The anomaly is

    .. math:: a = \frac1L \sum_l M_l, \qquad
        M_l = \sqrt{(f_l - \mu_l)^T \Sigma_l^{-1} (f_l - \mu_l)}.

    A place with features :math:`f_l(p)`, whose mean is :math:`f_l`, has the part

    .. math:: m_l(p) = \frac{1}{M_l}
        (f_l - \mu_l)^T \Sigma_l^{-1} (f_l(p) - \mu_l)

    of the distance: its mean over the places of a layer is :math:`M_l`. The map is the
    mean of :math:`m_l` over the layers, interpolated to the pixels of the picture and
    smoothed: where it is negative, the picture looks more normal than elsewhere.

    Read more in the :ref:`User Guide <image>`.

    Attributes
    ----------
    location_ : list of tensor of shape (n_channels,)
        :math:`\mu_l` of each layer.
    whitening_ : list of tensor of shape (n_channels, n_channels)
        :math:`W_l`, with :math:`W_l^T W_l = \Sigma_l^{-1}`.

    See Also
    --------
    PaDiM : A Gaussian for each place of aligned pictures.
    PatchCore : Compares patches instead of pictures.

    Notes
    -----
    It is for defects that change a picture as a whole; small ones are averaged away.
    Beside the backbone it costs next to nothing, for d channels O(n d^2 + d^3) in `fit`
    and O(d^2) a picture. The paper takes the nine blocks of an EfficientNet-B4
    (``backbone="timm/efficientnet_b4"`` with their names as `layers`); the default here
    are the first three layers of a ResNet. The network is not tuned. The paper has no
    map; the one here is exact, but a linear part of the whole and no distance of
    places.

    With ``contamination="auto"`` the threshold comes from distances of the training
    pictures to the Gaussians without them, in closed form, with the shrinkage of all.

    References
    ----------
    .. [1] O. Rippel, P. Mertens and D. Merhof, "Modeling the distribution of normal
       data in pre-trained deep features for anomaly detection", ICPR, 2021.
    .. [2] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional
       covariance matrices", Journal of Multivariate Analysis, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import GaussianAD
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 4:20, 12:28] += 0.2
    >>> detector = GaussianAD().fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(2 <= row <= 22 and 10 <= column <= 30)
    True
    """

    # the score is of the picture as a whole, and none of its map
    pooling: Any = absent()
    quantile: Any = absent()

    _honesty = "leave one out"
    _exports = True

    def _check_parameters(self, X):
        if X.shape[0] < 2:
            raise ValueError("GaussianAD needs two pictures, n_samples=1.")

    def _fit(self, X, y):
        self._fit_embedding(X)
        parts = []
        for rows in self._batches(X.shape[0]):
            maps = self.embedding_.feature_maps(as_tensor(X[rows]))
            parts.append([layer.mean((2, 3)) for layer in maps])
        means = [torch.cat(of_layer) for of_layer in zip(*parts, strict=True)]
        honest = self._leaves_out(owners_of(X))
        found = [shrunk_gaussian(rows) for rows in means]
        self.location_, self.whitening_, apart = map(list, zip(*found, strict=True))
        return torch.stack(apart).mean(0) if honest else self._distance(means)

    def _white(self, means):
        """Yield of each layer W (d, d) and deviations (b, d), those made white."""
        for rows, mean, whitening in zip(
            means, self.location_, self.whitening_, strict=True
        ):
            whitening = whitening.to(rows)
            yield whitening, (rows - mean.to(rows)) @ whitening.T

    def _distance(self, means):
        """Return the anomaly (b,) from the means (b, d) of each layer."""
        found = [white.square().sum(1).sqrt() for _, white in self._white(means)]
        return torch.stack(found).mean(0)

    def _anomaly(self, X):
        maps = self.embedding_.feature_maps(as_tensor(X))
        return self._distance([layer.mean((2, 3)) for layer in maps])

    def _map(self, X):
        return self._inspect(X)[1]

    def _inspect(self, X):
        with torch.no_grad():
            anomaly, maps = self._graph(as_tensor(X))
            return anomaly, self._as_map(maps)

    def _graph(self, x):
        maps = self.embedding_.feature_maps(x)
        means = [layer.mean((2, 3)) for layer in maps]
        found = []
        for layer, mean, (whitening, white) in zip(
            maps, self.location_, self._white(means), strict=True
        ):
            length = white.square().sum(1, keepdim=True).sqrt()
            towards = white / torch.where(length > 0, length, 1.0) @ whitening  # (b, d)
            places = layer - mean.to(layer)[:, None, None]
            found.append(self._upsampled((towards[:, :, None, None] * places).sum(1)))
        return self._distance(means), torch.stack(found).mean(0)
