"""Services: hold and enable in every order, floods, scenes laid out in the middle."""

from collections.abc import Callable
import time

from std_srvs.srv import SetBool, Trigger

from studies.faults.contract import AT_ONCE_S, CHUNK_S, POLICY_S
from studies.faults.fault import Fault
from studies.faults.trial import Scene


def _calls(*steps: object) -> Callable[[Scene], str]:
    """Return an injection of calls to the player: 'hold', True or False for ~/enable."""

    def inject(scene: Scene) -> str:
        answers = [
            scene.hands.hold() if step == 'hold' else scene.hands.enable('action_player', step)
            for step in steps
        ]
        return '' if all(answers) else f'answers {answers}'

    return inject


def _held(name: str, *steps: object, reason: str = 'held', **further: object) -> Fault:
    words = ', '.join('~/hold' if s == 'hold' else f'~/enable {s}' for s in steps)
    # calls come one after the other: the last one counts
    hold_s = AT_ONCE_S + 0.2 * len(steps)
    return Fault(name, words, _calls(*steps), hold_s, reason, enable=True, lasts_s=1.5, **further)  # type: ignore[arg-type]


def _flood(scene: Scene) -> str:
    """Call without waiting for answers; a hold comes last."""
    hold = scene.hands.node.create_client(Trigger, 'action_player/hold')
    enable = scene.hands.node.create_client(SetBool, 'action_player/enable')
    scene.until(lambda: hold.service_is_ready() and enable.service_is_ready())
    futures = []
    for number in range(200):
        request = SetBool.Request(data=number % 2 == 0)
        futures.append(enable.call_async(request))
        futures.append(hold.call_async(Trigger.Request()))
    scene.until(lambda: all(f.done() for f in futures), 4.0)  # a short queue drops many
    done = sum(f.done() for f in futures)
    scene.hands.hold()
    for client in (hold, enable):
        scene.hands.node.destroy_client(client)
    return f'{done} of {len(futures)} calls answered'


def _enable_again_and_again(scene: Scene) -> None:
    for _ in range(20):
        scene.hands.enable('action_player', True)


def _policy_off(scene: Scene) -> None:
    scene.hands.enable('policy', False)


def _policy_on(scene: Scene) -> None:
    scene.hands.enable('policy', True)


def _reset(scene: Scene) -> None:
    scene.lay_out()


def _resets(scene: Scene) -> None:
    for _ in range(5):
        _reset(scene)
        time.sleep(0.2)


def _bad_resets(scene: Scene) -> str:
    wrong = [
        scene.hands.reset(-1), scene.hands.reset(8000, 'dance'),
        scene.hands.reset(8000, 'pick', 'make me a sandwich'), scene.hands.reset(-(2**63)),
    ]  # fmt: skip
    accepted = [answer for answer in wrong if answer is None or answer.success]
    return f'{len(wrong) - len(accepted)} of {len(wrong)} refused'


FAULTS = [
    _held('hold while moving', 'hold'),
    _held('hold while moving, trajectory', 'hold', output='trajectory'),
    _held('hold with the policy acting', 'hold', source='policy'),
    _held('hold twice', 'hold', 'hold'),
    _held('enable, then hold', True, 'hold'),
    _held('disable, then hold', False, 'hold'),
    _held('disabled', False, reason='dry run'),
    _held('disabled, trajectory', False, reason='dry run', output='trajectory'),
    _held('hold, then disabled', 'hold', False, reason='dry run'),
    _held('hold, enable, hold', 'hold', True, 'hold'),
    Fault('hold, then enable at once', '~/hold, ~/enable true', _calls('hold', True)),
    Fault('disable, then enable at once, trajectory', '~/enable false, true',
          _calls(False, True), output='trajectory'),
    Fault('enabled twenty times', '~/enable true', _enable_again_and_again),
    Fault('400 calls at once', 'enable true, hold, enable false, hold …', _flood, 10.0, 'held',
          enable=True),
    Fault('the policy is disabled', 'policy/enable false', _policy_off, CHUNK_S + POLICY_S,
          'policy disabled', _policy_on, source='policy'),
    Fault('the scene is laid out anew', 'sim/reset', _reset, quiet=True, enable=True),
    Fault('the scene is laid out anew, trajectory', 'sim/reset', _reset, quiet=True, enable=True,
          output='trajectory'),
    Fault('five scenes in two seconds', 'sim/reset', _resets, quiet=True, enable=True),
    Fault('scenes that do not exist', 'seed -1, task dance, a sandwich, seed -2^63', _bad_resets),
]  # fmt: skip
