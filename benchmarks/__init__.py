"""What the program costs, against its peers: ``nox -s bench``, or one topic: ``python -m
benchmarks.logs``.
"""
