"""What RViz and Foxglove need beside images: the simulated arm's URDF, its frames, its cameras.

    robot_description   the URDF, latched                    std_msgs/String
    /tf                 each link in its parent, 20 Hz        tf2_msgs/TFMessage
    /tf_static          each camera's optical frame, latched
    camera_info         beside image, wrist_camera_info beside wrist_image

On a real robot its drivers publish these. tf2_msgs is not on PyPI: without it there are no frames,
which the log says once. In a namespace `tf` and `tf_static` are in it, too: two arms have links of
the same names. Must not know physics.
"""

from collections.abc import Mapping
import importlib
from typing import Any

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
import numpy as np
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import String

from worldvla_ros.nodes.qos import LATCHED_QOS, SENSOR_QOS
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.links import links
from worldvla_ros.robot.urdf import arm_urdf, read_urdf
from worldvla_ros.robot.visuals import with_visuals
from worldvla_ros.sim.views import View

ROBOT = 'sim_panda'
CARRIERS = {'world': 'panda_link0', 'hand': 'panda_hand'}
"""Body of the simulation that carries a camera → link of the URDF that lies where it lies."""
FRAMES = {'front': 'front_camera', 'wrist': 'wrist_camera'}
"""Camera → its optical frame, which its images name."""
INFO_TOPICS = {'front': 'camera_info', 'wrist': 'wrist_camera_info'}
TF_QOS = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.RELIABLE)
TF_STATIC_QOS = QoSProfile(
    depth=1,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)


class SimFrames:
    """Publishes them until clean_up; all but `__init__` is called in the simulation's thread."""

    def __init__(self, node: ManagedNode) -> None:
        """Create publishers, and say what the arm looks like.

        Raises:
            RobotError: The shipped description of the simulated arm cannot be read.
        """
        robot = load_robot(ROBOT)
        text = read_urdf(robot)
        self._links = [link for link in links(arm_urdf(text, robot)) if link.parent]
        self._infos = {
            camera: node.publisher(CameraInfo, topic, SENSOR_QOS)
            for camera, topic in INFO_TOPICS.items()
        }
        self._views: Mapping[str, View] = {}
        self._description = node.publisher(String, 'robot_description', LATCHED_QOS)
        self._description.publish(String(data=with_visuals(text, ROBOT)))
        self._moving, self._still = self._tf_publishers(node)

    def _tf_publishers(self, node: ManagedNode) -> tuple[Publisher | None, Publisher | None]:
        try:
            self._tf: Any = importlib.import_module('tf2_msgs.msg').TFMessage
        except ImportError:
            node.get_logger().info('no frames on /tf: the ROS package tf2_msgs is not installed')
            return None, None
        root = '/' if node.get_namespace() == '/' else ''
        return (
            node.publisher(self._tf, f'{root}tf', TF_QOS),
            node.publisher(self._tf, f'{root}tf_static', TF_STATIC_QOS),
        )

    def look(self, views: Mapping[str, View], stamp: Time) -> None:
        """Say where the cameras are, which every new scene moves a little."""
        self._views = views
        if self._still is not None:
            self._still.publish(
                self._tf(
                    transforms=[
                        _transform(
                            CARRIERS[view.body],
                            FRAMES[name],
                            view.position,
                            view.quaternion,
                            stamp,
                        )
                        for name, view in views.items()
                    ]
                )
            )

    def publish(self, joints: Mapping[str, float], stamp: Time) -> None:
        """Say where each link is, where somebody listens.

        Args:
            joints: Joint → where it is [rad] or [m].
            stamp: When.
        """
        if self._moving is not None and self._moving.get_subscription_count():
            transforms = [
                _transform(link.parent, link.name, *link.at(joints.get(link.joint, 0.0)), stamp)
                for link in self._links
            ]
            self._moving.publish(self._tf(transforms=transforms))

    def publish_info(self, camera: str, size: int, stamp: Time) -> None:
        """Say how a camera projects, beside its image of size x size pixels."""
        if not self._infos[camera].get_subscription_count():
            return
        matrix = self._views[camera].matrix
        info = CameraInfo(width=size, height=size, distortion_model='plumb_bob')
        info.header.stamp, info.header.frame_id = stamp, FRAMES[camera]
        info.d = [0.0] * 5
        info.k = matrix.ravel().tolist()
        info.r = np.eye(3).ravel().tolist()
        info.p = np.hstack([matrix, np.zeros((3, 1))]).ravel().tolist()
        self._infos[camera].publish(info)


def _transform(
    parent: str, child: str, position: np.ndarray, quaternion: np.ndarray, stamp: Time
) -> TransformStamped:
    made = TransformStamped(child_frame_id=child)
    made.header.stamp, made.header.frame_id = stamp, parent
    to = made.transform
    to.translation.x, to.translation.y, to.translation.z = map(float, position)
    to.rotation.w, to.rotation.x, to.rotation.y, to.rotation.z = map(float, quaternion)
    return made
