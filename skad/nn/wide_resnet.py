"""Wide residual networks, which read small pictures."""

from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.architecture import build


class _Block(nn.Module):
    """Two 3 x 3 convolutions behind their norms, around a short cut."""

    def __init__(self, into, channels, stride):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(into), nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(into, channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.short = None
        if into != channels or stride > 1:
            self.short = nn.Conv2d(into, channels, 1, stride, bias=False)

    def forward(self, x):
        y = F.relu(self.norm1(x))
        short = x if self.short is None else self.short(y)
        return short + self.conv2(F.relu(self.norm2(self.conv1(y))))


class WideResNet(nn.Module):
    """A wide residual network with one block to a resolution: WRN-10-4 by default.

    Zagoruyko and Komodakis, "Wide residual networks", BMVC, 2016.

    Parameters
    ----------
    input_shape : tuple of int
        (c, h, w) of pictures.
    output_shape : tuple of int
        (size,) of what they are mapped to.
    hidden_sizes : sequence of int, default=(16, 64, 128, 256)
        Channels of the first convolution, and of each block; all blocks but the first
        halve height and width.
    bias : bool, default=True
        Whether the last layer has bias terms.
    """

    def __init__(
        self, input_shape, output_shape, hidden_sizes=(16, 64, 128, 256), bias=True
    ):
        super().__init__()
        into, *sizes = hidden_sizes
        parts = [nn.Conv2d(input_shape[0], into, 3, padding=1, bias=False)]
        for i, channels in enumerate(sizes):
            parts.append(_Block(into, channels, 2 if i else 1))
            into = channels
        self.parts = nn.Sequential(*parts)
        self.norm, self.head = nn.BatchNorm2d(into), nn.Linear(into, *output_shape)
        if not bias:
            self.head.register_parameter("bias", None)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)

    def features(self, x):
        """Map pictures (b, c, h, w) to the mean over places of the last maps."""
        return F.relu(self.norm(self.parts(x))).mean((2, 3))

    def forward(self, x):
        """Map (b, *input_shape) to (b, *output_shape)."""
        return self.head(self.features(x))


class WideEncoder(WideResNet):
    """One whose codes are the means of the last maps: WRN-10-4 for 256 of them.

    Parameters
    ----------
    input_shape : tuple of int
        (c, h, w) of pictures.
    output_shape : tuple of int
        (size,) of the codes, the channels of the last block.
    hidden_sizes : sequence of int, default=(16, 64, 128)
        Channels of the first convolution, and of each block but the last.
    """

    def __init__(self, input_shape, output_shape, hidden_sizes=(16, 64, 128)):
        super().__init__(input_shape, output_shape, (*hidden_sizes, *output_shape))
        self.head = nn.Identity()


def read_pictures(architecture, shape, size, hidden_sizes, auto=WideResNet):
    """Return a network from pictures of a shape to a vector: "auto" is a `WideResNet`.

    Or the one that is given. Other architectures, and `hidden_sizes`, are as `build`
    takes them.
    """
    made = auto if architecture == "auto" else architecture
    return build(made, shape, (size,), hidden_sizes)
