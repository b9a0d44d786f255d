from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.testclient import TestClient

from labeling.guard import Guard
from labeling.identity import COOKIE, Identity, identity_router
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

    @app.post("/label/vote")
    def vote() -> str:
        return "counted"

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


def test_a_call_without_a_name_is_refused_in_words(client: TestClient) -> None:
    answer = client.get("/runs/secret", headers={"accept": "application/json"})

    assert answer.status_code == 403 and "choose a name" in answer.json()["error"]
    assert client.get("/api/me").json() == {"name": None, "role": None}


@pytest.mark.parametrize(("name", "status"), [("Tom", 403), ("Ines", 403), ("Eva", 200)])
def test_a_path_needs_its_role(client: TestClient, name: str, status: int) -> None:
    enter(client, name)

    assert client.get("/runs/secret").status_code == status


def test_a_forged_cookie_is_nobody(client: TestClient) -> None:
    client.cookies.set(COOKIE, '"Eva".forged')

    assert client.get("/runs/secret").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "null"},
        {"host": "evil.example"},
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
