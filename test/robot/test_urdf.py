"""What is taken from a URDF, and what is refused before any C++ reads it."""

from dataclasses import replace

from arms import PLANAR, joint, link, planar, urdf
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pinocchio as pin
import pytest

from worldvla_ros.errors import RobotError
from worldvla_ros.robot.description import load_robot, robots_folder
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.urdf import MAX_BYTES, arm_urdf, read_urdf

PANDA_TEXT = (robots_folder() / 'urdf/panda.urdf').read_text()
Q = np.array([0.3, 0.6])


def refused(text, words, robot=None):
    with pytest.raises(RobotError, match=words) as caught:
        Arm(robot or planar(), text)
    assert caught.value.remedy
    return caught.value


def test_a_planar_arm_is_where_trigonometry_has_it():
    pose = Arm(planar(), urdf(*PLANAR)).pose(Q)
    x, y = np.cos(0.3) + np.cos(0.9), np.sin(0.3) + np.sin(0.9)
    expected = [[np.cos(0.9), -np.sin(0.9), 0, x], [np.sin(0.9), np.cos(0.9), 0, y],
                [0, 0, 1, 0], [0, 0, 0, 1]]  # fmt: skip
    np.testing.assert_allclose(pose, expected, atol=1e-12)


def test_joints_keep_the_descriptions_order_whatever_the_urdfs():
    parts = PLANAR[:4] + PLANAR[:3:-1]
    forward = Arm(planar(), urdf(*parts))
    backward = Arm(planar(names=('q2', 'q1'), start=(0.6, 0.3)), urdf(*PLANAR))
    np.testing.assert_allclose(backward.pose(Q[::-1]), forward.pose(Q), atol=1e-12)
    np.testing.assert_allclose(
        backward.jacobian(Q[::-1]), forward.jacobian(Q)[:, ::-1], atol=1e-12
    )
    found = backward.solve([0.5, 0.2], forward.pose(Q))
    np.testing.assert_allclose(found.joints, Q[::-1], atol=1e-5)


def test_everything_is_said_in_the_axes_of_the_base_frame():
    turned = (link('shown'), joint('turn', 'base', 'shown', '0.5 0 0.2', kind='fixed',
                                   rpy='0 0 1.5707963267948966', limit=''))  # fmt: skip
    plain, shown = (Arm(planar(base=base), urdf(*PLANAR, *turned)) for base in ('base', 'shown'))
    x, y = plain.pose(Q)[:2, 3]
    np.testing.assert_allclose(shown.pose(Q)[:3, 3], [y, -(x - 0.5), -0.2], atol=1e-12)
    linear = plain.jacobian(Q)[:3]
    np.testing.assert_allclose(
        shown.jacobian(Q)[:3], [linear[1], -linear[0], linear[2]], atol=1e-12
    )


def test_pinocchios_own_reading_of_the_whole_file_is_the_same():
    robot = load_robot('sim_panda')
    arm, model = Arm(robot), pin.buildModelFromXML(PANDA_TEXT)
    data = model.createData()
    tip = model.getFrameId('panda_hand_tcp')
    for joints in np.random.default_rng(0).uniform(arm.minimum, arm.maximum, (20, 7)):
        pin.framesForwardKinematics(model, data, np.append(joints, [0.0, 0.0]))
        np.testing.assert_allclose(arm.pose(joints), data.oMf[tip].homogeneous, atol=1e-12)
    np.testing.assert_allclose(arm.minimum, model.lowerPositionLimit[:7])
    np.testing.assert_allclose(arm.maximum, model.upperPositionLimit[:7])
    np.testing.assert_allclose(arm.velocity, model.velocityLimit[:7])


def test_the_tighter_of_both_limits_holds():
    limits = {'minimum': (-3.0, -1.0), 'maximum': (1.0, 3.0), 'velocity': (1.0, 9.0)}
    arm = Arm(planar(joints=limits), urdf(*PLANAR))
    assert arm.minimum.tolist() == [-2.0, -1.0]
    assert arm.maximum.tolist() == [1.0, 2.0]
    assert arm.velocity.tolist() == [1.0, 1.5]
    assert arm.acceleration.tolist() == [5.0, 5.0]
    assert arm.jerk.tolist() == [50.0, 50.0]


def test_limits_are_not_changed_by_whoever_reads_them():
    arm = Arm(planar(), urdf(*PLANAR))
    for array in (arm.minimum, arm.maximum, arm.velocity, arm.acceleration, arm.jerk, arm.start):
        with pytest.raises(ValueError, match='read-only'):
            array[0] = 9.0


def test_limits_that_leave_no_room_are_refused():
    degrees = {'minimum': (30.0, 30.0), 'maximum': (60.0, 60.0)}
    refused(urdf(*PLANAR), 'joint q1: expected limits of the description within',
            planar(joints=degrees, start=()))  # fmt: skip


@pytest.mark.parametrize(
    ('kind', 'limit', 'field'),
    [
        ('continuous', '', 'minimum'),
        ('continuous', '<limit velocity="1" effort="1"/>', 'minimum'),
        ('revolute', '', 'minimum'),
        ('revolute', '<limit lower="-1" upper="1" effort="1"/>', 'velocity'),
        ('revolute', '<limit lower="-1" upper="1" velocity="0" effort="1"/>', 'velocity'),
    ],
)
def test_a_limit_that_stands_nowhere_is_asked_for(kind, limit, field):
    parts = (*PLANAR[:4], joint('q1', 'base', 'one', kind=kind, limit=limit), *PLANAR[5:])
    error = refused(urdf(*parts), f'joint q1 has no limit: expected {field} in')
    assert error.remedy == f'Add joints.{field} to the robot description.'


def test_a_joint_that_turns_for_ever_has_the_descriptions_limits():
    parts = (*PLANAR[:4], joint('q1', 'base', 'one', kind='continuous', limit=''), *PLANAR[5:])
    limits = {'minimum': (-9.0, -9.0), 'maximum': (9.0, 9.0), 'velocity': (1.0, 1.0)}
    arm = Arm(planar(joints=limits), urdf(*parts))
    assert (arm.minimum[0], arm.maximum[0]) == (-9.0, 9.0)
    whole = Arm(planar(), urdf(*PLANAR)).pose([0.3, 0.6])
    np.testing.assert_allclose(arm.pose([0.3 + 2 * np.pi, 0.6]), whole, atol=1e-12)


def test_other_joints_are_locked_and_fingers_stay_with_the_arm():
    finger = joint('finger', 'two', 'pad', '1 0 0', kind='prismatic', axis='0 1 0',
                   limit='<limit lower="0.01" upper="0.04" velocity="1" effort="1"/>')  # fmt: skip
    wheel = joint('wheel', 'base', 'rim', kind='continuous', limit='')
    text = urdf(*PLANAR, link('pad'), finger, link('rim'), wheel)
    part = arm_urdf(text, planar(gripper=('finger',)))
    assert part.locked == {'finger': 0.01}
    assert 'rim' not in part.xml
    arm = Arm(planar(gripper=('finger',), tip='pad'), text)
    np.testing.assert_allclose(arm.pose([0, 0])[:3, 3], [2.0, 0.01, 0.0], atol=1e-12)


def test_a_joint_may_have_the_name_of_a_link():
    parts = (*PLANAR[:4], *(part.replace('"q1"', '"one"') for part in PLANAR[4:]))
    arm = Arm(planar(names=('one', 'q2')), urdf(*parts))
    np.testing.assert_allclose(arm.pose(Q), Arm(planar(), urdf(*PLANAR)).pose(Q), atol=1e-12)


def test_meshes_are_left_out_and_named():
    mesh = link('two', '<mesh filename="package://somewhere/link.stl"/>')
    part = arm_urdf(urdf(*PLANAR[:2], mesh, *PLANAR[3:]), planar())
    assert part.meshes == ('two',)
    assert part.shapes == ('base', 'one')
    assert 'mesh' not in part.xml


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'names': ('q1', 'q9')}, r"names: expected joints of the URDF \(q1, q2\), got 'q9'"),
        ({'tip': 'hand'}, r"tip_frame: expected a link .*\(base, one, two, tip\), got 'hand'"),
        ({'base': 'world'}, r"base_frame: expected a link of the URDF .*, got 'world'"),
        ({'tip': 'one'}, r"expected joints between base and one \(q1\), got 'q2'"),
        ({'base': 'two'}, r"expected joints between two and tip \(fixed\), got 'q1'"),
        ({'base': 'tip', 'tip': 'base'}, r"expected joints between tip and base \(\), got 'q1'"),
        ({'names': ('q1',), 'start': (0.3,)}, "'q2' between base and tip: expected a joint of"),
        ({'names': ('q2',), 'start': (0.3,)}, "'q1' between base and tip: expected a joint of"),
    ],
)  # fmt: skip
def test_a_description_that_does_not_fit_the_urdf_is_told_how(changed, words):
    refused(urdf(*PLANAR), words, planar(**changed))


@pytest.mark.parametrize(
    ('part', 'words'),
    [
        (joint('q1', 'base', 'one', kind='prismatic'), "joint 'q1': type: expected revolute or"),
        (joint('q1', 'base', 'one', kind='floating'), "joint 'q1': type: expected revolute or"),
        (joint('q1', 'base', 'one', kind='ball'), "joint 'q1': type: expected a type of URDF"),
        (joint('q1', 'base', 'one', inside='<mimic joint="q2"/>'), 'one that mimics another'),
        (joint('q1', 'base', 'nowhere'), "joint 'q1': child: expected a link of"),
        (joint('q1', 'nowhere', 'one'), "joint 'q1': parent: expected a link of the URDF"),
        (joint('q1', 'base', 'two'), "link 'two': expected one joint that carries it, got two"),
        (joint('q1', 'tip', 'one'), "expected a tree, got a circle"),
        (joint('q2', 'base', 'one'), "a joint: expected a name of its own, got 'q2'"),
        (joint('', 'base', 'one'), "a joint: expected a name of its own, got ''"),
        (joint('q1', 'base', 'one', axis='0 0 0'), "axis of joint 'q1': expected a direction"),
        (joint('q1', 'base', 'one', axis='0 0'), "axis of joint q1': xyz: expected 3 finite"),
        (joint('q1', 'base', 'one', 'a b c'), "origin of q1': xyz: expected 3 finite numbers"),
        (joint('q1', 'base', 'one', 'nan 0 0'), "origin of q1': xyz: expected 3 finite numbers"),
        (joint('q1', 'base', 'one', 'inf 0 0'), "origin of q1': xyz: expected 3 finite numbers"),
        (joint('q1', 'base', 'one', '100.1 0 0'), "of at most 100, got '100.1 0 0'"),
        (joint('q1', 'base', 'one', limit='<limit lower="2" upper="1"/>'), 'got 2.0 and 1.0'),
        (joint('q1', 'base', 'one', limit='<limit lower="x" upper="1"/>'), 'lower: expected a'),
    ],
)  # fmt: skip
def test_a_joint_that_cannot_be_moved_is_named(part, words):
    refused(urdf(*PLANAR[:4], part, *PLANAR[5:]), words)


@pytest.mark.parametrize(
    'shape',
    ['<sphere radius="0"/>', '<sphere radius="-1"/>', '<sphere/>', '<box size="1 1"/>',
     '<cylinder radius="1" length="nan"/>', '<box size="1 1 1e9"/>'],
)  # fmt: skip
def test_a_shape_that_is_none_is_refused(shape):
    refused(urdf(link('base', shape), *PLANAR[1:]), 'base')


@pytest.mark.parametrize(
    'text', ['', 'no', '<robot', '<robot></robot', '\x00', '\ud800', '<a/><b/>']
)
def test_what_is_no_xml_is_refused(text):
    refused(text, 'the URDF of robot planar is not XML')


def test_another_document_is_refused():
    refused('<html/>', "expected the element robot, got 'html'")
    refused('<robot/>', 'base_frame: expected a link of the URDF')


def test_a_urdf_may_be_as_large_as_that_and_no_larger():
    blank = ' ' * (MAX_BYTES - len(urdf(*PLANAR)))
    assert Arm(planar(), urdf(*PLANAR, blank)).names == ('q1', 'q2')
    refused(
        urdf(*PLANAR, blank, ' '), f'expected at most {MAX_BYTES} characters, got {MAX_BYTES + 1}'
    )


def test_a_thousand_links_are_taken_and_no_more():
    many = ''.join(link(f'l{i}') for i in range(996))
    assert Arm(planar(), urdf(*PLANAR, many)).names == ('q1', 'q2')
    refused(urdf(*PLANAR, many, link('last')), 'links: expected at most 1000, got 1001')


def test_a_deep_document_does_not_end_the_process():
    refused(urdf('<a>' * 100_000 + '</a>' * 100_000), 'base_frame')


@pytest.mark.parametrize(
    'declared',
    [
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '',
    ],
)
def test_entities_are_not_read(declared):
    text = f'<!DOCTYPE robot [{declared}]>{urdf(*PLANAR)}'
    refused(text, 'a document type, which may declare entities, is not taken here')


def test_files_that_cannot_be_read_are_named(tmp_path):
    robot = planar()
    with pytest.raises(RobotError, match=r"urdf: expected a file.*'/nowhere.urdf'"):
        read_urdf(replace(robot, urdf='/nowhere.urdf'))
    with pytest.raises(RobotError, match='urdf: expected a file'):
        read_urdf(replace(robot, urdf=str(tmp_path)))
    with pytest.raises(RobotError, match='expected the text of /robot_description, got none yet'):
        read_urdf(replace(robot, urdf='topic'))
    (tmp_path / 'latin.urdf').write_bytes(b'<robot name="\xe4"/>')
    with pytest.raises(RobotError, match='latin.urdf is damaged'):
        read_urdf(replace(robot, urdf=str(tmp_path / 'latin.urdf')))
    (tmp_path / 'large.urdf').write_bytes(b' ' * (MAX_BYTES + 1))
    with pytest.raises(RobotError, match='large.urdf is too large'):
        read_urdf(replace(robot, urdf=str(tmp_path / 'large.urdf')))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_urdf_is_refused_or_read_but_never_ends_the_process(data):
    robot = load_robot('sim_panda')
    text = PANDA_TEXT
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 40))
        put = data.draw(
            st.sampled_from(['', '"', '<', '/>', '-', 'e999', 'nan', '1 2', 'fixed', '\x00'])
        )
        text = text[:at] + put + text[at + cut :]
    try:
        arm = Arm(robot, text)
    except RobotError:
        return
    assert np.isfinite(arm.pose(arm.start)).all()
