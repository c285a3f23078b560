"""When memory runs short: one message with what was needed and what would need less.

Knows how torch says so. Must not know what the memory was for.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from worldvla_ros.errors import MemoryLimitError

CPU_SHORTAGE = 'DefaultCPUAllocator'
"""Part of the message with which torch says that host memory is short, as a RuntimeError."""
REMEDY = (
    'Use a smaller dtype (bfloat16, int8, int4), fewer or smaller images, less history, a shorter '
    'chunk, fewer rollouts at once, or another device.'
)


@contextmanager
def explain_shortage(doing: str, needed: str) -> Iterator[None]:
    """Turn a shortage of memory into an error that a user can act on.

    Args:
        doing: What memory was wanted for.
        needed: How much of what.

    Raises:
        MemoryLimitError: Instead of what torch raises.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _shortage(doing, needed, error) from error
    except RuntimeError as error:
        if CPU_SHORTAGE not in str(error):
            raise
        raise _shortage(doing, needed, error) from error


def _shortage(doing: str, needed: str, error: BaseException) -> MemoryLimitError:
    said = str(error).splitlines()[0] if str(error) else 'nothing left'
    return MemoryLimitError(
        f'out of memory while {doing}', expected=f'room for {needed}', got=said, remedy=REMEDY
    )
