"""Certificates for TLS on this machine."""

import subprocess
from pathlib import Path

from tests.support.paths import program


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Writes a certificate for localhost and its key as PEM into the folder, and returns both files."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    out = ("-out", str(certificate), "-keyout", str(key))
    subprocess.run([program("openssl"), "req", "-x509", *kind, *name, *out], check=True, capture_output=True)
    return certificate, key
