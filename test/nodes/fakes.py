"""Stand-ins for the model, so that tests of nodes are about nodes."""

import threading

import numpy as np

from worldvla_ros.checkpoint.tokenizers import Tokenizers
from worldvla_ros.nodes.host import ModelHost
from worldvla_ros.observation import ActionChunk

TIMEOUT_S = 60.0


class FakeHost(ModelHost):
    """Gives every node one loaded checkpoint."""

    def __init__(self, checkpoint):
        super().__init__()
        self._given = checkpoint

    def checkpoint(self, node):
        return self._given

    def tokenizers(self, node):
        given = self._given
        return Tokenizers(given.spec, given.vqgan, given.text, given.device)


class FakePolicy:
    """Answers each observation with the same actions, and keeps what it was asked."""

    def __init__(self, checkpoint, decoding=None):
        self._spec = checkpoint.spec
        self.decoding = decoding
        self.asked = []
        self.raises = None
        self.value = 0.5
        self.free_from = None
        self.warm = False
        self.go = threading.Event()
        self.go.set()
        self.inside = threading.Event()

    def warm_up(self):
        self.warm = True

    def act(self, observation):
        self.asked.append(observation)
        self.inside.set()
        assert self.go.wait(TIMEOUT_S)
        if self.raises is not None:
            raise self.raises
        action = self._spec.action
        size = (action.horizon, len(action.names))
        return ActionChunk(
            np.full(size, self.value, np.float32), action.names, action.units,
            np.asarray(action.scale, np.float32), action.dt, observation.stamp_s,
            chunk_id=len(self.asked), model_id='fake@1', instruction=observation.instruction,
            free_from=self.free_from,
        )  # fmt: skip


class FakeWorld:
    """Imagines even images of value 10, 20, …, and keeps what it was asked."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint
        self._spec = checkpoint.spec
        self.asked = []
        self.raises = None

    def warm_up(self):
        """Nothing to prepare."""

    def imagine_codes_stepwise(self, observation, actions):
        self.asked.append((observation, np.array(actions)))
        if self.raises is not None:
            raise self.raises
        for i in range(len(actions) // self._spec.world.actions_per_image):
            yield None
            yield np.full((4, 4), i + 1)

    def decode(self, codes):
        return np.full((32, 32, 3), 10 * codes[0, 0], np.uint8)
