"""Images: old, frozen, of another kind, cut off, too many, none. The policy makes the chunks."""

from array import array
from collections import deque
from collections.abc import Callable
import copy
import math
import time

from builtin_interfaces.msg import Time
import numpy as np
from sensor_msgs.msg import Image

from studies.faults.contract import POLICY_S
from studies.faults.families.joints import shifted
from studies.faults.fault import Fault
from studies.faults.trial import Scene

FROZEN_S = 6.0
FROZEN_MOST_S = 3.0
"""Moving in this time: twice until 0.05 rad are moved and the chunk of then is over."""
FLOW_S = 0.1
"""Commands that are farther apart are of two motions."""
RANDOM = np.random.default_rng(0)


def changed(change: Callable[[Image], object]) -> Callable[[Scene], None]:
    """Return an injection that passes each image through a function."""

    def inject(scene: Scene) -> None:
        scene.hands.filters['image'] = change

    return inject


def restore(scene: Scene) -> None:
    """Let images pass as they are."""
    scene.hands.filters.pop('image', None)


def _made(make: Callable[[], Callable]) -> Callable[[Scene], None]:
    """Return an injection of a function that remembers earlier images."""

    def inject(scene: Scene) -> None:
        scene.hands.filters['image'] = make()

    return inject


def picture(like: Image, data: bytes, **fields: object) -> Image:
    """Return an image of the same stamp with other fields."""
    message = Image(header=like.header, width=like.width, height=like.height,
                    encoding=like.encoding, step=like.step)  # fmt: skip
    message.data = array('B', data)
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def _sized(width: int, height: int) -> Callable[[Image], Image]:
    data = bytes(RANDOM.integers(0, 256, 3 * width * height, np.uint8))
    return lambda m: picture(m, data, width=width, height=height, step=3 * width)


def _as(encoding: str) -> Callable[[Image], Image]:
    return lambda m: picture(m, m.data.tobytes(), encoding=encoding)


def _depth(value: float) -> Callable[[Image], Image]:
    data = np.full(128 * 128, value, np.float32).tobytes()
    return lambda m: picture(m, data, encoding='32FC1', step=512)


def _noise(message: Image) -> Image:
    return picture(message, bytes(RANDOM.integers(0, 256, len(message.data), np.uint8)))


def _plain(value: int) -> Callable[[Image], Image]:
    return lambda m: picture(m, bytes([value]) * len(m.data))


def _cut(share: float) -> Callable[[Image], Image]:
    return lambda m: picture(m, m.data.tobytes()[: int(share * len(m.data))])


def _stampless(message: Image) -> Image:
    message.header.stamp = Time()
    return message


def _frozen() -> Callable[[Image], Image]:
    kept: list[bytes] = []

    def change(message: Image) -> Image:
        kept.append(message.data.tobytes())
        return picture(message, kept[0])

    return change


def _late(count: int) -> Callable[[], Callable]:
    def make() -> Callable[[Image], Image | None]:
        waiting: deque[Image] = deque()

        def change(message: Image) -> Image | None:
            waiting.append(message)
            return waiting.popleft() if len(waiting) > count else None

        return change

    return make


def _swapped() -> Callable[[Image], list[Image]]:
    waiting: list[Image] = []

    def change(message: Image) -> list[Image]:
        waiting.append(message)
        if len(waiting) < 2:
            return []
        found = waiting[::-1]
        waiting.clear()
        return found

    return change


def _sparse(period_s: float) -> Callable[[], Callable]:
    def make() -> Callable[[Image], Image | None]:
        last = [0.0]

        def change(message: Image) -> Image | None:
            if time.monotonic() - last[0] < period_s:
                return None
            last[0] = time.monotonic()
            return message

        return change

    return make


def _with_other(message: Image) -> list[Image]:
    """Return an image and one of another camera under the same name."""
    return [message, picture(message, bytes(64 * 64 * 3), width=64, height=64, step=192)]


def _padded(message: Image) -> Image:
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, -1)
    wide = np.pad(rows, ((0, 0), (0, 16)))
    return picture(message, wide.tobytes(), step=wide.shape[1])


def _long_name(message: Image) -> Image:
    message.header.frame_id = 'x' * 1_000_000
    return message


def _wrong(name: str, how: str, change: Callable, reason: str, **further: object) -> Fault:
    """Return a fault under which the policy must not act."""
    return Fault(name, how, changed(change), POLICY_S, reason, restore, source='policy', **further)  # type: ignore[arg-type]


def _right(name: str, how: str, inject: Callable, **further: object) -> Fault:
    """Return a disturbance under which the policy must go on."""
    return Fault(name, how, inject, remove=restore, source='policy', **further)  # type: ignore[arg-type]


def _flood(message: Image) -> list[Image]:
    return [message] * 15


def _both_old(scene: Scene) -> None:
    """Move the stamps of images and joints back alike, as a computer with a wrong clock does."""
    scene.hands.filters['image'] = lambda m: shifted(m, -5.0)
    scene.hands.filters['joint_states'] = lambda m: shifted(m, -5.0)


def _restore_both(scene: Scene) -> None:
    restore(scene)
    scene.hands.filters.pop('joint_states', None)


def _loop(message: Image) -> list[Image]:
    """Return an image, and one of 3 s ago, as a bag beside the camera would."""
    return [shifted(copy.deepcopy(message), -3.0), message]


def _moved_too_long(scene: Scene) -> str:
    """Judge that the arm stood still for most of the time in which pixels did not change."""
    gaps_s = np.diff(scene.kept['moving_in_force'])
    moved_s = gaps_s[gaps_s < FLOW_S].sum()
    return f'moved for {moved_s:.1f} of {FROZEN_S:.0f} s' if moved_s > FROZEN_MOST_S else ''


def frozen(name: str, how: str, inject: Callable, remove: Callable) -> Fault:
    """Return pixels that do not change: held, and tried again after 2 s, 4 s, …, as documented."""
    return Fault(name, how, inject, reason='image frozen', remove=remove, source='policy',
                 quiet=True, lasts_s=FROZEN_S, check=_moved_too_long)  # fmt: skip


FAULTS = [
    _wrong('images stop', 'relay drops them', lambda m: None, 'image silent'),
    _wrong('images 2 s old', 'stamp moved back', lambda m: shifted(m, -2.0), 'image old'),
    _wrong('images 2 s ahead', 'stamp moved on', lambda m: shifted(m, 2.0), 'image future'),
    _wrong('images without a stamp', 'stamp 0', _stampless, 'image without stamp'),
    Fault('images come 1 s late', 'relay delays them by twenty', _made(_late(20)),
          POLICY_S + 1.0, 'image old', restore, source='policy'),
    frozen('frozen camera', 'same pixels under fresh stamps', _made(_frozen), restore),
    frozen('black images', 'all pixels 0', changed(_plain(0)), restore),
    frozen('white images', 'all pixels 255', changed(_plain(255)), restore),
    _wrong('images of 64 x 64', 'noise', _sized(64, 64), 'image size'),
    _wrong('images of 1 x 1', 'one pixel', _sized(1, 1), 'image size'),
    _wrong('images of 1 x 100 000', 'a line', _sized(1, 100_000), 'image size'),
    _wrong('images of 2000 x 1500', '9 MB each, which may not arrive', _sized(2000, 1500),
           'image size or loss'),
    _wrong('images without pixels', 'width 0', lambda m: picture(m, b'', width=0, step=0),
           'image data'),
    _wrong('an unknown encoding', 'encoding "nonsense"', _as('nonsense'), 'image encoding'),
    _wrong('no encoding', 'encoding ""', _as(''), 'image encoding'),
    _wrong('an encoding of 1 MB', '1 000 000 letters', _as('x' * 1_000_000), 'image encoding'),
    _wrong('depth of NaN', '32FC1', _depth(math.nan), 'image encoding'),
    _wrong('depth of infinity', '32FC1', _depth(math.inf), 'image encoding'),
    _wrong('rgba8 said of rgb8', 'encoding changed', _as('rgba8'), 'image data'),
    _wrong('step 0', 'step changed', lambda m: picture(m, m.data.tobytes(), step=0),
           'image data'),
    _wrong('step 4294967295', 'step changed', lambda m: picture(m, m.data.tobytes(),
           step=2**32 - 1), 'image data'),
    _wrong('height 4294967295', 'height changed', lambda m: picture(m, m.data.tobytes(),
           height=2**32 - 1), 'image data'),
    _wrong('half of the data', 'cut off', _cut(0.5), 'image data'),
    _wrong('no data', 'cut off', _cut(0.0), 'image data'),
    Fault('images and joints 5 s old alike', 'both stamps moved back', _both_old, POLICY_S,
          'policy joints silent', _restore_both, source='policy'),
    _right('noise', 'random pixels', changed(_noise), quiet=True),
    _right('mono8 said of rgb8', 'encoding changed', changed(_as('mono8')), quiet=True),
    _right('bgr8 said of rgb8', 'encoding changed', changed(_as('bgr8')), quiet=True),
    _right('rows with padding', '16 bytes after each', changed(_padded)),
    _right('a frame_id of 1 MB', '1 000 000 letters', changed(_long_name), quiet=True),
    _right('300 images per second', 'each 15 times', changed(_flood)),
    _right('images out of order', 'each pair swapped', _made(_swapped), quiet=True),
    _right('images of two times', 'each with one of 3 s before', changed(_loop), quiet=True),
    _right('another camera under the same name', '64 x 64 between', changed(_with_other),
           reason='image size', quiet=True),
    _right('one image per second', 'the others dropped', _made(_sparse(1.0)), quiet=True,
           lasts_s=2.0),
]  # fmt: skip
