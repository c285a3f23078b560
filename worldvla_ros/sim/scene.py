"""The tabletop as a MuJoCo model: a Panda of primitives, cubes, two cameras.

Knows geometry and colours. Must not know tasks. Link frames follow the Panda's modified
Denavit-Hartenberg table (Franka FCI documentation, "Denavit-Hartenberg parameters"); no mesh files
are needed. Lengths in metres.
"""

import math

import numpy as np

JOINTS = tuple(f'panda_joint{i}' for i in range(1, 8))
FINGERS = ('panda_finger_joint1', 'panda_finger_joint2')
COLOURS = {
    'red': (0.90, 0.10, 0.10),
    'green': (0.10, 0.75, 0.15),
    'blue': (0.12, 0.25, 0.95),
    'yellow': (0.98, 0.85, 0.10),
}
CUBES_PER_SCENE = 3
CUBE_HALF = 0.0235
FINGER_TRAVEL = 0.04
PHYSICS_STEP_S = 0.0025

_DH = (  # a, d, alpha of each joint; see the module docstring
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
)
_RADII = (0.055, 0.055, 0.05, 0.05, 0.045, 0.045, 0.03)
_FLANGE = 0.107
_TCP = 0.1034
_LIMITS = (
    (-2.8973, 2.8973),
    (-1.7628, 1.7628),
    (-2.8973, 2.8973),
    (-3.0718, -0.0698),
    (-2.8973, 2.8973),
    (-0.0175, 3.7525),
    (-2.8973, 2.8973),
)
_ARM = 'rgba="0.93 0.93 0.95 1" contype="0" conaffinity="0"'
_HAND = 'rgba="0.13 0.13 0.16 1"'
_FINGER = 'rgba="0.97 0.97 0.97 1"'
_CAMERA_DISTANCE = 1.1
_CAMERA_ELEVATION = math.radians(47)
_LOOK_AT = (0.465, 0.0, 0.06)


def _numbers(values: np.ndarray | tuple) -> str:
    return ' '.join(f'{v:.9f}' for v in values)


def _offset(a: float, d: float, alpha: float) -> tuple[float, float, float]:
    """Return where a link frame lies in its parent's frame."""
    return a, -d * math.sin(alpha), d * math.cos(alpha)


def _finger(number: int, side: int) -> str:
    """Return finger 1 or 2, which slides to its side (+1 or -1 along y of the hand)."""
    return f"""
      <body name="finger{number}" gravcomp="1" pos="0 0 0.0584">
        <joint name="{FINGERS[number - 1]}" type="slide" axis="0 {side} 0" damping="5"
               range="0 {FINGER_TRAVEL}"/>
        <inertial pos="0 {0.01 * side} 0.02" mass="0.05" diaginertia="1e-5 1e-5 1e-5"/>
        <geom type="box" size="0.011 0.0075 0.0275" pos="0 {0.0075 * side} 0.0225" {_FINGER}
              friction="2 0.05 0.001" condim="4"/>
      </body>"""


def _hand() -> str:
    turn = math.pi / 8
    return f"""
    <body name="hand" gravcomp="1" pos="0 0 {_FLANGE}" quat="{
        _numbers((math.cos(turn), 0, 0, -math.sin(turn)))
    }">
      <inertial pos="0 0 0.04" mass="0.7" diaginertia="1e-3 2e-3 1e-3"/>
      <geom type="box" size="0.022 0.068 0.02" pos="0 0 0.026" {_HAND}/>
      <site name="tcp" pos="0 0 {_TCP}" size="0.004" rgba="0 0 0 0"/>
      <camera name="wrist" pos="0.07 0 0" xyaxes="0 -1 0 -0.94 0 -0.34" fovy="75"/>{_finger(1, 1)}{
        _finger(2, -1)
    }
    </body>"""


def _arm() -> str:
    """Return the nested bodies of the arm."""
    inner = _hand()
    ends = [_offset(*row) for row in _DH[1:]] + [(0.0, 0.0, _FLANGE)]
    for i in reversed(range(7)):
        a, d, alpha = _DH[i]
        length = math.hypot(*ends[i])
        shape = (
            f'<geom type="capsule" size="{_RADII[i]}" fromto="0 0 0 {_numbers(ends[i])}" {_ARM}/>'
            if length > 0.01
            else f'<geom type="sphere" size="{_RADII[i]}" {_ARM}/>'
        )
        low, high = _LIMITS[i]
        inner = f"""
  <body name="link{i + 1}" gravcomp="1" pos="{_numbers(_offset(a, d, alpha))}"
        quat="{_numbers((math.cos(alpha / 2), math.sin(alpha / 2), 0, 0))}">
    <joint name="{JOINTS[i]}" axis="0 0 1" range="{low} {high}" damping="10" armature="0.1"/>
    <inertial pos="0 0 0" mass="2" diaginertia="0.02 0.02 0.02"/>
    {shape}{inner}
  </body>"""
    return inner


def _cubes() -> str:
    return ''.join(
        f"""
  <body name="cube{i}" pos="0.5 {0.1 * i} {CUBE_HALF}">
    <freejoint name="cube{i}"/>
    <geom name="cube{i}" type="box" size="{CUBE_HALF} {CUBE_HALF} {CUBE_HALF}" mass="0.08"
          friction="1 0.03 0.001" condim="4" solimp="0.95 0.99 0.001" solref="0.008 1"/>
  </body>"""
        for i in range(CUBES_PER_SCENE)
    )


def _front_camera() -> str:
    back, up = math.cos(_CAMERA_ELEVATION), math.sin(_CAMERA_ELEVATION)
    position = (
        _LOOK_AT[0] + _CAMERA_DISTANCE * back,
        _LOOK_AT[1],
        _LOOK_AT[2] + _CAMERA_DISTANCE * up,
    )
    axes = (0.0, 1.0, 0.0, -up, 0.0, back)
    return (
        f'<camera name="front" pos="{_numbers(position)}" xyaxes="{_numbers(axes)}" fovy="22.5"/>'
    )


def scene_xml() -> str:
    """Return the MJCF of the scene."""
    actuators = ''.join(
        f'<position joint="{name}" kp="2500" kv="220" ctrlrange="{low} {high}"/>'
        for name, (low, high) in zip(JOINTS, _LIMITS, strict=True)
    ) + ''.join(
        f'<position joint="{name}" kp="600" kv="25" '
        f'ctrlrange="0 {FINGER_TRAVEL}" forcerange="-25 25"/>'
        for name in FINGERS
    )
    return f"""<mujoco model="tabletop">
<compiler angle="radian" autolimits="true"/>
<option timestep="{PHYSICS_STEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"/>
<visual>
  <quality offsamples="0" shadowsize="0"/>
  <headlight ambient="0.45 0.45 0.45" diffuse="0.35 0.35 0.35" specular="0 0 0"/>
  <global offwidth="512" offheight="512"/>
  <map znear="0.02"/>
</visual>
<worldbody>
  <light name="lamp" pos="0.9 0.3 1.6" dir="-0.3 -0.2 -1" diffuse="0.45 0.45 0.45" specular="0 0 0"
         castshadow="false"/>
  <geom name="floor" type="plane" size="3 3 0.1" pos="0 0 -0.02" rgba="0.30 0.33 0.38 1"
        contype="0" conaffinity="0"/>
  <geom name="table" type="box" size="0.36 0.5 0.02" pos="0.52 0 -0.02" rgba="0.62 0.60 0.57 1"
        friction="0.8 0.02 0.001" condim="4"/>
  <body name="link0"><geom type="cylinder" size="0.07 0.07" pos="0 0 0.07" {_ARM}/>
    <geom type="capsule" size="0.055" fromto="0 0 0.05 0 0 0.333" {_ARM}/>{_arm()}
  </body>{_cubes()}
  {_front_camera()}
</worldbody>
<actuator>{actuators}</actuator>
</mujoco>"""
