"""How much of a core the policy's process takes beside inference: images and joints come, no task.

    python -m studies.policy_load --rate 30 --size 640x480 --seconds 20

Starts the policy as a process of its own without an instruction, so that it hears and judges
everything and decodes nothing, and feeds it camera images and joint states as drivers would. With
`--rate 0` no image comes: the difference is what images cost. The policy's own diagnostics say how
many arrived.
"""

import argparse
import os
import threading
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from studies.player_load import HOME, core_share
from worldvla_ros.graph import NodeSpec
from worldvla_ros.nodes.convert import array_to_image
from worldvla_ros.nodes.qos import SENSOR_QOS
from worldvla_ros.package_files import share_folder
from worldvla_ros.processes.discovery import stay_on_this_machine
from worldvla_ros.processes.supervisor import Processes
from worldvla_ros.robot.description import load_robot

START_S = 10.0


class Feeder(Node):
    """Publishes images that change, and joint states."""

    def __init__(self, rate: float, joint_rate: float, width: int, height: int) -> None:
        """Create publishers and timers; a rate of 0 publishes nothing."""
        super().__init__('feeder')
        robot = load_robot('sim_panda')
        self._names = [*robot.joints.names, *robot.gripper.names]
        noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
        self._messages = [array_to_image(image, 1.0) for image in noise]
        self._count = 0
        self.heard = ''
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 1)
        self._images = self.create_publisher(Image, 'image', SENSOR_QOS)
        self._joints = self.create_publisher(JointState, 'joint_states', SENSOR_QOS)
        if rate > 0:
            self.create_timer(1 / rate, self._see)
        if joint_rate > 0:
            self.create_timer(1 / joint_rate, self._measure)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == 'policy: images':
                self.heard = status.message

    def _see(self) -> None:
        self._count += 1
        message = self._messages[self._count % 2]
        message.header.stamp = self.get_clock().now().to_msg()
        self._images.publish(message)

    def _measure(self) -> None:
        message = JointState(name=self._names, position=[*HOME.tolist(), 0.04, 0.04])
        message.header.stamp = self.get_clock().now().to_msg()
        self._joints.publish(message)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rate', type=float, default=30.0, help='images per second [Hz]')
    parser.add_argument('--joint-rate', type=float, default=50.0, help='joint states [Hz]')
    parser.add_argument('--size', default='640x480', help='of the images [px]')
    parser.add_argument('--seconds', type=float, default=20.0, help='how long to measure [s]')
    chosen = parser.parse_args()
    width, height = map(int, chosen.size.split('x'))
    stay_on_this_machine()
    profile = share_folder() / 'config/dds/images.xml'  # the default would lose most images
    os.environ.setdefault('FASTDDS_DEFAULT_PROFILES_FILE', str(profile))
    processes = Processes([NodeSpec('policy', parameters={'camera_size': chosen.size})])
    rclpy.init()
    feeder = Feeder(chosen.rate, chosen.joint_rate, width, height)
    executor = SingleThreadedExecutor()
    executor.add_node(feeder)
    threading.Thread(target=executor.spin, daemon=True).start()
    try:
        time.sleep(START_S)
        share = core_share(processes.children['policy'].pid, chosen.seconds)
        print(
            f'{chosen.rate:g} images of {chosen.size} and {chosen.joint_rate:g} joint states per '
            f'second: {share:.1%} of a core; the policy says "{feeder.heard}"'
        )
    finally:
        executor.shutdown()
        processes.stop()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
