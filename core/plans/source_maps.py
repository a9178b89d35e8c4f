"""Maps of source files: what a file defines, a line each, without the bodies. Everything here blocks.

One walk serves all grammars. It knows definitions by the endings of their names, which grammars share, goes into what holds
further ones, and never into the body of a function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

MOST_SIGNATURE = 240
"""Characters of a line of a map."""

_EXTENSIONS = {
    "bash": "sh bash zsh",
    "c": "c",
    "clojure": "clj cljs cljc edn",
    "cpp": "cpp cc cxx hpp hh hxx h ino",
    "csharp": "cs",
    "css": "css",
    "cuda": "cu cuh",
    "dart": "dart",
    "elixir": "ex exs",
    "elm": "elm",
    "erlang": "erl hrl",
    "go": "go",
    "graphql": "graphql gql",
    "groovy": "groovy gradle",
    "haskell": "hs",
    "hcl": "hcl tf",
    "java": "java",
    "javascript": "js jsx mjs cjs",
    "julia": "jl",
    "kotlin": "kt kts",
    "lua": "lua",
    "markdown": "md markdown",
    "nim": "nim",
    "objc": "m mm",
    "ocaml": "ml",
    "perl": "pl pm",
    "php": "php",
    "powershell": "ps1 psm1",
    "proto": "proto",
    "python": "py pyi pyw",
    "r": "r",
    "ruby": "rb rake",
    "rust": "rs",
    "scala": "scala sc",
    "scss": "scss",
    "solidity": "sol",
    "sql": "sql",
    "svelte": "svelte",
    "swift": "swift",
    "tsx": "tsx",
    "typescript": "ts mts cts",
    "verilog": "v sv svh",
    "vhdl": "vhd vhdl",
    "vue": "vue",
    "zig": "zig",
}
_LANGUAGES = {ending: language for language, endings in _EXTENSIONS.items() for ending in endings.split()}
_NAMES = {"dockerfile": "dockerfile", "makefile": "make", "cmakelists.txt": "cmake"}

_DEFINES = re.compile(
    r"(_definition|_declaration|_specifier|_item|_signature|_spec|_directive)$|^(class|module|method|singleton_method|interface"
    r"|enum|message|service|rpc|object|trait|protocol|type_alias|preproc_def|preproc_function_def|atx_heading|setext_heading)$"
)
_IGNORED = re.compile(
    r"^(import|package|use|using|include|extern_crate|parameter|let|local|access|storage_class|type_parameter|property_signature"
    r"|access_specifier|field|friend|static_assert|empty|attribute|inner_attribute|namespace_use|visibility|macro_invocation)_?"
    r"(declaration|definition|item|specifier|directive|signature|spec)?$"
)
_FUNCTIONS = re.compile(r"function|method|constructor|destructor|rpc|getter|setter|lambda")
_WRAPPERS = re.compile(
    r"^(export_statement|decorated_definition|template_declaration|linkage_specification|ambient_declaration|section|program"
    r"|preproc_if|preproc_ifdef|preproc_else|preproc_elif|declaration_list|class_body|interface_body|enum_body|field_declaration_list"
    r"|body_statement|block|source|stylesheet|statement_block|object_type|template_body|member_block|type_declaration|compound_statement"
    r"|expression_statement|internal_module|function_definition_header|mod_body|trait_body|protocol_body|struct_body|enum_class_body"
    r"|message_body|service_body|script_element|document)$"
)
_SPACE = re.compile(r"\s+")


def language_of(path: str) -> str | None:
    """Return the grammar for a file, by its name; None for a kind of which there are no maps."""
    name = PurePosixPath(path).name.lower()
    return _NAMES.get(name) or _LANGUAGES.get(name.rpartition(".")[2] if "." in name else "")


def map_of(path: str, text: str) -> str:
    """Return the map of a file; empty where its kind is unknown or it defines nothing."""
    language = language_of(path)
    if language is None or not text.strip():
        return ""
    # Loaded at need, as are the grammars: together they are larger than the rest of the server.
    parser: Parser = import_module("tree_sitter_language_pack").get_parser(language)
    source = text.encode()
    return "\n".join(_lines(parser.parse(source).root_node, source, 0))


def _lines(node: Node, source: bytes, depth: int) -> Iterator[str]:
    for child in node.named_children:
        kind = child.type
        if _DEFINES.search(kind) and not _IGNORED.match(kind) and not _is_wrapper(child):
            signature = _signature(child, source)
            if signature:
                yield f"{'  ' * depth}- {signature}"
            if not _FUNCTIONS.search(kind):
                for body in _bodies(child):
                    yield from _lines(body, source, depth + 1)
        elif _is_wrapper(child):
            yield from _lines(child, source, depth)
        elif depth == 0 and kind == "assignment":
            yield f"- {_cut(_text(child, source).partition('=')[0])}"


def _is_wrapper(node: Node) -> bool:
    return _WRAPPERS.match(node.type) is not None


def _bodies(node: Node) -> list[Node]:
    body = node.child_by_field_name("body")
    return [body] if body is not None else [child for child in node.named_children if _is_wrapper(child)]


def _signature(node: Node, source: bytes) -> str:
    """Return what stands before the body; the first line where there is none."""
    body = node.child_by_field_name("body")
    if body is None:
        body = next((child for child in node.named_children if child.type.endswith(("_body", "_block", "_list_body"))), None)
    if body is not None and body.start_byte > node.start_byte:
        text = source[node.start_byte : body.start_byte].decode("utf-8", "replace")
    else:
        text = re.split(r"[{\n]", _text(node, source), maxsplit=1)[0]
    return _cut(text)


def _text(node: Node, source: bytes) -> str:
    return source[node.start_byte : node.end_byte].decode("utf-8", "replace")


def _cut(text: str) -> str:
    line = _SPACE.sub(" ", text).strip().rstrip("{:;=").rstrip()
    return line if len(line) <= MOST_SIGNATURE else f"{line[:MOST_SIGNATURE]}…"
