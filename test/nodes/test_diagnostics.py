"""/diagnostics: names, levels and figures as diagnostic_updater has them."""

import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from probe import InProcess

from worldvla_ros.nodes.diagnostics import (
    OK,
    STALE,
    WARN,
    WINDOW_S,
    Diagnostics,
    Finding,
    Rate,
    full_name,
)
from worldvla_ros.nodes.qos import RELIABLE_QOS
from worldvla_ros.nodes.runtime import ManagedNode


@pytest.mark.parametrize(
    ('namespace', 'name'),
    [
        ('/', 'player'),
        ('', 'player'),
        ('/left', 'left/player'),
        ('/cell/left', 'cell/left/player'),
    ],
)
def test_a_node_in_a_namespace_has_it_in_its_name(namespace, name):
    assert full_name('player', namespace) == name


class TestRate:
    def test_events_of_the_window_are_counted(self):
        rate = Rate()
        for i in range(100):
            rate.tick(0.01 * (i % 3), now_s=10 + 0.1 * i)
        figures = rate.figures(now_s=20.0)
        assert figures['Events in window'] == 50
        assert figures['Events since startup'] == 100
        assert figures['Duration of window (s)'] == WINDOW_S
        assert figures['Actual frequency (Hz)'] == '10.00'
        assert figures['Earliest timestamp delay'] == '0.0000'
        assert figures['Latest timestamp delay'] == '0.0200'

    def test_what_comes_is_ok_and_what_does_not_is_stale(self):
        rate = Rate()
        found = rate.finding('images', now_s=10.0)
        assert (found.level, found.message) == (STALE, 'no images yet')
        rate.tick(now_s=10.0)
        found = rate.finding('images', now_s=12.0, Refused=3)
        assert (found.level, found.message) == (OK, 'images: 0.20 Hz')
        assert found.values['Refused'] == 3
        found = rate.finding('images', now_s=16.0)
        assert (found.level, found.message) == (STALE, 'no images in 5 s')
        assert 'Latest timestamp delay' not in found.values


class Busy(ManagedNode):
    def __init__(self):
        super().__init__('busy')

    def configure(self):
        Diagnostics(self, 'arm').add('thing', lambda: Finding(WARN, 'so so', {'share': 0.5}))


def test_a_node_says_once_per_second_how_its_things_are():
    rig = InProcess(Busy)
    try:
        rig.listen(DiagnosticArray, '/diagnostics', RELIABLE_QOS)
        rig.wait_state('active')
        rig.nodes[0].status.warn('not well', figure=7)

        def found():
            statuses = [s for array in rig.heard['/diagnostics'] for s in array.status]
            said = {(s.name, s.message): s for s in statuses}
            both = ('busy: thing', 'so so'), ('busy: status', 'not well')
            return [said[key] for key in both] if set(both) <= set(said) else None

        thing, status = rig.until(found, 'diagnostics')
        assert (thing.level, thing.hardware_id) == (DiagnosticStatus.WARN, 'arm')
        assert [(v.key, v.value) for v in thing.values] == [('share', '0.5')]
        assert status.level == DiagnosticStatus.WARN
        assert ('figure', '7') in [(v.key, v.value) for v in status.values]
        rig.nodes[0].trigger_deactivate()
        rig.until(
            lambda: any(
                s.message == 'node is inactive' and s.level == DiagnosticStatus.OK
                for array in rig.heard['/diagnostics']
                for s in array.status
            ),
            'the inactive node',
        )
    finally:
        rig.close()
