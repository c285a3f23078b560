import os

import numpy as np


class OffScreenRenderEnv:
    """An initial state says what happens: after how many steps of the policy it ends, and how.

    float64[3]: number of the state, step of success, step of a crash (0: never; below 0: the
    process dies). Pixel [0, 0] of each image shows the steps since the initial state, pixel
    [0, 1] the last draw of the generator.
    """

    SETTLE = 10
    calls = []

    def __init__(self, *, bddl_file_name, camera_names, camera_heights, camera_widths):
        self.size, self.cameras = (camera_heights, camera_widths, 3), camera_names
        self._note('create', bddl_file_name)

    def _note(self, *call):
        self.calls.append(call)

    def seed(self, seed):
        self._note('seed', seed)
        self._generator = np.random.default_rng(seed)

    def reset(self):
        self._note('reset')
        self._fixture = self._generator.integers(256)
        self._clock = 0
        return self._observation()

    def set_init_state(self, state):
        self._note('set_init_state', int(state[0]))
        self._state, self._clock = state, 0
        return self._observation()

    def step(self, action):
        assert isinstance(action, list)
        assert len(action) == 7
        self._note('step', *action)
        self._clock += 1
        _, success, crash = self._state
        steps = self._clock - self.SETTLE
        if steps == abs(crash) > 0:
            if crash < 0:
                os._exit(9)
            raise RuntimeError('the physics exploded')
        done = bool(steps >= success > 0)
        return self._observation(), float(done), done, {}

    def close(self):
        self._note('close')

    def _observation(self):
        images = {}
        for number, camera in enumerate(self.cameras):
            image = np.full(self.size, 50 * (number + 1), np.uint8)
            image[0, 0], image[0, 1] = self._clock % 256, self._fixture
            images[f'{camera}_image'] = image
        return images | {
            'robot0_eef_pos': np.array([0.1, -0.2, 1.0]),
            'robot0_eef_quat': np.array([np.sin(2.0), 0.0, 0.0, np.cos(2.0)]),
            'robot0_gripper_qpos': np.array([0.02, -0.02]),
        }
