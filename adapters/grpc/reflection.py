"""The descriptors of all protos for tools that ask a server what it offers, such as grpcurl."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

# The reflection service of grpcio speaks this runtime and no other; its messages meet ours nowhere.
from google.protobuf import descriptor_pool  # noqa: TID251
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from protobuf.wkt import FileDescriptorSet


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """Return the descriptors of our services, of health and of reflection itself; read once, since nothing changes them."""
    found = descriptor_pool.DescriptorPool()
    for file in FileDescriptorSet.from_binary((files("gen") / "descriptors.binpb").read_bytes()).file:
        found.AddSerializedFile(file.to_binary())
    for module in (health_pb2, reflection_pb2):
        found.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    return found


class LazyPool:
    """Stands for the pool until a tool asks something of it: few ever do, and reading it takes a tenth of the start."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the pool has
        return getattr(pool(), name)
