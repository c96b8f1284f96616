"""The build back end that pip meets in place of a source archive's own: it gives the metadata that the archive states, and builds
nothing. pip runs it in the unpacked archive, in a process of its own.
"""

from __future__ import annotations

import re
import shutil
import sys
from email.parser import BytesParser
from pathlib import Path


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: object = None) -> str:
    """Copies PKG-INFO; returns the name of the folder that has it."""
    stated = BytesParser().parsebytes(Path("PKG-INFO").read_bytes(), headersonly=True)
    name = re.sub(r"[^A-Za-z0-9.]+", "_", str(stated["Name"]))
    folder = Path(metadata_directory) / f"{name}-{stated['Version']}.dist-info"
    folder.mkdir()
    shutil.copyfile("PKG-INFO", folder / "METADATA")
    return folder.name


__legacy__ = sys.modules[__name__]
"""The name by which pip asks for setuptools if an archive names no back end."""
