"""Pictures as binary frames: byte 1, source and camera each after a byte with its length, width, height, time, JPEG."""

from __future__ import annotations

from core.kernel.errors import InvalidArgument

VERSION = 1
SIZES_AND_TIME = 16
"""Bytes of width, height and time."""


class BadPicture(InvalidArgument):
    """A binary frame that is no picture."""


def read_picture(data: bytes, source_id: str) -> tuple[str, bytes]:
    """Return the camera of a picture, and the picture with `source_id` as its source.

    Raises:
        BadPicture: The frame has another form.
    """
    if len(data) < 2 or data[0] != VERSION:  # noqa: PLR2004 - the version and a length
        raise BadPicture("a binary frame must begin with the byte 1 and the length of the source")
    camera_at = 2 + data[1]
    if len(data) <= camera_at:
        raise BadPicture("the binary frame ends within the source")
    picture_at = camera_at + 1 + data[camera_at]
    if len(data) < picture_at + SIZES_AND_TIME:
        raise BadPicture("the binary frame ends before the picture")
    try:
        camera = data[camera_at + 1 : picture_at].decode()
    except UnicodeDecodeError:
        raise BadPicture("the camera must be UTF-8") from None
    own = source_id.encode()
    if data[2:camera_at] == own:
        return camera, data
    # The source of the connection stands, whatever the frame names; both have at most 255 bytes there.
    return camera, bytes((VERSION, len(own[:255]))) + own[:255] + data[camera_at:]
