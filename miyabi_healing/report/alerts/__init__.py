"""What of a run is worth an alert, and how alerts are queued and sent.

The queue lies in the journal's database; the network is waited for within a limit.
One more channel: a module with `send`, and its name in the queue's channels.
"""
