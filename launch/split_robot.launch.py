"""The robot's half of a graph on two machines: cameras are encoded, chunks are played.

policy.launch.py with other defaults. Start split_gpu.launch.py with the same robot and checkpoint
on the machine with the GPU, in the same ROS_DOMAIN_ID and with synchronised clocks. What matters
here: robot, checkpoint, instruction, image_topic, image_transport.
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
                'policy',
                default_value='false',
                description='Start policy and world model here.',
                choices=['true', 'false'],
            ),
            DeclareLaunchArgument(
                'tokenizer',
                default_value='true',
                description='Start the tokenizer: camera images to image_tokens.',
                choices=['true', 'false'],
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(POLICY)),
        ]
    )
