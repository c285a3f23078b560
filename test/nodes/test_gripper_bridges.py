"""Grippers: what is sent for a width, when, and what happens to goals that fail or stall."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')
from rclpy.task import Future

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes import bridges
from worldvla_ros.nodes.bridges.choice import BRIDGES, GRIPPERS
from worldvla_ros.robot.commander import KINDS
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.grasping import RETRY_S, STALLED_S
from worldvla_ros.robot.schema import CONTROLLER_TOPICS, GRIPPER_OUTPUTS

SIM = load_robot('sim_panda')


class FakeActions:
    """The client of an action: keeps goals; the test answers them."""

    def __init__(self, name):
        self.name, self.ready, self.goals, self.cancelled = name, True, [], 0

    def server_is_ready(self):
        return self.ready

    def send_goal_async(self, goal):
        self.goals.append((goal, Future()))
        return self.goals[-1][1]

    def accept(self, number=-1, accepted=True):
        """Answer a goal; returns the future of its result."""
        result = Future()
        handle = SimpleNamespace(
            accepted=accepted, get_result_async=lambda: result, cancel_goal_async=self._cancel
        )
        finish(self.goals[number][1], handle)
        return result

    def _cancel(self):
        self.cancelled += 1


def finish(future, value):
    """Resolve a future and run its callbacks, which an executor would do."""
    future.set_result(value)
    for callback in list(future._callbacks):
        callback(future)
    future._callbacks.clear()


class FakeNode:
    def __init__(self):
        self.sent, self.actions = {}, {}

    def publisher(self, cls, topic, qos):
        messages = self.sent.setdefault(topic, [])
        return SimpleNamespace(publish=messages.append)

    def action_client(self, cls, name):
        return self.actions.setdefault(name, FakeActions(name))


def gripper(kind, name='grip', **changes):
    output = replace(SIM.gripper.output, kind=kind, name=name, **changes)
    node = FakeNode()
    robot = replace(SIM, gripper=replace(SIM.gripper, output=output))
    return bridges.make_gripper(node, robot), node


def say(made, width, start_s, seconds=0.3):
    """Say a width every 50 ms."""
    for i in range(round(seconds / 0.05)):
        made.send(width, start_s + 0.05 * i)


@pytest.mark.parametrize(('half', 'sent'), [(False, 0.06), (True, 0.03)])
def test_a_width_is_published_on_a_change_and_20_times_per_second(half, sent):
    made, node = gripper('width', 'opening', half_width=half)
    for tick in range(500):
        made.send(0.06 if tick < 250 else 0.0, 10 + 0.002 * tick)
    said = [list(m.data) for m in node.sent['opening']]
    assert said == [[sent]] * 10 + [[0.0]] * 10
    assert made.problem() is None


def test_a_width_is_said_again_after_a_release_and_after_time_was_set_back():
    made, node = gripper('width', 'opening')
    made.send(0.06, 10.0)
    made.release()
    made.send(0.06, 10.01)
    made.send(0.06, 5.0)
    made.send(0.06, 5.01)
    assert len(node.sent['opening']) == 3


def test_no_gripper_is_told_nothing():
    made, node = gripper('none')
    say(made, 0.06, 0.0)
    made.release()
    assert made.problem() is None
    assert not node.sent
    assert not node.actions


def test_every_kind_that_a_description_may_name_has_a_gripper():
    assert tuple(GRIPPERS) == GRIPPER_OUTPUTS
    assert tuple(BRIDGES) == tuple(CONTROLLER_TOPICS) == KINDS


@pytest.mark.parametrize(('half', 'position'), [(False, 0.08), (True, 0.04)])
def test_gripper_command_sends_position_and_force(lookalikes, half, position):
    made, node = gripper('gripper_command', half_width=half, force=15.0)
    say(made, 0.08, 0.0)
    [(goal, _)] = node.actions['grip'].goals
    assert (goal.command.position, goal.command.max_effort) == (position, 15.0)


def test_an_angular_gripper_is_sent_its_angle(lookalikes):
    robot = load_robot('so101')
    node = FakeNode()
    made = bridges.make_gripper(node, robot)
    made.send(0.025, 0.0)
    [(goal, _)] = node.actions[robot.gripper.output.name].goals
    closed, opened = robot.gripper.joint_closed, robot.gripper.joint_open
    assert list(goal.command.name) == ['gripper']
    assert list(goal.command.position) == pytest.approx([closed + 0.25 * (opened - closed)])


def test_parallel_gripper_sends_a_joint_state(lookalikes):
    made, node = gripper('parallel_gripper', speed=0.2, force=15.0)
    say(made, 0.08, 0.0)
    [(goal, _)] = node.actions['grip'].goals
    assert list(goal.command.name) == ['panda_finger_joint1']
    assert list(goal.command.position) == [0.08]
    assert list(goal.command.velocity) == [0.2]
    assert list(goal.command.effort) == [15.0]


def test_an_old_control_msgs_is_refused(lookalikes, monkeypatch):
    import control_msgs.action

    monkeypatch.delattr(control_msgs.action, 'ParallelGripperCommand')
    with pytest.raises(ConfigError, match='Use gripper_command, or a newer ROS 2'):
        gripper('parallel_gripper')


def test_franka_moves_to_open_and_grasps_to_close(lookalikes):
    made, node = gripper('franka', 'fg/', speed=0.2, force=15.0)
    say(made, 0.08, 0.0)
    [(move, _)] = node.actions['fg/move'].goals
    assert (move.width, move.speed) == (0.08, 0.2)
    finish(node.actions['fg/move'].accept(), None)
    say(made, 0.0, 1.0)
    [(grasp, _)] = node.actions['fg/grasp'].goals
    assert (grasp.width, grasp.speed, grasp.force) == (0.0, 0.2, 15.0)
    assert (grasp.epsilon.inner, grasp.epsilon.outer) == (0.0, 0.08)
    finish(node.actions['fg/grasp'].accept(), None)
    say(made, 0.08, 2.0)
    assert len(node.actions['fg/move'].goals) == 2


@pytest.fixture
def one(lookalikes):
    made, node = gripper('gripper_command')
    return made, node.actions['grip']


def test_one_goal_at_a_time(one):
    made, action = one
    say(made, 0.08, 0.0)
    action.accept()
    say(made, 0.0, 0.3, 1.0)
    assert len(action.goals) == 1


def test_the_next_goal_goes_out_when_the_one_before_has_ended(one):
    made, action = one
    say(made, 0.08, 0.0)
    ended = action.accept()
    say(made, 0.0, 0.3)
    finish(ended, None)
    say(made, 0.0, 0.6)
    assert [goal.command.position for goal, _ in action.goals] == [0.08, 0.0]
    assert action.cancelled == 0


def test_a_goal_that_stalls_is_cancelled_and_replaced(one):
    made, action = one
    say(made, 0.08, 0.0)
    late = action.accept()
    say(made, 0.0, 0.3, STALLED_S)
    assert action.cancelled == 1
    assert len(action.goals) == 2
    action.accept()
    finish(late, None)  # the first goal's end is nobody's concern any more
    say(made, 0.08, 0.3 + STALLED_S, 1.0)
    assert len(action.goals) == 2


def test_a_late_acceptance_of_a_replaced_goal_is_ignored(one):
    made, action = one
    say(made, 0.08, 0.0)
    say(made, 0.0, 0.3, STALLED_S)
    assert len(action.goals) == 2
    action.accept(0, accepted=False)
    assert made.problem() is None


def test_a_missing_driver_is_said_and_tried_again(one):
    made, action = one
    action.ready = False
    say(made, 0.08, 0.0)
    assert made.problem().code == 'gripper_absent'
    assert 'grip' in made.problem().remedy
    assert made.problem().pending
    action.ready = True
    say(made, 0.08, RETRY_S - 0.3)
    assert not action.goals
    say(made, 0.08, RETRY_S)
    assert len(action.goals) == 1
    action.accept()
    assert made.problem() is None


def test_a_refused_goal_is_said(one):
    made, action = one
    say(made, 0.08, 0.0)
    action.accept(accepted=False)
    assert made.problem().code == 'gripper_refused'
    say(made, 0.08, 0.3)
    assert len(action.goals) == 1
    say(made, 0.08, 2.0)
    assert len(action.goals) == 2


def test_a_stop_sends_nothing(one):
    made, action = one
    say(made, 0.08, 0.0)
    finish(action.accept(), None)
    made.send(0.0, 1.0)
    made.release()
    made.send(0.0, 2.0)
    assert len(action.goals) == 1
