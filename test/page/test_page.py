"""What is on the page, asked of its own parts: no browser is needed to know what one is sent."""

import numpy as np
import pytest

pytest.importorskip('viser', reason='viser is not installed')

from worldvla_ros.page.drawing import edges
from worldvla_ros.page.page import LAST, NONE, Orders, Page, Scene
from worldvla_ros.page.server import serve
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm

ARM = Arm(load_robot('sim_panda'))
LIMITS = ARM.robot.limits
LOW, HIGH = LIMITS.workspace_minimum, LIMITS.workspace_maximum


@pytest.fixture(scope='module')
def given():
    return []


@pytest.fixture(scope='module')
def page(given):
    orders = Orders(
        instruct=lambda text: given.append(('say', text)),
        hold=lambda: given.append('hold'),
        enable=lambda on: given.append(('enable', on)),
        reset=lambda: given.append('reset'),
        record=lambda on: given.append(('record', on)),
    )
    server, _ = serve('127.0.0.1', 18480, '')
    made = Page(server, Scene('sim_panda', ARM.links, LOW, HIGH, 0.75), orders)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def forget(given):
    given.clear()


def test_nobody_looks_at_first(page):
    assert not page.watched


def test_a_state_is_text_and_never_markup(page):
    page.show_state('held', '<img src=x> *held* [a](b)')
    content = page._state.content
    assert content.startswith('<b style="color: #e67700">')
    inside = content.removeprefix('<b style="color: #e67700">').removesuffix('</b>')
    assert not set('<>*[]()') & set(inside)
    assert '&#60;img src=x&#62;' in inside


def test_instructions_are_remembered_newest_first_and_once(page):
    for number in range(LAST + 3):
        page.show_instruction(f'sentence {number}')
    page.show_instruction('sentence 7')
    page.show_instruction('  ')
    options = page._again.options
    assert options[:3] == (NONE, 'sentence 7', f'sentence {LAST + 2}')
    assert len(options) == len(set(options)) == LAST + 1
    assert page._form.label == 'instruction: sentence 7'


def test_a_sentence_is_ordered_without_what_surrounds_it(page, given):
    page._instruct('  push it \n')
    page._instruct('   ')
    assert given == [('say', 'push it')]


def test_buttons_are_there_where_there_is_something_to_order(page):
    assert not page._reset.visible
    page.offer(reset=True, record=False)
    assert (page._reset.visible, page._record.visible) == (True, False)
    page.show_recording(True)
    assert page._record.label == 'stop recording'
    page.show_recording(False)
    assert page._record.label == 'record'


def test_images_and_words_appear_when_there_are_some(page):
    image = np.full((8, 24, 3), 7, np.uint8)
    assert not page._images['imagined'].visible
    page.show_image('imagined', image)
    assert page._images['imagined'].visible
    np.testing.assert_array_equal(page._images['imagined'].image, image)
    page.show_words('task', 'scene 1: push: done')
    assert page._words['task'].visible
    page.show_words('task', '')
    assert not page._words['task'].visible


def test_the_chart_has_four_rows(page):
    page.speeds.put_tip(9.0, np.zeros(3))
    page.speeds.put_tip(10.0, np.array([0.5, 0, 0]))
    page.show_chart(10.0)
    times, measured, _, limit = page._chart.data
    assert measured[times == 0.0] == pytest.approx(0.5)
    assert (limit == 0.75).all()


def test_the_arm_is_put_where_its_joints_are(page):
    drawing = page.drawing
    drawing.move({'panda_joint1': 0.5, 'panda_finger_joint1': 0.03, 'wheel': 9.0})
    link, frame = drawing._joints['panda_joint1']
    position, quaternion = link.at(0.5)
    np.testing.assert_allclose(frame.wxyz, quaternion)
    np.testing.assert_allclose(frame.position, position)
    finger, frame = drawing._joints['panda_finger_joint1']
    assert np.linalg.norm(frame.position - finger.position) == pytest.approx(0.03)
    assert set(drawing._joints) == {*ARM.names, 'panda_finger_joint1', 'panda_finger_joint2'}


@pytest.mark.parametrize('points', [0, 1, 5])
def test_a_path_of_any_length_is_drawn(page, points):
    page.drawing.show_path(np.zeros((points, 3)), np.zeros((points, 3)))


def test_a_box_has_twelve_edges_between_its_corners():
    found = edges(np.zeros(3), np.array([1.0, 2.0, 3.0]))
    assert found.shape == (12, 2, 3)
    lengths = np.linalg.norm(found[:, 1] - found[:, 0], axis=1)
    assert sorted(lengths.tolist()) == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
    assert len({tuple(map(tuple, edge)) for edge in found}) == 12
