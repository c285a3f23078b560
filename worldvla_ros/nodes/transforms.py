"""Hears TF, where its messages are installed, until the frames of a robot have been checked.

tf2_ros is not on PyPI and hears for ever; a check needs a moment. Without tf2_msgs nothing is
checked, and ~/status says so. Must not know what the frames are for.

    executor's thread   what comes in
    worker's thread     `check`, whose kinematics belong to it
"""

from collections.abc import Mapping
import importlib
import time
from typing import Any

import numpy as np
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.subscription import Subscription

from worldvla_ros.nodes.runtime import ManagedNode, seconds
from worldvla_ros.robot.frames import FrameTree, TipCheck, Transform, matrix

TF_QOS = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.RELIABLE)
STATIC_QOS = QoSProfile(
    depth=100,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)
NOT_INSTALLED = 'not checked: the ROS package tf2_msgs is not installed'
GIVE_UP_S = 20.0
"""/tf may bring a thousand messages per second: they are not heard for longer than this [s]."""


class TransformListener:
    """Hears /tf and /tf_static from its creation until `stop`."""

    def __init__(self, node: ManagedNode) -> None:
        """Begin to hear, where tf2_msgs is installed."""
        self.tree = FrameTree()
        self._node = node
        self._made: list[Subscription] = []
        try:
            message_type = importlib.import_module('tf2_msgs.msg').TFMessage
        except ImportError:
            self.installed = False
            return
        self.installed = True
        for topic, qos, static in (('/tf', TF_QOS, False), ('/tf_static', STATIC_QOS, True)):
            self._made.append(
                node.create_subscription(message_type, topic, self._hearer(static), qos)
            )

    def stop(self) -> None:
        """Hear no more."""
        while self._made:
            self._node.destroy_subscription(self._made.pop())

    def _hearer(self, static: bool) -> Any:
        def hear(message: Any) -> None:
            for stamped in message.transforms:
                stamp_s = float('inf') if static else seconds(stamped.header.stamp)
                move, turn = stamped.transform.translation, stamped.transform.rotation
                try:
                    pose = matrix(
                        np.array([move.x, move.y, move.z]),
                        np.array([turn.x, turn.y, turn.z, turn.w]),
                    )
                except ValueError:
                    continue  # somebody else's nonsense
                self.tree.put(
                    stamped.child_frame_id, Transform(stamped.header.frame_id, pose, stamp_s)
                )

        return hear


class FrameCheck:
    """Whether TF agrees with a robot's kinematics and knows its cameras' frames."""

    def __init__(self, node: ManagedNode, base: str, tip: str) -> None:
        """Begin to hear TF; `poll` must be called now and then in the executor's thread."""
        self._node = node
        self._listener = TransformListener(node)
        self._tip = TipCheck(base, tip)
        self._until_s = time.monotonic() + GIVE_UP_S
        self._unknown: tuple[str, ...] = ()
        self._base = base

    @property
    def verdict(self) -> str:
        """What was found, for the operator."""
        if not self._listener.installed:
            return NOT_INSTALLED
        said = (
            self._tip.verdict
            if self._tip.agrees is not None
            else f'not checked: {self._tip.verdict}'
        )
        return '; '.join([said, *self._unknown])

    def check(self, pose: np.ndarray, stamp_s: float, cameras: Mapping[str, str]) -> None:
        """Compare TF with what is known of one instant.

        Args:
            pose: Pose of the tip by the description's kinematics, float[4, 4].
            stamp_s: Its time [s].
            cameras: Camera → frame_id of its images.
        """
        tree = self._listener.tree
        self._tip.compare(tree, pose, stamp_s)
        if self._tip.agrees is not None:
            self._unknown = tuple(
                f'frame {frame!r} of camera {name} is not in TF'
                for name, frame in cameras.items()
                if tree.pose(self._base, frame) is None
            )

    def poll(self) -> bool:
        """Stop hearing where there is a verdict or time is up; return whether that is so."""
        done = self._tip.agrees is not None or time.monotonic() > self._until_s
        if done:
            self.stop()
        if self._tip.agrees is False:
            self._node.get_logger().warning(
                f'TF: {self.verdict}. Correct base_frame, tip_frame or urdf of the robot '
                'description, or the URDF of robot_state_publisher.'
            )
        return done

    def stop(self) -> None:
        """Hear no more."""
        self._listener.stop()
