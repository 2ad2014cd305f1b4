"""Multiscale sparse coding: patches by the dictionaries of few scales."""

from numbers import Integral, Real

import numpy as np
import torch

from skad._dictionaries import distances, learned_atoms, usual
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._patch_model import PyramidModel


def shrunk(codes, penalty, group_penalty):
    """Return the proximal step of both prices of codes (b, g, k) of g groups.

    Each coefficient is made smaller by `penalty`, then each group by `group_penalty`.
    """
    codes = codes.sign() * (codes.abs() - penalty).clamp(min=0)
    lengths = codes.norm(dim=2, keepdim=True)
    return codes * (1 - group_penalty / lengths.clamp(min=1e-30)).clamp(min=0)


def group_codes(rows, atoms, penalty, group_penalty, n_steps):
    """Return the codes (b, g, k) of rows by atoms in groups.

    They make ``|s - D a|^2 / 2 + penalty |a|_1 + group_penalty sum_l |a_l|_2`` small,
    by accelerated proximal gradients.

    Parameters
    ----------
    rows : tensor of shape (b, d)
        The rows s.
    atoms : tensor of shape (g, k, d)
        Of g groups.
    penalty, group_penalty : float
        The prices.
    n_steps : int
        Steps, all of them taken.
    """
    flat = atoms.flatten(0, 1)
    gram, products = flat @ flat.T, rows @ flat.T
    rate = 1 / float(torch.linalg.matrix_norm(gram.double(), 2))
    codes = looked = rows.new_zeros(len(rows), *atoms.shape[:2])
    momentum = 1.0
    for _ in range(n_steps):
        downhill = products - looked.flatten(1) @ gram  # minus the gradient
        ahead = looked + rate * downhill.view_as(looked)
        before, codes = codes, shrunk(ahead, rate * penalty, rate * group_penalty)
        grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        looked = codes + (momentum - 1) / grown * (codes - before)
        momentum = grown
    return codes


@with_parameters
class MultiscaleSparseCoding(PyramidModel):
    r"""Patches that few atoms of one scale do not rebuild as they do others.

    A dictionary :math:`D_l` is learned for each level of a pyramid of normal pictures,
    so that a texture seen from farther away is as normal. A patch :math:`s`, less its
    mean, gets the code of all of them that makes

    .. math:: \frac12 \Big\|s - \sum_l D_l a_l\Big\|_2^2 + \lambda \|a\|_1
        + \xi \sum_l \|a_l\|_2

    small, where the last price lets few scales do the work. It has three numbers,
    :math:`g = (\|s - D a\|_2^2, \|a\|_1, \sum_l \|a_l\|_2)`, and the anomaly is the
    squared Mahalanobis distance from those of normal patches,

    .. math:: a(s) = (g - \mu)^T \Sigma^{-1} (g - \mu).

    The map is that, interpolated to the pixels and smoothed, and the score is its
    maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_components : int or None, default=None
        Atoms of each level. None is the number of pixels of a patch, with its channels.
    penalty : float, default=1.0
        Price :math:`\lambda` of absolute coefficients, for pixels of deviation one;
        above 0.
    group_penalty : float, default=1.0
        Price :math:`\xi` of scales. With 0 any atoms go together.
    max_epochs : int, default=3
        Passes over the patches at most while a dictionary is learned.
    n_steps : int, default=50
        Steps that code a patch.

    Attributes
    ----------
    atoms_ : ndarray of shape (n_levels, n_components, n_patch_pixels)
        The dictionaries, atoms of length one.
    center_ : ndarray of shape (3,)
        The means :math:`\mu` of the three numbers.
    covariance_ : ndarray of shape (3, 3)
        Their covariance :math:`\Sigma`.

    See Also
    --------
    Texems : Exemplars of patches, on levels that have to agree.
    skad.reconstruction.SparseCoding : Rows, and a dictionary of one scale.

    Notes
    -----
    Pictures are coded as they are; coarser levels are looked at to learn from, and the
    numbers of normal patches are those of all levels. Pixels that vary less than
    `min_deviation` count as noise of that deviation. Scoring costs O(t k^2 L^2) a patch
    for t steps and L levels of k atoms; learning hundreds of atoms takes minutes.

    The paper looks at patches of 15 x 15 pixels, at scales that lie closer than a
    factor of two, and solves by alternating directions; prices are ours.

    On pictures of 64 x 64, fitted to 20 good ones, the area under the ROC curve is 0.81
    on the cookies, where the distance to the mean picture has 0.90: these are not one
    texture. On 40 magnetic tiles it is 0.93 (0.89). Of new good pictures 3 of 34 are
    flagged. A fit takes about a minute.

    References
    ----------
    .. [1] D. Carrera, G. Boracchi, A. Foi and B. Wohlberg, "Scale-invariant anomaly
       detection with multiscale group-sparse models", ICIP, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import MultiscaleSparseCoding
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(6, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 1.0
    >>> detector = MultiscaleSparseCoding(n_components=9, n_levels=2, random_state=0)
    >>> detector.fit(good).predict(bad)
    array([-1])
    """

    n_components: int | None = None
    penalty: float = 1.0
    group_penalty: float = 1.0
    max_epochs: int = 3
    n_steps: int = 50
    n_levels: int = 3
    max_patches: int | None = 1000

    _center = True
    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "penalty": [Interval(Real, 0, None, closed="neither")],
        "group_penalty": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
    }

    def _tells_layers(self):
        return True

    def _fit_members(self, training, pictures, random):
        patches, _ = self._drawn(training, pictures, random)
        levels = torch.stack(self._layers(patches)).double()  # (L, b, d)
        deviation = float(levels.square().mean() ** 0.5)
        self._unit_ = max(deviation, self.min_deviation)
        n_components = self.n_components or levels.shape[2]
        self.atoms_ = np.stack(
            [
                learned_atoms(
                    level.numpy(force=True) / self._unit_,
                    n_components,
                    self.penalty,
                    self.max_epochs,
                    random,
                )
                for level in self._steps(levels, "fit", len(levels))
            ]
        )
        found = torch.cat([self._numbers(level) for level in levels])
        self.center_, self.covariance_ = usual(found.numpy(force=True))

    def _numbers(self, patches):
        """Return error, length of the code and of its groups (b, 3) of patches."""
        atoms = patches.new_tensor(self.atoms_)
        rows = patches / self._unit_
        codes = group_codes(rows, atoms, self.penalty, self.group_penalty, self.n_steps)
        errors = (rows - codes.flatten(1) @ atoms.flatten(0, 1)).square().sum(1)
        lengths = codes.abs().sum((1, 2))
        return torch.stack([errors, lengths, codes.norm(dim=2).sum(1)], 1)

    def _anomaly_of_patches(self, features):
        patches = self._layers(features)[0]
        found = self._numbers(patches.flatten(0, 2))
        found = distances(found, self.center_, self.covariance_)
        return found.reshape(features.shape[:3])
