"""The one exception for bad input."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Input that cannot be used: the message names it, its value, and what is allowed.

    Every function of `malfl_env` and `malfl_algos` that rejects what a caller passed raises this
    exception. Any other exception is a fault of a plugin or of the package itself and keeps its
    traceback.
    """
