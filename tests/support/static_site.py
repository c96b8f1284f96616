"""A static site as its page sees it: a plain server of files, the page's worker and encoder called by a script in a browser."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# The worker of the page, asked as the page asks it: [script, [{path, body}]] gives the replies with their milliseconds.
ASK = """async ([script, asked]) => {
  if (!window.asking) {
    const worker = new Worker(URL.createObjectURL(new Blob([`import "${script}"`], {type: "text/javascript"})), {type: "module"});
    const waiting = new Map();
    worker.onmessage = ({data}) => { if (data.kind === "reply") waiting.get(data.id)(data); };
    worker.postMessage({kind: "open", root: new URL("../", script).href});
    window.asking = (id, path, body) => new Promise((done) => {
      waiting.set(id, done);
      worker.postMessage({kind: "request", id, path, body});
    });
    window.asked = 0;
  }
  const replies = [];
  for (const {path, body} of asked) {
    const began = performance.now();
    const reply = await window.asking((window.asked += 1), path, body);
    replies.push({...reply.body, ms: performance.now() - began});
  }
  return replies;
}"""
# The page's own encoder, on files that it reads as they are.
ENCODE = """async ([script, root, texts, images]) => {
  const {Encoder} = await import(script);
  const head = await (await fetch(root + "site.json")).json();
  const read = async (file) => {
    const parts = await Promise.all(file.parts.map(async ([path]) => (await fetch(root + path)).blob()));
    const whole = new Blob(parts).stream();
    return new Response(file.packed ? whole.pipeThrough(new DecompressionStream("gzip")) : whole).arrayBuffer();
  };
  const encoder = new Encoder(head.encoder, head.files, {read});
  const vectors = [];
  for (const text of texts) vectors.push([...(await encoder.text(text, () => {})).vector]);
  for (const image of images) {
    const bytes = Uint8Array.from(atob(image), (letter) => letter.charCodeAt(0));
    vectors.push([...(await encoder.image(new Blob([bytes]), () => {}))]);
  }
  return vectors;
}"""


class _Handler(SimpleHTTPRequestHandler):
    """Python's own server of files, without its log; pages of `allowed`, another origin, may read them."""

    def __init__(self, *args: Any, allowed: str, **options: Any) -> None:
        self._allowed = allowed
        super().__init__(*args, **options)

    def end_headers(self) -> None:
        if self._allowed:
            self.send_header("Access-Control-Allow-Origin", self._allowed)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base's name
        pass


@contextmanager
def served(root: Path, allowed: str = "") -> Iterator[str]:
    """The address of a server of files, which compresses nothing. Pages of the origin `allowed` may read its files."""
    handler = functools.partial(_Handler, directory=str(root), allowed=allowed)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def script(folder: Path, url: str, name: str) -> str:
    """The address of a script of the page: "worker" or "encoder"."""
    [path] = folder.glob(f"page/{name}-*.js")
    return f"{url}page/{path.name}"
