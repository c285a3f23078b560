from dataclasses import replace
from pathlib import Path
import runpy

import numpy as np

from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm

STUDY = runpy.run_path(str(Path(__file__).parents[2] / 'studies/motion.py'))


def test_jerk_at_the_output_is_at_most_a_third_of_that_of_single_steps():
    robot = load_robot('sim_panda')
    limits = replace(robot.limits, max_slowdown=2.0, **STUDY['LIMITS'])
    arm = Arm(replace(robot, limits=limits))
    came = STUDY['arrivals'](robot, 5.0, 1)
    times = np.arange(0.0, 5.0, STUDY['SAMPLE_S'])
    steps, path = (
        STUDY['figures'](*STUDY[way](arm, came, times), times) for way in ('by_steps', 'by_motion')
    )
    for row in ('jerk RMS [m/s³]', 'largest jerk [m/s³]'):
        assert path[row] <= steps[row] / 3
    assert path['largest jerk [m/s³]'] <= limits.linear_jerk
    assert path['distance from the curve, RMS [mm]'] < 15
