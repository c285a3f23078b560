r"""Two simulated arms in one graph, each in a namespace of its own.

    ros2 launch examples/two_arms.launch.py

Say something to one of them:

    ros2 topic pub --once --keep-alive 5 --qos-durability transient_local \
        /left/instruction std_msgs/msg/String "{data: pick up the red cube}"

GroupAction keeps the arguments of one arm from those of the other. docs/launch.md tells more.
"""

from launch.actions import GroupAction, IncludeLaunchDescription
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def arm(namespace, seed):
    """Return the nodes of one arm; the same seed lays out the same scene."""
    package = FindPackageShare('worldvla_ros')
    return GroupAction(
        [
            IncludeLaunchDescription(
                PathJoinSubstitution([package, 'launch', 'sim.launch.py']),
                launch_arguments={
                    'namespace': namespace,
                    'seed': seed,
                    'imagine': 'false',
                }.items(),
            )
        ]
    )


def generate_launch_description():
    """Return both arms."""
    return LaunchDescription([arm('left', '8000'), arm('right', '8001')])
