"""The GPU's half of a graph on two machines: image tokens come, chunks go.

policy.launch.py with other defaults. Start split_robot.launch.py with the same robot and
checkpoint on the robot's machine, in the same ROS_DOMAIN_ID and with synchronised clocks. What
matters here: robot, checkpoint, device, dtype, imagine, detokenizer.
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
                'device',
                default_value='cuda:0',
                description='Torch device of the model, for example cpu or cuda:0.',
            ),
            DeclareLaunchArgument(
                'input',
                default_value='tokens',
                description='What policy and world model take: images or tokens.',
                choices=['images', 'tokens'],
            ),
            DeclareLaunchArgument(
                'action_player',
                default_value='false',
                description='Start the action player here.',
                choices=['true', 'false'],
            ),
            DeclareLaunchArgument(
                'sim',
                default_value='false',
                description='Start the simulated arm here.',
                choices=['true', 'false'],
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(POLICY)),
        ]
    )
