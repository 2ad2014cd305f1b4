"""Generators that restore altered pictures, against a critic."""

from numbers import Integral, Real

from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._pixels import PixelDetector
from skad.image._trained import TrainedImageDetector
from skad.nn.adversarial import (
    AdversarialNetwork,
    Bounded,
    discriminator_loss,
    frozen,
    generator_loss,
)
from skad.nn.statistics import SettledNetwork


class RestorationNetwork(SettledNetwork, AdversarialNetwork):
    """A generator that restores altered pictures, and a critic of what it makes.

    A method says how pictures are altered in training (`altered`), what counts as an
    error (`error`), what the critic judges (`judge`) and what it is shown as fake
    beside restored pictures (`worse`).

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    generator : Module
        From altered pictures to restored ones, not bounded yet.
    critic : Module
        From pictures to logits and features.
    adversarial_weight, feature_weight : float
        Of the critic's opinion, and of the mean squared difference of its features, in
        the loss of the generator, where the error counts as it is.
    """

    # The range in which the networks of the method take pictures.
    value_range = 0.0, 1.0

    def __init__(self, shape, generator, critic, adversarial_weight, feature_weight=0):
        super().__init__()
        self.shape = tuple(shape)
        self.generator, self.critic = generator, critic
        self.bound = Bounded(shape, None)
        self.adversarial_weight = adversarial_weight
        self.feature_weight = feature_weight

    # ---------------------------------------------------------- what a method may state

    def altered(self, x):
        """Return pictures as the generator sees them, and where they are altered."""
        return x, None

    def restored(self, seen):
        """Return what the generator makes of altered pictures."""
        return self.bound(self.generator(seen))

    def error(self, x, made, mask):
        """Return how far restored pictures are from what they were, a scalar."""
        return functional.l1_loss(made, x)

    def judge(self, made, x, mask=None):
        """Return the critic's logits and features of pictures, real or `made` of `x`.

        `mask` is where `x` is altered; None is nowhere.
        """
        return self.critic(made)

    def worse(self, x):
        """Return pictures that count as fake besides, or None."""
        return None

    def reconstruct(self, x):
        """Return pictures as they are compared with `x`, in scores."""
        return self.restored(x)

    # --------------------------------------------------------------------- the training

    def pictures(self, x):
        """Return samples (b, m) as pictures (b, c, h, w) in the networks' range."""
        low, high = self.value_range
        return low + (high - low) * x.unflatten(1, self.shape)

    def begin(self, phase, batches):
        """Let what is made reach the range of pictures, or that of the training data.

        Rows of tables, and standardised pictures, are not in 0..1.
        """
        self.bound.learn((self.pictures(x), y) for x, y in batches())
        low, high = self.value_range
        self.bound.low.clamp_(max=low)
        self.bound.high.clamp_(min=high)

    def groups(self, phase):
        """Return the weights of the critic and those of the generator."""
        return {
            "critic": self.critic.parameters(),
            "generator": self.generator.parameters(),
        }

    def updates(self, phase, x, y):
        """Yield the critic's loss, then what the generator makes small against it."""
        x = self.pictures(x)
        seen, mask = self.altered(x)
        made = self.restored(seen)
        yield "critic", self.critic_loss(x, made.detach())
        yield "generator", self.generator_loss(x, made, mask)

    def critic_loss(self, x, made):
        """Return the cross entropy of telling real pictures from made and worse ones.

        With the difference of features where these count for the generator as well.
        """
        (real, target), (fake, features) = self.judge(x, x), self.judge(made, x)
        loss = discriminator_loss(real, fake)
        worse = self.worse(x)
        if worse is not None:
            loss = loss + generator_loss(-self.judge(worse, x)[0])
        if self.feature_weight:
            loss = loss + self.feature_weight * functional.mse_loss(features, target)
        return loss

    def generator_loss(self, x, made, mask):
        """Return the error, the critic's opinion and the difference of its features."""
        loss = self.error(x, made, mask)
        if not (self.adversarial_weight or self.feature_weight):
            return loss
        with frozen(self.critic):
            judged, features = self.judge(made, x)
            if self.feature_weight:
                target = self.judge(x, x)[1].detach()
                apart = functional.mse_loss(features, target)
                loss = loss + self.feature_weight * apart
        return loss + self.adversarial_weight * generator_loss(judged)

    def loss(self, x, y):
        """Return the generator's error alone: what batch norms settle on."""
        x = self.pictures(x)
        seen, mask = self.altered(x)
        return self.error(x, self.restored(seen), mask)

    # ---------------------------------------------------------------------- the scores

    def rebuilt(self, x):
        """Return pictures and their reconstructions, which `patience` compares."""
        x = self.pictures(x)
        return x, self.reconstruct(x)

    def map(self, x):
        """Return the squared error of every place, the mean over channels."""
        x, made = self.rebuilt(x)
        return (x - made).square().mean(1)


@with_parameters
class AdversarialPictures(TrainedImageDetector):
    """Base of generators of pictures that are trained against critics.

    Parameters
    ----------
    channels : int, default=64
        Of the first layer of the generator and of the critic; deeper ones have up to
        eight times as many.
    adversarial_weight : float, default=1.0
        Of the critic's opinion in the loss of the generator; 0 trains without it.
    critic_lr : float or None, default=None
        Learning rate of the critic; None is `lr`.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches and how pictures are altered. Pass an int for
        reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `generator` and `critic`.
    history_ : list of dict
        Epoch, phase, seconds, "train_loss" (the sum), "critic_loss", "generator_loss"
        and, with `patience`, "valid_loss", the error of what is rebuilt.
    """

    _parameter_constraints = {
        "channels": [Interval(Integral, 1, None, closed="left")],
        "adversarial_weight": [Interval(Real, 0, None, closed="left")],
        "critic_lr": [Interval(Real, 0, None, closed="neither"), None],
    }

    channels: int = 64
    adversarial_weight: float = 1.0
    critic_lr: float | None = None
    smoothing: float = 0.0

    _kind = "pixels"

    def _optimizer_of(self, phase, group):
        own = group == "critic" and self.critic_lr is not None
        return {"lr": self.critic_lr} if own else {}


@with_parameters
class AdversarialRestoration(PixelDetector, AdversarialPictures):
    """Base of generators that restore altered pictures, against a critic."""

    def _network(self, shapes):
        return super()._network(*shapes)
