"""Miyabi Healing: checks find what is wrong with a host, healers plan its repair, one gate carries
it out.
"""

__version__ = "0.1.0"
