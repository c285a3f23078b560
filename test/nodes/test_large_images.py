"""Raw camera images between processes, with the profile of Fast DDS that is shipped for them."""

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

pytest.importorskip('rclpy')
from worldvla_ros.package_files import share_folder

COUNT = 40
LISTENER = f"""
import rclpy, time
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node, heard = rclpy.create_node('listener'), []
qos = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.BEST_EFFORT)
node.create_subscription(Image, 'image', lambda m: heard.append(len(m.data)), qos)
end, last = time.monotonic() + 60, None
while time.monotonic() < end and len(heard) < {COUNT}:
    rclpy.spin_once(node, timeout_sec=0.2)
    if len(heard) != last:
        last, end = len(heard), min(end, time.monotonic() + (10 if heard else 60))
print(len(heard), set(heard))
"""
SPEAKER = f"""
import rclpy, time
from sensor_msgs.msg import Image
from worldvla_ros.nodes.qos import SENSOR_QOS
rclpy.init()
node = rclpy.create_node('speaker')
publisher = node.create_publisher(Image, 'image', SENSOR_QOS)
while not publisher.get_subscription_count():
    time.sleep(0.05)
time.sleep(1.0)  # the listener finds the speaker, too
message = Image(width=640, height=480, step=1920, encoding='rgb8', data=bytes(921600))
for _ in range({COUNT}):
    publisher.publish(message)
    time.sleep(0.03)
time.sleep(1.0)
"""


def free_mb():
    """Return how much shared memory is free [MB]."""
    memory = Path('/dev/shm')
    return shutil.disk_usage(memory).free / 1e6 if memory.is_dir() else 0


@pytest.mark.skipif(free_mb() < 200, reason='needs 200 MB of shared memory')
def test_raw_images_of_640_x_480_arrive():
    env = os.environ | {
        'FASTDDS_DEFAULT_PROFILES_FILE': str(share_folder() / 'config/dds/images.xml')
    }
    listener = subprocess.Popen(
        [sys.executable, '-c', LISTENER], env=env, stdout=subprocess.PIPE, text=True
    )
    subprocess.run([sys.executable, '-c', SPEAKER], env=env, check=True, timeout=90)
    heard, size = listener.communicate(timeout=90)[0].split(maxsplit=1)
    assert int(heard) > 0.8 * COUNT
    assert size.strip() == '{921600}'
