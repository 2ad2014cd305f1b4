"""Adversarially learned one-class classifier: a refiner and a discriminator."""

from skad._parameters import with_parameters
from skad.adversarial._refiner import RefinerDetector


@with_parameters
class ALOCC(RefinerDetector):
    r"""Samples that a refiner of noisy ones, trained against a discriminator, changes.

    A refiner :math:`R` removes noise from normal samples,
    :math:`\tilde x = x + \epsilon` with :math:`\epsilon \sim N(0, \sigma^2 I)`, and a
    discriminator :math:`D` learns to tell its work from clean samples [1]_,

    .. math:: \min_R \max_D \; E\log D(x) + E\log(1 - D(R(\tilde x)))
        + \lambda E\|x - R(\tilde x)\|^2,

    equations (2) to (4). A refiner that knows normal samples alone distorts the others.
    The anomaly is what it changes,

    .. math:: a(x) = \|x - R(x)\|^2,

    or, as in the paper, what the discriminator thinks of that,

    .. math:: a(x) = \log\frac{1 - D(R(x))}{D(R(x))},

    which ranks as :math:`-D(R(x))` does and has no ties where that is rounded to 0
    or 1. The map is :math:`(x - R(x))^2` at every element, summed over channels. It
    sums to the score for ``measure="reconstruction"`` and is not part of it otherwise.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    measure : {"reconstruction", "refined", "direct"}, default="reconstruction"
        What counts: "reconstruction" is the refiner's error :math:`\|x - R(x)\|^2`,
        which the paper trains and does not score with, "refined" its score, the
        discriminator's opinion of :math:`R(x)`, "direct" that of :math:`x`.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `refiner` and `discriminator`.
    history_ : list of dict
        Epoch, phase, seconds, "train_loss" (the sum), "discriminator_loss",
        "refiner_loss" and, with `patience`, "valid_loss".

    See Also
    --------
    ADAE : The discriminator is an autoencoder, and its error the score.

    Notes
    -----
    The refiner minimises :math:`-\log D(R(\tilde x))`, as in the authors' code, instead
    of :math:`\log(1 - D(R(\tilde x)))`, which has no gradient while the discriminator
    wins. The paper stops when the refiner's error is small enough, at a value that it
    does not state; here `max_epochs` ends the training. The paper's score depends on
    when that is: a discriminator that cannot tell any more says nothing, and one is
    never trained on samples other than the normal ones and their refined copies. What
    lies further out than both can look more real to it than normal samples do. A class
    of Fashion-MNIST against the others got a ROC AUC of .74, .39, .22, .22 and .53 by
    "refined" as epochs went by, and of .83 to .90 by "reconstruction" in the same run,
    so that is the default; by 1,500 pictures in 12 epochs .87 in the mean over the ten
    classes, where the distance to the mean picture gets .89. The discriminator has no
    batch normalization. Features should be on one scale (StandardScaler). Training is
    in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] M. Sabokrou, M. Khalooei, M. Fathy and E. Adeli, "Adversarially learned
       one-class classifier for novelty detection", CVPR, 2018. arXiv:1802.09088.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import ALOCC
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = ALOCC(latent_size=1, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-8.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-8.0]]).argmax())
    5
    """
