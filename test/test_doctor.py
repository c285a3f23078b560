"""What `worldvla doctor` says of a machine, and what it tells to do."""

from importlib.metadata import PackageNotFoundError
import json
from pathlib import Path

import pytest

from worldvla_ros import doctor
from worldvla_ros.cli.verbs import main
from worldvla_ros.doctor import NOTE, OK, PROBLEM


@pytest.mark.parametrize(
    ('version', 'state'),
    [((3, 9), PROBLEM), ((3, 10), OK), ((3, 13), OK), ((3, 14), PROBLEM)],
)
def test_versions_of_python(version, state):
    check = doctor.python_version(version)
    assert check.state == state
    assert check.text.startswith('.'.join(map(str, version)))
    assert bool(check.remedy) is (state == PROBLEM)


def test_missing_packages_are_problems_and_missing_extras_notes():
    def installed(name):
        if name in ('daqp', 'viser'):
            raise PackageNotFoundError(name)
        return '1.0'

    checks = {check.name: check for check in doctor.packages(installed)}
    assert (checks['packages'].state, checks['packages'].text) == (PROBLEM, 'missing: daqp')
    assert checks['viser'] == doctor.Check(
        'viser', NOTE, 'not installed; the page in the browser needs it',
        "pip install 'worldvla_ros[view]' installs it.",
    )  # fmt: skip
    assert checks['mujoco'].text == '1.0, for the simulated arm'
    assert all(check.state == OK for check in doctor.packages(lambda name: '1.0'))


def test_a_pointer_in_the_place_of_weights_is_a_problem(tmp_path):
    (tmp_path / 'model.safetensors').write_text('version https://git-lfs')
    assert doctor.demo_checkpoint(tmp_path).state == PROBLEM
    (tmp_path / 'model.safetensors').write_bytes(b'0' * 2_000_000)
    assert doctor.demo_checkpoint(tmp_path) == doctor.Check('demo checkpoint', OK, '2 MB')


@pytest.mark.parametrize(
    ('answer', 'state', 'words'),
    [
        (('rmw_fastrtps_cpp', ''), OK, 'humble, rmw_fastrtps_cpp'),
        (('', "ModuleNotFoundError: No module named 'worldvla_ros.msg'"), PROBLEM, 'colcon build'),
        (('', "ModuleNotFoundError: No module named 'rclpy'"), NOTE, 'Source a ROS 2'),
    ],
)
def test_ros_and_its_messages(monkeypatch, answer, state, words):
    monkeypatch.setattr(doctor, 'asked', lambda program: answer)
    check = doctor.middleware({'ROS_DISTRO': 'humble'})
    assert check.state == state
    assert words in f'{check.text} {check.remedy}'


def test_the_command_may_be_missing():
    assert doctor.commands(lambda name: None).state == NOTE
    assert doctor.commands(lambda name: '/opt/ros2').state == OK


class TestNetwork:
    def found(self, root, **environment):
        return {check.name: check for check in doctor.network(environment, root)}

    def test_how_far_discovery_reaches_is_said(self, tmp_path):
        assert self.found(tmp_path)['discovery'].text == 'domain 0, range SUBNET'
        local = self.found(tmp_path, ROS_LOCALHOST_ONLY='1', ROS_DOMAIN_ID='7')
        assert local['discovery'].text == 'domain 7, range LOCALHOST'

    def test_a_profile_that_is_not_there_is_a_problem(self, tmp_path):
        file = tmp_path / 'dds.xml'
        assert self.found(tmp_path, FASTDDS_DEFAULT_PROFILES_FILE=str(file))['DDS profile'].state
        file.write_text('<dds/>')
        found = self.found(tmp_path, FASTDDS_DEFAULT_PROFILES_FILE=str(file))
        assert 'DDS profile' not in found

    def test_the_default_of_fast_dds_loses_raw_images(self, tmp_path):
        check = self.found(tmp_path)['Fast DDS']
        assert (check.state, 'from 640 x 480 on get lost' in check.text) == (NOTE, True)
        [path] = [word.partition('=')[2] for word in check.remedy.split() if '=' in word]
        assert Path(path).is_file()
        given = {'FASTDDS_DEFAULT_PROFILES_FILE': path}
        assert 'Fast DDS' not in self.found(tmp_path, **given)
        assert 'Fast DDS' not in self.found(tmp_path, RMW_IMPLEMENTATION='rmw_cyclonedds_cpp')
        assert 'Fast DDS' in self.found(tmp_path, RMW_IMPLEMENTATION='rmw_fastrtps_cpp')

    @pytest.mark.parametrize(
        ('size', 'lost'), [('212992', True), ('2097152', False), ('?', False)]
    )
    def test_a_small_buffer_loses_images(self, tmp_path, size, lost):
        file = tmp_path / 'proc/sys/net/core/rmem_max'
        file.parent.mkdir(parents=True)
        file.write_text(size + '\n')
        found = self.found(tmp_path)
        assert ('UDP buffer' in found) is lost
        if lost:
            check = found['UDP buffer']
            assert (check.state, check.text.split(':')[0]) == (NOTE, 'UDP receives at most 0.2 MB')
            assert 'net.core.rmem_max=2097152' in check.remedy

    @pytest.mark.parametrize(('total_mb', 'state'), [(8, PROBLEM), (64, None)])
    def test_little_shared_memory_is_a_problem(self, tmp_path, monkeypatch, total_mb, state):
        (tmp_path / 'dev/shm').mkdir(parents=True)
        usage = type('Usage', (), {'total': total_mb << 20, 'free': 0})
        monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda path: usage)
        check = self.found(tmp_path).get('shared memory')
        assert (check and check.state) == state


@pytest.mark.parametrize(
    ('answer', 'state'),
    [
        (('llvmpipe', ''), OK),
        (('', "No module named 'mujoco'"), NOTE),
        (('', 'no EGL display'), PROBLEM),
    ],
)
def test_the_renderer(monkeypatch, answer, state):
    asked = []
    monkeypatch.setattr(doctor, 'asked', lambda *a: asked.append(a) or answer)
    assert doctor.renderer({}).state == state
    doctor.renderer({'MUJOCO_GL': 'osmesa'})
    assert [environment for _, environment in asked] == [
        {'MUJOCO_GL': 'egl'}, {'MUJOCO_GL': 'osmesa'},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ('answer', 'state'), [(('H100, 80 GiB', ''), OK), (('', ''), NOTE), (('', 'no torch'), NOTE)]
)
def test_gpus(monkeypatch, answer, state):
    monkeypatch.setattr(doctor, 'asked', lambda program: answer)
    assert doctor.graphics().state == state


@pytest.mark.parametrize(('free_kb', 'state'), [(1 << 20, PROBLEM), (2 << 20, OK)])
def test_memory(tmp_path, free_kb, state):
    (tmp_path / 'proc').mkdir()
    lines = f'MemTotal: {8 << 20} kB\nMemAvailable: {free_kb} kB\n'
    (tmp_path / 'proc/meminfo').write_text(lines)
    check = next(c for c in doctor.room(tmp_path) if c.name == 'memory')
    assert check.state == state
    assert check.text.startswith(f'{free_kb >> 20} of 8 GiB free, ')


def test_a_machine_without_meminfo_is_judged_by_its_disk(tmp_path):
    assert [check.name for check in doctor.room(tmp_path)] == ['disk']


def test_a_library_is_asked_in_a_process_of_its_own(monkeypatch):
    assert doctor.asked('print("one"); print("two")') == ('two', '')
    assert doctor.asked('pass') == ('', '')
    assert doctor.asked('import no_such_thing')[1].startswith('ModuleNotFoundError')
    assert doctor.asked('import os; os.abort()')[1].startswith('ended with status')
    assert doctor.asked('import os; print(os.environ["A"])', {'A': '7'}) == ('7', '')
    monkeypatch.setattr(doctor, 'ANSWER_S', 0.5)
    assert doctor.asked('import time; time.sleep(60)')[1].startswith('no answer within')


@pytest.mark.parametrize(('state', 'status'), [(OK, 0), (NOTE, 0), (PROBLEM, 1)])
def test_the_command_prints_a_line_each_and_ends_with_1_for_a_problem(
    monkeypatch, capsys, tmp_path, state, status
):
    checks = [doctor.Check('Python', OK, '3.11'), doctor.Check('disk', state, 'full', 'Free it.')]
    monkeypatch.setattr(doctor, 'examine', lambda: iter(checks))
    report = tmp_path / 'report.json'
    assert main(['doctor', '--json', str(report)]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        'ok       Python           3.11.',
        f'{state:8} disk             full.  Free it.',
    ]
    assert json.loads(report.read_text())['checks'][1]['remedy'] == 'Free it.'


def test_this_machine_can_run_the_tests():
    """Everything is asked for real: nothing here is a problem where the tests run."""
    assert [c for c in doctor.examine() if c.state == PROBLEM] == []
