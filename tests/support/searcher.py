"""A client that searches once a second over gRPC, in a process of its own: `python tests/support/searcher.py PORT KEY`.

It writes the seconds that each search took, one a line, until its standard input is closed.
"""

import sys
import threading
import time
from typing import Any

import grpc

from mirage_protos.v1 import mirage_service_pb2, mirage_service_pb2_grpc, query_pb2

PATIENCE_S = 120


def main() -> None:
    """Searches."""
    port, key = sys.argv[1:3]
    stop = threading.Event()

    def end_with_input() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=end_with_input, daemon=True).start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = mirage_service_pb2_grpc.MirageServiceStub(channel)
        number = 0
        while not number or not stop.wait(1):
            request = mirage_service_pb2.SearchRequest(
                query=query_pb2.Query(terms=[query_pb2.Term(text=f"axial {number}")])
            )
            started = time.monotonic()
            while True:
                try:
                    stub.Search(request, timeout=PATIENCE_S, metadata=(("authorization", f"Bearer {key}"),))
                    break
                except grpc.RpcError as error:
                    # A part that is too busy for its health check: tried again, within the time that is measured.
                    known: Any = error
                    if known.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() - started > PATIENCE_S:
                        raise
            print(f"{time.monotonic() - started:.3f}", flush=True)
            number += 1


if __name__ == "__main__":
    main()
