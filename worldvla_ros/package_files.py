"""Where the files lie that come with the package: config/, launch/ and checkpoints/.

Knows the layouts of a source tree, of a colcon install space and of a virtual environment. Must
not know what the files say.
"""

from pathlib import Path


def share_folder() -> Path:
    """Return the folder of config/ and checkpoints/: the source tree, or share/ of an install."""
    here = Path(__file__).resolve()
    if (here.parents[1] / 'package.xml').is_file():
        return here.parents[1]
    installed = [p / 'share/worldvla_ros' for p in here.parents]
    return next((p for p in installed if (p / 'config').is_dir()), installed[-1])
