"""scikit-learn's Gaussian mixture in fewer multiplications."""

import numpy as np
from scipy.linalg import blas, lapack
from sklearn.mixture import GaussianMixture

from skad._array import slices

# Elements of a block of deviations, a megabyte, which stays near the processor.
_ELEMENTS = 2**17


class Mixture(GaussianMixture):
    """scikit-learn's, whose steps with full covariances take a third of the time.

    Scatters and factors of precisions have halves that need not be multiplied, and
    deviations of a block of rows from a mean are used while they are in the cache.
    """

    def plain(self):
        """Return the fitted mixture without these steps."""
        mixture = GaussianMixture()
        vars(mixture).update(vars(self))
        return mixture

    def _initialize(self, X, resp, **known):
        if self.covariance_type != "full":
            super()._initialize(X, resp, **known)
        else:
            self._learn(X, resp)

    def _m_step(self, X, log_resp, **known):
        if self.covariance_type != "full":
            super()._m_step(X, log_resp, **known)
        else:
            self._learn(X, np.exp(log_resp))

    def _learn(self, X, resp):
        """Set what the mixture is from responsibilities (n, k) of the clouds."""
        n, d = X.shape
        sizes = resp.sum(axis=0) + 10 * np.finfo(resp.dtype).eps
        means = resp.T @ X / sizes[:, None]
        roots = np.sqrt(resp)
        scatter = np.zeros((len(sizes), d, d))
        for rows in slices(n, self._block_rows(X)):
            block, root = X[rows], roots[rows]
            deviations = np.empty_like(block)
            for k, mean in enumerate(means):
                np.subtract(block, mean, out=deviations)
                deviations *= root[:, k, None]
                scatter[k] += deviations.T @ deviations  # of one half by BLAS
        scatter /= sizes[:, None, None]
        scatter[:, np.arange(d), np.arange(d)] += self.reg_covar
        self.weights_, self.means_ = sizes / sizes.sum(), means
        self.covariances_ = scatter
        try:
            lower = np.linalg.cholesky(scatter)
        except np.linalg.LinAlgError:
            raise ValueError(
                "Fitting the mixture model failed because some components have "
                "ill-defined empirical covariance (for instance caused by singleton or "
                "collapsed samples). Try to decrease the number of components, "
                "increase reg_covar, or scale the input data."
            ) from None
        upper = [lapack.dtrtri(factor.T)[0] for factor in lower]
        self.precisions_cholesky_ = np.ascontiguousarray(upper)

    def _estimate_log_prob(self, X, **known):
        if self.covariance_type != "full":
            return super()._estimate_log_prob(X, **known)
        n, d = X.shape
        squares = np.empty((n, len(self.means_)))
        factors = self.precisions_cholesky_
        for rows in slices(n, self._block_rows(X)):
            block = X[rows]
            for k, (mean, factor) in enumerate(zip(self.means_, factors, strict=True)):
                white = blas.dtrmm(
                    1.0, factor.T, (block - mean).T, lower=1, overwrite_b=1
                ).T
                squares[rows, k] = np.vecdot(white, white)
        heights = np.log(np.diagonal(factors, 0, 1, 2)).sum(axis=1)
        return heights - (d * np.log(2 * np.pi) + squares) / 2

    def _block_rows(self, X):
        return max(1, _ELEMENTS // X.shape[1])
