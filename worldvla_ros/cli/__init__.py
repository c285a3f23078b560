"""The `worldvla` command: thin verbs over the package, which import what they need when they run.

Knows words on a command line. Must not know how anything is done. Read `verbs` first.
"""

from worldvla_ros.cli.verbs import main

__all__ = ['main']
