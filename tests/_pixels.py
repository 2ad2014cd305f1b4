"""Backbones that describe each pixel by its own value, for pictures of any size."""

import torch


class Pixels(torch.nn.Module):
    """Has one layer, "pixel", whose map is the picture."""

    def __init__(self):
        super().__init__()
        self.pixel = torch.nn.Identity()

    def forward(self, x):
        """Return `x`."""
        return self.pixel(x)


class Lines(torch.nn.Module):
    """Has "fine", a direction that turns with the value, and "coarse", of two in a line.

    Nothing is multiplied by a matrix, so that features, which are of float32 whatever
    the pictures are, do not depend on the others in a batch.
    """

    def __init__(self):
        super().__init__()
        self.fine = torch.nn.Identity()
        self.coarse = torch.nn.AvgPool2d((1, 2), ceil_mode=True)

    def forward(self, x):
        """Return the coarse features of `x`."""
        slow = x[:, :1] / 30  # rows of tables have values far from 0..1
        length = 1 + slow.square()
        cosine, sine = (1 - slow.square()) / length, 2 * slow / length
        found = [cosine, sine]
        for _ in range(2):  # twice the angle
            cosine, sine = cosine.square() - sine.square(), 2 * cosine * sine
            found += [cosine, sine]
        return self.coarse(self.fine(torch.cat(found, dim=1)))
