"""The graph in two halves: one encodes and moves the arm, the other one has the transformer."""

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')
from geometry_msgs.msg import TwistStamped
from probe import Probe, running

from worldvla_ros.graph import describe
from worldvla_ros.msg import ActionChunk, ImageTokens
from worldvla_ros.nodes.qos import RELIABLE_QOS


@pytest.fixture
def probe():
    made = Probe()
    yield made
    made.close()


def test_an_arm_moves_by_tokens_and_no_image_crosses(probe, tmp_path):
    # patience with a machine that does much else
    patient = {'/**': {'ros__parameters': {'max_image_age': 10.0, 'max_joint_age': 10.0}}}
    file = tmp_path / 'patient.yaml'
    file.write_text(yaml.safe_dump(patient))
    common = {'params_file': str(file)}
    robot = describe({'policy': 'false', 'tokenizer': 'true', 'sim': 'true', **common})
    gpu = describe({
        'sim': 'false', 'action_player': 'false', 'input': 'tokens',
        'instruction': 'pick up the red cube', **common,
    })  # fmt: skip
    probe.listen(ActionChunk, 'action_chunk', RELIABLE_QOS)
    probe.listen(ImageTokens, 'imagined_tokens', RELIABLE_QOS)
    probe.listen(TwistStamped, 'delta_twist_cmds', RELIABLE_QOS)
    with running(*robot, *gpu):
        chunk = probe.next('action_chunk')
        assert chunk.instruction == 'pick up the red cube'
        tokens = probe.next('imagined_tokens')
        assert (tokens.rows, tokens.columns, tokens.camera) == (8, 8, 'front')
        hears = probe.node.get_subscriptions_info_by_topic('/image')
        assert {info.node_name for info in hears} == {'tokenizer'}
        heard = probe.node.get_subscriptions_info_by_topic('/image_tokens')
        assert {info.node_name for info in heard} == {'policy', 'world_model'}

        def moves(message):
            linear = message.twist.linear
            return np.linalg.norm([linear.x, linear.y, linear.z]) > 0

        twists = probe.heard['delta_twist_cmds']
        probe.until(lambda: any(map(moves, twists)), 'the arm to move')
