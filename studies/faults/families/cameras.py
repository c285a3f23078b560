"""Two cameras: apart in time, one of them late, frozen or gone. The demo model with two views."""

from dataclasses import replace
from pathlib import Path
import tempfile

from studies.faults.contract import POLICY_S
from studies.faults.families.images import _frozen, _sized, frozen
from studies.faults.families.joints import shifted
from studies.faults.fault import Fault
from studies.faults.trial import Scene


def two_views() -> str:
    """Write the demo checkpoint with a second camera; return its folder.

    It has not learnt what to do with the second image: it moves, and that is all that is asked.
    """
    from worldvla_ros.checkpoint.folder import demo_path, load, save

    demo = load(demo_path())
    folder = Path(tempfile.mkdtemp(prefix='faults-cameras-')) / 'two'
    spec = replace(demo.spec, name='two views', cameras=('front', 'wrist'))
    save(folder, spec, demo.model, demo.vqgan, demo.text)
    return str(folder)


def arguments() -> dict[str, str]:
    """Return the arguments of the launch."""
    return {'checkpoint': two_views()}


def _wrist(change: object) -> object:
    def inject(scene: Scene) -> None:
        scene.hands.filters['wrist_image'] = change() if change is _frozen else change

    return inject


def restore(scene: Scene) -> None:
    """Let images pass as they are."""
    scene.hands.filters.pop('wrist_image', None)


def _fault(name: str, how: str, change: object, hold_s: float | None, reason: str,
           **more: object) -> Fault:  # fmt: skip
    return Fault(name, how, _wrist(change), hold_s, reason, restore, source='policy', **more)  # type: ignore[arg-type]


FAULTS = [
    _fault('the wrist camera stops', 'relay drops it', lambda m: None, POLICY_S, 'image silent'),
    _fault('the wrist camera 0.3 s behind', 'stamp moved back', lambda m: shifted(m, -0.3),
           None, '', quiet=True),
    _fault('the wrist camera 3 s behind', 'stamp moved back', lambda m: shifted(m, -3.0),
           POLICY_S, 'image apart'),
    _fault('the wrist camera 2 s ahead', 'stamp moved on', lambda m: shifted(m, 2.0), POLICY_S,
           'image apart'),
    _fault('the wrist camera 40 ms behind', 'stamp moved back', lambda m: shifted(m, -0.04),
           None, ''),
    frozen('a frozen wrist camera', 'same pixels under fresh stamps', _wrist(_frozen), restore),
    _fault('another size of the wrist camera', '64 x 64', _sized(64, 64), POLICY_S,
           'image size'),
]  # fmt: skip
