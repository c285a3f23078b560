"""The monitor: a process that hears commands, true joints and reasons, and judges in real time.

    python -m studies.faults.wire ROBOT.yaml

Reads one JSON object per line and answers each with one: `{"begin": NAME}` forgets what was heard,
`{"report": true}` tells it, `{"moved": true}` says that the arm is put elsewhere. Times are those
at which the sender wrote a message [s since 1970].
"""

from collections.abc import Callable
import json
from pathlib import Path
import sys
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from studies.faults.contract import NODES
from studies.faults.limits import MOVING_TWIST, Judge, Limits
from worldvla_ros.msg import PlayerState

ANY = QoSProfile(depth=200, reliability=QoSReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=200, reliability=QoSReliabilityPolicy.RELIABLE)
LATE_S = 0.5
"""A trajectory may leave so long after its stamp; by more, its stamp is of another clock."""
TRUTH = 'truth/joint_states'
TRAJECTORIES = 'truth/joint_trajectory'


class Wire(Node):
    """Hears everything that leaves for the arm, and what is said about it."""

    def __init__(self, limits: Limits) -> None:
        """Listen."""
        super().__init__('fault_wire')
        self._judge = Judge(limits)
        self._lock = threading.Lock()
        self._forget('')
        self._hear(JointState, TRUTH, self._on_joints, ANY)
        self._hear(TwistStamped, 'delta_twist_cmds', self._on_twist, RELIABLE)
        self._hear(JointTrajectory, TRAJECTORIES, self._on_trajectory, RELIABLE)
        self._hear(Float64MultiArray, 'gripper_command', self._on_width, RELIABLE)
        for name in NODES:
            self._hear(DiagnosticArray, f'{name}/status', self._on_status, RELIABLE)
        self._hear(PlayerState, 'action_player/state', self._on_state, RELIABLE)

    def answer(self, request: dict) -> dict:
        """Do what a line asks for."""
        with self._lock:
            if 'begin' in request:
                self._forget(request['begin'])
            if 'moved' in request:
                self._judge.forget()
            return {
                'name': self._name,
                'moving': self._moving,
                'commands': self._commands,
                'violations': self._violations,
                'said': self._said,
                'farthest_mm': 1000 * self._judge.farthest_m,
                'joints_s': self._joints_s,
            }

    def _forget(self, name: str) -> None:
        self._name = name
        self._moving: list[float] = []
        self._commands: list[float] = []
        self._violations: list[list] = []
        self._said: list[list] = []
        self._joints_s = 0.0
        self._judge.farthest_m = 0.0

    def _hear(self, cls: type, topic: str, callback: Callable, qos: QoSProfile) -> None:
        def hear(message: object, info: dict) -> None:
            with self._lock:
                callback(message, info['source_timestamp'] * 1e-9 or time.time())

        self.create_subscription(cls, topic, hear, qos)

    def _on_joints(self, message: JointState, sent_s: float) -> None:
        self._joints_s = sent_s
        self._judge.measured(sent_s, np.array(message.position[:7]))

    def _on_twist(self, message: TwistStamped, sent_s: float) -> None:
        twist = message.twist
        linear = np.array([twist.linear.x, twist.linear.y, twist.linear.z])
        angular = np.array([twist.angular.x, twist.angular.y, twist.angular.z])
        fastest = max(np.linalg.norm(linear), np.linalg.norm(angular))
        found = self._judge.twist(sent_s, message.header.frame_id, linear, angular)
        self._note(sent_s, not fastest <= MOVING_TWIST, found)

    def _on_trajectory(self, message: JointTrajectory, sent_s: float) -> None:
        times = [p.time_from_start.sec + p.time_from_start.nanosec * 1e-9 for p in message.points]
        positions = np.array([p.positions for p in message.points])
        moves = bool(len(positions)) and self._judge.moves(sent_s, positions)
        # a controller counts from the stamp, which is that of the path and not of the message
        stamp_s = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        since_s = sent_s - stamp_s if abs(sent_s - stamp_s) < LATE_S else 0.0
        times_s = np.array(times) - since_s
        found = self._judge.trajectory(sent_s, message.joint_names, times_s, positions)
        self._note(sent_s, moves, found)

    def _on_width(self, message: Float64MultiArray, sent_s: float) -> None:
        self._violations += [[sent_s, text] for text in self._judge.width(message.data)]

    def _on_status(self, message: DiagnosticArray, sent_s: float) -> None:
        for status in message.status:
            level = int.from_bytes(status.level, 'big')
            self._say(sent_s, status.name.strip('/'), level, status.message)

    def _on_state(self, message: PlayerState, sent_s: float) -> None:
        for reason in message.reasons:
            self._say(sent_s, 'action_player', 1, f'[{reason.code}] {reason.text}')

    def _say(self, sent_s: float, name: str, level: int, text: str) -> None:
        """Keep what was said, and when last."""
        for said in self._said[-40:]:
            if said[1] == name and said[3] == text[:300]:
                said[0] = sent_s
                return
        self._said.append([sent_s, name, level, text[:300]])

    def _note(self, sent_s: float, moves: bool, found: list[str]) -> None:
        self._commands.append(sent_s)
        if moves:
            self._moving.append(sent_s)
        self._violations += [[sent_s, text] for text in found]


def main() -> None:
    """Spin, and answer the lines of standard input."""
    rclpy.init()
    wire = Wire(Limits.read(Path(sys.argv[1])))

    def spin() -> None:
        try:
            rclpy.spin(wire)
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin)
    thread.start()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(wire.answer(json.loads(line))) + '\n')
        sys.stdout.flush()
    rclpy.try_shutdown()
    thread.join()


if __name__ == '__main__':
    main()
