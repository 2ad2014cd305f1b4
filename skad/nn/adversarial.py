"""Discriminators and the losses of generative adversarial networks."""

from contextlib import contextmanager

from torch import nn
from torch.nn.functional import softplus

from skad.nn.architecture import build


class Discriminator(nn.Module):
    """Tells real samples from made ones; `features` are what it looks at.

    Parameters
    ----------
    shape : tuple of int
        (d,) or (c, h, w) of the samples.
    feature_size : int
        Length of the feature vector.
    architecture, hidden_sizes
        As in `build`, for the network from samples to features.
    """

    def __init__(self, shape, feature_size, architecture="auto", hidden_sizes=None):
        super().__init__()
        self.features = build(architecture, shape, (feature_size,), hidden_sizes)
        self.head = nn.Sequential(nn.LeakyReLU(0.1), nn.Linear(feature_size, 1))

    def forward(self, x):
        """Return the log-odds that samples are real, of shape (b,)."""
        return self.classify(self.features(x))

    def classify(self, features):
        """Return the log-odds that features are those of a real sample, (b,)."""
        return self.head(features).squeeze(1)


def discriminator_loss(real, made):
    r"""Return :math:`-E\log D(x) - E\log(1 - D(\tilde x))` of log-odds."""
    return softplus(-real).mean() + softplus(made).mean()


def generator_loss(made):
    r"""Return :math:`-E\log D(\tilde x)` of log-odds, which does not saturate.

    Goodfellow et al., "Generative adversarial nets", NIPS, 2014, section 3.
    """
    return softplus(-made).mean()


@contextmanager
def frozen(module):
    """Gradients flow through `module` to its input, and not to its weights."""
    before = [(weight, weight.requires_grad) for weight in module.parameters()]
    module.requires_grad_(False)
    try:
        yield module
    finally:
        for weight, state in before:
            weight.requires_grad_(state)
