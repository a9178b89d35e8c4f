"""Certificates as pictures and documents, set by Typst from `certificate.typ`.

Typst brings fonts for Latin, Greek and Cyrillic; further ones come from the machine, from the `fonts` folder of the data
directory, and from installed font packages. Where no font has a character it draws an empty box and goes on.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from core.kernel.clock import from_timestamp, to_datetime
from gen.busbar.maker.v1.certificates_pb import Certificate

TEMPLATE = Path(__file__).with_name("certificate.typ")
FONT_PACKAGES = (
    "fontpkg_noto_sans_arabic",
    "fontpkg_noto_sans_devanagari",
    "fontpkg_noto_sans_thai",
    "noto_cjk_sans_jp_regular",
)
DOTS_PER_INCH = 144

Kind = Literal["svg", "png", "pdf"]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to draw a certificate."""

    kind: Kind
    content_type: str


FORMS = {
    "image.svg": Form("svg", "image/svg+xml"),
    "image.png": Form("png", "image/png"),
    "document.pdf": Form("pdf", "application/pdf"),
}


def draw(certificate: Certificate, kind: Kind, fonts: Path) -> bytes:
    """Draw a certificate. Takes a few hundredths of a second of one core: call it from a thread."""
    import typst  # noqa: PLC0415 - brings a typesetter of tens of megabytes that most servers never use

    folders = [*_packaged_fonts(), *([fonts] if fonts.is_dir() else [])]
    inputs = {"certificate": json.dumps(_words(certificate)), "qr": _qr(certificate.verify_url)}
    return typst.compile(TEMPLATE, format=kind, ppi=DOTS_PER_INCH, font_paths=folders, sys_inputs=inputs)


def _words(certificate: Certificate) -> dict[str, str | None]:
    """Return every text on the page."""
    graded = certificate.has_field("points")
    issued = to_datetime(from_timestamp(certificate.issued_at) or 0)
    return {
        "title": certificate.title,
        "recipient": certificate.recipient_name,
        "issuer": certificate.issuer_name,
        "issued": f"{issued.day} {issued:%B %Y}",
        "classroom": certificate.classroom_name,
        "points": f"{certificate.points:g}" if graded else None,
        "max_points": f"{certificate.max_points:g}" if graded else None,
        "status": certificate.status,
        "verify_url": certificate.verify_url,
        "digest": certificate.digest,
    }


def _qr(address: str) -> str:
    """Return the QR code of an address as SVG."""
    import segno  # noqa: PLC0415 - only for pictures

    out = io.BytesIO()
    segno.make(address, error="m", micro=False).save(out, kind="svg", border=0, dark="#14213d", xmldecl=False)
    return out.getvalue().decode()


@cache
def _packaged_fonts() -> tuple[Path, ...]:
    """Return the folders of the font packages that are installed."""
    specs = [find_spec(name) for name in FONT_PACKAGES]
    return tuple(Path(path) for spec in specs if spec is not None for path in spec.submodule_search_locations or ())
