"""A recording as a file for the Rerun viewer: images, the arm in 3D, numbers over time, words.

    /ns/image, /ns/imagined_image …     each image topic at its stamps; imagined ones at the time
                                        that they predict
    arm, arm/workspace, arm/plan        links as simple shapes, the box, the way to come
    joints/NAME, tip/speed, tip/limit   numbers
    words/…                             instructions, states of the nodes with their reasons

Time is that of the stamps; what has none counts as it arrived. Must not know ROS.
"""

from collections.abc import Callable
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldvla_ros.data.bags import Record, Recording
from worldvla_ros.errors import MissingDependencyError, WorldVLAError
from worldvla_ros.pixels import compressed_pixels, raw_pixels
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.links import Link, Shape

if TYPE_CHECKING:
    import rerun as rr

TEXT, DIAGNOSTICS = 'std_msgs/msg/String', 'diagnostic_msgs/msg/DiagnosticArray'
JPEG_QUALITY = 85
TIMELINE = 'stamp'
ARM_COLOR, BOX_COLOR = (225, 228, 232), (70, 130, 200)
WINDOW_S = 0.1
"""The speed of the tip is measured over this time."""
LEVELS = {0: 'INFO', 1: 'WARN', 2: 'ERROR', 3: 'ERROR'}


def write_rerun(recording: Recording, arm: Arm, file: Path) -> dict[str, int]:
    """Write a recording for Rerun, and return how many messages of each topic are in it.

    Args:
        recording: The recording; what cannot be read is in its `problems`.
        arm: What its joint states are of.
        file: To write, `.rrd`; replaced where it exists.

    Raises:
        MissingDependencyError: rerun-sdk is not installed.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise MissingDependencyError(
            'writing a file for Rerun needs rerun-sdk', remedy="pip install 'worldvla_ros[rerun]'"
        ) from error
    stream = rr.RecordingStream('worldvla_ros')
    stream.save(file)
    writer = _Writer(rr, stream, arm)
    topics = recording.topics().items()
    for record in recording.records({t for t, name in topics if writer.takes(t, name)}):
        writer.take(record)
    stream.send_blueprint(writer.blueprint())
    stream.flush()
    stream.disconnect()  # writes the end of the file
    return writer.counts


class _Writer:
    """Hands messages on, by their type."""

    def __init__(self, rr: Any, stream: 'rr.RecordingStream', arm: Arm) -> None:
        self._rr, self._stream, self._arm = rr, stream, arm
        self.counts: dict[str, int] = {}
        self._images: list[str] = []
        self._tips: list[tuple[float, np.ndarray]] = []
        self._joints: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self.handlers: dict[str, Callable[[str, Any], None]] = {
            'sensor_msgs/msg/Image': self._image,
            'sensor_msgs/msg/CompressedImage': self._image,
            'sensor_msgs/msg/JointState': self._joint_state,
            'visualization_msgs/msg/MarkerArray': self._plan,
            TEXT: self._sentence,
            DIAGNOSTICS: self._status,
            'worldvla_ros/msg/PlayerState': self._state,
        }
        self._paths = self._draw_arm()

    def takes(self, topic: str, type_name: str) -> bool:
        """Whether a topic is shown: of texts, instructions and states alone."""
        ends = {TEXT: '/instruction', DIAGNOSTICS: '/status'}.get(type_name, '')
        return type_name in self.handlers and topic.endswith(ends)

    def take(self, record: Record) -> None:
        """Log one message at its time."""
        header = getattr(record.message, 'header', None)
        stamp_s = 0.0 if header is None else header.stamp.sec + header.stamp.nanosec * 1e-9
        self._stream.set_time(TIMELINE, timestamp=stamp_s or record.arrived_ns * 1e-9)
        self._stamp_s = stamp_s
        try:
            self.handlers[record.type_name](record.topic, record.message)
        except WorldVLAError:
            return  # an image that nobody can read; the policy says why
        self.counts[record.topic] = self.counts.get(record.topic, 0) + 1

    def blueprint(self) -> Any:
        """Return what the viewer shows at first: 3D and images beside numbers and words."""
        import rerun.blueprint as rrb

        return rrb.Blueprint(
            rrb.Horizontal(
                rrb.Vertical(
                    rrb.Spatial3DView(origin='arm', name='arm'),
                    rrb.TextLogView(origin='words', name='words'),
                    row_shares=[3, 1],
                ),
                rrb.Vertical(
                    *(rrb.Spatial2DView(origin=topic, name=topic) for topic in self._images),
                    rrb.TimeSeriesView(origin='tip', name='speed of the tip [m/s]'),
                    rrb.TimeSeriesView(origin='joints', name='joints [rad, m]'),
                ),
            ),
            collapse_panels=True,
        )

    # ---- what is drawn once

    def _draw_arm(self) -> dict[str, tuple[str, Link]]:
        """Draw all links at 0, and return the path of each joint's link."""
        rr, limits = self._rr, self._arm.robot.limits
        paths: dict[str, str] = {}
        moved: dict[str, tuple[str, Link]] = {}
        low, high = np.array(limits.workspace_minimum), np.array(limits.workspace_maximum)
        self._static('arm', rr.ViewCoordinates.RIGHT_HAND_Z_UP)
        box = rr.Boxes3D(centers=[(low + high) / 2], sizes=[high - low], colors=[BOX_COLOR])
        self._static('arm/workspace', box)
        self._static('tip/limit', rr.SeriesLines(names='limit', colors=[(200, 40, 40)]))
        for link in self._arm.links:
            path = f'{paths.get(link.parent, "arm")}/{link.name.replace("/", "|")}'
            paths[link.name] = path
            self._static(path, self._transform(*link.at(0.0)))
            if link.joint:
                moved[link.joint] = path, link
            for i, shape in enumerate(link.shapes):
                self._static(f'{path}/shape{i}', self._shape(shape))
        return moved

    def _static(self, path: str, value: Any) -> None:
        self._stream.log(path, value, static=True)

    def _shape(self, shape: Shape) -> Any:
        rr = self._rr
        place = {
            'centers': [shape.position],
            'quaternions': [_rotation(rr, shape.quaternion)],
            'colors': [ARM_COLOR],
            'fill_mode': 'solid',
        }
        if shape.kind == 'box':
            return rr.Boxes3D(sizes=[shape.size], **place)
        if shape.kind == 'cylinder':
            radius, length = shape.size
            return rr.Cylinders3D(radii=[radius], lengths=[length], **place)
        return rr.Ellipsoids3D(radii=[shape.size[0]], **place)

    def _transform(self, position: np.ndarray, quaternion: np.ndarray) -> Any:
        rr = self._rr
        return rr.Transform3D(translation=position, quaternion=_rotation(rr, quaternion))

    # ---- what comes

    def _image(self, topic: str, message: Any) -> None:
        packed = hasattr(message, 'format')
        pixels = compressed_pixels(message) if packed else raw_pixels(message)
        if topic not in self._images:
            self._images.append(topic)
        self._stream.log(topic, self._rr.Image(pixels).compress(jpeg_quality=JPEG_QUALITY))

    def _joint_state(self, topic: str, message: Any) -> None:
        rr = self._rr
        for name, value in zip(message.name, message.position, strict=False):
            if not math.isfinite(value):
                continue
            self._joints[name] = value
            self._stream.log(f'joints/{name}', rr.Scalars(value))
            if name in self._paths:
                path, link = self._paths[name]
                self._stream.log(path, self._transform(*link.at(value)))
        if all(name in self._joints for name in self._arm.names):
            joints = np.array([self._joints[name] for name in self._arm.names])
            self._tip(self._arm.pose(joints)[:3, 3])

    def _tip(self, position: np.ndarray) -> None:
        """Log how fast the tip went in the last moment."""
        if self._tips and self._stamp_s < self._tips[-1][0]:
            self._tips.clear()
        self._tips.append((self._stamp_s, position))
        while len(self._tips) > 2 and self._tips[1][0] <= self._stamp_s - WINDOW_S:
            self._tips.pop(0)
        begin_s, begin = self._tips[0]
        if self._stamp_s > begin_s:
            speed = float(np.linalg.norm(position - begin)) / (self._stamp_s - begin_s)
            self._stream.log('tip/speed', self._rr.Scalars(speed))
            self._stream.log('tip/limit', self._rr.Scalars(self._arm.robot.limits.linear_speed))

    def _plan(self, topic: str, message: Any) -> None:
        for marker in message.markers[:1]:
            points = [(point.x, point.y, point.z) for point in marker.points]
            strip = self._rr.LineStrips3D([points], radii=[0.003], colors=[(30, 200, 80)])
            self._stream.log('arm/plan', strip)

    def _sentence(self, topic: str, message: Any) -> None:
        self._say(topic, f'instruction: {message.data}', 'INFO')

    def _status(self, topic: str, message: Any) -> None:
        for status in message.status:
            level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
            self._say(topic, f'{status.name.strip("/")}: {status.message}', LEVELS[level])

    def _state(self, topic: str, message: Any) -> None:
        for reason in message.reasons[:1]:
            self._say(topic, f'[{reason.code}] {reason.text}. {reason.remedy}', 'WARN')

    def _say(self, topic: str, text: str, level: str) -> None:
        """Log a text, unless the topic said the same before."""
        if self._said.get(topic) != text:
            self._said[topic] = text
            self._stream.log(f'words{topic}', self._rr.TextLog(text, level=level))


def _rotation(rr: Any, quaternion: np.ndarray) -> Any:
    w, x, y, z = quaternion
    return rr.Quaternion(xyzw=[x, y, z, w])
