"""What the simulated arm says for RViz and Foxglove: its URDF, its frames, its cameras."""

import sys

import numpy as np
import pytest

pytest.importorskip('rclpy')
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from test_sim_node import World

from worldvla_ros.nodes.qos import LATCHED_QOS, SENSOR_QOS, STATES_QOS
from worldvla_ros.nodes.runtime import seconds
from worldvla_ros.nodes.sim_frames import TF_QOS, TF_STATIC_QOS
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.frames import FrameTree, Transform, matrix
from worldvla_ros.robot.kinematics import Arm
from worldvla_ros.robot.urdf import arm_urdf, read_urdf

ROBOT = load_robot('sim_panda')


@pytest.fixture
def world(lookalikes):
    made = World('image_size:=64')
    yield made
    made.close()


def hear(world, cls, topic, qos):
    heard = []
    world.user.create_subscription(cls, topic, heard.append, qos)
    return heard


def put(tree, messages, static):
    for stamped in (t for message in messages for t in message.transforms):
        move, turn = stamped.transform.translation, stamped.transform.rotation
        pose = matrix(
            np.array([move.x, move.y, move.z]), np.array([turn.x, turn.y, turn.z, turn.w])
        )
        stamp_s = np.inf if static else seconds(stamped.header.stamp)
        tree.put(stamped.child_frame_id, Transform(stamped.header.frame_id, pose, stamp_s))


def test_the_tip_and_the_cameras_hang_in_one_tree_that_agrees_with_the_joints(world):
    from tf2_msgs.msg import TFMessage

    moving = hear(world, TFMessage, '/tf', TF_QOS)
    still = hear(world, TFMessage, '/tf_static', TF_STATIC_QOS)
    states = hear(world, JointState, 'joint_states', STATES_QOS)
    world.start()
    world.until(lambda: moving and still and states, 'frames and joints')
    message = moving[-1]
    stamp = message.transforms[0].header.stamp
    world.until(lambda: any(s.header.stamp == stamp for s in states), 'the joints of that time')
    [state] = [s for s in states if s.header.stamp == stamp]
    tree = FrameTree()
    put(tree, [message], static=False)
    put(tree, still, static=True)
    tip = tree.pose(ROBOT.base_frame, ROBOT.tip_frame)
    np.testing.assert_allclose(tip.pose, Arm(ROBOT).pose(np.array(state.position[:7])), atol=1e-6)
    assert tip.stamp_s == pytest.approx(seconds(stamp))
    for camera in ('front_camera', 'wrist_camera'):
        assert tree.pose(ROBOT.base_frame, camera) is not None
    assert tree.pose('front_camera', 'front_camera').pose[2, 3] == 0


def test_a_new_scene_says_again_where_its_cameras_are(world):
    from tf2_msgs.msg import TFMessage

    still = hear(world, TFMessage, '/tf_static', TF_STATIC_QOS)
    world.start()
    world.until(lambda: still, 'the cameras')
    count = len(still)
    assert world.reset(seed=8002).success
    world.until(lambda: len(still) > count, 'the cameras of the new scene')
    before, after = (m.transforms[0].transform.translation.x for m in (still[0], still[-1]))
    assert 0 < abs(before - after) < 0.01  # the camera is varied by some millimetres


def test_the_urdf_is_latched_and_is_the_arms(world):
    world.start()
    heard = hear(world, String, 'robot_description', LATCHED_QOS)
    world.until(lambda: heard, 'the URDF')
    assert arm_urdf(heard[0].data, ROBOT) == arm_urdf(read_urdf(ROBOT), ROBOT)
    assert '<visual>' in heard[0].data


def stamps(messages):
    return {seconds(message.header.stamp) for message in messages}


@pytest.mark.parametrize(
    ('image', 'info'), [('image', 'camera_info'), ('wrist_image', 'wrist_camera_info')]
)
def test_each_image_comes_with_how_its_camera_projects(world, image, info):
    images = hear(world, Image, image, SENSOR_QOS)
    infos = hear(world, CameraInfo, info, SENSOR_QOS)
    world.start()
    world.until(lambda: stamps(images) & stamps(infos), 'both of one time')
    found = infos[-1]
    assert (found.width, found.height) == (images[-1].width, images[-1].height) == (64, 64)
    assert found.header.frame_id == images[-1].header.frame_id
    assert list(found.d) == [0.0] * 5
    assert found.k[2] == found.k[5] == 31.5
    assert list(found.p) == [*found.k[:3], 0, *found.k[3:6], 0, *found.k[6:], 0]
    assert list(found.r) == np.eye(3).ravel().tolist()


def test_they_are_not_published_where_others_do(lookalikes):
    world = World('publish_frames:=false')
    try:
        world.start()
        topics = {name for name, _ in world.node.get_publisher_names_and_types_by_node('sim', '/')}
        assert not topics & {'/robot_description', '/tf', '/tf_static', '/camera_info'}
    finally:
        world.close()


def test_without_tf2_msgs_the_rest_is_published(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tf2_msgs.msg', None)
    world = World()
    try:
        heard = hear(world, String, 'robot_description', LATCHED_QOS)
        world.start()
        world.until(lambda: heard, 'the URDF')
        topics = {name for name, _ in world.node.get_publisher_names_and_types_by_node('sim', '/')}
        assert '/tf' not in topics
    finally:
        world.close()


def test_frames_of_an_arm_in_a_namespace_stay_there(lookalikes):
    world = World(namespace='left')
    try:
        world.start()
        publishers = world.node.get_publisher_names_and_types_by_node('sim', '/left')
        assert {'/left/tf', '/left/tf_static'} <= {name for name, _ in publishers}
    finally:
        world.close()
