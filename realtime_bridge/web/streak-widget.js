/**
 * `<streak-widget>`: a user's streak on any page, live from the bridge. One file, no dependency, no build step.
 *
 * Documentation: docs/streak-widget.md. Types: streak-widget.d.ts. Four parts: times, the connection (shared by all
 * followers of one bridge and token source), `followStreak` for programs, and the element on top of it.
 * Everything that comes from outside reaches the page as text, never as HTML.
 */

const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 30_000;
const REQUEST_TIMEOUT = 10_000;
const GRACE = 1_000; // a node that is moved is removed and added again: its connection outlives that
const STEADY = 5_000; // a connection that held this long was a good one
const LOST_AFTER = 3_000; // a token renewed or a bridge restarted is no reason to say "offline"
const CHECK_EVERY = 30_000;
const CLOCK_JUMP = 5_000;
const SILENCE = 600_000; // a browser cannot see that a silent socket is dead: it is replaced, and resumes
const HIDDEN_LONG = 60_000;
const LONGEST_TIMER = 86_400_000;
const LONGEST_SLEEP = 2 ** 31 - 1;
const MINUTE = 60_000;
const HOUR = 3_600_000;
const DAY = 86_400_000;
const UUID = /^[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;
const ISO_DAY = /^\d{4,5}-\d\d-\d\d$/;

/** The bridge that serves this file, if one does. */
const HOME = /^https?:/.test(import.meta.url) ? new URL(".", import.meta.url).href : "";

const EMPTY = Object.freeze({
  state: "connecting",
  code: null,
  reason: null,
  userId: null,
  streak: null,
  event: null,
  milestone: null,
  nextMilestone: null,
  updatedAt: null,
});

// --- times -----------------------------------------------------------------------------------------------------------

const dayFormats = new Map();

/** The calendar day of an instant in a zone, as `2026-11-22`. */
function dayIn(zone, instant) {
  if (!dayFormats.has(zone)) {
    const options = { year: "numeric", month: "2-digit", day: "2-digit", calendar: "iso8601" };
    try {
      dayFormats.set(zone, new Intl.DateTimeFormat("en-CA", { ...options, timeZone: zone ?? "UTC" }));
    } catch {
      dayFormats.set(zone, new Intl.DateTimeFormat("en-CA", { ...options, timeZone: "UTC" })); // newer than our list
    }
  }
  const parts = Object.fromEntries(dayFormats.get(zone).formatToParts(instant).map((part) => [part.type, part.value]));
  return `${parts.year}-${parts.month}-${parts.day}`;
}

/** A streak as it holds at an instant: the bridge's word was true when it was sent. */
function present(told, now) {
  const { last_active_date: last, timezone } = told;
  const today = dayIn(timezone, now);
  const lapsed = told.expires_at !== null && now >= Date.parse(told.expires_at);
  return Object.freeze({
    ...told,
    current_streak: lapsed ? 0 : told.current_streak,
    is_active_today: last !== null && last >= today,
    days_since_activity: last === null ? null : Math.max(0, Math.round((Date.parse(today) - Date.parse(last)) / DAY)),
  });
}

/** Milliseconds until `present` gives another answer: the lapse, or the next local midnight. */
function untilChange(told, now) {
  const expiry = told.expires_at === null ? NaN : Date.parse(told.expires_at) - now;
  const waits = expiry > 0 ? [expiry] : [];
  if (told.last_active_date !== null) {
    const today = dayIn(told.timezone, now);
    let [low, high] = [now, now + 26 * HOUR];
    while (high - low > 500) {
      const middle = (low + high) / 2;
      [low, high] = dayIn(told.timezone, middle) === today ? [middle, high] : [low, middle];
    }
    waits.push(high - now);
  }
  return waits.length ? Math.min(...waits, LONGEST_TIMER) : null;
}

/** What the bridge sent, with every field of the type that we rely on. */
function streakOf(raw) {
  const whole = (value) => (Number.isSafeInteger(value) && value >= 0 ? value : 0);
  const text = (value, good) => (typeof value === "string" && good(value) ? value : null);
  return {
    current_streak: whole(raw?.current_streak),
    longest_streak: whole(raw?.longest_streak),
    last_active_date: text(raw?.last_active_date, (value) => ISO_DAY.test(value)),
    timezone: text(raw?.timezone, () => true),
    is_active_today: raw?.is_active_today === true,
    days_since_activity: raw?.days_since_activity == null ? null : whole(raw.days_since_activity),
    expires_at: text(raw?.expires_at, (value) => !Number.isNaN(Date.parse(value))),
    version: whole(raw?.version),
  };
}

// --- the connection --------------------------------------------------------------------------------------------------

/** The bridge or the host said no: trying again at once would not help. */
class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

function sleep(milliseconds, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}

async function tooLate(signal) {
  await sleep(REQUEST_TIMEOUT, signal);
  throw new Error("the token provider does not answer");
}

async function fetchJson(url, options, signal) {
  const controller = new AbortController();
  const abort = () => controller.abort();
  const timer = setTimeout(abort, REQUEST_TIMEOUT);
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  try {
    const response = await fetch(url, { cache: "no-store", ...options, signal: controller.signal });
    const body = await response.json().catch(() => null);
    if (controller.signal.aborted) throw new Error("no answer in time"); // half an answer is none
    if (response.ok) return body;
    const message = `${new URL(url).pathname}: HTTP ${response.status}`;
    if (response.status >= 500) throw new Error(message);
    throw new Refused(body?.error?.code ?? (response.status === 401 ? "UNAUTHORIZED" : "REFUSED"), message);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}

/** The `sub` of a JWT, unverified: it only says whom to ask for. The bridge verifies. */
function subjectOf(token) {
  try {
    const payload = token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/");
    return String(JSON.parse(atob(payload)).sub).toLowerCase();
  } catch {
    return null;
  }
}

const pool = new Set();

class Connection {
  #bridge;
  #source;
  #followers = new Set();
  #records = new Map();
  #following = null; // whom the present attempt asks for; null until it asks
  #asked = new Set(); // whom the latest attempt asked for: `#since` is their place in the stream
  #self = null;
  #since = null;
  #milestones = [];
  #offset = 0;
  #configured = false;
  #serial = 0;
  #status = { state: "connecting", code: null, reason: null };
  #stop = null; // of the whole run
  #session = null; // of one attempt, or of the pause after it
  #failures = 0;
  #timers = {};
  #heard = 0;
  #checked = [0, 0];
  #hiddenAt = 0;
  #gone = false;
  #patience = 0;

  /** The connection for a bridge and a token source. */
  static of(bridge, source) {
    for (const connection of pool) if (connection.serves(bridge, source)) return connection;
    const connection = new Connection(bridge, source);
    pool.add(connection);
    return connection;
  }

  constructor(bridge, source) {
    this.#bridge = bridge;
    this.#source = source;
  }

  get milestones() {
    return this.#milestones;
  }

  get status() {
    return this.#status;
  }

  serves(bridge, source) {
    return this.#bridge === bridge && this.#source === source;
  }

  /** The time by the bridge's clock, in epoch milliseconds. */
  now() {
    return Date.now() + this.#offset;
  }

  user(follower) {
    return follower.userId ?? this.#self;
  }

  record(follower) {
    return this.#records.get(this.user(follower)) ?? null;
  }

  /** Use another function from the next attempt on, unless others use the present one. */
  swap(follower, source) {
    if (this.#followers.size !== 1 || !this.#followers.has(follower)) return false;
    this.#source = source;
    return true;
  }

  add(follower) {
    this.#followers.add(follower);
    clearTimeout(this.#timers.grace);
    if (this.#stop === null) this.#start();
    else if (this.#following?.has(this.user(follower)) === false) this.#widen();
  }

  remove(follower) {
    this.#followers.delete(follower);
    if (this.#followers.size === 0) this.#timers.grace = setTimeout(() => this.#end(), GRACE);
  }

  /** Connect anew now, with a new token. */
  restart() {
    this.#failures = 0;
    this.#session?.abort();
  }

  #start() {
    this.#stop = new AbortController();
    const { signal } = this.#stop;
    window.addEventListener("online", () => this.restart(), { signal });
    window.addEventListener("offline", () => this.restart(), { signal });
    // A page that is kept for "back" holds no connection meanwhile.
    window.addEventListener("pagehide", () => this.#away(true), { signal });
    window.addEventListener("pageshow", () => this.#away(false), { signal });
    document.addEventListener("visibilitychange", () => this.#onVisibility(), { signal });
    this.#checked = [Date.now(), performance.now()];
    this.#timers.check = setInterval(() => this.#check(), CHECK_EVERY);
    // Later, so that all the widgets of a page are there when the first request names its users.
    queueMicrotask(() => this.#run(signal));
  }

  #end() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#stop?.abort();
    this.#session?.abort();
    this.#stop = null;
    pool.delete(this);
  }

  #widen() {
    clearTimeout(this.#timers.widen);
    this.#timers.widen = setTimeout(() => {
      this.#since = null; // a resumed listener would hear nothing of users who did not change
      this.restart();
    }, 0);
  }

  async #run(signal) {
    while (!signal.aborted) {
      this.#session = new AbortController();
      const attempt = this.#session.signal;
      let reason = "";
      try {
        await this.#attempt(attempt);
      } catch (error) {
        if (!attempt.aborted) reason = this.#failed(error);
      }
      if (signal.aborted) return;
      if (attempt.aborted) continue;
      const pause = Math.min(FIRST_PAUSE * 2 ** this.#failures, LONGEST_PAUSE);
      this.#failures += 1;
      if (reason) clearTimeout(this.#timers.lost);
      await sleep(pause * (0.5 + Math.random() / 2), attempt);
    }
  }

  #failed(error) {
    if (error instanceof Refused) this.#say("refused", error.code, error.message);
    else this.#say("offline", null, error.message);
    return error.message;
  }

  async #attempt(signal) {
    if (this.#gone) return sleep(LONGEST_SLEEP, signal);
    if (navigator.onLine === false) {
      this.#say("offline", null, "the browser is offline");
      return sleep(LONGEST_SLEEP, signal);
    }
    if (this.#status.state === "live") {
      clearTimeout(this.#timers.lost);
      this.#timers.lost = setTimeout(() => this.#say("offline", null, "no answer from the bridge"), LOST_AFTER);
    }
    this.#following = null;
    const configuring = this.#configured ? null : this.#configure(signal).catch(() => {});
    const ticket = await this.#ticket(signal);
    await configuring;
    const following = new Set([...this.#followers].map((follower) => this.user(follower)));
    this.#following = following;
    // A resumed listener hears nothing of users who do not change: another user of the session, a widget added meanwhile.
    if ([...following].some((user) => !this.#asked.has(user))) this.#since = null;
    this.#asked = following;
    if (following.has(null)) throw new Refused("USER_ID_REQUIRED", "user-id is needed: the token names no user");
    const query = new URLSearchParams([["ticket", ticket], ...[...following].map((user) => ["user_id", user])]);
    const opened = await this.#listen(query, signal);
    if (!opened && !signal.aborted) await this.#read(query, signal);
  }

  async #configure(signal) {
    const asked = Date.now();
    const body = await fetchJson(`${this.#bridge}/streak-widget.json`, {}, signal);
    const server = Date.parse(body?.now);
    if (!Number.isNaN(server)) this.#offset = server - (asked + Date.now()) / 2;
    if (Array.isArray(body?.milestones)) {
      this.#milestones = body.milestones.filter((mark) => Number.isSafeInteger(mark) && mark > 0).sort((a, b) => a - b);
    }
    this.#configured = true;
    this.#tell();
  }

  /** A ticket of the host, or one of the bridge for the host's token. */
  async #ticket(signal) {
    const given = await this.#credential(signal);
    if (typeof given?.ticket === "string") return given.ticket;
    const token = typeof given === "string" ? given : (given?.token ?? given?.access_token);
    if (typeof token !== "string" || !token) throw new Refused("TOKEN_REQUIRED", "the token provider gave no token");
    const self = subjectOf(token);
    if (self !== this.#self) {
      this.#self = self;
      this.#tell(); // what was shown is another user's
    }
    const headers = { Authorization: `Bearer ${token}` };
    const body = await fetchJson(`${this.#bridge}/ticket`, { method: "POST", headers, credentials: "omit" }, signal);
    if (typeof body?.ticket !== "string") throw new Error("the bridge gave no ticket");
    return body.ticket;
  }

  #credential(signal) {
    if (typeof this.#source === "function") return Promise.race([this.#source(), tooLate(signal)]);
    if (!this.#source) throw new Refused("TOKEN_REQUIRED", "set tokenProvider, or the attribute token-url");
    const headers = { Accept: "application/json" };
    return fetchJson(this.#source, { credentials: "same-origin", headers }, signal);
  }

  /** Listen until the socket closes; false if it never opened. */
  #listen(query, signal) {
    const since = this.#since ? [["since", this.#since]] : [];
    const address = `${this.#bridge.replace(/^http/, "ws")}/ws?${new URLSearchParams([...query, ...since])}`;
    return new Promise((resolve) => {
      let opened = 0;
      const socket = new WebSocket(address);
      const done = () => {
        signal.removeEventListener("abort", done);
        socket.onopen = socket.onmessage = socket.onclose = null;
        socket.close();
        if (opened && performance.now() - opened > STEADY) this.#failures = 0;
        resolve(opened > 0);
      };
      signal.addEventListener("abort", done);
      if (signal.aborted) done();
      socket.onclose = done;
      socket.onopen = () => {
        opened = performance.now();
        this.#alive("live");
      };
      socket.onmessage = ({ data }) => this.#hear(data);
    });
  }

  /** Why does the socket not open? HTTP tells; and where only sockets are blocked, it gives the present state. */
  async #read(query, signal) {
    const body = await fetchJson(`${this.#bridge}/snapshot?${query}`, { credentials: "omit" }, signal);
    this.#since = null;
    this.#alive("delayed", "no WebSocket to the bridge");
    for (const { user_id: user, streak } of body?.streaks ?? []) this.#keep(user, "snapshot", streak);
    this.#failures = Math.max(this.#failures, 3);
    this.#tell();
  }

  #alive(state, reason = null) {
    clearTimeout(this.#timers.lost);
    this.#heard = performance.now();
    this.#patience = SILENCE * (0.8 + Math.random() * 0.4);
    this.#say(state, null, reason);
  }

  #hear(data) {
    let message = null;
    try {
      message = JSON.parse(data);
    } catch {
      return; // of a bridge that speaks otherwise
    }
    this.#heard = performance.now();
    const { type, epoch, seq, user_id: user, streak, event, state, reason } = message ?? {};
    if (type === "state") return this.#say(state === "live" ? "live" : "delayed", null, reason ?? state);
    if (type === "reset") this.#since = null;
    else if (seq > 0) this.#since = `${epoch}:${seq}`;
    if (typeof user !== "string") return;
    this.#keep(user, type === "change" ? event : type, streak);
    this.#tell();
  }

  #keep(user, event, raw) {
    const told = streakOf(raw);
    const before = this.#records.get(user);
    // A lapse does not undo a milestone, so that a recovery does not reach it again.
    const run = told.current_streak || (before?.run ?? 0);
    const reached = before ? this.#milestones.filter((mark) => before.run < mark && mark <= told.current_streak) : [];
    const milestone = reached.at(-1) ?? (event === "milestone" ? told.current_streak : null);
    this.#serial += 1;
    this.#records.set(user, { told, run, milestone, event: String(event), serial: this.#serial, at: this.now() });
  }

  #say(state, code, reason) {
    const { state: before, code: codeBefore, reason: reasonBefore } = this.#status;
    if (state === before && code === codeBefore && reason === reasonBefore) return;
    this.#status = { state, code, reason: reason === null ? null : String(reason) };
    this.#tell();
  }

  #tell() {
    for (const follower of [...this.#followers]) follower.update();
  }

  /** The machine slept, the clock was set, or nothing was heard for long: connect anew, and resume. */
  #check() {
    const [wall, steady] = [Date.now(), performance.now()];
    const jump = Math.abs(wall - this.#checked[0] - (steady - this.#checked[1])) > CLOCK_JUMP;
    const slept = steady - this.#checked[1] > 4 * CHECK_EVERY;
    this.#checked = [wall, steady];
    if (jump || slept) this.#configured = false;
    if (jump || slept || (this.#status.state === "live" && steady - this.#heard > this.#patience)) this.restart();
  }

  #away(gone) {
    if (gone === this.#gone) return;
    this.#gone = gone;
    this.restart();
  }

  #onVisibility() {
    if (document.visibilityState === "hidden") {
      this.#hiddenAt = performance.now();
      return;
    }
    for (const follower of [...this.#followers]) follower.update();
    this.#check();
    if (this.#status.state !== "live" || performance.now() - this.#hiddenAt > HIDDEN_LONG) this.restart();
  }
}

// --- for programs ----------------------------------------------------------------------------------------------------

class Follower {
  userId;
  snapshot = EMPTY;
  #connection = null;
  #onChange;
  #timer = 0;

  constructor(userId, onChange) {
    this.userId = userId;
    this.#onChange = onChange;
  }

  open(bridge, source) {
    this.#connection = Connection.of(bridge, source);
    this.#connection.add(this);
    this.update();
    return this;
  }

  refuse(code, reason) {
    this.#tell({ ...EMPTY, state: "refused", code, reason });
    return this;
  }

  now() {
    return this.#connection?.now() ?? Date.now();
  }

  swap(source) {
    return this.#connection?.swap(this, source) ?? false;
  }

  reconnect() {
    this.#connection?.restart();
  }

  close() {
    clearTimeout(this.#timer);
    this.#onChange = () => {};
    this.#connection?.remove(this);
    this.#connection = null;
  }

  /** Look at the connection and the clock, and tell what differs. */
  update() {
    if (this.#connection === null) return;
    clearTimeout(this.#timer);
    const record = this.#connection.record(this);
    const { state, code, reason } = this.#connection.status;
    const base = { ...EMPTY, state: state === "live" && !record ? "connecting" : state, code, reason };
    base.userId = this.#connection.user(this);
    if (record === null) return this.#tell(base);
    const now = this.now();
    const streak = present(record.told, now);
    const wait = untilChange(record.told, now);
    if (wait !== null) this.#timer = setTimeout(() => this.update(), wait + 5);
    const lapsedHere = streak.current_streak === 0 && record.told.current_streak > 0;
    const nextMilestone = this.#connection.milestones.find((mark) => mark > streak.current_streak) ?? null;
    const { milestone, serial, at } = record;
    const event = lapsedHere ? "lapsed" : record.event;
    this.#tell({ ...base, streak, event, milestone: lapsedHere ? null : milestone, nextMilestone, updatedAt: at }, serial);
  }

  #serial = 0;

  #tell(next, serial = this.#serial) {
    const { streak, updatedAt, ...rest } = next;
    const { streak: oldStreak, updatedAt: _, ...oldRest } = this.snapshot;
    const same = JSON.stringify([streak, rest]) === JSON.stringify([oldStreak, oldRest]);
    if (same && serial === this.#serial) return;
    this.#serial = serial;
    this.snapshot = Object.freeze(next);
    this.#onChange(this.snapshot);
  }
}

function addressOf(text, base) {
  try {
    const url = new URL(text, base);
    return /^https?:$/.test(url.protocol) && !url.username && !url.password ? url : null;
  } catch {
    return null;
  }
}

/**
 * Follow a user's streak.
 *
 * Options: `bridgeUrl` (default: where this file came from), `userId` (default: the token's user), and `tokenProvider`
 * (a function that returns, or promises, the user's Supabase access token) or `tokenUrl` (an endpoint of the host that
 * answers `{"token": ...}`). `onChange` is called with each new snapshot. Returns a handle: `snapshot`, `now()`,
 * `reconnect()`, `close()`.
 */
export function followStreak({ bridgeUrl, userId, tokenProvider, tokenUrl } = {}, onChange = () => {}) {
  const follower = new Follower(userId ? String(userId).toLowerCase() : null, onChange);
  const bridge = addressOf(bridgeUrl || HOME || ".", document.baseURI);
  if (bridge === null) return follower.refuse("INVALID_INPUT", "bridge-url is not a URL of http or https");
  if (userId && !UUID.test(userId)) return follower.refuse("INVALID_INPUT", "user-id is not a UUID");
  const endpoint = tokenUrl ? addressOf(tokenUrl, document.baseURI) : null;
  if (tokenUrl && endpoint === null) return follower.refuse("INVALID_INPUT", "token-url is not a URL of http or https");
  const source = typeof tokenProvider === "function" ? tokenProvider : (endpoint?.href ?? null);
  return follower.open((bridge.origin + bridge.pathname).replace(/\/+$/, ""), source);
}

// --- the element -----------------------------------------------------------------------------------------------------

const LABELS = Object.freeze({
  title: "Daily streak",
  best: "Best",
  nextMilestone: "Next milestone",
  toGo: "{count} to go",
  doneToday: "Done today",
  notYetToday: "Not yet today",
  lapsed: "Streak lapsed",
  noStreak: "No streak yet",
  startToday: "Start one today",
  startAgain: "Start again today",
  timeLeft: "{time} left",
  safeFor: "Safe for {time}",
  lessThanAMinute: "less than a minute",
  connecting: "Connecting…",
  offline: "Offline, as of {time}",
  offlineEmpty: "Offline, trying again",
  delayed: "Updates may be late",
  refused: "Not signed in",
  noAccess: "Cannot be shown here",
  backOnline: "Up to date again",
});

const LIGHT = `--_bg: #ffffff; --_fg: #1c1917; --_muted: #57534e; --_border: #e7e5e4; --_track: #f0eeec;
  --_accent: #ea580c; --_glow: #fdba46; --_ink: #9a3412; --_soft: #fff4e6; --_done: #166534; --_done-soft: #e8f7ee;
  --_ash: #c4beb9; --_ash-glow: #e7e3e0; --_note: #57534e; --_note-soft: #f5f4f2; --_shadow: 0 1px 2px #1c19170d, 0 6px 20px #1c19170f;`;
const DARK = `--_bg: #1f1b19; --_fg: #faf7f5; --_muted: #b5aca6; --_border: #3a3330; --_track: #3a3330;
  --_accent: #f97316; --_glow: #fed07a; --_ink: #fdba74; --_soft: #3b2413; --_done: #86efac; --_done-soft: #16301f;
  --_ash: #57504b; --_ash-glow: #78706a; --_note: #d6cec8; --_note-soft: #2c2724; --_shadow: 0 1px 2px #00000066;`;

const STYLE = `
:host { display: block; container-type: inline-size; max-width: var(--streak-max-width, 24rem); color-scheme: light; ${LIGHT} }
:host([hidden]) { display: none; }
@media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { color-scheme: dark; ${DARK} } }
:host([theme="dark"]) { color-scheme: dark; ${DARK} }
* { box-sizing: border-box; margin: 0; }
[hidden] { display: none !important; }
.card { background: var(--streak-background, var(--_bg)); color: var(--streak-color, var(--_fg));
  border: 1px solid var(--streak-border, var(--_border)); border-radius: var(--streak-radius, 1rem);
  box-shadow: var(--streak-shadow, var(--_shadow)); padding: 1rem 1.125rem 1.0625rem; display: grid; gap: 0.875rem;
  font: 400 0.9375rem/1.4 var(--streak-font, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif); }
.muted { color: var(--streak-muted, var(--_muted)); }
.head, .foot { display: flex; align-items: baseline; justify-content: space-between; gap: 0.25rem 0.75rem; flex-wrap: wrap; }
[part="header"] { min-height: 1.375rem; align-items: center; }
.title { font-size: 0.8125rem; font-weight: 600; overflow-wrap: anywhere; min-width: 0; }
.note { font-size: 0.75rem; font-weight: 500; padding: 0.125rem 0.5rem; border-radius: 99px; background: var(--_note-soft); color: var(--_note); }
.main { display: grid; grid-template-columns: auto 1fr; align-items: center; gap: 0.875rem; }
.flame { width: 3.75rem; height: 3.75rem; display: block; }
.flame .outer { fill: var(--_ash); transition: fill 0.4s; }
.flame .inner { fill: var(--_ash-glow); transition: fill 0.4s; }
.card[data-mood="done"] .outer { fill: var(--streak-accent, var(--_accent)); }
.card[data-mood="done"] .inner { fill: var(--streak-glow, var(--_glow)); }
.card[data-mood="waiting"] .outer { fill: var(--streak-accent, var(--_accent)); }
.card[data-mood="waiting"] .inner { fill: var(--streak-background, var(--_bg)); }
.current { display: flex; align-items: baseline; gap: 0.375rem; flex-wrap: wrap; }
.number { font-size: 2.75rem; line-height: 1; font-weight: 750; letter-spacing: -0.03em; font-variant-numeric: tabular-nums; }
.unit { font-size: 1rem; font-weight: 500; }
.today { display: flex; align-items: center; flex-wrap: wrap; gap: 0.25rem 0.5rem; margin-top: 0.4375rem; font-size: 0.8125rem; }
.state { font-weight: 600; padding: 0.125rem 0.5625rem; border-radius: 99px; background: var(--_note-soft); color: var(--_note); }
.card[data-mood="done"] .state { background: var(--_done-soft); color: var(--_done); }
.card[data-mood="waiting"] .state { background: var(--_soft); color: var(--_ink); }
.deadline { font-variant-numeric: tabular-nums; }
.milestone { display: grid; gap: 0.375rem; font-size: 0.8125rem; }
.track { height: 0.4375rem; border-radius: 99px; background: var(--streak-track, var(--_track)); overflow: hidden; }
.fill { height: 100%; border-radius: inherit; background: var(--streak-accent, var(--_accent)); width: var(--_share, 0%); transition: width 0.6s ease-out; }
.foot { font-size: 0.8125rem; }
.strong { font-weight: 650; color: var(--streak-color, var(--_fg)); font-variant-numeric: tabular-nums; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.card[data-state="connecting"]:not([data-known]) .main, .card[data-state="connecting"]:not([data-known]) .foot { opacity: 0.55; }
@container (max-width: 15rem) { .main { gap: 0.625rem; } .flame { width: 2.75rem; height: 2.75rem; } .number { font-size: 2.125rem; } .card { padding: 0.75rem; } }
@media (prefers-reduced-motion: no-preference) {
  .grew .flame { animation: lift 0.7s cubic-bezier(0.3, 1.4, 0.5, 1); }
  .grew .number { animation: rise 0.5s ease-out; }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
@media (forced-colors: active) { .track { border: 1px solid; } .fill { background: Highlight; } .flame .outer { fill: CanvasText; } .flame .inner { fill: Canvas; } }
@keyframes lift { 40% { transform: translateY(-3px) scale(1.14) rotate(-3deg); } 70% { transform: scale(0.98); } }
@keyframes rise { from { transform: translateY(0.35em); opacity: 0; } }
`;

let sheet = null;

function styles() {
  if (sheet === null) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
  }
  return sheet;
}

const SIGNED_OUT = /TOKEN|TICKET|UNAUTHORIZED|SIGNED_OUT/;
const SVG = "http://www.w3.org/2000/svg";
const OUTER =
  "M13.2 1.6c.5 3-.7 4.9-2.4 6.9C8.600 11 6 13 6 16.300 6 19.600 8.700 22.400 12 22.400s6-2.700 6-6.200c0-2.500-1.100-4.400-2.500-6-.2 1.100-.7 1.900-1.500 2.500.5-4-.1-8-.8-11.100z";
const INNER =
  "M12.200 12.600c.2 1.500-.5 2.400-1.300 3.300-.8.900-1.500 1.700-1.500 3 0 1.600 1.200 2.700 2.700 2.700s2.700-1.200 2.700-2.900c0-2.600-1.700-4.200-2.600-6.100z";

/** Make an element: `make("p", "today muted", "today", ...children)`. */
function make(tag, classes, part, ...children) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  if (part) node.setAttribute("part", part);
  node.append(...children);
  return node;
}

function makeFlame() {
  const flame = document.createElementNS(SVG, "svg");
  flame.setAttribute("viewBox", "3.5 1 17 22");
  flame.setAttribute("part", "flame");
  flame.setAttribute("class", "flame");
  flame.setAttribute("aria-hidden", "true");
  for (const [name, shape] of [["outer", OUTER], ["inner", INNER]]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", shape);
    flame.append(path);
  }
  return flame;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const fillIn = (label, values) => String(label).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);

const Base = globalThis.HTMLElement ?? class {}; // so that a server that renders pages can import this file

export class StreakWidget extends Base {
  static observedAttributes = ["bridge-url", "user-id", "token-url", "theme", "locale", "heading"];

  #nodes;
  #provider = null;
  #labels = LABELS;
  #follower = null;
  #followed = [];
  #snapshot = EMPTY;
  #tick = 0;
  #queued = false;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [styles()];
    this.#nodes = this.#build();
    root.append(this.#nodes.card, this.#nodes.live);
  }

  get bridgeUrl() {
    return this.getAttribute("bridge-url") ?? "";
  }
  set bridgeUrl(value) {
    this.#set("bridge-url", value);
  }
  get userId() {
    return this.getAttribute("user-id") ?? "";
  }
  set userId(value) {
    this.#set("user-id", value);
  }
  get tokenUrl() {
    return this.getAttribute("token-url") ?? "";
  }
  set tokenUrl(value) {
    this.#set("token-url", value);
  }
  get theme() {
    return this.getAttribute("theme") ?? "auto";
  }
  set theme(value) {
    this.#set("theme", value);
  }
  get locale() {
    return this.getAttribute("locale") || this.closest("[lang]")?.lang || navigator.language;
  }
  set locale(value) {
    this.#set("locale", value);
  }
  get heading() {
    return this.getAttribute("heading") ?? "";
  }
  set heading(value) {
    this.#set("heading", value);
  }
  get tokenProvider() {
    return this.#provider;
  }
  set tokenProvider(value) {
    this.#provider = typeof value === "function" ? value : null;
    this.#queue();
  }
  get labels() {
    return this.#labels;
  }
  set labels(value) {
    this.#labels = Object.freeze({ ...LABELS, ...value });
    this.#paint();
  }
  /** The streak as it holds now, or null while it is not known. */
  get streak() {
    return this.#snapshot.streak;
  }
  /** `connecting`, `live`, `delayed`, `offline` or `refused`. */
  get state() {
    return this.#snapshot.state;
  }

  /** Connect anew with a new token: call it when another user has signed in. */
  reconnect() {
    this.#follower?.reconnect();
  }

  connectedCallback() {
    // Properties that were set before the element was defined hide the class's own.
    for (const name of ["bridgeUrl", "userId", "tokenUrl", "theme", "locale", "heading", "tokenProvider", "labels"]) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      this[name] = value;
    }
    this.#queue();
    this.#paint();
  }

  disconnectedCallback() {
    this.#unfollow();
  }

  attributeChangedCallback(name, before, after) {
    if (before === after) return;
    if (["theme", "locale", "heading"].includes(name)) this.#paint();
    else this.#queue();
  }

  #set(name, value) {
    if (value === null || value === undefined || value === "") this.removeAttribute(name);
    else this.setAttribute(name, String(value));
  }

  /** Follow after all attributes and properties of this turn are set. */
  #queue() {
    if (this.#queued) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      if (this.isConnected) this.#follow();
    });
  }

  #follow() {
    const wanted = [this.bridgeUrl, this.userId, this.tokenUrl, this.#provider];
    const [bridgeUrl, userId, tokenUrl, provider] = this.#followed;
    if (this.#follower) {
      const samePlace = wanted[0] === bridgeUrl && wanted[1] === userId && wanted[2] === tokenUrl;
      const sameSource = wanted[3] === provider;
      if (samePlace && (sameSource || (provider && this.#provider && this.#follower.swap(this.#provider)))) {
        this.#followed = wanted;
        return;
      }
    }
    this.#unfollow();
    // Nobody's numbers are shown under another name.
    if (wanted[0] !== bridgeUrl || wanted[1] !== userId) this.#snapshot = EMPTY;
    this.#followed = wanted;
    const options = { bridgeUrl: wanted[0], userId: wanted[1], tokenUrl: wanted[2], tokenProvider: wanted[3] };
    this.#follower = followStreak(options, (snapshot) => this.#receive(snapshot));
    this.#receive(this.#follower.snapshot);
  }

  #unfollow() {
    this.#follower?.close();
    this.#follower = null;
    clearTimeout(this.#tick);
  }

  #receive(next) {
    const before = this.#snapshot;
    if (next === before) return;
    const sameUser = next.userId === null || next.userId === before.userId;
    if (next.streak === null && before.streak !== null && next.state !== "refused" && sameUser) {
      const { streak, event, nextMilestone, updatedAt, userId } = before; // added again: still the last known state
      next = Object.freeze({ ...next, streak, event, nextMilestone, updatedAt, userId });
    }
    this.#snapshot = next;
    this.#paint();
    this.#announce(before, next);
    if (next.state !== before.state || next.code !== before.code) {
      this.#emit("streak-state", { state: next.state, previous: before.state, code: next.code, reason: next.reason });
    }
    this.#emitChange(before, next);
  }

  #emitChange(before, { streak, event, milestone }) {
    if (streak === null || JSON.stringify(streak) === JSON.stringify(before.streak)) return;
    this.#emit("streak-change", { streak, previous: before.streak, event });
    if (before.streak === null) return;
    if (milestone !== null) this.#emit("streak-milestone", { streak, milestone });
    if (streak.current_streak === 0 && before.streak.current_streak > 0 && event === "lapsed") {
      this.#emit("streak-lapsed", { streak, previous: before.streak });
    }
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true }));
  }

  #build() {
    const title = make("p", "title muted", "title");
    const note = make("p", "note", "connection");
    const number = make("span", "number", "current");
    const unit = make("span", "unit muted", "unit");
    const state = make("span", "state", "state");
    const deadline = make("span", "deadline muted", "deadline");
    const today = make("p", "today", "today", state, deadline);
    const figures = make("div", "figures", "", make("p", "current", "", number, " ", unit), today);
    const goal = make("span", "strong", "next-milestone");
    const goalName = make("span", "muted");
    const toGo = make("span", "muted", "to-go");
    const fill = make("div", "fill", "progress-value");
    const track = make("div", "track", "progress", fill);
    track.setAttribute("role", "progressbar");
    const milestone = make("div", "milestone", "milestone", make("p", "head", "", make("span", "", "", goalName, " ", goal), toGo), track);
    const bestName = make("span", "muted");
    const best = make("span", "strong", "longest");
    const foot = make("p", "foot", "footer", make("span", "", "", bestName, " ", best));
    const main = make("div", "main", "main", makeFlame(), figures);
    const card = make("div", "card", "card", make("div", "head", "header", title, note), main, milestone, foot);
    card.setAttribute("role", "group");
    const live = make("p", "unseen");
    live.setAttribute("role", "status");
    live.setAttribute("aria-live", "polite");
    number.addEventListener("animationend", () => card.classList.remove("grew"));
    return { card, title, note, number, unit, state, deadline, milestone, goalName, goal, toGo, track, fill, bestName, best, live };
  }

  #number(value, options) {
    try {
      return new Intl.NumberFormat(this.locale, options);
    } catch {
      return new Intl.NumberFormat("en", options); // the locale is none
    }
  }

  #days(count) {
    return this.#number(count, { style: "unit", unit: "day", unitDisplay: "long" }).format(count);
  }

  #duration(milliseconds) {
    if (milliseconds < MINUTE) return this.#labels.lessThanAMinute;
    const units = [["day", Math.floor(milliseconds / DAY)], ["hour", Math.floor((milliseconds % DAY) / HOUR)], ["minute", Math.floor((milliseconds % HOUR) / MINUTE)]];
    return units
      .filter(([unit, value]) => value > 0 && !(unit === "minute" && milliseconds >= DAY))
      .map(([unit, value]) => this.#number(value, { style: "unit", unit, unitDisplay: "short" }).format(value))
      .join(" ");
  }

  #clock(instant) {
    const options = { hour: "numeric", minute: "2-digit" };
    try {
      return new Date(instant).toLocaleTimeString(this.locale, options);
    } catch {
      return new Date(instant).toLocaleTimeString("en", options);
    }
  }

  #paint() {
    if (!this.isConnected) return;
    clearTimeout(this.#tick);
    const { streak, state } = this.#snapshot;
    const nodes = this.#nodes;
    const name = this.heading || this.#labels.title;
    write(nodes.title, name);
    nodes.card.setAttribute("aria-label", name);
    nodes.card.dataset.state = state;
    nodes.card.toggleAttribute("data-known", streak !== null);
    nodes.card.dataset.mood = this.#mood();
    this.#paintNote();
    this.#paintStreak(streak);
    this.#paintMilestone(streak);
    if (streak?.current_streak) {
      const left = Date.parse(streak.expires_at) - this.#now();
      this.#tick = setTimeout(() => this.#paint(), Math.max(left % MINUTE, 200) + 20);
    }
  }

  #now() {
    return this.#follower?.now() ?? Date.now();
  }

  #mood() {
    const { streak } = this.#snapshot;
    if (!streak?.current_streak) return "none";
    return streak.is_active_today ? "done" : "waiting";
  }

  #noteText() {
    const { state, streak, updatedAt } = this.#snapshot;
    const labels = this.#labels;
    if (state === "live") return "";
    if (state === "connecting") return streak ? "" : labels.connecting;
    if (state === "offline") return streak ? fillIn(labels.offline, { time: this.#clock(updatedAt) }) : labels.offlineEmpty;
    return state === "refused" && !SIGNED_OUT.test(this.#snapshot.code) ? labels.noAccess : labels[state];
  }

  #paintNote() {
    const text = this.#noteText();
    write(this.#nodes.note, text);
    this.#nodes.note.hidden = text === "";
  }

  #paintStreak(streak) {
    const nodes = this.#nodes;
    const labels = this.#labels;
    const current = streak?.current_streak ?? 0;
    const parts = this.#number(current, { style: "unit", unit: "day", unitDisplay: "long" }).formatToParts(current);
    write(nodes.number, streak ? parts.filter((part) => part.type !== "unit" && part.type !== "literal").map((part) => part.value).join("") : "–");
    write(nodes.unit, streak ? (parts.find((part) => part.type === "unit")?.value ?? "") : "");
    write(nodes.bestName, labels.best);
    write(nodes.best, streak ? this.#days(streak.longest_streak) : "–");
    write(nodes.state, this.#stateText(streak));
    nodes.state.hidden = streak === null;
    write(nodes.deadline, this.#deadlineText(streak));
  }

  #stateText(streak) {
    const labels = this.#labels;
    if (!streak) return "";
    if (streak.current_streak) return streak.is_active_today ? labels.doneToday : labels.notYetToday;
    return streak.last_active_date === null ? labels.noStreak : labels.lapsed;
  }

  #deadlineText(streak) {
    const labels = this.#labels;
    if (!streak) return "";
    if (!streak.current_streak) return streak.last_active_date === null ? labels.startToday : labels.startAgain;
    if (streak.expires_at === null) return "";
    const time = this.#duration(Date.parse(streak.expires_at) - this.#now());
    return fillIn(streak.is_active_today ? labels.safeFor : labels.timeLeft, { time });
  }

  #paintMilestone(streak) {
    const nodes = this.#nodes;
    const goal = this.#snapshot.nextMilestone;
    nodes.milestone.hidden = !streak || goal === null;
    if (nodes.milestone.hidden) return;
    write(nodes.goalName, this.#labels.nextMilestone);
    write(nodes.goal, this.#days(goal));
    write(nodes.toGo, fillIn(this.#labels.toGo, { count: this.#number(0).format(goal - streak.current_streak) }));
    const values = { label: this.#labels.nextMilestone, valuemin: 0, valuemax: goal, valuenow: streak.current_streak };
    for (const [key, value] of Object.entries(values)) nodes.track.setAttribute(`aria-${key}`, String(value));
    nodes.fill.style.setProperty("--_share", `${(100 * streak.current_streak) / goal}%`);
  }

  /** Tell a screen reader what a glance would show; the first state is read with the page. */
  #announce(before, next) {
    const { live, card } = this.#nodes;
    if (before.streak === null || next.streak === null) return;
    const [old, now] = [before.streak.current_streak, next.streak.current_streak];
    if (now > old) {
      card.classList.remove("grew");
      void card.offsetWidth; // restarts the animation
      card.classList.add("grew");
    }
    if (now !== old) write(live, `${this.#nodes.card.getAttribute("aria-label")}: ${now ? this.#days(now) : this.#stateText(next.streak)}`);
    else if (next.state !== before.state) write(live, this.#noteText() || (before.state === "connecting" ? "" : this.#labels.backOnline));
  }
}

if (globalThis.customElements && !customElements.get("streak-widget")) customElements.define("streak-widget", StreakWidget);
