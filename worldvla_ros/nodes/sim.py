"""The simulated robot as a node: takes what a real arm takes, publishes what a real arm publishes.

    delta_twist_cmds   a twist, for one control period         geometry_msgs/TwistStamped
    joint_trajectory   as joint_trajectory_controller does     trajectory_msgs/JointTrajectory
    joint_setpoints    joint targets of a controller outside, one after the other, played a control
                       period later; see `nodes.mock_controller`
    gripper_command    opening width [m]                       std_msgs/Float64MultiArray

The newest of the three moves the arm. Physics and rendering run in a thread of their own, in real
time; callbacks only leave commands for it.
"""

from array import array
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
import queue
import threading
import time
import traceback

from geometry_msgs.msg import TwistStamped
import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from worldvla_ros.errors import ConfigError, WorldVLAError
from worldvla_ros.msg import TaskState
from worldvla_ros.nodes.convert import array_to_image, time_message
from worldvla_ros.nodes.diagnostics import Diagnostics, Rate
from worldvla_ros.nodes.qos import RELIABLE_QOS, SENSOR_QOS, SETPOINTS_QOS, STATES_QOS
from worldvla_ros.nodes.runtime import ManagedNode, declare
from worldvla_ros.nodes.sim_frames import FRAMES, SimFrames
from worldvla_ros.nodes.sim_trajectory import message_to_trajectory
from worldvla_ros.nodes.spin import run
from worldvla_ros.sim.controllers.parts import Trajectory
from worldvla_ros.sim.controllers.trajectory import JointTrajectoryMock
from worldvla_ros.sim.scene import FINGERS, JOINTS
from worldvla_ros.sim.tabletop import CONTROL_DT_S, TabletopEnv
from worldvla_ros.sim.tasks import KINDS, Goal, kind_of
from worldvla_ros.sim.views import view
from worldvla_ros.srv import ResetScene

BASE_FRAME = 'panda_link0'
RESET_TIMEOUT_S = 5.0
SETPOINT_S = 0.005
"""Time between the points of `joint_setpoints` [s]."""
SETPOINTS_PER_PERIOD = round(CONTROL_DT_S / SETPOINT_S)
PACE_WINDOW = 40
LONGEST_TEXT = 512
"""Characters of a sentence; the policy takes no longer one."""


@dataclass(frozen=True)
class Reset:
    """A request that waits for the simulation's thread, and the sentence that it brings about."""

    seed: int
    task: str
    instruction: str
    done: Future[str] = field(default_factory=Future)


class SimNode(ManagedNode):
    """Inactive: the world stands still. Active: 20 control periods per second."""

    def __init__(self) -> None:
        """Create the node."""
        super().__init__('sim')
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._resets: queue.Queue[Reset] = queue.Queue()
        self._simulated_s = 0.0
        self._scene = ('', '')
        self._trajectories: queue.Queue[Trajectory] = queue.Queue()
        self._setpoints: deque[np.ndarray] = deque(maxlen=2 * SETPOINTS_PER_PERIOD)
        self._controller: JointTrajectoryMock | None = None
        self._width: float | None = None
        self._instruction: str | None = None
        self._rate = Rate()
        self._frames: SimFrames | None = None
        self._clear_commands()

    def configure(self) -> None:
        """Read parameters and create interfaces.

        Raises:
            ConfigError: A parameter is wrong.
        """
        self.read_parameters()
        if self._task not in KINDS:
            raise ConfigError(
                'parameter task', expected=f'one of {", ".join(KINDS)}', got=repr(self._task)
            )
        self._scene = (self._task, '')
        self._create_interfaces()
        Diagnostics(self, 'sim_panda').add('images', lambda: self._rate.finding('images'))

    def read_parameters(self) -> None:
        """Declare and read all parameters.

        Raises:
            ConfigError: A parameter is wrong.
        """
        self._task = declare(self, 'task', 'pick', f'task at the start: {", ".join(KINDS)}')
        self._seed = declare(self, 'seed', 8000, 'seed of the first scene', 0, 2**31 - 1)
        self._size = declare(self, 'image_size', 128, 'side of the images [px]', 32, 512)
        self._publish_clock = declare(self, 'publish_clock', False, 'publish /clock')
        self._publish_frames = declare(
            self, 'publish_frames', True, 'publish robot_description, tf and camera_info'
        )
        self._timeout_s = declare(
            self, 'command_timeout', 0.15, 'age at which a command ends [s]', 0.01, 5.0
        )

    def activate(self) -> None:
        """Start the world."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._live, daemon=True, name='simulation')
        self._thread.start()

    def deactivate(self) -> None:
        """Stop the world; requests that wait are refused."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(RESET_TIMEOUT_S)
        while not self._resets.empty():
            self._resets.get().done.cancel()

    def _create_interfaces(self) -> None:
        self._images = self.publisher(Image, 'image', SENSOR_QOS)
        self._wrist_images = self.publisher(Image, 'wrist_image', SENSOR_QOS)
        # reliable and with velocities, as MoveIt's monitor asks for
        self._states = self.publisher(JointState, 'joint_states', STATES_QOS)
        self._tasks = self.publisher(TaskState, '~/task_state', RELIABLE_QOS)
        self._frames = SimFrames(self) if self._publish_frames else None
        if self._publish_clock:
            self._clocks = self.publisher(Clock, '/clock', SENSOR_QOS)
        self.subscribe(TwistStamped, 'delta_twist_cmds', self._on_twist, RELIABLE_QOS)
        self.subscribe(JointTrajectory, 'joint_trajectory', self._on_trajectory, RELIABLE_QOS)
        self.subscribe(JointTrajectory, 'joint_setpoints', self._on_setpoints, SETPOINTS_QOS)
        self.subscribe(Float64MultiArray, 'gripper_command', self._on_gripper, RELIABLE_QOS)
        self.subscribe_latched(String, 'instruction', self._on_instruction)
        self.serve(ResetScene, '~/reset', self._on_reset)

    def _on_twist(self, message: TwistStamped) -> None:
        twist = message.twist
        linear = np.array([twist.linear.x, twist.linear.y, twist.linear.z])
        angular = np.array([twist.angular.x, twist.angular.y, twist.angular.z])
        if not (np.isfinite(linear).all() and np.isfinite(angular).all()):
            self.status.warn('twist refused: not finite')
            return
        if message.header.frame_id not in ('', BASE_FRAME):
            self.status.warn(
                f'twist refused: frame {message.header.frame_id!r}, expected {BASE_FRAME}'
            )
            return
        self._twist = (time.monotonic(), linear, angular)
        self._moved_by = 'twist'

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self._trajectories.put(message_to_trajectory(message))

    def _on_setpoints(self, message: JointTrajectory) -> None:
        points = np.array([point.positions for point in message.points], float)
        if tuple(message.joint_names) != JOINTS or points.shape[1:] != (len(JOINTS),):
            self.status.warn(f'setpoints refused: expected positions of {", ".join(JOINTS)}')
        elif not np.isfinite(points).all():
            self.status.warn('setpoints refused: not finite')
        else:
            self._setpoints.extend(points)
            self._moved_by = 'setpoints'

    def _on_gripper(self, message: Float64MultiArray) -> None:
        if len(message.data) != 1 or not np.isfinite(message.data[0]):
            self.status.warn('gripper command refused: expected one finite opening width [m]')
            return
        self._width = float(message.data[0])

    def _on_instruction(self, message: String) -> None:
        self._instruction = message.data

    def _on_reset(
        self, request: ResetScene.Request, response: ResetScene.Response
    ) -> ResetScene.Response:
        task, sentence = self._scene
        try:
            sentence = self._reset(Reset(request.seed, request.task or task, request.instruction))
            response.success = True
        except WorldVLAError as error:
            response.message = str(error)
        response.instruction = sentence
        return response

    def _reset(self, reset: Reset) -> str:
        """Have the scene laid out anew; return the sentence then in force.

        Raises:
            WorldVLAError: The request is wrong or the simulation does not run; the scene stays.
        """
        if not self.active:
            raise ConfigError('the simulation is not running', remedy='Activate the node first.')
        _check(reset)
        self._resets.put(reset)
        try:
            return reset.done.result(RESET_TIMEOUT_S)
        except FutureTimeoutError as error:
            if not reset.done.cancel():  # it has begun just now
                return reset.done.result(RESET_TIMEOUT_S)
            raise ConfigError(
                f'the simulation did not answer within {RESET_TIMEOUT_S:.0f} s',
                remedy='See ~/status.',
            ) from error

    def _live(self) -> None:
        """Run the world until stopped; the OpenGL context belongs to this thread."""
        try:
            env = TabletopEnv(task=self._task, image_size=self._size)
            try:
                env.reset(seed=self._seed)
                self._look(env)
                self._run(env)
            finally:
                env.close()
        except Exception as error:  # a thread's boundary: without its world the node is useless
            self.get_logger().error(traceback.format_exc())
            self.end_process(f'the simulation died: {type(error).__name__}: {error}')

    def _run(self, env: TabletopEnv) -> None:
        due = time.monotonic()
        pace: deque[float] = deque(maxlen=PACE_WINDOW)
        while not self._stop.is_set():
            self._serve_resets(env)
            self._command(env)
            self._simulated_s += CONTROL_DT_S
            pace.append(time.monotonic())
            self._publish(env, self._simulated_s, _real_time_factor(pace))
            due = max(due + CONTROL_DT_S, time.monotonic() - CONTROL_DT_S)
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _serve_resets(self, env: TabletopEnv) -> None:
        while not self._resets.empty():
            reset = self._resets.get()
            if not reset.done.set_running_or_notify_cancel():
                continue
            options = {'task': reset.task, 'instruction': reset.instruction}
            try:
                env.reset(seed=reset.seed, options={k: v for k, v in options.items() if v})
            except BaseException as error:  # the request was checked: the thread ends by this
                reset.done.set_exception(ConfigError(f'the simulation died: {error}'))
                raise
            self._clear_commands()
            self._look(env)
            self._scene = (env.task, env.instruction)
            reset.done.set_result(env.instruction)
        self._follow_instruction(env)
        self._scene = (env.task, env.instruction)

    def _follow_instruction(self, env: TabletopEnv) -> None:
        """Judge success by a new sentence, where one of the tasks has such a goal."""
        text, self._instruction = self._instruction, None
        if text is None or not text.strip() or text == env.instruction:  # empty: taken back
            return
        if len(text) > LONGEST_TEXT:
            self.status.warn(f'success cannot be judged: {len(text)} characters', key='task')
            return
        before, env.task = env.task, kind_of(text)
        try:
            env.set_goal(text)
        except WorldVLAError as error:
            env.task = before
            self.status.warn(f'success cannot be judged: {error}', key='task')

    def _look(self, env: TabletopEnv) -> None:
        """Say where the cameras of this scene are."""
        if self._frames is not None:
            views = {name: view(env.model, name, self._size) for name in env.cameras}
            self._frames.look(views, self.get_clock().now().to_msg())

    def _command(self, env: TabletopEnv) -> None:
        """Apply the newest commands and simulate a control period."""
        if self._width is not None:
            env.command_width(self._width)
        self._take_trajectories(env)
        env.advance(self._targets(env))

    def _take_trajectories(self, env: TabletopEnv) -> None:
        """Hand trajectories to the controller, which begins where the arm was last told to be."""
        while not self._trajectories.empty():
            if self._controller is None or self._moved_by != 'trajectory':
                self._controller = JointTrajectoryMock(JOINTS, env.joint_targets())
                self._played_s = self._now_s()
            message, drops = self._trajectories.get(), self._controller.drops
            if self._controller.accept(message, self._played_s):
                self._moved_by = 'trajectory'
            else:
                self.status.warn(f'trajectory refused: {drops.newest}', key='trajectory')

    def _targets(self, env: TabletopEnv) -> np.ndarray | None:
        """Return the joint targets of this control period, or None where a twist moves the arm."""
        if self._moved_by == 'setpoints':
            count = min(len(self._setpoints), SETPOINTS_PER_PERIOD)
            points = [self._setpoints.popleft() for _ in range(count)]
            return np.array(points or [env.joint_targets()])
        if self._moved_by == 'trajectory' and self._controller is not None:
            return self._played(self._controller)
        received_s, linear, angular = self._twist
        if time.monotonic() - received_s <= self._timeout_s:  # else it stands still
            env.command_twist(linear, angular)
        return None

    def _played(self, controller: JointTrajectoryMock) -> np.ndarray:
        """Return what the controller says for this period: float[k, 7].

        Its time passes evenly, and follows the node's clock where the two have come apart.
        """
        if abs(self._now_s() - self._played_s) > CONTROL_DT_S:
            self._played_s = self._now_s()
        times = self._played_s + SETPOINT_S * np.arange(1, SETPOINTS_PER_PERIOD + 1)
        self._played_s += CONTROL_DT_S
        return np.stack([controller.sample(float(time_s)).positions for time_s in times])

    def _now_s(self) -> float:
        """The node's clock [s]."""
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def _publish(self, env: TabletopEnv, simulated_s: float, factor: float) -> None:
        now_s = self._now_s()
        if self._publish_clock:
            now_s = simulated_s
            self._clocks.publish(Clock(clock=time_message(now_s)))
        state = JointState(name=[*JOINTS, *FINGERS])
        state.header.stamp = time_message(now_s)
        state.position = array('d', env.joint_positions().tolist())
        state.velocity = array('d', env.joint_velocities().tolist())
        self._states.publish(state)
        self._images.publish(array_to_image(env.render_camera('front'), now_s, FRAMES['front']))
        self._rate.tick()
        if self._wrist_images.get_subscription_count():
            wrist = env.render_camera('wrist')
            self._wrist_images.publish(array_to_image(wrist, now_s, FRAMES['wrist']))
        if self._frames is not None:
            where = dict(zip(state.name, state.position, strict=True))
            self._frames.publish(where, state.header.stamp)
            for camera in env.cameras:
                self._frames.publish_info(camera, self._size, state.header.stamp)
        self._tasks.publish(_task_state(env, now_s, factor))

    def _clear_commands(self) -> None:
        self._twist = (-np.inf, np.zeros(3), np.zeros(3))
        self._width = self._instruction = None
        self._moved_by, self._controller, self._played_s = 'twist', None, 0.0
        self._setpoints.clear()
        while not self._trajectories.empty():
            self._trajectories.get()


def _check(reset: Reset) -> None:
    """Raise WorldVLAError where a scene cannot be laid out as requested."""
    if reset.seed < 0:
        raise ConfigError(
            'seed', expected='0 or more', got=reset.seed, remedy='Choose another seed.'
        )
    if reset.task not in KINDS:
        raise ConfigError('task', expected=f'one of {", ".join(KINDS)}', got=repr(reset.task))
    if reset.instruction:
        Goal.from_text(reset.task, reset.instruction)


def _task_state(env: TabletopEnv, now_s: float, factor: float) -> TaskState:
    info = env.info()
    message = TaskState(
        seed=info['seed'],
        task=env.task,
        instruction=info['instruction'],
        success=info['success'],
        moved=info['moved'],
        elapsed=info['seconds'],
        real_time_factor=factor,
    )
    message.header.stamp = time_message(now_s)
    return message


def _real_time_factor(pace: deque[float]) -> float:
    """Return simulated per wall time over the remembered steps."""
    wall = pace[-1] - pace[0]
    return (len(pace) - 1) * CONTROL_DT_S / wall if wall > 0 else 1.0


def main() -> int:
    """Run the simulation."""
    return run(SimNode)


if __name__ == '__main__':
    raise SystemExit(main())
