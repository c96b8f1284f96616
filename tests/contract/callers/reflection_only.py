"""`reflection_only.py ADDRESS IMAGE`: a client that is told an address and asks the server for everything else."""

import sys

import grpc
from generic import GenericCaller
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from walk import walk

with grpc.insecure_channel(sys.argv[1]) as channel:
    reflection = ProtoReflectionDescriptorDatabase(channel)
    if "mirage.v1.MirageService" not in reflection.get_services():
        raise SystemExit("the server does not name its service")
    walk(GenericCaller(channel, descriptor_pool.DescriptorPool(reflection)), sys.argv[2])
if "mirage" in sys.modules:
    raise SystemExit("this client must not know the repository's stubs")
