"""MobileNetV2 as TensorFlow pads it, with batch norms folded into the convolutions."""

from torch import nn
from torch.nn import functional as F  # noqa: N812

# Expansion, channels, repetitions and stride of each group of blocks.
GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAYERS = tuple(f"group{i + 1}" for i in range(len(GROUPS)))


class Convolution(nn.Module):
    """A convolution padded as TensorFlow's SAME, maybe with ReLU6.

    What does not divide evenly goes to the right and the bottom. The convolution's
    attribute is `dw` for one with a filter for each channel, else `conv`.
    """

    def __init__(self, into, out, size=1, stride=1, each=False, relu=True):
        super().__init__()
        self.size, self.stride, self.relu = size, stride, relu
        self.kind = "dw" if each else "conv"
        groups = into if each else 1
        self.add_module(
            self.kind, nn.Conv2d(into, out, size, stride, groups=groups, bias=True)
        )

    def forward(self, x):
        """Return the map."""
        if self.size > 1:
            height, width = (
                max((-(-n // self.stride) - 1) * self.stride + self.size - n, 0)
                for n in x.shape[-2:]
            )
            left, top = width // 2, height // 2
            x = F.pad(x, (left, width - left, top, height - top))
        x = getattr(self, self.kind)(x)
        return F.relu6(x, inplace=True) if self.relu else x


class MobileNetV2(nn.Module):
    """MobileNetV2 up to the last of `layers`; returns the maps of all of them.

    Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", CVPR,
    2018, table 2. Its layers are the groups of equal blocks, "group1" to "group7", at
    strides 2, 4, 8, 16, 16, 32 and 32. Parameters are numbered in the order of the
    graph: "00.conv.weight", "01.dw.weight", ...
    """

    def __init__(self, layers=("group3", "group5")):
        super().__init__()
        self.layers = tuple(layers)
        # each block: the numbers of its convolutions, whether it has a short cut
        self.plan = {}
        self._add(Convolution(3, 32, 3, 2))
        into = 32
        last = max(LAYERS.index(layer) for layer in layers)
        for name, (expansion, out, n_blocks, stride) in zip(
            LAYERS[: last + 1], GROUPS, strict=False
        ):
            self.plan[name] = []
            for i in range(n_blocks):
                step, inner, numbers = stride if i == 0 else 1, into * expansion, []
                if expansion > 1:
                    numbers.append(self._add(Convolution(into, inner)))
                numbers += [
                    self._add(Convolution(inner, inner, 3, step, each=True)),
                    self._add(Convolution(inner, out, relu=False)),
                ]
                self.plan[name].append((numbers, step == 1 and into == out))
                into = out

    def _add(self, convolution):
        number = f"{len(self._modules):02d}"
        self.add_module(number, convolution)
        return number

    def forward(self, x):
        """Return the maps of `layers`, in their order."""
        x = self.get_submodule("00")(x)
        found = {}
        for name, blocks in self.plan.items():
            for numbers, short_cut in blocks:
                short = x
                for number in numbers:
                    x = self.get_submodule(number)(x)
                if short_cut:
                    x = x + short
            found[name] = x
        return [found[name] for name in self.layers]
