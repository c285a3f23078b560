"""A polled subscription hands over what has come when it is asked, and not before."""

import pytest

pytest.importorskip('rclpy')
from probe import InProcess
from std_msgs.msg import String

from worldvla_ros.nodes import polled
from worldvla_ros.nodes.qos import EVERY_JOINT_QOS
from worldvla_ros.nodes.runtime import ManagedNode


class Listener(ManagedNode):
    """Polls one topic."""

    def __init__(self):
        super().__init__('listener')

    def configure(self):
        self.words = self.poll(String, 'words', EVERY_JOINT_QOS)


@pytest.fixture
def on():
    made = InProcess(Listener)
    made.wait_state('active')
    publishers = [made.node.create_publisher(String, 'words', 100) for _ in range(2)]
    made.until(lambda: all(p.get_subscription_count() for p in publishers), 'the listener')
    made.publishers = publishers
    yield made
    made.close()


def taken(on, count):
    """Return the words that come until there are so many, by asking."""
    found = []

    def enough():
        found.extend(message.data for message in on.nodes[0].words())
        return len(found) >= count

    on.until(enough, f'{count} words')
    return found


def test_everything_comes_once_and_in_order_a_slow_publisher_beside_a_fast_one(on):
    fast, slow = on.publishers
    slow.publish(String(data='slow'))
    for number in range(60):
        fast.publish(String(data=str(number)))
    found = taken(on, 61)
    assert [word for word in found if word != 'slow'] == [str(number) for number in range(60)]
    assert found.count('slow') == 1
    assert not list(on.nodes[0].words())


def test_the_executor_neither_takes_messages_nor_is_woken_by_them(on):
    [subscription] = [s for s in on.nodes[0].subscriptions if s.topic_name == '/words']
    assert not subscription.event_handlers
    assert not subscription.callback_group.can_execute(subscription)
    for number in range(3):
        on.publishers[0].publish(String(data=str(number)))
    on.spin(0.3)
    assert taken(on, 3) == ['0', '1', '2']


def test_one_question_is_answered_in_bounded_time(on, monkeypatch):
    monkeypatch.setattr(polled, 'MOST', 2)
    for number in range(5):
        on.publishers[0].publish(String(data=str(number)))
    first = []
    on.until(lambda: first.extend(m.data for m in on.nodes[0].words()) or first, 'a word')
    assert len(first) <= 2
    assert first + taken(on, 5 - len(first)) == ['0', '1', '2', '3', '4']


def test_clean_up_ends_it(on):
    on.nodes[0].trigger_deactivate()
    on.nodes[0].trigger_cleanup()
    on.until(lambda: not on.publishers[0].get_subscription_count(), 'the end of the subscription')


def test_an_override_of_its_quality_of_service_is_heeded(on):
    assert on.nodes[0].has_parameter('qos_overrides./words.subscription.depth')
