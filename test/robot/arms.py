"""URDFs and descriptions for tests: small arms whose every number is known."""

from dataclasses import replace

from worldvla_ros.robot.description import load_robot

PANDA = load_robot('sim_panda')


def joint(
    name, parent, child, xyz='0 0 0', *, kind='revolute', axis='0 0 1', inside='', rpy='0 0 0',
    limit='<limit lower="-2" upper="2" velocity="1.5" effort="1"/>',
):  # fmt: skip
    return f"""<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>
        <origin xyz="{xyz}" rpy="{rpy}"/><axis xyz="{axis}"/>{limit}{inside}</joint>"""


def link(name, shape='', xyz='0 0 0'):
    if not shape:
        return f'<link name="{name}"/>'
    return f"""<link name="{name}"><collision><origin xyz="{xyz}"/><geometry>{shape}</geometry>
        </collision></link>"""


def urdf(*parts):
    return f'<robot name="test">{"".join(parts)}</robot>'


BALL = '<sphere radius="0.1"/>'
PLANAR = (
    link('base', BALL), link('one', BALL, '0.5 0 0'), link('two', BALL, '0.5 0 0'), link('tip'),
    joint('q1', 'base', 'one'), joint('q2', 'one', 'two', '1 0 0'),
    joint('fixed', 'two', 'tip', '1 0 0', kind='fixed', limit=''),
)  # fmt: skip
"""Two links of 1 m that turn about z, with a ball of 0.1 m at the base and half way along each."""


def planar(names=('q1', 'q2'), gripper=(), start=(0.3, 0.6), tip='tip', base='base', **changes):
    """Return a description of a planar arm."""
    count = len(names)
    joints = replace(
        PANDA.joints, names=names, acceleration=(5.0,) * count, jerk=(50.0,) * count, start=start,
        **changes.pop('joints', {}),
    )  # fmt: skip
    fingers = replace(
        PANDA.gripper, names=gripper, output=replace(PANDA.gripper.output, kind='none')
    )
    collision = changes.pop('collision', replace(PANDA.collision, table_height=None))
    return replace(
        PANDA, name='planar', base_frame=base, tip_frame=tip, joints=joints, gripper=fingers,
        collision=collision, **changes,
    )  # fmt: skip
