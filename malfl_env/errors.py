"""The exceptions for bad input."""

__all__ = ["Contradiction", "InputError", "TooFewStages"]


class InputError(ValueError):
    """Input that cannot be used: the message names it, its value, and what is allowed.

    Every function of `malfl_env` and `malfl_algos` that rejects what a caller passed raises this
    exception. Any other exception is a fault of a plugin or of the package itself and keeps its
    traceback.
    """


class TooFewStages(InputError):
    """A trace with fewer stages than a method needs.

    A trend over the first 2, 3, ... stages has no value where an observer raises this exception.
    Any other exception of an observer is a failure.
    """


class Contradiction(InputError):
    """A trace that its game, or the policies that are said to be known, exclude.

    An example is a transition that was seen and that the game gives probability 0. Observers reject
    such a trace; for a verdict it is the reason not to believe any reward.
    """
