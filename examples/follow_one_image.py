"""Follow one camera image through the package in eight stops, printing shapes.

    python examples/follow_one_image.py

Needs the demo checkpoint and no ROS. docs/tour.md tells what happens at each stop, and where.
"""

from pathlib import Path

import numpy as np
from PIL import Image
import torch

from worldvla_ros.checkpoint import demo_path, load
from worldvla_ros.observation import Observation
from worldvla_ros.policy import Policy
from worldvla_ros.robot import guards
from worldvla_ros.robot.description import load_robot
from worldvla_ros.world_model import WorldModel

PICTURE = Path(__file__).parent.parent / 'docs/demo.png'
START = (199, 54, 327, 182)
"""Where docs/demo.png shows the camera image before "pick up the red cube" [px]."""


def show(stop: str, name: str, array: np.ndarray) -> None:
    """Print what is in the hand at a stop."""
    flat = ' '.join(f'{n:.4g}' for n in np.asarray(array).reshape(-1)[:6])
    print(f'{stop:24} {name:28} {array.dtype}{list(array.shape)}  {flat} …')


def main() -> None:
    """Walk from the camera to the guards, then the other way: from actions to an image."""
    checkpoint, robot = load(demo_path()), load_robot('sim_panda')
    sequences = checkpoint.sequences

    # 1. A camera image of any size becomes one of the model's size.
    camera = np.array(Image.open(PICTURE).convert('RGB').crop(START))
    show('camera', 'image', camera)
    fitted = checkpoint.images.fit(camera)
    show('1 crop', 'image', fitted)

    # 2. The VQ-GAN turns patches of pixels into codes, numbers of codebook entries.
    codes = checkpoint.images.encode([camera])[0]
    show('2 image tokenizer', 'codes', codes)

    # 3. Words, state and codes become token ids in one sequence.
    state = np.array([0.47, 0, 0.05, 0, 0, 0, 0.08], np.float32)
    observation = Observation({'front': camera}, 'pick up the red cube', state)
    policy = Policy(checkpoint)
    prompt = policy.prompt(observation)
    show('3 sequence', 'prompt ids', prompt.ids)

    # 4. One pass gives a score for every id of the vocabulary after every token.
    with torch.inference_mode():
        hidden = checkpoint.model(torch.from_numpy(prompt.ids)[None])
        logits = checkpoint.model.lm_head(hidden)
    show('4 transformer', 'hidden states', hidden.numpy())
    show('4 transformer', 'logits', logits.numpy())

    # 5. All actions of a chunk are decoded in parallel, one pass per number of an action.
    chunk = policy.act(observation)
    answer = sequences.with_actions(prompt, chunk.actions)
    action_ids = answer.ids[len(prompt.ids) :]
    show('5 decoding', 'action ids', action_ids)

    # 6. An id is a bin, a bin is an interval of a number's range, and its centre is the number.
    block = action_ids[: sequences.action.block_length]
    show('6 bins', 'first action', sequences.action.decode(block))

    # 7. The numbers become a chunk, which says what they mean.
    show('7 action chunk', 'actions', chunk.actions)
    show('7 action chunk', 'first action [m, rad]', chunk.actions[0] * chunk.scale)

    # 8. The guards compare the chunk with the robot and the clock; only then is it played.
    now_s = chunk.stamp_s + 0.1  # as if a tenth of a second had passed since the image
    for refusal in (
        guards.chunk_meaning(chunk, robot),
        guards.chunk_values(chunk, robot),
        guards.chunk_late(chunk, now_s),
    ):
        print(f'{"8 guards":24} {refusal or "passed"}')

    # The other way: image and actions in, the images that follow out.
    images = WorldModel(checkpoint).imagine(observation, chunk.actions)
    show('imagined', 'images', images)


if __name__ == '__main__':
    main()
