"""launch_testing starts the graph as `ros2 launch` does, where it is installed.

It runs as a process of its own: as a plug-in of pytest it does not work with pytest 9.
"""

import os
from pathlib import Path
import signal
import subprocess
import sys

import pytest

ROOT = Path(__file__).parent.parent
RUN = 'from launch_testing.launch_test import main; main()'


@pytest.mark.ros2cli
@pytest.mark.slow
@pytest.mark.realtime
@pytest.mark.timeout(400)
def test_the_launched_graph_moves_the_simulated_arm():
    pytest.importorskip(
        'launch_testing', reason='launch_testing is not on PyPI; comes with a ROS 2 install'
    )
    done = subprocess.run(
        [sys.executable, '-c', RUN, str(ROOT / 'test/launched/moved_arm.py')],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=380,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert 'test_chunks_come_and_the_arm_moves' in done.stdout
    assert 'test_every_process_ended_in_order' in done.stdout
