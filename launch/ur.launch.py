"""A Universal Robots UR5e: policy.launch.py with other defaults; a dry run until ~/enable.

What matters here: controller, checkpoint, instruction, device, image_topic, dry_run; and robot,
for a description of your own.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

POLICY = str(Path(__file__).with_name('policy.launch.py'))


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'controller',
                default_value='servo',
                description='Controller: MoveIt Servo or the scaled joint trajectory controller.',
                choices=['servo', 'jtc'],
            ),
            DeclareLaunchArgument(
                'robot',
                default_value=['ur5e_', LaunchConfiguration('controller')],
                description='Robot: a name in config/robots, or the path of a YAML file.',
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(POLICY)),
        ]
    )
