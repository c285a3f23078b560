#!/bin/sh
# Sources ROS 2 and the workspace that the container was built with, then runs what was asked for.
set -e
. "/opt/ros/$ROS_DISTRO/setup.sh"
if [ -f /opt/ros2_ws/install/setup.sh ]; then
    . /opt/ros2_ws/install/setup.sh
fi
exec "$@"
