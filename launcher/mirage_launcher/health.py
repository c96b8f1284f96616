"""Asks a service whether it serves."""

import http.client
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 2.0


def health(name: str, address: str) -> str:
    """ "serving", "not serving", or "no answer"."""
    return _http_health(address) if name == "gateway" else _grpc_health(address)


def _grpc_health(address: str) -> str:
    with grpc.insecure_channel(address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return "no answer"
    return "serving" if reply.status == health_pb2.HealthCheckResponse.SERVING else "not serving"


def _http_health(address: str) -> str:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return "serving" if connection.getresponse().status == 200 else "not serving"
    except (OSError, http.client.HTTPException):
        return "no answer"
    finally:
        connection.close()
