"""Seeds of scenes: any whole number from 0 up.

By convention 0–7999 are for training and 8000–8999 for validation; so that figures stay honest,
nobody trains on the others. Knows numbers only.
"""

from worldvla_ros.errors import EpisodeError


def check_seeds(seed: int, episodes: int = 1) -> None:
    """Refuse negative seeds and empty ranges.

    Raises:
        EpisodeError: The first seed is negative, or there is no episode.
    """
    if episodes < 1:
        raise EpisodeError(
            'number of episodes', expected='at least 1', got=episodes, remedy='Ask for more.'
        )
    if seed < 0:
        raise EpisodeError(
            'seed of a scene',
            expected='a whole number from 0 up (by convention 0–7999 for training, 8000–8999 for '
            'validation)',
            got=seed,
            remedy='Choose another seed.',
        )
