"""What is inconsistent in a robot description, and between it and its URDF.

Knows what a description should fulfil beyond what loading demands. Must not know how it is said.
A problem would stop the arm or move it otherwise than meant; a note is good to know.
"""

from collections.abc import Iterator
from dataclasses import dataclass
import itertools
import re

import numpy as np

from worldvla_ros.errors import RobotError, WorldVLAError
from worldvla_ros.robot.collision import TABLE
from worldvla_ros.robot.description import URDF_TOPIC, RobotConfig
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.urdf import ArmUrdf, arm_urdf, read_urdf

GRID = 4
"""Points along each edge of the workspace whose reach is tried."""
REACH_M = 0.005
REACH_ROUNDS = 8
NEARER = 0.9
"""A round that comes no nearer than that share of the round before is the last."""
ENOUGH = 0.25
"""The share of these points that must be in reach."""
SMALLEST_IMAGE = 64
TOPIC = re.compile(r'(~/|/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)
JOINT_CONTROLLERS = ('trajectory', 'position', 'velocity')


@dataclass(frozen=True)
class Finding:
    """Something that does not fit.

    Attributes:
        field: Of the description.
        text: What does not fit.
        remedy: What to do, a sentence.
        problem: False for a note.
    """

    field: str
    text: str
    remedy: str
    problem: bool = True


def check_robot(robot: RobotConfig, urdf: str | None = None) -> list[Finding]:
    """Return all that does not fit, problems first.

    Args:
        robot: The description.
        urdf: Text of the URDF; None reads the file that the description names.
    """
    findings = [*_controller(robot), *_gripper_output(robot), *_cameras(robot), *_table(robot)]
    if urdf is None and robot.urdf == URDF_TOPIC:
        text = 'it comes on /robot_description, so joints and frames cannot be checked'
        return [*findings, Finding('urdf', text, 'Give it as well, with --urdf.')]
    try:
        text = read_urdf(robot) if urdf is None else urdf
        arm = Arm(robot, text)
        part = arm_urdf(text, robot)
    except RobotError as error:
        findings.append(finding_of(error, 'urdf'))
    else:
        findings += [*_limits(arm, part), *_fingers(arm, part), *_shapes(arm, part)]
        findings += [*_start(arm), *_reach(arm)]
    return sorted(findings, key=lambda finding: not finding.problem)


def finding_of(error: WorldVLAError, field: str) -> Finding:
    """Return an error as a finding."""
    text = str(error).removesuffix(f'. {error.remedy}')
    return Finding(field, text, error.remedy or 'Correct it.')


def _controller(robot: RobotConfig) -> Iterator[Finding]:
    controller, action, limits = robot.controller, robot.action, robot.limits
    if action.kind != 'cartesian_delta' and controller.kind not in JOINT_CONTROLLERS:
        yield Finding(
            'controller.kind',
            f'{controller.kind} moves the tip, but actions are of kind {action.kind}',
            f'Choose one of {", ".join(JOINT_CONTROLLERS)}.',
        )
    if controller.positions_only and controller.kind != 'trajectory':
        yield Finding(
            'controller.positions_only',
            f'is for trajectories, but the controller is of kind {controller.kind}',
            'Remove it, or set controller.kind to trajectory.',
        )
    if controller.kind == 'twist':
        for name, unit in (('linear', 'm/s'), ('angular', 'rad/s')):
            speed, scale = getattr(limits, f'{name}_speed'), getattr(controller, f'{name}_scale')
            if speed > scale:
                yield Finding(
                    f'limits.{name}_speed',
                    f'{speed:g} {unit} is more than the controller passes on, '
                    f'controller.{name}_scale {scale:g} {unit}',
                    f'Lower limits.{name}_speed, or raise the scale here and in MoveIt Servo.',
                )
    if controller.topic and not TOPIC.fullmatch(controller.topic):
        yield _bad_topic('controller.topic', controller.topic)


def _gripper_output(robot: RobotConfig) -> Iterator[Finding]:
    gripper = robot.gripper
    if gripper.names and gripper.output.kind == 'none':
        yield Finding(
            'gripper.output',
            'the gripper has joints, but is not commanded',
            'Name its output, if it should close.',
            problem=False,
        )
    if gripper.output.kind != 'none' and not TOPIC.fullmatch(gripper.output.name):
        yield _bad_topic('gripper.output.name', gripper.output.name)


def _cameras(robot: RobotConfig) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for i, camera in enumerate(robot.cameras):
        if camera.topic in first:
            yield Finding(
                f'cameras[{i}].topic',
                f'{camera.name} and {first[camera.topic]} have the same topic {camera.topic!r}',
                'Give each camera its own topic.',
            )
        first.setdefault(camera.topic, camera.name)
        if not TOPIC.fullmatch(camera.topic):
            yield _bad_topic(f'cameras[{i}].topic', camera.topic)
        if min(camera.width, camera.height) < SMALLEST_IMAGE:
            yield Finding(
                f'cameras[{i}]',
                f'{camera.name}: {camera.width} × {camera.height} px is less than any model sees',
                f'Give at least {SMALLEST_IMAGE} px.',
            )


def _bad_topic(field: str, topic: str) -> Finding:
    return Finding(
        field, f'{topic!r} is no name in ROS', 'Use letters, digits, underscores and slashes.'
    )


def _table(robot: RobotConfig) -> Iterator[Finding]:
    height, lowest = robot.collision.table_height, robot.limits.workspace_minimum[2]
    if height is not None and height > lowest:
        yield Finding(
            'collision.table_height',
            f'the table, at {height:g} m, is inside the workspace, which begins at {lowest:g} m',
            'Raise limits.workspace_minimum, or lower the table.',
        )
    if not robot.collision.check:
        yield Finding(
            'collision.check',
            'collisions are not looked for, neither with itself nor with a table',
            'Set it to true.',
            problem=False,
        )


def _limits(arm: Arm, part: ArmUrdf) -> Iterator[Finding]:
    """Find limits of the description that are looser than the URDF's."""
    joints = arm.robot.joints
    for field, looser, unit in (
        ('minimum', np.less, 'rad'),
        ('maximum', np.greater, 'rad'),
        ('velocity', np.greater, 'rad/s'),
        ('acceleration', np.greater, 'rad/s²'),
        ('jerk', np.greater, 'rad/s³'),
    ):
        for name, ours, theirs in zip(
            arm.names, getattr(joints, field), part.limits, strict=False
        ):
            limit = getattr(theirs, field)
            if limit is not None and looser(ours, limit):
                yield Finding(
                    f'joints.{field}',
                    f'{name}: {ours:g} {unit} is looser than the URDF allows, {limit:g} {unit}; '
                    "the URDF's holds",
                    f'Set it to {limit:g}.'
                    if field in ('acceleration', 'jerk')  # which must be there
                    else f'Set it to {limit:g}, or leave joints.{field} out.',
                )


def _fingers(arm: Arm, part: ArmUrdf) -> Iterator[Finding]:
    for name in arm.robot.gripper.names:
        if name not in part.locked:
            yield Finding(
                'gripper.names',
                f'{name} is no movable joint of the URDF beyond the arm',
                'Correct gripper.names, or add the gripper to the URDF.',
            )


def _shapes(arm: Arm, part: ArmUrdf) -> Iterator[Finding]:
    if not arm.robot.collision.check:
        return
    if arm.meshes:
        yield Finding(
            'urdf',
            f'collision meshes of {", ".join(arm.meshes)} are left out',
            'Give primitive shapes to these links, or look out for collisions yourself.',
            problem=False,
        )
    if not part.shapes:
        yield Finding(
            'urdf',
            'no link has a primitive collision shape: collisions cannot be found',
            'Add cylinders, spheres or boxes, or set collision.check to false.',
            problem=False,
        )
    for first, second in arm.ignored:
        yield Finding(
            'joints.start',
            f'{first} touches {second} there: this pair is not looked at any more',
            'Correct the collision shapes of the URDF, if they should not touch.',
            problem=False,
        )


def _start(arm: Arm) -> Iterator[Finding]:
    """Find faults of the start pose, where one is given."""
    limits, start = arm.robot.limits, arm.start
    if not arm.robot.joints.start:
        return
    for name, angle, low, high in zip(arm.names, start, arm.minimum, arm.maximum, strict=True):
        if not low <= angle <= high:
            yield Finding(
                'joints.start',
                f'{name}: {angle:g} rad is outside its limits {low:g} to {high:g}',
                'Correct the start pose.',
            )
    tip = arm.pose(start)[:3, 3]
    low, high = np.array(limits.workspace_minimum), np.array(limits.workspace_maximum)
    if (tip < low).any() or (tip > high).any():
        yield Finding(
            'joints.start',
            f'the tip is at {tip.round(3).tolist()} m, outside the workspace',
            'Correct the start pose, or the workspace.',
        )
    for first, second in arm.collisions(start):
        if TABLE in (first, second):
            yield Finding(
                'joints.start',
                f'{first} is in the {second}',
                'Correct the start pose, or collision.table_height.',
            )


def _reach(arm: Arm) -> Iterator[Finding]:
    """Find a workspace that the tip does not reach, however it is turned."""
    limits = arm.robot.limits
    edges = (
        np.linspace(low, high, GRID)
        for low, high in zip(limits.workspace_minimum, limits.workspace_maximum, strict=True)
    )
    points = [np.array(point) for point in itertools.product(*edges)]
    missed = [point for point in points if not reaches(arm, point)]
    share = 1 - len(missed) / len(points)
    if missed:
        far = max(missed, key=lambda point: float(np.linalg.norm(point)))
        yield Finding(
            'limits',
            f'the tip reaches {share:.0%} of the workspace, and not {far.round(3).tolist()} m',
            'Make the workspace smaller, or correct base_frame and tip_frame.',
            problem=share < ENOUGH,
        )


def reaches(arm: Arm, point: np.ndarray) -> bool:
    """Return whether the tip was brought to a point, float[3] [m], turned in any way."""
    joints, target, before = np.asarray(arm.start), np.eye(4), np.inf
    target[:3, 3] = point
    for _ in range(REACH_ROUNDS):
        target[:3, :3] = arm.pose(joints)[:3, :3]
        found = arm.solve(joints, target)
        if found.miss_m <= REACH_M:
            return True
        if found.miss_m > NEARER * before:
            break
        joints, before = found.joints, found.miss_m
    return False
