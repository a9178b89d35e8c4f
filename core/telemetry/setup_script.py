"""The script of GET /setup: sets a machine up to send to this server."""

from __future__ import annotations

import shlex

SCRIPT = r"""#!/bin/sh
# Sets this machine up to send telemetry. Usage: sh setup.sh [--code CODE | --key KEY] [--source NAME]
# Installs the Python SDK into ~/.plexus/venv and writes ~/.plexus/config.json, which only this user can read.
set -eu

endpoint=@ENDPOINT@

fail() {
  echo "setup: $1" >&2
  exit 1
}

pair() {
  curl -fsS -X POST -H 'Content-Type: application/json' --data "{\"code\": \"$code\"}" \
    "$endpoint/api/sources/pair/complete" || fail "pairing failed: the code may be used or expired, get a new one"
}

configure() {
  python3 - <<'PYTHON'
import json
import os
import pathlib

path = pathlib.Path.home() / ".plexus" / "config.json"
config = json.loads(path.read_text()) if path.exists() else {}
given = json.loads(os.environ["SETUP_PAIRED"] or "{}")
key = os.environ["SETUP_KEY"] or given.get("device_token", "")
config.update({name: given[name] for name in ("device_token", "source_id", "source_name", "org_id") if given.get(name)})
if os.environ["SETUP_SOURCE"]:
    config["source_id"] = os.environ["SETUP_SOURCE"]
if key:
    config["api_key"] = key
endpoint = given.get("endpoint") or os.environ["SETUP_ENDPOINT"]
config.update(endpoint=endpoint, gateway_url=endpoint, gateway_ws_url=endpoint.replace("http", "ws", 1))
draft = path.with_name("config.json.new")
with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
    json.dump(config, out, indent=2)
os.chmod(draft, 0o600)
os.replace(draft, path)
PYTHON
}

main() {
  code='' key='' source=''
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || fail "$1 needs a value"
    case "$1" in
      --code) code=$2 ;;
      --key) key=$2 ;;
      --source) source=$2 ;;
      *) fail "unknown argument $1" ;;
    esac
    shift 2
  done
  case "$code" in *[!A-Za-z0-9]*) fail "the code must be letters and digits" ;; esac
  case "$key" in *[!A-Za-z0-9_]*) fail "the key must be letters, digits and _" ;; esac
  [ -z "$code" ] || [ -z "$key" ] || fail "give --code or --key, not both"
  command -v python3 >/dev/null || fail "python3 is needed"
  [ -z "$code" ] || command -v curl >/dev/null || fail "curl is needed"

  umask 077
  mkdir -p "$HOME/.plexus"
  chmod 700 "$HOME/.plexus"
  [ -x "$HOME/.plexus/venv/bin/python" ] || python3 -m venv "$HOME/.plexus/venv" || fail "python3 lacks venv"
  "$HOME/.plexus/venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade plexus-python

  # The code works once, so it is spent last.
  paired=''
  [ -z "$code" ] || paired=$(pair)
  SETUP_PAIRED=$paired SETUP_KEY=$key SETUP_SOURCE=$source SETUP_ENDPOINT=$endpoint configure
  echo "Ready: $HOME/.plexus/config.json is written, the SDK is in $HOME/.plexus/venv."
}

# Nothing above runs before the whole script has arrived.
main "$@"
"""


def setup_script(endpoint: str) -> bytes:
    """Return the script for the server at an address."""
    return SCRIPT.replace("@ENDPOINT@", shlex.quote(endpoint)).encode()
