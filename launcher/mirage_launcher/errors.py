"""What keeps the launcher from doing what it was asked."""

from mirage.errors import ClientError


class LaunchError(ClientError):
    """A start that cannot be made; the text says what to do."""

    code = "LAUNCH_FAILED"


class PortTakenError(LaunchError):
    """Another program listens on a port that was asked for."""

    code = "PORT_TAKEN"

    def __init__(self, port: int, *, option: str) -> None:
        super().__init__(f"port {port} is in use by another program: choose another one with {option}")
        self.port = port


class AlreadyUpError(LaunchError):
    """Another launcher holds the data directory."""

    code = "ALREADY_UP"
