"""The edges of the operating system: files, programs, signals, mounts, clocks, texts.

Imports `model` alone; what it writes is the program's own, never the host's.
One more: a module named after what it wraps, without knowledge of checks or healers.
"""
