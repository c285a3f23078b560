"""In what a path is planned, joints or the tip, and what actions mean there.

    actions            path of the tip            path of the joints
    cartesian_delta    TipSpace                   JointSpace, by inverse kinematics
    joint_delta        refused                    JointSpace
    joint_position     refused                    JointSpace

Knows the arm and the description's limits. Must not know time, or what is being played. Positions
[m], angles [rad]; poses in the base frame.
"""

from worldvla_ros.errors import RobotError
from worldvla_ros.robot.joint_space import JointSpace
from worldvla_ros.robot.places import MotionArm
from worldvla_ros.robot.tip_space import TipSpace

TIP_OUTPUTS = ('twist', 'pose')
JOINT_OUTPUTS = ('trajectory', 'position', 'velocity')

Space = TipSpace | JointSpace


def space_of(arm: MotionArm, output: str) -> Space:
    """Return in what a path for an output is planned.

    Raises:
        RobotError: The output is unknown, or has no meaning for the arm's actions.
    """
    if output in JOINT_OUTPUTS:
        return JointSpace(arm)
    kind, known = arm.robot.action.kind, ', '.join((*TIP_OUTPUTS, *JOINT_OUTPUTS))
    if output not in TIP_OUTPUTS:
        raise RobotError('output', expected=f'one of {known}', got=repr(output))
    if kind != 'cartesian_delta':
        raise RobotError(
            f'robot {arm.robot.name}: actions of kind {kind} cannot be played as {output}',
            expected=f'controller.kind one of {", ".join(JOINT_OUTPUTS)}',
            got=output,
            remedy='Set controller.kind of the robot description, or the output of action_player.',
        )
    return TipSpace(arm)
