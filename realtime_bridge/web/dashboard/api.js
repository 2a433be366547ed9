// Requests to the bridge.

import { learn } from "./clock.js";

const TIMEOUT_MS = 15_000;

/** A request was refused or failed: `status` 0 means that nobody answered. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }

  /** Whether it is about who asks, so that asking again is of no use. */
  get denied() {
    return this.status === 401 || this.status === 403;
  }
}

/** Send one request; JSON in, JSON out. */
export async function send(path, { method = "GET", body, token } = {}) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const sentAt = Date.now();
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    answer = await response.json();
  } catch {
    throw new ApiError(response?.status ?? 0, "UNREACHABLE", "The bridge cannot be reached.");
  }
  if (!response.ok) {
    const error = answer?.error ?? {};
    throw new ApiError(response.status, error.code ?? "FAILED", error.message ?? `The bridge answered ${response.status}.`);
  }
  if (answer.now) learn(answer.now, sentAt);
  return answer;
}

export class Api {
  constructor(session) {
    this.session = session;
  }

  /** Send as whoever is signed in; an access token that has ended is renewed once. */
  async call(path, options = {}) {
    const token = await this.session.token();
    if (!token) throw new ApiError(401, "TOKEN_REQUIRED", "Sign in.");
    try {
      return await send(path, { ...options, token });
    } catch (error) {
      if (error.status !== 401) throw error;
      const renewed = await this.session.token({ again: true });
      if (!renewed) throw error;
      return send(path, { ...options, token: renewed });
    }
  }
}
