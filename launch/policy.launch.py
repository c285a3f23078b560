"""The nodes of worldvla_ros.graph as launch actions; with no argument, a simulated arm."""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription
from worldvla_ros.graph import ARGUMENTS, describe


def start(context):
    chosen = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    return [action(node) for node in describe(chosen)]


def action(node):
    parameters = [*([node.parameter_file] if node.parameter_file else []), dict(node.parameters)]
    return Node(
        package=node.package,
        executable=node.executable,
        name=node.name or None,
        namespace=node.namespace or None,
        parameters=parameters,
        remappings=list(node.remappings),
        arguments=list(node.arguments),
        output='screen',
        emulate_tty=True,
    )


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
