"""What is on the page: state and orders, images, the chart, the arm.

    state, HOLD (also the space bar), enable, dry run, reset, record
    an instruction to type, and the last ones
    camera; observed | imagined | difference; the tip's speed
    the arm, its workspace and the way to come, in 3D

`Page` hands values in and calls `Orders` back, from threads of viser's own. Nothing is encoded or
sent while nobody looks. Must not know ROS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import viser
from viser import uplot

from worldvla_ros.page.drawing import LOOK_FROM, Drawing
from worldvla_ros.page.speeds import Speeds
from worldvla_ros.robot.links import Link

LAST = 8
"""How many instructions are remembered."""
NONE = '…'
DARK = np.full((64, 64, 3), 40, np.uint8)
JPEG_QUALITY = 80
COLORS = {'moving': '#2b8a3e', 'held': '#e67700', 'stopped': '#c92a2a'}
NOTICE_S = 8.0


@dataclass(frozen=True)
class Orders:
    """What a person may order; each is called from a thread of the page.

    Attributes:
        instruct: Follow a sentence.
        hold: Stop the arm at once.
        enable: True lets commands leave, False is a dry run.
        reset: Lay out a new scene.
        record: Begin or end a recording.
    """

    instruct: Callable[[str], None]
    hold: Callable[[], None]
    enable: Callable[[bool], None]
    reset: Callable[[], None]
    record: Callable[[bool], None]


@dataclass(frozen=True)
class Scene:
    """What does not change.

    Attributes:
        title: Name of the robot.
        links: Of the arm, parents first.
        low: Lowest corner of the workspace, float[3] [m].
        high: Highest corner.
        speed_limit: Of the tip [m/s].
    """

    title: str
    links: Sequence[Link]
    low: Sequence[float]
    high: Sequence[float]
    speed_limit: float


class Page:
    """One page, which any number of browsers show."""

    def __init__(self, server: viser.ViserServer, scene: Scene, orders: Orders) -> None:
        """Lay the page out."""
        self._server, self._orders = server, orders
        self._instructions: list[str] = []
        self.speeds = Speeds(scene.speed_limit)
        gui = server.gui
        gui.configure_theme(control_width='large', show_logo=False, show_share_button=False)
        gui.main_panel.dock_right()
        server.initial_camera.position = LOOK_FROM
        server.initial_camera.look_at = tuple(np.mean([scene.low, scene.high], axis=0))
        self.drawing = Drawing(server.scene, scene.links, scene.low, scene.high)
        gui.add_markdown(f'### {scene.title}')
        self._state = gui.add_markdown('waiting for the action player')
        self._recording = False
        self._add_orders()
        self._add_instruction()
        self._images = {
            'camera': self._add_image('camera'),
            'imagined': self._add_image('observed | imagined | difference'),
        }
        self._words = {
            name: gui.add_markdown('', visible=False) for name in ('imagined', 'policy', 'task')
        }
        self._chart = self._add_chart()

    @property
    def watched(self) -> bool:
        """Whether a browser shows the page."""
        return bool(self._server.get_clients())

    def close(self) -> None:
        """End the server."""
        self._server.stop()

    # ---- what is shown

    def show_state(self, kind: str, text: str) -> None:
        """Show how the arm fares.

        Args:
            kind: moving, held or stopped: the colour.
            text: In words.
        """
        content = f'<b style="color: {COLORS[kind]}">{_plain(text)}</b>'
        if content != self._state.content:
            self._state.content = content

    def show_image(self, name: str, image: np.ndarray) -> None:
        """Show an image uint8[h, w, 3]: `camera` or `imagined`."""
        handle = self._images[name]
        handle.visible = True
        handle.image = image

    def show_words(self, name: str, text: str) -> None:
        """Say something below the images: `imagined`, `policy` or `task`."""
        handle = self._words[name]
        handle.visible, handle.content = bool(text), _plain(text)

    def show_instruction(self, text: str) -> None:
        """Show the sentence that is followed, whoever gave it, and remember it."""
        if not text.strip() or self._instructions[:1] == [text]:
            return
        self._instructions = [text, *(t for t in self._instructions if t != text)][:LAST]
        self._again.options = (NONE, *self._instructions)
        self._form.label = f'instruction: {text}'

    def show_chart(self, now_s: float) -> None:
        """Draw the chart anew."""
        self._chart.data = self.speeds.rows(now_s)

    def offer(self, *, reset: bool, record: bool) -> None:
        """Show the buttons of which there is something to order."""
        self._reset.visible, self._record.visible = reset, record

    def show_recording(self, on: bool) -> None:
        """Show whether a recording runs."""
        self._record.label = 'stop recording' if on else 'record'
        self._recording = on

    def notice(self, title: str, text: str) -> None:
        """Tell everybody who looks that something went wrong."""
        for client in self._server.get_clients().values():
            client.add_notification(title, text, auto_close_seconds=NOTICE_S, color='red')

    # ---- how it is laid out

    def _add_orders(self) -> None:
        gui, orders = self._server.gui, self._orders
        hold = gui.add_button('HOLD  (space)', color='red', icon=viser.Icon.HAND_STOP)
        hold.on_click(lambda _: orders.hold())
        self._server.gui.add_command('Hold', hotkey='space').on_trigger(lambda _: orders.hold())
        enable = gui.add_button_group('commands', ('enable', 'dry run'))
        enable.on_click(lambda _: orders.enable(enable.value == 'enable'))
        self._reset = gui.add_button('new scene', color='gray', visible=False)
        self._reset.on_click(lambda _: orders.reset())
        self._record = gui.add_button('record', color='gray', visible=False)
        self._record.on_click(lambda _: orders.record(not self._recording))

    def _add_instruction(self) -> None:
        gui = self._server.gui
        self._form = gui.add_form('instruction')
        with self._form:
            words = gui.add_text('say', '')
            gui.add_button('go').on_click(lambda _: self._instruct(words.value))
        self._form.on_submit(lambda _: self._instruct(words.value))
        self._again = gui.add_dropdown('again', (NONE,))
        self._again.on_update(self._on_again)

    def _on_again(self, event: Any) -> None:
        if event.client is None or self._again.value == NONE:  # set from here
            return
        self._instruct(self._again.value)
        self._again.value = NONE  # type: ignore[misc]  # viser has a setter for it

    def _instruct(self, text: str) -> None:
        if text.strip():
            self._orders.instruct(text.strip())

    def _add_image(self, label: str) -> viser.GuiImageHandle:
        return self._server.gui.add_image(
            DARK, label=label, format='jpeg', jpeg_quality=JPEG_QUALITY, visible=False
        )

    def _add_chart(self) -> Any:
        lines = (('measured', '#1c7ed6'), ('to come', '#f08c00'), ('limit', '#c92a2a'))
        top = 1.2 * self.speeds.limit
        series = [uplot.Series(label=name, stroke=color, width=2) for name, color in lines]
        return self._server.gui.add_uplot(
            self.speeds.rows(0.0),
            (uplot.Series(label='time [s]'), *series),
            title='speed of the tip [m/s]',
            # a range of its own: where numbers are missing uPlot finds none
            scales={'x': uplot.Scale(time=False), 'y': uplot.Scale(auto=False, range=(0, top))},
            height=180,
        )


def _plain(text: str) -> str:
    """Return text that a page shows as it is: what comes from the network is no markup."""
    return ''.join(f'&#{ord(c)};' if c in '<>&*_`[]()#\\|~!"\'{}$:' else c for c in text)
