"""Many hosts: rollouts that equal coordinators share, where they meet, and what came of them.

Imports `model`, `support` and `report`; hosts are reached through Ansible alone, never from here.
One more: a store by `store.FleetStore`, a way to reach hosts by `worker.Worker`.
"""
