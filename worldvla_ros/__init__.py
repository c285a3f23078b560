"""WorldVLA for ROS 2: action chunks and imagined images from one transformer.

A room imports only rooms above it, or beside it on its line, never in a circle; a room's own
__init__ says what it must not know. test/test_imports.py reads this table, and holds the imports
and README's tree to it.

    errors, observation, config, package_files, metrics, pixels, pictures    words and values
    tokenizers     values to ids and back; no torch, no ROS
    robot          descriptions, kinematics, guards, motion; no torch, no ROS
    page           what a browser shows of an arm; the only room with viser
    model          mathematics in torch
    inference      from a prompt to a chunk or to images
    checkpoint     folders, meanings, precisions
    policy, world_model    the two doors: act, imagine, surprise
    data           recordings in, episodes out
    sim            the tabletop, tasks, experts, LIBERO; the only room with MuJoCo
    learn          training; never sim, whose wording is handed over
    evaluate       measuring; nobody imports it but the command
    benchmark      times beside a computed lower bound
    doctor         what this machine has and lacks
    graph, processes    what a launch starts, who starts it and who ends it
    nodes          the only room with rclpy; never model, data, learn, evaluate
    demo, cli      thin
"""

from pkgutil import extend_path

# lets the sources be imported beside the messages that were generated elsewhere
__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
