"""Recorder: killed, disk full, folder taken; what was heard before must be in the bag."""

from collections.abc import Callable
from pathlib import Path
import resource
import signal
import tempfile
import time

from mcap.reader import make_reader
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from studies.faults.contract import AT_ONCE_S
from studies.faults.fault import Fault
from studies.faults.trial import Scene

FOLDER = Path(tempfile.mkdtemp(prefix='faults-bag-')) / 'bag'
ARGUMENTS = {'record': str(FOLDER)}
TOPIC = 'fault_count'
FLUSH_S = 0.5
"""Between two writes to the disk: what came later may be lost where the process is killed."""


def _bags() -> list[Path]:
    """Return all bags, the newest last: bag, bag_1, bag_2 …."""
    return sorted(
        FOLDER.parent.rglob('*.mcap'),
        key=lambda file: int((file.parent.name + '_0').split('_')[1]),
    )


def recorded(file: Path) -> list[str]:
    """Return the marks of a bag, read as anybody reads it."""
    with file.open('rb') as stream:
        return [
            deserialize_message(message.data, String).data
            for _, _, message in make_reader(stream).iter_messages(topics=[f'/{TOPIC}'])
        ]


def _count(scene: Scene, number: int = 20) -> list[tuple[str, float]]:
    """Publish marks; return each with the time at which it was sent."""
    sent = []
    for _ in range(number):
        scene.kept['count'] = int(str(scene.kept.get('count', 0))) + 1
        word = f'mark {scene.kept["count"]}'
        scene.hands.say(String(data=word), TOPIC)
        sent.append((word, time.time()))
        time.sleep(0.05)
    return sent


def _counting(act: Callable[[Scene], object]) -> Callable[[Scene], object]:
    """Return an injection with 1 s of marks before it, once the recorder hears them."""

    def inject(scene: Scene) -> object:
        bag = scene.kept['bag'] = _bags()[-1]
        scene.until(lambda: _count(scene, 1) and recorded(bag))
        scene.kept['marks'] = _count(scene, 40)
        scene.kept['at'] = time.time()
        return act(scene)

    return inject


def _lost(flushed_s: float) -> Callable[[Scene], str]:
    """Return a check: all marks sent this long before the injection are in the bag."""

    def check(scene: Scene) -> str:
        bag, marks = scene.kept['bag'], scene.kept['marks']
        needed = [w for w, sent in marks if sent < scene.kept['at'] - flushed_s]
        missing = set(needed) - set(recorded(bag))
        if not (bag.parent / 'metadata.yaml').is_file():
            return 'no metadata.yaml'
        return _told(len(missing), len(needed))

    return check


def _told(missing: int, needed: int) -> str:
    if not needed:
        return 'no message was to be looked for'
    return f'{missing} of {needed} messages lost' if missing else ''


def _kill(number: int) -> Callable[[Scene], str]:
    def inject(scene: Scene) -> str:
        scene.graph.signal('recorder', number)
        return f'status {scene.graph.wait_dead("recorder")}'

    return inject


def _full(scene: Scene) -> None:
    """Let no file of the recorder grow further."""
    size = scene.kept['bag'].stat().st_size + 100_000
    resource.prlimit(scene.graph.pid('recorder'), resource.RLIMIT_FSIZE, (size, size))


def _restart(scene: Scene) -> None:
    scene.graph.stop_node('recorder')
    scene.graph.start('recorder')
    scene.seen_revived('recorder')


def _no_files(scene: Scene) -> None:
    """Let the recorder open no further file."""
    resource.prlimit(scene.graph.pid('recorder'), resource.RLIMIT_NOFILE, (3, 3))


def _many_topics(scene: Scene) -> None:
    scene.kept['publishers'] = [
        scene.hands.node.create_publisher(String, f'fault_topic_{number}', 10)
        for number in range(60)
    ]


def _fewer_topics(scene: Scene) -> None:
    for made in scene.kept.pop('publishers'):
        scene.hands.node.destroy_publisher(made)


def _another_folder(scene: Scene) -> str:
    """Have the recorder configured on a folder that holds a bag."""
    before = _bags()
    for step in ('deactivate', 'cleanup', 'configure', 'activate'):
        assert scene.hands.transition('recorder', step), step
    taken = [bag for bag in _bags() if bag not in before]
    scene.kept['taken'] = '' if len(taken) == 1 else f'{len(taken)} new bags'
    return f'{len(before)} bags before, then {len(_bags())}'


def _no_folder(scene: Scene) -> None:
    for step in ('deactivate', 'cleanup'):
        scene.hands.transition('recorder', step)
    scene.hands.set_parameters('recorder', {'folder': '/dev/null/bag'})
    scene.hands.transition('recorder', 'configure')


def _folder_again(scene: Scene) -> None:
    scene.hands.set_parameters('recorder', {'folder': str(FOLDER)})
    for step in ('configure', 'activate'):
        assert scene.hands.transition('recorder', step), step


FAULTS = [
    Fault('a folder that holds a bag', 'cleanup, configure', _counting(_another_folder),
          check=lambda s: _lost(0.0)(s) or str(s.kept['taken'])),
    Fault('a folder that cannot be written', '/dev/null/bag', _no_folder,
          reason='recorder folder', remove=_folder_again),
    Fault('sixty topics appear', 'while recording', _counting(_many_topics),
          remove=_fewer_topics, check=_lost(2 * FLUSH_S + 0.5)),
    Fault('the disk is full', 'RLIMIT_FSIZE 100 kB above the size of the bag',
          _counting(_full), reason='disk', remove=_restart,
          check=_lost(FLUSH_S + AT_ONCE_S), lasts_s=2.0),
    Fault('no further files', 'RLIMIT_NOFILE 3', _counting(_no_files), remove=_restart,
          check=_lost(FLUSH_S), lasts_s=2.0),
    Fault('SIGKILL to the recorder', 'kill', _counting(_kill(signal.SIGKILL)), dies='recorder',
          check=_lost(FLUSH_S + AT_ONCE_S)),
    Fault('SIGTERM to the recorder', 'kill', _counting(_kill(signal.SIGTERM)), dies='recorder',
          check=_lost(0.1)),
    Fault('SIGHUP to the recorder', 'kill', _counting(_kill(signal.SIGHUP)), dies='recorder',
          check=_lost(0.1)),
    Fault('SIGSEGV to the recorder', 'kill', _counting(_kill(signal.SIGSEGV)), dies='recorder',
          check=_lost(FLUSH_S + AT_ONCE_S)),
]  # fmt: skip
