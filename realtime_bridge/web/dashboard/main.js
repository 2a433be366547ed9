// The page: who is signed in, which view is shown, what is fetched when.

import { Api, send } from "./api.js";
import { now } from "./clock.js";
import { $, setText } from "./dom.js";
import { ago, timeOfDay } from "./format.js";
import { Model } from "./model.js";
import { Overview } from "./overview.js";
import { Search } from "./search.js";
import { Session } from "./session.js";
import { SignIn } from "./sign-in.js";
import { Stream } from "./stream.js";
import { setUpTheme } from "./theme.js";
import { UserView } from "./user.js";

const DRAW_MS = 250;
const SUMMARY_MS = 2_000;
const BOARD_MS = 10_000;
const SOON_MS = 1_500;
const AWAY_MS = 60_000;
const QUIET_MS = 300;
const NOTICE_MS = 20_000;
// Changes are gathered for a moment only, so that the feed is live; the bridge merges what is faster.
const OPERATOR_STREAM = { debounce: "0.2", max_wait: "1" };

const session = new Session((refresh_token) => send("/dashboard/sign-in/refresh", { method: "POST", body: { refresh_token } }));
const api = new Api(session);
const model = new Model();
const overview = new Overview(model);
const user = new UserView((text) => setText($("announcer"), text));
const signIn = new SignIn(enter);
const state = { me: null, connection: "connecting", bridge: null, reason: null, lost: null, dirty: false, frame: 0, drawn: 0, fill: true, hiddenAt: 0 };
const due = { summary: 0, board: 0, risk: 0, user: 0 };
const busy = new Set();
let stream = null;
/** What is said for a while of a session that goes on. */
let notice = null;

setUpTheme();
new Search((prefix) => api.call(`/dashboard/users?prefix=${encodeURIComponent(prefix)}`), (id) => {
  location.hash = `#/user/${id}`;
});
$("sign-out").addEventListener("click", () => leave());
addEventListener("hashchange", () => route());
// The fragment is the page's own route: a link that sets it would leave the page.
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});
document.addEventListener("visibilitychange", () => onVisibility());
setInterval(() => tick(), 1000);
if (session.signedIn) resume();
else leave(session.notice);
if (session.signedIn && session.notice) {
  notice = session.notice;
  setTimeout(() => {
    notice = null;
    setBanner(null);
  }, NOTICE_MS);
  setBanner(null);
}

/** Sign in with new tokens; what is wrong with them is thrown, and shown by the form. */
async function enter(tokens) {
  session.keep(tokens);
  try {
    await open();
  } catch (error) {
    session.forget();
    throw error.status === 401 ? new Error(`This token is not accepted: ${error.message}.`) : error;
  }
}

/** Go on with the tokens of this tab. */
async function resume() {
  try {
    await open();
  } catch (error) {
    if (error.denied) leave(ended(error));
    else {
      showStatus("waiting", "Reconnecting", error.message);
      setTimeout(resume, 2000);
    }
  }
}

async function open() {
  const me = await api.call("/dashboard/me");
  state.me = me;
  state.bridge = me.state;
  state.reason = me.reason;
  state.fill = true;
  state.lost = null;
  user.milestones = me.milestones;
  $("sign-out").hidden = false;
  $("search").hidden = !me.operator;
  $("user-back").hidden = !me.operator;
  document.body.dataset.role = me.operator ? "operator" : "user";
  stream?.stop();
  stream = new Stream({
    ticket: async () => (await api.call("/ticket", { method: "POST" })).ticket,
    query: me.operator ? OPERATOR_STREAM : {},
    onMessage: hear,
    onState: onConnection,
    onDenied: (error) => leave(ended(error)),
  });
  stream.start();
  route();
}

function leave(reason) {
  stream?.stop();
  stream = null;
  session.forget();
  notice = null;
  state.me = null;
  model.forget();
  overview.reset();
  user.close();
  for (const id of ["sign-out", "search", "status", "banner"]) $(id).hidden = true;
  signIn.show(reason);
  show("sign-in");
}

/** The rights of an operator were withdrawn: keep nothing of what they opened, and show what is left. */
function demote() {
  stream?.stop();
  stream = null;
  state.me = null;
  model.forget();
  overview.reset();
  user.close();
  resume();
}

function ended(error) {
  if (error.code === "TOKEN_EXPIRED" || error.code === "SIGN_IN_FAILED") return "Your session has ended. Sign in again.";
  return error.code === "INVALID_TOKEN" ? "This token or link is not valid here, or has expired. Sign in again." : `Sign in again: ${error.message}.`;
}

/** Show what the URL's fragment names, as far as this user may see it. */
function route() {
  if (!state.me) return;
  const named = /^#\/user\/([0-9a-f-]{32,36})$/i.exec(location.hash)?.[1].toLowerCase();
  const shown = state.me.operator ? named : state.me.user_id;
  if (shown) {
    user.open(shown, shown === state.me.user_id);
    due.user = 0;
    show("user");
  } else {
    user.close();
    show("overview");
  }
  fetchDue();
  draw();
}

function show(view) {
  const before = document.body.dataset.view;
  document.body.dataset.view = view;
  for (const name of ["sign-in", "overview", "user"]) $(`view-${name}`).hidden = name !== view;
  document.title = { "sign-in": "Sign in · Streaks", overview: "Streaks", user: "Streak · Streaks" }[view];
  if (before && before !== view && view !== "sign-in") $("main").focus({ preventScroll: true });
}

// --- what comes in -----------------------------------------------------------------------------------------------

function hear(message) {
  if (message.type === "state") {
    state.bridge = message.state;
    state.reason = message.reason;
    if (message.state === "closed") return;
  }
  if (message.type === "reset") state.fill = true;
  const changed = model.hear(message);
  if (changed && changed === user.userId) {
    user.hear(message.streak ?? null);
    due.user = Math.min(due.user, Date.now() + QUIET_MS);
    setTimeout(fetchDue, QUIET_MS + 10);
  }
  if (model.boardStale) due.board = Math.min(due.board, Date.now() + SOON_MS);
  wake();
}

function onConnection(connection) {
  if (connection === "open") {
    if (state.lost) setText($("announcer"), "Connected again.");
    state.lost = false;
    // Nothing is said of a bridge that is live; of any other the first message says so.
    state.bridge = "live";
    state.reason = null;
    // What the log holds and the stream did not bring belongs into the feed.
    state.fill = true;
    Object.assign(due, { summary: 0, board: 0, risk: 0, user: 0 });
    fetchDue();
  } else if (connection !== "connecting" && state.lost === false) {
    state.lost = true;
    setText($("announcer"), "The connection is lost. What you see may be old.");
  }
  if (connection !== "connecting" || state.connection === "open" || !model.summary) state.connection = connection;
  drawStatus();
}

function onVisibility() {
  if (document.hidden) {
    state.hiddenAt = now();
    return;
  }
  if (!state.me) return;
  // After a long sleep the connection may be dead without knowing it.
  if (now() - state.hiddenAt > AWAY_MS) stream?.renew();
  Object.assign(due, { summary: 0, board: 0, risk: 0, user: 0 });
  fetchDue();
  tick();
}

/** Fetch what is due, nothing twice at a time, and nothing while nobody looks. */
function fetchDue() {
  if (!state.me || document.hidden || state.connection === "offline") return;
  if (user.userId) once("user", Infinity, () => api.call(`/dashboard/user?user_id=${user.userId}`), (answer) => user.take(answer));
  if (!state.me.operator) return;
  once("summary", SUMMARY_MS, fetchSummary);
  if (user.userId) return;
  once("board", BOARD_MS, () => api.call("/dashboard/leaderboard"), (answer) => model.takeBoard(answer.streaks));
  once("risk", BOARD_MS, () => api.call("/dashboard/at-risk"), (answer) => model.takeRisks(answer));
}

async function fetchSummary() {
  const { me, fill } = state;
  state.fill = false;
  let summary;
  try {
    summary = await api.call(`/dashboard/summary?after=${encodeURIComponent(model.summary?.cursor ?? "")}`);
  } catch (error) {
    state.fill ||= fill;
    throw error;
  }
  if (state.me !== me) return;
  // The cursor moves on also while the stream is down: what is read then will not come again.
  model.takeSummary(summary, fill || state.fill || state.connection !== "open");
  state.bridge = summary.state;
  state.reason = summary.reason;
}

async function once(name, pause, fetch, take = () => {}) {
  if (busy.has(name) || Date.now() < due[name]) return;
  busy.add(name);
  due[name] = Date.now() + pause;
  const { me } = state;
  try {
    const answer = await fetch();
    // Who signed in meanwhile is not shown what another user asked for.
    if (state.me !== me) return;
    take(answer);
    setBanner(null);
  } catch (error) {
    if (state.me !== me) return;
    due[name] = Date.now() + SUMMARY_MS;
    if (error.status === 401) leave(ended(error));
    else if (error.status === 403 && me.operator) demote();
    else if (error.status > 0) setBanner(`Some figures cannot be read now: ${error.message}`);
  } finally {
    busy.delete(name);
    wake();
  }
}

// --- what is drawn -----------------------------------------------------------------------------------------------

/** Draw soon: at most a few times a second, and in an animation frame. */
function wake() {
  state.dirty = true;
  if (state.frame || document.hidden) return;
  const wait = state.drawn + DRAW_MS - performance.now();
  state.frame = wait > 0 ? setTimeout(() => requestAnimationFrame(draw), wait) : requestAnimationFrame(draw);
}

function draw() {
  state.frame = 0;
  state.dirty = false;
  state.drawn = performance.now();
  if (!state.me) return;
  if (user.userId) user.draw();
  else overview.drawLists();
  drawStatus();
}

function tick() {
  if (!state.me || document.hidden) return;
  fetchDue();
  if (!user.userId) overview.drawClocks();
  draw();
}

function drawStatus() {
  if (!state.me) return;
  const { connection, bridge, reason } = state;
  const last = model.lastChange ? `last change ${timeOfDay(model.lastChange)}` : "";
  const since = model.lastChange && now() - model.lastChange >= 3000 ? ` · ${ago(now() - model.lastChange)} ago` : "";
  if (connection === "offline") showStatus("offline", "Offline", "showing the last known state");
  else if (connection === "waiting") showStatus("waiting", "Reconnecting", "showing the last known state");
  else if (connection === "connecting") showStatus("waiting", "Connecting", "");
  else if (bridge === "live") showStatus("live", "Live", last + since);
  else if (bridge === "degraded") showStatus("degraded", "Degraded", reason ?? last);
  else showStatus("waiting", bridge === "catching-up" ? "Catching up" : "Starting", reason ?? last);
}

function showStatus(kind, label, detail) {
  $("status").hidden = false;
  $("status").dataset.state = kind;
  setText($("status-label"), label);
  setText($("status-detail"), detail);
}

function setBanner(text) {
  $("banner").hidden = !(text ?? notice);
  setText($("banner"), text ?? notice ?? "");
}
