"""Where the simulated cameras are and how they project, by ROS's conventions.

    optical frame   x to the right of the image, y down, z forward    (REP 103)
    MuJoCo          x to the right, y up, z backward

Must not know messages. Lengths [m]; quaternions w first.
"""

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

import numpy as np

from worldvla_ros.robot.quaternions import product

if TYPE_CHECKING:
    import mujoco

HALF_TURN = np.array([0.0, 1.0, 0.0, 0.0])
"""About x: from MuJoCo's camera to the optical frame."""


@dataclass(frozen=True)
class View:
    """Where a camera is.

    Attributes:
        body: The MuJoCo body that carries it; `world` where it stands still.
        position: Of the optical frame in the body, float64[3].
        quaternion: Its orientation there, float64[4].
        matrix: Camera matrix, float64[3, 3] [px]; the middle of the first pixel is 0, 0.
    """

    body: str
    position: np.ndarray
    quaternion: np.ndarray
    matrix: np.ndarray


def view(model: 'mujoco.MjModel', name: str, size: int) -> View:
    """Return how a camera sees that renders images of size x size pixels."""
    camera = model.camera(name)
    return View(
        body=model.body(int(camera.bodyid[0])).name,
        position=camera.pos.copy(),
        quaternion=product(camera.quat, HALF_TURN),
        matrix=camera_matrix(math.radians(float(camera.fovy[0])), size),
    )


def camera_matrix(fovy_rad: float, size: int) -> np.ndarray:
    """Return the matrix float64[3, 3] of a pinhole camera with square images, see `View.matrix`.

    Args:
        fovy_rad: Angle between the upper and the lower edge [rad].
        size: Side of the image [px].
    """
    focal, middle = size / 2 / math.tan(fovy_rad / 2), (size - 1) / 2
    return np.array([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])
