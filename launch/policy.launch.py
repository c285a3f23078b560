"""The nodes of worldvla_ros.graph as launch actions; with no argument, a simulated arm."""

from difflib import get_close_matches

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from worldvla_ros.graph import ARGUMENTS, describe


def start(context):
    warn_of_misspelt(context.launch_configurations)
    chosen = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    return [action(node) for node in describe(chosen)]


def warn_of_misspelt(given):
    """Name arguments that look like one of ours; others may belong to an including launch file."""
    for name in given:
        near = get_close_matches(name, ARGUMENTS, n=1, cutoff=0.8)
        if name not in ARGUMENTS and near:
            get_logger('worldvla_ros').warning(
                f'launch argument {name!r} is not used here. Did you mean {near[0]}?'
            )


def action(node):
    # the shipped defaults come first, as ROS arguments: SetParameter of a parent launch file wins
    # over them, then params_file, then launch arguments
    files = [node.parameter_file] if node.parameter_file else []
    return Node(
        package=node.package,
        executable=node.executable,
        name=node.name or None,
        namespace=node.namespace or None,
        parameters=[*files, *([dict(node.parameters)] if node.parameters else [])],
        remappings=list(node.remappings),
        arguments=list(node.arguments),
        ros_arguments=node.ros_arguments(),
        output='screen',
        emulate_tty=True,
        on_exit=fail if node.required else None,
    )


def fail(event, context):
    """End the launch with status 1, as an error does, unless it is ending already."""
    if not context.is_shutdown:
        raise RuntimeError(f'{event.process_name} ended with status {event.returncode}')


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(
            name,
            default_value=argument.default,
            description=argument.description,
            choices=list(argument.choices) or None,
        )
        for name, argument in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
