"""Tasks as sentences: goals, their canonical wording, and paraphrases.

Knows words. Must not know MuJoCo. Left and right are meant as seen in the front camera's image.
"""

from dataclasses import dataclass
import re

import numpy as np

from worldvla_ros.errors import InstructionError

KINDS = ('pick', 'push', 'put')
COLOUR_NAMES = ('red', 'green', 'blue', 'yellow')
DIRECTIONS = ('left', 'right')
CANONICAL_SHARE = 0.35

_CANONICAL = {
    'pick': 'pick up the {colour} cube',
    'push': 'push the {colour} cube to the {direction}',
    'put': 'put the {colour} cube on the {target} cube',
}
_VERBS = {
    'pick': (
        'pick up', 'grab', 'lift', 'take', 'grasp', 'raise', 'get', 'pick', 'lift up', 'hold',
        'collect', 'fetch',
    ),
    'push': ('push', 'move', 'slide', 'shove', 'sweep', 'nudge', 'shift', 'drag'),
    'put': ('put', 'place', 'stack', 'set', 'drop', 'lay'),
}  # fmt: skip
_THINGS = ('cube', 'block', 'box', 'cube', 'brick', 'one', '')
_PREFIXES = ('', '', '', '', 'please ', 'now ', 'go and ', 'you should ', 'robot, ', 'try to ')
_SUFFIXES = {
    'pick': ('', '', '', '', ' please', ' now', ' from the table', ' off the table', ' up'),
    'push': ('', '', '', '', ' please', ' now', ' on the table'),
    'put': ('', '', '', '', ' please', ' now'),
}
_WAYS = ('to the {direction}', 'to the {direction} side', '{direction}', 'towards the {direction}',
         'toward the {direction}', 'over to the {direction}')  # fmt: skip
_ONTO = ('on', 'onto', 'on top of', 'upon')

HELDOUT_PARAPHRASES = {
    'pick': (
        'could you lift the {colour} block for me',
        'can you grab the {colour} cube',
        'I want you to pick up the {colour} box',
        'lift the {colour} cube into the air',
        'raise up the {colour} block',
        'bring up the {colour} cube',
        'take hold of the {colour} cube and lift it',
        'the {colour} cube, pick it up',
        'just grab that {colour} block',
        'grasp the {colour} cube and raise it',
    ),
    'push': (
        'could you push the {colour} block {direction}',
        'can you slide the {colour} cube to the {direction}',
        'I want the {colour} box moved to the {direction}',
        'make the {colour} cube go {direction}',
        'the {colour} cube, push it {direction}',
        'give the {colour} block a push to the {direction}',
        'just move that {colour} cube {direction}',
        'get the {colour} cube further to the {direction}',
        'shove that {colour} block over {direction}',
        'push the {colour} one a bit to the {direction}',
    ),
    'put': (
        'could you stack the {colour} block on the {target} one',
        'can you place the {colour} cube on top of the {target} block',
        'I want the {colour} cube on the {target} cube',
        'the {colour} cube goes on top of the {target} cube',
    ),
}
"""Sentences that the training generator never makes; {…} as in a goal."""


@dataclass(frozen=True)
class Goal:
    """What is to be done.

    Attributes:
        kind: One of `KINDS`.
        colour: Colour of the cube to move.
        direction: 'left' or 'right' in the front image, for 'push'.
        target: Colour of the cube below, for 'put'.
    """

    kind: str
    colour: str
    direction: str = ''
    target: str = ''

    @property
    def sentence(self) -> str:
        """The canonical wording."""
        return self.word(_CANONICAL[self.kind])

    def word(self, template: str) -> str:
        """Fill a template's {colour}, {direction} and {target}."""
        return template.format(colour=self.colour, direction=self.direction, target=self.target)

    @classmethod
    def from_text(cls, kind: str, text: str) -> 'Goal':
        """Find the goal that a sentence names.

        Raises:
            InstructionError: A colour, a direction or the second colour is not named.
        """
        words = re.findall(r'[a-z]+', text.lower())
        colours = [w for w in words if w in COLOUR_NAMES]
        ways = [w.removesuffix('wards').removesuffix('ward') for w in words]
        directions = [w for w in ways if w in DIRECTIONS]
        needed = 2 if kind == 'put' else 1
        if len(colours) < needed:
            raise InstructionError(
                f'{text!r} does not say which cube to {kind}',
                expected=f'{needed} of the colours {", ".join(COLOUR_NAMES)}',
                got=colours or 'none',
                remedy=f'Say for example {_example(kind)!r}.',
            )
        if kind == 'push' and not directions:
            raise InstructionError(
                f'{text!r} does not say where to push',
                expected='left or right',
                remedy=f'Say for example {_example(kind)!r}.',
            )
        direction = directions[-1] if kind == 'push' else ''
        return cls(kind, colours[0], direction, colours[1] if kind == 'put' else '')


def kind_of(text: str) -> str:
    """Return the kind of task that a sentence most likely names."""
    words = re.findall(r'[a-z]+', text.lower())
    if sum(w in COLOUR_NAMES for w in words) > 1:
        return 'put'
    return 'push' if any(w.startswith(DIRECTIONS) for w in words) else 'pick'


def _example(kind: str) -> str:
    return Goal(kind, 'red', 'left', 'blue').sentence


def sample_goal(kind: str, colours: tuple[str, ...], rng: np.random.Generator) -> Goal:
    """Draw a goal among the cubes of a scene."""
    first, second = rng.choice(len(colours), size=2, replace=False)
    direction = DIRECTIONS[rng.integers(2)] if kind == 'push' else ''
    return Goal(kind, colours[first], direction, colours[second] if kind == 'put' else '')


def paraphrase(goal: Goal, rng: np.random.Generator) -> str:
    """Draw a wording of a goal for training; often the canonical one."""
    if rng.random() < CANONICAL_SHARE:
        return goal.sentence

    def draw(options: tuple[str, ...]) -> str:
        return options[rng.integers(len(options))]

    def thing(colour: str) -> str:
        return f'the {colour} {draw(_THINGS)}'.strip()

    ending = ''
    if goal.kind == 'push':
        ending = ' ' + draw(_WAYS).format(direction=goal.direction)
    if goal.kind == 'put':
        ending = f' {draw(_ONTO)} {thing(goal.target)}'
    body = f'{draw(_VERBS[goal.kind])} {thing(goal.colour)}{ending}'
    return f'{draw(_PREFIXES)}{body}{draw(_SUFFIXES[goal.kind])}'


def corpus() -> list[str]:
    """Return training sentences of every kind, for learning a text tokenizer."""
    rng = np.random.default_rng(0)
    goals = [sample_goal(kind, COLOUR_NAMES, rng) for kind in KINDS for _ in range(1500)]
    return [paraphrase(goal, rng) for goal in goals]
