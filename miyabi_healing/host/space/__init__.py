"""Who takes the space of a filesystem: its largest folders, what each is, and what no folder shows.
Looks only.

One more kind of folder: a row in ``host/data/known_folders.toml``, or in ``caches.toml``.
"""
