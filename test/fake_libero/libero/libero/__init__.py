"""A stand-in for LIBERO: its names and calls, and numbers instead of physics."""

import os


def get_libero_path(key):
    folder = {'bddl_files': 'bddl_files', 'init_states': 'init_files'}[key]
    return os.path.join(os.environ['FAKE_LIBERO'], folder)
