"""Errors that a user can fix. Knows how to word them; knows nothing of what raised them."""


class WorldVLAError(Exception):
    """Something that a user can fix: says what was expected, what came, and what to do."""

    usual_remedy: str | None = None
    """What to do where an error does not say."""

    def __init__(
        self,
        problem: str,
        *,
        expected: object | None = None,
        got: object | None = None,
        remedy: str | None = None,
    ) -> None:
        """Word the message from its parts.

        Args:
            problem: What is wrong, naming the thing.
            expected: What would have been right.
            got: What came instead.
            remedy: What the user can do about it, as a sentence.
        """
        self.problem = problem
        self.expected = expected
        self.got = got
        self.remedy = remedy or self.usual_remedy
        details = []
        if expected is not None:
            details.append(f'expected {expected}')
        if got is not None:
            details.append(f'got {got}')
        message = problem + (': ' + ', '.join(details) if details else '')
        super().__init__(f'{message}. {self.remedy}' if self.remedy else message)


class ConfigError(WorldVLAError):
    """A configuration file or parameter is missing, misspelt or out of range."""

    usual_remedy = 'Correct this value.'


class CheckpointError(WorldVLAError):
    """A checkpoint folder is missing, damaged, foreign or inconsistent."""

    usual_remedy = 'Restore the checkpoint folder as it was published.'


class RobotError(WorldVLAError):
    """A checkpoint and a robot description do not fit each other."""


class ObservationError(WorldVLAError):
    """An image or a robot state that cannot be used."""


class InstructionError(WorldVLAError):
    """An instruction that is empty, too long or not understood."""


class EpisodeError(WorldVLAError):
    """A recorded episode that is damaged, or a seed outside the allowed ranges."""


class MissingDependencyError(WorldVLAError):
    """An optional package or system library that is needed here is absent."""


class DecodingError(WorldVLAError):
    """A model that answered with something that is no action chunk."""


class MemoryLimitError(WorldVLAError):
    """Memory of the host or of the device is short."""


class WorkerError(WorldVLAError):
    """A worker process ended before its work was done."""
