"""Runs each kind of controller in closed loop against its mock, beside the ideal clock.

    python studies/bridges.py [--episodes 20] [--task pick push] [--bridge twist …] [--latency 0]

The ideal clock is that of `worldvla eval sim`: an action per control period goes straight into the
simulation. Here the same chunks go through what a real arm has: Motion plans a path, the commander
makes commands of it, the mock takes or drops them and moves the arm's joints, a millisecond at a
time. Nothing is measured at the wall clock; episodes have the same seeds everywhere.
"""

import argparse
from dataclasses import dataclass, field, replace
import json
from pathlib import Path
import sys

import numpy as np
import torch
from tqdm import tqdm

from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.evaluate.success import ACTIONS_EXECUTED, run_trial
from worldvla_ros.metrics import wilson_interval
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.robot.commander import Commander
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.motion import Motion
from worldvla_ros.robot.state import JointReading
from worldvla_ros.sim.controllers.parts import PERIOD_S
from worldvla_ros.sim.controllers.reflex import PANDA, Reflex
from worldvla_ros.sim.tabletop import CONTROL_DT_S, MAX_STEPS, TabletopEnv

sys.path.insert(0, str(Path(__file__).parent))
from bridge_links import LINKS, WATCHED, Fingers

START_S = 1000.0
"""Simulated time at the start of an episode: stamp 0 means something else."""
SETPOINT_STEPS = 5
SEED = 8000


@dataclass
class Count:
    """What went wrong on the way."""

    refused: int = 0
    reflexes: int | None = None
    dropped: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    jerk: float = 0.0


SLOWDOWN = 2.0
"""A chunk that is too fast for the joints is played so many times slower, and not refused."""


class Loop:
    """One episode: policy, motion, commander, mock and simulation on one simulated clock."""

    def __init__(self, env, policy, arm, link, *, latency_s=0.0, action_gripper=False):
        """Start where the environment's arm rests."""
        self._env, self._policy, self._arm = env, policy, arm
        joints = env.joint_positions()[:7].astype(float)
        positions_only = getattr(link, 'positions_only', False)
        controller = replace(arm.robot.controller, positions_only=positions_only)
        robot = replace(arm.robot, controller=controller)
        self._link = link(arm, joints)
        self._motion = Motion(arm, output=self._link.kind)
        self._commander = Commander(robot, arm.velocity, self._link.kind)
        self._fingers = Fingers(action_gripper, arm.robot.gripper.open_width)
        self._reflex = Reflex(PANDA, joints, stops=False)
        self._watched = self._link.kind in WATCHED
        self._latency_s, self._answer, self._due_s = latency_s, None, 0.0
        self._now_s, self._path, self._resting = START_S, None, True
        self._tick_steps = round(1 / self._link.rate / PERIOD_S)
        self.count = Count()

    def run(self, sentence):
        """Return whether the goal was reached in time, and when [s]."""
        env = self._env
        for step in range(MAX_STEPS[env.task]):
            observed = env.observe()
            self._read(observed)
            if step % ACTIONS_EXECUTED == 0:
                images = {name: observed[name] for name in env.cameras}
                seen = Observation(images, sentence, observed['state'], stamp_s=self._now_s)
                self._answer = self._policy.act(seen)
                self._due_s = self._now_s + self._latency_s
            env.advance(self._period())
            if env.info()['success']:
                break
        drops = self._link.mock.drops
        self.count.dropped = drops.total
        self.count.reasons |= {f'dropped: {why}': n for why, n in drops.reasons.items()}
        self.count.reflexes = self._reflex.trips if self._watched else None
        self.count.jerk = float(self._reflex.largest['jerk'].max())
        return bool(env.info()['success']), env.info()['seconds']

    def _read(self, observed):
        joints = observed['joint_positions'].astype(float)
        self._measured = JointReading(joints[:7], float(joints[7:].sum()), self._now_s)
        self._tip = self._arm.pose(self._measured.positions)

    def _period(self):
        """Return the joint targets of a control period: float64[k, 7]."""
        targets = []
        for i in range(round(CONTROL_DT_S / PERIOD_S)):
            if self._answer is not None and self._now_s >= self._due_s - 1e-9:
                refusal = self._motion.offer(self._answer, self._now_s, self._measured)
                if refusal is not None:
                    self.count.refused += 1
                    reasons = self.count.reasons
                    reasons[str(refusal)] = reasons.get(str(refusal), 0) + 1
                self._answer = None
            if i % self._tick_steps == 0:
                self._command()
            self._now_s += PERIOD_S
            joints = self._link.step(self._now_s)
            if self._watched:
                self._reflex.step(joints)
            if (i + 1) % SETPOINT_STEPS == 0:
                targets.append(joints)
        width = self._fingers.width(self._now_s, CONTROL_DT_S, self._measured.width)
        self._env.command_width(width)
        return np.array(targets)

    def _command(self):
        now_s, link = self._now_s, self._link
        setpoint = self._motion.at(now_s)
        if setpoint is None:
            if not self._resting:
                self._commander.reset()
                if hasattr(link, 'rest'):
                    link.rest()
            self._resting = True
            return
        self._resting = False
        self._fingers.say(setpoint.width, now_s)
        measured = self._measured
        command = self._commander.command(
            setpoint, self._tip, measured.positions, measured.stamp_s, now_s
        )
        if command is not None:
            link.send(command, now_s)
        elif self._motion.path is not self._path and self._motion.path is not None:
            self._path = self._motion.path
            told = self._commander.trajectory(self._path, now_s, setpoint.width)
            if told is not None:
                link.send(told, now_s)


def ideal(policy, env, seeds):
    """Return success and seconds of each episode under the ideal clock."""
    found = []
    for seed in tqdm(seeds, desc=f'{env.task}: ideal clock'):
        env.reset(seed=seed)
        trial = run_trial(env, policy, seed, env.instruction)
        found.append({'success': trial.success, 'seconds': trial.seconds})
    return found


def bridged(policy, env, seeds, name, **given):
    """Return how each episode went through a bridge."""
    robot = load_robot('sim_panda')
    arm, found = Arm(replace(robot, limits=replace(robot.limits, max_slowdown=SLOWDOWN))), []
    for seed in tqdm(seeds, desc=f'{env.task}: {name}'):
        env.reset(seed=seed)
        loop = Loop(env, policy, arm, LINKS[name], **given)
        success, seconds = loop.run(env.instruction)
        found.append({'success': success, 'seconds': seconds} | vars(loop.count))
    return found


def row(name, tasks, found):
    """Return a line of the table."""
    cells = [name]
    for task in tasks:
        made = found[task]
        good = sum(episode['success'] for episode in made)
        low, high = wilson_interval(good, len(made))
        times = [episode['seconds'] for episode in made if episode['success']]
        median = f'{np.median(times):.1f} s' if times else '–'
        cells.append(f'{good} of {len(made)} [{low:.2f}, {high:.2f}], {median}')
    every = [episode for made in found.values() for episode in made]
    for key in ('refused', 'dropped', 'reflexes'):
        known = every[0].get(key) is not None
        cells.append(str(sum(e[key] for e in every)) if known else '–')
    return '| ' + ' | '.join(cells) + ' |'


def table(tasks, found):
    """Return the table as Markdown."""
    head = ['controller', *tasks, 'chunks refused', 'messages dropped', 'reflexes']
    lines = ['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|']
    return '\n'.join([*lines, *(row(name, tasks, made) for name, made in found.items())])


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--episodes', type=int, default=20)
    parser.add_argument('--task', nargs='+', default=['pick', 'push'])
    parser.add_argument('--bridge', nargs='+', default=list(LINKS), choices=list(LINKS))
    parser.add_argument('--latency', type=float, default=0.0, help='of the policy [s]')
    parser.add_argument('--action-gripper', action='store_true', help='goals instead of widths')
    parser.add_argument('--skip-ideal', action='store_true')
    parser.add_argument('--json', type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    policy = Policy(load(demo_path()))
    seeds = range(SEED, SEED + asked.episodes)
    names = [*([] if asked.skip_ideal else ['ideal clock']), *asked.bridge]
    found = {name: {} for name in names}
    for task in asked.task:
        env = TabletopEnv(task=task, cameras=policy.checkpoint.spec.cameras)
        for name in names:
            if name == 'ideal clock':
                found[name][task] = ideal(policy, env, seeds)
            else:
                given = {'latency_s': asked.latency, 'action_gripper': asked.action_gripper}
                found[name][task] = bridged(policy, env, seeds, name, **given)
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=1))
        env.close()
    print(table(asked.task, found))


if __name__ == '__main__':
    main()
