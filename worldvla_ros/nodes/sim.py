"""The simulated robot as a node: takes what a real arm takes, publishes what a real arm publishes.

Physics and rendering run in a thread of their own, in real time; callbacks only leave commands for
it. The one node that knows the simulation.
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
from worldvla_ros.nodes.runtime import (
    RELIABLE_QOS,
    SENSOR_QOS,
    ManagedNode,
    declare,
)
from worldvla_ros.nodes.spin import run
from worldvla_ros.sim.scene import FINGERS, JOINTS
from worldvla_ros.sim.tabletop import CONTROL_DT_S, TabletopEnv
from worldvla_ros.sim.tasks import KINDS, Goal, kind_of
from worldvla_ros.srv import ResetScene

BASE_FRAME = 'panda_link0'
RESET_TIMEOUT_S = 5.0
PACE_WINDOW = 40


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
        self._joint_command: np.ndarray | None = None
        self._width: float | None = None
        self._instruction: str | None = None
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

    def read_parameters(self) -> None:
        """Declare and read all parameters.

        Raises:
            ConfigError: A parameter is wrong.
        """
        self._task = declare(self, 'task', 'pick', f'task at the start: {", ".join(KINDS)}')
        self._seed = declare(self, 'seed', 8000, 'seed of the first scene', 0, 2**31 - 1)
        self._size = declare(self, 'image_size', 128, 'side of the images [px]', 32, 512)
        self._publish_clock = declare(self, 'publish_clock', False, 'publish /clock')
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
        self._states = self.publisher(JointState, 'joint_states', SENSOR_QOS)
        self._tasks = self.publisher(TaskState, '~/task_state', RELIABLE_QOS)
        if self._publish_clock:
            self._clocks = self.publisher(Clock, '/clock', SENSOR_QOS)
        self.subscribe(TwistStamped, 'delta_twist_cmds', self._on_twist, RELIABLE_QOS)
        self.subscribe(JointTrajectory, 'joint_trajectory', self._on_trajectory, RELIABLE_QOS)
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

    def _on_trajectory(self, message: JointTrajectory) -> None:
        positions = message.points[-1].positions if message.points else []
        named = dict(zip(message.joint_names, positions, strict=False))
        joints = np.array([named.get(name, np.nan) for name in JOINTS])
        if not np.isfinite(joints).all():
            self.status.warn(
                f'trajectory refused: expected finite positions of {", ".join(JOINTS)}'
            )
            return
        self._joint_command = joints

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
            env.advance()
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
            self._scene = (env.task, env.instruction)
            reset.done.set_result(env.instruction)
        self._follow_instruction(env)
        self._scene = (env.task, env.instruction)

    def _follow_instruction(self, env: TabletopEnv) -> None:
        """Judge success by a new sentence, where one of the tasks has such a goal."""
        text, self._instruction = self._instruction, None
        if text is None or text == env.instruction:
            return
        before, env.task = env.task, kind_of(text)
        try:
            env.set_goal(text)
        except WorldVLAError as error:
            env.task = before
            self.status.warn(f'success cannot be judged: {error}', key='task')

    def _command(self, env: TabletopEnv) -> None:
        """Apply the newest commands; a twist that is too old means standing still."""
        received_s, linear, angular = self._twist
        if time.monotonic() - received_s <= self._timeout_s:
            env.command_twist(linear, angular)
        if self._joint_command is not None:
            env.command_joints(self._joint_command)
            self._joint_command = None
        if self._width is not None:
            env.command_width(self._width)

    def _publish(self, env: TabletopEnv, simulated_s: float, factor: float) -> None:
        now_s = self.get_clock().now().nanoseconds * 1e-9
        if self._publish_clock:
            now_s = simulated_s
            self._clocks.publish(Clock(clock=time_message(now_s)))
        state = JointState(name=[*JOINTS, *FINGERS])
        state.header.stamp = time_message(now_s)
        state.position = array('d', env.joint_positions().tolist())
        self._states.publish(state)
        self._images.publish(array_to_image(env.render_camera('front'), now_s, 'front_camera'))
        if self._wrist_images.get_subscription_count():
            wrist = env.render_camera('wrist')
            self._wrist_images.publish(array_to_image(wrist, now_s, 'wrist_camera'))
        self._tasks.publish(_task_state(env, now_s, factor))

    def _clear_commands(self) -> None:
        self._twist = (-np.inf, np.zeros(3), np.zeros(3))
        self._joint_command = self._width = self._instruction = None


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
