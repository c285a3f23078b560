"""Who may find the nodes of a graph: nobody beyond this machine, where nothing else was chosen.

Knows environment variables of ROS 2. Must not know rclpy.
"""

from collections.abc import MutableMapping
import os


def stay_on_this_machine(environment: MutableMapping[str, str] = os.environ) -> None:
    """Limit discovery to this machine, unless the user has said how far it reaches.

    Must be called before ROS is initialised; child processes inherit it. Jazzy and newer know the
    range; Humble knows ROS_LOCALHOST_ONLY, which newer ones call deprecated.
    """
    if 'ROS_LOCALHOST_ONLY' in environment:
        return
    if environment.get('ROS_DISTRO') == 'humble':
        environment['ROS_LOCALHOST_ONLY'] = '1'
    else:
        environment.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
