"""Checkpoints from the Hugging Face hub, by `huggingface_hub`: resumable, with progress, of one revision, or from the
cache.

Nothing is fetched unless the operator names a repository, and the library's telemetry is off. Files go into its usual
cache (HF_HOME), so that what was fetched once is there for other programs and for `offline`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mirage_models.tasks import BuildError
from mirage_models.workspace import disk_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


class HubError(BuildError):
    """A repository cannot be had: it is not there, not open to you, or the hub does not answer."""

    code = "HUB_FAILED"


@dataclass(frozen=True)
class Snapshot:
    """A repository's files on this machine, and the commit that they are of."""

    folder: Path
    repository: str
    commit: str

    @property
    def origin(self) -> str:
        """repository@commit, as manifests state it."""
        return f"{self.repository}@{self.commit}"


def is_hub_id(text: str) -> bool:
    """True for what has the form owner/name."""
    return _ID.fullmatch(text) is not None and ".." not in text and "--" not in text


def fetch(
    repository: str, *, revision: str, files: Sequence[str], offline: bool = False, cache: Path | None = None
) -> Snapshot:
    """Returns the files of `repository` at `revision` that match a pattern; files in the cache are not fetched again.

    An interrupted download is resumed. Raises HubError or DiskFullError.
    """
    if not is_hub_id(repository):
        raise HubError(f"{repository!r} is no repository's id (owner/name)")
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise HubError(f"{revision!r} is no revision (a branch, tag or commit)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{repository} at {revision}"
    try:
        with disk_errors(cache or Path.home()):
            folder = Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=list(files),
                    local_files_only=offline,
                    cache_dir=cache,
                    max_workers=2,
                )
            )
    except GatedRepoError as error:
        raise HubError(f"{where} asks for its terms to be accepted on the hub, and for HF_TOKEN to be set") from error
    except RevisionNotFoundError as error:
        raise HubError(f"{repository} has no revision {revision}") from error
    except RepositoryNotFoundError as error:
        raise HubError(f"{repository} is not on the hub, or is private (then set HF_TOKEN)") from error
    except LocalEntryNotFoundError as error:
        if offline:
            raise HubError(f"{where} is not in the cache, and --offline forbids fetching it") from error
        raise HubError(f"the hub does not answer, and {where} is not in the cache") from error
    except (HfHubHTTPError, OSError) as error:
        raise HubError(f"fetching {where} was cut off; run the same command again to go on") from error
    if not folder.is_dir() or not any(folder.iterdir()):
        raise HubError(f"{where} has none of the files that are needed")
    return Snapshot(folder, repository, folder.name)
