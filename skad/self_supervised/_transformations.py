"""Maps of a row that a network learns to tell apart."""

import torch
from torch import nn


class RandomLinear(nn.Module):
    """Matrices with standard normal elements, drawn once.

    Parameters
    ----------
    n_transformations : int
        Number K of matrices.
    n_features : int
        Length d of rows; samples of more axes are taken as rows.
    size : int
        Length of what a row becomes.
    """

    def __init__(self, n_transformations, n_features, size):
        super().__init__()
        drawn = torch.randn(n_transformations, n_features, size)
        self.register_buffer("matrices", drawn)
        self.output_shape = (size,)

    def __len__(self):
        return len(self.matrices)

    def forward(self, x, which):
        """Map samples (b, ...) by a slice of the matrices, to (b, k, size)."""
        return torch.einsum("bd,kds->bks", x.flatten(1), self.matrices[which])


class ParallelLinear(nn.Module):
    """As many linear layers side by side, without bias terms, each with its own input.

    Parameters
    ----------
    n_layers : int
        Number K of layers.
    n_inputs, n_outputs : int
        Of each.
    """

    def __init__(self, n_layers, n_inputs, n_outputs):
        super().__init__()
        bound = n_inputs**-0.5  # as in torch.nn.Linear
        drawn = torch.empty(n_layers, n_inputs, n_outputs).uniform_(-bound, bound)
        self.weight = nn.Parameter(drawn)

    def forward(self, x):
        """Map (b, K, n_inputs) to (b, K, n_outputs)."""
        return torch.einsum("bki,kio->bko", x, self.weight)
