"""The peer of the message codec: google's json_format. Prints boards a second of our rounds and of its own.

Run with a folder of stubs made by the stock tools first on the import path.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format  # noqa: TID251 - it is the peer

from busbar.maker.v1.pins_pb2 import ListPinsResponse as _Stock  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
from gen.busbar.maker.v1.pins_pb import ListPinsResponse

Stock: Any = _Stock  # pyright: ignore[reportUnknownVariableType]
ROUNDS = 9
BOARD = json.dumps(
    {
        "pins": [
            {
                "boardId": "brd-01m80kw1cawe12tzpj4arfnsdf",
                "pinIndex": index,
                "label": f"Sensor {index}",
                "value": index * 1.5,
                "valueType": "number",
                "text": str(index * 1.5),
                "updatedAt": "2026-11-22T03:12:56.626Z",
                "updatedBy": "device",
                "seq": index + 1.0,
            }
            for index in range(16)
        ]
    }
)


def ours() -> str:
    """Read and write by our codec."""
    return ListPinsResponse.from_json(BOARD, ignore_unknown_fields=True).to_json(always_emit_implicit=True)


def stock() -> str:
    """Read and write by google's."""
    message: Any = json_format.Parse(BOARD, Stock(), ignore_unknown_fields=True)
    return json_format.MessageToJson(message, always_print_fields_with_no_presence=True, indent=None)


def rate(work: Callable[[], object], count: int) -> float:
    """Return calls a second."""
    started = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure in turn."""
    assert json.loads(ours()) == json.loads(stock()), "both must write the same"
    rounds = [(rate(ours, 4000), rate(stock, 150)) for _ in range(ROUNDS)]
    print(json.dumps(list(zip(*rounds, strict=True))))


if __name__ == "__main__":
    main()
