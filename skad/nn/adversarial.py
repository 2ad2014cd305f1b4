"""Parts of adversarial training: discriminators, their losses and what tames them."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from skad.nn.architecture import build


def discriminator_loss(real, fake):
    """Return the cross entropy of telling real from fake, from logits.

    Goodfellow et al., "Generative adversarial nets", NeurIPS, 2014, equation (1):
    minus the mean of log D(real) and minus the mean of log(1 - D(fake)).
    """
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def generator_loss(fake):
    """Return minus the mean of log D(fake), from logits: large while fakes are told.

    The loss that does not saturate (section 3 of the same paper). An encoder whose
    samples count as real takes the loss of minus their logits.
    """
    return functional.softplus(-fake).mean()


def gradient_penalty(critic, real, fake):
    """Return the mean of (|gradient| - 1)^2 of a critic between real and fake samples.

    Gulrajani et al., "Improved training of Wasserstein GANs", NeurIPS, 2017, equation
    (3). `critic` maps a batch to one number per sample, and mixes no samples.
    """
    share = torch.rand(len(real), *[1] * (real.ndim - 1), device=real.device)
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(
            critic(between).sum(), between, create_graph=True
        )
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()


@contextmanager
def frozen(*modules):
    """Compute no gradients for the weights of `modules`; those of inputs pass through.

    Only the forward pass has to happen inside.
    """
    weights = [weight for module in modules for weight in module.parameters()]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight, wanted in zip(weights, before, strict=True):
            weight.requires_grad_(wanted)


def without_batch_norm(module):
    """Take batch normalization out of `module`, and return it.

    A discriminator with it judges batches: it tells real ones from generated ones by
    their statistics, and does not score a sample as it was trained to.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            setattr(module, name, nn.Identity())
        else:
            without_batch_norm(child)
    return module


class Discriminator(nn.Module):
    """Tells real samples from generated ones: returns logits (b,) and features (b, k).

    The features are the layer below the logits.

    Parameters
    ----------
    shape : tuple of int
        (d,) or (c, h, w).
    architecture, hidden_sizes
        See `skad.nn.architecture.build`; batch normalization is taken out.
    code_size : int or None, default=None
        Length of the codes where pairs of sample and code are judged.
    n_features : int, default=64
        Length of the features.
    """

    def __init__(
        self, shape, architecture, hidden_sizes, code_size=None, n_features=64
    ):
        super().__init__()
        self.body = without_batch_norm(
            build(architecture, shape, (n_features,), hidden_sizes)
        )
        self.activation = nn.LeakyReLU(0.1)
        if code_size is not None:
            self.code = nn.Linear(code_size, n_features)
            self.joint = nn.Linear(2 * n_features, n_features)
        self.head = nn.Linear(n_features, 1)

    def forward(self, x, code=None):
        """Judge samples (b, *shape), with codes (b, code_size) if it takes them."""
        features = self.activation(self.body(x))
        if code is not None:
            both = torch.cat([features, self.activation(self.code(code))], dim=1)
            features = self.activation(self.joint(both))
        return self.head(features).squeeze(1), features


def paired(x, other):
    """Return two batches as one with twice the features or channels."""
    return torch.cat([x, other], dim=1)


def paired_shape(shape):
    """Return the shape of `paired` samples of `shape`."""
    return (2 * shape[0], *shape[1:])


class SpectralNorm(nn.Module):
    """A module whose weight matrices are divided by their largest singular value.

    Miyato et al., "Spectral normalization for generative adversarial networks", ICLR,
    2018, algorithm 1: each training pass takes one step of the power iteration for the
    left singular vectors, which are kept as buffers. Convolutions count as matrices of
    output channels by everything else.
    """

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.names = [n for n, weight in module.named_parameters() if weight.ndim > 1]
        for i, name in enumerate(self.names):
            weight = module.get_parameter(name).detach().flatten(1)
            left = functional.normalize(torch.randn(len(weight)), dim=0)
            for _ in range(10):
                left = self._step(weight, left)
            self.register_buffer(f"left_{i}", left)

    @staticmethod
    def _step(weight, left):
        right = functional.normalize(weight.T @ left, dim=0)
        return functional.normalize(weight @ right, dim=0)

    def normalized(self):
        """Return the divided weights by name."""
        weights = {}
        for i, name in enumerate(self.names):
            weight = self.module.get_parameter(name)
            matrix, left = weight.flatten(1), getattr(self, f"left_{i}")
            if self.training:
                with torch.no_grad():
                    left = self._step(matrix, left).to(left.dtype)
                setattr(self, f"left_{i}", left)
            largest = (matrix.T @ left).norm()
            weights[name] = weight / largest.clamp(min=1e-12)
        return weights

    def forward(self, *inputs):
        """Return what the module makes of `inputs` with its weights divided."""
        return torch.func.functional_call(self.module, self.normalized(), inputs)
