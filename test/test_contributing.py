"""CONTRIBUTING.md names files and names that are there, and every place that a new kind needs."""

from pathlib import Path
import re

import pytest

from worldvla_ros.cli.parts import TASKS
from worldvla_ros.graph import ARGUMENTS
from worldvla_ros.robot.commander import JOINT_KINDS, KINDS, PLACE_KINDS
from worldvla_ros.robot.schema import CONTROLLER_TOPICS, GRIPPER_NAMES
from worldvla_ros.robot.spaces import JOINT_OUTPUTS, TIP_OUTPUTS
from worldvla_ros.sim import tabletop, tasks

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / 'CONTRIBUTING.md').read_text()


def test_it_says_how_to_add_a_robot_a_bridge_and_a_task():
    assert re.findall(r'^## How to add a (\w+)', TEXT, re.M) == ['robot', 'bridge', 'task']


def test_every_file_that_it_names_is_there():
    named = re.findall(
        r'`((?:worldvla_ros|test|tools|config|docs|\.ci|requirements|studies)/[\w./-]+)`', TEXT
    )
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_name_that_it_sends_you_to_is_in_its_file():
    """Such as: `KINDS` … of `worldvla_ros/robot/commander.py`, in the same numbered step."""
    looked_at = 0
    for section in re.split(r'^## ', TEXT, flags=re.M)[1:]:
        for step in re.split(r'^\d\. ', section, flags=re.M)[1:]:
            files = re.findall(r'`(worldvla_ros/[\w/]+\.py)`', step)
            sources = ''.join((ROOT / file).read_text() for file in files)
            for name in re.findall(r'`(_?[A-Z][A-Z_]+)`', step) if files else []:
                assert re.search(rf'^{name}\b', sources, re.M), f'{name} in {files}'
                looked_at += 1
    assert looked_at >= 12


def test_every_kind_of_controller_is_in_every_place_that_is_named():
    pytest.importorskip('rclpy')
    from worldvla_ros.nodes.bridges.choice import BRIDGES, GRIPPERS

    assert set(CONTROLLER_TOPICS) == set(KINDS) == set(BRIDGES)
    assert set(TIP_OUTPUTS) | set(JOINT_OUTPUTS) == set(KINDS)
    assert set(JOINT_KINDS) | set(PLACE_KINDS) <= set(KINDS)
    assert set(GRIPPER_NAMES) == set(GRIPPERS)


def test_every_task_is_in_every_place_that_is_named():
    kinds = set(tasks.KINDS)
    for table in (tasks._CANONICAL, tasks._VERBS, tasks._SUFFIXES, tasks.HELDOUT_PARAPHRASES):
        assert set(table) == kinds
    assert set(tabletop.MAX_STEPS) == set(TASKS) == set(ARGUMENTS['task'].choices) == kinds
