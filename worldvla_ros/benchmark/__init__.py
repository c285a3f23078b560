"""How fast a model runs here, beside a lower bound computed from counted bytes and FLOPs.

Knows devices and costs. Must not know what the numbers are wanted for. Read `measure` first.
"""
