"""Errors of the launcher."""

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


class BackupError(LaunchError):
    """A backup that cannot be written, read or put in place; nothing that was stored is changed."""

    code = "BACKUP_FAILED"


class BackupInvalidError(BackupError):
    """The file is not a backup, is incomplete, or was changed."""

    code = "BACKUP_INVALID"


class BackupNewerError(BackupError):
    """The file has a format that a later version writes."""

    code = "BACKUP_NEWER"


class StillUpError(BackupError):
    """The data directory is in use."""

    code = "STILL_UP"


class DataExistsError(BackupError):
    """The target of a restoration already has content."""

    code = "DATA_EXISTS"


class DiskFullError(BackupError):
    """No room for what was being written."""

    code = "DISK_FULL"


class SiteError(LaunchError):
    """A static site that cannot be written; what is in the folder works as before."""

    code = "SITE_FAILED"
