"""For callers of MIRAGE: `mirage.client` over HTTP, and the `mirage` command.

Nothing is imported here, so that the command starts at once.
"""

__version__ = "0.1.0"
