"""The main function of a process of nodes: spins them until a signal, then stops them in order.

Knows rclpy and signals. Must not know what a node is for.
"""

from collections.abc import Callable
import os
from pathlib import Path
import signal
import sys
import threading
import traceback
from types import FrameType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from worldvla_ros.errors import WorldVLAError
from worldvla_ros.nodes.runtime import ManagedNode

SPIN_PERIOD_S = 0.2


def run(*factories: Callable[[], Node], args: list[str] | None = None) -> int:
    """Spin nodes in one process until SIGINT, SIGTERM or SIGHUP, then stop them in order.

    rclpy's own handler would invalidate the context at once, and nothing could be sent on the way
    out; so the signals only set a flag here.

    Returns:
        0 after a signal, 1 where a node ended the process, 2 where ROS or a node cannot start for
        a reason that a user can correct.
    """
    if (Path(sys.prefix) / 'share/ament_index').is_dir():  # ROS 2 from wheels: nothing to source
        os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # rclpy's RCLError: names, arguments, log folder
        sys.stderr.write(f'{start_problem(str(error))}\n')
        return 2
    try:
        return _run(factories)
    except RuntimeError as error:  # rclpy's RCLError, where the middleware refuses a node
        if 'security' not in str(error).lower():
            raise
        sys.stderr.write(f'{start_problem(str(error))}\n')
        return 2
    finally:
        rclpy.try_shutdown()


def start_problem(problem: str) -> str:
    """Return rclpy's reason not to start, with what to do about it."""
    if 'log directory' in problem or 'logging directory' in problem:
        remedy = 'Set ROS_LOG_DIR to a folder that can be written, or set HOME.'
    elif 'security libraries' in problem:
        remedy = 'Use a ROS 2 whose middleware has security, or unset ROS_SECURITY_ENABLE.'
    elif 'SECURITY ERROR' in problem:
        remedy = (
            'Check ROS_SECURITY_KEYSTORE and that it has the enclave, or unset '
            'ROS_SECURITY_ENABLE. See SECURITY.md.'
        )
    elif 'remap rule' in problem:
        remedy = (
            'Correct the remapping, namespace or node name: letters, digits and _ only, '
            'not beginning with a digit.'
        )
    else:
        remedy = 'Correct the arguments after --ros-args or the parameter file.'
    return f'ROS cannot start: {problem.split(", at /")[0]}. {remedy}'


def _run(factories: tuple[Callable[[], Node], ...]) -> int:
    executor = SingleThreadedExecutor()
    nodes: list[Node] = []
    stop = threading.Event()
    _on_signals(executor, stop)
    try:
        for factory in factories:
            nodes.append(factory())
            executor.add_node(nodes[-1])
        return spin(executor, nodes, stop)
    except WorldVLAError as error:
        rclpy.logging.get_logger('worldvla_ros').error(str(error))
        return 2
    finally:
        for node in reversed(nodes):
            if isinstance(node, ManagedNode):
                node.close()
        executor.shutdown()
        for node in nodes:
            node.destroy_node()


def _on_signals(executor: SingleThreadedExecutor, stop: threading.Event) -> None:
    """Let the signals that end a process set `stop`."""

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        executor.wake()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        ignored = signal.getsignal(number) == signal.SIG_IGN
        if number != signal.SIGHUP or not ignored:  # under nohup the node goes on
            signal.signal(number, handle)


def spin(executor: SingleThreadedExecutor, nodes: list[Node], stop: threading.Event) -> int:
    """Spin until `stop` or until a node ends the process; return the exit status.

    Nodes catch the exceptions of their own callbacks. What arrives here comes from rclpy itself,
    such as its time source at a negative /clock: every node of the process stops its robot and
    shows the reason, and can be activated again.
    """
    reported = ''
    managed = [node for node in nodes if isinstance(node, ManagedNode)]
    while not stop.is_set():
        try:
            executor.spin_once(timeout_sec=SPIN_PERIOD_S)
        except Exception as error:  # a process's boundary
            trace = traceback.format_exc()
            if trace != reported:
                rclpy.logging.get_logger('worldvla_ros').error(trace)
            reported = trace
            for node in managed:
                node.fail(f'rclpy: {type(error).__name__}: {error}')
        if any(node.fatal for node in managed):
            return 1
    return 0
