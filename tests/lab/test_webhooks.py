"""Webhooks: what receivers get, what becomes of a delivery, and what administrators see of it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlmodel import select

from core.identity.sealing import Sealer
from core.identity.signing import ServerSecret
from core.kernel.errors import Unavailable
from core.kernel.settings import Outgoing, Settings
from core.lab.hooks import Webhooks
from core.lab.rules_tables import WebhookRow
from core.lab.sending import WebhookSender
from core.lab.webhook_secrets import WebhookSecrets
from core.outbox.delivery import AttemptFailed, Delivery
from tests.conftest import Person, Running, Start
from tests.doors import Refused
from tests.faults.process import prepare, serving
from tests.kernel.receiver import OK, Received, Receiver, receiving
from tests.lab.conftest import linked, make_event, person, sign_in
from tests.lab.things import make, measure, rule, until

SECRET = "shh-very-secret-4711"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Somebody who is told."""
    async with receiving() as one:
        yield one


def hook(url: str, **more: object) -> dict[str, object]:
    """Return the body of a webhook."""
    return {"url": url, "events": ["sensor.threshold_exceeded"], **more}


async def tell(busbar: Running, owner: Person, event_type: str = "sensor.threshold_exceeded", **payload: object) -> None:
    """Let something happen."""
    await busbar.app.found.part(Webhooks).dispatch_later(owner.org_id, event_type, payload)


async def deliveries(admin: httpx.AsyncClient, made: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    """Return the deliveries of a webhook."""
    answer = await admin.get(f"/api/v1/webhooks/{made['public_id']}/deliveries{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def ended(admin: httpx.AsyncClient, made: dict[str, Any]) -> dict[str, Any]:
    """Wait until the only delivery of a webhook is final, and return it."""

    async def final() -> dict[str, Any] | None:
        (one,) = await deliveries(admin, made)
        return None if one["status"] == "pending" else one

    return await until(final)


async def attempted(admin: httpx.AsyncClient, made: dict[str, Any], attempts: int) -> dict[str, Any]:
    """Wait until the only delivery of a webhook has had some attempts, and return it."""

    async def counted() -> dict[str, Any] | None:
        (one,) = await deliveries(admin, made)
        return one if one["attempts"] == attempts else None

    return await until(counted)


def signed(secret: str, text: bytes) -> str:
    return hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


# Keeping webhooks


async def test_a_webhook_is_listed_without_its_secret(busbar: Running, admin: httpx.AsyncClient, alice: Person) -> None:
    answer = await admin.post("/api/v1/webhooks", json=hook("http://a.example/x", secret=SECRET))
    assert (answer.status_code, answer.json()) == (201, {"status": "success", "message": "Webhook successfully created."})
    page = await admin.get("/api/v1/webhooks/")
    (made,) = page.json()["data"]
    assert {name: value for name, value in made.items() if name not in ("public_id", "created_on")} == {
        "url": "http://a.example/x", "events": ["sensor.threshold_exceeded"], "enabled": True,
        "user_public_id": alice.id, "signature_style": "timestamped",
    }  # fmt: skip
    assert (await admin.get(f"/api/v1/webhooks/{made['public_id']}")).json() == made
    assert SECRET not in page.text


async def test_only_administrators_have_to_do_with_webhooks(busbar: Running, admin: httpx.AsyncClient) -> None:
    otto = await person(busbar, admin, "otto", "operator")
    made = await make(admin, "webhooks", hook("http://a.example/"))
    path = f"/api/v1/webhooks/{made['public_id']}"
    for answer in (
        await otto.get("/api/v1/webhooks"),
        await otto.post("/api/v1/webhooks", json={}),
        await otto.get(path),
        await otto.delete(path),
        await otto.get(f"{path}/deliveries"),
        await otto.post(f"{path}/deliveries/x/redeliver"),
    ):
        assert (answer.status_code, answer.json()) == (403, {"detail": "Admin privileges required."})


async def test_an_address_has_one_webhook_also_when_many_want_it_at_once(admin: httpx.AsyncClient) -> None:
    long = "http://a.example/" + "ü" * 2000
    answers = await asyncio.gather(*(admin.post("/api/v1/webhooks", json=hook(long)) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
    other = await make(admin, "webhooks", hook("http://b.example/"))
    answer = await admin.put(f"/api/v1/webhooks/{other['public_id']}", json={"url": long})
    assert (answer.status_code, answer.json()) == (409, {"detail": "Webhook already exists."})


@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        ({"url": "ftp://a.example/"}, "string_pattern_mismatch", ["body", "url"]),
        ({"url": "http://" + "x" * 2048}, "string_too_long", ["body", "url"]),
        ({"url": None}, "string_type", ["body", "url"]),
        ({"events": ["sensor.exploded"]}, "enum", ["body", "events", 0]),
        ({"secret": "x" * 256}, "string_too_long", ["body", "secret"]),
    ],
)
async def test_a_webhook_is_checked_field_by_field(
    admin: httpx.AsyncClient, change: dict[str, object], kind: str, where: list[object]
) -> None:
    answer = await admin.post("/api/v1/webhooks", json={**hook("http://a.example/"), **change})
    (detail,) = answer.json()["detail"]
    assert (answer.status_code, detail["type"], detail["loc"]) == (422, kind, where)
    assert "x" * 256 not in answer.text or "secret" not in change


async def test_a_webhook_is_told_something(admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/api/v1/webhooks", json=hook("http://a.example/", events=[]))).status_code == 422
    made = await make(admin, "webhooks", hook("http://a.example/"))
    path = f"/api/v1/webhooks/{made['public_id']}"
    for nothing in ([], None):
        answer = await admin.put(path, json={"events": nothing})
        (detail,) = answer.json()["detail"]
        assert (answer.status_code, detail["type"], detail["loc"]) == (422, "too_short", ["body", "events"])
    assert (await admin.put(path, json={"url": None})).status_code == 422
    assert (await admin.get(path)).json() == made
    answer = await admin.put(path, json={"events": ["sensor.reading"], "enabled": False})
    assert answer.json() == {"status": "success", "message": "Webhook successfully updated."}
    assert (await admin.get(path)).json() == {**made, "events": ["sensor.reading"], "enabled": False}


async def test_a_webhook_of_another_organisation_does_not_exist(busbar: Running, admin: httpx.AsyncClient, eve: Person) -> None:
    stranger = await sign_in(busbar, eve.email)
    made = (await make(admin, "webhooks", hook("http://a.example/")))["public_id"]
    path = f"/api/v1/webhooks/{made}"
    for answer in (
        await stranger.get(path),
        await stranger.put(path, json={"enabled": False}),
        await stranger.delete(path),
        await stranger.get(f"{path}/deliveries"),
        await stranger.post(f"{path}/deliveries/x/redeliver"),
    ):
        assert (answer.status_code, answer.json()) == (404, {"detail": f"Webhook '{made}' not found."})
    assert (await stranger.get("/api/v1/webhooks")).json()["total"] == 0


@pytest.mark.parametrize("door", ["grpc", "rest"])
async def test_every_door_keeps_webhooks(busbar: Running, alice: Person, door: str) -> None:
    client = busbar.client(door, alice.session)
    await client.call("WebhookService.CreateWebhook", **hook("http://a.example/"))
    (made,) = (await client.call("WebhookService.ListWebhooks")).data
    await client.call("WebhookService.UpdateWebhook", public_id=made.public_id, enabled=False)
    read = await client.call("WebhookService.GetWebhook", public_id=made.public_id)
    assert (read.enabled, list(read.events)) == (False, ["sensor.threshold_exceeded"])
    await client.call("WebhookService.DeleteWebhook", public_id=made.public_id)
    with pytest.raises(Refused):
        await client.call("WebhookService.GetWebhook", public_id=made.public_id)


# What receivers get


async def test_a_rule_tells_a_webhook_exactly_what_happened(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    await measure(busbar, alice, 0.0)
    event = await linked(busbar, alice, "rig-1", "temp")
    made = await make(admin, "webhooks", hook(receiver.url, secret=SECRET))
    await make(admin, "rules", rule(event, operator="between", threshold=30, threshold_high=40, name="heiß"))
    await measure(busbar, alice, 31)
    done = await until(lambda: first_of(admin, made, "delivered"))
    (request,) = receiver.requests
    body = json.loads(request.body)
    assert list(body) == ["type", "time", "sensor", "value", "rule", "operator", "threshold"]
    assert body == {
        "type": "sensor.threshold_exceeded", "time": body["time"], "sensor": event, "value": 31.0, "rule": "heiß",
        "operator": "between", "threshold": 30.0,
    }  # fmt: skip
    assert datetime.fromisoformat(body["time"]).utcoffset() == timedelta(0)
    assert body["time"].endswith("+00:00")
    headers = request.headers
    assert (request.method, headers["content-type"], headers["x-webhook-id"]) == ("POST", "application/json", done["public_id"])
    stamp = headers["x-webhook-timestamp"]
    assert abs(int(stamp) - busbar.clock.now_us() / 1e6) < 60
    assert headers["x-webhook-signature"] == signed(SECRET, stamp.encode() + b"." + request.body)
    assert "x-webhook-signature-previous" not in headers
    assert done == {
        "public_id": done["public_id"], "event_type": "sensor.threshold_exceeded", "status": "delivered", "attempts": 1,
        "last_error": None, "response_code": 200, "created_on": done["created_on"], "delivered_on": done["delivered_on"],
    }  # fmt: skip
    assert done["delivered_on"] >= done["created_on"]


async def first_of(admin: httpx.AsyncClient, made: dict[str, Any], status: str) -> dict[str, Any] | None:
    """Return the newest delivery in a state."""
    found = await deliveries(admin, made, f"?status={status}")
    return found[0] if found else None


async def test_a_rule_tells_the_kind_that_it_names(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    await measure(busbar, alice, 0.0)
    event = await linked(busbar, alice, "rig-1", "temp")
    other = await make(admin, "webhooks", hook("http://127.0.0.1:9/other"))
    made = await make(admin, "webhooks", hook(receiver.url, events=["experiment.started", "sensor.reading"]))
    await make(admin, "rules", rule(event, webhook_event_type="sensor.reading"))
    await measure(busbar, alice, 31)
    assert (await until(lambda: first_of(admin, made, "delivered")))["event_type"] == "sensor.reading"
    assert await deliveries(admin, other) == []
    assert "x-webhook-signature" not in receiver.requests[0].headers


async def test_a_signature_over_the_body_alone_can_be_chosen(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(admin, "webhooks", hook(receiver.url, secret=SECRET, signature_style="body"))
    await tell(busbar, alice, value=1.0)
    await ended(admin, made)
    (request,) = receiver.requests
    assert request.headers["x-webhook-signature"] == signed(SECRET, request.body)


async def test_the_secret_before_the_present_one_signs_for_a_day(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(admin, "webhooks", hook(receiver.url, secret="old", signature_style="body"))
    path = f"/api/v1/webhooks/{made['public_id']}"

    async def signatures() -> tuple[str | None, str | None]:
        count = len(receiver.requests) + 1
        await tell(busbar, alice, value=count)

        async def arrived() -> bool:
            return len(receiver.requests) == count

        await until(arrived)
        request = receiver.requests[-1]
        names = {signed(secret, request.body): secret for secret in ("old", "new", "newest")}
        present, previous = (request.headers.get(f"x-webhook-signature{end}") for end in ("", "-previous"))
        return names.get(present or ""), names.get(previous or "")

    assert await signatures() == ("old", None)
    await admin.put(path, json={"secret": "new"})
    assert await signatures() == ("new", "old")
    # The same secret again is no rotation.
    await admin.put(path, json={"secret": "new"})
    assert await signatures() == ("new", "old")
    busbar.clock.forward(seconds=24 * 3600 - 60)
    assert await signatures() == ("new", "old")
    busbar.clock.forward(seconds=61)
    assert await signatures() == ("new", None)
    # The day has ended the sign-in too.
    admin = await sign_in(busbar, alice.email)
    await admin.put(path, json={"secret": "newest"})
    assert await signatures() == ("newest", "new")
    await admin.put(path, json={"secret": None})
    assert await signatures() == (None, None)


async def test_a_redirect_is_a_failure_and_nobody_is_asked_twice(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    async def elsewhere(_: Received) -> bytes:
        return f"HTTP/1.1 302 Found\r\nLocation: {receiver.url}\r\nContent-Length: 0\r\n\r\n".encode()

    receiver.answer = elsewhere
    made = await make(admin, "webhooks", hook(receiver.url))
    await tell(busbar, alice)
    failed = await attempted(admin, made, 1)
    assert (failed["status"], failed["response_code"], failed["last_error"]) == ("pending", 302, "HTTP 302")
    assert len(receiver.requests) == 1


async def test_the_size_of_an_answer_does_not_matter(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    async def flood(_: Received) -> bytes:
        return b"HTTP/1.1 299 Fine\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 200_000

    receiver.answer = flood
    made = await make(admin, "webhooks", hook(receiver.url))
    await tell(busbar, alice)
    assert (await ended(admin, made))["response_code"] == 299


# What becomes of a delivery


async def test_three_failures_two_and_four_seconds_apart_make_a_dead_letter_that_can_be_sent_again(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    status = 500

    async def answer(_: Received) -> bytes:
        return f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()

    receiver.answer = answer
    made = await make(admin, "webhooks", hook(receiver.url, secret=SECRET))
    backoff = busbar.app.found.part(WebhookSender).handler.backoff
    assert [backoff.delay_us(attempt) for attempt in (1, 2)] == [2_000_000, 4_000_000]
    await tell(busbar, alice, value=1.5)
    for attempt, wait in ((1, 2), (2, 4)):
        failed = await attempted(admin, made, attempt)
        assert (failed["status"], failed["response_code"], failed["last_error"]) == ("pending", 500, "HTTP 500")
        assert failed["delivered_on"] is None
        path = f"/api/v1/webhooks/{made['public_id']}/deliveries/{failed['public_id']}/redeliver"
        refused = await admin.post(path)
        assert refused.status_code == 409
        busbar.clock.forward(seconds=wait)
        busbar.app.outbox.notify()
    dead = await ended(admin, made)
    assert (dead["status"], dead["attempts"], dead["last_error"]) == ("dead_letter", 3, "HTTP 500")
    assert len({request.body for request in receiver.requests}) == 1
    for request in receiver.requests:
        stamp = request.headers["x-webhook-timestamp"].encode()
        assert request.headers["x-webhook-signature"] == signed(SECRET, stamp + b"." + request.body)
    stamps = [int(request.headers["x-webhook-timestamp"]) for request in receiver.requests]
    assert (stamps[1] - stamps[0] >= 2, stamps[2] - stamps[1] >= 4) == (True, True)

    status = 204
    path = f"/api/v1/webhooks/{made['public_id']}/deliveries/{dead['public_id']}/redeliver"
    assert (await admin.post(path)).json() == {"status": "success", "message": "Delivery successfully queued."}
    again = await ended(admin, made)
    assert (again["public_id"], again["status"], again["attempts"]) == (dead["public_id"], "delivered", 1)
    assert (again["last_error"], again["response_code"]) == (None, 204)


async def test_a_receiver_that_is_not_there_and_one_that_hangs_fail_each_in_its_words(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(admin, "webhooks", hook("http://127.0.0.1:9/"))
    await tell(busbar, alice)
    failed = await attempted(admin, made, 1)
    assert (failed["last_error"][:17], failed["response_code"]) == ("Transport error: ", None)

    over = asyncio.Event()

    async def hang(_: Received) -> bytes:
        await over.wait()
        return OK

    receiver.answer = hang
    await admin.put(f"/api/v1/webhooks/{made['public_id']}", json={"url": receiver.url})
    secrets = WebhookSecrets(busbar.app.database, busbar.app.found.secret)
    sender = WebhookSender(busbar.app.database, secrets, busbar.clock, Outgoing(), seconds=0.2)
    assert busbar.app.found.part(WebhookSender).handler.seconds == 15
    with pytest.raises(AttemptFailed) as caught:
        await sender.send(Delivery("d", alice.org_id, "lab.webhook", made["public_id"], "{}", 1, 3, 0))
    assert (caught.value.message, caught.value.response_code) == ("Timeout", None)
    over.set()
    await sender.stop()


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "[fe80::1]", "224.0.0.1", "0.0.0.0", "100.100.100.200", "[::ffff:169.254.1.1]",
        "2852039166",
    ],
)  # fmt: skip
async def test_some_addresses_are_never_called(busbar: Running, alice: Person, admin: httpx.AsyncClient, address: str) -> None:
    made = await make(admin, "webhooks", hook(f"http://{address}/"))
    await tell(busbar, alice)
    dead = await ended(admin, made)
    assert (dead["status"], dead["attempts"], dead["response_code"]) == ("dead_letter", 1, None)
    assert "not allowed" in dead["last_error"]


async def test_local_receivers_can_be_forbidden(start: Start, receiver: Receiver) -> None:
    busbar = await start(outgoing={"local": False})
    alice = await busbar.person("alice")
    admin = await sign_in(busbar, alice.email)
    made = await make(admin, "webhooks", hook(receiver.url))
    await tell(busbar, alice)
    assert (await ended(admin, made))["status"] == "dead_letter"
    assert receiver.requests == []


async def test_deliveries_are_listed_newest_first_and_by_state(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(admin, "webhooks", hook(receiver.url))
    for number in range(5):
        await tell(busbar, alice, value=number)
    await until(lambda: all_delivered(admin, made, 5))
    page = (await admin.get(f"/api/v1/webhooks/{made['public_id']}/deliveries?page=2&page_size=2")).json()
    assert (page["total"], page["page"], page["page_size"], len(page["data"])) == (5, 2, 2, 2)
    times = [one["created_on"] for one in await deliveries(admin, made)]
    assert times == sorted(times, reverse=True)
    for status, count in (("delivered", 5), ("pending", 0), ("failed", 0), ("dead_letter", 0)):
        assert len(await deliveries(admin, made, f"?status={status}")) == count
    answer = await admin.get(f"/api/v1/webhooks/{made['public_id']}/deliveries?status=lost")
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["query", "status"])


async def all_delivered(admin: httpx.AsyncClient, made: dict[str, Any], count: int) -> bool:
    """Whether that many deliveries have arrived."""
    return len(await deliveries(admin, made, "?status=delivered")) == count


async def test_a_disabled_webhook_is_told_nothing_and_a_deleted_one_leaves_nothing(
    busbar: Running, alice: Person, admin: httpx.AsyncClient
) -> None:
    made = await make(admin, "webhooks", hook("http://127.0.0.1:9/"))
    path = f"/api/v1/webhooks/{made['public_id']}"
    await tell(busbar, alice)
    await attempted(admin, made, 1)
    await admin.put(path, json={"enabled": False})
    await tell(busbar, alice)
    busbar.clock.forward(seconds=2)
    busbar.app.outbox.notify()
    dead = await ended(admin, made)
    assert (dead["status"], dead["last_error"]) == ("dead_letter", "Webhook is disabled")
    assert (await admin.delete(path)).json() == {"status": "success", "message": "Webhook successfully deleted."}
    async with busbar.app.database.read() as session:
        assert await busbar.app.outbox.count(session, alice.org_id) == 0


async def test_at_most_ten_deliveries_are_under_way(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    let_go, under_way, most = asyncio.Event(), 0, 0

    async def slow(_: Received) -> bytes:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 10:
            let_go.set()
        await let_go.wait()
        under_way -= 1
        return OK

    receiver.answer = slow
    made = await make(admin, "webhooks", hook(receiver.url))
    for number in range(25):
        await tell(busbar, alice, value=number)
    await until(lambda: all_delivered(admin, made, 25))
    assert most == 10


async def test_a_deleted_user_takes_their_webhooks_along(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    adam = await person(busbar, admin, "adam", "admin")
    made = await make(adam, "webhooks", hook("http://127.0.0.1:9/"))
    stays = await make(admin, "webhooks", hook(receiver.url))
    await tell(busbar, alice)
    await admin.delete(f"/api/v1/users/{made['user_public_id']}")
    await tell(busbar, alice)
    await until(lambda: all_delivered(admin, stays, 2))
    async with busbar.app.database.read() as session:
        assert await busbar.app.outbox.count(session, alice.org_id) == 2


async def test_what_is_told_while_nobody_listens_never_touches_the_database(
    busbar: Running, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busbar.app.database, "unit_of_work", lambda: pytest.fail("asked storage"))
    await tell(busbar, alice)


async def test_a_change_of_health_is_told_once_storage_answers_again(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make(admin, "webhooks", hook(receiver.url, events=["system.health_changed"]))

    async def away() -> None:
        raise Unavailable("storage is away")

    with monkeypatch.context() as patched:
        patched.setattr(busbar.app.database, "ping", away)
        answer = await busbar.http().get("/health")
        assert answer.json()["status"] == "degraded"
        # Asked again, nothing has changed.
        await busbar.http().get("/health")
    assert (await busbar.http().get("/health")).json()["status"] == "ok"
    await until(lambda: all_delivered(admin, made, 2))
    bodies = sorted((json.loads(request.body) for request in receiver.requests), key=lambda body: body["time"])
    assert [list(body) for body in bodies] == [["type", "time", "status", "previous_status"]] * 2
    assert [(body["type"], body["status"], body["previous_status"]) for body in bodies] == [
        ("system.health_changed", "degraded", "ok"),
        ("system.health_changed", "ok", "degraded"),
    ]


# Restarts


async def test_a_delivery_that_was_not_begun_is_made_after_a_restart(start: Start, receiver: Receiver) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    client = await sign_in(busbar, alice.email)
    # No worker sees it: the process ends between the commit and the delivery.
    await busbar.app.outbox_worker.stop()
    made = await make(client, "webhooks", hook(receiver.url))
    await tell(busbar, alice, value=1.0)
    assert [one["status"] for one in await deliveries(client, made)] == ["pending"]
    again = await start()
    client = await sign_in(again, alice.email)
    assert (await ended(client, made))["status"] == "delivered"
    assert len(receiver.requests) == 1


async def test_a_killed_server_makes_up_for_the_delivery_that_it_had_begun(
    tmp_path: Path, start: Start, receiver: Receiver
) -> None:
    data = tmp_path / "data"
    account = await prepare(data)
    killed, begun = asyncio.Event(), asyncio.Event()

    async def hang(_: Received) -> bytes:
        begun.set()
        await killed.wait()
        return OK

    receiver.answer = hang
    headers = {"Authorization": f"Bearer {account.session}"}
    async with serving(data) as server, httpx.AsyncClient(base_url=server.http, headers=headers) as client:
        board = (await client.post("/api/boards", json={"name": "Bench"})).json()["id"]
        await client.put(f"/api/boards/{board}/pins/V1", json={"value": 1})
        event = await event_in(client, board)
        made = await make(client, "webhooks", hook(receiver.url))
        await make(client, "rules", rule(event))
        await client.put(f"/api/boards/{board}/pins/V1", json={"value": 31})
        async with asyncio.timeout(20):
            await begun.wait()
        await server.kill()
    killed.set()
    busbar = await start(data=data)
    # The killed one held the delivery for a while.
    busbar.clock.forward(seconds=30)
    busbar.app.outbox.notify()
    client = busbar.http(account.session, **{"X-Nothing": "1"})
    done = await ended(client, made)
    assert (done["status"], done["attempts"]) == ("delivered", 1)
    assert {request.headers["x-webhook-id"] for request in receiver.requests} == {done["public_id"]}
    assert len({request.body for request in receiver.requests}) == 1


# Secrets at rest


async def stored(busbar: Running) -> list[Any]:
    """Return secrets as the database has them."""
    rows = await busbar.app.database.query(lambda tx: tx.fetch("SELECT secret, previous_secret FROM lab_webhook ORDER BY id"))
    return [secret for row in rows for secret in row]


async def test_no_file_of_the_server_holds_a_secret_that_signs(busbar: Running, admin: httpx.AsyncClient) -> None:
    made = await make(admin, "webhooks", hook("http://a.example/", secret=SECRET))
    await admin.put(f"/api/v1/webhooks/{made['public_id']}", json={"secret": SECRET + "-2"})
    await make(admin, "webhooks", hook("http://b.example/", secret=SECRET))
    assert [kept is None for kept in await stored(busbar)] == [False, False, False, True]
    # Equal secrets are not seen to be equal, and none is in the database or beside it.
    assert len(set(await stored(busbar))) == 4
    files = [path for path in busbar.app.settings.data.rglob("*") if path.is_file()]
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []


async def test_a_secret_from_before_secrets_were_sealed_is_sealed_at_the_next_start_and_goes_on_signing(
    start: Start, receiver: Receiver
) -> None:
    busbar = await start()
    alice = await busbar.person("alice")
    admin = await sign_in(busbar, alice.email)
    await make(admin, "webhooks", hook(receiver.url, secret=SECRET))
    async with busbar.app.database.unit_of_work() as session:
        row = (await session.exec(select(WebhookRow))).one()
        row.secret = f"plain:{SECRET}"
    again = await start()
    assert SECRET not in str(await stored(again))
    await tell(again, alice, value=1.0)
    request = await until(lambda: first_request(receiver))
    stamp = request.headers["x-webhook-timestamp"].encode()
    assert request.headers["x-webhook-signature"] == signed(SECRET, stamp + b"." + request.body)


async def first_request(receiver: Receiver) -> Received | None:
    """Return the first request, when there is one."""
    return next(iter(receiver.requests), None)


async def test_a_secret_that_cannot_be_opened_is_told_and_nothing_goes_out_unsigned(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    made = await make(admin, "webhooks", hook(receiver.url, secret=SECRET))
    other = ServerSecret(Settings(secret_key=SecretStr("another server's " * 3)))
    other.start()
    async with busbar.app.database.unit_of_work() as session:
        row = (await session.exec(select(WebhookRow))).one()
        row.secret = Sealer(other, "lab-webhook-secret").seal(SECRET, row.public_id)
    await tell(busbar, alice, value=1.0)
    failed = await attempted(admin, made, 1)
    assert failed["last_error"] == "The secret of the webhook cannot be opened: set it anew"
    assert receiver.requests == []
    # What cannot be read does not sign beside its successor.
    assert (await admin.put(f"/api/v1/webhooks/{made['public_id']}", json={"secret": "new"})).status_code == 200
    await tell(busbar, alice, value=2.0)
    request = await until(lambda: first_request(receiver))
    assert "x-webhook-signature" in request.headers
    assert "x-webhook-signature-previous" not in request.headers


async def event_in(client: httpx.AsyncClient, board: str) -> str:
    """Make an event of pin 1 of a board."""
    body = {"name": "Pin", "source_id": board, "metric": "V1"}
    answer = await client.post("/api/v1/events/link", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["public_id"]


# Readings


async def test_a_reading_of_a_linked_event_is_told_once_in_five_seconds(
    busbar: Running, alice: Person, admin: httpx.AsyncClient, receiver: Receiver
) -> None:
    await measure(busbar, alice, 0.0)
    event = await linked(busbar, alice, "rig-1", "temp")
    made = await make(admin, "webhooks", hook(receiver.url, events=["sensor.reading"]))
    for value, ahead in ((1, 0), (2, 0), (3, 4), (4, 2), (5, 0)):
        busbar.clock.forward(seconds=ahead)
        await measure(busbar, alice, value)
    await until(lambda: all_delivered(admin, made, 2))
    bodies = [json.loads(request.body) for request in receiver.requests]
    assert sorted((body["type"], body["sensor"], body["value"]) for body in bodies) == [
        ("sensor.reading", event, 1.0),
        ("sensor.reading", event, 4.0),
    ]


async def test_readings_and_experiments_of_the_lab_are_told(
    busbar: Running, admin: httpx.AsyncClient, receiver: Receiver, mapped: set[str]
) -> None:
    event = await make_event(admin, "Own")
    mapped.add(event)
    kinds = ["sensor.reading", "experiment.started", "experiment.stopped"]
    made = await make(admin, "webhooks", hook(receiver.url, events=kinds))
    await admin.post("/api/v1/experiments", json={"name": "Lauf 1"})
    for ahead in (0, 4, 2):
        busbar.clock.forward(seconds=ahead)
        points = [{"event_public_id": event, "value": ahead + offset} for offset in (0, 10)]
        await admin.post("/api/v1/datapoints/batch", json={"datapoints": points})
    run = (await admin.get("/api/v1/experiments")).json()["data"][0]["public_id"]
    await admin.put(f"/api/v1/experiments/{run}/stop")
    await until(lambda: all_delivered(admin, made, 4))
    bodies = [json.loads(request.body) for request in receiver.requests]
    assert all(body.pop("time").endswith("+00:00") for body in bodies)
    assert sorted(bodies, key=lambda body: (body["type"], body.get("value", 0))) == [
        {"type": "experiment.started", "experiment": "Lauf 1"},
        {"type": "experiment.stopped", "experiment": "Lauf 1"},
        # The first value of a burst, and the first one after five seconds.
        {"type": "sensor.reading", "sensor": event, "value": 0.0},
        {"type": "sensor.reading", "sensor": event, "value": 2.0},
    ]
