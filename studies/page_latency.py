"""How soon a person's orders arrive: measured through a browser, from the key or the click.

    python -m studies.page_latency --times 50

instruction   Enter in the page      →  the first command that moves
held          the space bar          →  the player says that it is held, and brakes
stands        the space bar          →  the first zero command: the planned stop is over

Starts the whole graph with the page, and Chromium beside it on the same machine, whose 3D is drawn
by the processor where there is no GPU. Also prints how much of a core the viewer takes while a
browser shows its page and while none does.
"""

import argparse
from collections.abc import Callable
import contextlib
import json
import math
from pathlib import Path
import shutil
import sys
import threading
import time

from geometry_msgs.msg import TwistStamped
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String
from std_srvs.srv import SetBool
from tqdm import tqdm

from studies.player_load import core_share
from worldvla_ros.graph import describe
from worldvla_ros.msg import PlayerState
from worldvla_ros.nodes.qos import LATCHED_QOS
from worldvla_ros.processes.discovery import stay_on_this_machine
from worldvla_ros.processes.supervisor import Processes
from worldvla_ros.srv import ResetScene

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
ARGUMENTS = ['--no-sandbox', '--enable-unsafe-swiftshader', '--ignore-gpu-blocklist']
SENTENCES = ('pick up the red cube', 'push the blue cube to the left')
WAIT_S = 6.0
SHARE_S = 10.0
STILL_S = 0.5
VIEW = {'width': 560, 'height': 700}
"""Little 3D: where the processor draws it, that takes most of the time."""
PORT = 18280


class Listener(Node):
    """Notes when each command came, and whether it moves the arm."""

    def __init__(self) -> None:
        """Listen."""
        super().__init__('page_latency')
        self.commands: list[tuple[float, bool]] = []
        self.held: list[float] = []
        self._sentences = self.create_publisher(String, 'instruction', LATCHED_QOS)
        self.create_subscription(TwistStamped, 'delta_twist_cmds', self._on, QoSProfile(depth=100))
        self.create_subscription(PlayerState, 'action_player/state', self._on_state, LATCHED_QOS)

    def _on_state(self, message: PlayerState) -> None:
        if message.mode == PlayerState.HELD:
            self.held.append(time.monotonic())

    def _on(self, message: TwistStamped) -> None:
        linear, angular = message.twist.linear, message.twist.angular
        moves = any((linear.x, linear.y, linear.z, angular.x, angular.y, angular.z))
        self.commands.append((time.monotonic(), moves))

    def first(self, since_s: float, moves: bool) -> float | None:
        """Return when the first command of a kind came after a time."""
        return next((at for at, m in self.commands if at > since_s and m is moves), None)

    def rest(self) -> None:
        """Take the instruction back, and wait until the arm has stood still for a while."""
        self._sentences.publish(String(data=''))
        until(lambda: not any(m for at, m in self.commands if at > time.monotonic() - STILL_S))

    def ask(self, cls: type, name: str, request: object) -> None:
        """Call a service and wait for its answer."""
        client = self.create_client(cls, name)
        client.wait_for_service(WAIT_S)
        future = client.call_async(request)
        until(future.done)


def until(holds: Callable[[], float | bool | None], wait_s: float = WAIT_S) -> float | bool:
    """Wait until something holds and return it; not a number where it does not."""
    end_s = time.monotonic() + wait_s
    while not (found := holds()):
        if time.monotonic() > end_s:
            return math.nan
        time.sleep(0.002)
    return found


def one_round(listener: Listener, tab: object, number: int) -> tuple[float, float, float]:
    """Return how long an instruction, a hold and the stop took [s]."""
    listener.rest()
    listener.ask(ResetScene, 'sim/reset', ResetScene.Request(seed=8000 + number))
    listener.ask(SetBool, 'action_player/enable', SetBool.Request(data=True))
    line = tab.locator('form').get_by_role('textbox')
    line.fill(SENTENCES[number % 2])
    asked_s = time.monotonic()
    line.press('Enter')
    moved_s = until(lambda: listener.first(asked_s, moves=True))
    tab.get_by_text('speed of the tip').click()  # a space in the line would be a letter
    pressed_s = time.monotonic()
    tab.keyboard.press('Space')
    held_s = until(lambda: next((at for at in listener.held if at > pressed_s), None))
    stood_s = until(lambda: listener.first(pressed_s, moves=False))
    return moved_s - asked_s, held_s - pressed_s, stood_s - pressed_s


def measure(listener: Listener, pid: int, times: int) -> dict[str, object]:
    """Return all figures."""
    from playwright.sync_api import sync_playwright

    alone = core_share(pid, SHARE_S)
    with sync_playwright() as player:
        program = next(filter(None, map(shutil.which, BROWSERS)))
        browser = player.chromium.launch(executable_path=program, args=ARGUMENTS)
        tab = browser.new_page(viewport=VIEW)
        tab.goto(f'http://127.0.0.1:{PORT}/')
        tab.get_by_role('button', name='HOLD').wait_for()
        rounds = [one_round(listener, tab, n) for n in tqdm(range(times), desc='orders')]
        listener.ask(ResetScene, 'sim/reset', ResetScene.Request(seed=8000))
        listener.ask(SetBool, 'action_player/enable', SetBool.Request(data=True))
        watched = core_share(pid, SHARE_S)
        browser.close()
    instruction, held, stands = np.array(rounds).T
    return {
        name: {f'p{q}_ms': round(1e3 * float(np.nanpercentile(values, q))) for q in (50, 95, 100)}
        | {'missed': int(np.isnan(values).sum())}
        for name, values in (('instruction', instruction), ('held', held), ('stands', stands))
    } | {'viewer_watched': round(watched, 3), 'viewer_alone': round(alone, 3)}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--times', type=int, default=50)
    parser.add_argument('--json', type=Path)
    chosen = parser.parse_args()
    stay_on_this_machine()
    rclpy.init()
    listener, executor = Listener(), SingleThreadedExecutor()
    executor.add_node(listener)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    threading.Thread(target=spin, daemon=True).start()
    processes = Processes(describe({'view': 'true', 'view_port': str(PORT)}))
    try:
        time.sleep(15.0)
        figures = measure(listener, processes.children['viewer'].pid, chosen.times)
    finally:
        processes.stop()
        rclpy.try_shutdown()
    print(json.dumps(figures, indent=2))
    if chosen.json:
        chosen.json.write_text(json.dumps(figures))
    return 0


if __name__ == '__main__':
    sys.exit(main())
