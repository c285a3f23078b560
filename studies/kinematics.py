"""Compares libraries of kinematics on the simulated Panda: time per call, accuracy, size.

    python studies/kinematics.py

Pinocchio as it is used here (`robot.kinematics.Arm`) and bare, MuJoCo, and inverse kinematics of
mink (on MuJoCo) and pink (on Pinocchio) where they are installed; all solve their QP with daqp:

    pip install --no-deps --target /tmp/compared mink pin-pink qpsolvers scipy
    PYTHONPATH=/tmp/compared python studies/kinematics.py
"""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
import time

import mujoco
import numpy as np
import pinocchio as pin

from worldvla_ros.robot import kinematics
from worldvla_ros.robot.description import load_robot
from worldvla_ros.robot.kinematics import Arm, rotation_vector
from worldvla_ros.robot.urdf import arm_urdf, read_urdf
from worldvla_ros.sim.tabletop import TabletopEnv

POSES = 200
OFFSET_RAD = 0.2
STEPS = 20
REACHED = 1e-5
"""Miss in metres and radians."""
INSTALLED = {
    'pin': (
        'pin', 'libpinocchio', 'coal', 'libcoal', 'eigenpy', 'cmeel-assimp', 'cmeel-boost',
        'cmeel-console-bridge', 'cmeel-octomap', 'cmeel-qhull', 'cmeel-tinyxml2', 'cmeel-urdfdom',
        'cmeel-zlib',
    ),
    'mujoco': ('mujoco',),
    'mink': ('mink', 'qpsolvers', 'scipy'),
    'pink': ('pin-pink', 'qpsolvers', 'scipy'),
}  # fmt: skip
"""What each needs beyond numpy and daqp; mink also needs mujoco, pink also pin."""
SINGULAR_POSES = (
    ('ur5e_jtc', [0.0, -1.2, 1.5, -1.9, 0.0, 0.3]),
    ('sim_panda', [0.0, 0.0, 0.0, -0.07, 0.0, 1.6, 0.8]),
)
"""A UR5e whose fourth and sixth axes are parallel, and a Panda stretched upwards."""
HEADERS = ('.h', '.hpp', '.hxx')


class MujocoPanda:
    """The arm of the tabletop in MuJoCo."""

    def __init__(self, env, names):
        """Find its joints and its tip."""
        self.model, self.data = env.model, mujoco.MjData(env.model)
        self.site = self.model.site('tcp').id
        self.positions = [self.model.joint(name).qposadr[0] for name in names]
        self.columns = [self.model.joint(name).dofadr[0] for name in names]

    def pose(self, joints):
        """Return the pose of the tip."""
        self.data.qpos[self.positions] = joints
        mujoco.mj_kinematics(self.model, self.data)
        pose = np.eye(4)
        pose[:3, 3] = self.data.site_xpos[self.site]
        pose[:3, :3] = self.data.site_xmat[self.site].reshape(3, 3)
        return pose

    def jacobian(self, joints):
        """Return how the tip moves."""
        self.pose(joints)
        mujoco.mj_comPos(self.model, self.data)
        matrix = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, matrix[:3], matrix[3:], self.site)
        return matrix[:, self.columns]


class BarePinocchio:
    """Pinocchio without what `Arm` adds: another order of joints, another base, checks."""

    def __init__(self, arm):
        """Build the model of an arm."""
        part = arm_urdf(read_urdf(arm.robot), arm.robot)
        whole = pin.buildModelFromXML(part.xml)
        locked = [i for i in range(1, whole.njoints) if 'finger' in whole.names[i]]
        self.model = pin.buildReducedModel(whole, locked, pin.neutral(whole))
        self.data = self.model.createData()
        self.tip = self.model.getFrameId(arm.robot.tip_frame)

    def pose(self, joints):
        """Return the pose of the tip."""
        pin.forwardKinematics(self.model, self.data, joints)
        return pin.updateFramePlacement(self.model, self.data, self.tip)

    def jacobian(self, joints):
        """Return how the tip moves."""
        axes = pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        return pin.computeFrameJacobian(self.model, self.data, joints, self.tip, axes)


def mink_solver(env, arm):
    """Return a function that solves one pose with mink, or None without it."""
    if not find_spec('mink'):
        return None
    import mink

    panda = MujocoPanda(env, arm.names)
    configuration = mink.Configuration(panda.model)
    task = mink.FrameTask('tcp', 'site', position_cost=1.0, orientation_cost=1.0)
    limits = [mink.ConfigurationLimit(panda.model)]

    def solve(start, target):
        q = configuration.q.copy()
        q[panda.positions] = start
        configuration.update(q)
        task.set_target(mink.SE3.from_matrix(target))
        for _ in range(STEPS):
            if np.abs(task.compute_error(configuration)).max() < REACHED / 2:
                break
            speed = mink.solve_ik(configuration, [task], 1.0, 'daqp', 1e-8, limits=limits)
            configuration.integrate_inplace(speed, 1.0)
        return configuration.q[panda.positions]

    return solve


def pink_solver(arm):
    """Return a function that solves one pose with pink, or None without it."""
    if not find_spec('pink'):
        return None
    import pink

    bare = BarePinocchio(arm)
    bare.model.lowerPositionLimit[:] = arm.minimum
    bare.model.upperPositionLimit[:] = arm.maximum
    task = pink.tasks.FrameTask(arm.robot.tip_frame, position_cost=1.0, orientation_cost=1.0)
    limits = [pink.limits.ConfigurationLimit(bare.model)]

    def solve(start, target):
        configuration = pink.Configuration(bare.model, bare.data, start)
        task.set_target(pin.SE3(target))
        for _ in range(STEPS):
            if np.abs(task.compute_error(configuration)).max() < REACHED / 2:
                break
            speed = pink.solve_ik(
                configuration, [task], 1.0, 'daqp', damping=1e-8, limits=limits, safety_break=False
            )
            configuration.integrate_inplace(speed, 1.0)
        return configuration.q

    return solve


def microseconds(function, rows):
    """Return the median time of a call over the rows [µs]."""
    times = []
    for row in rows:
        begin = time.perf_counter()
        function(*row)
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e6


def missed(arm, solve, tasks):
    """Return how many of the poses are missed."""
    count = 0
    for start, target in tasks:
        pose = arm.pose(solve(start, target))
        turn = rotation_vector(target[:3, :3] @ pose[:3, :3].T)
        apart = np.linalg.norm(target[:3, 3] - pose[:3, 3])
        count += max(apart, np.linalg.norm(turn)) > REACHED
    return count


def damping_table(tasks):
    """Print what damping near singular poses costs and what it is good for."""
    chosen = kinematics.SINGULAR
    print(
        '\nless damping: poses missed; joints move at most [rad] for 2 mm near a singular pose of'
    )
    print('least singular value   missed   ' + '   '.join(name for name, _ in SINGULAR_POSES))
    for bound in (1e-9, 0.01, 0.02, 0.03):
        kinematics.SINGULAR = bound
        arms = {name: Arm(load_robot(name)) for name, _ in SINGULAR_POSES}
        panda = arms['sim_panda']
        count = missed(panda, lambda a, b, arm=panda: arm.solve(a, b).joints, tasks)
        moved = [farthest(arms[name], np.array(pose)) for name, pose in SINGULAR_POSES]
        print(f'{bound:<20.2g}{count:9}   ' + '   '.join(f'{number:8.2f}' for number in moved))
    kinematics.SINGULAR = chosen


def farthest(arm, singular):
    """Return the largest motion of a joint for small motions of the tip near a pose [rad]."""
    rng, most = np.random.default_rng(3), 0.0
    for _ in range(POSES):
        start = singular + rng.uniform(-0.03, 0.03, len(singular))
        start = np.clip(start, arm.minimum, arm.maximum)
        target = arm.pose(start)
        target[:3, 3] += rng.uniform(-0.002, 0.002, 3)
        most = max(most, float(np.abs(arm.solve(start, target).joints - start).max()))
    return most


def megabytes(names):
    """Return the size of installed packages [MB], and of their C++ headers; None without one."""
    total = headers = 0
    for name in names:
        try:
            files = [file.locate() for file in metadata.files(name) or []]
        except metadata.PackageNotFoundError:
            return None
        if name == 'mujoco':  # some installers list its metadata only
            files = Path(mujoco.__file__).parent.rglob('*')
        for path in {file.resolve() for file in files}:
            if path.is_file():
                total += path.stat().st_size
                headers += path.stat().st_size if path.suffix in HEADERS else 0
    return total / 1e6, headers / 1e6


def main():
    """Print all figures."""
    env = TabletopEnv(cameras=(), image_size=0)
    arm = Arm(load_robot('sim_panda'))
    simulated, bare = MujocoPanda(env, arm.names), BarePinocchio(arm)
    rng = np.random.default_rng(0)
    rows = rng.uniform(arm.minimum, arm.maximum, (1000, len(arm.names)))
    apart = max(np.abs(arm.pose(q) - simulated.pose(q)).max() for q in rows)
    matrices = max(np.abs(arm.jacobian(q) - simulated.jacobian(q)).max() for q in rows)
    print(f'1000 random poses, Pinocchio and MuJoCo differ by {apart:.1e} in the pose and')
    print(f'{matrices:.1e} in the Jacobian [m, rad]\n')
    print('time of a call [µs]        pose  Jacobian  collisions')
    for name, library in (
        ('Arm (Pinocchio)', arm),
        ('Pinocchio, bare', bare),
        ('MuJoCo', simulated),
    ):
        calls = [(q,) for q in rows]
        pose, jacobian = (microseconds(f, calls) for f in (library.pose, library.jacobian))
        found = f'{microseconds(arm.collisions, calls):10.0f}' if library is arm else ''
        print(f'{name:24}{pose:8.1f}{jacobian:10.1f}{found}')
    starts = rows[:POSES] + rng.uniform(-OFFSET_RAD, OFFSET_RAD, (POSES, len(arm.names)))
    tasks = [
        (np.clip(start, arm.minimum, arm.maximum), arm.pose(q))
        for start, q in zip(starts, rows, strict=False)
    ]
    print(f'\ninverse kinematics, {POSES} poses from joints ±{OFFSET_RAD} rad away, {STEPS} steps')
    solvers = {
        'Arm': lambda start, target: arm.solve(start, target, iterations=STEPS).joints,
        'mink': mink_solver(env, arm),
        'pink': pink_solver(arm),
    }
    for name, solve in solvers.items():
        if solve is None:
            print(f'{name:8}not installed')
            continue
        time_us = microseconds(solve, tasks)
        print(f'{name:8}{time_us:8.0f} µs a pose, {missed(arm, solve, tasks)} missed')
    damping_table(tasks)
    print('\ninstalled size [MB]')
    for name, parts in INSTALLED.items():
        sizes = megabytes(parts)
        words = (
            'not installed' if sizes is None else f'{sizes[0]:.0f}, {sizes[1]:.0f} of it headers'
        )
        print(f'{name:8} {words}')
    env.close()


if __name__ == '__main__':
    main()
