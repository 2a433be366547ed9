// Who is signed in. Tokens live in this tab alone: in memory and in sessionStorage, never in localStorage or a URL.

import { now } from "./clock.js";

const KEY = "streaks.session";
const EARLY_MS = 60_000;

/** Why a token cannot be used here, or null. Nothing is sent anywhere before this says so. */
export function refusal(token) {
  const secret = "That is the project's secret key. It opens everything and must never be in a browser: use a user's access token. If others may have seen it, rotate it.";
  if (/^sb_secret_/.test(token)) return secret;
  if (/^sb_publishable_/.test(token)) return "That is the project's publishable key, which names no user: use a user's access token.";
  const claims = claimsOf(token);
  if (!claims) return "That is no access token. It has three parts with dots in between and begins with “ey”.";
  if (claims.role === "service_role") return secret;
  if (claims.role === "anon") return "That is the project's anon key, which names no user: use a user's access token.";
  return null;
}

/** The claims of a JWT, unverified (the server verifies), or null. */
export function claimsOf(token) {
  try {
    const [, payload] = token.split(".");
    const text = atob(payload.replace(/-/g, "+").replace(/_/g, "/"));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
    return claims && typeof claims === "object" ? claims : null;
  } catch {
    return null;
  }
}

export class Session {
  #kept = null;
  #refreshing = null;

  /** @param refresh exchanges a refresh token for new tokens */
  constructor(refresh) {
    this.refresh = refresh;
    try {
      this.#kept = JSON.parse(sessionStorage.getItem(KEY));
    } catch {
      this.#kept = null;
    }
    this.#adopt();
  }

  get signedIn() {
    return Boolean(this.#kept?.access_token);
  }

  /** Whether the tokens still open something, as far as this page can tell. */
  get #running() {
    if (!this.signedIn) return false;
    return Boolean(this.#kept.refresh_token) || now() < (claimsOf(this.#kept.access_token)?.exp ?? 0) * 1000;
  }

  /** Keep tokens: `access_token`, and where there is one `refresh_token`. */
  keep(tokens) {
    this.#kept = { access_token: tokens.access_token, refresh_token: tokens.refresh_token ?? null };
    sessionStorage.setItem(KEY, JSON.stringify(this.#kept));
  }

  forget() {
    this.#kept = null;
    sessionStorage.removeItem(KEY);
  }

  /** The access token, renewed if it ends soon and can be; `again` renews in any case. Null if there is none left. */
  async token({ again = false } = {}) {
    if (!this.#kept) return null;
    const ends = (claimsOf(this.#kept.access_token)?.exp ?? 0) * 1000;
    if (!again && now() < ends - EARLY_MS) return this.#kept.access_token;
    if (!this.#kept.refresh_token) return again ? null : this.#kept.access_token;
    // Refresh tokens are good for one use: whoever needs one waits for the same answer.
    this.#refreshing ??= this.#renew().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  async #renew() {
    const kept = this.#kept;
    const tokens = await this.refresh(kept.refresh_token);
    if (this.#kept === kept) this.keep(tokens);
    return this.#kept?.access_token ?? null;
  }

  /** Take a token from the URL's fragment, which reaches no server and no log, and take it out of the URL. */
  #adopt() {
    const fragment = new URLSearchParams(location.hash.slice(1));
    const access = fragment.get("link") ?? fragment.get("access_token");
    this.notice = null;
    // Its words are anybody's who made the link.
    if (fragment.has("error_description")) this.notice = "Signing in did not succeed: the link is not valid or has expired. Sign in again.";
    if (access || this.notice) history.replaceState(null, "", `${location.pathname}#/`);
    if (!access) return;
    const reason = refusal(access);
    if (reason) this.notice = reason;
    // A link must not put a reader into somebody else's session unawares.
    else if (this.#running) this.notice = "You are signed in already, so the link was not used. To use it, sign out and open it again.";
    else this.keep({ access_token: access, refresh_token: fragment.get("refresh_token") });
  }
}
