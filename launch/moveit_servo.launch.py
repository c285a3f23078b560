"""Any arm behind MoveIt Servo: policy.launch.py with other defaults; a dry run until ~/enable.

What matters here: robot, output (twist or pose), checkpoint, instruction, device, image_topic,
dry_run.
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription

POLICY = str(Path(__file__).with_name('policy.launch.py'))


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'robot',
                default_value='panda_servo',
                description='Robot behind Servo: a name in config/robots, or a YAML file.',
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(POLICY)),
        ]
    )
