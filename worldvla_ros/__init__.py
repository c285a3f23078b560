"""WorldVLA for ROS 2: action chunks and imagined images from one transformer.

A room imports only rooms above it; the rooms of one line know nothing of each other's insides.
test/test_imports.py reads this table, and holds it and README's tree to it.

    errors, package_files, metrics, pictures    words and values
    observation, config
    vocab
    robot
    tokenizers
    sequence                                    values to ids and back; no torch, no ROS
    chunk_player, guards, kinematics            pure; no torch, no ROS
    model                                       mathematics in torch
    inference                                   from a prompt to a chunk or to images
    checkpoint                                  folders, meanings, precisions
    policy, world_model                         the two doors: act, imagine, surprise
    quality
    data                                        recordings in, episodes out
    sim
    learn                                       training
    benchmark                                   times beside a computed lower bound
    graph, processes                            what a launch starts, and who starts it
    nodes                                       the only room with rclpy
    demo, cli, cli_bench, cli_checkpoints, cli_eval, cli_parts
"""

from pkgutil import extend_path

# lets the sources be imported beside the messages that were generated elsewhere
__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
