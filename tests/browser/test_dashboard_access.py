"""Who may see what on the dashboard, and what a hostile string can do there: nothing."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import httpx
import jwt
import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from local_supabase.stack import StackInfo
from tests.support.bridge_process import BridgeProcess
from tests.support.chromium import Watch, shoot
from tests.support.dashboard import Connection, act, current, live, open_as_operator, open_as_user, paste
from tests.support.stack import user_token

NewUser = Callable[[], Awaitable[UUID]]
PASSWORD = "correct horse battery staple"  # noqa: S105 - of a user of the test
UNAUTHORIZED = "401"


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


async def test_a_user_sees_only_the_own_page(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """A signed-in user sees the own streak, which lives, and nobody else's, whatever the address says."""
    user, other = await new_user(), await new_user()
    await act(db, user, days_ago=1)
    await act(db, other)
    await open_as_user(page, bridge, user_token(bridge.stack, user))
    await current(page, 1)
    await expect(page.locator("#hero-today")).to_have_text("Not active today yet.")
    await act(db, user)
    await current(page, 2)
    await expect(page.locator("#hero-today")).to_have_text("Active today.")
    await expect(page.locator("#announcer")).to_have_text("The streak is now 2 days.")
    await expect(page.locator("#history tr")).to_have_count(2)
    await page.evaluate("(id) => { location.hash = `#/user/${id}`; }", str(other))
    await expect(page.locator("#user-id")).to_have_text(str(user))
    await expect(page.locator("#search")).to_be_hidden()
    await shoot(page, "dashboard-own")


async def test_two_browsers_do_not_hear_of_each_other(
    open_context: Callable[..., Awaitable[BrowserContext]], bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """Of two users in two browsers, each is told of the own changes alone."""
    users = [await new_user(), await new_user()]
    pages, frames = [], []
    for user in users:
        page = await (await open_context()).new_page()
        heard: list[str] = []
        record_frames(page, heard)
        await open_as_user(page, bridge, user_token(bridge.stack, user))
        pages.append(page)
        frames.append(heard)
    for user, page in zip(users, pages, strict=True):
        await act(db, user)
        await current(page, 1)
    for own, stranger, heard in ((users[0], users[1], frames[0]), (users[1], users[0], frames[1])):
        assert any(str(own) in frame for frame in heard)
        assert not any(str(stranger) in frame for frame in heard)


def record_frames(page: Page, heard: list[str]) -> None:
    """Keep every frame that the page's WebSockets receive."""
    page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: heard.append(str(frame))))


@pytest.mark.parametrize("path", ["summary", "leaderboard", "at-risk", "users?prefix=0", "user?user_id={other}"])
def test_endpoints_refuse_who_may_not(bridge: BridgeProcess, path: str) -> None:
    """Without a token, with an anon key or with another user's token, no endpoint tells anything."""
    url = f"{bridge.url}/dashboard/{path.format(other=uuid4())}"
    user = user_token(bridge.stack, uuid4())
    anon = user_token(bridge.stack, uuid4(), role="anon")
    answers = [httpx.get(url, headers=headers) for headers in ({}, bearer("nonsense"), bearer(anon), bearer(user))]
    assert [answer.status_code for answer in answers] == [401, 401, 403, 403]
    assert all(set(answer.json()) == {"error"} for answer in answers)


def test_a_link_opens_only_what_it_is_for(bridge: BridgeProcess) -> None:
    """A link's token opens the bridge of its service key; a forged one and a ticket do not."""
    token = bridge.operator_link().partition("#link=")[2]
    assert httpx.get(f"{bridge.url}/dashboard/summary", headers=bearer(token)).status_code == 200
    claims = jwt.decode(token, options={"verify_signature": False})
    forged = jwt.encode(claims, "another key of thirty-two bytes or more", algorithm="HS256")
    for wrong in (forged, bridge.ticket()):
        assert httpx.get(f"{bridge.url}/dashboard/summary", headers=bearer(wrong)).status_code == 401


async def test_an_expired_token_ends_at_the_sign_in(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser, watch: Watch
) -> None:
    """When the token ends while the page is open, the page says so, shows no streak any more, and forgets the token."""
    watch.allow(UNAUTHORIZED)
    watch.allow("WebSocket")
    user = await new_user()
    await act(db, user)
    await page.goto(bridge.url)
    # Besides its seconds it is good for the leeway that servers' clocks are given; a busy machine may need more.
    for seconds in (-1, 15, 60):
        await paste(page, user_token(bridge.stack, user, expires_in=seconds))
        await expect(page.locator("#view-user:visible, #sign-in-error:not(:empty)").first).to_be_visible()
        if await page.locator("#view-user").is_visible():
            break
    await expect(page.locator("#sign-in-error")).to_have_text("Your session has ended. Sign in again.", timeout=120_000)
    await expect(page.locator("#view-user")).to_be_hidden()
    assert await page.evaluate("() => sessionStorage.length") == 0
    await paste(page, user_token(bridge.stack, user, expires_in=-60))
    await expect(page.locator("#sign-in-error")).to_contain_text("the token has expired")


async def test_wrong_tokens_are_refused(page: Page, bridge: BridgeProcess, stack: StackInfo, watch: Watch) -> None:
    """Secret keys are refused before anything is sent, and so is what is no token; forged ones by the server."""
    watch.allow(UNAUTHORIZED)
    await page.goto(bridge.url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    service = user_token(stack, uuid4(), role="service_role")
    anon = user_token(stack, uuid4(), role="anon")
    for secret, reason in [
        ("sb_secret_" + "x" * 30, "project's secret key"),
        (service, "project's secret key"),
        ("sb_publishable_" + "x" * 30, "publishable key"),
        (anon, "anon key"),
        ("nonsense", "no access token"),
    ]:
        await paste(page, secret)
        await expect(page.locator("#sign-in-error")).to_contain_text(reason)
        await expect(page.locator("#token")).to_have_value("")
    assert not [url for url in asked if not url.endswith("icon.svg")]
    await paste(
        page, jwt.encode({"sub": str(uuid4()), "role": "authenticated", "exp": 2**31}, "k" * 32, algorithm="HS256")
    )
    await expect(page.locator("#sign-in-error")).to_contain_text("This token is not accepted")
    assert await page.evaluate("() => sessionStorage.length") == 0
    await page.goto("about:blank")
    await page.goto(f"{bridge.url}/#link=eyJhbGciOiJIUzI1NiJ9.e30.x")
    await expect(page.locator("#sign-in-error")).to_contain_text("not valid here")


async def test_signing_in_by_email(
    page: Page, bridge: BridgeProcess, stack: StackInfo, db: Connection, watch: Watch
) -> None:
    """E-mail and password of a Supabase user open the user's own page; a wrong password does not."""
    watch.allow(UNAUTHORIZED)
    email = f"{uuid4()}@example.test"
    async with httpx.AsyncClient(headers={"apikey": stack.secret_key}, trust_env=False) as http:
        signed_up = await http.post(f"{stack.supabase_url}/auth/v1/signup", json={"email": email, "password": PASSWORD})
    user = UUID(signed_up.raise_for_status().json()["user"]["id"])
    await act(db, user)
    await page.goto(bridge.url)
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill("wrong")
    await page.locator("#password-form [type=submit]").click()
    await expect(page.locator("#sign-in-error")).to_contain_text("did not accept")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.locator("#password-form [type=submit]").click()
    await live(page)
    await current(page, 1)
    await page.reload()
    await current(page, 1)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#sign-in-title")).to_be_visible()
    assert await page.evaluate("() => sessionStorage.length") == 0
    await db.execute("delete from auth.users where id = $1", user)


async def test_a_streak_lapses_at_the_users_midnight(
    page: Page, own_bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """At its end, which is shown in the user's zone, a streak lapses on the page, even if no server says so."""
    user = await new_user()
    await act(db, user, zone="Pacific/Auckland")
    await open_as_user(page, own_bridge, user_token(own_bridge.stack, user))
    await current(page, 1)
    await expect(page.locator("#hero-left")).to_contain_text("00:00 (Pacific/Auckland)")
    await db.execute(
        "update public.user_streaks set expires_at = now() + interval '6 seconds' where user_id = $1", user
    )
    # On a busy machine the six seconds may be over before the page has heard of them.
    await expect(page.locator("#hero-left")).to_have_text(re.compile(r"^\d s left|starts a new one"))
    own_bridge.stop()
    await current(page, 0)
    await expect(page.locator("#hero-today")).to_have_text("The streak has lapsed.")


async def test_strings_of_users_never_become_html(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser, watch: Watch
) -> None:
    """A reason with a script in it is shown letter by letter, and the policy forbids what would run it."""
    watch.allow("TrustedHTML|trusted-types-sink")
    user = await new_user()
    for days in (3, 0):
        await act(db, user, days_ago=days)
    reason = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    await db.execute(
        "select * from public.recover_user_streak($1, current_date - 2, current_date - 1, $2)",
        user,
        reason,
    )
    await open_as_operator(page, bridge)
    await page.evaluate("(id) => { location.hash = `#/user/${id}`; }", str(user))
    await expect(page.locator("#history td", has_text="onerror")).to_have_text(reason)
    await expect(page.locator("#history img, #history script")).to_have_count(0)
    assert await page.evaluate("() => window.hacked") is None
    blocked = await page.evaluate(
        """() => {
          try { document.body.insertAdjacentHTML("beforeend", "<b>bold</b>"); return "rendered"; }
          catch (error) { return error.name; }
        }"""
    )
    assert blocked == "TypeError"


async def test_the_policy_has_no_holes(page: Page, bridge: BridgeProcess, watch: Watch) -> None:
    """Every file has the strict policy; inline scripts and styles do not run, and none are there."""
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(bridge.url)
        known = await http.get(bridge.url, headers={"If-None-Match": answer.headers["etag"]})
    assert known.status_code == 304
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "<style" not in answer.text
    assert "style=" not in answer.text
    assert "onclick" not in answer.text
    watch.allow("ontent.{1,3}ecurity.{1,3}olicy")
    await page.goto(bridge.url)
    await page.evaluate(
        """() => {
          const style = document.createElement("style");
          style.textContent = "body { display: none }";
          document.head.append(style);
        }"""
    )
    await expect(page.locator("#sign-in-title")).to_be_visible()
    assert any("style-src" in error for error in watch.errors)


async def test_the_sign_in_is_accessible(
    page: Page, bridge: BridgeProcess, accessible: Callable[[Page], Awaitable[None]]
) -> None:
    """axe-core has no serious finding about the sign-in form, with and without an error."""
    await page.goto(bridge.url)
    await page.locator("#token-details summary").click()
    await paste(page, "nonsense")
    await expect(page.locator("#sign-in-error")).not_to_be_empty()
    await shoot(page, "dashboard-sign-in")
    await accessible(page)


async def test_nothing_stays_after_signing_out(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """Who signs out leaves nothing on the page, seen or unseen, for whoever signs in next."""
    user, other = await new_user(), await new_user()
    for days in (1, 0):
        await act(db, user, days_ago=days)
    await open_as_user(page, bridge, bridge.operator_token())
    await expect(page.locator("#feed .row", has_text=str(user)[:8]).first).to_be_visible()
    await page.evaluate("(id) => { location.hash = `#/user/${id}`; }", str(user))
    await expect(page.locator("#year rect.active")).to_have_count(2)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#sign-in-title")).to_be_visible()
    assert str(user)[:8] not in await page.locator("main").inner_html()
    await expect(page.locator("#year rect")).to_have_count(0)
    await open_as_user(page, bridge, user_token(bridge.stack, other))
    await current(page, 0)
    await expect(page.locator("#year rect.active")).to_have_count(0)


async def test_a_link_does_not_replace_a_session(
    page: Page, bridge: BridgeProcess, stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """A link opened by who is signed in changes nothing and says so; one with a secret key in it is sent nowhere."""
    user = await new_user()
    await act(db, user)
    await open_as_user(page, bridge, user_token(bridge.stack, user))
    await page.goto("about:blank")
    await page.goto(bridge.operator_link())
    await current(page, 1)
    await expect(page.locator("#banner")).to_contain_text("signed in already")
    assert "link" not in page.url
    await page.get_by_role("button", name="Sign out").click()
    for fragment, notice in (
        (f"link={user_token(stack, uuid4(), role='service_role')}", "project's secret key"),
        ("error_description=Call+us+now", "Signing in did not succeed"),
    ):
        await page.goto("about:blank")
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))  # type: ignore[call-overload]
        await page.goto(f"{bridge.url}/#{fragment}")
        await expect(page.locator("#sign-in-error")).to_contain_text(notice)
        assert "=" not in page.url
        assert not [url for url in asked if url.endswith("/dashboard/me")]


async def test_withdrawn_rights_leave_the_own_page(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser, watch: Watch
) -> None:
    """An operator whose rights are withdrawn sees only the own streak from then on, and nobody else's stays there."""
    watch.allow("403")
    user, other = await new_user(), await new_user()
    await act(db, user)
    await act(db, other)
    await open_as_user(page, bridge, user_token(bridge.stack, user, app_metadata={"streak_operator": True}))
    await expect(page.locator("#feed .row", has_text=str(other)[:8]).first).to_be_visible()
    # What the bridge answers to a token that no longer says so.
    token = user_token(bridge.stack, user)

    async def ask(route: Route) -> None:
        await route.continue_(headers={**route.request.headers, "authorization": f"Bearer {token}"})

    await page.route(re.compile("/ticket|/dashboard/(me|summary|user|leaderboard|at-risk)"), ask)
    await current(page, 1)
    await expect(page.locator("#user-title")).to_have_text("Your streak")
    await expect(page.locator("#search")).to_be_hidden()
    assert str(other)[:8] not in await page.locator("main").inner_html()


async def test_a_recovered_bridge_is_live(page: Page, bridge: BridgeProcess, new_user: NewUser) -> None:
    """Who signs in while the bridge recovers is not told for ever that it is degraded."""

    async def degraded(route: Route) -> None:
        answer = await route.fetch()
        body = {**await answer.json(), "state": "degraded", "reason": "Realtime is away"}
        await route.fulfill(response=answer, json=body)

    await page.route("**/dashboard/me", degraded)
    await open_as_user(page, bridge, user_token(bridge.stack, await new_user()))
