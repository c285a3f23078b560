"""A controller as strict as the real one, between the action player and the simulated arm.

    action_player ── the controller's own topic ──▶ mock_controller ── joint_setpoints ──▶ sim
        ▲                                                ▲                                  │
        └────────────────── joint_states ────────────────┴──────────────────────────────────┘

It takes what the robot description says that its controller takes, and drops what that would drop.
It runs at 1 kHz, as a Franka arm does, and hands the simulated arm the joint positions of the last
20 ms in one message, which plays them a control period later. An arm whose joints have other names
than the simulated one's gets joint states under its own names; with `drives: nothing` there is no
simulation at all: the joints are where the controller puts them.
"""

from array import array

from builtin_interfaces.msg import Time
import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.mock_arm import MockArm, make_mock_arm
from worldvla_ros.nodes.mock_gripper import MockGripper
from worldvla_ros.nodes.qos import JOINTS_QOS, RELIABLE_QOS, SETPOINTS_QOS, STATES_QOS
from worldvla_ros.nodes.robot_urdf import make_arm
from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.nodes.sim import SETPOINT_S
from worldvla_ros.nodes.sim_trajectory import setpoints_message
from worldvla_ros.nodes.spin import run
from worldvla_ros.robot.description import RobotConfig, load_robot
from worldvla_ros.sim.controllers.parts import PERIOD_S
from worldvla_ros.sim.controllers.reflex import FR3, PANDA, Reflex
from worldvla_ros.sim.scene import FINGERS, JOINTS

TICK_S = 0.02
LATE_S = 0.2
"""After a longer pause the time that has passed is left out."""
JUMP_RAD = 0.3
"""An arm that is suddenly farther away was put somewhere else: the scene was reset."""
REFLEXES = {'none': None, 'panda': PANDA, 'fr3': FR3}


class MockControllerNode(ManagedNode):
    """Inactive: hears, moves nothing. Active: moves the simulated arm as it is told."""

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('mock_controller')
        self._mock: MockArm | None = None

    def configure(self) -> None:
        """Read parameters and create the controller's interfaces.

        Raises:
            WorldVLAError: The description cannot be used, a parameter is wrong, or interfaces of
                the controller are not installed.
        """
        robot, kind, drives, reflex = self.read_parameters()
        if drives not in ('sim', 'nothing'):
            raise ConfigError('parameter drives', expected='sim or nothing', got=repr(drives))
        if reflex not in REFLEXES:
            known = ', '.join(REFLEXES)
            raise ConfigError('parameter reflex', expected=f'one of {known}', got=repr(reflex))
        self._arm, self._simulated = make_arm(self, robot), drives == 'sim'
        self._check_size()
        self._measured: np.ndarray | None = None
        self._width = robot.gripper.open_width
        start = self._start()
        self._mock = make_mock_arm(self, self._arm, kind or robot.controller.kind, start)
        self._gripper = MockGripper(self, robot, self._width)
        limits = REFLEXES[reflex]
        self._reflex = Reflex(limits, start) if limits else None
        self._time_s, self._dropped, self._tripped = 0.0, 0, ''
        if not self._simulated:
            self._measured = start
        self._create_interfaces()

    def read_parameters(self) -> tuple[RobotConfig, str, str, str]:
        """Return robot, kind of controller, what is moved, and the limits that stop the arm.

        Raises:
            WorldVLAError: A parameter is wrong, or the description cannot be used.
        """
        robot = declare(self, 'robot', 'sim_panda', 'robot name or YAML file')
        gripper = declare(self, 'gripper', '', "kind of gripper; empty: the description's")
        return (
            load_robot(robot).with_gripper(gripper),
            declare(self, 'kind', '', "kind of controller; empty: the description's"),
            declare(self, 'drives', 'sim', 'what is moved: sim or nothing'),
            declare(self, 'reflex', 'none', 'limits that stop the arm: none, panda or fr3'),
        )

    def activate(self) -> None:
        """Start to move the arm."""
        self._time_s = self._now_s()

    def clean_up(self) -> None:
        """Remove all interfaces."""
        self._mock = None
        super().clean_up()

    def _check_size(self) -> None:
        robot = self._arm.robot
        if self._simulated and len(robot.joints.names) != len(JOINTS):
            raise ConfigError(
                f'{robot.name} cannot move the simulated arm',
                expected=f'{len(JOINTS)} joints',
                got=len(robot.joints.names),
                remedy='Launch with mock:=nothing: joint states alone are published; with '
                'sim:=true as well, the camera shows a simulated arm that stands still.',
            )

    def _create_interfaces(self) -> None:
        self._renamed = self._arm.names != JOINTS or not self._simulated
        if self._simulated:
            self.subscribe(JointState, 'joint_states', self._on_joints, JOINTS_QOS)
            self._setpoints = self.publisher(JointTrajectory, 'joint_setpoints', SETPOINTS_QOS)
            self._widths = self.publisher(Float64MultiArray, 'gripper_command', RELIABLE_QOS)
        elif self._arm.robot.gripper.output.kind == 'width':
            name = self._arm.robot.gripper.output.name
            self.subscribe(Float64MultiArray, name, self._on_width, RELIABLE_QOS)
        if self._renamed:
            self._states = self.publisher(JointState, 'joint_states', STATES_QOS)
        self.serve(Trigger, '~/recover', self._on_recover)
        self.every(TICK_S, self._tick)

    def _start(self) -> np.ndarray:
        start = self._arm.start
        middle = (self._arm.minimum + self._arm.maximum) / 2
        return np.array(middle if start is None else start, float)

    # ---- what comes in

    def _on_joints(self, message: JointState) -> None:
        """Take the simulated arm's joints; those under other names are this node's own."""
        named = dict(zip(message.name, message.position, strict=False))
        if not all(name in named for name in (*JOINTS, *FINGERS)):
            return
        joints = np.array([named[name] for name in JOINTS])
        self._width = float(sum(named[name] for name in FINGERS))
        jumped = self._measured is None or np.abs(joints - self._measured).max() > JUMP_RAD
        self._measured = joints
        if jumped:
            self._relocate(joints)
        if self._renamed and self.active:
            velocities = np.array([*message.velocity[: len(JOINTS)]])
            self._publish_state(joints, velocities, message.header.stamp)

    def _on_width(self, message: Float64MultiArray) -> None:
        """Have the fingers where they are told to be, at once."""
        if len(message.data) == 1 and np.isfinite(message.data[0]):
            whole = self._arm.robot.gripper.open_width
            self._width = float(np.clip(message.data[0], 0.0, whole))

    def _on_recover(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if self._measured is not None:
            self._relocate(self._measured)
        response.success = True
        return response

    def _relocate(self, joints: np.ndarray) -> None:
        assert self._mock is not None
        self._mock.relocate(joints)
        if self._reflex is not None:
            self._reflex.reset(joints)
        self._tripped = ''

    # ---- what goes out

    def _tick(self) -> None:
        """Catch up with the clock, a millisecond at a time."""
        if not self.active or self._measured is None or self._mock is None:
            return
        now_s = self._now_s()
        if not 0 <= now_s - self._time_s < LATE_S:
            self._time_s = now_s
        targets = []
        while self._time_s + SETPOINT_S <= now_s:
            targets.append(self._advance(self._mock))
        if not targets:
            return
        if self._simulated:
            self._setpoints.publish(setpoints_message(JOINTS, targets))
        else:
            moved = (targets[-1] - self._measured) / (len(targets) * SETPOINT_S)
            self._measured = targets[-1]
            self._publish_state(self._measured, moved, self.get_clock().now().to_msg())
        self._move_gripper(len(targets) * SETPOINT_S)
        self._report(self._mock)

    def _advance(self, mock: MockArm) -> np.ndarray:
        """Return the joint positions after the time of one setpoint."""
        for _ in range(round(SETPOINT_S / PERIOD_S)):
            self._time_s += PERIOD_S
            joints = mock.step(self._time_s, PERIOD_S)
            if self._reflex is not None:
                joints = self._reflex.step(joints)
        return joints

    def _move_gripper(self, passed_s: float) -> None:
        if self._arm.robot.gripper.output.kind in ('width', 'none'):
            return  # the simulated arm hears the topic itself, and else `_on_width`
        width = self._gripper.step(self._time_s, passed_s, self._width)
        if self._simulated:
            self._widths.publish(Float64MultiArray(data=array('d', [width])))
        else:
            self._width = width

    def _publish_state(self, joints: np.ndarray, velocities: np.ndarray, stamp: Time) -> None:
        """Say where the joints were, under the description's names."""
        gripper = self._arm.robot.gripper
        message = JointState(name=[*self._arm.names, *gripper.names])
        message.header.stamp = stamp
        fingers = []
        if gripper.angular:
            share = self._width / gripper.open_width
            fingers = [gripper.joint_closed + share * (gripper.joint_open - gripper.joint_closed)]
        elif gripper.names:
            fingers = [self._width / len(gripper.names)] * len(gripper.names)
        message.position = array('d', [*joints, *fingers])
        message.velocity = array('d', [*velocities, *(0.0 for _ in fingers)])
        self._states.publish(message)

    def _report(self, mock: MockArm) -> None:
        """Tell what real controllers tell their own log only."""
        if mock.drops.total != self._dropped:
            self._dropped = mock.drops.total
            self.status.warn(f'dropped: {mock.drops.newest}', key='drops', total=self._dropped)
        if self._reflex is not None and self._reflex.tripped != self._tripped:
            self._tripped = self._reflex.tripped
            self.status.warn(f'reflex: {self._tripped}; call ~/recover', key='reflex')

    def _now_s(self) -> float:
        return float(self.get_clock().now().nanoseconds * 1e-9)


def main() -> int:
    """Run the mocked controller."""
    return run(MockControllerNode)


if __name__ == '__main__':
    raise SystemExit(main())
