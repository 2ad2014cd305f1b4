"""Interval bounds: what a network returns at most for any input of a box."""

import torch
from torch import nn
from torch.nn import functional

from skad.nn.architecture import MLP, Conv

# Layers whose outputs rise with their inputs, each by itself.
_MONOTONE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
)


def layers_of(network):
    """Return the layers of a network that are called one after the other.

    Parameters
    ----------
    network : torch.nn.Module
        `MLP`, `Conv` or `Sequential`, of layers that `propagated` knows.
    """
    if isinstance(network, MLP):
        return [nn.Flatten(), *layers_of(network.layers)]
    if isinstance(network, Conv):
        return layers_of(network.parts)
    if isinstance(network, nn.Sequential):
        return [layer for part in network for layer in layers_of(part)]
    inner = getattr(network, "layers", None)  # of halving convolutions
    if isinstance(inner, nn.Sequential):
        return layers_of(inner)
    if isinstance(network, (nn.Linear, nn.Conv2d, *_MONOTONE)):
        return [network]
    raise ValueError(
        f"architecture has a {type(network).__name__}, and bounds are known of linear "
        "layers, convolutions, pooling and monotone activations, in a Sequential."
    )


def propagated(layers, middle, radius):
    """Return middle and radius of a box behind layers, for one before them.

    Every input in the box gives an output in the other.

    Parameters
    ----------
    layers : list of torch.nn.Module
        As `layers_of` returns them.
    middle, radius : tensor of shape (b, ...)
        The box.
    """
    for layer in layers:
        if isinstance(layer, nn.Linear):
            middle = layer(middle)
            radius = functional.linear(radius, layer.weight.abs())
        elif isinstance(layer, nn.Conv2d):
            middle = layer(middle)
            radius = layer._conv_forward(radius, layer.weight.abs(), None)
        else:
            low, high = layer(middle - radius), layer(middle + radius)
            middle, radius = (high + low) / 2, (high - low) / 2
    return middle, radius


def difference_bounds(layers, x, epsilon):
    """Return upper bounds (b, c, c) of the differences of outputs around inputs.

    The last layer and the differences are one linear map, whose bounds are closer than
    those of its outputs.

    Parameters
    ----------
    layers : list of torch.nn.Module
        As `layers_of` returns them; the last is linear.
    x : tensor of shape (b, ...)
        The inputs.
    epsilon : float
        No element of an input is farther away than this.
    """
    *before, last = layers
    middle, radius = propagated(before, x, torch.full_like(x, epsilon))
    z = last(middle)  # (b, c)
    weights = last.weight[:, None] - last.weight[None]  # (c, c, f)
    spread = torch.einsum("bf,klf->bkl", radius, weights.abs())
    return z[:, :, None] - z[:, None, :] + spread
