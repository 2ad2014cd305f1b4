"""Element-wise errors between samples and their reconstructions."""

import torch
from torch.nn import functional


def ssim_map(x, y, window_size=11, sigma=1.5, data_range=1.0):
    r"""Return the structural similarity of images at every pixel, (b, c, h, w).

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility
    to structural similarity", IEEE Transactions on Image Processing, 2004, equation
    (13) with a Gaussian window and their constants 0.01 and 0.03. At the border the
    window sees the mirrored image; it is cut to odd sizes that fit small images.
    """
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
    return luminance * structure


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
