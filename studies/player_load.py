"""How much of a core the action player takes: processor time by /proc, with chunks and joints.

    python studies/player_load.py --rate 500 --output twist --seconds 20

Starts the player as a process of its own and feeds it joint states and chunks from here, as a
driver and a policy would. The arm follows the path exactly, as it is told by nobody else.
"""

import argparse
import os
from pathlib import Path
import threading
import time

from geometry_msgs.msg import TwistStamped
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from worldvla_ros.graph import NodeSpec
from worldvla_ros.msg import ActionChunk, PlayerState
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS, SENSOR_QOS
from worldvla_ros.processes.supervisor import Processes
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm

HOME = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])
CHUNK_PERIOD_S = 0.2
AWAY = [0, 0.3, 0, 0, 0, 0, 1]
BACK = [0, -0.3, 0, 0, 0, 0, 1]


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used [s]."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def core_share(pid: int, seconds: float) -> float:
    """Return how much of a core a process takes over some time [s]."""
    start_s, used_s = time.monotonic(), cpu_s(pid)
    time.sleep(seconds)
    return (cpu_s(pid) - used_s) / (time.monotonic() - start_s)


class Feeder(Node):
    """Publishes chunks and joint states, and follows twists or positions."""

    def __init__(self, output: str, joint_rate: float) -> None:
        """Create publishers and timers."""
        super().__init__('feeder')
        self.arm = Arm(load_robot('sim_panda'))
        self.joints, self.commands, self._last_s = HOME.copy(), 0, 0.0
        self._speed = np.zeros(6)
        self._chunk = 0
        self.codes: set[str] = set()
        self._states = self.create_publisher(JointState, 'joint_states', SENSOR_QOS)
        self._chunks = self.create_publisher(ActionChunk, 'action_chunk', RELIABLE_QOS)
        self.create_subscription(PlayerState, 'action_player/state', self._on_state, LATCHED_QOS)
        if output == 'twist':
            self.create_subscription(TwistStamped, 'delta_twist_cmds', self._on_twist, 1)
        else:
            topic = 'position_commands'
            self.create_subscription(Float64MultiArray, topic, self._on_positions, 1)
        self.create_timer(1 / joint_rate, self._measure)
        self.create_timer(CHUNK_PERIOD_S, self._offer)

    def _on_state(self, message: PlayerState) -> None:
        self.codes |= {reason.text for reason in message.reasons}

    def _on_twist(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        self._speed = np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        self.commands += any(self._speed)

    def _on_positions(self, message: Float64MultiArray) -> None:
        self.joints = np.array(message.data)
        self.commands += 1

    def _measure(self) -> None:
        now = self.get_clock().now()
        now_s = now.nanoseconds * 1e-9
        period = min(now_s - self._last_s, 0.05)
        self._last_s = now_s
        step = np.linalg.pinv(self.arm.jacobian(self.joints)) @ self._speed
        self.joints = self.joints + period * step
        robot = self.arm.robot
        message = JointState(name=[*robot.joints.names, *robot.gripper.names])
        message.position = [*self.joints.tolist(), 0.04, 0.04]
        message.header.stamp = now.to_msg()
        self._states.publish(message)

    def _offer(self) -> None:
        self._chunk += 1
        action = self.arm.robot.action
        rows = [AWAY if self._chunk // 5 % 2 else BACK] * 10
        message = ActionChunk(
            chunk_id=self._chunk, dt=0.05, horizon=10, dim=7, model_id='load', instruction='go',
            action_names=list(action.names), action_units=list(action.units),
            action_scale=[0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0],
            data=[float(v) for row in rows for v in row],
        )  # fmt: skip
        message.header.stamp = self.get_clock().now().to_msg()
        self._chunks.publish(message)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rate', type=float, default=500.0, help='control rate [Hz]')
    parser.add_argument('--joint-rate', type=float, default=100.0, help='joint states [Hz]')
    parser.add_argument('--output', default='twist', choices=['twist', 'position'])
    parser.add_argument('--seconds', type=float, default=20.0, help='how long to measure [s]')
    chosen = parser.parse_args()
    parameters = {'control_rate': chosen.rate, 'output': chosen.output, 'follow_timeout': 5.0}
    processes = Processes([NodeSpec('action_player', parameters=parameters)])
    rclpy.init()
    feeder, executor = Feeder(chosen.output, chosen.joint_rate), SingleThreadedExecutor()
    executor.add_node(feeder)
    threading.Thread(target=executor.spin, daemon=True).start()
    try:
        time.sleep(6.0)
        pid = processes.children['action_player'].pid
        start_s, used_s, sent = time.monotonic(), cpu_s(pid), feeder.commands
        feeder.codes.clear()
        time.sleep(chosen.seconds)
        lasted_s = time.monotonic() - start_s
        share = (cpu_s(pid) - used_s) / lasted_s
        rate = (feeder.commands - sent) / lasted_s
        print(
            f'{chosen.output} at {chosen.rate:g} Hz, joint states at {chosen.joint_rate:g} Hz: '
            f'{share:.1%} of a core, {rate:.0f} commands per second heard here; '
            f'reasons: {", ".join(sorted(feeder.codes)) or "none"}'
        )
    finally:
        executor.shutdown()
        processes.stop()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
