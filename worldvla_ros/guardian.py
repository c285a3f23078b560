"""Ends the nodes of a launch when the process that started them is gone, whatever ended it.

A program of its own, started by `processes.Processes`, which writes each process group to its
standard input: `+123` when it starts, `-123` when it has ended. That pipe closes with the process
at its other end, even where SIGKILL ends it. Must not know nodes, nor import more than the
standard library: it runs without site-packages, to be small and to start at once.
"""

from collections.abc import Iterable
import os
import signal
import sys
import time

GRACE_S = 8.0
"""Time for nodes to stop the robot and close the bag before SIGKILL [s]."""
POLL_S = 0.05


def end(groups: Iterable[int], grace_s: float = GRACE_S) -> None:
    """End process groups with SIGTERM, and with SIGKILL those that live on after `grace_s`."""
    living = [group for group in groups if send(group, signal.SIGTERM)]
    deadline = time.monotonic() + grace_s
    while living and time.monotonic() < deadline:
        time.sleep(POLL_S)
        living = [group for group in living if send(group, 0)]
    for group in living:
        send(group, signal.SIGKILL)


def send(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether there is one."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main() -> None:
    """Read process groups until the pipe closes, then end those that are left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        change = groups.add if line.startswith('+') else groups.discard
        change(int(line[1:]))
    end(groups)


if __name__ == '__main__':
    main()
