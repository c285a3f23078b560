"""What an arm touches: itself, by the collision shapes of its URDF, and a table.

Knows shapes and joint positions in the order of the model. Must not know how they are commanded.
The library is Coal, through Pinocchio.
"""

import coal
import numpy as np
import pinocchio as pin

from worldvla_ros.robot.description import RobotConfig
from worldvla_ros.robot.urdf import ArmUrdf

TABLE = 'table'


class Collisions:
    """Pairs of links that are looked at.

    Left out are links that are joined by one joint, links that do not move against each other,
    and pairs that touch in the start pose: shapes are rough, and a pose that the arm is known to
    take must be possible. The table is compared with all links that move.
    """

    def __init__(
        self,
        robot: RobotConfig,
        part: ArmUrdf,
        model: pin.Model,
        shapes: pin.GeometryModel,
        start: np.ndarray,
    ) -> None:
        """Choose the pairs.

        Args:
            robot: Says whether to look, and where the table is.
            part: The arm's part of the URDF.
            model: The arm.
            shapes: Its collision shapes; pairs and the table are added.
            start: The start pose, float[n], in the order of the model.
        """
        self.meshes = part.meshes
        self.ignored: tuple[tuple[str, str], ...] = ()
        self._model, self._shapes = model, shapes
        self._data = model.createData()
        if robot.collision.check:
            self._add_own_pairs(start)
            if robot.collision.table_height is not None:
                self._add_table(robot, robot.collision.table_height)
        self._found = pin.GeometryData(shapes)

    @property
    def looks(self) -> bool:
        """Whether there is any pair to look at."""
        return bool(self._shapes.collisionPairs)

    def find(self, joints: np.ndarray) -> list[tuple[str, str]]:
        """Return the pairs of links that touch: float[n], in the order of the model →."""
        if not self.looks:
            return []
        if not pin.computeCollisions(
            self._model, self._data, self._shapes, self._found, joints, False
        ):
            return []
        results = zip(self._shapes.collisionPairs, self._found.collisionResults, strict=True)
        return list(dict.fromkeys(self._names(p) for p, r in results if r.isCollision()))

    def _add_own_pairs(self, start: np.ndarray) -> None:
        parents = self._model.parents
        objects = list(enumerate(self._shapes.geometryObjects))
        for i, first in objects:
            for j, second in objects[i + 1 :]:
                a, b = first.parentJoint, second.parentJoint
                if a != b and parents[a] != b and parents[b] != a:
                    self._shapes.addCollisionPair(pin.CollisionPair(i, j))
        self._found = pin.GeometryData(self._shapes)
        self.ignored = tuple(self.find(start))
        for pair in list(self._shapes.collisionPairs):
            if self._names(pair) in self.ignored:
                self._shapes.removeCollisionPair(pair)

    def _add_table(self, robot: RobotConfig, height: float) -> None:
        base = self._model.frames[self._model.getFrameId(robot.base_frame)]
        solid = coal.Halfspace(np.array([0.0, 0.0, 1.0]), height)
        table = pin.GeometryObject(TABLE, 0, base.parentFrame, base.placement, solid)
        place = self._shapes.addGeometryObject(table)
        for i, shape in enumerate(self._shapes.geometryObjects):
            if shape.parentJoint > 0:
                self._shapes.addCollisionPair(pin.CollisionPair(i, place))

    def _names(self, pair: pin.CollisionPair) -> tuple[str, str]:
        first, second = (self._link(i) for i in (pair.first, pair.second))
        return first, second

    def _link(self, place: int) -> str:
        shape = self._shapes.geometryObjects[place]
        return TABLE if shape.name == TABLE else str(self._model.frames[shape.parentFrame].name)
