"""A gRPC load generator: reads a job, loads its targets in turn and prints their rates.

The job is `{"targets": [{"address": "...", "token": "...", "boards": ["..."]}], "write": true, "rounds": 5, "seconds": 1,
"clients": 64}`; client n talks with board n.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import grpc
import uvloop
from protobuf.wkt import Value

from gen.busbar.maker.v1.pins_pb import ReadPinRequest, WritePinRequest
from gen.busbar.maker.v1.pins_pb_grpc import PinServiceClient

PIN = 7


async def _rate(client: PinServiceClient, target: dict[str, Any], job: dict[str, Any]) -> float:
    started = time.perf_counter()
    metadata = (("authorization", f"Bearer {target['token']}"),)

    async def one(board: str) -> int:
        count = 0
        while time.perf_counter() - started < job["seconds"]:
            if job["write"]:
                value = Value.from_python(count + 0.5)
                await client.write_pin(WritePinRequest(board_id=board, pin_index=PIN, value=value), metadata=metadata)
            else:
                await client.read_pin(ReadPinRequest(board_id=board, pin_index=PIN), metadata=metadata)
            count += 1
        return count

    boards = target["boards"]
    counts = await asyncio.gather(*(one(boards[number % len(boards)]) for number in range(job["clients"])))
    return sum(counts) / (time.perf_counter() - started)


async def _load(job: dict[str, Any]) -> list[list[float]]:
    channels = [grpc.aio.insecure_channel(target["address"]) for target in job["targets"]]
    rates: list[list[float]] = [[] for _ in channels]
    for turn in range(job["rounds"] + 1):
        triples = list(zip(channels, job["targets"], rates, strict=True))
        for channel, target, found in triples if turn % 2 else reversed(triples):
            rate = await _rate(PinServiceClient(channel), target, job)
            if turn:  # The first round warms up.
                found.append(rate)
    for channel in channels:
        await channel.close()
    return rates


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_load(json.load(sys.stdin)))))
