"""The parameters of the action player.

Must not know what they are for beyond their ranges.
"""

from dataclasses import dataclass

from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.robot.commander import KINDS
from worldvla_ros.robot.description import RobotConfig, load_robot
from worldvla_ros.robot.line import BLENDINGS
from worldvla_ros.robot.schema import GRIPPER_OUTPUTS

ENABLED = 'send commands; false: dry run, see ~/enable'


@dataclass(frozen=True)
class Settings:
    """What the parameters say."""

    robot: RobotConfig
    urdf: str
    output: str
    period_s: float
    max_joint_age_s: float
    enabled: bool
    blending: str
    gripper: str
    servo_told: bool
    follow_timeout_s: float
    heartbeat_timeout_s: float


def read_settings(node: ManagedNode) -> Settings:
    """Declare and read all parameters.

    Raises:
        WorldVLAError: The robot description cannot be used or a parameter is wrong.
    """
    robot_name = declare(node, 'robot', 'sim_panda', 'robot name or YAML file')
    # false until a robot says otherwise, so that it is declared where there is no such robot
    declare(node, 'enabled', False, ENABLED)
    rate = declare(node, 'control_rate', 100.0, 'commands per second [Hz]', 1.0, 500.0)
    urdf = declare(node, 'robot_description', '', 'URDF as text, where urdf is `topic`')
    output = declare(node, 'output', '', f"{', '.join(KINDS)}; empty: the description's")
    gripper = declare(node, 'gripper', '', f'{", ".join(GRIPPER_OUTPUTS)}; empty: as `output`')
    told = declare(
        node, 'servo_told', False, 'MoveIt Servo knows what comes; counts without moveit_msgs'
    )
    age = declare(
        node, 'max_joint_age', 0.3, 'oldest joint state that is acted on [s]', 0.01, 10.0
    )
    blending = declare(node, 'blending', 'latest', f'of chunks: {", ".join(BLENDINGS)}')
    follow = declare(
        node, 'follow_timeout', 0.5, 'until a command shows in the joints [s]', 0.05, 10.0
    )
    heartbeat = declare(
        node, 'heartbeat_timeout', 0.0, 'longest silence of heartbeat [s]; 0: off', 0.0, 60.0
    )
    robot = load_robot(robot_name)
    enabled = declare(node, 'enabled', not robot.dry_run, ENABLED)
    return Settings(
        robot, urdf, output, 1 / rate, age, enabled, blending, gripper, told, follow, heartbeat
    )
