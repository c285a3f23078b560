"""WorldVLA for ROS 2: action chunks and imagined images from one transformer.

A layer imports lower ones only (test/test_imports.py holds this):

    0  errors, observation, vocab, config, robot       words and values
    1  tokenizers, sequence, chunk_player, guards, kinematics, pictures, metrics
    2  model                                           mathematics in torch
    3  spec, weights, quantise, profiles, meta_layout, published, checkpoint, inspection, pull
                                                       load
       memory, caches, chunk_decoding, free_decoding, image_decoding, image_codes, engine
                                                       decode
       policy, world_model, quality                    act, imagine, compare precisions
    4  learn, sim, benchmark                           train, simulate, measure; MuJoCo in sim
    5  nodes, graph, cli, cli_*                 only nodes know rclpy; only nodes/sim.py knows sim
"""

from pkgutil import extend_path

# lets the sources be imported beside the messages that were generated elsewhere
__path__ = extend_path(__path__, __name__)
__version__ = '0.1.0'
