"""Every save is a revision, and of savers who start from the same one only one wins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.documents.documents import Document, Documents
from core.kernel.errors import Aborted, DomainError, InvalidArgument, NotFound, PreconditionFailed
from core.storage.database import Database

ORG = "org-1"
documents = Documents()


async def save(database: Database, content: object, subject: str = "p1", kind: str = "wiring", **more: Any) -> Document:
    async with database.unit_of_work() as session:
        return await documents.save(session, ORG, subject, kind, content, by="alice", **more)


async def current(database: Database, subject: str = "p1", kind: str = "wiring") -> Document | None:
    async with database.read() as session:
        return await documents.current(session, subject, kind)


async def revisions(database: Database, subject: str = "p1", kind: str = "wiring") -> list[int]:
    async with database.read() as session:
        return [one.revision for one in await documents.history(session, subject, kind, limit=100)]


async def test_each_save_is_the_next_revision_and_the_last_writer_wins(database: Database) -> None:
    assert await current(database) is None
    first = await save(database, {"a": 1})
    second = await save(database, {"a": 2})
    assert [(one.revision, one.content, one.saved_by, one.changed) for one in (first, second)] == [
        (1, {"a": 1}, "alice", True),
        (2, {"a": 2}, "alice", True),
    ]
    newest = await current(database)
    assert newest is not None
    assert (newest.revision, newest.content, newest.size) == (2, {"a": 2}, len('{"a":2}'))


async def test_the_same_content_keeps_the_revision_however_it_is_written(database: Database) -> None:
    await save(database, {"b": [1.0, -0.0], "a": None})
    again = await save(database, {"a": None, "b": [1, 0]})
    assert (again.revision, again.changed) == (1, False)
    assert (await save(database, {"a": None, "b": [1, False]})).revision == 2
    assert (await save(database, {"a": None, "b": [1, 0]})).revision == 3


async def test_a_stale_base_revision_changes_nothing(database: Database) -> None:
    await save(database, {"a": 1}, base_revision=0)
    await save(database, {"a": 2}, base_revision=1)
    for stale in (0, 1, 3):
        with pytest.raises(Aborted, match=f"wiring is at revision 2, not {stale}") as refused:
            await save(database, {"a": 3}, base_revision=stale)
        assert refused.value.metadata == {"revision": "2"}
        assert not isinstance(refused.value, PreconditionFailed)
    assert await revisions(database) == [2, 1]


async def test_if_match_names_the_revision_as_http_does(database: Database) -> None:
    for stale in ("*", "1", ""):
        with pytest.raises(PreconditionFailed):
            await save(database, {"a": 0}, if_match=stale)
    await save(database, {"a": 1}, if_match="0")
    for number, tags in enumerate(("1", '"7", "2"', "*"), 2):
        assert (await save(database, {"a": number}, if_match=tags)).revision == number
    for stale in ("3", '"1", "2"', "x"):
        with pytest.raises(PreconditionFailed):
            await save(database, {"a": 9}, if_match=stale)
    assert await revisions(database) == [4, 3, 2, 1]


async def test_of_savers_from_the_same_revision_exactly_one_wins(database: Database) -> None:
    await save(database, {"n": -1})
    results = await asyncio.gather(
        *(save(database, {"n": number}, base_revision=1) for number in range(12)), return_exceptions=True
    )
    won = [one for one in results if isinstance(one, Document)]
    lost = [one for one in results if isinstance(one, DomainError)]
    assert (len(won), len(lost)) == (1, 11)
    assert {type(one) for one in lost} == {Aborted}
    newest = await current(database)
    assert newest is not None
    assert (newest.revision, newest.content) == (2, won[0].content)


async def test_savers_that_name_no_revision_all_succeed_one_after_the_other(database: Database) -> None:
    saved = await asyncio.gather(*(save(database, {"n": number}) for number in range(12)))
    assert sorted(one.revision for one in saved) == list(range(1, 13))
    newest = await current(database)
    assert newest is not None
    assert newest.content == next(one.content for one in saved if one.revision == 12)


async def test_what_loses_a_race_undoes_nothing_else_of_its_unit_of_work(database: Database) -> None:
    async def both(number: int) -> None:
        async with database.unit_of_work() as session:
            await documents.save(session, ORG, f"own-{number}", "wiring", {"n": number}, by=None)
            await documents.save(session, ORG, "shared", "wiring", {"n": number}, by=None)

    await asyncio.gather(*(both(number) for number in range(8)))
    assert await revisions(database, "shared") == list(range(8, 0, -1))
    for number in range(8):
        assert await revisions(database, f"own-{number}") == [1]


async def test_history_is_kept_whole_and_read_in_pages(database: Database) -> None:
    for number in range(5):
        await save(database, {"n": number})
    async with database.read() as session:
        first = await documents.history(session, "p1", "wiring", limit=2)
        rest = await documents.history(session, "p1", "wiring", limit=10, before=first[-1].revision)
        old = await documents.at_revision(session, "p1", "wiring", 2)
        with pytest.raises(NotFound, match="wiring has no revision 6"):
            await documents.at_revision(session, "p1", "wiring", 6)
    assert [one.revision for one in first + rest] == [5, 4, 3, 2, 1]
    assert old.content == {"n": 1}
    assert [one.saved_us for one in first] == sorted((one.saved_us for one in first), reverse=True)


async def test_restoring_makes_a_new_revision_and_keeps_what_lies_between(database: Database) -> None:
    for number in range(3):
        await save(database, {"n": number})

    async def restore(revision: int, **more: Any) -> Document:
        async with database.unit_of_work() as session:
            return await documents.restore(session, "p1", "wiring", revision, by="bob", **more)

    with pytest.raises(Aborted):
        await restore(1, base_revision=2)
    back = await restore(1, base_revision=3)
    assert (back.revision, back.content, back.saved_by, back.restored_from) == (4, {"n": 0}, "bob", 1)
    assert (await restore(1)).revision == 4
    with pytest.raises(NotFound):
        await restore(9)
    assert await revisions(database) == [4, 3, 2, 1]


async def test_copies_hold_the_newest_contents_and_go_their_own_way(database: Database) -> None:
    await save(database, {"n": 1})
    await save(database, {"n": 2})
    await save(database, [1], kind="widgets")
    async with database.unit_of_work() as session:
        copies = await documents.copy_all(session, "p1", "p2", "bob", org_id="org-2")
    assert [(one.org_id, one.kind, one.revision, one.content) for one in copies] == [
        ("org-2", "widgets", 1, [1]),
        ("org-2", "wiring", 1, {"n": 2}),
    ]
    await save(database, {"n": 3}, "p2")
    async with database.read() as session:
        assert await documents.revisions(session, "p1") == {"widgets": 1, "wiring": 2}
        assert await documents.revisions(session, "p2") == {"widgets": 1, "wiring": 2}
    original = await current(database)
    assert original is not None
    assert original.content == {"n": 2}


async def test_what_is_forgotten_is_gone_with_its_history(database: Database) -> None:
    for kind in ("wiring", "pcb"):
        await save(database, {"n": 1}, kind=kind)
        await save(database, {"n": 1}, "other", kind)
    async with database.unit_of_work() as session:
        await documents.forget(session, "p1", "pcb")
    assert (await revisions(database), await revisions(database, kind="pcb")) == ([1], [])
    async with database.unit_of_work() as session:
        await documents.forget(session, "p1")
    assert await revisions(database) == []
    assert await revisions(database, "other", "pcb") == [1]
    assert (await save(database, {"n": 2})).revision == 1


@pytest.mark.parametrize("bad", [float("nan"), [float("inf")], {"a": {1}}, "\ud800", {1: 2}], ids=repr)
async def test_what_json_cannot_hold_is_refused(sqlite: Database, bad: object) -> None:
    with pytest.raises(InvalidArgument):
        await save(sqlite, bad)
    assert await current(sqlite) is None


async def test_content_nested_without_end_is_refused(sqlite: Database) -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidArgument, match="nested more than 200 levels"):
        await save(sqlite, deep)
    while deep:
        # Freed from the outside, so that the interpreter need not descend either.
        deep = deep.pop()


async def test_any_text_comes_back_as_it_was(database: Database) -> None:
    content = {"nul": "\x00", "emoji": "🧵", "slash": "</script>", "big": 2**60, "small": 1e-9, "": ""}
    await save(database, content)
    newest = await current(database)
    assert newest is not None
    assert newest.content == content
