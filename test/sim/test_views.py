"""Where the simulated cameras are, against their pictures and MuJoCo's own poses."""

import numpy as np
import pytest

from worldvla_ros.nodes.sim_frames import CARRIERS
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.links import links
from worldvla_ros.robot.quaternions import product, rotated
from worldvla_ros.robot.urdf import arm_urdf, read_urdf
from worldvla_ros.sim.scene import COLOURS, FINGERS, JOINTS
from worldvla_ros.sim.tabletop import TabletopEnv
from worldvla_ros.sim.views import camera_matrix, view

SIZE = 128
ROBOT = load_robot('sim_panda')
LINKS = links(arm_urdf(read_urdf(ROBOT), ROBOT))


@pytest.fixture(scope='module')
def env():
    made = TabletopEnv(image_size=SIZE)
    yield made
    made.close()


def poses(env):
    """Return where each link is in the base, by the frames that are published."""
    joints = dict(zip((*JOINTS, *FINGERS), env.joint_positions().astype(float), strict=True))
    found = {'panda_link0': (np.zeros(3), np.array([1.0, 0, 0, 0]))}
    for link in LINKS:
        if link.parent:
            found[link.name] = composed(found[link.parent], link.at(joints.get(link.joint, 0.0)))
    return found


def composed(outer, inner):
    return outer[0] + rotated(outer[1], inner[0]), product(outer[1], inner[1])


def camera_pose(env, name):
    seen = view(env.model, name, SIZE)
    return composed(poses(env)[CARRIERS[seen.body]], (seen.position, seen.quaternion))


@pytest.mark.parametrize('seed', [1, 2, 3])
@pytest.mark.parametrize('name', ['front', 'wrist'])
def test_the_optical_frame_looks_as_mujocos_camera_does(env, seed, name):
    env.reset(seed=seed)
    position, quaternion = camera_pose(env, name)
    camera = env.data.camera(name)
    np.testing.assert_allclose(position, camera.xpos, atol=1e-4)
    right, up, back = camera.xmat.reshape(3, 3).T
    for axis, expected in zip(np.eye(3), (right, -up, -back), strict=True):
        np.testing.assert_allclose(rotated(quaternion, axis), expected, atol=1e-4)


def test_links_are_where_mujoco_has_them(env):
    env.reset(seed=4)
    found = poses(env)
    for link, body in (
        ('panda_link4', 'link4'),
        ('panda_hand', 'hand'),
        ('panda_leftfinger', 'finger1'),
        ('panda_rightfinger', 'finger2'),
    ):
        np.testing.assert_allclose(found[link][0], env.data.body(body).xpos, atol=1e-4)
    np.testing.assert_allclose(found['panda_hand_tcp'][0], env.tcp_pose()[0], atol=1e-4)


@pytest.mark.parametrize('seed', [5, 6])
def test_a_cube_lies_in_the_picture_where_it_is_projected_to(env, seed):
    env.reset(seed=seed)
    position, quaternion = camera_pose(env, 'front')
    matrix = view(env.model, 'front', SIZE).matrix
    image = env.render_camera('front').astype(float)
    backwards = quaternion * np.array([1, -1, -1, -1])
    for colour in env.colours:
        column, row, depth = matrix @ rotated(backwards, env.cube(colour) - position)
        wanted = np.array(COLOURS[colour]) / np.linalg.norm(COLOURS[colour])
        shades = image / np.maximum(np.linalg.norm(image, axis=2, keepdims=True), 1)
        rows, columns = np.nonzero((shades @ wanted > 0.97) & (image.max(axis=2) > 60))
        assert len(rows) > 20, colour
        # the middle of what is seen of a cube is not quite that of the cube
        assert abs(columns.mean() - column / depth) < 2.5, colour
        assert abs(rows.mean() - row / depth) < 2.5, colour


def test_the_matrix_is_that_of_a_pinhole():
    matrix = camera_matrix(np.pi / 2, 100)  # the edges are as far to the side as in front
    np.testing.assert_allclose(matrix, [[50, 0, 49.5], [0, 50, 49.5], [0, 0, 1]])
