"""Training and evaluation. Nothing below this layer imports it."""
