"""Bridges: what a controller wants to hear, and when; one file per kind of controller.

The player plans and judges; a bridge converts, publishes and knows its controller's manners. It
lives from configure to clean_up; whatever it creates, the node undoes. Never blocks, runs in the
executor's thread only.

    bridge = make_bridge(node, robot, output)      at configure; ConfigError where it cannot work
    gripper = make_gripper(node, robot)            the same

    bridge.takes                                   class of its commands, see robot.commands:
                                                   TwistCommand, PoseCommand, PositionCommand,
                                                   VelocityCommand or TrajectoryCommand
    bridge.vouch()                                 at configure: the controller listens already,
                                                   where it cannot be asked
    bridge.enable()                                at every ~/enable true: asks the controller to
                                                   listen, and forgets what made it halt
    bridge.problem() -> Problem | None             each period: None, or why nothing may be sent
                                                   (nobody listens; still asking; refused; the
                                                   controller halted);
                                                   hold, show `text` and `remedy` under `code`.
                                                   `pending`: it may go away by itself
    bridge.send(command, stamp)                    each period; a TrajectoryCommand only when the
                                                   path has changed
    bridge.rest(stamp)                             each period without a command: the bridge sends
                                                   what ends motion a few times, then falls silent
    bridge.halt(stamp, brake)                      now, all at once, where no period may follow
                                                   (deactivation, a refusing gate); `brake` is the
                                                   TrajectoryCommand of a planned stop, which only
                                                   a trajectory bridge uses

    commander = Commander(robot, arm.velocity, output)    robot.commander: makes the commands of
                                                          this kind from Setpoint and Path

    gripper.send(width, now_s)                     each period with a command; it decides itself
                                                   whether that is news
    gripper.problem() -> Problem | None            why the gripper does not take commands
    gripper.release()                              at a stop: nothing new is sent, what the gripper
                                                   does goes on

`stamp` is the node's clock as a message, `now_s` the same in seconds. A planned stop is better
than `halt`: let `Motion.stop` plan it and send its setpoints as always. Must not know chunks,
paths or guards. Read `bridge` first, then `twist`.
"""

from worldvla_ros.nodes.bridges.bridge import Bridge
from worldvla_ros.nodes.bridges.choice import make_bridge, make_gripper
from worldvla_ros.nodes.bridges.gripper import Gripper
from worldvla_ros.nodes.bridges.problem import Problem

__all__ = ['Bridge', 'Gripper', 'Problem', 'make_bridge', 'make_gripper']
