"""What races while people come from an identity provider, on PostgreSQL, where units of work run side by side."""

from __future__ import annotations

import asyncio

from tests.conftest import Start
from tests.databases import Postgres, postgres
from tests.lab.providers import strange_provider
from tests.lab.test_sso import lab_of, query_of

__all__ = ["postgres"]


async def test_one_person_in_many_tabs_is_made_once_on_postgres_too(start: Start, postgres: Postgres) -> None:
    async with strange_provider() as provider:
        lab = await lab_of(start, provider.url, database=await postgres.migrated())
        browser = lab.browser()
        states = [await lab.state(browser) for _ in range(6)]
        answers = await asyncio.gather(*(lab.callback(browser, code="c", state=state) for state in states))
        people = [await lab.me(answer) for answer in answers]
        assert len({person["public_id"] for person in people}) == 1
        users = (await (await lab.admin()).get("/api/v1/users")).json()["data"]
        assert [user["username"] for user in users] == ["boss", "IdaLab"]


async def test_states_and_codes_count_once_on_postgres_too(start: Start, postgres: Postgres) -> None:
    async with strange_provider() as provider:
        lab = await lab_of(start, provider.url, database=await postgres.migrated())
        browser = lab.browser()
        state = await lab.state(browser)
        answers = await asyncio.gather(*(lab.callback(browser, code="c", state=state) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [307] + [400] * 5
        location = next(answer.headers["location"] for answer in answers if answer.status_code == 307)
        exchanged = await asyncio.gather(*(lab.exchange(query_of(location)["code"]) for _ in range(6)))
        assert sorted(answer.status_code for answer in exchanged) == [200] + [400] * 5
