"""What is chosen of a training and of the shape of a network, whatever it is for."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from os import PathLike

from skad._parameters import with_parameters
from skad._random import Seed
from skad._sklearn import Interval, StrOptions
from skad._training._loop import AMP
from skad._training._run import OPTIMIZERS


@with_parameters
class TrainingParameters:
    """What everything has that the one loop trains.

    Parameters
    ----------
    max_epochs : int or "auto", default=50
        Passes over the training data. "auto" is 50, or as many as see about 128,000
        samples where that is less, at least one.
    batch_size : int, default=128
        Samples of a training step; also bounds the memory of scoring.
    lr : float, default=0.001
        Learning rate.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="adam"
        The optimizer, or a class with torch's signature.
    weight_decay : float, default=0.0
        Weight decay of the optimizer.
    patience : int or None, default=None
        Epochs without a better loss on held-out samples after which training stops and
        the best weights are taken; where losses oppose each other it is the error of
        the reconstruction. None trains all epochs.
    validation_fraction : float, default=0.2
        Share of the normal samples that are held out of the training, at least 5: they
        set the threshold for ``contamination="auto"``, and `patience` watches them.
        With a number as `contamination` and without `patience` none are held out. A
        fifth of 100 samples is the least that a threshold for 5 % can be read from:
        one fit with 40 held out then flags .01 to .12 of new normal samples, in nine of
        ten cases, with 200 it flags .03 to .08.
    amp : {"bf16", "fp16"} or None, default=None
        Lower precision of the training, for devices that have it.
    compile : bool, default=False
        Whether torch compiles the networks.
    device : str, default="auto"
        "cpu", a device of torch such as "cuda", or "auto": a tensor's own device, and
        for arrays the GPU when the work is worth the trip.
    callbacks : list of skorch callbacks or None, default=None
        Are copied into every training; see also `set_callbacks` for scikit-learn's.
    warm_start : bool, default=False
        Whether another `fit` goes on from the weights of the last one. Parameters that
        the weights do not depend on may differ.
    on_interrupt : {"raise", "keep"}, default="raise"
        After an interrupt (Ctrl-C), "keep" keeps what was learned so far, if a score
        can be computed of it, with a warning that names the phases left out; "raise"
        leaves the detector as it was.
    checkpoint : str, path or None, default=None
        Folder where every epoch is saved; a `fit` that was killed goes on from there,
        and one that ended, with more epochs. Schedules go on where they were, and so do
        callbacks with `state_dict` and `load_state_dict`.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches and noise. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network.
    history_ : list of dict
        Epoch, phase, seconds, "train_loss" and, with `patience`, "valid_loss".
    n_samples_seen_ : int
        Training samples.
    n_held_out_ : int
        Training samples that were held out of the training.
    device_ : str
        The device of the fit.
    """

    max_epochs: int | str = 50
    batch_size: int = 128
    lr: float = 1e-3
    optimizer: str | Callable = "adam"
    weight_decay: float = 0.0
    patience: int | None = None
    validation_fraction: float = 0.2
    amp: str | None = None
    compile: bool = False
    device: str = "auto"
    callbacks: Sequence | None = None
    warm_start: bool = False
    on_interrupt: str = "raise"
    checkpoint: str | PathLike | None = None
    random_state: Seed = None

    _parameter_constraints = {
        "max_epochs": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "amp": [StrOptions(set(AMP)), None],
        "compile": ["boolean"],
        "device": [str],
        "callbacks": [tuple, list, None],
        "warm_start": ["boolean"],
        "on_interrupt": [StrOptions({"raise", "keep"})],
        "checkpoint": [str, os.PathLike, None],
        "random_state": ["random_state"],
    }


@with_parameters
class ShapeParameters:
    """What everything has whose layers follow from the shape of its samples.

    Parameters
    ----------
    architecture : {"auto", "mlp", "conv"} or class, default="auto"
        "auto" takes linear layers for rows and convolutions for images. A class of
        modules is called with the shapes (without the axis of samples) that it has to
        lead from and to, once for each network of the method.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between, from the sample's side; None is
        (64, 32) for linear layers and (32, 64, 128) for convolutions.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of images that come as rows.

    Attributes
    ----------
    image_shape_ : tuple of int or None
        (height, width, channels) of images.
    n_features_in_ : int
        Number of features, or of the elements of an image.
    """

    architecture: str | Callable = "auto"
    hidden_sizes: Sequence[int] | None = None
    image_shape: Sequence[int] | None = None

    _parameter_constraints = {
        "architecture": [StrOptions({"auto", "mlp", "conv"}), callable],
        "hidden_sizes": [tuple, list, None],
        "image_shape": [tuple, list, None],
    }
