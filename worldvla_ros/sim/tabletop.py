"""The tabletop: a simulated Panda, coloured cubes and a task, as a Gymnasium environment.

    action  7 numbers in [-1, 1]: dx, dy, dz (0.02 m each), drx, dry, drz (0.1 rad each), gripper
    (> 0 closes)
    state   x, y, z of the fingertips [m], rotation vector from straight down [rad], opening width
    [m]

Deltas move a target pose in the base frame (x forward, y left, z up), which the arm follows by
damped least-squares inverse kinematics; a zero action holds exactly. Knows physics and success.
Must not know experts, models or ROS.
"""

import math
from typing import Any

import gymnasium
import numpy as np

from worldvla_ros.errors import ConfigError, InstructionError
from worldvla_ros.robot.kinematics import DOWN, rotation_matrix, rotation_vector
from worldvla_ros.sim.rendering import CameraRenderer, choose_backend
from worldvla_ros.sim.scene import (
    COLOURS,
    CUBE_HALF,
    CUBES_PER_SCENE,
    FINGER_TRAVEL,
    FINGERS,
    JOINTS,
    PHYSICS_STEP_S,
    scene_xml,
)
from worldvla_ros.sim.seeds import check_seeds
from worldvla_ros.sim.tasks import KINDS, Goal, sample_goal

choose_backend()
import mujoco  # noqa: E402  (the back end must be chosen first)

CONTROL_DT_S = 0.05
ACTION_SCALE = np.array([0.02, 0.02, 0.02, 0.1, 0.1, 0.1, 1.0])
HOME_TCP = np.array([0.47, 0.0, 0.20])
HOME_JOINTS = np.array([0.0, -0.2, 0.0, -2.4, 0.0, 2.2, np.pi / 4])
WORKSPACE = np.array([[0.28, -0.28, 0.012], [0.70, 0.28, 0.35]])
SPAWN = np.array([[0.38, -0.16], [0.60, 0.16]])
MIN_DISTANCE = 0.09
MAX_YAW = np.deg2rad(20)
MAX_LEAD = 0.05
"""How far the target may run ahead of the measured pose [m]."""
MAX_MISS = 0.03
"""Where no joints bring the fingertips this near to the target [m], the arm stays as it is."""
MAX_JOINT_SPEED = 2.175
"""Of the slowest joints of a Panda [rad/s]."""
LIFTED = 0.06
PUSHED = 0.06
STABLE_STEPS = 5
MAX_STEPS = {'pick': 300, 'push': 300, 'put': 400}
"""Steps of an episode; LIBERO's suites, at the same 20 Hz, give 220 to 520."""


class TabletopEnv(gymnasium.Env):
    """A Panda over a table with three coloured cubes; see the module docstring."""

    metadata = {'render_modes': ['rgb_array'], 'render_fps': 20}

    def __init__(
        self,
        *,
        task: str = 'pick',
        image_size: int = 128,
        cameras: tuple[str, ...] = ('front', 'wrist'),
        start_noise: float = 0.01,
    ) -> None:
        """Build the scene.

        Args:
            task: 'pick', 'push' or 'put'.
            image_size: Side of the images [px]; 0 renders none.
            cameras: Which of 'front' and 'wrist' to render.
            start_noise: Largest random offset of the gripper at the start, per axis [m].

        Raises:
            ConfigError: The task is unknown.
            MissingDependencyError: No off-screen renderer is installed.
        """
        if task not in KINDS:
            raise ConfigError('task', expected=f'one of {", ".join(KINDS)}', got=repr(task))
        self.task, self.cameras, self._start_noise = task, cameras, start_noise
        self.model = mujoco.MjModel.from_xml_string(scene_xml())
        self.data = mujoco.MjData(self.model)
        self._ik = mujoco.MjData(self.model)
        self._default = {
            'camera': self.model.cam_pos.copy(),
            'light': self.model.light_diffuse.copy(),
            'colour': self.model.geom_rgba.copy(),
        }
        self._renderer = CameraRenderer(self.model, image_size) if image_size else None
        self._arm = np.array([self.model.joint(n).qposadr[0] for n in JOINTS])
        self._arm_dof = np.array([self.model.joint(n).dofadr[0] for n in JOINTS])
        self._fingers = np.array([self.model.joint(n).qposadr[0] for n in FINGERS])
        self._tcp = self.model.site('tcp').id
        self._target, self._target_rotation = HOME_TCP.copy(), DOWN.copy()
        self._joint_command = HOME_JOINTS.copy()
        self.action_space = gymnasium.spaces.Box(-1, 1, (7,), np.float32)
        number = gymnasium.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        joints = gymnasium.spaces.Box(-np.inf, np.inf, (9,), np.float32)
        picture = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {'state': number, 'joint_positions': joints}
            | ({name: picture for name in cameras} if image_size else {})
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Place cubes and gripper at random.

        Args:
            seed: Determines the scene: colours, poses, light, start pose and, without a given
                instruction, the goal.
            options: `instruction` overrides the goal; a colour that the scene lacks replaces its
                first cube's. `task` changes the task. `start` is where the fingertips begin [m].

        Raises:
            InstructionError: The instruction names no goal of this task.
            ConfigError: The task is unknown.
            EpisodeError: The seed is negative.
        """
        if seed is not None:
            check_seeds(seed)
        super().reset(seed=seed)
        options = options or {}
        self.task = options.get('task') or self.task
        if self.task not in KINDS:
            raise ConfigError('task', expected=f'one of {", ".join(KINDS)}', got=repr(self.task))
        rng = self.np_random
        self._seed = seed
        self.colours = tuple(rng.permutation(list(COLOURS))[:CUBES_PER_SCENE].tolist())
        mujoco.mj_resetData(self.model, self.data)
        self._place_cubes(rng)
        self._vary_looks(rng)
        offset = rng.uniform(-self._start_noise, self._start_noise, 3)
        drawn = sample_goal(self.task, self.colours, rng)
        self.set_goal(options.get('instruction') or drawn.sentence)
        self._place_arm(np.asarray(options.get('start', HOME_TCP + offset)))
        self._steps = self._stable = 0
        return self.observe(), self.info()

    def set_goal(self, instruction: str) -> None:
        """Change the goal to what a sentence names, in the present scene.

        Raises:
            InstructionError: The sentence names no goal of this task.
        """
        goal = Goal.from_text(self.task, instruction)
        named = [c for c in (goal.colour, goal.target) if c]
        for i, colour in enumerate(c for c in named if c not in self.colours):
            free = [k for k, c in enumerate(self.colours) if c not in named]
            if i >= len(free):
                raise InstructionError(f'{instruction!r} names too many absent cubes')
            self.colours = tuple(colour if k == free[0] else c for k, c in enumerate(self.colours))
        self.goal, self.instruction = goal, instruction
        self._start_cubes = self.cube_positions()
        self._steps = self._stable = 0
        for i, colour in enumerate(self.colours):
            self.model.geom(f'cube{i}').rgba[:3] = COLOURS[colour]

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Move the target by one action and simulate one control period.

        Raises:
            ValueError: The action is not seven finite numbers.
        """
        action = np.asarray(action, float)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(f'expected 7 finite numbers, got {action}')
        delta = np.clip(action, -1, 1) * ACTION_SCALE
        self.move_target(delta[:3], delta[3:6])
        self.command_width(0.0 if action[6] > 0 else 2 * FINGER_TRAVEL)
        self.advance()
        info = self.info()
        truncated = self._steps >= MAX_STEPS[self.task]
        return self.observe(), float(info['success']), info['success'], truncated, info

    def move_target(self, translation: np.ndarray, rotation: np.ndarray) -> None:
        """Move the target pose by a translation [m] and a rotation vector [rad] in the base frame.

        A target that the arm cannot reach, or not fast enough, is not taken.
        """
        position, _ = self.tcp_pose()
        target = np.clip(self._target + translation, *WORKSPACE)
        target = position + np.clip(target - position, -MAX_LEAD, MAX_LEAD)
        turned = rotation_matrix(rotation) @ self._target_rotation
        joints = self._solve(self._joint_command, target, turned)
        miss = np.linalg.norm(self._kinematics(joints)[0] - target)
        if miss <= MAX_MISS and self._reachable(joints):
            self._target, self._target_rotation, self._joint_command = target, turned, joints

    def command_twist(self, linear: np.ndarray, angular: np.ndarray) -> None:
        """Move the target as a twist does in one control period: [m/s], [rad/s], base frame."""
        self.move_target(np.asarray(linear) * CONTROL_DT_S, np.asarray(angular) * CONTROL_DT_S)

    def command_joints(self, positions: np.ndarray) -> None:
        """Set the joint targets directly: float[7] [rad], clipped to the limits."""
        low, high = self.model.actuator_ctrlrange[:7].T
        self._joint_command = np.clip(np.asarray(positions, float), low, high)
        self._follow_command()

    def command_width(self, width: float) -> None:
        """Set the gripper's opening width [m], 0 to 0.08."""
        self.data.ctrl[7:9] = np.clip(width / 2, 0, FINGER_TRAVEL)

    def advance(self, setpoints: np.ndarray | None = None) -> None:
        """Simulate one control period.

        Args:
            setpoints: Joint targets float[k, 7] [rad], equally spaced over the period, as a
                controller gives them at a high rate; clipped to the limits. By default the
                present command is gone to in half of the period.
        """
        if setpoints is None:
            setpoints = np.stack([self._joint_command] * 2)
        else:
            self.command_joints(setpoints[-1])
        for targets in self._per_substep(setpoints):
            self.data.ctrl[:7] = targets
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_kinematics(self.model, self.data)  # poses of now, not of before the last step
        self._steps += 1
        self._stable = self._stable + 1 if self._goal_holds() else 0

    def observe(self) -> dict[str, np.ndarray]:
        """Return the present images, state and joint positions."""
        observed = {
            'state': self.state(),
            'joint_positions': self.joint_positions(),
        }
        if self._renderer:
            observed |= {name: self.render_camera(name) for name in self.cameras}
        return observed

    def render_camera(self, name: str) -> np.ndarray:
        """Return uint8[size, size, 3] of a camera.

        Raises:
            ValueError: The environment renders no images.
        """
        if self._renderer is None:
            raise ValueError('this environment has image_size 0, or is closed')
        return self._renderer.render(self.data, name).copy()

    def seen_at(self, camera: str, point: np.ndarray) -> np.ndarray:
        """Return where a camera sees a point float[3] [m]: float[2], (column, row) in [0, 1]."""
        view = self.data.camera(camera)
        right, up, back = view.xmat.reshape(3, 3).T @ (point - view.xpos)
        half = math.tan(math.radians(float(self.model.camera(camera).fovy[0])) / 2) * -back
        return 0.5 + 0.5 * np.array([right, -up]) / half

    def info(self) -> dict[str, Any]:
        """Return seed, instruction, success, the cube moved most, and the time simulated [s]."""
        moved = np.linalg.norm(self.cube_positions() - self._start_cubes, axis=1)
        most = int(moved.argmax())
        return {
            'seed': self._seed,
            'instruction': self.instruction,
            'success': self._stable >= (1 if self.task == 'push' else STABLE_STEPS),
            'moved': self.colours[most] if moved[most] > 0.02 else '',
            'seconds': self._steps * CONTROL_DT_S,
        }

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._renderer:
            self._renderer.close()
            self._renderer = None

    def tcp_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Return position float[3] [m] and rotation float[3, 3] of the fingertips."""
        return (
            self.data.site_xpos[self._tcp].copy(),
            self.data.site_xmat[self._tcp].reshape(3, 3).copy(),
        )

    def joint_positions(self) -> np.ndarray:
        """Return float32[9]: seven joints [rad] and two fingers [m]."""
        return self.data.qpos[np.concatenate([self._arm, self._fingers])].astype(np.float32)

    def joint_targets(self) -> np.ndarray:
        """Return where the arm was told to be: float64[7] [rad]."""
        return self._joint_command.copy()

    def joint_velocities(self) -> np.ndarray:
        """Return float32[9], in the order of `joint_positions`: [rad/s] and [m/s]."""
        dofs = [self.model.joint(name).dofadr[0] for name in (*JOINTS, *FINGERS)]
        return self.data.qvel[dofs].astype(np.float32)

    def state(self) -> np.ndarray:
        """Return float32[7]; see the module docstring."""
        position, rotation = self.tcp_pose()
        tilt = rotation_vector(rotation @ DOWN.T)
        width = self.data.qpos[self._fingers].sum()
        return np.concatenate([position, tilt, [width]]).astype(np.float32)

    def cube_positions(self) -> np.ndarray:
        """Return float[cubes, 3] [m]."""
        return np.stack([self.data.body(f'cube{i}').xpos for i in range(CUBES_PER_SCENE)])

    def cube(self, colour: str) -> np.ndarray:
        """Return the position float[3] of a cube [m]."""
        return self.cube_positions()[self.colours.index(colour)]

    def _per_substep(self, setpoints: np.ndarray) -> np.ndarray:
        """Return the joint targets of each step of physics: float[k, 7] → float[substeps, 7]."""
        low, high = self.model.actuator_ctrlrange[:7].T
        knots = np.vstack([self.data.ctrl[:7], np.clip(setpoints, low, high)])
        substeps = round(CONTROL_DT_S / PHYSICS_STEP_S)
        times = np.arange(1, substeps + 1) / substeps * len(setpoints)
        places = np.arange(len(knots))
        return np.stack([np.interp(times, places, column) for column in knots.T], axis=1)

    def _goal_holds(self) -> bool:
        goal, index = self.goal, self.colours.index(self.goal.colour)
        cube = self.cube(goal.colour)
        travel = cube - self._start_cubes[index]
        if goal.kind == 'pick':
            return bool(travel[2] >= LIFTED)
        if goal.kind == 'push':
            side = 1 if goal.direction == 'right' else -1
            return bool(side * travel[1] >= PUSHED)
        below = self.cube(goal.target)
        stacked = abs(cube[2] - below[2] - 2 * CUBE_HALF) < 0.008
        released = self.data.qpos[self._fingers].sum() > 2 * CUBE_HALF + 0.015
        return bool(stacked and released and np.linalg.norm((cube - below)[:2]) < CUBE_HALF)

    def _place_cubes(self, rng: np.random.Generator) -> None:
        placed: list[np.ndarray] = []
        while len(placed) < CUBES_PER_SCENE:
            spot = rng.uniform(*SPAWN)
            if all(np.linalg.norm(spot - other) > MIN_DISTANCE for other in placed):
                placed.append(spot)
        for i, spot in enumerate(placed):
            yaw = rng.uniform(-MAX_YAW, MAX_YAW)
            pose = [*spot, CUBE_HALF, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]
            self.data.joint(f'cube{i}').qpos[:] = pose

    def _vary_looks(self, rng: np.random.Generator) -> None:
        """Vary camera, light and table a little."""
        self.model.cam_pos[:] = self._default['camera'] + rng.uniform(-0.004, 0.004, 3)
        self.model.light_diffuse[:] = self._default['light'] * rng.uniform(0.85, 1.1)
        self.model.geom_rgba[:] = self._default['colour']
        self.model.geom('table').rgba[:3] *= rng.uniform(0.94, 1.06)

    def _place_arm(self, position: np.ndarray) -> None:
        """Put the fingertips at a position, gripper down and open."""
        self._target, self._target_rotation = position.copy(), DOWN.copy()
        joints = HOME_JOINTS
        for _ in range(30):
            joints = self._solve(joints, position, self._target_rotation)
        self._joint_command = joints
        self.data.qpos[self._arm] = joints
        self.data.qpos[self._fingers] = FINGER_TRAVEL
        self.data.ctrl[:7] = joints
        self.data.ctrl[7:9] = FINGER_TRAVEL
        mujoco.mj_forward(self.model, self.data)
        self._start_cubes = self.cube_positions()

    def _reachable(self, joints: np.ndarray) -> bool:
        """Whether joints can be reached in one control period."""
        step = np.abs(joints - self._joint_command).max()
        return bool(step <= 2 * MAX_JOINT_SPEED * CONTROL_DT_S)

    def _follow_command(self) -> None:
        """Put the target pose where the joint command leads: deltas go on from there."""
        position, rotation = self._kinematics(self._joint_command)
        self._target, self._target_rotation = position, rotation

    def _kinematics(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._ik.qpos[self._arm] = joints
        mujoco.mj_kinematics(self.model, self._ik)
        mujoco.mj_comPos(self.model, self._ik)
        return (
            self._ik.site_xpos[self._tcp].copy(),
            self._ik.site_xmat[self._tcp].reshape(3, 3).copy(),
        )

    def _solve(self, joints: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
        """Return joints that bring the fingertips to a pose: 4 damped least-squares steps."""
        low, high = self.model.actuator_ctrlrange[:7].T
        jacobian = np.zeros((6, self.model.nv))
        for _ in range(4):
            at, turned = self._kinematics(joints)
            error = np.concatenate([position - at, rotation_vector(rotation @ turned.T)])
            mujoco.mj_jacSite(self.model, self._ik, jacobian[:3], jacobian[3:], self._tcp)
            arm = jacobian[:, self._arm_dof]
            damped = arm @ arm.T + 1e-4 * np.eye(6)
            joints = np.clip(joints + arm.T @ np.linalg.solve(damped, error), low, high)
        return joints
