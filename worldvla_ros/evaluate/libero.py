"""Success of a policy in a suite of LIBERO, trial by trial.

    suite × tasks × initial states ─ worker processes ─ one line of JSON per trial ─ table

The protocol is WorldVLA's: 50 initial states of each task, 10 steps to settle, whole chunks
executed, the suite's number of steps (`eval_solver_libero_256.py`). A trial that raises is an
error with its traceback; the reference counts it as a failure of the policy.

Knows suites and trials. Must not know how an episode goes (rollout.py) or how records look
(libero_trials.py).
"""

from collections.abc import Mapping
import contextlib
from dataclasses import dataclass, replace
import functools
import importlib.util
from pathlib import Path
import traceback

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.checkpoint.folder import CheckpointSpec, load, read_spec
from worldvla_ros.checkpoint.hardware import MAX_THREADS
from worldvla_ros.checkpoint.quantise import AUTO
from worldvla_ros.errors import ConfigError, MissingDependencyError, RobotError
from worldvla_ros.evaluate.libero_trials import LiberoTrial, append, read_record
from worldvla_ros.evaluate.rollout import Rollout, Watch, roll_out
from worldvla_ros.evaluate.workers import work
from worldvla_ros.pictures import captioned, write_video
from worldvla_ros.policy import Policy
from worldvla_ros.sim.libero import (
    CAMERAS,
    CONTROL_DT_S,
    SETTLE_ACTION,
    STATE_DIM,
    WORDINGS,
    LiberoEnv,
    LiberoTask,
    read_init_states,
    tasks,
)

RESOLUTIONS = (256, 512)
Job = tuple[LiberoTask, int]


@dataclass(frozen=True)
class LiberoSettings:
    """What is measured, and on what.

    Attributes:
        suite: 'spatial', 'object', 'goal', '10' or '90'.
        checkpoint: The checkpoint folder.
        tasks: Numbers of tasks; all by default.
        trials: Initial states of each task.
        delay_s: How long thinking takes [s]; None is as long as measured.
        resolution: Side of the rendered images [px]; None is `default_resolution`.
        wording: 'language', or 'folder' as WorldVLA's training data words a task.
        videos: Folder for one video per trial, or None.
        device: Where to run the model.
        threads: CPU threads of each process; 0 is torch's choice.
        dtype: Precision of the weights, see `quantise.WORDS`.
        profile: Name or YAML file of a published folder's profile, or None: by the folder's path.
        decoding: How actions are found, see `policy.Policy`; 'auto' is the checkpoint's best.
    """

    suite: str
    checkpoint: Path
    tasks: tuple[int, ...] = ()
    trials: int = 50
    delay_s: float | None = 0.0
    resolution: int | None = None
    wording: str = 'language'
    videos: Path | None = None
    device: str = 'cpu'
    threads: int = 1
    dtype: str = AUTO
    profile: str | None = None
    decoding: str = AUTO

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: One is.
        """
        checks = {
            'trials': (self.trials >= 1, 'at least 1', self.trials),
            'delay': (
                self.delay_s is None or 0 <= self.delay_s < float('inf'),
                'seconds >= 0, or measured',
                self.delay_s,
            ),
            'resolution': (
                self.resolution in (None, *RESOLUTIONS),
                ' or '.join(map(str, RESOLUTIONS)),
                self.resolution,
            ),
            'threads': (
                0 <= self.threads <= MAX_THREADS,
                f'1 … {MAX_THREADS}, or 0 for what PyTorch chooses',
                self.threads,
            ),
            'wording': (self.wording in WORDINGS, ' or '.join(WORDINGS), repr(self.wording)),
        }
        for name, (holds, expected, got) in checks.items():
            if not holds:
                raise ConfigError(name, expected=expected, got=got)

    @property
    def protocol(self) -> dict[str, object]:
        """What all trials of one record must have in common."""
        named = {'profile': self.profile, 'dtype': self.dtype, 'decoding': self.decoding}
        return {name: value for name, value in named.items() if value not in (None, AUTO)} | {
            'suite': self.suite,
            'checkpoint': str(self.checkpoint.resolve()),
            'resolution': self.resolution,
            'wording': self.wording,
            'delay': 'measured' if self.delay_s is None else self.delay_s,
        }


def evaluate(
    settings: LiberoSettings,
    *,
    record: Path | None = None,
    workers: int = 1,
    progress: bool = True,
) -> list[LiberoTrial]:
    """Run the trials that a record lacks; return all, ordered by task and initial state.

    Args:
        settings: What to measure.
        record: File of one line per trial. Those with an outcome are not run again, those that
            ended in an error are.
        workers: How many processes; each holds a copy of the weights.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: A task or trial is not there, or the record is of another protocol or other
            weights.
        RobotError: The checkpoint does not fit LIBERO.
        MissingDependencyError: LIBERO, or what videos need, is not installed.
        WorkerError: A worker process died.
    """
    if workers < 1:
        raise ConfigError('workers', expected='at least 1', got=workers)
    jobs = plan(settings)
    spec = read_spec(settings.checkpoint, settings.profile)
    check_fit(spec)
    if settings.resolution is None:
        settings = replace(settings, resolution=default_resolution(spec))
    if settings.videos and not importlib.util.find_spec('imageio'):
        raise MissingDependencyError(
            'videos need imageio', remedy='pip install imageio imageio-ffmpeg'
        )
    known = read_record(record, settings.protocol) if record else []
    made = {(t.task, t.trial): t for t in known if t.rollout}
    missing = [(task, trial) for task, trial in jobs if (task.index, trial) not in made]
    results = work(functools.partial(TrialRunner, settings), missing, workers)
    bar = tqdm(
        results, f'libero_{settings.suite}', len(jobs), disable=not progress,
        initial=len(jobs) - len(missing),
    )  # fmt: skip
    for trial in bar:
        _check_weights(trial, known)
        made[trial.task, trial.trial] = trial
        if record:
            append(record, trial)
    return [made[task.index, trial] for task, trial in jobs]


def default_resolution(spec: CheckpointSpec) -> int:
    """Return the smallest of `RESOLUTIONS` that a checkpoint's images fit in [px].

    The reference renders 512 px for its 512 px models and 256 px for the others. Enlarging smaller
    images would show a model what it was not trained on.
    """
    fitting = [side for side in RESOLUTIONS if side >= spec.image_size]
    return fitting[0] if fitting else RESOLUTIONS[-1]


def plan(settings: LiberoSettings) -> list[Job]:
    """Return the trials to run, task by task.

    Raises:
        ConfigError: The suite is unknown, or a task or initial state is not there.
        MissingDependencyError: LIBERO is not installed.
    """
    listed = tasks(settings.suite)
    unknown = [index for index in settings.tasks if not 0 <= index < len(listed)]
    if unknown:
        raise ConfigError('tasks', expected=f'0 … {len(listed) - 1}', got=unknown)
    chosen = [listed[index] for index in sorted(set(settings.tasks))] or listed
    for task in chosen:
        states = len(read_init_states(task.init_states_file))
        if settings.trials > states:
            raise ConfigError(
                f'trials of {task.name}', expected=f'at most {states}', got=settings.trials
            )
    return [(task, trial) for task in chosen for trial in range(settings.trials)]


def check_fit(spec: CheckpointSpec) -> None:
    """Refuse a checkpoint that cannot act in LIBERO.

    Raises:
        RobotError: A camera, the state, the actions or their time do not fit.
    """
    checks = {
        'cameras': (set(spec.cameras) <= set(CAMERAS), ', '.join(CAMERAS), spec.cameras),
        'state': (
            spec.state is None or len(spec.state.names) == STATE_DIM,
            f'none, or {STATE_DIM} numbers: position, axis-angle, two fingers',
            spec.state and spec.state.names,
        ),
        'action': (
            len(spec.action.names) == len(SETTLE_ACTION),
            f'{len(SETTLE_ACTION)} numbers',
            spec.action.names,
        ),
        'action.dt': (abs(spec.action.dt - CONTROL_DT_S) < 1e-9, CONTROL_DT_S, spec.action.dt),
    }
    for field, (fits, expected, got) in checks.items():
        if not fits:
            raise RobotError(
                f'checkpoint {spec.name} does not fit LIBERO: {field}',
                expected=expected,
                got=got,
                remedy='Use a checkpoint that was trained on LIBERO.',
            )


def _check_weights(trial: LiberoTrial, known: list[LiberoTrial]) -> None:
    others = {other.model_id for other in known} - {trial.model_id}
    if others:
        raise ConfigError(
            'the record holds trials of other weights',
            expected=trial.model_id,
            got=', '.join(sorted(others)),
            remedy='Name another --json file, or remove this record.',
        )


class TrialRunner:
    """Runs trials with one copy of the weights and one environment at a time."""

    def __init__(self, settings: LiberoSettings) -> None:
        """Load the checkpoint.

        Raises:
            CheckpointError: The folder is missing, damaged, foreign or inconsistent.
        """
        self._settings = settings
        if settings.threads:
            torch.set_num_threads(settings.threads)
        chosen = settings.device, settings.dtype, settings.profile
        decoding = None if settings.decoding == AUTO else settings.decoding
        self._policy = Policy(load(settings.checkpoint, *chosen), decoding)
        spec = self._policy.checkpoint.spec
        self._resolution = settings.resolution or default_resolution(spec)
        self._env: LiberoEnv | None = None
        if settings.delay_s is None:
            self._policy.warm_up()  # a process takes longer for its first chunk than a robot does

    def __call__(self, job: Job) -> LiberoTrial:
        """Run one trial; whatever it raises becomes its record.

        Raises:
            MissingDependencyError: LIBERO or a renderer is not installed; no trial could run.
        """
        task, trial = job
        sentence = task.sentence(self._settings.wording)
        model_id = self._policy.checkpoint.model_id
        about = (self._settings.protocol, task.index, task.name, trial, sentence, model_id)
        seen: list[Mapping[str, np.ndarray]] = []
        watch = seen.append if self._settings.videos else None
        try:
            made = LiberoTrial(*about, rollout=self._roll_out(task, trial, sentence, watch))
        except MissingDependencyError:
            raise
        except Exception:  # the edge of a trial: a bug in simulator or model must not end the rest
            made = LiberoTrial(*about, error=traceback.format_exc())
            with contextlib.suppress(Exception):  # a broken simulator may not even close
                self.close()
        if self._settings.videos and seen:
            self._write_video(self._settings.videos, made, seen)
        return made

    def close(self) -> None:
        """Free the environment."""
        env, self._env = self._env, None
        if env:
            env.close()

    def _roll_out(
        self, task: LiberoTask, trial: int, sentence: str, watch: Watch | None
    ) -> Rollout:
        if self._env is None or self._env.task != task:
            self.close()
            cameras = self._policy.checkpoint.spec.cameras
            self._env = LiberoEnv(task, resolution=self._resolution, cameras=cameras)
        self._env.reset(options={'init_state': trial})
        return roll_out(
            self._env, self._policy, sentence, delay_s=self._settings.delay_s, watch=watch
        )

    def _write_video(
        self, folder: Path, made: LiberoTrial, seen: list[Mapping[str, np.ndarray]]
    ) -> None:
        name = f'libero_{self._settings.suite}_task{made.task:02d}_trial{made.trial:02d}'
        side = self._resolution
        images = (captioned(list(s.values()), list(s), made.instruction, side) for s in seen)
        for old in folder.glob(f'{name}_*.mp4'):
            old.unlink()  # of an earlier run, which may have ended otherwise
        file = folder / f'{name}_{made.outcome}.mp4'
        write_video(file, images, 1 / CONTROL_DT_S)
