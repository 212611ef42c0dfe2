"""Setting up: services, a first configuration, what is found on a host.

Writes what somebody asked for by name, through `support.atomic_write`.
One more kind of service: its texts in `templates`, its steps in `service`.
"""
