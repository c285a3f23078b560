"""What rclpy has by another name or in another form in older distributions, for all nodes.

Knows rclpy from Humble on. Must not know what a node is for. `test/rclpy_names.yaml` lists which
name came when; `test/test_rclpy_names.py` finds uses of the newer ones elsewhere.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from lifecycle_msgs.srv import ChangeState
from rclpy.client import Client
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import (
        PublisherEventCallbacks,
        QoSRequestedIncompatibleQoSInfo,
        SubscriptionEventCallbacks,
    )
except ImportError:  # Humble
    from rclpy.qos_event import (
        PublisherEventCallbacks,
        QoSRequestedIncompatibleQoSInfo,
        SubscriptionEventCallbacks,
    )

__all__ = [
    'PublisherEventCallbacks',
    'QoSRequestedIncompatibleQoSInfo',
    'RefusingLifecycleNode',
    'SubscriptionEventCallbacks',
    'name_of_service',
    'with_info',
]

Trigger: TypeAlias = Callable[[], TransitionCallbackReturn]
HearWithInfo: TypeAlias = Callable[[Any, Mapping[str, Any]], None]
UNKNOWN_INFO: Mapping[str, Any] = {'source_timestamp': 0}


def with_info(hear: HearWithInfo) -> Callable[..., None]:
    """Return a callback that hears a message with what the middleware knows about it.

    Since Iron, a subscription looks how many arguments its callback takes. In Humble it hands on
    the message alone; the time at which it was sent is 0 there: unknown.
    """
    if hasattr(Subscription, 'CallbackType'):
        return hear
    return lambda message: hear(message, UNKNOWN_INFO)


def name_of_service(client: Client) -> str:
    """Return the name of the service that a client asks; since Jazzy it is whole."""
    return str(getattr(client, 'service_name', None) or client.srv_name)


class RefusingLifecycleNode(LifecycleNode):
    """A life-cycle node that refuses a transition which its state has not, as of Kilted.

    Before, rclpy raises there: whoever asked an active node to activate ended its spinning.
    """

    def __init__(self, name: str) -> None:
        """Create the node; its service for transitions refuses too."""
        super().__init__(name)
        for service in self.services:
            if service.srv_type is ChangeState:
                service.callback = self._refusing_service(service.callback)

    def trigger_configure(self) -> TransitionCallbackReturn:
        """Configure."""
        return self._refusing(super().trigger_configure)

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        """Clean up."""
        return self._refusing(super().trigger_cleanup)

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """Shut down."""
        return self._refusing(super().trigger_shutdown)

    def trigger_activate(self) -> TransitionCallbackReturn:
        """Activate."""
        return self._refusing(super().trigger_activate)

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """Deactivate."""
        return self._refusing(super().trigger_deactivate)

    def _refusing(self, trigger: Trigger) -> TransitionCallbackReturn:
        try:
            return trigger()
        except RuntimeError as error:  # rclpy's RCLError
            self.get_logger().error(f'no transition: {error}')
            return TransitionCallbackReturn.ERROR

    def _refusing_service(self, change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def answer(request: ChangeState.Request, response: ChangeState.Response) -> Any:
            try:
                return change(request, response)
            except RuntimeError as error:  # rclpy's RCLError
                self.get_logger().error(f'no transition: {error}')
                response.success = False
                return response

        return answer
