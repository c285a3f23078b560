#!/bin/sh
# What the package needs beside ROS 2, for a container or a machine that is there for it: ROS packages by rosdep, Python
# packages by pip into a virtual environment that sees those of ROS. As root, with ROS 2 sourced:
#   sh tools/install_dependencies.sh             what it takes to run
#   sh tools/install_dependencies.sh test        and to test
# TORCH_INDEX chooses the build of PyTorch, such as https://download.pytorch.org/whl/cu128 for CUDA; VENV the environment.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${ROS_DISTRO:-}" ]; then
    echo 'Expected a sourced ROS 2, found none. Run first:  . /opt/ros/<distribution>/setup.sh' >&2
    exit 1
fi
venv=${VENV:-/opt/worldvla}
index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1

# rosdep would install these into the system by pip; here they come from requirements/base.txt
by_pip=$(sed -n 's/.*>\([a-z0-9-]*-pip\)<.*/\1/p' package.xml)

apt-get update -qq
# compiler headers for the interfaces, and an OpenGL software renderer for the simulation
apt-get install -y -qq --no-install-recommends python3-dev python3-venv libegl1 libgl1-mesa-dri libgles2
rosdep update --rosdistro "$ROS_DISTRO"
rosdep install -y --from-paths . --ignore-src --rosdistro "$ROS_DISTRO" --skip-keys "$by_pip"

# numpy keeps the major version that the messages of this ROS 2 were compiled with
numpy=$(/usr/bin/python3 -c 'import numpy; print(int(numpy.__version__.split(".")[0]) + 1)')
constraint=$(mktemp)
echo "numpy<$numpy" > "$constraint"

/usr/bin/python3 -m venv --system-site-packages "$venv"
pip() { "$venv/bin/python" -m pip install --no-cache-dir -q -c "$constraint" "$@"; }
pip --index-url "$index" "$(grep '^torch==' requirements/base.txt)"
pip -r requirements/base.txt
if [ "${1:-}" = test ]; then
    pip -r requirements/test.txt
fi
rm "$constraint"
