"""What the demonstration keeps of one sentence. Must not know ROS."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Sample:
    """What was published while one sentence was in force; times are seconds of the ROS clock.

    Attributes:
        sentence: The sentence.
        images: (stamp, uint8[h, w, 3]) of the front camera.
        imagined: (predicted time, uint8[h, w, 3]).
        chunks: (stamp, latency).
        time_to_success: Simulated time until success, or None.
        slowest: Smallest real-time factor of the simulation.
    """

    sentence: str
    images: list[tuple[float, np.ndarray]] = field(default_factory=list)
    imagined: list[tuple[float, np.ndarray]] = field(default_factory=list)
    chunks: list[tuple[float, float]] = field(default_factory=list)
    time_to_success: float | None = None
    slowest: float = 1.0
