"""Off-screen pictures from MuJoCo on whatever renderer this machine has.

Knows OpenGL back ends. Must not know the scene.
"""

import ctypes.util
import os
from typing import TYPE_CHECKING

import numpy as np

from worldvla_ros.errors import MissingDependencyError

if TYPE_CHECKING:
    import mujoco

REMEDY = 'On Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri libgles2   (or: libosmesa6)'


def choose_backend() -> str:
    """Set MUJOCO_GL to a back end whose library is here, unless the user chose one.

    Must run before `mujoco` is imported for the first time.

    Raises:
        MissingDependencyError: Neither EGL nor OSMesa is installed.
    """
    if 'MUJOCO_GL' not in os.environ:
        found = [
            n for n, lib in (('egl', 'EGL'), ('osmesa', 'OSMesa')) if ctypes.util.find_library(lib)
        ]
        if not found:
            raise MissingDependencyError(
                'MuJoCo has no off-screen renderer', expected='EGL or OSMesa', remedy=REMEDY
            )
        os.environ['MUJOCO_GL'] = found[0]
    os.environ.setdefault('PYOPENGL_PLATFORM', os.environ['MUJOCO_GL'])
    return os.environ['MUJOCO_GL']


class CameraRenderer:
    """Renders one model at one size; `close` frees the OpenGL context."""

    def __init__(self, model: 'mujoco.MjModel', size: int) -> None:
        """Create the OpenGL context.

        Raises:
            MissingDependencyError: No context can be created.
        """
        import mujoco

        try:
            self._renderer = mujoco.Renderer(model, size, size)
        except (RuntimeError, AttributeError, ImportError, ValueError) as error:
            raise MissingDependencyError(
                f'MuJoCo cannot render with {os.environ.get("MUJOCO_GL")}: {error}', remedy=REMEDY
            ) from error
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0

    def render(self, data: 'mujoco.MjData', camera: str) -> np.ndarray:
        """Return uint8[size, size, 3] of a camera."""
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def close(self) -> None:
        """Free the context; rendering afterwards fails."""
        self._renderer.close()
