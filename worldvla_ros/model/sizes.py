"""Bounds of the sizes that a checkpoint may claim, checked before anything is made of them."""

from collections.abc import Mapping

from worldvla_ros.errors import CheckpointError

MAX_WIDTH = 1 << 17
"""Of any layer; the published model has 11,008."""
MAX_DEPTH = 1024
"""Layers or blocks one behind the other."""


def check_sizes(what: str, config: object, bounds: Mapping[str, tuple[float, float]]) -> None:
    """Refuse a configuration with a size outside its bounds, or that is no number.

    Args:
        what: What is configured, for messages.
        config: Holds the sizes as attributes.
        bounds: Attribute → smallest and largest value.

    Raises:
        CheckpointError: A size lies outside.
    """
    for name, (low, high) in bounds.items():
        size = getattr(config, name)
        if not low <= size <= high:  # NaN is refused too
            raise CheckpointError(f'{what}: {name}', expected=f'{low} to {high}', got=size)
