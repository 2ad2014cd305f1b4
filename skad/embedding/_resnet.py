"""ResNet-18, 34, 50 and Wide-ResNet-50-2 up to the last layer that is looked at."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._random import generator

# Blocks of each layer, width of a bottleneck's inner channels (None: basic blocks).
ARCHITECTURES = {
    "resnet18": ((2, 2, 2, 2), None),
    "resnet34": ((3, 4, 6, 3), None),
    "resnet50": ((3, 4, 6, 3), 1),
    "wide_resnet50_2": ((3, 4, 6, 3), 2),
}
LAYERS = ("layer1", "layer2", "layer3", "layer4")


def _convolution(into, out, size, stride, norm):
    """Return a convolution and its batch norm, which is nothing when folded."""
    padding = size // 2
    convolution = nn.Conv2d(into, out, size, stride, padding, bias=not norm)
    return convolution, nn.BatchNorm2d(out) if norm else nn.Identity()


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a short cut."""

    def __init__(self, into, channels, stride, width, norm):
        super().__init__()
        self.conv1, self.bn1 = _convolution(into, channels, 3, stride, norm)
        self.conv2, self.bn2 = _convolution(channels, channels, 3, 1, norm)
        self.downsample = None
        if stride > 1 or into != channels:
            self.downsample = nn.Sequential(
                *_convolution(into, channels, 1, stride, norm)
            )

    def forward(self, x):
        """Return the block's map."""
        short = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.bn2(self.conv2(x))
        return F.relu(x.add_(short), inplace=True)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (where the stride is) and 1 x 1 convolutions around a short cut."""

    def __init__(self, into, channels, stride, width, norm):
        super().__init__()
        inner = channels // 4 * width
        self.conv1, self.bn1 = _convolution(into, inner, 1, 1, norm)
        self.conv2, self.bn2 = _convolution(inner, inner, 3, stride, norm)
        self.conv3, self.bn3 = _convolution(inner, channels, 1, 1, norm)
        self.downsample = None
        if stride > 1 or into != channels:
            self.downsample = nn.Sequential(
                *_convolution(into, channels, 1, stride, norm)
            )

    def forward(self, x):
        """Return the block's map."""
        short = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.bn3(self.conv3(x))
        return F.relu(x.add_(short), inplace=True)


class ResNet(nn.Module):
    """A ResNet that ends with the last of `layers` and returns the maps of all of them.

    He et al., "Deep residual learning for image recognition", CVPR, 2016; wide as in
    Zagoruyko and Komodakis, "Wide residual networks", BMVC, 2016. Parameters are named
    as torchvision names them. With ``norm=False`` every convolution has a bias in place
    of its batch norm.
    """

    def __init__(self, name, layers=("layer2", "layer3"), norm=True):
        super().__init__()
        blocks, width = ARCHITECTURES[name]
        self.name, self.layers, self.norm = name, tuple(layers), norm
        self.conv1, self.bn1 = _convolution(3, 64, 7, 2, norm)
        block = BasicBlock if width is None else Bottleneck
        into = 64
        for i, n_blocks in enumerate(blocks[: 1 + _last(layers)]):
            channels = 2**i * (64 if width is None else 256)
            parts = []
            for j in range(n_blocks):
                stride = 2 if i and not j else 1
                parts.append(block(into, channels, stride, width, norm))
                into = channels
            self.add_module(LAYERS[i], nn.Sequential(*parts))

    def forward(self, x):
        """Return the maps of `layers`, in their order."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1)
        found = {}
        for name in LAYERS[: 1 + _last(self.layers)]:
            x = found[name] = getattr(self, name)(x)
        return [found[name] for name in self.layers]


def _last(layers):
    return max(LAYERS.index(layer) for layer in layers)


def random_arrays(module, seed):
    r"""Return He's normal weights for a network without batch norms, as a dict.

    As torchvision initialises a ResNet: the standard deviation is
    :math:`\sqrt{2 / (k^2 c)}` for k x k kernels into c channels, biases are zero.
    """
    random, arrays = generator(seed), {}
    for name, value in module.state_dict().items():
        shape = tuple(value.shape)
        if len(shape) == 1:
            arrays[name] = np.zeros(shape, np.float32)
            continue
        deviation = (2 / (shape[0] * shape[2] * shape[3])) ** 0.5
        arrays[name] = np.float32(deviation) * random.standard_normal(shape).astype(
            np.float32
        )
    return arrays


def fold_batch_norms(arrays):
    r"""Return the arrays of a network without batch norms that computes the same.

    :math:`\gamma (w x - \mu) / \sqrt{v + \epsilon} + \beta` is a convolution with
    the weight :math:`w \gamma / \sqrt{v + \epsilon}` and a bias.
    """
    folded = dict(arrays)
    for mean_name in [name for name in arrays if name.endswith(".running_mean")]:
        norm = mean_name.removesuffix(".running_mean")
        head, _, last = norm.rpartition(".")
        # bn1 follows conv1; downsample.1 follows downsample.0
        of = last.replace("bn", "conv") if last.startswith("bn") else "0"
        convolution = f"{head}.{of}" if head else of
        parts = "weight", "bias", "running_mean", "running_var"
        gamma, beta, mean, variance = (
            folded.pop(f"{norm}.{part}").astype(np.float64) for part in parts
        )
        folded.pop(f"{norm}.num_batches_tracked", None)
        scale = gamma / np.sqrt(variance + 1e-5)
        weight = arrays[f"{convolution}.weight"]
        scaled = weight * scale[:, None, None, None]
        folded[f"{convolution}.weight"] = scaled.astype(weight.dtype)
        folded[f"{convolution}.bias"] = (beta - mean * scale).astype(weight.dtype)
    return folded


def with_batch_norm(names):
    """Tell whether arrays of these names belong to a network with batch norms."""
    return any(name.endswith(".running_mean") for name in names)


def skeleton(name, layers, norm):
    """Return a ResNet without memory for its parameters."""
    with torch.device("meta"):
        return ResNet(name, layers, norm)
