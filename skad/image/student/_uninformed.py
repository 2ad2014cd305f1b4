"""UninformedStudents: where students err about patches, and where they disagree."""

from numbers import Integral

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image.student._patch_teachers import PatchTeachers, PatchTeachersDetector
from skad.nn.distillation import squared


class UninformedStudentsNetwork(PatchTeachers):
    """Teachers of patches of several sizes, and students of each.

    Parameters
    ----------
    shape, described
        As for `PatchTeachers`.
    patch_sizes, n_students, channels, width, stride
        As for `UninformedStudents`.
    """

    def __init__(
        self, shape, described, patch_sizes, n_students, channels, width, stride
    ):
        def students(size, new, grid):
            return nn.ModuleList(new(size) for _ in range(n_students))

        super().__init__(
            shape, described, patch_sizes, channels, width, stride, students
        )

    def pairs(self, x):
        """Return of each size the teacher's (b, c, gh, gw) and the students' maps.

        These are (m, b, c, gh, gw).
        """
        pictures = self._pictures(x)
        said = [torch.stack([one(pictures) for one in each]) for each in self.students]
        return list(zip(self.taught(x), said, strict=True))

    def loss(self, x, y):
        """Return the squared error of places, summed over students and sizes."""
        return sum(
            squared(taught, said).sum(2).mean((1, 2, 3)).sum()
            for taught, said in self.pairs(x)
        )

    def raw_maps(self, x):
        """Return errors and variances of all sizes, (2 sizes, b, gh, gw)."""
        pairs = self.pairs(x)
        errors = [squared(taught, said.mean(0)).sum(1) for taught, said in pairs]
        variances = [said.var(0, correction=0).sum(1) for _, said in pairs]
        return torch.stack([*errors, *variances])


@with_parameters
class UninformedStudents(PatchTeachersDetector):
    r"""Patches of which students do not know what their teacher says, or disagree.

    A teacher :math:`T` describes the patch around each place by a few convolutions; it
    was itself taught by a large network. On normal pictures M students :math:`S_i`
    learn to say the same from different beginnings. With :math:`\hat T`, each channel
    of the teacher at mean 0 and deviation 1 over the training pictures, a place has the
    error of the students' mean and their variance [1]_,

    .. math:: e = \left\| \frac1M \sum_i S_i - \hat T \right\|^2, \qquad
        v = \frac1M \sum_i \|S_i\|^2 - \left\| \frac1M \sum_i S_i \right\|^2,

    and with the means and deviations of both over all places of held-out normal
    pictures the map is :math:`(e - \mu_e) / \sigma_e + (v - \mu_v) / \sigma_v`. There
    are a teacher and students for each of several sizes of patches; the map is the mean
    of theirs, interpolated to the pixels of the picture, and the score is its maximum.

    Training minimises the mean of :math:`\|S_i - \hat T\|^2` over the places. Before
    it, teachers minimise :math:`\|D(T) - F\|^2 + \sum_{i \ne j} c_{ij}^2`, where D is a
    linear layer, F what the large network says there, and c are the correlations of
    the channels of T over the places of a batch.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_students : int, default=3
        Students of each teacher, and like it. With 1 there is no variance.
    batch_size : int, default=1
        Pictures of a training step.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        What the teachers were distilled from.
    net_ : torch.nn.Module
        The trained network, with its `teachers` and `students`.

    See Also
    --------
    EfficientAD : One small teacher and student, and an autoencoder.
    STFPM : The teacher is the large network itself.

    Notes
    -----
    The paper's teachers have seen ImageNet; here they are distilled from `backbone` on
    the training pictures, which are flipped at random: they know these alone, and tell
    anomalies less well. The features of the backbone come to the places by
    interpolation, where the paper enlarges each patch to a picture. Its weights of the
    losses are 1, and 0 for a third, of triplets. Pictures are brought to -1..1 and have
    zeros around them. Of patches of 33 pixels the network sees 32, and of 65 60, since
    its pools leave out what is odd.

    With the default sizes this is a GPU's work; without one take ``width=16``,
    ``channels=16`` and small pictures: 31 cookies at 64 x 64 train it so with a
    ResNet-18 in 27 CPU seconds, 10 epochs for teachers and 10 for students with
    ``batch_size=4, lr=1e-3``. 46 others are told with a ROC AUC of .97, and pixels with
    .95; PatchCore has .94 and .90 at that size.

    Where fewer than 12 pictures are normal, none are held out: then training pictures
    bring errors and variances to one scale, on which both are small. Training is in
    float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] P. Bergmann, M. Fauser, D. Sattlegger and C. Steger, "Uninformed students:
       student-teacher anomaly detection with discriminative latent embeddings", CVPR,
       2020, equations (1) to (10).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import UninformedStudents
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = UninformedStudents(
    ...     patch_sizes=(17,),
    ...     channels=8,
    ...     width=4,
    ...     teacher_epochs=3,
    ...     max_epochs=5,
    ...     batch_size=4,
    ...     lr=0.003,
    ...     random_state=0,
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(4 <= row <= 19 and 12 <= column <= 27)
    True
    """

    _network_class = UninformedStudentsNetwork
    _parameter_constraints = {
        "n_students": [Interval(Integral, 1, None, closed="left")],
    }

    n_students: int = 3
    batch_size: int = 1
