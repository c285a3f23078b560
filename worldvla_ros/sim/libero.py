"""LIBERO's tasks as Gymnasium environments, as the tabletop is one.

    action  7 numbers in [-1, 1] for robosuite's OSC_POSE: dx, dy, dz, drx, dry, drz, gripper
    (1 closes, -1 opens)
    state   x, y, z of the end effector [m], its axis-angle as robosuite computes it [rad], two
    finger positions [m]

    reset ─ initial state ─ 10 steps with an open gripper, in which things come to rest ─ policy

LIBERO (https://github.com/Lifelong-Robot-Learning/LIBERO) is an optional package, imported when it
is first needed and nowhere else. Knows LIBERO and the protocol of WorldVLA's evaluation
(`eval_solver_libero_256.py`). Must not know policies.
"""

from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
import io
from pathlib import Path
import pickle
from typing import Any
import zipfile

import gymnasium
import numpy as np

from worldvla_ros.errors import ConfigError, EpisodeError, MissingDependencyError
from worldvla_ros.robot.state import robosuite_axis_angle
from worldvla_ros.sim.rendering import choose_backend

MAX_STEPS = {'spatial': 220, 'object': 280, 'goal': 300, '10': 520, '90': 400}
"""Steps that a policy has in each suite, those of settling not counted."""
CAMERAS = {'front': 'agentview', 'wrist': 'robot0_eye_in_hand'}
"""Our names of LIBERO's cameras."""
STATE_DIM = 8
CONTROL_DT_S = 0.05
SETTLE_STEPS = 10
SETTLE_ACTION = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SEED = 0
WORDINGS = ('language', 'folder')
MAX_STATES_BYTES = 1 << 28
"""LIBERO's own files of 50 initial states have a hundred kilobytes."""

_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_ARRAY_PARTS = {
    ('numpy.core.multiarray', '_reconstruct'): _RECONSTRUCT,
    ('numpy._core.multiarray', '_reconstruct'): _RECONSTRUCT,
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): lambda text, encoding: text.encode('latin1'),
}


@dataclass(frozen=True)
class LiberoTask:
    """One task of a suite.

    Attributes:
        suite: Key of `MAX_STEPS`.
        index: Its number in the suite.
        name: Its name, which is that of its files and of its training data's folder.
        language: The sentence that LIBERO tells a policy.
        bddl_file: Description of scene and goal.
        init_states_file: Initial states.
    """

    suite: str
    index: int
    name: str
    language: str
    bddl_file: Path
    init_states_file: Path

    def sentence(self, wording: str) -> str:
        """Return the instruction: 'language', or 'folder' as WorldVLA's training data words it.

        They differ in suites 10 and 90, where folder names begin with the scene.

        Raises:
            ConfigError: The wording is neither.
        """
        if wording not in WORDINGS:
            raise ConfigError('wording', expected=' or '.join(WORDINGS), got=repr(wording))
        return self.language if wording == 'language' else self.name.replace('_', ' ')


def tasks(suite: str) -> tuple[LiberoTask, ...]:
    """Return the tasks of a suite in LIBERO's order.

    Raises:
        ConfigError: The suite is unknown.
        MissingDependencyError: LIBERO is not installed.
    """
    if suite not in MAX_STEPS:
        raise ConfigError('suite', expected=f'one of {", ".join(MAX_STEPS)}', got=repr(suite))
    with _libero_needed():
        from libero.libero import get_libero_path
        from libero.libero.benchmark import get_benchmark_dict
    listed = get_benchmark_dict()[f'libero_{suite}']()
    bddl, states = Path(get_libero_path('bddl_files')), Path(get_libero_path('init_states'))
    found = [listed.get_task(i) for i in range(listed.get_num_tasks())]
    return tuple(
        LiberoTask(
            suite=suite,
            index=index,
            name=task.name,
            language=task.language,
            bddl_file=bddl / task.problem_folder / task.bddl_file,
            init_states_file=states / task.problem_folder / task.init_states_file,
        )
        for index, task in enumerate(found)
    )


def read_init_states(file: Path) -> np.ndarray:
    """Read the initial states of a task: float64[states, n].

    The files are pickles in a zip archive, as `torch.save` writes a NumPy array; LIBERO itself
    reads them with `weights_only=False`, which runs whatever a file says. Here only what builds a
    NumPy array is let through, so that a foreign file can do no harm.

    Raises:
        EpisodeError: The file is missing, damaged, or holds anything but an array of numbers,
            or too many of them.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            pickled = next(e for e in archive.infolist() if e.filename.endswith('/data.pkl'))
            if pickled.file_size > MAX_STATES_BYTES:
                raise ValueError(f'it would take {pickled.file_size} bytes when it is unpacked')
            states = _ArrayUnpickler(io.BytesIO(archive.read(pickled))).load()
        if not isinstance(states, np.ndarray) or states.ndim != 2 or states.dtype != np.float64:
            raise ValueError(f'it holds {type(states).__name__}, not float64[states, n]')
    except Exception as error:  # a damaged pickle raises whatever its bytes lead to
        raise EpisodeError(
            f'{file} holds no readable initial states: {error}',
            expected='a NumPy array saved by torch.save',
            remedy='Restore the file from the LIBERO package.',
        ) from error
    return states


class LiberoEnv(gymnasium.Env):
    """One task of LIBERO; see the module docstring."""

    metadata = {'render_modes': ['rgb_array'], 'render_fps': round(1 / CONTROL_DT_S)}

    def __init__(
        self, task: LiberoTask, *, resolution: int = 256, cameras: tuple[str, ...] = ('front',)
    ) -> None:
        """Build the scene.

        Args:
            task: From `tasks`.
            resolution: Side of the images [px].
            cameras: Which of `CAMERAS` to render.

        Raises:
            ConfigError: A camera is unknown.
            EpisodeError: The file of initial states cannot be read.
            MissingDependencyError: LIBERO or an off-screen renderer is not installed.
        """
        unknown = [name for name in cameras if name not in CAMERAS]
        if unknown or not cameras:
            raise ConfigError('cameras', expected=f'some of {", ".join(CAMERAS)}', got=cameras)
        self.task, self.cameras = task, tuple(cameras)
        self._init_states = read_init_states(task.init_states_file)
        with _libero_needed():
            choose_backend()
            from libero.libero.envs import OffScreenRenderEnv
        self._env = OffScreenRenderEnv(
            bddl_file_name=str(task.bddl_file),
            camera_names=[CAMERAS[name] for name in cameras],
            camera_heights=resolution,
            camera_widths=resolution,
        )
        self._seed: int | None = None
        self._resets = 0
        picture = gymnasium.spaces.Box(0, 255, (resolution, resolution, 3), np.uint8)
        state = gymnasium.spaces.Box(-np.inf, np.inf, (STATE_DIM,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1, 1, (len(SETTLE_ACTION),), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {'state': state} | {name: picture for name in cameras}
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Set an initial state and let the scene settle.

        Args:
            seed: Of LIBERO's generator; 0, as in the reference, by default.
            options: `init_state` is the number of the initial state, 0 by default.

        Raises:
            EpisodeError: There is no initial state of that number.
        """
        super().reset(seed=seed)
        index = (options or {}).get('init_state', 0)
        if not 0 <= index < len(self._init_states):
            raise EpisodeError(
                f'initial state of {self.task.name}',
                expected=f'0 … {len(self._init_states) - 1}',
                got=index,
                remedy='Ask for fewer trials.',
            )
        self._place_fixtures(SEED if seed is None else seed, index)
        self._index, self._steps, self._success = index, 0, False
        self._observed = self._env.set_init_state(self._init_states[index])
        for _ in range(SETTLE_STEPS):
            self._observed = self._env.step(list(SETTLE_ACTION))[0]
        return self.observe(), self.info()

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Execute one action for one control period.

        Raises:
            ValueError: The action is not seven finite numbers.
        """
        action = np.asarray(action, float)
        if action.shape != self.action_space.shape or not np.isfinite(action).all():
            raise ValueError(f'expected 7 finite numbers, got {action}')
        self._observed, reward, done, _ = self._env.step(action.tolist())
        self._steps += 1
        self._success = bool(done)
        truncated = self._steps >= MAX_STEPS[self.task.suite]
        return self.observe(), float(reward), self._success, truncated, self.info()

    def observe(self) -> dict[str, np.ndarray]:
        """Return the present images, turned by 180° as the models know them, and the state."""
        images = {name: self._observed[f'{CAMERAS[name]}_image'] for name in self.cameras}
        turned = {name: np.ascontiguousarray(i[::-1, ::-1]) for name, i in images.items()}
        return {'state': self.state()} | turned

    def state(self) -> np.ndarray:
        """Return float32[8]; see the module docstring."""
        seen = self._observed
        turn = robosuite_axis_angle(seen['robot0_eef_quat'])
        parts = [seen['robot0_eef_pos'], turn, seen['robot0_gripper_qpos']]
        return np.concatenate(parts).astype(np.float32)

    def info(self) -> dict[str, Any]:
        """Return seed, initial state, instruction, success, steps, and the time simulated [s]."""
        return {
            'seed': self._seed,
            'init_state': self._index,
            'instruction': self.task.language,
            'success': self._success,
            'steps': self._steps,
            'seconds': self._steps * CONTROL_DT_S,
        }

    def close(self) -> None:
        """Free the simulation and its OpenGL context."""
        self._env.close()

    def _place_fixtures(self, seed: int, index: int) -> None:
        """Reset as often after seeding as the reference has done before this initial state.

        Fixtures, such as stove and cabinet, are placed at random by each reset and are no part of
        an initial state. The reference seeds once and resets once per trial, in order; counting
        resets gives each trial its fixtures, whichever trials were run before it in this process.
        """
        if seed != self._seed or self._resets > index:
            self._env.seed(seed)
            self._seed, self._resets = seed, 0
        while self._resets <= index:
            self._env.reset()
            self._resets += 1


class _ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and refuses to look up anything else."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few names that an array's pickle needs."""
        if (module, name) not in _ARRAY_PARTS:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}')
        return _ARRAY_PARTS[module, name]


@contextlib.contextmanager
def _libero_needed() -> Iterator[None]:
    """Turn what can go wrong at LIBERO's import into one message."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(
            f'LIBERO cannot be imported: {error}',
            expected='the optional package hf-libero, which brings robosuite and MuJoCo',
            remedy='pip install "hf-libero>=0.1.4"',
        ) from error
    except EOFError as error:
        raise MissingDependencyError(
            'LIBERO asks for its data folder when it is first imported, and nobody answered',
            remedy='Answer it once, in a terminal: python -c "import libero.libero"',
        ) from error
