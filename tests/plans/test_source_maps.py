"""Maps of source files: what a file defines, in many languages, and nothing of what is in the bodies."""

from __future__ import annotations

import pytest

from core.plans.source_maps import MOST_SIGNATURE, language_of, map_of

SOURCES: dict[str, tuple[str, list[str]]] = {
    "blink.ino": (
        """
        #include <Servo.h>
        #define LED 13
        const int PIN = 4;
        Servo servo;
        struct Reading { int pin; float value; };
        class Blinker {
         public:
          Blinker(int pin);
          void tick();
          int pin() const { return pin_; }
         private:
          int pin_;
        };
        void setup() { pinMode(LED, OUTPUT); }
        void loop() {
          digitalWrite(LED, HIGH);
        }
        """,
        [
            "- #define LED 13",
            "- const int PIN = 4",
            "- Servo servo",
            "- struct Reading",
            "- class Blinker",
            "  - Blinker(int pin)",
            "  - void tick()",
            "  - int pin() const",
            "- void setup()",
            "- void loop()",
        ],
    ),
    "a.c": (
        (
            "#include <stdio.h>\ntypedef struct { int a; } thing;\nint add(int a, int b);\n"
            "#ifdef X\nint add(int a, int b) { int c = a; return c + b; }\n#endif\n"
        ),
        ["- typedef struct thing", "- int add(int a, int b)", "- int add(int a, int b)"],
    ),
    "a.py": (
        """
import os
LIMIT = 5
@cache
def top(a, b=2):
    local = a
    def inner(): ...
class Greeter(Base):
    async def hello(
        self,
        name: str,
    ) -> str:
        return name
if LIMIT:
    def conditional(): ...
""",
        [
            "- LIMIT",
            "- def top(a, b=2)",
            "- class Greeter(Base)",
            "  - async def hello( self, name: str, ) -> str",
            "- def conditional()",
        ],
    ),
    "a.js": (
        (
            "import x from 'y';\nexport const add = (a) => { return a; };\n"
            "export default class A extends B {\n  get name() { return 1; }\n"
            "  go() { const inner = 2; }\n}\nasync function* gen() { }\n"
        ),
        ["- const add = (a) =>", "- class A extends B", "  - get name()", "  - go()", "- async function* gen()"],
    ),
    "a.ts": (
        (
            "export interface Shape { area(): number; }\nexport type Id = string | number;\nexport enum Color { Red }\n"
            "export abstract class Box<T> { area(): number { return 1; } abstract go(): void; }\n"
        ),
        [
            "- interface Shape",
            "  - area(): number",
            "- type Id = string | number",
            "- enum Color",
            "- abstract class Box<T>",
            "  - area(): number",
            "  - abstract go(): void",
        ],
    ),
    "a.tsx": (
        "export function App(props: {a: string}) { return <div>{props.a}</div>; }\n",
        ["- function App(props: {a: string})"],
    ),
    "a.vue": (
        "<template><p/></template>\n<script lang='ts'>\nfunction top(): void {}\n</script>\n",
        ["- function top(): void"],
    ),
    "a.go": (
        (
            'package main\nimport "fmt"\nconst Max = 5\ntype Point struct { X int }\n'
            "func (p *Point) Move(dx int) error { return nil }\n"
        ),
        ["- const Max = 5", "- Point struct", "- func (p *Point) Move(dx int) error"],
    ),
    "a.rs": (
        (
            "use std::fmt;\npub struct Point { x: i32 }\npub trait Shape { fn area(&self) -> f64; }\n"
            "impl Shape for Point { fn area(&self) -> f64 { 0.0 } }\nmod inner { pub fn deep() {} }\n"
        ),
        [
            "- pub struct Point",
            "- pub trait Shape",
            "  - fn area(&self) -> f64",
            "- impl Shape for Point",
            "  - fn area(&self) -> f64",
            "- mod inner",
            "  - pub fn deep()",
        ],
    ),
    "A.java": (
        (
            "package x;\nimport y.Z;\npublic class A extends B {\n  private int n = 0;\n  public A(String s) { }\n"
            "  String hello(String n) { return n; }\n}\ninterface C { double area(); }\n"
        ),
        [
            "- public class A extends B",
            "  - public A(String s)",
            "  - String hello(String n)",
            "- interface C",
            "  - double area()",
        ],
    ),
    "a.kt": (
        "data class Point(val x: Int) { fun move(dx: Int): Point { return this } }\nfun top(a: Int): Int = a\n",
        ["- data class Point(val x: Int)", "  - fun move(dx: Int): Point", "- fun top(a: Int): Int"],
    ),
    "a.cs": (
        (
            "using System;\nnamespace App { public "
            "class A : B { public int N { get; set; } public string Hi(string n) { return n; } } }\n"
        ),
        ["- namespace App", "  - public class A : B", "    - public int N", "    - public string Hi(string n)"],
    ),
    "a.rb": (
        (
            "module App\n  class A < B\n    def hello(name)\n      @name = name\n    end\n    def self.make; new; end\n"
            "  end\nend\n"
        ),
        ["- module App", "  - class A < B", "    - def hello(name)", "    - def self.make"],
    ),
    "a.php": (
        "<?php\ntrait T { public function t() {} }\nfunction top($a) { return $a; }\n",
        ["- trait T", "  - public function t()", "- function top($a)"],
    ),
    "a.swift": (
        "protocol Shape { func area() -> Double }\nextension Point { func far() {} }\n",
        ["- protocol Shape", "  - func area() -> Double", "- extension Point", "  - func far()"],
    ),
    "a.scala": ("object Main { def main(a: Int): Unit = {} }\n", ["- object Main", "  - def main(a: Int): Unit"]),
    "a.lua": ("function M.hello(name)\n  return name\nend\n", ["- function M.hello(name)"]),
    "a.sh": ("set -e\nhello() {\n  echo hi\n}\n", ["- hello()"]),
    "a.ex": ("defmodule A do\n  def hello(name) do\n    name\n  end\nend\n", ["- defmodule A", "  - def hello(name)"]),
    "a.hs": (
        "module A where\ndata Color = Red\nhello :: Int -> Int\nhello n = n\n",
        ["- data Color = Red", "- hello :: Int -> Int"],
    ),
    "a.sql": ("CREATE TABLE users (id int);\nSELECT 1;\n", ["- CREATE TABLE users (id int)"]),
    "a.proto": (
        'syntax = "proto3";\nmessage P { int32 x = 1; }\nservice S { rpc Area(P) returns (P); }\n',
        ["- message P", "- service S", "  - rpc Area(P) returns (P)"],
    ),
    "a.tf": ('resource "aws_x" "y" {\n  a = 1\n}\n', ['- resource "aws_x" "y"']),
    "a.css": (".a { color: red }\n@media print { .b { x: y } }\n", ["- .a", "- @media print", "  - .b"]),
    "README.md": ("# Title\ntext\n## Part\n", ["- # Title", "- ## Part"]),
    "Makefile": ("all: b\n\techo\n", ["- all: b"]),
    "Dockerfile": ("FROM python AS base\nRUN x\n", ["- FROM python AS base"]),
}


@pytest.mark.parametrize("path", SOURCES)
def test_a_map_names_what_a_file_defines(path: str) -> None:
    source, lines = SOURCES[path]
    assert map_of(f"src/{path}", source).splitlines() == lines


@pytest.mark.parametrize("path", ["a.bin", "LICENSE", "a", "a.tar.gz", ""])
def test_a_file_of_an_unknown_kind_has_no_map(path: str) -> None:
    assert language_of(path) is None
    assert map_of(path, "def a(): ...\n") == ""


@pytest.mark.parametrize("text", ["", " \n", "# nothing\n", "print(1)\n"])
def test_a_file_that_defines_nothing_has_an_empty_map(text: str) -> None:
    assert map_of("a.py", text) == ""


def test_broken_source_shows_what_can_be_made_out() -> None:
    assert "- def whole(a)" in map_of("a.py", "def whole(a):\n    return (\n\nclass B(:\n  def x(\n")
    assert map_of("a.py", "\0\ud7ff\U0001f600 = (((") is not None


def test_a_long_line_is_cut() -> None:
    (line,) = map_of("a.py", f"def long({', '.join(f'a{number}' for number in range(500))}): ...\n").splitlines()
    assert len(line) == len("- ") + MOST_SIGNATURE + len("…")


@pytest.mark.parametrize("opening", ["{", "namespace a {", "class a { ", 'extern "C" {'])
def test_a_file_that_nests_without_end_comes_to_an_end(opening: str) -> None:
    text = "void first() {}\n" + opening * 20_000 + "}" * 20_000
    assert map_of("a.cpp", text).startswith("- void first()")
