"""How smooth is what leaves the player? Three ways to play the same chunks, side by side.

    python studies/motion.py [--seconds 60] [--picture docs/motion.png]

One recording of chunk arrivals, made up from a seed: a tip that follows a curve, displacements
with noise, a policy whose latency varies. What each way commands is sampled at 1 kHz:

    step      the player as it was: one action per control period, each at its speed (a twist)
    ruckig    a jerk-limited target follower (PyPI: ruckig, left out where it is not installed)
    QP        robot/planner.py

Prints a table in Markdown. Accelerations and jerks are differences of the sampled velocities over
`SMOOTHED_S`, so that a step counts by its size.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
import time

import numpy as np

from worldvla_ros.observation import ActionChunk
from worldvla_ros.robot.chunk_player import ChunkPlayer
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.motion import Motion
from worldvla_ros.robot.state import JointReading

SAMPLE_S = 0.001
DT = 0.05
HORIZON = 10
LATENCY_S, JITTER_S = 0.15, 0.05
SMOOTHED_S = 0.004
LIMITS = {'linear_acceleration': 3.0, 'linear_jerk': 50.0}
"""What a controller of a real arm takes without a reflex, with room [m/s², m/s³]."""


def where(now_s: float) -> np.ndarray:
    """Return where the tip should be, float64[3] [m]: a curve at up to 0.3 m/s."""
    return np.array(
        [
            0.48 + 0.12 * np.sin(0.9 * now_s) + 0.02 * np.sin(4.1 * now_s),
            0.15 * np.sin(1.3 * now_s),
            0.2 + 0.08 * np.sin(1.7 * now_s),
        ]
    )


def arrivals(robot, seconds: float, seed: int) -> list[tuple[float, ActionChunk]]:
    """Return chunks and when they come [s]; 1 in 20 is lost."""
    generator = np.random.default_rng(seed)
    found, stamp_s = [], 0.0
    while stamp_s < seconds:
        latency_s = LATENCY_S + generator.uniform(-JITTER_S, JITTER_S)
        borders = np.stack([where(stamp_s + i * DT) for i in range(HORIZON + 1)])
        moves = np.diff(borders, axis=0) + generator.normal(0, 0.0006, (HORIZON, 3))
        moves += generator.normal(0, 0.0015, 3)  # what differs from chunk to chunk
        actions = np.zeros((HORIZON, 7), np.float32)
        actions[:, :3] = moves
        chunk = ActionChunk(
            actions,
            robot.action.names,
            robot.action.units,
            np.ones(7, np.float32),
            DT,
            stamp_s=stamp_s,
            chunk_id=len(found),
        )
        if generator.uniform() > 0.05:
            found.append((stamp_s + latency_s, chunk))
        stamp_s += latency_s + 0.02
    return found


def by_steps(arm: Arm, came, times) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Return positions and velocities, float64[n, 3], of the player as it was."""
    player, place, speed = ChunkPlayer(), where(0.0), np.zeros(3)
    places, speeds, waiting, due = [], [], list(came), 0.0
    for now_s in times:
        while waiting and waiting[0][0] <= now_s:
            player.offer(waiting.pop(0)[1], now_s)
        if now_s >= due:
            due += DT
            action = player.next_action(now_s)
            speed = np.zeros(3) if action is None else action[:3].astype(float) / DT
        place = place + speed * SAMPLE_S
        places.append(place)
        speeds.append(speed)
    return np.array(places), np.array(speeds), []


def by_motion(arm: Arm, came, times) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Return positions, velocities, and times to take a chunk [s], of the QP."""
    motion, place = Motion(arm, output='twist'), where(0.0)
    joints = np.array(arm.robot.joints.start)
    target = arm.pose(joints)
    target[:3, 3] = place
    start = arm.solve(joints, target, iterations=50).joints
    place, speed = arm.pose(start)[:3, 3], np.zeros(3)
    places, speeds, taken, waiting = [], [], [], list(came)
    for now_s in times:
        while waiting and waiting[0][0] <= now_s:
            chunk = waiting.pop(0)[1]
            reading = JointReading(start, 0.08, now_s)
            if motion.path is None and places:
                found = arm.solve(start, _moved(arm, start, place))
                start = found.joints
                reading = JointReading(start, 0.08, now_s)
            begun_s = time.thread_time()
            refusal = motion.offer(chunk, now_s, reading)
            taken.append(time.thread_time() - begun_s)
            if refusal is not None:
                print(f'refused at {now_s:.2f} s: {refusal}')
        point = motion.at(now_s)
        if point is None:
            speed = np.zeros(3)
        else:
            place, speed = point.tip.pose[:3, 3], point.tip.linear
        places.append(place)
        speeds.append(speed)
    return np.array(places), np.array(speeds), taken


def _moved(arm: Arm, joints: np.ndarray, place: np.ndarray) -> np.ndarray:
    pose = arm.pose(joints)
    pose[:3, 3] = place
    return pose


def by_ruckig(arm: Arm, came, times) -> tuple[np.ndarray, np.ndarray, list[float]] | None:
    """Return positions, velocities and times to plan [s] of ruckig; None where it is missing.

    It goes to the next waypoint with the velocity of the line there, anew each control period; it
    has no way to follow several waypoints at given times (its community version).
    """
    try:
        import ruckig
    except ImportError:
        return None
    limits = arm.robot.limits
    otg = ruckig.Ruckig(3, SAMPLE_S)
    given, result = ruckig.InputParameter(3), ruckig.OutputParameter(3)
    place = where(0.0)
    given.current_position, given.current_velocity = list(place), [0.0] * 3
    given.current_acceleration = given.target_acceleration = [0.0] * 3
    given.target_position, given.target_velocity = list(place), [0.0] * 3
    given.max_velocity = [limits.linear_speed / 3**0.5] * 3
    given.max_acceleration = [limits.linear_acceleration / 3**0.5] * 3
    given.max_jerk = [limits.linear_jerk / 3**0.5] * 3
    player, reference = ChunkPlayer(), place.copy()
    places, speeds, taken, waiting, due = [], [], [], list(came), 0.0
    for now_s in times:
        while waiting and waiting[0][0] <= now_s:
            player.offer(waiting.pop(0)[1], now_s)
        if now_s >= due:
            due += DT
            action = player.next_action(now_s)
            move = np.zeros(3) if action is None else action[:3].astype(float)
            reference = reference + move
            after = player.remaining
            ahead = after[0][:3].astype(float) / DT if action is not None and len(after) else 0
            most = np.array(given.max_velocity)
            given.target_position = list(reference)
            given.target_velocity = list(
                np.clip((move / DT + ahead) / 2 * np.ones(3), -most, most)
            )
            if action is None:
                given.target_velocity = [0.0] * 3
            given.minimum_duration = DT
        begun_s = time.thread_time()
        otg.update(given, result)
        if result.new_calculation:
            taken.append(time.thread_time() - begun_s)
        places.append(np.array(result.new_position))
        speeds.append(np.array(result.new_velocity))
        result.pass_to_input(given)
    return np.array(places), np.array(speeds), taken


def figures(places: np.ndarray, speeds: np.ndarray, taken: list[float], times) -> dict[str, float]:
    """Return what the table shows."""
    every = round(SMOOTHED_S / SAMPLE_S)
    v = speeds[::every]
    a = np.diff(v, axis=0) / SMOOTHED_S
    j = np.linalg.norm(np.diff(a, axis=0) / SMOOTHED_S, axis=1)
    wanted = np.stack([where(t) for t in times])
    lags = [_apart(places, wanted, lag) for lag in range(0, 500, 5)]
    best = int(np.argmin(lags))
    return {
        'jerk RMS [m/s³]': float(np.sqrt((j**2).mean())),
        'largest jerk [m/s³]': float(j.max()),
        'largest velocity step in 1 ms [mm/s]': 1e3 * _step(speeds),
        'largest acceleration step in 4 ms [m/s²]': _step(a),
        'distance from the curve, RMS [mm]': 1e3 * lags[best],
        'behind it [ms]': 5.0 * best,
        'CPU time to plan, median [ms]': 1e3 * float(np.median(taken)) if taken else 0.0,
    }


def _step(values: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(values, axis=0), axis=1).max())


def _apart(places: np.ndarray, wanted: np.ndarray, lag: int) -> float:
    """Return how far a tip is from where it should have been `lag` samples ago, drift left out."""
    apart = places[lag:] - wanted[: len(wanted) - lag]
    width = 1000
    mean = np.stack([np.convolve(c, np.ones(width) / width, 'same') for c in apart.T], axis=1)
    inner = (apart - mean)[width:-width]
    return float(np.sqrt((inner**2).sum(axis=1).mean()))


def picture(path: str, times, results) -> None:
    """Draw velocity and acceleration along y over two seconds."""
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt

    chosen = slice(5000, 7000)
    figure, axes = plt.subplots(2, 1, figsize=(8, 4.6), sharex=True, layout='constrained')
    for name, (_, speeds, _) in results.items():
        gains = np.gradient(speeds[:, 1], SAMPLE_S)
        gains = np.convolve(gains, np.ones(4) / 4, 'same')
        thin = 0.9 if name == 'step' else 1.6
        axes[0].plot(times[chosen], speeds[chosen, 1], label=name, linewidth=thin)
        axes[1].plot(times[chosen], gains[chosen], label=name, linewidth=thin)
    axes[0].set_ylabel('velocity, y [m/s]')
    axes[1].set_ylabel('acceleration, y [m/s²]')
    axes[1].set_ylim(-4, 4)
    axes[1].set_xlabel('time [s]')
    axes[0].legend(loc='upper right', frameon=False, ncols=3)
    for axis in axes:
        axis.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Play, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--picture', help='where a picture of two seconds is written')
    options = parser.parse_args()
    robot = load_robot('sim_panda')
    arm = Arm(replace(robot, limits=replace(robot.limits, max_slowdown=2.0, **LIMITS)))
    came = arrivals(robot, options.seconds, options.seed)
    times = np.arange(0.0, options.seconds, SAMPLE_S)
    ways: dict[str, Callable] = {'step': by_steps, 'ruckig': by_ruckig, 'QP': by_motion}
    results = {name: way(arm, came, times) for name, way in ways.items()}
    results = {name: result for name, result in results.items() if result is not None}
    table = {name: figures(*result, times) for name, result in results.items()}
    print(f'{len(came)} chunks, {options.seconds:.0f} s, seed {options.seed}\n')
    print('| | ' + ' | '.join(table) + ' |\n|---' * 1 + '|---' * len(table) + '|')
    for row in next(iter(table.values())):
        print(f'| {row} | ' + ' | '.join(f'{table[n][row]:.3g}' for n in table) + ' |')
    if options.picture:
        picture(options.picture, times, results)


if __name__ == '__main__':
    main()
