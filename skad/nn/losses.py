"""Element-wise errors between samples and their reconstructions."""

import torch
from torch.nn import functional

# Of the scales of `ms_ssim`, from the finest, and the fewest pixels of a side.
_POWERS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_FEWEST_PIXELS = 3


def ssim_parts(x, y, window_size=11, sigma=1.5, data_range=1.0):
    """Return the luminance and the structure of `ssim_map`, whose product it is."""
    fit = 2 * min(x.shape[-2:]) - 1
    window_size = min(window_size, fit - (fit + 1) % 2)
    place = torch.arange(window_size, dtype=x.dtype, device=x.device)
    weight = torch.exp(-((place - window_size // 2) ** 2) / (2 * sigma**2))
    weight = weight / weight.sum()
    c, margin = x.shape[1], window_size // 2

    def blur(image):
        image = functional.pad(image, (margin,) * 4, mode="reflect")
        rows = weight.reshape(1, 1, -1, 1).expand(c, 1, -1, 1)
        columns = weight.reshape(1, 1, 1, -1).expand(c, 1, 1, -1)
        return functional.conv2d(
            functional.conv2d(image, rows, groups=c), columns, groups=c
        )

    stable_mean, stable_contrast = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = blur(x), blur(y)
    variance_x = blur(x * x) - mean_x**2
    variance_y = blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + stable_mean) / (
        mean_x**2 + mean_y**2 + stable_mean
    )
    structure = (2 * covariance + stable_contrast) / (
        variance_x + variance_y + stable_contrast
    )
    return luminance, structure


def ssim_map(x, y, window_size=11, sigma=1.5, data_range=1.0):
    r"""Return the structural similarity of images at every pixel, (b, c, h, w).

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility
    to structural similarity", IEEE Transactions on Image Processing, 2004, equation
    (13) with a Gaussian window and their constants 0.01 and 0.03. At the border the
    window sees the mirrored image; it is cut to odd sizes that fit small images.
    """
    luminance, structure = ssim_parts(x, y, window_size, sigma, data_range)
    return luminance * structure


def ms_ssim(x, y):
    r"""Return the multi-scale structural similarity (b,) of images (b, c, h, w).

    Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality
    assessment", Asilomar, 2003, equation (7): the product over scales, each of half the
    size, of the mean structure to a power, and of the luminance in the last one. Images
    have as many scales, up to five, as leave three pixels; the powers are scaled to sum
    to one. Means below 1e-4 count as that, as there is no power of negative ones.
    """
    n_scales = 1
    while n_scales < len(_POWERS) and min(x.shape[2:]) >> n_scales >= _FEWEST_PIXELS:
        n_scales += 1
    total, found = sum(_POWERS[:n_scales]), 1
    for i, power in enumerate(_POWERS[:n_scales]):
        if i:
            x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
        luminance, structure = ssim_parts(x, y)
        if i == n_scales - 1:
            structure = luminance * structure
        found = found * structure.flatten(1).mean(1).clamp_min(1e-4) ** (power / total)
    return found


def element_errors(x, y, loss):
    """Return the error of every element, in the shape of `x`.

    Parameters
    ----------
    x, y : tensors of shape (b, ...)
        Samples and reconstructions.
    loss : {"mse", "l1", "ssim"}
        Squared and absolute differences, or one minus the structural similarity of
        images.
    """
    if loss == "mse":
        return functional.mse_loss(x, y, reduction="none")
    if loss == "l1":
        return (x - y).abs()
    return 1 - ssim_map(x, y)


def mean_error(x, y, loss):
    """Return the mean of `element_errors`, in one step where torch has one."""
    if loss == "mse":
        return functional.mse_loss(x, y)
    if loss == "l1":
        return functional.l1_loss(x, y)
    return element_errors(x, y, loss).mean()


def focal_errors(logits, labels, gamma=4):
    r"""Return the focal losses of logits with labels, 1 for anomalies, in their shape.

    .. math:: -(1 - p)^\gamma \log p,

    with the probability :math:`p` of the label: what is told apart already hardly
    counts (Lin et al., "Focal loss for dense object detection", ICCV, 2017).
    """
    loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (-torch.expm1(-loss)).pow(gamma).mul(loss)


def focal(logits, labels, gamma=4):
    """Return the mean of `focal_errors`."""
    return focal_errors(logits, labels, gamma).mean()


def deviation_loss(score, anomalous, margin):
    """Return DevNet's mean loss of scores (b,) in units of a reference's deviation.

    It is the size of the score of a normal sample, and what that of an anomalous one,
    where `anomalous` (b,) is true, lacks to the margin.
    """
    return (anomalous * (margin - score).relu() + ~anomalous * score.abs()).mean()


def focal_of(p, labels, gamma=2, smoothing=1e-5):
    """Return the mean focal loss of probabilities p with labels, 1 for anomalies.

    The probability of the label is moved by `smoothing`, so that it has a logarithm.
    """
    right = torch.where(labels == 1, p, 1 - p)
    right = (1 - smoothing) * right + smoothing
    return ((1 - right).clamp_min(0).pow(gamma) * -right.log()).mean()


def dice(p, labels):
    r"""Return the mean over maps of one minus the overlap of probabilities and labels.

    .. math:: 1 - \frac{2 \sum p m + 1}{\sum p + \sum m + 1}

    for maps `p` and masks `m`, tensors of shape (b, h, w).
    """
    both, all_ = ((p * labels).sum((1, 2)), (p + labels).sum((1, 2)))
    return (1 - (2 * both + 1) / (all_ + 1)).mean()
