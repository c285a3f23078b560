"""The groups of a robot description: joints, gripper, actions, limits, controller, cameras.

Knows names, units and defaults. Must not know which values fit each other: `description` checks
that. Lengths [m], angles [rad], times [s].
"""

from dataclasses import dataclass, field

CARTESIAN_NAMES = ('dx', 'dy', 'dz', 'drx', 'dry', 'drz', 'gripper')
CARTESIAN_UNITS = ('m', 'm', 'm', 'rad', 'rad', 'rad', '1')
"""Displacement and rotation vector of the tip in the base frame, then the gripper."""
ACTION_KINDS = ('cartesian_delta', 'joint_delta', 'joint_position')
CONTROLLER_TOPICS = {
    'twist': 'delta_twist_cmds',
    'pose': 'pose_target_cmds',
    'trajectory': 'joint_trajectory',
    'position': 'position_commands',
    'velocity': 'velocity_commands',
}
"""Kinds of controller, and the topic of each where the description names none."""
SERVO_KINDS = frozenset({'twist', 'pose'})
SPEED_UNITS = ('speed_units', 'unitless')
GRIPPER_NAMES = {
    'width': 'gripper_command',
    'gripper_command': 'gripper_action',
    'parallel_gripper': 'gripper_action',
    'franka': 'franka_gripper',
    'none': '',
}
"""Ways to command a gripper, and the usual topic or action of each."""
GRIPPER_OUTPUTS = tuple(GRIPPER_NAMES)


@dataclass(frozen=True)
class Joints:
    """The arm's joints, each list in the order of the names.

    Attributes:
        names: As in the URDF and in joint states.
        acceleration: Limits [rad/s²].
        jerk: Limits [rad/s³].
        minimum: Least positions [rad]; empty: the URDF's. Given, the tighter of both holds.
        maximum: Greatest positions [rad]; as `minimum`.
        velocity: Limits [rad/s]; as `minimum`.
        start: Where tasks begin [rad]; empty: nowhere in particular.
    """

    names: tuple[str, ...]
    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    velocity: tuple[float, ...] = ()
    start: tuple[float, ...] = ()


@dataclass(frozen=True)
class GripperOutput:
    """How the gripper is commanded.

    Attributes:
        kind: `width`: std_msgs/Float64MultiArray with the opening width [m];
            `gripper_command`: action control_msgs/GripperCommand; `parallel_gripper`: action
            control_msgs/ParallelGripperCommand; `franka`: actions move and grasp of franka_msgs;
            `none`: not at all.
        name: Topic or action; of `franka`, the namespace of both actions.
        half_width: The position that is sent is half of the opening width.
        speed: Of the fingers [m/s].
        force: With which it grasps [N].
    """

    kind: str = 'width'
    name: str = 'gripper_command'
    half_width: bool = False
    speed: float = 0.1
    force: float = 20.0


@dataclass(frozen=True)
class Gripper:
    """The fingers.

    Attributes:
        names: Finger joints; empty where the gripper publishes none: its width is then 0.
        open_width: Opening [m].
        close_above: The gripper action above which it closes; 0 where neither is given.
        close_below: The one below which it closes, in place of `close_above`: of checkpoints that
            speak of an opening, such as LeRobot's.
        absolute_fingers: The signs of finger positions do not count, as robosuite opens a gripper
            to (+0.04, -0.04).
        joint_closed: Position of one joint that moves the fingers, where it is an angle or counts
            from elsewhere: closed [rad]. With `joint_open` equal to it, positions are metres that
            add up to the width.
        joint_open: The same joint, open [rad].
        output: How it is commanded.
    """

    names: tuple[str, ...]
    open_width: float
    close_above: float | None = None
    close_below: float | None = None
    absolute_fingers: bool = False
    joint_closed: float = 0.0
    joint_open: float = 0.0
    output: GripperOutput = field(default_factory=GripperOutput)

    @property
    def angular(self) -> bool:
        """Whether the joint is between `joint_closed` and `joint_open`, and not a width."""
        return self.joint_closed != self.joint_open

    def closes(self, action: float) -> bool:
        """Return whether a gripper action in SI units closes it."""
        if self.close_below is not None:
            return action < self.close_below
        return action > (self.close_above or 0.0)


@dataclass(frozen=True)
class ActionMeaning:
    """Names and SI units of the actions that the robot understands, and the range of each.

    Attributes:
        names: One per number.
        units: m, rad or 1.
        kind: `cartesian_delta`: the tip's displacement and turn in the base frame; `joint_delta`:
            changes of the joints from where the action before leads; `joint_position`: joint
            targets. The gripper comes last.
        minimum: Of the numbers that checkpoints speak, before they are scaled to SI units; -1
            where not given.
        maximum: The same; 1 where not given.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    kind: str = 'cartesian_delta'
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the range."""
        for name, default in (('minimum', -1.0), ('maximum', 1.0)):
            if not getattr(self, name):
                object.__setattr__(self, name, (default,) * len(self.names))


@dataclass(frozen=True)
class Limits:
    """What may leave the player.

    Attributes:
        linear_speed: Of the tip [m/s].
        linear_acceleration: Of the tip [m/s²].
        linear_jerk: Of the tip [m/s³].
        angular_speed: Of the tip [rad/s].
        angular_acceleration: Of the tip [rad/s²].
        angular_jerk: Of the tip [rad/s³].
        workspace_minimum: Corner of the box that the tip stays in [m], in the base frame.
        workspace_maximum: Opposite corner [m].
        joint_lag: How far a joint may be from where it was commanded [rad]; beyond, the arm is
            blocked or its controller does not follow.
        tip_lag: The same for the tip [m].
        chunk_duration: The longest chunk that is played [s].
        max_slowdown: A chunk that is too fast is played up to this many times slower; with 1 it is
            refused.
    """

    linear_speed: float
    linear_acceleration: float
    linear_jerk: float
    angular_speed: float
    angular_acceleration: float
    angular_jerk: float
    workspace_minimum: tuple[float, float, float]
    workspace_maximum: tuple[float, float, float]
    joint_lag: float = 0.3
    tip_lag: float = 0.1
    chunk_duration: float = 2.0
    max_slowdown: float = 1.0


@dataclass(frozen=True)
class Controller:
    """What takes the commands.

    Attributes:
        kind: `twist` or `pose` (MoveIt Servo, Cartesian controllers), `trajectory` (joint
            trajectory controller), `position` or `velocity` (forward controllers).
        topic: Its topic; empty: the usual one of the kind.
        units: Of a twist: `speed_units` [m/s, rad/s], or `unitless`, shares of the scales.
        linear_scale: Servo's `scale.linear` [m/s]; also the fastest that it passes on.
        angular_scale: Servo's `scale.rotational` [rad/s].
        positions_only: Trajectories carry times and positions only, as a joint trajectory
            controller with `positions_upsampling` takes them.
    """

    kind: str
    topic: str = ''
    units: str = 'speed_units'
    linear_scale: float = 0.4
    angular_scale: float = 0.8
    positions_only: bool = False

    def topic_of(self, kind: str) -> str:
        """Return the topic for commands of a kind, which may be another than the described.

        MoveIt Servo takes twists and poses side by side, in the namespace of its node.
        """
        if self.topic and kind == self.kind:
            return self.topic
        node, _, name = self.topic.rpartition('/')
        servo = node and {kind, self.kind} <= SERVO_KINDS and name == CONTROLLER_TOPICS[self.kind]
        return f'{node}/{CONTROLLER_TOPICS[kind]}' if servo else CONTROLLER_TOPICS[kind]


@dataclass(frozen=True)
class Collision:
    """What the arm must not touch.

    Attributes:
        check: Whether collisions are looked for at all.
        table_height: Height of the table in the base frame [m]; None: there is none.
    """

    check: bool = True
    table_height: float | None = None


@dataclass(frozen=True)
class Camera:
    """A camera.

    Attributes:
        name: Its name in checkpoints.
        topic: Where its images come.
        width: Of its images [px].
        height: Of its images [px].
        rotation: How far its images are turned against the raw ones [degrees]; checkpoints say
            what they were trained on.
    """

    name: str
    topic: str
    width: int
    height: int
    rotation: int = 0
