"""How many tokens a text or a picture has, without asking a model: an estimate that is the same everywhere."""

from __future__ import annotations

from math import ceil

CHARACTERS_PER_TOKEN = 4


def count_tokens(text: str) -> int:
    """Return the estimate: a token for every four characters begun."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def image_tokens(width: int, height: int, detail: str = "") -> int:
    """Return what a picture costs, by the dearest of three common rules.

    Args:
        width: Pixels.
        height: Pixels.
        detail: `low` where the model only glances at it.
    """
    by_area = ceil(width * height / 750)
    by_large_tiles = 258 * ceil(width / 768) * ceil(height / 768)
    return max(by_area, by_large_tiles, _by_small_tiles(width, height, detail))


def _by_small_tiles(width: int, height: int, detail: str) -> int:
    if detail == "low":
        return 85
    scale = min(1.0, 2048 / max(width, height, 1))
    scale *= min(1.0, 768 / max(min(width, height) * scale, 1))
    return 85 + 170 * ceil(width * scale / 512) * ceil(height * scale / 512)
