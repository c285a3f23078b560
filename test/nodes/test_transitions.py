"""A transition that a node's state does not have is refused, in every distribution of ROS 2."""

import pytest

pytest.importorskip('rclpy')
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from probe import InProcess
from rclpy.lifecycle import TransitionCallbackReturn

from worldvla_ros.nodes.runtime import ManagedNode


class Counting(ManagedNode):
    """Counts its timer."""

    def __init__(self):
        self.ticks = 0
        super().__init__('node')

    def configure(self):
        self.every(0.01, self.tick)

    def tick(self):
        self.ticks += 1


@pytest.fixture
def on():
    made = InProcess(Counting)
    made.wait_state('active')
    yield made
    made.close()


@pytest.mark.parametrize(
    'transition',
    [
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_CLEANUP,
        99,
    ],
)
def test_an_impossible_transition_is_refused_and_the_node_works_on(on, transition):
    [node] = on.nodes
    request = ChangeState.Request(transition=Transition(id=transition))
    assert not on.call(ChangeState, 'node/change_state', request).success
    before = node.ticks
    on.until(lambda: node.ticks > before + 3, 'the timer to go on')
    assert node.active
    assert not node.fatal


def test_a_possible_transition_is_made(on):
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    assert on.call(ChangeState, 'node/change_state', request).success
    assert not on.nodes[0].active


def test_an_impossible_transition_in_the_process_is_an_error_that_is_returned(on):
    [node] = on.nodes
    assert node.trigger_activate() == TransitionCallbackReturn.ERROR
    assert node.trigger_cleanup() == TransitionCallbackReturn.ERROR
    assert node.active
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
