"""A recording for Rerun: what is logged where and when, and that the real package reads it."""

import io
import math
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
from PIL import Image
import pytest
from recorded import ARM, FIRST_S, HOME, PERIOD_S, ROBOT, Tape, images

from worldvla_ros.cli.verbs import main
from worldvla_ros.data.bags import Record, Recording
from worldvla_ros.data.rerun_file import write_rerun
from worldvla_ros.errors import MissingDependencyError
from worldvla_ros.observation import ActionChunk

CHUNK = ActionChunk(
    np.zeros((2, 7), np.float32), ROBOT.action.names, ROBOT.action.units,
    np.ones(7, np.float32), 0.05, FIRST_S, 1, 'model@1', 'pick it',
)  # fmt: skip
EXTRA = 'rerun-sdk is not installed; it is an extra'


class Made(SimpleNamespace):
    """What a class of Rerun was made of."""

    def compress(self, **options):
        self.compressed = options
        return self


class Stream:
    """Keeps what is logged: (seconds or None, path, value)."""

    newest = None

    def __init__(self, name):
        self.logged, self.time_s, self.blueprint = [], None, None
        Stream.newest = self

    def save(self, file):
        file.write_text('rrd')

    def set_time(self, name, timestamp):
        assert name == 'stamp'
        self.time_s = timestamp

    def log(self, path, value, static=False):
        self.logged.append((None if static else self.time_s, path, value))

    def send_blueprint(self, blueprint):
        self.blueprint = blueprint

    def flush(self):
        pass

    def disconnect(self):
        self.ended = True

    def at(self, path):
        return [(t, value) for t, where, value in self.logged if where == path]


class Fake(ModuleType):
    """Makes whatever class is asked for."""

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return lambda *args, **kwargs: Made(kind=name, args=args, **kwargs)


@pytest.fixture
def stream(monkeypatch):
    fake, blueprint = Fake('rerun'), Fake('rerun.blueprint')
    fake.RecordingStream, fake.blueprint = Stream, blueprint
    fake.ViewCoordinates = SimpleNamespace(RIGHT_HAND_Z_UP='z up')
    monkeypatch.setitem(sys.modules, 'rerun', fake)
    monkeypatch.setitem(sys.modules, 'rerun.blueprint', blueprint)
    return lambda: Stream.newest


@pytest.fixture
def tape(tmp_path):
    """A recording of an arm whose first joint turns."""
    file = tmp_path / 'bag/bag_0.mcap'
    with Tape(file, '/left') as made:
        made.status(FIRST_S - 1, robot='sim_panda')
        made.status(FIRST_S - 0.5, robot='sim_panda')
        for step, picture in enumerate(images(4)):
            stamp_s = FIRST_S + step * PERIOD_S
            made.joints([0.1 * step, *HOME[1:]], stamp_s)
            made.image(picture, stamp_s)
            made.image(picture, stamp_s + 0.25, 'imagined_image', -0.2)
        made.chunk(CHUNK, FIRST_S)
    return Recording(file)


def stamps(found):
    return [t for t, _ in found]


def test_images_are_logged_at_their_stamps(stream, tape, tmp_path):
    counts = write_rerun(tape, ARM, tmp_path / 'run.rrd')
    assert counts['/left/image'] == counts['/left/imagined_image'] == 4
    seen = stream().at('/left/image')
    assert stamps(seen) == pytest.approx([FIRST_S + i * PERIOD_S for i in range(4)])
    np.testing.assert_array_equal(seen[2][1].args[0], images(4)[2])
    assert seen[0][1].compressed == {'jpeg_quality': 85}
    ahead = stream().at('/left/imagined_image')
    assert stamps(ahead) == pytest.approx([FIRST_S + i * PERIOD_S + 0.25 for i in range(4)])


def test_joints_are_numbers_and_move_the_arm(stream, tape, tmp_path):
    write_rerun(tape, ARM, tmp_path / 'run.rrd')
    turned = stream().at('joints/panda_joint1')
    assert [value.args[0] for _, value in turned] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert len(stream().at('joints/panda_finger_joint2')) == 4
    link = stream().at('arm/panda_link0/panda_link1')
    assert stamps(link)[0] is None
    x, y, z, w = link[4][1].quaternion.xyzw
    assert (x, y, z, w) == pytest.approx((0, 0, math.sin(0.15), math.cos(0.15)))


def test_the_speed_of_the_tip_is_beside_its_limit(stream, tape, tmp_path):
    write_rerun(tape, ARM, tmp_path / 'run.rrd')
    radius = np.linalg.norm(ARM.pose(np.array(HOME[:7]))[:2, 3])
    speeds = [value.args[0] for _, value in stream().at('tip/speed')]
    assert speeds == pytest.approx([radius * 2.0] * 3, rel=0.01)  # 0.1 rad in 0.05 s
    limits = [value.args[0] for t, value in stream().at('tip/limit') if t is not None]
    assert limits == [ARM.robot.limits.linear_speed] * 3


def test_the_arm_is_drawn_once_with_its_workspace(stream, tape, tmp_path):
    write_rerun(tape, ARM, tmp_path / 'run.rrd')
    once = {path: value for t, path, value in stream().logged if t is None}
    assert once['arm'] == 'z up'
    (size,) = once['arm/workspace'].sizes
    limits = ARM.robot.limits
    assert size == pytest.approx(np.subtract(limits.workspace_maximum, limits.workspace_minimum))
    kinds = [once[path].kind for path in once if '/shape' in path]
    assert set(kinds) <= {'Boxes3D', 'Cylinders3D', 'Ellipsoids3D'}
    assert len(kinds) == sum(len(link.shapes) for link in ARM.links)


def test_a_state_is_said_once_in_words(stream, tape, tmp_path):
    write_rerun(tape, ARM, tmp_path / 'run.rrd')
    said = stream().at('words/left/policy/status')
    assert [value.args[0] for _, value in said] == ['policy: acting']
    assert said[0][1].level == 'INFO'


def message(**fields):
    return SimpleNamespace(**fields)


def header(stamp_s):
    return message(stamp=message(sec=int(stamp_s), nanosec=0))


class Messages:
    """A recording of messages that are given."""

    def __init__(self, *records):
        self._records = records

    def topics(self):
        return {record.topic: record.type_name for record in self._records}

    def records(self, topics):
        return (record for record in self._records if record.topic in topics)


def test_reasons_plans_instructions_and_packed_images(stream, tmp_path):
    packed = io.BytesIO()
    Image.fromarray(images(1)[0]).save(packed, 'png')
    reason = message(code='tip_lag', text='the tip is behind', remedy='Check it.')
    point = message(x=0.1, y=0.2, z=0.3)
    counts = write_rerun(
        Messages(
            Record('/instruction', 'std_msgs/msg/String', message(data='pick it'), 5 * 10**9),
            Record('/other', 'std_msgs/msg/String', message(data='no'), 5 * 10**9),
            Record('/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray', message(), 0),
            Record('/p/state', 'worldvla_ros/msg/PlayerState',
                   message(header=header(6), reasons=[reason]), 0),
            Record('/planned_path', 'visualization_msgs/msg/MarkerArray',
                   message(markers=[message(points=[point, point])]), 7 * 10**9),
            Record('/cam', 'sensor_msgs/msg/CompressedImage',
                   message(header=header(8), format='png', data=packed.getvalue()), 0),
            Record('/cam', 'sensor_msgs/msg/CompressedImage',
                   message(header=header(9), format='png', data=b'no image'), 0),
        ),
        ARM,
        tmp_path / 'run.rrd',
    )  # fmt: skip
    assert counts == {'/instruction': 1, '/p/state': 1, '/planned_path': 1, '/cam': 1}
    ((arrived_s, sentence),) = stream().at('words/instruction')
    assert (arrived_s, sentence.args[0]) == (5.0, 'instruction: pick it')
    ((stamp_s, said),) = stream().at('words/p/state')
    assert (stamp_s, said.args[0]) == (6.0, '[tip_lag] the tip is behind. Check it.')
    ((_, strip),) = stream().at('arm/plan')
    assert strip.args[0] == [[(0.1, 0.2, 0.3)] * 2]
    ((_, image),) = stream().at('/cam')
    np.testing.assert_array_equal(image.args[0], images(1)[0])


def test_without_the_package_it_says_what_to_install(monkeypatch, tape, tmp_path):
    monkeypatch.setitem(sys.modules, 'rerun', None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'worldvla_ros\[rerun\]'"):
        write_rerun(tape, ARM, tmp_path / 'run.rrd')


def test_the_command_names_the_file_and_what_is_in_it(stream, tape, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    assert main(['view', str(tmp_path / 'bag')]) == 0
    out = capsys.readouterr().out
    assert f'{tmp_path}/bag.rrd' in out
    assert '      4 /left/image' in out
    assert (tmp_path / 'bag.rrd').is_file()


def test_the_real_package_reads_what_it_wrote(tape, tmp_path):
    pytest.importorskip('rerun', reason=EXTRA)
    file = tmp_path / 'run.rrd'
    write_rerun(tape, ARM, file)
    done = subprocess.run(
        [sys.executable, '-m', 'rerun', 'rrd', 'verify', str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, 'RERUN_ANALYTICS': 'false'},
    )
    assert done.returncode == 0, done.stderr
    assert file.stat().st_size > 10_000
