"""Copy the sources into another folder, for an environment with another ROS 2.

An editable install compiles the interfaces into the sources, so that two distributions of ROS 2
cannot share one folder. What is copied is what git would: files that it knows, and new ones that
it does not ignore. What was compiled in the other folder stays; what is gone here goes there too.

    python3 tools/second_checkout.py build/jazzy
"""

from pathlib import Path
import shutil
import subprocess
import sys

ROOT = Path(__file__).resolve().parent.parent
LIST = 'sources.txt'
"""In the other folder: what was copied the last time."""
NOT_COPIED = {'.git', 'build', 'install', 'log', 'out', 'data', 'mutants', '__pycache__'}
GENERATED = {'worldvla_ros/msg', 'worldvla_ros/srv', 'worldvla_ros/action'}


def listed_by_git(root: Path) -> list[str] | None:
    """Return the files that git would take along, or None where this is no checkout."""
    command = ['git', '-C', str(root), 'ls-files', '-z', '-c', '-o', '--exclude-standard']
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    if done.returncode or not (root / '.git').exists():
        return None
    return [name for name in done.stdout.split('\0') if name and (root / name).is_file()]


def listed_by_hand(root: Path) -> list[str]:
    """Return the same from an unpacked archive: all but what is generated, hidden or installed."""
    found = []
    for path in root.rglob('*'):
        name = path.relative_to(root)
        first = name.parts[0]
        generated = any(str(name).startswith(f'{folder}/') for folder in GENERATED)
        hidden = first.startswith('.venv') or not NOT_COPIED.isdisjoint(name.parts)
        if path.is_file() and not (generated or hidden or path.suffix == '.so'):
            found.append(str(name))
    return found


def copy(root: Path, target: Path) -> list[str]:
    """Make `target` hold the sources of `root`; return what was copied or removed."""
    names = sorted(listed_by_git(root) or listed_by_hand(root))
    before = target / LIST
    gone = set(before.read_text().splitlines()) - set(names) if before.is_file() else set()
    changed = sorted(gone)
    for name in gone:
        (target / name).unlink(missing_ok=True)
    for name in names:
        old, new = root / name, target / name
        if not new.is_file() or old.stat().st_mtime_ns != new.stat().st_mtime_ns:
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(old, new)  # with its time, so that make sees what has changed
            changed.append(name)
    target.mkdir(parents=True, exist_ok=True)
    before.write_text('\n'.join(names) + '\n')
    return changed


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit('Expected one argument: the folder to copy to, such as build/jazzy.')
    print(f'{len(copy(ROOT, Path(sys.argv[1])))} files changed in {sys.argv[1]}')
