"""Coordinators of tasks: whether they live, and whose claims are left behind.

Looks only; systemctl, tmux and databases are asked where the configuration names them.
One more: a place in `place`, a way to keep claims in `claims`, a way to write owners in `owners`.
"""
