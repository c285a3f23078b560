"""The demonstration: three sentences, a video and a table.

Knows the graph and what its client heard. Must not know models. Read `run` first.
"""
