"""What lies between commands and joints in studies/bridges.py: a mock per kind of controller."""

import numpy as np

from worldvla_ros.robot.commands import unitless
from worldvla_ros.robot.grasping import GripperGoals
from worldvla_ros.sim.controllers.cartesian import CartesianPoseMock
from worldvla_ros.sim.controllers.forward import ForwardPositionMock, ForwardVelocityMock
from worldvla_ros.sim.controllers.gripper import GripperMock
from worldvla_ros.sim.controllers.parts import PERIOD_S, Point, Trajectory
from worldvla_ros.sim.controllers.servo import POSE, TWIST, ServoMock, ServoSettings
from worldvla_ros.sim.controllers.trajectory import JointTrajectoryMock

FRAME = 'panda_link0'


class _TwistLink:
    """Twists to Servo, in either unit."""

    kind, rate = 'twist', 50

    def __init__(self, arm, joints, units='speed_units'):
        controller = arm.robot.controller
        self._scales = (controller.linear_scale, controller.angular_scale)
        self._units = units
        self.mock = _servo(arm, joints, units, TWIST)

    def send(self, command, now_s):
        if self._units == 'unitless':
            command = unitless(command, *self._scales)
        self.mock.accept_twist(command.linear, command.angular, now_s, FRAME)

    def step(self, now_s):
        return self.mock.step(now_s, PERIOD_S)


class _UnitlessLink(_TwistLink):
    """Twists as shares of Servo's scales."""

    def __init__(self, arm, joints):
        super().__init__(arm, joints, 'unitless')


class _PoseLink:
    """Targets of the tip to Servo."""

    kind, rate = 'pose', 50

    def __init__(self, arm, joints):
        self.mock = _servo(arm, joints, 'speed_units', POSE)

    def send(self, command, now_s):
        self.mock.accept_pose(command.pose, now_s, FRAME)

    def step(self, now_s):
        return self.mock.step(now_s, PERIOD_S)


class _CompliantLink:
    """Targets of the tip to a compliant controller."""

    kind, rate = 'pose', 50

    def __init__(self, arm, joints):
        self.mock = CartesianPoseMock(arm, joints)

    def send(self, command, now_s):
        self.mock.accept_pose(command.pose, FRAME)

    def step(self, now_s):
        return self.mock.step(PERIOD_S)


class _TrajectoryLink:
    """The rest of the path, whenever it has changed."""

    kind, rate = 'trajectory', 100

    def __init__(self, arm, joints, upsampling=False, stamped=True):
        self._names, self._stamped = arm.names, stamped
        self.mock = JointTrajectoryMock(arm.names, joints, upsampling=upsampling)

    def send(self, command, now_s):
        points = []
        for i, time_s in enumerate(command.times_s):
            derivatives = ()
            if command.velocities is not None:
                derivatives = (command.velocities[i], command.accelerations[i])
            points.append(Point(float(time_s), command.positions[i], *derivatives))
        stamp_s = command.start_s if self._stamped else 0.0
        self.mock.accept(Trajectory(self._names, tuple(points), stamp_s), now_s)

    def step(self, now_s):
        return self.mock.sample(now_s).positions


class _UnstampedLink(_TrajectoryLink):
    """The same with stamp 0: it starts on arrival."""

    def __init__(self, arm, joints):
        super().__init__(arm, joints, stamped=False)


class _SplineLink(_TrajectoryLink):
    """Positions only, of which the controller makes splines."""

    positions_only = True

    def __init__(self, arm, joints):
        super().__init__(arm, joints, upsampling=True)


class _PositionLink:
    """Joint targets at a high rate."""

    kind, rate = 'position', 100

    def __init__(self, arm, joints):
        self.mock = ForwardPositionMock(joints)

    def send(self, command, now_s):
        self.mock.accept(command.positions)

    def step(self, now_s):
        return self.mock.step(PERIOD_S)


class _VelocityLink:
    """Joint velocities at a high rate."""

    kind, rate = 'velocity', 100

    def __init__(self, arm, joints):
        self.mock = ForwardVelocityMock(joints)

    def send(self, command, now_s):
        self.mock.accept(command.velocities)

    def step(self, now_s):
        return self.mock.step(PERIOD_S)

    def rest(self):
        self.mock.accept(np.zeros_like(self.mock.velocities))


LINKS = {
    'twist': _TwistLink,
    'twist, unitless': _UnitlessLink,
    'pose': _PoseLink,
    'pose, compliant': _CompliantLink,
    'trajectory': _TrajectoryLink,
    'trajectory, stamp 0': _UnstampedLink,
    'trajectory, positions only': _SplineLink,
    'position': _PositionLink,
    'velocity': _VelocityLink,
}
WATCHED = ('trajectory',)
"""Kinds whose commands alone decide what an arm gets at 1 kHz. Values per 10 ms are stairs there,
which no arm with a reflex takes; Servo and compliant controllers smooth in their own way."""


class Fingers:
    """The gripper: its width at once, or goals of an action."""

    def __init__(self, action, open_width):
        """Start open; `action`: it takes goals, as an action server does."""
        self._goals = GripperGoals(open_width) if action else None
        self._mock = GripperMock(open_width, open_width)
        self._width, self._open_width = open_width, open_width

    def say(self, width, now_s):
        """Command an opening width [m]."""
        if self._goals is None:
            self._width = width
            return
        goal = self._goals.offer(width, now_s)
        if goal is not None:
            self._mock.accept(goal.width, 0.2, now_s, grasps=goal.closing)

    def width(self, now_s, dt, measured):
        """Return the width that the fingers have after `dt` [s]."""
        if self._goals is None:
            return self._width
        self._width = self._mock.step(now_s, dt, measured)
        if self._mock.results:
            self._mock.results.clear()
            self._goals.ended()
        return self._width


def _servo(arm, joints, units, kind):
    controller = arm.robot.controller
    settings = ServoSettings(units, controller.linear_scale, controller.angular_scale)
    made = ServoMock(
        arm, joints, arm.minimum, arm.maximum, arm.velocity, arm.acceleration, settings
    )
    made.switch_command_type(kind)
    return made
