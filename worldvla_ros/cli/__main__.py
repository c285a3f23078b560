"""`python -m worldvla_ros.cli`."""

import sys

from worldvla_ros.cli.verbs import main

sys.exit(main())
