"""Networks from one shape to another: the parts that methods are put together from.

Every architecture is called with (input_shape, output_shape, hidden_sizes, bias). A
shape is (d,) for vectors and (c, h, w) for images, so the same class encodes, decodes
and discriminates.
"""

import math
from inspect import Parameter, signature
from itertools import pairwise

from torch import nn


class MLP(nn.Module):
    """Linear layers with leaky ReLU between them.

    Parameters
    ----------
    input_shape, output_shape : tuple of int
        Without the axis of samples; anything is flattened.
    hidden_sizes : sequence of int, default=(64, 32)
        Units of the layers between.
    bias : bool, default=True
        Whether layers have bias terms.
    """

    def __init__(self, input_shape, output_shape, hidden_sizes=(64, 32), bias=True):
        super().__init__()
        self.output_shape = tuple(output_shape)
        sizes = [math.prod(input_shape), *hidden_sizes, math.prod(output_shape)]
        layers = []
        for i, (wide, narrow) in enumerate(pairwise(sizes)):
            layers += [nn.LeakyReLU(0.1)] if i else []
            layers.append(nn.Linear(wide, narrow, bias=bias))
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        """Map (b, *input_shape) to (b, *output_shape)."""
        y = self.layers(x.flatten(1))
        return y if len(self.output_shape) == 1 else y.unflatten(1, self.output_shape)

    def activations(self, x):
        """Yield what the hidden layers and the last one return, flat: (b, size)."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = layer(x)
            if not isinstance(layer, nn.Linear):
                yield x
        yield self.layers[-1](x)


class Conv(nn.Module):
    """Strided convolutions down to a vector, up from a vector, or down and up again.

    Parameters
    ----------
    input_shape, output_shape : tuple of int
        (c, h, w) or (size,); at least one is an image, two images have one size.
    hidden_sizes : sequence of int, default=(32, 64, 128)
        Channels of the layers, from the picture's side; each halves its height and
        width where these are above one.
    bias : bool, default=True
        Whether layers have bias terms.
    """

    def __init__(
        self, input_shape, output_shape, hidden_sizes=(32, 64, 128), bias=True
    ):
        super().__init__()
        if len(input_shape) == 1 and len(output_shape) == 1:
            raise ValueError(
                f"Conv needs an image on one side, got shapes {tuple(input_shape)} and "
                f"{tuple(output_shape)}; use architecture='mlp' for rows."
            )
        if not len(hidden_sizes):
            raise ValueError("hidden_sizes=() leaves Conv without a convolution.")
        parts = []
        if len(input_shape) == 3:
            parts.append(_Down(input_shape, hidden_sizes, bias))
            inner = parts[-1].output_shape
            if len(output_shape) == 1:
                size = math.prod(inner)
                parts += [nn.Flatten(), nn.Linear(size, output_shape[0], bias=bias)]
        if len(output_shape) == 3:
            up = _Up(output_shape, hidden_sizes, bias)
            if len(input_shape) == 1:
                parts.append(
                    nn.Linear(input_shape[0], math.prod(up.input_shape), bias=bias)
                )
                parts += [nn.Unflatten(1, up.input_shape), nn.LeakyReLU(0.1)]
            parts.append(up)
        self.parts = nn.Sequential(*parts)

    def forward(self, x):
        """Map (b, *input_shape) to (b, *output_shape)."""
        return self.parts(x)

    def stages(self, x):
        """Yield the maps of the halving layers, (b, c, h, w), and what is returned."""
        for part in self.parts:
            if not isinstance(part, _Down):
                x = part(x)
                continue
            for layer in part.layers:
                x = layer(x)
                if isinstance(layer, nn.LeakyReLU):
                    yield x
        yield x

    def activations(self, x):
        """Yield what the halving layers and the last one return, flat: (b, size)."""
        for stage in self.stages(x):
            yield stage.flatten(1)


class _Down(nn.Module):
    def __init__(self, input_shape, channels, bias):
        super().__init__()
        c, h, w = input_shape
        layers = []
        for out in channels:
            layers += [
                nn.Conv2d(c, out, 3, stride=2, padding=1, bias=bias),
                nn.BatchNorm2d(out, affine=bias),
                nn.LeakyReLU(0.1),
            ]
            c, h, w = out, -(-h // 2), -(-w // 2)
        self.layers = nn.Sequential(*layers)
        self.output_shape = (c, h, w)

    def forward(self, x):
        return self.layers(x)


class _Up(nn.Module):
    def __init__(self, output_shape, channels, bias):
        super().__init__()
        c, h, w = output_shape
        self.sizes = [(h, w)]
        for _ in channels:
            h, w = -(-h // 2), -(-w // 2)
            self.sizes.append((h, w))
        self.input_shape = (channels[-1], h, w)
        outs = [*channels[:-1][::-1], c]
        self.layers = nn.ModuleList()
        inner = channels[-1]
        for i, out in enumerate(outs):
            last = i == len(outs) - 1
            block = [nn.Conv2d(inner, out, 3, padding=1, bias=bias)]
            if not last:
                block += [nn.BatchNorm2d(out, affine=bias), nn.LeakyReLU(0.1)]
            self.layers.append(nn.Sequential(*block))
            inner = out

    def forward(self, x):
        for layer, size in zip(self.layers, self.sizes[-2::-1], strict=True):
            x = layer(nn.functional.interpolate(x, size=size, mode="nearest"))
        return x


NAMED = {"mlp": MLP, "conv": Conv}


def build(
    architecture,
    input_shape,
    output_shape,
    hidden_sizes=None,
    bias=True,
    units=(64, 32),
):
    """Return a network between two shapes.

    Parameters
    ----------
    architecture : {"auto", "mlp", "conv"} or class
        "auto" is "conv" where a side is an image, else "mlp".
    input_shape, output_shape : tuple of int
        (d,) or (c, h, w).
    hidden_sizes : sequence of int or None
        None is the architecture's own default. The order is that of an encoder; it is
        turned around for networks from a smaller to a larger shape.
    bias : bool, default=True
        Whether layers have bias terms.
    units : sequence of int, default=(64, 32)
        The `hidden_sizes` of "mlp" where these are None.
    """
    if architecture == "auto":
        architecture = "conv" if 3 in (len(input_shape), len(output_shape)) else "mlp"
    made = NAMED.get(architecture, architecture)
    arguments = {} if bias else {"bias": False}
    if hidden_sizes is None and made is MLP:
        hidden_sizes = units
    if hidden_sizes is not None:
        arguments["hidden_sizes"] = tuple(hidden_sizes)
    if made is MLP and math.prod(input_shape) < math.prod(output_shape):
        arguments["hidden_sizes"] = arguments["hidden_sizes"][::-1]
    _check_arguments(made, arguments)
    network = made(tuple(input_shape), tuple(output_shape), **arguments)
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"architecture={_name(made)} returns a {type(network).__name__}: it has to "
            "be a class of torch.nn.Module, or a function that returns one."
        )
    return network


def _check_arguments(made, arguments):
    """Raise unless an architecture takes two shapes and what else it is given."""
    try:
        known = signature(made)
    except ValueError:  # of compiled code
        return
    kinds = {one.kind for one in known.parameters.values()}
    takes_all = Parameter.VAR_KEYWORD in kinds
    if not takes_all and "bias" in arguments and "bias" not in known.parameters:
        raise ValueError(
            f"architecture={_name(made)} takes no argument `bias`, and this method "
            "needs networks without bias terms: let its constructor take bias=True and "
            "pass it on to its layers."
        )
    missing = set(arguments) - set(known.parameters)
    if not takes_all and "hidden_sizes" in missing:
        raise ValueError(
            f"architecture={_name(made)} takes no argument `hidden_sizes`, and "
            f"hidden_sizes={arguments['hidden_sizes']} is given: let its constructor "
            "take it, or leave hidden_sizes=None."
        )
    try:
        known.bind((1,), (1,), **arguments)
    except TypeError as error:
        raise ValueError(
            f"architecture={_name(made)} is called with (input_shape, output_shape), "
            f"and cannot be: {error}."
        ) from None


def _name(made):
    return getattr(made, "__name__", repr(made))
