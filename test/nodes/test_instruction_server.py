"""The action execute_instruction: every way in which a goal ends."""

import math

import pytest

pytest.importorskip('rclpy')
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from probe import InProcess
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger

from worldvla_ros.action import ExecuteInstruction
from worldvla_ros.msg import ActionChunk, TaskState
from worldvla_ros.nodes.instruction_server import InstructionServerNode
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS

Outcome = ExecuteInstruction.Result
RED = 'pick up the red cube'
PLAIN_QOS = QoSProfile(depth=10)


class Bench(InProcess):
    """The server between a client, a policy and a player, all played by the test."""

    def __init__(self, hold=True, **parameters):
        super().__init__(InstructionServerNode, **parameters)
        self.client = ActionClient(self.node, ExecuteInstruction, 'execute_instruction')
        self.feedback = []
        self._present = {}
        self.node.create_timer(0.1, self._repeat)
        self.holds = 0
        self.listen(String, 'instruction', LATCHED_QOS)
        if hold:
            self.node.create_service(Trigger, 'action_player/hold', self._on_hold)
        self.wait_state('active')
        self.until(self.client.server_is_ready, 'the server')

    def _on_hold(self, request, response):
        self.holds += 1
        response.success, response.message = True, 'holding until ~/enable is called with true'
        return response

    def status(self, name, message, level=DiagnosticStatus.OK, mode='enabled'):
        values = [KeyValue(key='mode', value=mode)]
        status = DiagnosticStatus(level=level, name=f'/{name}', message=message, values=values)
        message = DiagnosticArray(status=[status])
        self.send(message, f'{name}/status', LATCHED_QOS)
        self._present[name] = message

    def _repeat(self):
        for name, message in self._present.items():
            self._publishers[f'{name}/status'].publish(message)

    def well(self):
        self.status('policy', 'acting', mode='')
        self.status('action_player', 'playing')

    def goal(self, instruction=RED, timeout=0.0):
        """Send a goal; return its handle once it is accepted or refused."""
        sent = self.client.send_goal_async(
            ExecuteInstruction.Goal(instruction=instruction, timeout=timeout),
            feedback_callback=lambda message: self.feedback.append(message.feedback),
        )
        self.until(sent.done, 'an answer to the goal')
        return sent.result()

    def result(self, handle):
        """Return (result, status) of a goal."""
        asked = handle.get_result_async()
        self.until(asked.done, 'the result')
        return asked.result().result, asked.result().status

    @property
    def words(self):
        return [m.data for m in self.heard['instruction']]

    def said(self, text):
        self.until(lambda: self.words and self.words[-1] == text, f'{text!r} to be said')


@pytest.fixture
def bench():
    made = []

    def make(**parameters):
        made.append(Bench(**parameters))
        return made[-1]

    yield make
    for each in made:
        each.client.destroy()
        each.close()


def test_a_goal_is_said_and_its_progress_is_fed_back(bench):
    on = bench()
    on.well()
    goal = on.goal(f' {RED} ')
    assert goal.accepted
    on.said(RED)
    for count, words in enumerate((RED, f'{RED} ', 'another', RED)):
        chunk = ActionChunk(chunk_id=count + 1, instruction=words)
        on.send(chunk, 'action_chunk', RELIABLE_QOS)
        counted = count + 1 if count < 3 else 3
        if words != 'another':
            on.until(lambda n=counted: on.feedback and on.feedback[-1].chunks == n, 'the chunk')
    on.until(lambda: on.feedback[-1].state == 'playing', 'what the player says')
    assert on.feedback[-1].chunks == 3
    assert on.feedback[-1].elapsed > on.feedback[0].elapsed >= 0
    assert math.isnan(on.feedback[-1].success_estimate)
    on.status('policy', 'no chunk: images too old', DiagnosticStatus.WARN, mode='')
    on.until(lambda: on.feedback[-1].state == 'no chunk: images too old', 'what the policy says')


def test_a_goal_is_finished_when_the_simulation_says_so(bench):
    on = bench()
    on.well()
    goal = on.goal()
    on.send(TaskState(instruction='another', success=True), 'sim/task_state', RELIABLE_QOS)
    on.until(lambda: on.feedback, 'feedback')
    assert math.isnan(on.feedback[-1].success_estimate)
    on.send(TaskState(instruction=RED, success=False), 'sim/task_state', RELIABLE_QOS)
    on.until(lambda: on.feedback and on.feedback[-1].success_estimate == 0.0, 'an estimate')
    on.send(TaskState(instruction=RED, success=True), 'sim/task_state', RELIABLE_QOS)
    result, status = on.result(goal)
    assert (result.outcome, status) == (Outcome.FINISHED, GoalStatus.STATUS_SUCCEEDED)
    assert result.success_estimate == 1.0
    on.said('')
    assert on.holds == 0


def test_a_goal_ends_when_its_time_is_up(bench):
    on = bench()
    on.well()
    result, status = on.result(on.goal(timeout=0.3))
    assert (result.outcome, status) == (Outcome.TIMED_OUT, GoalStatus.STATUS_ABORTED)
    assert result.elapsed >= 0.3
    assert math.isnan(result.success_estimate)
    assert 'not done within 0.3 s' in result.message
    on.said('')


def test_cancelling_holds_the_arm_and_takes_the_instruction_back(bench):
    on = bench()
    on.well()
    goal = on.goal()
    on.said(RED)
    cancelled = goal.cancel_goal_async()
    result, status = on.result(goal)
    assert cancelled.result().goals_canceling
    assert (result.outcome, status) == (Outcome.CANCELLED, GoalStatus.STATUS_CANCELED)
    assert on.holds == 1
    assert 'the arm holds' in result.message
    on.said('')


def test_cancelling_without_a_player_says_that_nobody_held_the_arm(bench):
    on = bench(hold=False)
    on.well()
    goal = on.goal()
    goal.cancel_goal_async()
    result, status = on.result(goal)
    assert (result.outcome, status) == (Outcome.CANCELLED, GoalStatus.STATUS_CANCELED)
    assert 'action_player/hold did not answer' in result.message
    on.said('')


def test_a_second_goal_replaces_the_first(bench):
    on = bench()
    on.well()
    first = on.goal()
    second = on.goal('push the blue cube')
    result, status = on.result(first)
    assert (result.outcome, status) == (Outcome.REPLACED, GoalStatus.STATUS_ABORTED)
    on.said('push the blue cube')
    assert '' not in on.words
    assert on.nodes[0]._goal.handle.goal_id == second.goal_id


@pytest.mark.parametrize('qos', [PLAIN_QOS, LATCHED_QOS])
@pytest.mark.parametrize(('text', 'words'), [('go home', 'go home'), ('', 'taken back')])
def test_a_sentence_of_somebody_else_replaces_a_goal(bench, qos, text, words):
    on = bench()
    on.well()
    goal = on.goal()
    on.said(RED)
    on.send(String(data=text), 'instruction', qos)
    result, _ = on.result(goal)
    assert result.outcome == Outcome.REPLACED
    assert words in result.message
    assert on.words in ([RED], [RED, text])  # the server itself says no more


def test_what_the_server_says_reaches_plain_listeners_too(bench):
    on = bench()
    heard = []
    on.node.create_subscription(String, 'instruction', heard.append, PLAIN_QOS)
    words = on.nodes[0]._words
    on.until(lambda: words.get_subscription_count() >= 4, 'the listener to be found')
    on.goal()
    on.until(lambda: heard and heard[-1].data == RED, 'the instruction')


@pytest.mark.parametrize(
    ('level', 'mode'), [(DiagnosticStatus.ERROR, 'enabled'), (DiagnosticStatus.OK, 'held')]
)
def test_a_player_that_cannot_go_on_fails_the_goal_with_its_reason(bench, level, mode):
    on = bench()
    on.well()
    goal = on.goal()
    on.status('action_player', 'holding: the arm does not follow', level, mode)
    result, status = on.result(goal)
    assert (result.outcome, status) == (Outcome.FAILED, GoalStatus.STATUS_ABORTED)
    assert result.message == 'action_player: holding: the arm does not follow'
    on.said('')


def test_a_problem_that_lasts_fails_the_goal(bench):
    on = bench(patience=0.3)
    on.status('action_player', 'playing')
    on.status('policy', 'no chunk: images too old', DiagnosticStatus.WARN, mode='')
    result, _ = on.result(on.goal())
    assert result.outcome == Outcome.FAILED
    assert 'no chunk: images too old' in result.message


def test_a_goal_that_nobody_follows_fails(bench):
    on = bench(patience=0.3)
    result, _ = on.result(on.goal())
    assert result.outcome == Outcome.FAILED
    assert 'Is the node running?' in result.message


@pytest.mark.parametrize(
    ('goal', 'words'),
    [({'instruction': ' '}, 'empty'), ({'timeout': -1.0}, '-1.0'), ({'timeout': math.nan}, 'nan')],
)
def test_a_goal_that_cannot_be_followed_is_refused_with_a_reason(bench, goal, words):
    on = bench()
    assert not on.goal(**goal).accepted
    assert words in on.wait_message('goal refused')
    assert on.words == []


def test_an_inactive_server_refuses_goals_and_gives_up_the_present_one(bench):
    on = bench()
    on.well()
    goal = on.goal()
    on.nodes[0].trigger_deactivate()
    result, _ = on.result(goal)
    assert result.outcome == Outcome.FAILED
    assert 'deactivated' in result.message
    on.said('')
    assert not on.goal().accepted
    on.nodes[0].trigger_activate()
    assert on.goal().accepted


def test_goals_come_again_after_clean_up(bench):
    on = bench()
    on.well()
    on.goal()
    node = on.nodes[0]
    node.trigger_deactivate()
    node.trigger_cleanup()
    node.trigger_configure()
    node.trigger_activate()
    on.until(on.client.server_is_ready, 'the server')
    on.well()
    assert on.goal().accepted
    on.said(RED)


def test_a_goal_is_shown_as_being_executed(bench):
    on = bench()
    on.well()
    handle = on.goal()
    on.until(lambda: handle.status == GoalStatus.STATUS_EXECUTING, 'the goal to be executed')
    handle.cancel_goal_async()
    _, status = on.result(handle)
    assert status == GoalStatus.STATUS_CANCELED
