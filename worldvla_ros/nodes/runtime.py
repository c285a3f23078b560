"""What all nodes share: a clean end, checked parameters, life-cycle start, a status topic.

Knows rclpy. Must not know what a node is for.
"""

from collections.abc import Callable
import os
from pathlib import Path
import signal
import sys
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from worldvla_ros.errors import ConfigError, WorldVLAError

SENSOR_QOS = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE_QOS = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
SPIN_PERIOD_S = 0.2
REPEAT_PERIOD_S = 5.0
CHANGE_PERIOD_S = 0.2


def declare(
    node: Node,
    name: str,
    default: object,
    description: str,
    low: float | None = None,
    high: float | None = None,
) -> object:
    """Declare a read-only parameter and return its value.

    Raises:
        ConfigError: The given value is of another type or outside [low, high].
    """
    descriptor = ParameterDescriptor(description=description, read_only=True)
    if low is not None and isinstance(default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif low is not None:
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    if node.has_parameter(name):
        return node.get_parameter(name).value
    try:
        return node.declare_parameter(name, default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        allowed = f'{type(default).__name__}' + (f' in [{low}, {high}]' if low is not None else '')
        raise ConfigError(
            f'parameter {name} ({description})',
            expected=allowed,
            got=str(error).splitlines()[0],
            remedy='Mend the parameter file or the command line.',
        ) from error


def seconds(stamp: object) -> float:
    """Return a builtin_interfaces/Time as seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


class Status:
    """Publishes what a node is doing on ~/status, and logs each reason every few seconds."""

    def __init__(self, node: Node) -> None:
        """Create the publisher."""
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, '~/status', LATCHED_QOS)
        self._logged: dict[str, float] = {}
        self._said = ('', '', -np.inf)
        self._lock = threading.Lock()

    def report(self, level: bytes, message: str, key: str = '', **values: object) -> None:
        """Publish a status when it changes; log each `key` (or message) every few seconds at most.

        Args:
            level: DiagnosticStatus.OK, WARN or ERROR.
            message: One sentence.
            key: What counts as the same message, where its numbers vary.
            values: Figures to go with it.
        """
        now, kind = time.monotonic(), key or message
        with self._lock:
            log = now - self._logged.get(kind, -np.inf) >= REPEAT_PERIOD_S
            if log:
                self._logged[kind] = now
            said, said_kind, said_s = self._said
            elapsed = now - said_s
            fresh = kind != said_kind or (message != said and elapsed >= CHANGE_PERIOD_S)
            publish = fresh or elapsed >= REPEAT_PERIOD_S
            if publish:
                self._said = (message, kind, now)
        if log:
            self._log(level, message)
        if publish:
            self._publish(level, message, values)

    def _log(self, level: bytes, message: str) -> None:
        """Log at the level's severity; rclpy allows one severity per line of code."""
        logger = self._node.get_logger()
        if level == DiagnosticStatus.ERROR:
            logger.error(message)
        elif level == DiagnosticStatus.WARN:
            logger.warning(message)
        else:
            logger.info(message)

    def _publish(self, level: bytes, message: str, values: dict[str, object]) -> None:
        status = DiagnosticStatus(
            level=level,
            name=self._node.get_fully_qualified_name(),
            message=message,
            values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)

    def ok(self, message: str, key: str = '', **values: object) -> None:
        """Report that all is well."""
        self.report(DiagnosticStatus.OK, message, key, **values)

    def warn(self, message: str, key: str = '', **values: object) -> None:
        """Report why nothing is done at present."""
        self.report(DiagnosticStatus.WARN, message, key, **values)

    def error(self, message: str, key: str = '', **values: object) -> None:
        """Report what a user must mend."""
        self.report(DiagnosticStatus.ERROR, message, key, **values)


class ManagedNode(LifecycleNode):
    """A life-cycle node that brings itself up, unless `autostart` is false.

    Subclasses write `configure` (may raise WorldVLAError), `activate`, `deactivate` and
    `clean_up`; the last two tolerate being called when little has been set up.
    """

    def __init__(self, name: str) -> None:
        """Create the node with its status topic."""
        super().__init__(name)
        self.status = Status(self)
        self.active = False
        self._interfaces: list[tuple[Callable, object]] = []
        self._starter = None
        if declare(self, 'autostart', True, 'configure and activate without being asked to'):
            self._starter = self.create_timer(0.01, self._autostart, clock=_steady_clock())

    def configure(self) -> None:
        """Load, check and create interfaces."""

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """Stop the robot first, then everything else."""

    def clean_up(self) -> None:
        """Undo `configure`: remove all interfaces."""
        for destroy, interface in self._interfaces:
            destroy(interface)
        self._interfaces = []

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure; what a user can mend is one message and the node stays unconfigured."""
        try:
            self.configure()
        except WorldVLAError as error:
            self.status.error(f'not configured: {error}')
            self.clean_up()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work."""
        self.activate()
        self.active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop."""
        self.active = False
        self.deactivate()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what configuring took."""
        self.clean_up()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, then free everything."""
        self.close()
        return super().on_shutdown(state)

    def close(self) -> None:
        """Stop the robot and free everything, from whatever state."""
        if self.active:
            self.active = False
            self.deactivate()
        self.clean_up()

    def _autostart(self) -> None:
        self.destroy_timer(self._starter)
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()


def _steady_clock() -> rclpy.clock.Clock:
    """Return a clock that runs even where simulated time does not yet."""
    return rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)


def run(*factories: Callable[[], Node], args: list[str] | None = None) -> int:
    """Spin nodes in one process until SIGINT or SIGTERM, then stop them in order.

    rclpy's own handler would invalidate the context at once, and nothing could be sent on the way
    out; so the signals only set a flag here.

    Returns:
        0, or 2 where a node cannot be created for a reason that a user can mend.
    """
    if (Path(sys.prefix) / 'share/ament_index').is_dir():  # ROS 2 from wheels: nothing to source
        os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    stop = threading.Event()
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: (stop.set(), executor.wake()))
    nodes: list[Node] = []
    try:
        for factory in factories:
            nodes.append(factory())
            executor.add_node(nodes[-1])
        while not stop.is_set():
            executor.spin_once(timeout_sec=SPIN_PERIOD_S)
    except WorldVLAError as error:
        rclpy.logging.get_logger('worldvla_ros').error(str(error))
        return 2
    finally:
        for node in reversed(nodes):
            node.close()
        executor.shutdown()
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
