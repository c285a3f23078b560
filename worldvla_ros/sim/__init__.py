"""Simulated robots. MuJoCo lives here only; nothing below this layer imports it."""
