"""The page of a site, with its service worker."""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from mirage_launcher.site.files import SiteFiles


def put_page(files: SiteFiles, head: dict[str, Any], title: str, assets: str) -> int:
    """Writes the page. Returns the bytes of what a first view loads."""
    folder = resources.files("mirage_gateway").joinpath("site")
    first = 0
    names = []
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.name in ("runtime.wasm.gz", "index.html", "sw.js"):
            continue
        content = entry.read_bytes()
        files.put(f"page/{entry.name}", content)
        names.append(f"page/{entry.name}")
        first += 0 if entry.name.startswith("encoder-") else len(content)
    host = f" {'/'.join(assets.split('/')[:3])}" if assets else ""
    html = folder.joinpath("index.html").read_text("utf-8").replace("%ASSETS%", host)
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    files.put("index.html", html.replace("<title>MIRAGE</title>", f"<title>{escaped}</title>").encode())
    shell = ["./", "site.webmanifest", *names]
    names_of_data = ("records", "details", "about", "vectors", "neighbours", "words", "answers")
    data = [part[0] for name in names_of_data for part in _parts(head, name)]
    version = hashlib.sha256(compact([head, names])).hexdigest()[:16]
    [policy] = re.findall('Content-Security-Policy" content="([^"]*)"', html)
    site = json.dumps({"version": version, "files": [*shell, *data], "policy": policy})
    worker = folder.joinpath("sw.js").read_text("utf-8")
    files.put("sw.js", f"const SITE = {site};\n{worker}".encode())
    manifest = {
        "name": title,
        "short_name": title[:12],
        "start_url": "./",
        "scope": "./",
        "display": "standalone",
        "icons": [{"src": "page/icon.svg", "sizes": "any", "type": "image/svg+xml"}],
    }
    files.put("site.webmanifest", compact(manifest))
    files.put(".nojekyll", b"\n")
    return first


def _parts(head: Mapping[str, Any], name: str) -> list[list[Any]]:
    found: list[list[Any]] = head["files"][name]["parts"]
    return found


def compact(value: Any) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
