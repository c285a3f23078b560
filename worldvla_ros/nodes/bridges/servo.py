"""MoveIt Servo's manners: it must be told what it will hear, and it says when it halts.

Until its service `switch_command_type` was called, Servo drops every command with one warning in
its own log. Where moveit_msgs is installed, enabling calls it and hears `status`; elsewhere the
operator is told what to type, and enabling once more vouches for it. In ROS 2 Humble Servo has
`start_servo` instead. (moveit_msgs srv/ServoCommandType, msg/ServoStatus.)
"""

import time
from types import ModuleType
from typing import Any

from rclpy.task import Future
from std_srvs.srv import Trigger

from worldvla_ros.errors import ConfigError
from worldvla_ros.nodes.bridges.bridge import interfaces
from worldvla_ros.nodes.bridges.problem import Problem
from worldvla_ros.nodes.qos import RELIABLE_QOS
from worldvla_ros.nodes.runtime import ManagedNode
from worldvla_ros.robot.schema import CONTROLLER_TOPICS, SERVO_KINDS

SERVO_TOPICS = {CONTROLLER_TOPICS[kind] for kind in SERVO_KINDS}
COMMAND_TYPES = {'joint_jog': 0, 'twist': 1, 'pose': 2}
ANSWER_S = 2.0
"""How long Servo may take to answer [s]."""
START_S = 10.0
"""How long after enabling Servo may take to be there [s]: both may be starting."""
HALTS = {
    2: 'halted before a singularity',
    5: 'halted before a collision',
    6: 'halted at a joint limit',
}
AWAY = {
    2: 'Move the arm away from the singularity, then call ~/enable with true.',
    5: 'Move the arm away from what it would touch, then call ~/enable with true.',
    6: 'Move the joint away from its limit, then call ~/enable with true.',
}


def servo_node(topic: str) -> str:
    """Return the Servo node that a command topic belongs to; '' where it belongs to none.

    Servo's topics lie in its node's namespace: /servo_node/delta_twist_cmds. A simulated arm or
    CRISP has other names, or no namespace.
    """
    node, _, name = topic.rpartition('/')
    return node if name in SERVO_TOPICS else ''


class ServoLink:
    """Tells Servo what comes, and hears how it fares."""

    def __init__(self, node: ManagedNode, servo: str, command: str) -> None:
        """Create the client and the subscription.

        Args:
            node: Whose they are.
            servo: Name of Servo's node; '' where there is none to ask, as with a simulated arm.
            command: 'twist' or 'pose'.
        """
        self._node, self._servo = node, servo
        self._type = COMMAND_TYPES[command]
        self._halted: Problem | None = None
        self._refused: Problem | None = None
        self._asked: Future | None = None
        self._asked_s = -1.0
        self._waiting = False
        self._ready = not servo
        self._told = False
        self._client: Any = None
        self._moveit = moveit_msgs() if servo else None
        if servo:
            self._connect()

    def vouch(self) -> None:
        """Take note that Servo was told what comes, for where it cannot be asked from here."""
        self._told = True

    def enable(self) -> None:
        """Ask Servo to listen; `problem` says how that goes."""
        self._halted = self._refused = None
        if not self._servo:
            return
        self._ready = False
        if self._client is None:
            self._ready, self._told = self._told, True
            self._refused = None if self._ready else self._to_type()
        else:
            self._asked, self._asked_s, self._waiting = None, time.monotonic(), True
            self._ask()

    def problem(self) -> Problem | None:
        """Return why Servo would not take a command."""
        if self._waiting:
            self._ask()
        elif self._asked is not None and not self._ready:
            self._hear_answer()
        if self._ready:
            return self._halted
        waiting = f'waiting for {self._servo} to take the command type'
        return self._refused or Problem(
            'servo_not_ready', waiting, 'Call ~/enable with true.', pending=True
        )

    def _connect(self) -> None:
        if self._moveit is None:
            return
        self._node.subscribe(
            self._moveit['msg'].ServoStatus,
            f'{self._servo}/status',
            self._on_status,
            RELIABLE_QOS,
        )
        service = self._moveit['srv']
        if hasattr(service, 'ServoCommandType'):
            kind, name = service.ServoCommandType, 'switch_command_type'
            self._request = kind.Request(command_type=self._type)
        else:  # before Jazzy
            kind, name = Trigger, 'start_servo'
            self._request = Trigger.Request()
        self._name = name
        self._client = self._node.client(kind, f'{self._servo}/{name}')

    def _ask(self) -> None:
        """Ask as soon as Servo is there; give up where it does not come."""
        if self._client.service_is_ready():
            self._waiting, self._asked_s = False, time.monotonic()
            self._asked = self._client.call_async(self._request)
        elif time.monotonic() - self._asked_s > START_S:
            self._waiting = False
            self._refused = Problem(
                'servo_absent',
                f'nobody answers {self._servo}/{self._name}',
                f'Start MoveIt Servo, or correct controller.topic, which says that its node is '
                f'{self._servo}; then call ~/enable with true.',
            )

    def _hear_answer(self) -> None:
        """Look whether the answer is there, or has been waited for too long."""
        assert self._asked is not None
        if self._asked.done():
            answer = self._asked.result()
            self._ready = bool(answer is not None and answer.success)
            refusal = f'{self._servo}/{self._name} answered success = false'
        elif time.monotonic() - self._asked_s > ANSWER_S:
            refusal = f'{self._servo}/{self._name} did not answer within {ANSWER_S} s'
        else:
            return
        self._asked = None
        if not self._ready:
            remedy = "Read Servo's log, then call ~/enable with true."
            self._refused = Problem('servo_refused', refusal, remedy)

    def _on_status(self, message: Any) -> None:
        if message.code in HALTS and self._halted is None:
            text = f'MoveIt Servo {HALTS[message.code]}'
            if message.message:
                text += f': {message.message}'
            self._halted = Problem('servo_halted', text, AWAY[message.code])

    def _to_type(self) -> Problem:
        """Return what the operator must do where moveit_msgs is not installed here."""
        call = (
            f'ros2 service call {self._servo}/switch_command_type '
            f'moveit_msgs/srv/ServoCommandType "{{command_type: {self._type}}}"'
        )
        return Problem(
            'servo_command_type',
            'moveit_msgs is not installed here, so that MoveIt Servo cannot be asked to listen',
            f'Type  {call}  where it is installed, look for success=True, then call ~/enable with '
            'true once more.',
        )


def moveit_msgs() -> dict[str, ModuleType] | None:
    """Return the messages and services of moveit_msgs, or None where it is not installed."""
    try:
        return {kind: interfaces('moveit_msgs', kind, 'MoveIt Servo') for kind in ('msg', 'srv')}
    except ConfigError:
        return None
