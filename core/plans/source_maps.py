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
MOST_NESTED = 64
"""How deep definitions are looked for: nobody nests further by hand, and a walk must come to an end."""

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
    "swift": "swift",
    "tsx": "tsx",
    "typescript": "ts mts cts",
    "verilog": "v sv svh",
    "vhdl": "vhd vhdl",
    "zig": "zig",
}
_LANGUAGES = {ending: language for language, endings in _EXTENSIONS.items() for ending in endings.split()}
_NAMES = {"dockerfile": "dockerfile", "makefile": "make", "cmakelists.txt": "cmake"}
_SCRIPTS = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)
_PAGES = ("vue", "svelte")
"""Kinds of files whose scripts are what they define."""

_DEFINES = re.compile(
    r"(_definition|_declaration|_specifier|_item|_signature|_spec|_directive)$|^(class|module|method|singleton_method|interface"
    r"|enum|message|service|rpc|object|trait|protocol|type_alias|preproc_def|preproc_function_def|atx_heading|setext_heading)$"
)
_IGNORED = re.compile(
    r"^(import|package|use|using|include|extern_crate|parameter|let|local|access|storage_class|type_parameter|property_signature"
    r"|access_specifier|field|friend|static_assert|empty|attribute|inner_attribute|namespace_use|visibility|macro_invocation)_?"
    r"(declaration|definition|item|specifier|directive|signature|spec)?$"
)
_ALSO = {
    "c": "declaration",
    "cmake": "function_def macro_def",
    "cpp": "declaration",
    "css": "rule_set media_statement keyframes_statement",
    "cuda": "declaration",
    "dockerfile": "from_instruction",
    "erlang": "module_attribute fun_decl record_decl",
    "haskell": "data_type newtype type_synomym instance signature",
    "hcl": "block",
    "make": "rule variable_assignment",
    "objc": "class_interface class_implementation declaration",
    "perl": "package_statement subroutine_declaration_statement",
    "powershell": "function_statement class_statement",
    "r": "binary_operator",
    "scss": "rule_set mixin_statement function_statement",
    "sql": "create_table create_index create_view create_materialized_view create_function create_procedure create_trigger"
    " create_type create_schema alter_table",
    "vhdl": "architecture_body",
    "zig": "FnProto VarDecl",
}
"""What else is a definition in a grammar that names it in its own way."""
_THROUGH = {
    "graphql": "definition type_system_definition type_definition",
    "haskell": "declarations class_declarations",
    "hcl": "body",
    "nim": "type_section",
    "objc": "class_interface class_implementation implementation_definition",
    "powershell": "statement_list class_statement",
    "proto": "service",
    "python": "if_statement try_statement else_clause except_clause",
    "sql": "statement",
    "vhdl": "design_unit",
    "zig": "Decl",
}
"""What else holds definitions."""
_FORMS = {"elixir": "call", "clojure": "list_lit"}
"""What is a definition where its first word begins with `def`."""
_FORM = re.compile(r"\(?\s*def\w*[\s(]")
_HOLDING_FORM = re.compile(r"def(module|protocol|impl)\s")
_FUNCTIONS = re.compile(r"function|method|constructor|destructor|rpc|getter|setter|lambda")
_WRAPPERS = re.compile(
    r"^(export_statement|decorated_definition|template_declaration|linkage_specification|ambient_declaration|section|program"
    r"|preproc_if|preproc_ifdef|preproc_else|preproc_elif|declaration_list|class_body|interface_body|enum_body|field_declaration_list"
    r"|body_statement|block|source|stylesheet|statement_block|object_type|template_body|member_block|type_declaration|compound_statement"
    r"|expression_statement|internal_module|function_definition_header|mod_body|trait_body|protocol_body|struct_body|enum_class_body"
    r"|message_body|service_body|script_element|document)$"
)
_BRACES = re.compile(r"\{.*\}", re.DOTALL)
_SPACE = re.compile(r"\s+")


def language_of(path: str) -> str | None:
    """Return the grammar for a file, by its name; None for a kind of which there are no maps."""
    name = PurePosixPath(path).name.lower()
    return _NAMES.get(name) or _LANGUAGES.get(name.rpartition(".")[2] if "." in name else "")


def map_of(path: str, text: str) -> str:
    """Return the map of a file; empty where its kind is unknown or it defines nothing."""
    if path.lower().endswith(_PAGES):
        return "\n".join(lines for script in _SCRIPTS.findall(text) if (lines := map_of("script.ts", script)))
    language = language_of(path)
    if language is None or not text.strip():
        return ""
    # Loaded at need, as are the grammars: together they are larger than the rest of the server.
    parser: Parser = import_module("tree_sitter_language_pack").get_parser(language)
    source = text.encode()
    return "\n".join(_Walk(language, source).lines(parser.parse(source).root_node, 0))


class _Walk:
    """Goes through the tree of one file."""

    def __init__(self, language: str, source: bytes) -> None:
        self._source = source
        self._also = frozenset(_ALSO.get(language, "").split())
        self._through = frozenset(_THROUGH.get(language, "").split())
        self._form = _FORMS.get(language)

    def lines(self, node: Node, depth: int, nested: int = 0) -> Iterator[str]:
        """Yield a line for each definition within a node, those within definitions further in."""
        if nested > MOST_NESTED:
            return
        for child in node.named_children:
            through, kind = self._is_wrapper(child), child.type
            if self._defines(child, depth):
                signature = _signature(child, self._source)
                if signature:
                    yield f"{'  ' * depth}- {signature}"
                if not _FUNCTIONS.search(kind):
                    for body in [child] if through else self._bodies(child):
                        yield from self.lines(body, depth + 1, nested + 1)
            elif through:
                yield from self.lines(child, depth, nested + 1)
            elif depth == 0 and kind == "assignment":
                yield f"- {_cut(_text(child, self._source).partition('=')[0])}"

    def _defines(self, node: Node, depth: int) -> bool:
        kind = node.type
        if kind in ("declaration", "field_declaration"):
            declarator = node.child_by_field_name("declarator")
            function = declarator is not None and declarator.type == "function_declarator"
            return function or (depth == 0 and kind in self._also)
        if kind in self._also:
            return True
        if kind == self._form:
            return _FORM.match(_text(node, self._source)) is not None
        if _DEFINES.search(kind) is None or _IGNORED.match(kind) is not None:
            return False
        return kind == "service" or not self._is_wrapper(node)

    def _is_wrapper(self, node: Node) -> bool:
        return node.type in self._through or _WRAPPERS.match(node.type) is not None

    def _bodies(self, node: Node) -> list[Node]:
        if node.type == self._form:
            holds = _HOLDING_FORM.match(_text(node, self._source)) is not None
            return [child for child in node.named_children if holds and child.type == "do_block"]
        body = node.child_by_field_name("body")
        return [body] if body is not None else [child for child in node.named_children if self._is_wrapper(child)]


def _signature(node: Node, source: bytes) -> str:
    """Return what stands before the body; the first line where there is none."""
    body = node.child_by_field_name("body")
    if body is None:
        body = next((child for child in node.named_children if child.type.endswith(("_body", "_block", "_list_body"))), None)
    if body is not None and body.start_byte > node.start_byte:
        text = source[node.start_byte : body.start_byte].decode("utf-8", "replace")
    elif node.type == "type_definition":
        # The name of a type that C defines stands behind what is in it.
        text = _BRACES.sub(" ", _text(node, source))
    else:
        text = re.split(r"[{\n]", _text(node, source), maxsplit=1)[0]
    return _cut(text)


def _text(node: Node, source: bytes) -> str:
    return source[node.start_byte : node.end_byte].decode("utf-8", "replace")


def _cut(text: str) -> str:
    line = _SPACE.sub(" ", text).strip().rstrip("{:;=").rstrip()
    return line if len(line) <= MOST_SIGNATURE else f"{line[:MOST_SIGNATURE]}…"
