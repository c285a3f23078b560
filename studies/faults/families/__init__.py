"""The faults, one file per family; a row per fault, in the order in which they are tried.

Families whose faults leave the graph standing come first.
"""
