"""The few pages of the telemetry surface: consent to a key, and what came of it. No scripts, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from html import escape

from core.kernel.call import Call
from gen.google.api.httpbody_pb import HttpBody

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:12vh auto;padding:0 1rem;color:#1a1d21;background:#fff}"
    "h1{font-size:1.3rem}label{display:block;margin:.8rem 0 .2rem}"
    "input{width:100%;box-sizing:border-box;padding:.5rem;font:inherit;border:1px solid #99a;border-radius:4px}"
    "button{margin:1.2rem .5rem 0 0;padding:.5rem 1.2rem;font:inherit;border:1px solid #345;border-radius:4px;background:#fff}"
    "button.yes{background:#1f4fd8;border-color:#1f4fd8;color:#fff}code{font-size:1.2rem;letter-spacing:.08em}.bad{color:#b00020}"
)
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


def page(call: Call, title: str, body: str, *, status: int = 200, form_targets: str = "'self'") -> HttpBody:
    """Return a page and set the headers that go with it.

    `body` is HTML; whatever in it came from outside must be escaped. `form_targets` is where its form may lead, redirects
    included.
    """
    call.status = status
    policy = f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; form-action {form_targets}"
    call.headers += [
        ("Content-Security-Policy", f"{policy}; frame-ancestors 'none'; base-uri 'none'"),
        ("X-Frame-Options", "DENY"),
        # The key of a consented command line is in the address to which the form leads.
        ("Referrer-Policy", "no-referrer"),
    ]
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return HttpBody(content_type="text/html; charset=utf-8", data=text.encode())


def consent_form(action: str, *, signed_in_as: str | None, failure: str = "") -> str:
    """Return a form that allows or denies; it asks for a password of somebody who is not signed in."""
    who = (
        f"<p>Signed in as <strong>{escape(signed_in_as)}</strong>.</p>"
        if signed_in_as is not None
        else '<label for="login">Mail address or username</label>'
        '<input id="login" name="login" autocomplete="username" maxlength="254">'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" maxlength="128">'
    )
    warning = f'<p class="bad" role="alert">{escape(failure)}</p>' if failure else ""
    return (
        f'<form method="post" action="{escape(action)}">{warning}{who}'
        '<button class="yes" name="decision" value="allow">Allow</button>'
        '<button name="decision" value="deny">Deny</button></form>'
    )


def code_form(action: str, failure: str = "") -> str:
    """Return a form that asks for the code that a device shows."""
    warning = f'<p class="bad" role="alert">{escape(failure)}</p>' if failure else ""
    return (
        f'<form method="get" action="{escape(action)}">{warning}<label for="user_code">Code on the device</label>'
        '<input id="user_code" name="user_code" maxlength="16" autocomplete="off">'
        '<button class="yes">Continue</button></form>'
    )
