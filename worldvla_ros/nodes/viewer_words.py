"""What the page says of messages, in words. Must not know pages or nodes."""

import math

from diagnostic_msgs.msg import DiagnosticArray

from worldvla_ros.msg import PlayerState, TaskState

LONGEST = 512
"""Characters of a sentence; the policy takes no longer one."""
MEANINGS = {
    PlayerState.DRY_RUN: 'dry run: nothing is sent',
    PlayerState.ENABLED: 'enabled',
    PlayerState.HELD: 'held',
    PlayerState.STOPPED: 'STOPPED',
}


def player_words(state: PlayerState) -> tuple[str, str]:
    """Return the kind (moving, held, stopped) and the words of a player's state."""
    if state.mode == PlayerState.STOPPED:
        kind = 'stopped'
    else:
        kind = 'moving' if state.moving and not state.reasons else 'held'
    words = MEANINGS.get(state.mode, state.mode)
    if state.moving and not state.reasons:
        slower = f', {state.slowdown:.1f} times slower' if state.slowdown > 1.05 else ''
        return kind, f'{words}: playing a chunk{slower}'
    if not state.reasons:
        return kind, words
    reason = state.reasons[0]
    return kind, f'{words}: {reason.text}. {reason.remedy}'


def policy_words(message: DiagnosticArray) -> str:
    """Return what the policy says of itself; '' where it says nothing."""
    return f'policy: {message.status[0].message}' if message.status else ''


def imagined_words(age_s: float, psnr_db: float) -> str:
    """Return how old an imagined image is, and how near to what was seen."""
    near = 'the same' if math.isinf(psnr_db) else f'{psnr_db:.1f} dB'
    return f'imagined for {age_s:.1f} s ago; PSNR to what was seen: {near}'


def task_words(task: TaskState) -> str:
    """Return what the simulation says of its task."""
    done = 'done' if task.success else 'not yet'
    return f'scene {task.seed}: {task.instruction}: {done}'
