"""Controllers of real arms, as strict as those: what our bridges are tried against.

Each takes what the real one takes, drops what the real one drops, and turns the rest into joint
positions at any instant, which drive the simulated arm. No ROS: `nodes.mock_controller` gives them
the real interfaces. Sources are those of docs/bridges.md; nothing here is easier than they are.
"""
