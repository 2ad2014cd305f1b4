"""GCAD: where patches are unlike their teacher's, or do not belong together."""

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import share_of_epochs
from skad.image.student._patch_teachers import PatchTeachers, PatchTeachersDetector
from skad.nn.description import ContextNetwork
from skad.nn.distillation import squared
from skad.nn.unet import PooledUNet

# Share of the epochs in which what bypasses the code fades, and share of them before
# the second student learns.
_FADING, _FIRST = 0.2, 0.1


class Branches(nn.Module):
    """What learns from one teacher: a student, a network of few numbers, its student.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    channels : int
        Of the teacher.
    grid : tuple of int
        (gh, gw) of its maps.
    code_size, global_channels, global_width, student_width, student_sizes
        As for `GCAD`.
    """

    def __init__(
        self,
        shape,
        channels,
        grid,
        code_size,
        global_channels,
        global_width,
        student_width,
        student_sizes,
    ):
        super().__init__()
        c, *size = shape
        few = (global_channels, *grid)
        net = student_width, student_sizes
        self.local_student = PooledUNet(c, (channels, *grid), size, *net)
        self.context = ContextNetwork(shape, few, code_size, global_width)
        self.context_student = PooledUNet(c, few, size, *net)
        self.wide = nn.Sequential(
            nn.Conv2d(global_channels, channels, 1),
            nn.LeakyReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.LeakyReLU(),
            nn.Conv2d(channels, channels, 1),
        )


class GCADNetwork(PatchTeachers):
    """Teachers of patches, and two branches of each.

    Parameters
    ----------
    shape, described
        As for `PatchTeachers`.
    patch_sizes, channels, width, stride
        As for `GCAD`.
    code_size, global_channels, global_width, student_width, student_sizes
        As for `GCAD`.
    """

    def __init__(
        self,
        shape,
        described,
        patch_sizes,
        channels,
        width,
        stride,
        code_size,
        global_channels,
        global_width,
        student_width,
        student_sizes,
    ):
        own = code_size, global_channels, global_width, student_width, student_sizes

        def students(size, new, grid):
            return Branches(shape, channels, grid, *own)

        super().__init__(
            shape, described, patch_sizes, channels, width, stride, students
        )
        self.share_done = 0.0  # of the epochs

    def loss(self, x, y):
        """Return the squared errors of an element, summed over branches and sizes."""
        pictures, total = self._pictures(x), 0.0
        faded = min(1.0, self.share_done / _FADING)
        for taught, own in zip(self.taught(x), self.students, strict=True):
            context = own.context(pictures, faded)
            total = total + squared(taught, own.local_student(pictures)).mean()
            total = total + squared(taught, own.wide(context)).mean()
            if self.share_done >= _FIRST:
                said = own.context_student(pictures)
                total = total + squared(context, said).mean()
        return total

    def raw_maps(self, x):
        """Return the distances of all sizes, (2 sizes, b, gh, gw), the local first."""
        pictures, found = self._pictures(x), []
        for taught, own in zip(self.taught(x), self.students, strict=True):
            found.append(squared(taught, own.local_student(pictures)))
        for own in self.students:
            pair = own.context(pictures), own.context_student(pictures)
            found.append(squared(*pair))
        return torch.stack([each.sum(1).sqrt() for each in found])


@with_parameters
class GCAD(PatchTeachersDetector):
    r"""Patches that look wrong, and normal ones that do not belong together.

    A teacher :math:`T` describes the patch around each place by a few convolutions; it
    was itself taught by a large network. On normal pictures two pairs of networks learn
    from it [1]_. A student :math:`S` that sees far says the same as the teacher: it
    errs about patches that are new. A second network :math:`G` says by way of one short
    code of the whole picture, and in few channels, what the teacher says, up to a
    layer :math:`U` that looks at single places; and a second student :math:`R` that
    sees far says what :math:`G` does. What the code has no room for, such as a part too
    many, the two say differently. With :math:`\hat T`, each channel of the teacher at
    mean 0 and deviation 1 over the training pictures, the means over all elements are
    summed,

    .. math:: L = \mathrm{mean} (\hat T - S)^2 + \mathrm{mean} (\hat T - U(G))^2
        + \mathrm{mean} (G - R)^2.

    A place has the distances of both pairs,

    .. math:: A_l = \|\hat T - S\|, \qquad A_g = \|G - R\|,

    and with their means and deviations over all places of held-out normal pictures the
    map is :math:`(A_l - \mu_l) / \sigma_l + (A_g - \mu_g) / \sigma_g`. There are a
    teacher and two pairs for each of several sizes of patches; the map is the mean of
    theirs, interpolated to the pixels of the picture, and the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    code_size : int, default=32
        Length of the code. A longer one lets parts of the picture through, and with
        them what is wrong with the whole.
    global_channels : int, default=10
        Channels of :math:`G` and :math:`R`.
    global_width : int, default=32
        Channels of the first two layers of :math:`G`; others have twice as many.
    student_width : int, default=64
        Channels of the first layers of :math:`S` and :math:`R`, which are U-Nets; each
        half of the size has twice as many.
    student_sizes : int, default=5
        Sizes of these, each half of the one before; fewer where one pixel is left.
    patch_sizes : tuple of int, default=(17, 33)
        Sides of the patches in pixels, out of 17, 33 and 65.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        What the teachers were distilled from.
    net_ : torch.nn.Module
        The trained network, with its `teachers` and, in `students`, both pairs of each.

    See Also
    --------
    EfficientAD : One student for a teacher and for an autoencoder.
    UninformedStudents : The local pair alone, with several students.

    Notes
    -----
    :math:`G` halves the picture five times before the code and doubles it afterwards.
    As in the paper, what it has seen on the way to the code is added on the way back at
    the beginning of the training, and fades, the largest size first, in the first fifth
    of the epochs; :math:`R` learns after the first tenth of them. Nothing of this is
    left in scores, which know of the code alone. Gradients of the last term reach
    :math:`G` too.

    The authors published no code. Not known, and chosen here, are the channels of
    :math:`G`, that it adds what it has seen, what of the fading comes when, and how
    many pictures a step has. As in :class:`UninformedStudents`, the paper's teachers
    have seen ImageNet, and here they are distilled from `backbone` on the training
    pictures: they know these alone, and tell what looks wrong less well. U-Nets and
    :math:`G` end at the size of the teacher's map, so that `stride` saves time in all.
    The paper turns, flips and colours the pictures of some sets a little, each in its
    way; do so before the fit where it is normal.

    With 200 pictures of one dark disc somewhere, 48 x 48, and small networks, those of
    two discs, of which every patch is normal, are told from new ones of one disc by the
    largest :math:`A_l` with a ROC AUC of .77, as by the larger of two errors, by
    :math:`A_g` with 1.00 and by the sum with 1.00, after 60 epochs in 42 CPU seconds.
    That takes a second pair that has learned: half as many pictures end between .79 and
    1.00, as the weights begin.

    With the default sizes this is a GPU's work. 31 cookies at 64 x 64 with a ResNet-18
    and small networks, 30 epochs of batches of 4 in 23 CPU seconds, train it to tell 46
    others with a ROC AUC of .92, and pixels with .90; the distance to the mean picture
    has .95 and `UninformedStudents` .97. These cookies are broken or not, and the
    second pairs, .64 and .58, have hardly learned from so few. Trained too short it is
    worse than not at all: spoilt places in drawn textures are told with .65 by the
    weights as they are drawn, with .61 after 30 epochs and with .72 after 60.
    80 magnetic tiles, 12 epochs in 24 CPU seconds, are too short as well: .56 for
    pictures and for pixels, and .38 of new good ones are flagged.

    Where fewer than 12 pictures are normal, none are held out: then training pictures
    bring the maps to one scale, on which both are small. Training is in float32,
    scoring in the dtype of `X`.

    References
    ----------
    .. [1] P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger and C. Steger, "Beyond
       dents and scratches: logical constraints in unsupervised anomaly detection and
       localization", International Journal of Computer Vision, 2022, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import GCAD
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = GCAD(
    ...     patch_sizes=(17,),
    ...     channels=8,
    ...     width=4,
    ...     code_size=4,
    ...     global_width=4,
    ...     student_width=4,
    ...     teacher_epochs=3,
    ...     max_epochs=10,
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

    _network_class = GCADNetwork
    _parameter_constraints = {
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "global_channels": [Interval(Integral, 1, None, closed="left")],
        "global_width": [Interval(Integral, 1, None, closed="left")],
        "student_width": [Interval(Integral, 1, None, closed="left")],
        "student_sizes": [Interval(Integral, 1, None, closed="left")],
    }

    code_size: int = 32
    global_channels: int = 10
    global_width: int = 32
    student_width: int = 64
    student_sizes: int = 5
    patch_sizes: Sequence[int] = (17, 33)
    max_epochs: int = 500

    def _own_callbacks(self, phase, n_epochs):
        return share_of_epochs(n_epochs) if phase == "students" else ()
