"""The table as JSON and Markdown."""

from collections import Counter
import json
from pathlib import Path

from studies.faults.trial import Outcome

PAGE = """# Injected faults

`make faults` starts the graph as processes, lets the arm move, injects each fault, and undoes it.
A monitor in a process of its own judges every command on the wire while it happens, with limits
and kinematics that share no code with the package (`studies/faults/limits.py`). A row holds if no
command was outside the limits, none came after the hold time-out, the reason was published,
commands flowed again as documented, no process ended that was not ended on purpose, and no
exception was logged.

{held} of {rows} faults held: {told}.

{listed}

*Seen* begins with the time of the last moving command after the injection where the arm had to
stand still, and ends with the time from the end of the fault to the next moving command.
Hold time-outs are in `studies/faults/contract.py`; they include 0.6 s for a planned stop and for
the delays of a loaded machine.

All processes speak by UDP on 127.0.0.1 (`config/dds/loopback.xml`). With Fast DDS's shared
memory, which ROS 2 uses by default within one computer, a process that was suspended with SIGSTOP
for 2 s left others deaf to some topics for good in 3 of 6 runs: the arm held and said why, and
went on only once those were started anew.

`--only WORDS` and `--family NAME` try some of the faults, `python -m studies.faults.run --short` a
dozen."""

COLUMNS = ('| fault | how | expected | seen | verdict |', '|---|---|---|---|---|')


def as_json(rows: list[tuple[str, Outcome]], figures: dict) -> str:
    """Return all rows with everything that was seen."""
    listed = [
        {
            'family': family,
            'name': o.fault.name,
            'how': o.fault.how,
            'expected': o.fault.expected,
            'output': o.fault.output,
            'chunks_from': o.fault.source,
            'seen': o.seen,
            'last_moving_command_s': o.stopped_s,
            'again_s': o.again_s,
            'commands': o.commands,
            'farthest_outside_mm': round(o.farthest_mm, 1),
            'took_s': round(o.took_s, 1),
            'verdict': 'held' if not o.wrong else 'failed',
            'wrong': o.wrong,
        }
        for family, o in rows
    ]
    return json.dumps({'figures': figures, 'faults': listed}, indent=1)


def as_markdown(rows: list[tuple[str, Outcome]], figures: dict) -> str:
    """Return the page docs/fault-table.md."""
    lines = [_head(rows, figures)]
    for family in dict.fromkeys(family for family, _ in rows):
        lines += ['', f'## {family.capitalize()}', '', *COLUMNS]
        lines += [_row(o) for f, o in rows if f == family]
    return '\n'.join(lines) + '\n'


def _head(rows: list[tuple[str, Outcome]], figures: dict) -> str:
    held = sum(not o.wrong for _, o in rows)
    counts = Counter(family for family, _ in rows)
    told = ', '.join(f'{family} {count}' for family, count in counts.items())
    listed = '\n'.join(f'* {name}: {value}' for name, value in figures.items())
    return PAGE.format(held=held, rows=len(rows), told=told, listed=listed)


def _row(o: Outcome) -> str:
    seen = []
    if o.stopped_s is not None:
        seen.append(f'last command after {o.stopped_s:.2f} s')
    seen += o.seen
    if o.again_s is not None:
        seen.append(f'again after {o.again_s:.2f} s')
    verdict = 'held' if not o.wrong else '**failed**: ' + '; '.join(o.wrong)
    cells = (o.fault.name, o.fault.how, o.fault.expected, '; '.join(seen), verdict)
    return '| ' + ' | '.join(_cell(text) for text in cells) + ' |'


def _cell(text: str) -> str:
    clean = ' '.join(str(text).split()).replace('|', '\\|').replace('<', '&lt;')
    return clean if len(clean) <= 240 else clean[:237] + '…'


def write(folder: Path, rows: list[tuple[str, Outcome]], figures: dict) -> None:
    """Write faults.json and faults.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'faults.json').write_text(as_json(rows, figures))
    (folder / 'faults.md').write_text(as_markdown(rows, figures))
