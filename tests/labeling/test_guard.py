from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from labeling.guard import Guard
from labeling.identity import Identity, identity_router
from storage.database import Database
from storage.settings import Settings


@pytest.fixture
def identity(database: Database, tmp_path: Path) -> Identity:
    return Identity(
        database, Settings(home=tmp_path, roles={"Ines": "lead", "Eva": "engineer"}, default_role="labeler")
    )


@pytest.fixture
def client(identity: Identity) -> TestClient:
    app = FastAPI()
    app.include_router(identity_router(identity))

    @app.get("/label/")
    @app.get("/runs/secret")
    def page(request: Request) -> HTMLResponse:
        return HTMLResponse("<html><head><script>1</script></head><body></body></html>")

    @app.get("/label/gone")
    def gone() -> JSONResponse:
        return JSONResponse({"error": "There is no run dpo-07."}, 404)

    @app.post("/label/vote")
    def vote() -> str:
        return "counted"

    @app.websocket("/label/socket")
    async def socket(socket: WebSocket) -> None:
        await socket.accept()

    roles = {"/label": "labeler", "/runs": "engineer"}
    app.add_middleware(
        Guard, person_of=identity.person_of, roles=roles, heads={"/label": '<script src="/ui/x.js"></script>'}
    )  # type: ignore[arg-type]
    return TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False)


def enter(client: TestClient, name: str) -> None:
    client.post("/who", data={"name": name})


def test_a_stranger_is_asked_for_a_name_and_comes_back(client: TestClient) -> None:
    answer = client.get("/label/", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/who?next=/label/")

    chosen = client.post("/who", data={"name": "Tom", "next": "/label/"})

    assert chosen.headers["location"] == "/label/"
    assert client.get("/api/me").json() == {"name": "Tom", "role": "labeler"}
    assert client.get("/label/").status_code == 200


def test_a_stranger_comes_back_to_the_whole_address(client: TestClient) -> None:
    answer = client.get("/label/?project=x&tab=a%20b", headers={"accept": "text/html"})

    shown = client.get(answer.headers["location"]).text

    assert 'value="/label/?project=x&amp;tab=a%20b"' in shown


def test_an_address_where_nothing_is_answers_a_browser_with_a_page_and_the_way_back(client: TestClient) -> None:
    answer = client.get("/non<sense>", headers={"accept": "text/html,*/*"})

    assert answer.status_code == 404 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Nothing is at /non&lt;sense&gt;." in answer.text and 'href="/label/"' in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_an_address_where_nothing_is_answers_a_program_as_before(client: TestClient) -> None:
    answer = client.get("/nonsense", headers={"accept": "application/json"})

    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


def test_what_is_missing_is_said_on_the_page_in_its_own_words(client: TestClient) -> None:
    answer = client.get("/label/gone", headers={"accept": "text/html"})
    assert answer.status_code == 303  # who is asking comes first
    enter(client, "Tom")

    answer = client.get("/label/gone", headers={"accept": "text/html"})

    assert answer.status_code == 404 and "There is no run dpo-07." in answer.text
    assert "/ui/x.js" not in answer.text  # the page of a room, with its scripts, is another


def test_a_call_without_a_name_is_refused_in_words(client: TestClient) -> None:
    answer = client.get("/runs/secret", headers={"accept": "application/json"})

    assert answer.status_code == 403 and "choose a name" in answer.json()["error"]
    assert client.get("/api/me").json() == {"name": None, "role": None}


@pytest.mark.parametrize(("name", "status"), [("Tom", 403), ("Ines", 403), ("Eva", 200)])
def test_a_path_needs_its_role(client: TestClient, name: str, status: int) -> None:
    enter(client, name)

    assert client.get("/runs/secret").status_code == status


def test_a_host_cannot_hide_the_path(client: TestClient) -> None:
    assert client.get("/runs/secret", headers={"host": "127.0.0.1?"}).status_code == 403


def test_a_forged_cookie_is_nobody(client: TestClient, identity: Identity) -> None:
    client.cookies.set(identity.cookie, '"Eva".forged')

    assert client.get("/runs/secret").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "null"},
        {"origin": "http://["},
        {"host": "evil.example"},
        {"host": "["},
    ],
)
def test_a_vote_from_another_site_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    enter(client, "Tom")

    assert client.post("/label/vote", headers=headers).status_code == 403
    assert client.post("/label/vote", headers={"origin": "http://127.0.0.1:7860"}).text == '"counted"'


def test_scripts_get_a_nonce_and_pages_their_head(client: TestClient) -> None:
    enter(client, "Tom")

    answer = client.get("/label/", headers={"accept": "text/html"})

    policy = answer.headers["content-security-policy"]
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert answer.text.count(f'<script nonce="{nonce}"') == 2
    assert '/ui/x.js"></script></head>' in answer.text
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert answer.headers["x-frame-options"] == "DENY"


def test_the_name_page_escapes_and_goes_nowhere_else(client: TestClient) -> None:
    shown = client.get("/who", params={"next": '//evil.example/"><script>'}).text
    assert "evil" not in shown

    refused = client.post("/who", data={"name": "<b>" * 30, "next": "https://evil.example"})
    assert refused.status_code == 400
    assert "1 to 40 letters" in refused.text
    assert "<b>" not in refused.text


def test_the_key_is_readable_by_its_owner_alone(identity: Identity, tmp_path: Path) -> None:
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_an_empty_key_left_by_a_crash_signs_for_nobody(database: Database, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("")
    (tmp_path / "secret.part").write_text("half")

    Identity(database, Settings(home=tmp_path))

    assert len((tmp_path / "secret").read_text()) == 64
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "secret.part").exists()


def test_two_plumblines_of_one_machine_have_cookies_of_their_own(database: Database, tmp_path: Path) -> None:
    here, again = (Identity(database, Settings(home=tmp_path / "here")) for _ in range(2))
    beside = Identity(database, Settings(home=tmp_path / "beside"))

    assert here.cookie == again.cookie != beside.cookie


def test_a_websocket_is_closed(client: TestClient) -> None:
    enter(client, "Tom")

    with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/label/socket"):
        pass

    assert closed.value.code == 1008
