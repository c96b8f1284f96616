"""`python -m mirage_core.probe TARGET [SERVICE]`: exit code 0 if a server is ready, for container health checks.

TARGET is a gRPC address, asked by grpc.health.v1 for SERVICE (if omitted, all of the server's), or an http(s) URL,
which is ready if it answers 200.
"""

import argparse
import http.client
import ssl
import sys
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 3.0


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 ready, 1 not ready or no answer, 2 usage. The finding is printed to standard error, which a
    check's log keeps.
    """
    parser = argparse.ArgumentParser(prog="mirage_core.probe", description=__doc__)
    parser.add_argument("target", help="host:port, unix:path, or an http(s) URL")
    parser.add_argument("service", nargs="?", default="", help="full name of the gRPC service")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="S", help="seconds to wait for the answer")
    given = parser.parse_args(arguments)
    if given.target.startswith(("http://", "https://")):
        found, ready = _ask_http(given.target, timeout_s=given.timeout)
    else:
        found, ready = _ask_grpc(given.target, given.service, timeout_s=given.timeout)
    print(found, file=sys.stderr)
    return 0 if ready else 1


def _ask_http(url: str, *, timeout_s: float) -> tuple[str, bool]:
    parts = urlsplit(url)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # The certificate is for the name that clients use, and this asks by the container's own loopback address.
        context = ssl._create_unverified_context()  # noqa: S323 -- for the reason above
        connection = http.client.HTTPSConnection(parts.netloc, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
    try:
        connection.request("GET", parts.path or "/", headers={"host": "localhost"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {type(error).__name__}", False
    finally:
        connection.close()
    return f"HTTP {status}", status == 200


def _ask_grpc(address: str, service: str, *, timeout_s: float) -> tuple[str, bool]:
    # Not at the top: a check of an HTTP server, run every few seconds, does without.
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            return f"no answer: {error.code().name}", False
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    return state, reply.status == health_pb2.HealthCheckResponse.SERVING


if __name__ == "__main__":
    sys.exit(main())
