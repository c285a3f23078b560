"""The table of injected faults: what its monitor calls a violation, and a short run of it."""

import json
import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from studies.faults import run, table
from studies.faults.contract import REASONS
from studies.faults.graph import Log, robot_file
from studies.faults.limits import Judge, Limits, pose

ROOT = Path(__file__).parent.parent.parent
HOME = np.array([0.0, -0.1, 0.0, -2.2, 0.0, 2.1, 0.785])
FRAME = 'panda_link0'


@pytest.fixture
def judge():
    made = Judge(Limits.read(robot_file()))
    made.measured(10.0, HOME)
    return made


def turned(joint, by):
    joints = HOME.copy()
    joints[joint] += by
    return joints


def trajectory(judge, sent_s, *points, times=None):
    times = np.array(times or [0.05 * (i + 1) for i in range(len(points))])
    return judge.trajectory(sent_s, judge.limits.names, times, np.array(points))


def test_its_kinematics_are_those_of_the_package():
    from worldvla_ros.robot.description import load_robot
    from worldvla_ros.robot.kinematics import Arm

    arm = Arm(load_robot('sim_panda'))
    for seed in range(20):
        joints = HOME + np.random.default_rng(seed).uniform(-0.5, 0.5, 7)
        assert np.allclose(pose(joints), arm.pose(joints), atol=1e-9)


class TestTwists:
    def test_a_slow_one_inside_is_right(self, judge):
        assert judge.twist(10.02, FRAME, np.array([0.1, 0, 0]), np.zeros(3)) == []

    @pytest.mark.parametrize(
        ('linear', 'angular', 'words'),
        [
            ([0.76, 0, 0], [0, 0, 0], 'linear speed 0.760 of at most 0.75'),
            ([0, 0, 0], [0, 3.6, 0], 'angular speed 3.600 of at most 3.5'),
            ([np.nan, 0, 0], [0, 0, 0], 'not finite'),
        ],
    )
    def test_a_wrong_one_is_named(self, judge, linear, angular, words):
        assert words in judge.twist(10.02, FRAME, np.array(linear), np.array(angular))[0]

    def test_another_frame_is_named(self, judge):
        assert judge.twist(10.02, 'camera', np.zeros(3), np.zeros(3)) == [
            "twist in frame 'camera'"
        ]

    def test_one_that_leads_out_of_the_workspace_is_named(self, judge):
        tip = pose(HOME)[:3, 3]
        judge.limits.high[2] = tip[2] + 0.005
        upwards = np.array([0, 0, 0.5])
        found = judge.twist(10.02, FRAME, upwards, np.zeros(3))
        assert found == ['twist leads 20.0 mm out of the workspace']
        assert judge.twist(10.02, FRAME, -upwards, np.zeros(3)) == []


class TestTrajectories:
    def test_a_small_step_is_right(self, judge):
        assert trajectory(judge, 10.02, turned(0, 0.05)) == []

    def test_a_jump_from_the_measured_joints_is_named(self, judge):
        assert 'rad from the measured joints' in trajectory(judge, 10.02, turned(6, 0.5))[0]

    def test_a_jump_from_the_trajectory_before_is_named(self, judge):
        trajectory(judge, 10.00, HOME)
        found = trajectory(judge, 10.05, turned(6, 0.29))
        assert any('from the trajectory before' in text for text in found)

    def test_a_joint_that_is_too_fast_within_it_is_named(self, judge):
        found = trajectory(judge, 10.02, HOME, turned(6, 0.2))
        assert found[0] == 'joint at 1.53 times its limit of speed within a trajectory'

    def test_a_joint_beyond_its_limit_is_named(self, judge):
        judge.measured(10.01, turned(6, 2.0))
        assert 'beyond its limit' in trajectory(judge, 10.02, turned(6, 2.2))[0]

    def test_other_joints_are_named(self, judge):
        found = judge.trajectory(10.02, ['a'] * 7, np.array([0.05]), HOME[None])
        assert found[0].startswith('trajectory of')

    def test_a_time_that_does_not_rise_is_named(self, judge):
        found = trajectory(judge, 10.02, HOME, turned(6, 0.01), times=[0.05, 0.05])
        assert found == ['times do not rise within a trajectory']

    def test_whether_it_moves_is_seen(self, judge):
        assert judge.moves(10.02, turned(0, 0.01)[None])
        assert not judge.moves(10.02, HOME[None])


def test_the_true_tip_outside_of_the_workspace_is_measured(judge):
    judge.measured(10.1, turned(1, -0.6))
    assert judge.farthest_m > 0.05


def test_a_traceback_is_found_with_the_line_that_ended_it():
    log = Log()
    lines = ['all is well', 'Traceback (most recent call last):', '  File "a.py"', 'ValueError: x']
    log.write('\n'.join(f'[sim] {line}' for line in lines))
    assert log.tracebacks(0) == ['ValueError: x']
    assert log.tracebacks(2) == []


def every_fault():
    for family in run.FAMILIES:
        asked = type('Asked', (), {'only': [], 'short': False})
        yield from run.chosen(asked, family)


def test_there_are_many_faults_with_names_of_their_own_and_known_reasons():
    faults = list(every_fault())
    assert len(faults) >= 100
    assert len({fault.name for fault in faults}) == len(faults)
    assert {fault.reason for fault in faults} <= {'', *REASONS}
    assert {fault.name for fault in faults} >= run.SHORT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_dozen_faults_hold(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'studies.faults.run', '--short', '--out', str(tmp_path)],
        cwd=ROOT, env={**os.environ, 'PYTHONPATH': f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / 'faults.json').read_text())['faults']
    assert len(rows) == len(run.SHORT)
    assert all(row['verdict'] == 'held' for row in rows)
    page = (tmp_path / 'faults.md').read_text()
    assert page.startswith('# Injected faults')
    assert all(row['name'] in page for row in rows)


def test_a_cell_of_the_table_is_one_line_without_bars():
    assert table._cell('a | b\n<c>') == 'a \\| b &lt;c>'
