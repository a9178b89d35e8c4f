"""The peer of the REST door: FastAPI and Pydantic with the same paths, credential check, rules and JSON, written as is usual.

FastAPI writes an answer that has a response model as JSON by Pydantic's own serialiser, which is its fastest way.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Annotated

import uvloop
from fastapi import Depends, FastAPI, Header, HTTPException, Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic.alias_generators import to_camel

from benchmarks.asgi import serve

TOKEN = secrets.token_urlsafe(32)
BOARD = "b1"
ORG = "org1"

Number = Annotated[StrictInt | StrictFloat, Field(allow_inf_nan=False)]
Text = Annotated[StrictStr, Field(max_length=1024)]
Scalar = StrictBool | Number | Text | None


class WritePin(BaseModel):
    """A new value for one pin."""

    value: Scalar
    label: Annotated[str, Field(max_length=80)] | None = None


class Pin(BaseModel):
    """One virtual pin."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    board_id: str
    pin_index: int
    label: str = ""
    value: bool | int | float | str | None = None
    value_type: str = "none"
    text: str = ""
    updated_at: datetime | None = None
    updated_by: str | None = None
    seq: float = 0


class Caller(BaseModel):
    """Who calls."""

    org_id: str
    scopes: frozenset[str]


def _without_prefix(value: str) -> str:
    return value.removeprefix("V")


PinIndex = Annotated[int, BeforeValidator(_without_prefix), Path(ge=0, le=255)]

app = FastAPI(openapi_url=None)
callers = {hashlib.sha256(TOKEN.encode()).hexdigest(): Caller(org_id=ORG, scopes=frozenset({"pins:read", "pins:write"}))}
owners = {BOARD: ORG}
pins: dict[tuple[str, int], Pin] = {}


async def caller(authorization: Annotated[str, Header()] = "") -> Caller:
    """Return who calls."""
    digest = hashlib.sha256(authorization.removeprefix("Bearer ").encode()).hexdigest()
    found = callers.get(digest)
    if found is None:
        raise HTTPException(401, "invalid or expired credential")
    return found


def _require(board_id: str, who: Caller, scope: str) -> None:
    if scope not in who.scopes:
        raise HTTPException(403, f"insufficient scope: {scope} required")
    if owners.get(board_id) != who.org_id:
        raise HTTPException(404, f"board {board_id} not found")


@app.get("/api/boards/{board_id}/pins/{pin_index}")
async def read_pin(board_id: str, pin_index: PinIndex, who: Annotated[Caller, Depends(caller)]) -> Pin:
    """Return the latest value."""
    _require(board_id, who, "pins:read")
    return pins.get((board_id, pin_index)) or Pin(board_id=board_id, pin_index=pin_index)


@app.put("/api/boards/{board_id}/pins/{pin_index}")
async def write_pin(board_id: str, pin_index: PinIndex, body: WritePin, who: Annotated[Caller, Depends(caller)]) -> Pin:
    """Keep the value."""
    _require(board_id, who, "pins:write")
    pin = pins[board_id, pin_index] = Pin(
        board_id=board_id,
        pin_index=pin_index,
        label=body.label or f"V{pin_index}",
        value=body.value,
        value_type="number",
        text=str(body.value),
        updated_at=datetime.now(UTC),
        updated_by="user",
        seq=len(pins) + 1,
    )
    return pin


if __name__ == "__main__":
    uvloop.run(serve(app, token=TOKEN, board=BOARD))
