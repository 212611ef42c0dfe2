"""What handlers are made of: allowed roots, the quarantine's writer, compression, weighing.

Decides nothing; whoever calls has checked.
One more: a module with one job and no knowledge of kinds of steps.
"""
