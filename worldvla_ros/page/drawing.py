"""The arm in 3D: its links as simple shapes, its workspace, and the way to come.

Knows viser's scene. Must not know ROS.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import viser

from worldvla_ros.robot.links import Link, Shape

ARM = (225, 228, 232)
FINGER = (90, 96, 105)
BOX = (70, 130, 200)
ROOT = '/arm'
LOOK_FROM = (1.5, -1.1, 0.9)


class Drawing:
    """What is drawn; `move` and `show_path` change it."""

    def __init__(
        self,
        scene: viser.SceneApi,
        links: Sequence[Link],
        low: Sequence[float],
        high: Sequence[float],
    ) -> None:
        """Draw the arm with all joints at 0.

        Args:
            scene: Where.
            links: Of the arm, parents first.
            low: Lowest corner of the workspace, float[3] [m].
            high: Highest corner.
        """
        self._scene = scene
        scene.set_up_direction('+z')
        scene.add_grid('/floor', width=3.0, height=3.0, cell_size=0.1, section_size=0.5)
        box = np.array([low, high], float)
        scene.add_line_segments(
            '/workspace', points=edges(*box), colors=np.array(BOX), thickness=0.003
        )
        self._joints: dict[str, tuple[Link, viser.SceneNodeHandle]] = {}
        paths: dict[str, str] = {}
        for link in links:
            path = f'{paths.get(link.parent, ROOT)}/{_safe(link.name)}'
            paths[link.name] = path
            frame = scene.add_frame(
                path, show_axes=False, position=link.position, wxyz=link.quaternion
            )
            if link.joint:
                self._joints[link.joint] = (link, frame)
            for i, shape in enumerate(link.shapes):
                self._add(f'{path}/shape{i}', shape, FINGER if link.slides else ARM)

    def move(self, joints: Mapping[str, float]) -> None:
        """Put joints to values [rad] or [m]; names that are not drawn are ignored."""
        for name, value in joints.items():
            if name in self._joints:
                link, frame = self._joints[name]
                frame.position, frame.wxyz = link.at(value)

    def show_path(self, points: np.ndarray, colors: np.ndarray) -> None:
        """Draw the way to come: float[k, 3] [m], float[k, 3] in [0, 1]; fewer than 2 clear it."""
        if len(points) < 2:
            points, colors = np.zeros((2, 3)), np.zeros((2, 3))
        self._scene.add_line_segments(
            '/path',
            points=np.stack([points[:-1], points[1:]], axis=1).astype(np.float32),
            colors=np.stack([colors[:-1], colors[1:]], axis=1),
            thickness=0.008,
        )

    def _add(self, path: str, shape: Shape, color: tuple[int, int, int]) -> None:
        place: Any = {'color': color, 'position': shape.position, 'wxyz': shape.quaternion}
        if shape.kind == 'box':
            x, y, z = shape.size
            self._scene.add_box(path, dimensions=(x, y, z), **place)
        elif shape.kind == 'cylinder':
            radius, length = shape.size
            self._scene.add_cylinder(path, radius=radius, height=length, **place)
        else:
            self._scene.add_icosphere(path, radius=shape.size[0], **place)


def edges(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the edges of a box between two corners: float[12, 2, 3]."""
    corners = np.array([low, high])
    found = []
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        for i in (0, 1):
            for j in (0, 1):
                edge = np.empty((2, 3))
                edge[:, axis] = corners[:, axis]
                edge[:, first], edge[:, second] = corners[i, first], corners[j, second]
                found.append(edge)
    return np.array(found, np.float32)


def _safe(name: str) -> str:
    """Return a name of a link without slashes, which part a scene's paths."""
    return name.replace('/', '|')
