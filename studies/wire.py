"""Measures tokenizers as nodes: bytes on the wire, time, memory, motion that codes do not show.

    unshare -n sh -c 'ip link set lo up; python studies/wire.py'

Two processes exchange each kind of message over UDP; bytes are those that the loopback interface
counts, with all headers, less what it counts while nothing is sent. Without `unshare` the packets
of other programs count as well. Images are those of the simulated camera, which compress better
than those of most real ones.
"""

import argparse
from array import array
import functools
import io
import multiprocessing
import os
from pathlib import Path
import statistics
import subprocess
import sys
import time

os.environ.setdefault('AMENT_PREFIX_PATH', sys.prefix)
# over UDP, not through the shared memory of one machine
os.environ |= {
    'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET',
    'ROS_STATIC_PEERS': '127.0.0.1',
}  # fmt: skip

import mujoco
import numpy as np
from PIL import Image as Picture
import rclpy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
import torch

from worldvla_ros.checkpoint.folder import demo_path
from worldvla_ros.checkpoint.identity import codebook_identity
from worldvla_ros.checkpoint.tokenizers import load_tokenizers
from worldvla_ros.model.vqgan import VQGAN, VQGANConfig
from worldvla_ros.msg import ActionChunk, ImageTokens
from worldvla_ros.nodes.convert import array_to_image
from worldvla_ros.nodes.qos import SENSOR_QOS
from worldvla_ros.pixels import compressed_pixels
from worldvla_ros.sim.experts import expert_action
from worldvla_ros.sim.tabletop import TabletopEnv

CAMERA_HZ, CHUNK_HZ = 20.0, 5.0
COUNTER = Path('/proc/self/net/dev')
QUALITY = 90
MEMORY = """
import time
from worldvla_ros.checkpoint.folder import demo_path, load
from worldvla_ros.checkpoint.tokenizers import load_tokenizers
from worldvla_ros.nodes import model, tokenizer

def resident():
    lines = open('/proc/self/status').read().splitlines()
    return int(next(line for line in lines if line.startswith('VmRSS')).split()[1]) / 1024

before, began = resident(), time.monotonic()
loaded = {load}
took = 1000 * (time.monotonic() - began)
print(f'{{took:.0f}} ms, {{resident() - before:.0f}} MiB beside {{before:.0f}} MiB of libraries')
"""
"""Loads the same modules for both, so that the difference is the weights."""
LOADED = {
    'tokenizers of the demo': 'load_tokenizers(demo_path())',
    'whole demo checkpoint': 'load(demo_path())',
}


def views():
    """Return name → uint8[h, w, 3] of the simulated front camera."""
    found = {}
    for name, side in (('640 x 480', 512), ('256 x 256', 256)):
        env = TabletopEnv(task='pick', cameras=('front',), image_size=side)
        found[name] = env.reset(seed=8000)[0]['front']
        env.close()
    large = Picture.fromarray(found['640 x 480'][64:448])  # 512 x 384, as large as it renders
    found['640 x 480'] = np.asarray(large.resize((640, 480)))
    return found


def jpeg(image):
    """Return uint8[h, w, 3] as a compressed message."""
    stream = io.BytesIO()
    Picture.fromarray(image).save(stream, 'JPEG', quality=QUALITY)
    return CompressedImage(
        header=Header(frame_id='camera'), format='jpeg', data=array('B', stream.getvalue())
    )


def tokens(side, codebook='vqgan8192@0123456789ab'):
    """Return the codes of a square image."""
    return ImageTokens(
        header=Header(frame_id='camera'), camera='front', codebook=codebook, rows=side,
        columns=side, codes=array('H', range(side * side)),
    )  # fmt: skip


def chunk(horizon=10, dim=7):
    """Return a chunk of the demo's size."""
    return ActionChunk(
        header=Header(frame_id='panda_link0'), model_id='worldvla-demo@0123456789ab',
        instruction='pick up the red cube', horizon=horizon, dim=dim,
        action_names=['dx', 'dy', 'dz', 'drx', 'dry', 'drz', 'gripper'],
        action_units=['m', 'm', 'm', 'rad', 'rad', 'rad', '1'],
        action_scale=array('f', [0.02] * dim), data=array('f', [0.5] * horizon * dim),
        log_prob=array('f', [-1.0] * horizon * dim),
    )  # fmt: skip


def kinds():
    """Return name → (message, messages per second): from the robot, then back to it."""
    there = {}
    for name, image in views().items():
        there[f'image {name}, raw'] = array_to_image(image, 1.0, 'camera')
        there[f'image {name}, JPEG {QUALITY}'] = jpeg(image)
    there |= {f'tokens, {n}': tokens(side) for n, side in
              (('8 x 8, demo', 8), ('16 x 16, 256 px published', 16),
               ('32 x 32, 512 px published', 32))}  # fmt: skip
    back = {
        'imagined image 64 x 64, raw': array_to_image(np.zeros((64, 64, 3), np.uint8), 1.0),
        'imagined image 256 x 256, raw': array_to_image(np.zeros((256, 256, 3), np.uint8), 1.0),
        'imagined tokens, 16 x 16': tokens(16),
        'action chunk, 10 x 7': chunk(),
    }
    return {n: (m, CAMERA_HZ) for n, m in there.items()} | {
        n: (m, CHUNK_HZ) for n, m in back.items()
    }


def listen(types, ready, stop):
    """Subscribe in a process of its own."""
    rclpy.init()
    node = rclpy.create_node('listener')
    for number, kind in enumerate(types):
        node.create_subscription(kind, f'kind{number}', lambda message: None, SENSOR_QOS)
    ready.set()
    while not stop.is_set():
        rclpy.spin_once(node, timeout_sec=0.05)
    rclpy.shutdown()


def counted():
    """Return how many bytes loopback has sent, in the network namespace of this process."""
    line = next(
        text for text in COUNTER.read_text().splitlines() if text.strip().startswith('lo:')
    )
    return int(line.split()[9])


def sent_bytes(publish, count, rate_hz):
    """Return what loopback counts while `count` messages are published."""
    before = counted()
    for _ in range(count):
        publish()
        time.sleep(1 / rate_hz)
    return counted() - before


def wire(count):
    """Print the bytes of each kind."""
    messages = kinds()
    context = multiprocessing.get_context('spawn')
    ready, stop = context.Event(), context.Event()
    types = [type(message) for message, _ in messages.values()]
    child = context.Process(target=listen, args=(types, ready, stop), daemon=True)
    child.start()
    ready.wait()
    rclpy.init()
    node = rclpy.create_node('sender')
    publishers = [node.create_publisher(t, f'kind{i}', SENSOR_QOS) for i, t in enumerate(types)]
    while not all(p.get_subscription_count() for p in publishers):
        time.sleep(0.1)
    time.sleep(2.0)  # discovery of the other side
    idle = sent_bytes(lambda: None, count, CAMERA_HZ) / count
    print(f'{"kind":34} {"message":>9} {"on the wire":>12} {"rate":>6} {"per second":>12}')
    for (name, (message, rate_hz)), publisher in zip(messages.items(), publishers, strict=True):
        publish = functools.partial(publisher.publish, message)
        on_wire = sent_bytes(publish, count, CAMERA_HZ) / count - idle
        size = len(serialize_message(message))
        print(f'{name:34} {size:7} B {on_wire:10.0f} B {rate_hz:3.0f} Hz '
              f'{on_wire * rate_hz / 1000:7.1f} kB/s')  # fmt: skip
    stop.set()
    child.join()
    rclpy.shutdown()


def median_ms(step, repeats):
    """Return the median CPU time of a step, after a first one that does not count [ms].

    What else a shared machine does counts less than in time that passes.
    """
    step()
    times = []
    for _ in range(repeats):
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    return 1000 * statistics.median(times)


def encoding(threads, repeats):
    """Print how long one image takes."""
    torch.set_num_threads(threads)
    demo = load_tokenizers(demo_path())
    for name, image in views().items():
        said = f'demo, {name}: encode {encode_ms(demo, image, repeats):.1f} ms'
        decode = functools.partial(compressed_pixels, jpeg(image))
        print(f'{said}; JPEG to pixels {median_ms(decode, repeats):.1f} ms')
    codes = demo.images.encode([image])[0]
    decode = functools.partial(demo.images.decode, codes)
    print(f'demo: codes to pixels {median_ms(decode, repeats):.1f} ms')
    small_ms = median_ms(functools.partial(codebook_identity, demo.vqgan), 5)
    large = VQGAN(VQGANConfig()).eval()
    large_ms = median_ms(functools.partial(codebook_identity, large), 1)
    print(
        f'identity of the codebook, once: demo {small_ms:.0f} ms, published size {large_ms:.0f} ms'
    )
    grey = torch.full((1, 256, 256, 3), 128, dtype=torch.uint8)
    large_ms = median_ms(functools.partial(large.encode, grey), 3)
    count = sum(p.numel() for p in large.parameters())
    print(f'published size, 256 x 256: encode {large_ms:.0f} ms; {4 * count / 2**20:.0f} MiB')


def encode_ms(demo, image, repeats):
    """Return how long scaling, cropping and encoding takes; equal images would be remembered."""
    noise = np.random.default_rng(0).integers(0, 2, (repeats + 1, *image.shape), dtype=np.uint8)
    images = iter(image ^ noise)
    return median_ms(lambda: demo.images.encode([next(images)]), repeats)


def memory():
    """Print time and memory of loading, each in a process of its own."""
    for name, load in LOADED.items():
        code = MEMORY.format(load=load)
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
        print(f'{name}: {done.stdout.strip() or done.stderr[-300:]}')


def unseen_motion(episodes):
    """Print how far joints move while the codes of the front camera stay equal [rad]."""
    demo, env = load_tokenizers(demo_path()), TabletopEnv(task='pick', cameras=('front',))
    largest, pairs = 0.0, 0
    for seed in range(8000, 8000 + episodes):
        observed, codes = env.reset(seed=seed)[0], None
        start = env.joint_positions()
        for _ in range(60):  # the arm comes to rest after success
            now = demo.images.encode([observed['front']])[0]
            if codes is None or (now != codes).any():
                start, codes = env.joint_positions(), now
            else:
                largest = max(largest, float(np.abs(env.joint_positions() - start)[:7].max()))
                pairs += 1
            observed = env.step(expert_action(env))[0]
    print(f'{episodes} expert episodes: {pairs} images with the codes of the one before, joints '
          f'moved {largest:.4f} rad at most')  # fmt: skip
    first = [first_seen(env, demo, joint) for joint in range(7)]
    print(f'one joint alone, from the start pose: codes change within {max(first):.2f} rad')
    env.close()


def first_seen(env, demo, joint):
    """Return the least turn of one joint that changes the codes [rad]."""
    env.reset(seed=8000)
    start = env.joint_positions()[:7]
    codes = demo.images.encode([env.render_camera('front')])[0]
    for turn in np.arange(0.01, 0.5, 0.01):
        env.data.qpos[:7] = start + turn * (np.arange(7) == joint)
        mujoco.mj_forward(env.model, env.data)
        if (demo.images.encode([env.render_camera('front')])[0] != codes).any():
            return turn
    return np.inf


def main():
    """Measure all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--count', type=int, default=100, help='messages of each kind')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads that encode')
    parser.add_argument('--repeats', type=int, default=50, help='images that are timed')
    parser.add_argument('--episodes', type=int, default=12, help='episodes of the expert')
    given = parser.parse_args()
    wire(given.count)
    encoding(given.threads, given.repeats)
    memory()
    unseen_motion(given.episodes)


if __name__ == '__main__':
    main()
