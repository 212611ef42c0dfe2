"""Readings of the host, one noun a module.

Looks only; a healthy run starts no program. Imports `model`, `support` and `state`.
One more: a module with a frozen dataclass of what was read, and its place in `readings`.
"""
