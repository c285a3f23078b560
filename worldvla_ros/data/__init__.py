"""Recordings in, episodes out: what training and measuring read. Must not know simulators."""
