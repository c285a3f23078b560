"""One closed-loop episode of LIBERO, in which the world goes on while the model thinks.

    step    0   1   2   3   4   5   6   7   8   9  10     chunks of 5, thinking takes 2 steps
    asks    A                   B           C
    plays   ·   ·   a0  a1  a2  a3  a4  b2  b3  b4  c2    · holds

Time is that of the simulation. An answer arrives as many steps after its question as thinking
takes; then its actions whose time has passed are skipped, as `ChunkPlayer` counts them. A question
is put so early that the answer comes as the old chunk ends. Where thinking takes longer than a
chunk lasts, that would leave nothing of the answer to play: then the robot asks at the chunk's end
and holds. Thinking that takes no time gives the open loop of WorldVLA's evaluation: one question,
the whole chunk, the next question (`eval_solver_libero_256.py`).

Knows environments and policies. Must not know suites, files or processes.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
import itertools
import math

import numpy as np

from worldvla_ros.observation import ActionChunk, Observation
from worldvla_ros.policy import Policy
from worldvla_ros.robot.chunk_player import ChunkPlayer
from worldvla_ros.sim.libero import CONTROL_DT_S, SETTLE_ACTION, LiberoEnv

SLACK_STEPS = 1e-6
Watch = Callable[[Mapping[str, np.ndarray]], None]


@dataclass(frozen=True)
class Rollout:
    """How an episode went.

    Attributes:
        success: Whether the goal was reached in time.
        steps: Steps until then, those held among them.
        seconds: Time simulated [s].
        chunks: How often the policy was asked.
        held: Steps in which there was nothing to play.
        chunk_ms: Median time of one chunk [ms].
    """

    success: bool
    steps: int
    seconds: float
    chunks: int
    held: int
    chunk_ms: float


def roll_out(
    env: LiberoEnv,
    policy: Policy,
    sentence: str,
    *,
    delay_s: float | None = 0.0,
    watch: Watch | None = None,
) -> Rollout:
    """Act until success or the end of time in an environment that has been reset.

    The past images that a policy gets are those of the steps before, whatever chunk they were in.

    Args:
        env: Where to act.
        policy: What acts.
        sentence: The instruction.
        delay_s: How long thinking takes [s]; None is as long as it was measured to take.
        watch: Called with the images of each step.
    """
    player, thinker = ChunkPlayer(), _Thinker(policy, delay_s)
    history: deque[dict[str, np.ndarray]] = deque(
        maxlen=policy.checkpoint.spec.images_per_camera - 1
    )
    hold = np.array(SETTLE_ACTION, np.float32)
    observed, held = env.observe(), 0
    for step in itertools.count():
        images = {name: observed[name] for name in env.cameras}
        if watch:
            watch(images)
        now_s = step * CONTROL_DT_S
        seen = Observation(images, sentence, observed['state'], tuple(history), now_s)
        thinker.attend(player, seen, step)
        action = player.next_action(now_s)
        if action is None:
            action, held = hold, held + 1
        hold[-1] = action[-1]  # keep the last gripper command
        history.append(images)
        observed, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    return Rollout(
        success=info['success'],
        steps=info['steps'],
        seconds=round(info['seconds'], 3),
        chunks=len(thinker.latencies_s),
        held=held,
        chunk_ms=round(1000 * float(np.median(thinker.latencies_s)), 2),
    )


class _Thinker:
    """A policy whose answers take time."""

    def __init__(self, policy: Policy, delay_s: float | None) -> None:
        self._policy, self._delay_s = policy, delay_s
        self._answer: ActionChunk | None = None
        self._due = self._lead = 0
        self.latencies_s: list[float] = []

    def attend(self, player: ChunkPlayer, seen: Observation, step: int) -> None:
        """Hand over the answer that is due, and ask if it is time to."""
        self._deliver(player, step)
        if self._answer is None and len(player.remaining) <= self._lead:
            self._ask(seen, step)
            self._deliver(player, step)

    def _ask(self, seen: Observation, step: int) -> None:
        self._answer = self._policy.act(seen)
        self.latencies_s.append(self._answer.latency_s)
        seconds = self._answer.latency_s if self._delay_s is None else self._delay_s
        wait = math.ceil(seconds / CONTROL_DT_S - SLACK_STEPS)
        self._due = step + wait
        self._lead = wait if wait < self._answer.horizon else 0

    def _deliver(self, player: ChunkPlayer, step: int) -> None:
        if self._answer is not None and step >= self._due:
            player.offer(self._answer, step * CONTROL_DT_S)
            self._answer = None
