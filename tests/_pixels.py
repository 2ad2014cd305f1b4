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
    """Has "fine", directions that turn with the value, and "coarse", the mean of two.

    Nothing is multiplied by a matrix, so that features, which are of float32 whatever
    the pictures are, do not depend on the others in a batch.
    """

    def __init__(self):
        super().__init__()
        self.fine = torch.nn.Identity()
        self.coarse = torch.nn.AvgPool2d((1, 2), ceil_mode=True)

    def forward(self, x):
        """Return the coarse features of `x`."""
        # rows of tables have values far from 0..1, with squares that may overflow
        slow = x[:, :1].clamp(-1e6, 1e6) / 30
        length = 1 + slow.square()
        cosine, sine = (1 - slow.square()) / length, 2 * slow / length
        found = [cosine, sine]
        for _ in range(2):  # twice the angle
            cosine, sine = cosine.square() - sine.square(), 2 * cosine * sine
            found += [cosine, sine]
        return self.coarse(self.fine(torch.cat(found, dim=1)))


class Mixed(torch.nn.Module):
    """Weights of six channels, which no convolution says are those of pictures."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(8, 6) / 6**0.5)

    def forward(self, x):
        """Return eight channels."""
        return torch.einsum("oc,bchw->bohw", self.weight, x)


class Learned(torch.nn.Module):
    """Has "learned", channels with weights of the directions that `Lines` gives."""

    def __init__(self):
        super().__init__()
        self.lines = Lines()
        self.lines.coarse = torch.nn.Identity()
        self.learned = Mixed()

    def forward(self, x):
        """Return the features of `x`."""
        return self.learned(self.lines(x))
