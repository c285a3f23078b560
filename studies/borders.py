"""What happens at chunk borders in closed loop, and what it costs in success.

    python studies/borders.py [--episodes 20] [--task pick push] [--latency 0.06 0.2 | measured]

The demo checkpoint moves the simulated arm through twists and the mock of MoveIt Servo, on one
simulated clock, as in studies/bridges.py. Thinking takes time: drawn evenly from a range, the same
draws for each way of playing, or as long as `Policy.act` takes on this machine. A question is put
every 0.2 s, and one at a time. Side by side:

    ideal clock   an action per control period straight into the simulation, thinking takes no time
    step          the player as it was: one action per control period, each at its speed
    latest, blend, ensemble    robot/motion.py and robot/commander.py, by kind of blending
    forward       as latest, the state of the prompt rolled forward to when the chunk will begin

Velocities are those of the twists as sent, at 100 Hz. Accelerations and jerks are differences over
10 ms, a period of the commands. What the path does is taken from its setpoints on both sides of a
border. Prints a table in Markdown.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path
import sys

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.evaluate.success import ACTIONS_EXECUTED
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.robot.chunk_player import ChunkPlayer
from worldvla_ros.robot.commander import Commander
from worldvla_ros.robot.commands import gripper_width
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm, rotation_matrix
from worldvla_ros.robot.line import WHOLE, Source, blended
from worldvla_ros.robot.motion import Motion
from worldvla_ros.robot.state import JointReading, robot_state
from worldvla_ros.sim.controllers.parts import PERIOD_S
from worldvla_ros.sim.controllers.servo import TWIST, ServoMock, ServoSettings
from worldvla_ros.sim.tabletop import CONTROL_DT_S, MAX_STEPS, TabletopEnv

sys.path.insert(0, str(Path(__file__).parent))
from borders_table import COMMAND_S, Record, summary, table
from bridge_links import FRAME
import bridges

LIMITS = {
    'as described': {},
    'cautious': {'linear_acceleration': 3.0, 'linear_jerk': 50.0},
}
"""Of the tip [m/s², m/s³]: sim_panda's, which are Franka's own, and a real arm's with room."""
WAYS = ('step', 'latest', 'blend', 'ensemble', 'forward')


class Steps:
    """The player as it was, one action per control period."""

    def __init__(self, arm: Arm) -> None:
        """Start with nothing to play."""
        self._arm, self._player = arm, ChunkPlayer()
        self._due_s, self.moving = -np.inf, False

    def offer(self, chunk, now_s, measured):
        """Take a chunk."""
        self._player.offer(chunk, now_s)

    def twist(self, measured, now_s):
        """Return linear and angular velocity and width, or None where they stay as they are."""
        if now_s < self._due_s - 1e-9:
            return None
        self._due_s = now_s + CONTROL_DT_S
        action = self._player.next_action(now_s)
        self.moving = action is not None
        if action is None:
            return np.zeros(3), np.zeros(3), None
        action = action.astype(float) * self._player.chunk.scale
        robot, here = self._arm.robot, self._arm.pose(measured.positions)[:3, 3]
        low, high = robot.limits.workspace_minimum, robot.limits.workspace_maximum
        inside = np.clip(here + action[:3], low, high) - here
        move = np.clip(inside, -np.abs(action[:3]), np.abs(action[:3]))
        width = gripper_width(robot, float(action[6]))
        return move / CONTROL_DT_S, action[3:6] / CONTROL_DT_S, width

    def derivatives(self, now_s):
        """Return nothing: it knows no velocity between its actions."""
        return None


class Paths:
    """A path in time, and the commander."""

    def __init__(self, arm: Arm, blending: str) -> None:
        """Start at rest."""
        self._arm = arm
        self.motion = Motion(arm, output='twist', blending=blending)
        self._commander = Commander(arm.robot, arm.velocity, 'twist')
        self._resting = True

    @property
    def moving(self) -> bool:
        """Whether a path is played."""
        return self.motion.path is not None

    def offer(self, chunk, now_s, measured):
        """Take a chunk, or return why not."""
        return self.motion.offer(chunk, now_s, measured)

    def twist(self, measured, now_s):
        """Return linear and angular velocity and width, or None where nothing is sent."""
        setpoint = self.motion.at(now_s)
        if setpoint is None:
            if self._resting:
                return None
            self._commander.reset()
            self._resting = True
            return np.zeros(3), np.zeros(3), None
        self._resting = False
        tip = self._arm.pose(measured.positions)
        made = self._commander.command(setpoint, tip, measured.positions, measured.stamp_s, now_s)
        return made.linear, made.angular, setpoint.width

    def derivatives(self, now_s):
        """Return velocity and acceleration of the tip along the path, or None at rest."""
        setpoint = self.motion.at(now_s)
        return (
            None if setpoint is None else (setpoint.tip.linear, setpoint.tip.linear_acceleration)
        )


class Loop:
    """One episode: policy with latency, player, Servo's mock and simulation on one clock."""

    def __init__(self, env, policy, arm, way: str, latency: Callable[[float], float]) -> None:
        """Start where the environment's arm rests.

        Args:
            env: Has been reset.
            policy: What acts.
            arm: With the limits that hold.
            way: One of `WAYS`.
            latency: Makes of the measured time to think [s] the one that counts [s].
        """
        self._env, self._policy, self._arm, self._latency = env, policy, arm, latency
        joints = env.joint_positions()[:7].astype(float)
        blending = 'latest' if way == 'forward' else way
        self._player = Steps(arm) if way == 'step' else Paths(arm, blending)
        self._forward = (
            Forward(arm, policy.checkpoint.spec.state.recipe) if way == 'forward' else None
        )
        controller = arm.robot.controller
        settings = ServoSettings('speed_units', controller.linear_scale, controller.angular_scale)
        self._mock = ServoMock(
            arm, joints, arm.minimum, arm.maximum, arm.velocity, arm.acceleration, settings
        )
        self._mock.switch_command_type(TWIST)
        self._width = arm.robot.gripper.open_width
        self._now_s, self._answer, self._due_s = bridges.START_S, None, 0.0
        self._speed = np.zeros(6)
        self.record = Record()

    def run(self, sentence: str) -> tuple[bool, float]:
        """Return whether the goal was reached in time, and when [s]."""
        env, ask_s = self._env, self._now_s
        for _ in range(MAX_STEPS[env.task]):
            observed = env.observe()
            joints = observed['joint_positions'].astype(float)
            self._measured = JointReading(joints[:7], float(joints[7:].sum()), self._now_s)
            if self._now_s >= ask_s - 1e-9 and self._answer is None:
                self._ask(observed, sentence)
                ask_s = self._now_s + ACTIONS_EXECUTED * CONTROL_DT_S
            env.advance(self._period())
            if env.info()['success']:
                break
        return bool(env.info()['success']), env.info()['seconds']

    def _ask(self, observed, sentence):
        images = {name: observed[name] for name in self._env.cameras}
        state, stamp_s = observed['state'], self._now_s
        if self._forward is not None:
            state, stamp_s = self._forward.state(self._measured, state, stamp_s)
        chunk = self._policy.act(Observation(images, sentence, state, stamp_s=stamp_s))
        seconds = self._latency(chunk.latency_s)
        self.record.thought_s.append(seconds)
        if self._forward is not None:
            self._forward.answered(chunk, seconds)
        self._answer, self._due_s = chunk, max(self._now_s + seconds, stamp_s)

    def _period(self) -> np.ndarray:
        """Return the joint targets of a control period: float64[k, 7]."""
        targets, every = [], round(COMMAND_S / PERIOD_S)
        for i in range(round(CONTROL_DT_S / PERIOD_S)):
            if self._answer is not None and self._now_s >= self._due_s - 1e-9:
                self._border(self._answer)
                self._answer = None
            if i % every == 0:
                self._command()
            self._now_s += PERIOD_S
            joints = self._mock.step(self._now_s, PERIOD_S)
            if (i + 1) % bridges.SETPOINT_STEPS == 0:
                targets.append(joints)
        self._env.command_width(self._width)
        return np.array(targets)

    def _border(self, chunk) -> None:
        """Hand a chunk over, and note what it changes at this instant."""
        record, now_s = self.record, self._now_s
        moving, before = self._player.moving, self._player.derivatives(now_s)
        refusal = self._player.offer(chunk, now_s, self._measured)
        if refusal is not None:
            record.refused[str(refusal)] = record.refused.get(str(refusal), 0) + 1
            return
        if not moving:
            return
        record.borders += 1
        after = self._player.derivatives(now_s)
        if before is not None and after is not None:
            for steps, old, new in zip(
                (record.velocity_steps, record.acceleration_steps), before, after, strict=True
            ):
                steps.append(float(np.linalg.norm(new - old)))

    def _command(self) -> None:
        said = self._player.twist(self._measured, self._now_s)
        if said is not None:
            linear, angular, width = said
            self._speed = np.concatenate([linear, angular]).astype(float)
            self._width = self._width if width is None else width
            self._mock.accept_twist(self._speed[:3], self._speed[3:], self._now_s, FRAME)
        self.record.speeds.append(self._speed)


class Forward:
    """Rolls the state of the prompt forward to when the next chunk will begin."""

    def __init__(self, arm: Arm, recipe: str) -> None:
        """Start without an answer, and so without anything that will have been sent."""
        self._arm, self._recipe = arm, recipe
        self._chunk, self._latencies = None, []

    def state(self, measured, state, stamp_s):
        """Return the state for the prompt, and when the chunk that answers it begins [s]."""
        if self._chunk is None:
            return state, stamp_s
        begins_s = stamp_s + float(np.median(self._latencies))
        rolled = rolled_forward(self._arm, measured, self._chunk, begins_s)
        return robot_state(self._arm, self._recipe, rolled), begins_s

    def answered(self, chunk, seconds):
        """Take the answer, and how long it took."""
        self._chunk = chunk
        self._latencies = [*self._latencies, seconds][-10:]


def rolled_forward(arm: Arm, measured: JointReading, chunk, to_s: float) -> JointReading:
    """Return where the arm will be when the actions of a chunk until then have been played.

    The opening width stays: whether fingers close on something is not known.

    Args:
        arm: Its actions are displacements of the tip.
        measured: Where it is, and when that was.
        chunk: What is being played, action i at stamp + i dt.
        to_s: Until when [s].
    """
    reached = np.clip((np.array([measured.stamp_s, to_s]) - chunk.stamp_s) / chunk.dt, 0, None)
    reached = np.minimum(reached, chunk.horizon)
    if reached[1] - reached[0] < WHOLE:
        return measured
    source = Source(chunk, float(reached[0]))
    move = blended([source], reached, 'latest', absolute=False)[0]
    pose = arm.pose(measured.positions)
    pose[:3, 3] += move[:3]
    pose[:3, :3] = rotation_matrix(move[3:]) @ pose[:3, :3]
    return replace(measured, positions=arm.solve(measured.positions, pose).joints, stamp_s=to_s)


def played(policy, env, seeds, way: str, limits: dict, latency) -> list[dict]:
    """Return how each episode went when its chunks were played in one way.

    Args:
        policy: What acts.
        env: Where.
        seeds: Of the scenes.
        way: One of `WAYS`.
        limits: Of the tip, in place of the description's.
        latency: Shortest and longest time to think [s], or None: as measured.
    """
    robot = load_robot('sim_panda')
    given = replace(robot.limits, max_slowdown=bridges.SLOWDOWN, **limits)
    arm, found = Arm(replace(robot, limits=given)), []
    for seed in tqdm(seeds, desc=f'{env.task}: {way}'):
        env.reset(seed=seed)
        loop = Loop(env, policy, arm, way, _latency(latency, seed))
        success, seconds = loop.run(env.instruction)
        found.append({'success': success, 'seconds': seconds} | summary(loop.record))
    return found


def _latency(given, seed: int) -> Callable[[float], float]:
    if given is None:
        return lambda measured_s: measured_s
    drawn = np.random.default_rng(seed)
    return lambda measured_s: float(drawn.uniform(*given))


def main() -> None:
    """Play, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--episodes', type=int, default=20)
    parser.add_argument('--task', nargs='+', default=['pick', 'push'])
    parser.add_argument('--way', nargs='+', default=['ideal clock', *WAYS])
    parser.add_argument('--latency', nargs='+', default=['0.06', '0.2'], help='[s], or: measured')
    parser.add_argument('--limits', default='cautious', choices=list(LIMITS))
    parser.add_argument('--json', type=Path)
    asked = parser.parse_args()
    latency = None if asked.latency == ['measured'] else tuple(map(float, asked.latency))
    torch.set_num_threads(1)
    policy = Policy(load(demo_path()))
    seeds = range(bridges.SEED, bridges.SEED + asked.episodes)
    found: dict[str, dict[str, list[dict]]] = {way: {} for way in asked.way}
    for task in asked.task:
        env = TabletopEnv(task=task, cameras=policy.checkpoint.spec.cameras)
        for way in asked.way:
            if way == 'ideal clock':
                found[way][task] = bridges.ideal(policy, env, seeds)
            else:
                limits = LIMITS[asked.limits]
                found[way][task] = played(policy, env, seeds, way, limits, latency)
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=1))
        env.close()
    print(table(asked.task, found))


if __name__ == '__main__':
    main()
