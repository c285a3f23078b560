"""From a folder to weights that can act, and back: formats, meanings, precisions.

Knows files and what they mean. Must not know how chunks and images are decoded, robots or ROS.
Read `folder` first: `load` opens any folder, `spec` says what a checkpoint must tell of itself.
"""

from worldvla_ros.checkpoint.folder import demo_path, load

__all__ = ['demo_path', 'load']
