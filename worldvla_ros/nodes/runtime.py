"""What all nodes share: a life cycle without silent failures, interfaces that are undone, a run.

Knows rclpy. Must not know what a node is for. Callbacks, timers and transitions run in the
executor's thread; only `fail` and `end_process` may be called from other threads.
"""

from collections.abc import Callable, Iterator
import contextlib
import traceback
from typing import Any, TypeVar

from builtin_interfaces.msg import Time
from rclpy.action import ActionClient, ActionServer
from rclpy.callback_groups import CallbackGroup
from rclpy.client import Client
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.service import Service
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from worldvla_ros.errors import WorldVLAError
from worldvla_ros.nodes.distributions import (
    PublisherEventCallbacks,
    RefusingLifecycleNode,
    SubscriptionEventCallbacks,
)
from worldvla_ros.nodes.parameters import Parameters, Rule, Value
from worldvla_ros.nodes.polled import Polled, waiting
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS
from worldvla_ros.nodes.qos_overrides import FIXED, OVERRIDABLE, Kinds, overriding, qos_warning
from worldvla_ros.nodes.status import Status, steady_clock

LAST_WORDS_S = 1.0
"""A publisher that is destroyed waits this long for its last reliable message to arrive."""

Message = TypeVar('Message')
Request = TypeVar('Request')
Response = TypeVar('Response')


def seconds(stamp: Time) -> float:
    """Return a builtin_interfaces/Time as seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


class ManagedNode(RefusingLifecycleNode):
    """A life-cycle node that brings itself up, unless `autostart` is false.

    Subclasses write `read_parameters`, which declares and returns them all: it is called once at
    the start, before `__init__` of the subclass goes on, so that parameters can be set before the
    node is configured, and again by `configure`. They write `configure` and `activate` (may raise
    anything: the node then stays in the state of before, with an error on ~/status), `deactivate`
    and `clean_up`; the last two tolerate being called when little has been set up. Whatever
    `publisher`, `subscribe`, `serve` and `every` create is destroyed by `clean_up`, newest first.
    An exception in a callback stops the node: it is deactivated, and the error stays on ~/status
    until it is activated again.
    """

    def __init__(self, name: str) -> None:
        """Create the node with its status topic."""
        super().__init__(name)
        self.active = False
        self.fatal = False
        self.status = Status(self, LATCHED_QOS)
        self.parameters = Parameters(self)
        self._trace = ''
        self._undo: list[Callable[[], object]] = []
        self._overridable: set[str] = set()
        self._failed = self.create_guard_condition(self._on_failed)
        self._end_on_failure = declare(
            self, 'end_on_failure', False, 'end the process where autostart does not succeed'
        )
        if declare(self, 'autostart', True, 'configure and activate without being asked to'):
            self._starter = self.create_timer(0.01, self._autostart, clock=steady_clock())
        with self.parameters.only_declaring(), contextlib.suppress(WorldVLAError):
            self.read_parameters()

    # ---- what subclasses write

    def read_parameters(self) -> object:
        """Declare all parameters and return their values; do nothing else.

        Raises:
            WorldVLAError: One of them is wrong.
        """

    def configure(self) -> None:
        """Load, check and create interfaces."""

    def activate(self) -> None:
        """Begin to work."""

    def deactivate(self) -> None:
        """Stop the robot first, then everything else."""

    def clean_up(self) -> None:
        """Undo `configure`: remove all interfaces."""
        while self._undo:
            with self._reporting('clean-up'):
                self._undo.pop()()

    # ---- interfaces, undone by clean_up

    def publisher(self, cls: type, topic: str, qos: QoSProfile) -> Publisher:
        """Publish a topic until clean_up, which lets the last reliable message arrive."""
        events = PublisherEventCallbacks(incompatible_qos=qos_warning(self, topic, 'subscriber'))
        with overriding(self, topic, qos) as (own, options):
            made: Publisher = self.create_publisher(
                cls, topic, own, event_callbacks=events, qos_overriding_options=options
            )
        self._undo.append(lambda: self._destroy_publisher(made, own))
        return made

    def subscribe(
        self,
        cls: type[Message],
        topic: str,
        callback: Callable[[Message], None],
        qos: QoSProfile,
        *,
        raw: bool = False,
    ) -> Subscription:
        """Hear a topic until clean_up; `raw` hands on the serialised bytes."""
        events = SubscriptionEventCallbacks(incompatible_qos=qos_warning(self, topic, 'publisher'))
        return self._connect(cls, topic, callback, qos, events, raw=raw)

    def poll(
        self, cls: type[Message], topic: str, qos: QoSProfile
    ) -> Callable[[], Iterator[Message]]:
        """Return what yields the messages of a topic that have come; see `polled.waiting`."""
        # an event of it in the executor would wake that for every message
        events = SubscriptionEventCallbacks(use_default_callbacks=False)
        made = self._connect(cls, topic, lambda _: None, qos, events, group=Polled())
        return lambda: waiting(made)

    def subscribe_latched(
        self, cls: type[Message], topic: str, callback: Callable[[Message], None]
    ) -> None:
        """Hear a topic from plain and from latched publishers, and what the latter said before.

        No single profile does both: a transient-local subscription does not match the volatile
        publisher of a default `ros2 topic pub`, and a volatile one misses what was latched. What a
        latched publisher says now comes twice, so `callback` must not mind repetition.
        `qos_overrides` concern the volatile one.
        """
        quiet = SubscriptionEventCallbacks(incompatible_qos=lambda _: None)
        self._connect(cls, topic, callback, LATCHED_QOS, quiet, overridable=FIXED)
        self.subscribe(cls, topic, callback, RELIABLE_QOS)

    def serve(
        self, cls: type, name: str, callback: Callable[[Request, Response], Response]
    ) -> Service:
        """Answer a service until clean_up; an exception answers `success = False`."""

        def answer(request: Request, response: Response) -> Response:
            with self._stopping_on_error(f'service {name}'):
                return callback(request, response)
            if hasattr(response, 'message'):
                response.message = f'{name} failed; see ~/status and the log'
            return response

        made = self.create_service(cls, name, answer)
        self._undo.append(lambda: self.destroy_service(made))
        return made

    def client(self, cls: type, name: str) -> Client:
        """Ask a service until clean_up."""
        made: Client = self.create_client(cls, name)
        self._undo.append(lambda: self.destroy_client(made))
        return made

    def action_client(self, cls: type, name: str) -> ActionClient:
        """Send goals to an action until clean_up."""
        made: ActionClient = ActionClient(self, cls, name)
        self._undo.append(made.destroy)
        return made

    def action_server(self, cls: type, name: str, execute: Callable, **callbacks: Any) -> None:
        """Offer an action until clean_up; see rclpy's ActionServer for the callbacks."""
        made: ActionServer = ActionServer(self, cls, name, execute, **callbacks)
        self._undo.append(made.destroy)

    def every(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """Call back on the steady clock until clean_up, also where ROS time stands still."""

        def tick() -> None:
            with self._stopping_on_error('timer'):
                callback()

        made = self.create_timer(period_s, tick, clock=steady_clock())
        self._undo.append(lambda: self.destroy_timer(made))
        return made

    # ---- failures

    def fail(self, reason: object) -> None:
        """Stop for a reason that does not go away by itself; from whatever thread.

        The node becomes inactive; ~/status shows the reason until it is activated again.
        """
        problem = str(reason).rstrip().removesuffix('.')
        self.status.error(f'stopped: {problem}. Fix the cause, then activate the node.')
        self._failed.trigger()

    def end_process(self, reason: str) -> None:
        """End the process with an error, so that its supervisor notices; from whatever thread."""
        self.status.error(f'the process ends: {reason}')
        self.fatal = True
        self._failed.trigger()

    def _on_failed(self) -> None:
        if self.active:
            self.trigger_deactivate()

    # ---- life cycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure; what goes wrong is reported and the node stays unconfigured."""
        self.status.unlatch()
        self.status.ok('configuring')
        if not self._try('not configured', self.configure):
            with self._reporting('clean-up'):
                self.clean_up()
            return TransitionCallbackReturn.FAILURE
        self.parameters.settable = False
        self.status.enter('inactive', replacing=('configuring',))
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work; what goes wrong is reported and the node stays inactive."""
        self.status.unlatch()
        self.active = True
        if not self._try('not activated', self.activate):
            self.active = False
            with self._reporting('deactivation'):
                self.deactivate()
            return TransitionCallbackReturn.FAILURE
        self.status.enter('active', replacing=('inactive',))
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop."""
        self.active = False
        with self._reporting('deactivation'):
            self.deactivate()
        self.status.enter('inactive')
        self.status.ok('inactive')
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what configuring took."""
        with self._reporting('clean-up'):
            self.clean_up()
        self.parameters.settable = True
        self.status.enter('unconfigured')
        self.status.ok('unconfigured')
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, then free everything."""
        self.close()
        return super().on_shutdown(state)

    def close(self) -> None:
        """Stop the robot and free everything, from whatever state."""
        if self.active:
            self.active = False
            with self._reporting('deactivation'):
                self.deactivate()
        with self._reporting('clean-up'):
            self.clean_up()
        self.status.enter('finalized')

    def _autostart(self) -> None:
        self.destroy_timer(self._starter)
        done = TransitionCallbackReturn.SUCCESS
        started = self.trigger_configure() == done and self.trigger_activate() == done
        if not started and self._end_on_failure:  # the reason is on ~/status and in the log
            self.fatal = True
            self._failed.trigger()

    # ---- boundaries: the only broad `except`s of the nodes' own thread

    def _try(self, outcome: str, step: Callable[[], None]) -> bool:
        """Take a step of the life cycle; report why it cannot be taken."""
        try:
            step()
        except WorldVLAError as error:
            self.status.error(f'{outcome}: {error}')
            return False
        except Exception as error:
            self.get_logger().error(traceback.format_exc())
            self.status.error(f'{outcome}: {_name(error)}. The log has the traceback.')
            return False
        return True

    @contextlib.contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Go on with what must be done after an error."""
        try:
            yield
        except Exception as error:
            self.get_logger().error(traceback.format_exc())
            self.status.error(f'{what} failed: {_name(error)}. The log has the traceback.')

    @contextlib.contextmanager
    def _stopping_on_error(self, what: str) -> Iterator[None]:
        """Stop the node where a callback of its own raises."""
        try:
            yield
        except Exception as error:
            self._log_once(traceback.format_exc())
            self.fail(f'{what}: {_name(error)}. The log has the traceback.')

    def _log_once(self, trace: str) -> None:
        """Log a traceback, unless a callback raises it again and again."""
        if trace != self._trace:
            self.get_logger().error(trace)
        self._trace = trace

    # ---- interfaces, the other half

    def _connect(
        self,
        cls: type[Message],
        topic: str,
        callback: Callable[[Message], None],
        qos: QoSProfile,
        events: SubscriptionEventCallbacks,
        *,
        raw: bool = False,
        overridable: Kinds = OVERRIDABLE,
        group: CallbackGroup | None = None,
    ) -> Subscription:
        def hear(message: Message) -> None:
            with self._stopping_on_error(f'topic {topic}'):
                callback(message)

        name = self.resolve_topic_name(topic)
        if name in self._overridable:  # parameters speak of one subscription, the first
            overridable = FIXED
        elif overridable:
            self._overridable.add(name)
            self._undo.append(lambda: self._overridable.discard(name))
        with overriding(self, topic, qos, overridable) as (own, options):
            made = self.create_subscription(
                cls, topic, hear, own, event_callbacks=events, raw=raw,
                qos_overriding_options=options, callback_group=group,
            )  # fmt: skip
        self._undo.append(lambda: self.destroy_subscription(made))
        return made

    def _destroy_publisher(self, publisher: Publisher, qos: QoSProfile) -> None:
        if qos.reliability == QoSReliabilityPolicy.RELIABLE and self.context.ok():
            publisher.wait_for_all_acked(Duration(seconds=LAST_WORDS_S))
        self.destroy_publisher(publisher)


def declare(
    node: ManagedNode,
    name: str,
    default: Value,
    description: str,
    low: float | None = None,
    high: float | None = None,
) -> Value:
    """Declare a parameter on the first call, and return its present value.

    Args:
        node: Whose parameter it is.
        name: Its name.
        default: Its value where none is given, and its type; an int is accepted for a float.
        description: What it means, with its unit in brackets.
        low: Least number allowed; with `high` or not at all.
        high: Greatest number allowed.

    Raises:
        ConfigError: Its value is of another type or outside [low, high].
    """
    return node.parameters.declare(name, description, Rule(default, low, high))


def _name(error: Exception) -> str:
    """Return the kind of an exception and its first line."""
    lines = str(error).splitlines()
    return f'{type(error).__name__}: {lines[0]}' if lines else type(error).__name__
