"""Mathematics in torch. Knows ids, positions and masks; nothing of robots."""
