"""The page: a run and the time before it as one self-contained HTML file, without scripts.

Reads the journal, a report's document and the quarantine; `charts` and `treemap` are sums alone.
One more part: a dataclass in `parts`, a module that makes it, and its section in ``page.html``.
"""
