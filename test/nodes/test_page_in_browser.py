"""The page in a real Chromium, with the whole graph: what a person sees, says and presses."""

import os
from pathlib import Path
import re
from urllib.parse import urlsplit

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('viser', reason='viser is not installed')
import browser
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from probe import Probe, running
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from worldvla_ros.graph import describe
from worldvla_ros.msg import PlayerState
from worldvla_ros.nodes.qos import LATCHED_QOS, RELIABLE_QOS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(browser.LACK), reason=browser.LACK)]
EVERYTHING = QoSProfile(depth=200, reliability=RELIABLE_QOS.reliability)
TWISTS, STATE = 'delta_twist_cmds', 'action_player/state'
SENTENCE = 'pick up the red cube'


class Person(Probe):
    """Looks at the page and at the graph; both go on while it waits."""

    def __init__(self):
        super().__init__()
        self.listen(TwistStamped, TWISTS, EVERYTHING)
        self.listen(PlayerState, STATE, LATCHED_QOS)
        self.listen(String, 'instruction', LATCHED_QOS)
        self.listen(DiagnosticArray, 'viewer/status', LATCHED_QOS)
        for node in ('policy', 'action_player', 'sim'):
            self.listen(DiagnosticArray, f'{node}/status', LATCHED_QOS)

    def moves(self, since=0):
        return [m for m in self.heard[TWISTS][since:] if m.twist.linear != type(m.twist.linear)()]

    def stands(self):
        return bool(self.heard[TWISTS]) and not self.moves(-1)

    def mode(self):
        return self.heard[STATE][-1].mode if self.heard[STATE] else ''

    def sees(self, tab, words):
        """Wait until the page shows some words."""

        def shown():
            tab.wait_for_timeout(20)  # lets the browser's events be handled
            return re.search(words, tab.locator('body').inner_text())

        return self.until(shown, f'{words!r} on the page')

    def says(self, tab, sentence):
        line = self.line(tab)
        line.fill(sentence)
        line.press('Enter')

    def line(self, tab):
        """Return where instructions are typed."""
        return tab.locator('form').get_by_role('textbox')


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp('recordings')
    nodes = describe({'view': 'true', 'view_port': '18180', 'record': str(folder / 'bag')})
    with running(*nodes):
        person = Person()
        said = person.status('viewer', 'the page is at')
        person.status('policy', 'waiting for')
        yield said.split('the page is at ')[1].split()[0]
        person.close()


@pytest.fixture
def person():
    made = Person()
    yield made
    made.close()


def photograph(tab, file):
    """Write a picture of the page, without its remark that there is no GPU."""
    remark = tab.locator('.mantine-Notification-closeButton')
    if remark.count():
        remark.first.click()
    tab.set_viewport_size({'width': 1200, 'height': 1000})
    tab.wait_for_timeout(1000)
    tab.screenshot(path=file)


def test_a_person_types_a_sentence_watches_and_holds_the_arm(address, person):
    with browser.shown(address) as (tab, asked):
        person.sees(tab, 'sim_panda')
        person.says(tab, SENTENCE)
        person.until(lambda: person.heard['instruction'], 'the instruction')
        assert person.heard['instruction'][-1].data == SENTENCE
        person.until(lambda: len(person.moves()) > 20, 'the arm to move')
        person.sees(tab, 'enabled: playing a chunk')
        person.sees(tab, f'instruction: {SENTENCE}')
        person.until(lambda: tab.locator('img').count() >= 1, 'a camera image')
        if shot := os.environ.get('PAGE_SHOT'):
            person.sees(tab, 'PSNR to what was seen')
            photograph(tab, Path(shot))
        tab.get_by_role('button', name='HOLD').click()
        person.until(lambda: person.mode() == PlayerState.HELD and person.stands(), 'the hold')
        person.sees(tab, 'held: ~/hold was called. Call ~/enable with true')
        tab.get_by_role('button', name='enable').click()
        person.until(lambda: person.mode() == PlayerState.ENABLED, 'the arm to be enabled')
        tab.keyboard.press('Space')  # while `enable` has the focus, which a space would press
        person.until(lambda: person.mode() == PlayerState.HELD, 'the hold by the space bar')
        person.spin(1.0)
        assert person.mode() == PlayerState.HELD
        tab.get_by_role('button', name='enable').click()
        person.until(lambda: person.mode() == PlayerState.ENABLED, 'the arm to be enabled')
        own = urlsplit(address).netloc
        places = {urlsplit(url).netloc for url in asked if not url.startswith(('blob:', 'data:'))}
        assert places == {own}, 'a request left this machine'


def test_a_space_in_a_sentence_is_no_hold(address, person):
    with browser.shown(address) as (tab, _):
        person.until(person.mode, 'a state')
        person.line(tab).press_sequentially('a b c')
        tab.wait_for_timeout(500)
        person.spin(0.5)
        assert person.mode() == PlayerState.ENABLED


def test_the_graph_does_not_notice_that_a_browser_goes(address, person):
    with browser.shown(address) as (tab, _):
        person.sees(tab, 'sim_panda')
    person.until(lambda: person.heard[STATE], 'a state')
    count = len(person.heard[STATE])
    person.until(lambda: len(person.heard[STATE]) > count + 2, 'the player to go on')
    assert person.status('viewer', 'the page is at')
