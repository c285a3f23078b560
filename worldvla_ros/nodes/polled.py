"""A subscription whose messages are asked for, instead of being brought by the executor.

An executor of rclpy looks at all its entities anew for every message, half a millisecond of
processor time each: a tenth of a core for a driver's joint states alone. A loop that asks once per
period pays for the message only. Must not know what messages mean.
"""

from collections.abc import Iterator
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.subscription import Subscription

MOST = 100


class Polled(CallbackGroup):
    """Keeps a subscription out of the executor."""

    def can_execute(self, entity: object) -> bool:
        """Return whether the executor may look at an entity."""
        return False

    def beginning_execution(self, entity: object) -> bool:
        """Return whether the executor may run an entity now."""
        return False

    def ending_execution(self, entity: object) -> None:
        """Do nothing: none begins."""


def waiting(subscription: Subscription) -> Iterator[Any]:
    """Yield the messages of a polled subscription that have come since the last time, in order.

    `MOST` at a time, so that a publisher that never pauses cannot hold the caller up. From one
    thread at a time.
    """
    for _ in range(MOST):
        with subscription.handle:
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is None:
            return
        yield taken[0]
