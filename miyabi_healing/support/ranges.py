"""What a number in the configuration, or in a healer's options, may be."""

from msgspec import Meta as Meta
