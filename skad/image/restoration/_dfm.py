"""DFM: deep features of a whole picture that the normal ones' components miss."""

from numbers import Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.image.restoration._components import PooledComponents


@with_parameters
class DFM(PooledComponents):
    r"""Pictures whose features principal components of the normal ones miss.

    The features of a picture in one layer of a network, averaged over squares of places
    and taken as one long row, have over the training pictures a mean :math:`\mu` and
    principal components :math:`W` with variances :math:`\lambda_k`, as many as hold
    the share `variance` of the whole. With :math:`r = f - \mu` and :math:`z = W r` the
    anomaly is the error of rebuilding the features ("fre") or how improbable the code
    is under a Gaussian ("nll"):

    .. math:: a_{fre} = \lVert r - W^T z \rVert^2, \qquad
        a_{nll} = \tfrac12 \sum_k \Big(\frac{z_k^2}{\lambda_k}
        + \log 2 \pi \lambda_k\Big).

    The map has the parts of the sum, over the channels of each place, interpolated to
    the pixels of the picture. For "nll" the parts are
    :math:`\tfrac12 r_i (W^T \Lambda^{-1} z)_i`, which may be negative, and the score
    has the logarithms of the variances more than their sum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    variance : float, default=0.97
        Share of the training pictures' variance that the components hold.
    measure : {"fre", "nll"}, default="fre"
        The reconstruction error of the features, or the negative logarithm of the
        likelihood of their components.

    See Also
    --------
    FRE : A given number of directions, and no mean.
    GaussianAD : A Gaussian of the means over all places.

    Notes
    -----
    The components are found by a singular value decomposition in O(n d min(n, d)) for n
    pictures with d features of all places together. Pictures have to be aligned. The
    paper has no map.

    With a ResNet-18 at 128 pixels, areas under the ROC curve of pictures / of pixels
    are 0.903 / 0.811 on 80 magnetic tiles and 0.971 / 0.759 on cookies, those of
    `PatchCore` 0.903 / 0.768 and 0.998 / 0.955
    (``benchmarks/results/images_training.tsv``). On the tiles "nll" is near chance:
    0.587 / 0.573.

    With ``contamination="auto"`` the threshold comes from errors of pictures under
    components that are found without them, up to 200 pictures in five parts.

    References
    ----------
    .. [1] N. A. Ahuja, I. Ndiour, T. Kalyanpur and O. Tickoo, "Probabilistic modeling
       of deep features for out-of-distribution and adversarial detection", NeurIPS
       workshop on Bayesian deep learning, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import DFM
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 4:20, 12:28] += 0.3
    >>> DFM().fit(good).predict(bad)
    array([-1])
    """

    variance: float = 0.97
    measure: str = "fre"
    pool_size: int = 4

    _parameter_constraints = {
        "variance": [Interval(Real, 0, 1, closed="right")],
        "measure": [StrOptions({"fre", "nll"})],
    }

    def _check_parameters(self, X):
        if X.shape[0] < 2:
            raise ValueError("DFM needs two pictures, n_samples=1.")

    def _n_kept(self, variances):
        if not len(variances):
            return 0
        shares = variances.cumsum(0) / variances.sum()
        enough = self.variance - torch.finfo(shares.dtype).eps * len(shares)
        return min(len(shares), int((shares < enough).sum()) + 1)

    def _parts(self, pooled):
        if self.measure == "fre":
            return super()._parts(pooled)
        rows, codes = self._coded(pooled)
        scaled = codes / self.explained_variance_.to(pooled)
        return rows * (scaled @ self.components_.to(pooled)) / 2

    def _pool(self, patches):
        found = super()._pool(patches)
        if self.measure == "fre":
            return found
        return (
            found + (2 * torch.pi * self.explained_variance_).log().sum().to(found) / 2
        )
