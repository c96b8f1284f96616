"""Asks a service whether it serves."""

import http.client
import socket
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 2.0


def health(name: str, address: str) -> str:
    """ "serving", "not serving", or "no answer"."""
    match name:
        case "gateway":
            return _http_health(address)
        case "queue":
            return _redis_health(address.removeprefix("unix:"))
        case "generator":
            return _grpc_health(address, "mirage.generator.v1.GeneratorService")
        case "worker":
            # It listens nowhere; the service knows whether one sent a heartbeat.
            return _grpc_health(address, "mirage.generator.v1.GeneratorWorkers")
    return _grpc_health(address)


def _redis_health(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(path)
            connection.sendall(b"PING\r\n")
            # Anything else is what it says while it reads its file.
            return "serving" if connection.recv(64).startswith(b"+PONG") else "not serving"
        except OSError:
            return "no answer"


def _grpc_health(address: str, service: str = "") -> str:
    # A proxy of the environment is for the outside; services are never behind it.
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S)
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
