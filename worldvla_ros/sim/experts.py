"""Scripted experts: the right action as a function of the present state alone.

No phase is remembered; it is read off gripper and cubes at each step, so that a label is right
wherever noise has led. Heights follow a funnel: high where the gripper is far from where it wants
to go down, low where it is close. Knows the simulator's state. Must not know images.
"""

import numpy as np

from worldvla_ros.sim.scene import CUBE_HALF
from worldvla_ros.sim.tabletop import ACTION_SCALE, TabletopEnv

GAIN = 0.2
OPEN, CLOSE = -1.0, 1.0
GRASP_HEIGHT = 0.020
TRAVEL_HEIGHT = 0.10
LIFT_HEIGHT = 0.20
HELD_WIDTH = 0.060
PUSH_HEIGHT = 0.024
PUSH_STANDOFF = 0.058
PUSH_LIMIT = 0.20
STACK_HEIGHT = 2 * CUBE_HALF


def expert_action(env: TabletopEnv) -> np.ndarray:
    """Return float32[7] in [-1, 1] for the environment's goal and present state."""
    return {'pick': _pick, 'push': _push, 'put': _put}[env.goal.kind](env)


def _towards(error: np.ndarray, gripper: float) -> np.ndarray:
    """Return the action that makes an error [m] smaller, each axis for itself."""
    wanted = np.clip(GAIN * error / ACTION_SCALE[:3], -1, 1)
    return np.concatenate([wanted, np.zeros(3), [gripper]]).astype(np.float32)


def _funnel(distance: float, mouth: float, slope: float) -> float:
    """Return the height above the goal at a horizontal distance from it [m]."""
    return float(np.clip((distance - mouth) * slope, 0, TRAVEL_HEIGHT))


def _holds(tcp: np.ndarray, cube: np.ndarray, width: float) -> bool:
    near = np.linalg.norm((cube - tcp)[:2]) < 0.02 and abs(cube[2] - tcp[2]) < 0.025
    return bool(near and width < HELD_WIDTH)


def _grasp(tcp: np.ndarray, cube: np.ndarray) -> np.ndarray:
    """Go above the cube, down the funnel, and close."""
    error = np.append((cube - tcp)[:2], 0.0)
    distance = float(np.linalg.norm(error))
    goal_height = cube[2] - CUBE_HALF + GRASP_HEIGHT
    error[2] = goal_height + _funnel(distance, 0.012, 4.0) - tcp[2]
    ready = distance < 0.018 and tcp[2] < goal_height + 0.008
    if ready:
        return _towards(np.zeros(3), CLOSE)
    return _towards(error, OPEN)


def _pick(env: TabletopEnv) -> np.ndarray:
    tcp, width, cube = env.tcp_pose()[0], float(env.state()[6]), env.cube(env.goal.colour)
    if _holds(tcp, cube, width):
        return _towards(np.array([0, 0, LIFT_HEIGHT - tcp[2]]), CLOSE)
    return _grasp(tcp, cube)


def _push(env: TabletopEnv) -> np.ndarray:
    tcp, cube = env.tcp_pose()[0], env.cube(env.goal.colour)
    side = 1.0 if env.goal.direction == 'right' else -1.0
    behind = side * (cube[1] - tcp[1])
    across = cube[0] - tcp[0]
    if side * cube[1] > PUSH_LIMIT:
        return _towards(np.zeros(3), CLOSE)
    low = tcp[2] < PUSH_HEIGHT + 0.02
    if low and abs(across) < 0.02 and 0.0 < behind < PUSH_STANDOFF + 0.02:
        return _towards(np.array([across, side * 0.05, PUSH_HEIGHT - tcp[2]]), CLOSE)
    start = np.array([cube[0], cube[1] - side * PUSH_STANDOFF, 0.0])
    error = start - tcp
    distance = float(np.linalg.norm(error[:2]))
    error[2] = PUSH_HEIGHT + _funnel(distance, 0.012, 4.0) - tcp[2]
    return _towards(error, CLOSE)


def _put(env: TabletopEnv) -> np.ndarray:
    tcp, width = env.tcp_pose()[0], float(env.state()[6])
    cube, below = env.cube(env.goal.colour), env.cube(env.goal.target)
    offset = below - cube
    distance = float(np.linalg.norm(offset[:2]))
    stacked = distance < 0.02 and abs(offset[2] + STACK_HEIGHT) < 0.006
    if stacked:
        return _towards(np.array([0, 0, LIFT_HEIGHT - tcp[2]]) * (width > 0.07), OPEN)
    if not _holds(tcp, cube, width):
        return _grasp(tcp, cube)
    height = below[2] + STACK_HEIGHT + 0.002 + _funnel(distance, 0.008, 5.0)
    error = np.append(offset[:2], height - cube[2])
    if cube[2] < below[2] + STACK_HEIGHT + 0.01 and distance > 0.03:
        error[:2] = 0.0
    return _towards(error, CLOSE)
