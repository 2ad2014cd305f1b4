"""Descent to what makes a loss small for each sample, through networks that stay."""

import math

import torch


def descend(loss_of, start, n_steps, lr):
    """Return where Adam's steps from a start end, each sample by itself.

    Nothing is averaged over the batch, and the steps shrink to nothing as a cosine
    does, so that the search ends at a minimum.

    Parameters
    ----------
    loss_of : callable
        Takes points (b, ...) and the share of the steps that are done, in 0..1, and
        returns losses (b,), each of its own point alone.
    start : tensor of shape (b, ...)
        Where the steps begin.
    n_steps : int
        How many there are.
    lr : float
        Size of the first steps.
    """
    point = start
    mean, square = torch.zeros_like(point), torch.zeros_like(point)
    for step in range(1, n_steps + 1):
        done = (step - 1) / n_steps
        with torch.enable_grad():
            point = point.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss_of(point, done).sum(), point)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        size = (square / (1 - 0.999**step)).sqrt() + 1e-8
        share = math.cos(0.5 * math.pi * done) ** 2
        point = point.detach() - share * lr / (1 - 0.9**step) * mean / size
    return point
