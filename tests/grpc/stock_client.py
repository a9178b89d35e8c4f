"""A client made of stubs by the ordinary tools. Runs in a process of its own, where only the runtime of those tools is loaded.

usage: stock_client.py STUBS ADDRESS
"""

from __future__ import annotations

import json
import sys


def main(stubs: str, address: str) -> None:
    """Call each kind of rpc and print what came back."""
    # This script's own folder would hide the package grpc.
    sys.path[0] = stubs

    import grpc  # noqa: PLC0415 - only now found in the right place

    from busbar.maker.v1 import pins_pb2, pins_pb2_grpc  # noqa: PLC0415  # pyright: ignore[reportMissingImports]

    metadata = [("authorization", "Bearer alice")]
    with grpc.insecure_channel(address) as channel:
        stub = pins_pb2_grpc.PinServiceStub(channel)
        pin = stub.ReadPin(pins_pb2.ReadPinRequest(board_id="b1", pin_index=7), metadata=metadata, timeout=10)
        request = pins_pb2.WritePinRequest(board_id="b1", pin_index=1)
        request.value.string_value = "on"
        written = stub.WritePin(request, metadata=metadata, timeout=10)
        watched = stub.WatchPins(pins_pb2.WatchPinsRequest(board_id="b1"), metadata=metadata, timeout=10)
        seen = [next(watched).seq for _ in range(3)]
        watched.cancel()
        frames = [
            pins_pb2.ConnectPinsRequest(open=pins_pb2.PinOpen(board_id="b1")),
            pins_pb2.ConnectPinsRequest(ping=pins_pb2.PinPing()),
        ]
        talk = [a.WhichOneof("frame") for a in stub.ConnectPins(iter(frames), metadata=metadata, timeout=10)]
    print(json.dumps({"read": pin.value.number_value, "wrote": written.value.string_value, "watched": seen, "talk": talk}))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
