"""QoS that parameters override, as rclcpp does: `qos_overrides./topic.subscription.reliability`.

Topics are named as they are after remapping; `publisher` in the place of `subscription` for those
that are published. What still does not match is said. Must not know what a topic is for.
"""

from collections.abc import Callable, Iterator
import contextlib
import copy
from typing import TypeAlias

from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.distributions import QoSRequestedIncompatibleQoSInfo

Kinds: TypeAlias = tuple[QoSPolicyKind, ...]
OVERRIDABLE: Kinds = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)
FIXED: Kinds = ()
EXPECTED = (
    'history: keep_last or keep_all, depth: a whole number, reliability: reliable or best_effort, '
    'durability: volatile or transient_local'
)


@contextlib.contextmanager
def overriding(
    node: Node, topic: str, qos: QoSProfile, kinds: Kinds = OVERRIDABLE
) -> Iterator[tuple[QoSProfile, QoSOverridingOptions]]:
    """Give what a publisher or subscription is created with: its own profile, and the options.

    Raises:
        ConfigError: A parameter has a value that its policy has not.
    """
    try:
        # rclpy writes what was overridden into the profile
        yield copy.copy(qos), QoSOverridingOptions(kinds)
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        raise _refusal(node, topic, error) from error
    except RuntimeError as error:
        if 'QoS override' not in str(error):
            raise
        raise _refusal(node, topic, error) from error


def qos_warning(
    node: Node, topic: str, other: str
) -> Callable[[QoSRequestedIncompatibleQoSInfo], None]:
    """Return what warns of another publisher or subscriber that is not connected for its QoS."""

    def warn(event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        node.get_logger().warning(
            f'a {other} of {node.resolve_topic_name(topic)} has another QoS and is not '
            f'connected ({policy}): set its {policy.lower()} to what '
            f'`ros2 topic info -v {topic}` shows for this node'
        )

    return warn


def _refusal(node: Node, topic: str, error: Exception) -> ConfigError:
    name = f'qos_overrides.{node.resolve_topic_name(topic)}'
    return ConfigError(
        f'parameter {name}: {error}',
        expected=EXPECTED,
        remedy='Correct the parameter, and start the node again.',
    )
