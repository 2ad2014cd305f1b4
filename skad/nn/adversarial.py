"""Parts of adversarial training: discriminators, their losses and what tames them."""

import threading
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from skad.nn.architecture import build
from skad.nn.network import Network


class Bounded(nn.Module):
    """Brings what is made of codes into a range, by a tanh.

    Parameters
    ----------
    shape : tuple of int
        (d,) or (c, h, w) of what is made.
    given : tuple of float or None
        The lowest and the highest value; None is the range of each feature, or of each
        channel, of the first training data.
    """

    def __init__(self, shape, given):
        super().__init__()
        size = (shape[0], *[1] * (len(shape) - 1))
        low, high = (torch.inf, -torch.inf) if given is None else given
        self.register_buffer("low", torch.full(size, float(low)))
        self.register_buffer("high", torch.full(size, float(high)))

    def learn(self, batches):
        """Take the range of training data, unless there is one."""
        if self.low.isfinite().all():
            return
        for x, _ in batches:
            whole = x.movedim(1, 0).flatten(1)
            low, high = (end.view(self.low.shape) for end in whole.aminmax(dim=1))
            self.low.copy_(torch.minimum(self.low, low))
            self.high.copy_(torch.maximum(self.high, high))

    def forward(self, x):
        """Return `x` (b, *shape) in the range."""
        return self.low + (self.high - self.low) * (1 + x.tanh()) / 2


class AdversarialNetwork(Network):
    """A network with losses that oppose each other, so that their sum tells nothing.

    It has `reconstruct(x)`, whose error `patience` watches.
    """

    # Names of the parts that make samples.
    makers = ("generator",)

    def play_with(self, shape, dropout, output_range):
        """Set the dropout of discriminators, and the range of samples that are made.

        See `skad.adversarial._game.GameDetector`.
        """
        for part in self.modules():
            if isinstance(part, Discriminator):
                part.dropout.p = dropout
        if output_range is not None:
            given = None if isinstance(output_range, str) else output_range
            for name in self.makers:
                maker = getattr(self, name)
                bounded = nn.Sequential(maker, Bounded(shape, given))
                setattr(self, name, bounded)

    def begin(self, phase, batches):
        """Take the range of the training data where samples are to keep to it."""
        for part in self.modules():
            if isinstance(part, Bounded):
                part.learn(batches())

    def watched(self, phase, x, y):
        """Return the mean squared error of the reconstruction."""
        return functional.mse_loss(*self.rebuilt(x))


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


def judged_together(judge, real, fake):
    """Return the logits of real and of fake samples, or pairs, from one call.

    `real` and `fake` are tuples of what `judge` takes. A discriminator mixes no
    samples, so two calls would return the same and cost twice as much.
    """
    both = [torch.cat(parts) for parts in zip(real, fake, strict=True)]
    return judge(*both)[0].split([len(real[0]), len(fake[0])])


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


def r1_penalty(critic, real):
    """Return the mean squared length of a critic's gradient at real samples.

    Mescheder, Geiger and Nowozin, "Which training methods for GANs do actually
    converge?", ICML, 2018, equation (9), without its factor of gamma / 2. `critic` maps
    a batch to one number per sample, and mixes no samples.
    """
    real = real.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(real).sum(), real, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


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
        self.dropout = nn.Dropout(0)
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
        return self.head(self.dropout(features)).squeeze(1), features


def paired(x, other):
    """Return two batches as one with twice the features or channels."""
    return torch.cat([x, other], dim=1)


def paired_shape(shape):
    """Return the shape of `paired` samples of `shape`."""
    return (2 * shape[0], *shape[1:])


# Smallest divisor of a weight matrix.
_TINY = 1e-12
# Held while the weights of a module are hidden by divided ones.
_HIDING = threading.RLock()


def _unit(vector):
    return vector / vector.norm().clamp_(min=_TINY)


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
        # layers are listed as they are, in a tuple that does not register them again
        self.places = tuple(
            (module.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2])
            for name in self.names
        )
        for i, (layer, name) in enumerate(self.places):
            matrix = getattr(layer, name).detach().flatten(1)
            left = _unit(torch.randn(len(matrix)))
            for _ in range(10):
                left = _unit(matrix @ _unit(matrix.T @ left))
            self.register_buffer(f"left_{i}", left)

    def normalized(self):
        """Return the divided weights by name."""
        weights = {}
        for i, (name, (layer, own)) in enumerate(
            zip(self.names, self.places, strict=True)
        ):
            weight, left = layer._parameters[own], self._buffers[f"left_{i}"]
            matrix = weight if weight.ndim == 2 else weight.flatten(1)
            with torch.no_grad():
                right = _unit(matrix.T @ left)
            # the gradient to `matrix` is as if both were fixed
            product = matrix @ right
            largest = product.norm().clamp(min=_TINY)
            if self.training:
                self._buffers[f"left_{i}"] = (product / largest).detach()
            weights[name] = weight / largest
        return weights

    def forward(self, *inputs):
        """Return what the module makes of `inputs` with its weights divided."""
        weights = self.normalized()
        # an attribute hides the parameter of the same name; others must not see it
        with _HIDING:
            try:
                for (layer, own), weight in zip(
                    self.places, weights.values(), strict=True
                ):
                    vars(layer)[own] = weight
                return self.module(*inputs)
            finally:
                for layer, own in self.places:
                    vars(layer).pop(own, None)
