"""The shadow: beside another controller, how far a policy's chunks are from what the arm does.

Started instead of the action player by `shadow:=true`. It publishes reports and its status, and
has no publisher, client or action that could command anything. Must not know models.
"""

from array import array
from collections import deque
from dataclasses import dataclass

import numpy as np
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState

from worldvla_ros.errors import ObservationError
from worldvla_ros.msg import ActionChunk, ShadowReport
from worldvla_ros.nodes.convert import message_to_chunk, time_message
from worldvla_ros.nodes.qos import JOINTS_QOS, RELIABLE_QOS
from worldvla_ros.nodes.robot_urdf import make_arm
from worldvla_ros.nodes.runtime import ManagedNode, declare, seconds
from worldvla_ros.nodes.spin import run
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.shadow import Comparison, Shadow
from worldvla_ros.robot.state import JointBuffer

REMEMBERED = 100
"""Comparisons whose means are on ~/status."""


@dataclass(frozen=True)
class Configured:
    """What exists from configuring to cleaning up."""

    arm: Arm
    joints: JointBuffer
    shadow: Shadow
    reports: Publisher
    recent: deque[Comparison]


class ShadowNode(ManagedNode):
    """Active: one report per chunk, once the joints at its end were measured."""

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('shadow')
        self._built: Configured | None = None

    def configure(self) -> None:
        """Read the robot description and listen.

        Raises:
            WorldVLAError: The description cannot be used, or a parameter is wrong.
        """
        name, age_s, urdf = self.read_parameters()
        robot = load_robot(name)
        arm = make_arm(self, robot, urdf)
        self._built = Configured(
            arm=arm,
            joints=JointBuffer(arm, age_s),
            shadow=Shadow(arm, age_s),
            reports=self.publisher(ShadowReport, 'shadow_report', RELIABLE_QOS),
            recent=deque(maxlen=REMEMBERED),
        )
        self.subscribe(ActionChunk, 'action_chunk', self._on_chunk, RELIABLE_QOS)
        self.subscribe(JointState, 'joint_states', self._on_joints, JOINTS_QOS)
        self.status.keep(robot=robot.name)
        self.status.ok('configured')

    def read_parameters(self) -> tuple[str, float, str]:
        """Declare and return robot, longest age of joint states [s] and URDF.

        Raises:
            ConfigError: A parameter is wrong.
        """
        super().read_parameters()
        return (
            declare(self, 'robot', 'sim_panda', 'robot name or YAML file'),
            declare(self, 'max_joint_age', 0.3, 'oldest joint state that is used [s]', 0.01, 10.0),
            declare(self, 'robot_description', '', 'URDF as text, where urdf is `topic`'),
        )

    def deactivate(self) -> None:
        """Forget what was measured."""
        if self._built is not None:
            self._configured.shadow.clear()

    def clean_up(self) -> None:
        """Remove all interfaces."""
        self._built = None
        super().clean_up()

    @property
    def _configured(self) -> Configured:
        """What configuring made; callbacks run only while it is there."""
        assert self._built is not None, 'a callback outlived clean_up'
        return self._built

    def _on_chunk(self, message: ActionChunk) -> None:
        if not self.active:
            return
        try:
            problem = self._configured.shadow.offer(message_to_chunk(message))
        except ObservationError as error:
            problem = str(error)
        if problem:
            self.status.warn(f'chunk {message.chunk_id} is not compared: {problem}', key='chunk')

    def _on_joints(self, message: JointState) -> None:
        if not self.active:
            return
        configured, stamp_s = self._configured, seconds(message.header.stamp)
        try:
            configured.joints.put(list(message.name), np.asarray(message.position), stamp_s)
            configured.shadow.put(configured.joints.newest(stamp_s))
        except ObservationError as error:
            self.status.warn(f'nothing is compared: {error}', key=error.problem)
            return
        missed = configured.shadow.unmeasured
        for found in configured.shadow.due():
            configured.reports.publish(self._message(found))
            configured.recent.append(found)
            self._report()
        if configured.shadow.unmeasured > missed:
            self.status.warn(
                'a chunk is not compared: the joints were not measured at its time', key='joints'
            )

    def _report(self) -> None:
        configured = self._configured
        recent, missed = configured.recent, configured.shadow.unmeasured
        agrees = float(np.mean([c.gripper_agrees for c in recent]))
        self.status.ok(
            'comparing',
            translation_error=f'{np.mean([c.translation_error for c in recent]):.4f} m',
            rotation_error=f'{np.mean([c.rotation_error for c in recent]):.4f} rad',
            travelled=f'{np.mean([c.travelled for c in recent]):.4f} m',
            gripper_agrees=f'{agrees:.0%}',
            not_compared=missed,
        )

    def _message(self, found: Comparison) -> ShadowReport:
        message = ShadowReport(
            chunk_id=found.chunk_id,
            horizon=found.horizon_s,
            translation_error=found.translation_error,
            rotation_error=found.rotation_error,
            travelled=found.travelled,
            joint_error=array('d', found.joint_error.tolist()),
            gripper_agrees=found.gripper_agrees,
        )
        message.header.stamp = time_message(found.stamp_s)
        message.header.frame_id = self._configured.arm.robot.base_frame
        return message


def main() -> int:
    """Run the shadow."""
    return run(ShadowNode)


if __name__ == '__main__':
    raise SystemExit(main())
