"""What the launch files start against a mock, as processes: chunks come and the arm moves."""

import numpy as np
import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from probe import Probe, running
from sensor_msgs.msg import JointState
import yaml

from worldvla_ros.graph import describe
from worldvla_ros.msg import ActionChunk
from worldvla_ros.nodes.qos import JOINTS_QOS, LATCHED_QOS, RELIABLE_QOS
from worldvla_ros.robot.description import load_robot

pytestmark = pytest.mark.slow
STARTING_S = 120.0
MOVED_RAD = 0.03
LAUNCHES = {
    'franka servo': {'robot': 'fr3_servo', 'mock': 'sim'},
    'franka jtc': {'robot': 'fr3_jtc', 'mock': 'sim'},
    'franka crisp': {'robot': 'fr3_crisp', 'mock': 'sim'},
    'ur servo': {'robot': 'ur5e_servo', 'mock': 'nothing', 'sim': 'true'},
    'ur jtc': {'robot': 'ur5e_jtc', 'mock': 'nothing', 'sim': 'true'},
    'moveit_servo': {'robot': 'panda_servo', 'mock': 'sim'},
    'moveit_servo pose': {'robot': 'panda_servo', 'mock': 'sim', 'output': 'pose'},
}
"""Launch files and the arguments that matter, as `worldvla up` takes them."""


@pytest.fixture
def probe():
    made = Probe()
    yield made
    made.close()


@pytest.fixture
def patient(tmp_path):
    """A parameter file with patience for a machine that does much else."""
    given = {'max_image_age': 10.0, 'max_joint_age': 10.0, 'follow_timeout': 10.0}
    file = tmp_path / 'patient.yaml'
    file.write_text(yaml.safe_dump({'/**': {'ros__parameters': given}}))
    return str(file)


@pytest.mark.parametrize('launch', LAUNCHES)
def test_a_launch_moves_a_mocked_arm_with_what_the_wheels_have(probe, patient, launch):
    arguments = LAUNCHES[launch]
    names = load_robot(arguments['robot']).joints.names
    nodes = describe({
        'dry_run': 'false', 'instruction': 'pick up the red cube', 'imagine': 'false',
        'params_file': patient, **arguments,
    })  # fmt: skip
    probe.listen(JointState, 'joint_states', JOINTS_QOS)
    probe.listen(ActionChunk, 'action_chunk', RELIABLE_QOS)
    probe.listen(DiagnosticArray, 'mock_controller/status', LATCHED_QOS)

    def moved():
        heard = [m for m in probe.heard['joint_states'] if set(names) <= set(m.name)]
        if len(heard) < 2 or not probe.heard['action_chunk']:
            return False
        places = [dict(zip(m.name, m.position, strict=True)) for m in (heard[0], heard[-1])]
        way = [places[1][name] - places[0][name] for name in names]
        return np.abs(way).max() > MOVED_RAD

    with running(*nodes) as processes:
        try:
            probe.until(moved, f'{launch} to move', STARTING_S)
        except AssertionError:
            pytest.fail(processes.output.getvalue()[-4000:])
    said = [s.message for m in probe.heard['mock_controller/status'] for s in m.status]
    assert not [words for words in said if 'dropped' in words]
