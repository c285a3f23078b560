"""The simulated arm: policy.launch.py with another default.

What matters here: task, seed, instruction, imagine, record, rviz.
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
                'sim',
                default_value='true',
                description='Start the simulated arm.',
                choices=['true', 'false'],
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(POLICY)),
        ]
    )
