"""For launch_testing: the simulated arm, started by launch/sim.launch.py, is moved by chunks.

    launch_test test/launched/moved_arm.py

test/test_launch_testing.py runs it where launch_testing is installed.
"""

from pathlib import Path
import threading
import unittest

from diagnostic_msgs.msg import DiagnosticArray
from launch.actions import IncludeLaunchDescription, SetLaunchConfiguration
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_testing.actions import ReadyToTest
import launch_testing.asserts
import launch_testing.markers
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState

from launch import LaunchDescription
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.qos import JOINTS_QOS, LATCHED_QOS, RELIABLE_QOS

LAUNCH = Path(__file__).parents[2] / 'launch/sim.launch.py'
ENOUGH_S = 180.0
MOVED_RAD = 0.02
INTERRUPTED = [0, -2, 130]


@launch_testing.markers.keep_alive
def generate_test_description():
    arguments = {'instruction': 'pick up the red cube', 'imagine': 'false'}
    included = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(LAUNCH)), launch_arguments=arguments.items()
    )
    patience = SetLaunchConfiguration('sigterm_timeout', '60')  # for a machine that does much else
    return LaunchDescription([patience, included, ReadyToTest()])


class TestWhileTheGraphRuns(unittest.TestCase):
    """Listens to what the launched nodes publish."""

    def setUp(self):
        rclpy.init()
        self.node = rclpy.create_node('observer')
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.heard = {}
        self.positions = []
        self.stop = threading.Event()
        for cls, topic, qos in (
            (ActionChunk, 'action_chunk', RELIABLE_QOS),
            (DiagnosticArray, 'action_player/status', LATCHED_QOS),
        ):
            self.node.create_subscription(
                cls, topic, lambda message, topic=topic: self.heard.update({topic: message}), qos
            )
        self.node.create_subscription(
            JointState,
            'joint_states',
            lambda m: self.positions.append(list(m.position)),
            JOINTS_QOS,
        )

    def tearDown(self):
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown()

    def until(self, met, what):
        clock = self.node.get_clock()
        end = clock.now().nanoseconds + ENOUGH_S * 1e9
        while not met():
            assert clock.now().nanoseconds < end, f'waited {ENOUGH_S} s for {what}'
            self.executor.spin_once(timeout_sec=0.1)

    def moved(self):
        first, last = (self.positions[0], self.positions[-1]) if self.positions else ([], [])
        return any(abs(a - b) > MOVED_RAD for a, b in zip(first, last, strict=True))

    def test_chunks_come_and_the_arm_moves(self):
        self.until(lambda: 'action_chunk' in self.heard, 'a chunk')
        chunk = self.heard['action_chunk']
        assert chunk.instruction == 'pick up the red cube'
        self.until(self.moved, f'a joint to move by {MOVED_RAD} rad')


@launch_testing.post_shutdown_test()
class TestAfterTheGraphEnded(unittest.TestCase):
    """Looks at how the processes ended."""

    def test_every_process_ended_in_order(self, proc_info):
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=INTERRUPTED)
