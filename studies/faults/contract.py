"""What is promised: how soon the arm stands still, and in which words the reason is said.

The one place that depends on the wording of the nodes. A reason is looked for in the text of
~/status of its node, and in `[code] text` of the reasons on action_player/state.
"""

NODES = ('sim', 'policy', 'world_model', 'action_player', 'recorder')

BRAKE_S = 0.6
"""A planned stop may take this long; also the delays of a loaded machine."""
AT_ONCE_S = BRAKE_S
"""After ~/hold, ~/enable false, deactivation or a signal."""
JOINTS_S = 0.3 + BRAKE_S
"""After the last joint state: max_joint_age."""
CLOCK_S = 0.5 + BRAKE_S
"""After the last change of the clock."""
CHUNK_S = 0.5 + 0.1 + BRAKE_S
"""After the last chunk has arrived: ten actions of 0.05 s, and 0.1 s for late ticks."""
POLICY_S = 0.5 + CHUNK_S
"""After the last good observation: its chunk may be as late as it lasts."""
FOLLOW_S = 0.5 + 1.0 + BRAKE_S
"""Joints that stand still under commands: 0.5 s after 0.02 m was commanded."""

REASONS: dict[str, tuple[str, str]] = {
    'joints old': ('action_player', r'too old|joint_age|joint_old|no joint state'),
    'joints missing': ('action_player', r'missing from the joint states|joint_missing'),
    'joints future': ('action_player', r'stamped in the future|joint_future'),
    'joints twice': ('action_player', r'named twice|joint_twice'),
    'joints not finite': ('action_player', r'position of joint \w+ is not finite'),
    'joints implausible': ('action_player', r'is not plausible|implausible'),
    'joints without stamp': ('action_player', r'without a time stamp|no time stamp'),
    'joints count': ('action_player', r'joint state.*expected .* positions'),
    'not following': (
        'action_player',
        r'from its command|does not follow|command_not_applied|joint_lag|tip_lag',
    ),
    'no chunk': (
        'action_player',
        r'no action chunk|the chunk has ended|holding: chunk refused'
        r'|no_chunk|chunk_ended',
    ),
    'held': ('action_player', r'~/hold was called|hold'),
    'dry run': ('action_player', r'dry run'),
    'inactive': ('action_player', r'inactive'),
    'not configured': ('action_player', r'^not configured'),
    'unconfigured': ('action_player', r'unconfigured|not configured'),
    'chunk meaning': (
        'action_player',
        r'chunk refused: (actions |.* scales|scale |chunk of shape'
        r'|.*values)|chunk_meaning|chunk_size',
    ),
    'chunk values': ('action_player', r'not finite|outside|-1(\.0)? to 1(\.0)?|chunk_values'),
    'chunk period': (
        'action_player',
        r'chunk with dt|chunk_period|scale .*, dt|chunk_meaning|limits.chunk_duration'
        r'|it lasts 0\.000 s',
    ),
    'chunk size': ('action_player', r'chunk of shape|action chunk|values|chunk_size'),
    'chunk duration': ('action_player', r'chunk of [\d.]+ s|chunk_duration'),
    'chunk late': ('action_player', r'chunk [\d.e+]+ s old|chunk_late'),
    'chunk future': ('action_player', r'chunk stamped .* ahead|chunk_late|chunk_future'),
    'chunk slow': ('action_player', r'inference took|inference_latency'),
    'chunk speed': ('action_player', r'times as fast as the arm may be'),
    'chunk frame': ('action_player', r'frame'),
    'edge': ('action_player', r'workspace|from its command|does not follow|command_not_applied'),
    'workspace': ('action_player', r'workspace'),
    'clock': ('action_player', r'ROS time|clock'),
    'stopped by rclpy': ('action_player', r'stopped: rclpy'),
    'image old': ('policy', r'image [\d.]+ s old'),
    'image future': ('policy', r'image stamped .* ahead'),
    'image without stamp': ('policy', r'has no time stamp'),
    'image size': ('policy', r'image of camera \w+ has'),
    'image size or loss': ('policy', r'image of camera \w+ has|no image on topic'),
    'image frozen': ('policy', r'same pixels'),
    'image encoding': ('policy', r'encoding'),
    'image data': ('policy', r'image data|without pixels'),
    'image silent': ('policy', r'no image on topic'),
    'image apart': ('policy', r'cameras [\d.]+ s apart|image [\d.]+ s old|image stamped'),
    'image skew': ('policy', r'cameras [\d.]+ s apart'),
    'policy joints': ('policy', r'joint'),
    'policy joints silent': ('policy', r'no joint state on topic|too old'),
    'policy disabled': ('policy', r'not acting'),
    'policy inactive': ('policy', r'inactive'),
    'instruction': ('policy', r'instruction'),
    'instruction refused': ('policy', r'no chunk: .*(instruction|too long|tokens)'),
    'instruction taken back': ('policy', r'waiting for an instruction'),
    'not imagined': ('world_model', r'not imagined'),
    'twist refused': ('sim', r'twist refused'),
    'trajectory refused': ('sim', r'trajectory refused'),
    'gripper refused': ('sim', r'gripper command refused'),
    'not judged': ('sim', r'success cannot be judged'),
    'disk': ('recorder', r'recording ended'),
    'recorder folder': ('recorder', r'cannot be written'),
    'recording': ('recorder', r'recording'),
}
