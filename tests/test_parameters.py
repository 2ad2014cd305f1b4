"""What a class states once reaches constructors and docstrings of its subclasses."""

import inspect
from typing import Any, ClassVar

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from skad._parameters import KW_ONLY, absent, with_parameters
from tests._process import run_python


@with_parameters
class Root(BaseEstimator):
    """Base.

    Parameters
    ----------
    rate : float, default=0.1
        Share of it.
    low, high : float or None, default=None
        Limits, \\alpha.

    Attributes
    ----------
    mean_, deviation_ : float
        Of the rows.
    offset_ : float
        Where it is cut.
    """

    rate: float = 0.1
    low: float | None = None
    high: float | None = None
    constant: ClassVar[int] = 3
    quoted: "ClassVar[int]" = 4
    _kind = "root"
    _parameter_constraints = {"rate": [float], "low": [float, None], "high": [None]}


@with_parameters
class Trained(Root):
    """Trained.

    Parameters
    ----------
    epochs : int, default=5
        Passes.
    rate : float, default=0.5
        Share, as training has it.
    """

    epochs: int = 5
    rate: float = 0.5
    _parameter_constraints = {"epochs": [int], "rate": [int, float]}


@with_parameters
class Pictures(Root):
    """Pictures.

    Parameters
    ----------
    size : {"small", \\
            "large"}, default="small"
        Of pictures.
    """

    size: "str" = "small"
    _parameter_constraints = {"size": [str]}


def entry(cls, name):
    """Return the lines of one entry of a docstring."""
    lines = inspect.getdoc(cls).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{name} : "))
    stop = start + 1
    while stop < len(lines) and lines[stop].startswith(" "):
        stop += 1
    return lines[start:stop]


def names(cls):
    return list(inspect.signature(cls).parameters)


def documented(cls):
    """Return the names in a docstring before the colons, in order."""
    lines = inspect.getdoc(cls).splitlines()
    return [line.split(" : ")[0] for line in lines if " : " in line and line[0] != " "]


def test_own_parameters_come_first_and_then_the_nearest_base_s():
    @with_parameters
    class Method(Trained):
        """One.

        Parameters
        ----------
        alpha : float, default=2.0
            Weight.

        Notes
        -----
        None.
        """

        alpha: float = 2.0

    assert names(Method) == ["alpha", "epochs", "rate", "low", "high"]
    assert documented(Method)[:4] == ["alpha", "epochs", "rate", "low, high"]
    assert documented(Method)[4:] == ["mean_, deviation_", "offset_"]
    titles = ["One.", "Parameters", "Attributes", "Notes", "None."]
    assert [line for line in inspect.getdoc(Method).splitlines() if line in titles] == (
        titles
    )
    assert Method().get_params() == {
        "alpha": 2.0,
        "epochs": 5,
        "high": None,
        "low": None,
        "rate": 0.5,
    }
    assert vars(Method(epochs=7))["epochs"] == 7


def test_own_entry_default_and_constraint_win():
    assert entry(Trained, "rate") == [
        "rate : float, default=0.5",
        "    Share, as training has it.",
    ]
    assert Trained._parameter_constraints["rate"] == [int, float]
    assert Trained().rate == 0.5
    assert Trained._parameter_constraints["low"] == [float, None]
    assert Root._parameter_constraints["rate"] == [float]
    assert "epochs" not in inspect.getdoc(Root)


def test_a_new_default_is_put_into_the_inherited_entry():
    @with_parameters
    class Method(Pictures):
        """One."""

        size: str = "large"
        rate: float = 1e-6
        low: float | None = 2.0

    assert entry(Method, "size") == [
        'size : {"small", \\',
        '        "large"}, default="large"',
        "    Of pictures.",
    ]
    assert entry(Method, "rate")[0] == "rate : float, default=1e-06"
    # one default is another one now: two entries
    assert entry(Method, "low") == [
        "low : float or None, default=2.0",
        "    Limits, \\alpha.",
    ]
    assert entry(Method, "high")[0] == "high : float or None, default=None"
    assert entry(Pictures, "low, high") == [
        "low, high : float or None, default=None",
        "    Limits, \\alpha.",
    ]
    assert (Method().size, Method(size="small").size) == ("large", "small")
    assert inspect.getdoc(Method).startswith("One.\n\nParameters\n----------\nsize : {")


def test_one_of_two_names_of_an_entry_can_be_told_again():
    @with_parameters
    class Method(Root):
        """One.

        Attributes
        ----------
        deviation_ : float
            Its own.
        """

    assert documented(Method)[-3:] == ["deviation_", "mean_", "offset_"]
    assert entry(Method, "deviation_")[1] == "    Its own."
    assert entry(Method, "mean_")[1] == "    Of the rows."


def test_class_variables_and_private_names_are_no_parameters():
    assert names(Root) == ["rate", "low", "high"]
    with pytest.raises(TypeError, match=r"Root: .*'constant'"):
        Root(constant=2)
    with pytest.raises(TypeError, match=r"Root: .*'quoted'"):
        Root(quoted=2)


def test_absent_takes_parameters_away():
    @with_parameters
    class Method(Trained):
        """One."""

        rate: Any = absent()
        low: Any = absent()

    assert names(Method) == ["epochs", "high"]
    assert list(Method._parameter_constraints) == ["epochs", "high"]
    assert documented(Method)[:2] == ["epochs", "high"]
    assert not hasattr(Method(), "rate")
    assert not hasattr(Method, "low")
    assert Trained().rate == 0.5
    with pytest.raises(AttributeError, match="Method has no parameter 'rate'"):
        _ = Method().rate
    with pytest.raises(TypeError, match="'rate'"):
        Method(rate=0.1)

    @with_parameters
    class Further(Method):
        """Two."""

        epochs: Any = absent()

    assert names(Further) == ["high"]

    @with_parameters
    class Again(Further):
        """Three.

        Parameters
        ----------
        rate : int, default=1
            Another meaning.
        """

        rate: int = 1
        _parameter_constraints = {"rate": [int]}

    assert names(Again) == ["rate", "high"]
    assert entry(Again, "rate")[1] == "    Another meaning."
    assert Again().rate == 1

    @with_parameters
    class Last(Again):
        """Four."""

    assert Last(rate=2).rate == 2


def test_positional_parameters_are_inherited():
    @with_parameters(kw_only=False)
    class Method(Root):
        """One."""

        n: int = 5
        _: KW_ONLY
        kind: str = "x"

    @with_parameters
    class Further(Method):
        """Two."""

        more: int = 1

    @with_parameters(kw_only=False)
    class Second(Method):
        """Three."""

        m: int = 2

    @with_parameters
    class ByName(Method):
        """Four."""

        n: int = 6

    assert names(Method)[:2] == ["n", "kind"]
    assert names(Further)[:3] == ["n", "more", "kind"]
    assert (Further(9).n, Further(9).more) == (9, 1)
    assert (Second(8, 9).n, Second(8, 9).m) == (8, 9)
    with pytest.raises(TypeError, match="Method: too many positional arguments"):
        Method(5, "y")
    with pytest.raises(TypeError, match="ByName: too many positional arguments"):
        ByName(5)
    with pytest.raises(TypeError, match="Root: too many positional arguments"):
        Root(0.1)
    with pytest.raises(TypeError, match="Method: multiple values"):
        Method(5, n=5)


def test_several_bases_are_asked_as_python_asks_them():
    @with_parameters
    class Method(Pictures, Trained):
        """One."""

    assert names(Method) == ["size", "epochs", "rate", "low", "high"]
    # Trained states both anew, Pictures only inherits them
    assert Method().rate == 0.5
    assert Method._parameter_constraints["rate"] == [int, float]
    assert entry(Method, "rate")[1] == "    Share, as training has it."
    assert set(Method._parameter_constraints) == set(names(Method))


def test_classes_that_are_not_decorated_pass_on_what_their_bases_state():
    class Between(Trained):
        """Between.

        Parameters
        ----------
        rate : float
            Not looked at.
        """

        note: str = "no parameter"

    @with_parameters
    class Method(Between):
        """One."""

    assert names(Method) == names(Trained)
    assert entry(Method, "rate") == entry(Trained, "rate")


def test_raw_docstrings_keep_their_backslashes():
    @with_parameters
    class Method(Root):
        r"""One of \(\alpha\).

        .. math:: a \le b

        Parameters
        ----------
        alpha : float, default=1.0
            :math:`\alpha \\ \1`.
        """

        alpha: float = 2.0

    assert entry(Method, "alpha") == [
        "alpha : float, default=2.0",
        r"    :math:`\alpha \\ \1`.",
    ]
    assert inspect.getdoc(Method).startswith(
        "One of \\(\\alpha\\).\n\n.. math:: a \\le"
    )


def test_strings_in_defaults_keep_their_characters():
    @with_parameters
    class Method(Root):
        r"""One.

        Parameters
        ----------
        join : str, default=","
            Between.
        """

        join: str = r"\1\g<0>"

    assert entry(Method, "join")[0] == r'join : str, default="\\1\\g<0>"'


def test_it_is_an_estimator():
    made = Trained(rate=0.25, low=np.float64(1))
    copy = clone(made)
    assert copy.get_params() == made.get_params()
    assert repr(made) == "Trained(low=np.float64(1.0), rate=0.25)"
    assert made.set_params(epochs=9).epochs == 9
    assert Trained.__init__.__qualname__ == "Trained.__init__"
    assert Trained.__init__.__module__ == __name__


def test_without_docstrings_nothing_is_missing_but_they():
    script = (
        "from skad.neighbors import KNN; "
        "print(KNN(3, p=1).n_neighbors, KNN().false_alarm_rate, KNN.__doc__)"
    )
    done = run_python("-OO", "-c", script)
    assert done.stdout.split() == ["3", "0.05", "None"]
