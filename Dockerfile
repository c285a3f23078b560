# The package in a container with ROS 2, see docs/how-to/containers.md.
#   docker build -t worldvla .                                                             CPU, Jazzy
#   docker build -t worldvla --build-arg ROS_DISTRO=kilted .                               another ROS 2
#   docker build -t worldvla --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .    CUDA
ARG ROS_DISTRO=jazzy
ARG BASE=ros:${ROS_DISTRO}-ros-base

# hadolint ignore=DL3006
FROM ${BASE} AS dependencies
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV VIRTUAL_ENV=/opt/worldvla \
    PATH=/opt/worldvla/bin:$PATH
WORKDIR /opt/ros2_ws/src/worldvla_ros
# what changes seldom comes first, so that it is installed once
COPY package.xml ./
COPY requirements requirements
COPY tools/install_dependencies.sh tools/
RUN . "/opt/ros/${ROS_DISTRO}/setup.sh" \
    && TORCH_INDEX="${TORCH_INDEX}" sh tools/install_dependencies.sh \
    && rm -rf /var/lib/apt/lists/*
COPY tools/container_entrypoint.sh /usr/local/bin/worldvla_entrypoint
RUN chmod 755 /usr/local/bin/worldvla_entrypoint
ENTRYPOINT ["worldvla_entrypoint"]

# for .devcontainer: the sources are mounted there, and built by their owner
FROM dependencies AS development
RUN python -m pip install --no-cache-dir -r requirements/test.txt -r requirements/lint.txt
CMD ["bash"]

FROM dependencies AS runtime
COPY . .
WORKDIR /opt/ros2_ws
RUN . "/opt/ros/${ROS_DISTRO}/setup.sh" \
    && colcon build --packages-select worldvla_ros \
        --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE=/opt/worldvla/bin/python3 \
    && useradd --create-home --uid 10001 worldvla
USER 10001
WORKDIR /home/worldvla
CMD ["ros2", "launch", "worldvla_ros", "policy.launch.py"]
