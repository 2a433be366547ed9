/** Types of streak-widget.js; see docs/streak-widget.md. */

/** A streak as it holds at this moment. */
export interface Streak {
  /** Days; 0 once the streak has lapsed. */
  readonly current_streak: number;
  /** Days. */
  readonly longest_streak: number;
  /** `2026-11-22`, in `timezone`; null for a user who never was active. */
  readonly last_active_date: string | null;
  /** The stored IANA zone; null for a user who never was active. */
  readonly timezone: string | null;
  readonly is_active_today: boolean;
  /** Whole days; null for a user who never was active. */
  readonly days_since_activity: number | null;
  /** The instant at which the streak lapses, in ISO 8601. */
  readonly expires_at: string | null;
  readonly version: number;
}

/**
 * `connecting`: nothing is known yet. `live`: every change comes at once. `delayed`: the bridge is behind, or no
 * WebSocket gets through. `offline`: the last known state is shown. `refused`: the token, or the host, said no.
 */
export type StreakState = "connecting" | "live" | "delayed" | "offline" | "refused";

/** What happened last; `snapshot` is no change, `delete` means that the user has no streak any more. */
export type StreakEventName =
  | "snapshot"
  | "started"
  | "incremented"
  | "reset"
  | "recovered"
  | "lapsed"
  | "milestone"
  | "updated"
  | "delete";

/** Everything that is known, frozen; another object whenever something differs. */
export interface StreakSnapshot {
  readonly state: StreakState;
  /** Why it is `refused`: `TOKEN_EXPIRED`, `INVALID_TOKEN`, `FORBIDDEN`, `INVALID_INPUT`, ... */
  readonly code: string | null;
  /** The same for people. */
  readonly reason: string | null;
  readonly userId: string | null;
  readonly streak: Streak | null;
  readonly event: StreakEventName | null;
  /** The milestone that the last change reached, in days. */
  readonly milestone: number | null;
  readonly nextMilestone: number | null;
  /** When the bridge last said so, in epoch milliseconds of its clock. */
  readonly updatedAt: number | null;
}

/** A Supabase access token of the user, or a ticket that the host fetched from the bridge with it. */
export type StreakCredential = string | { token: string } | { access_token: string } | { ticket: string };
export type StreakTokenProvider = () => StreakCredential | Promise<StreakCredential>;

export interface FollowOptions {
  /** Default: the bridge that served this file. */
  bridgeUrl?: string;
  /** Default: the user of the token. */
  userId?: string;
  /** Asked before each connection. Followers with the same function share one connection. */
  tokenProvider?: StreakTokenProvider | null;
  /** An endpoint of the host that answers `{"token": ...}`. */
  tokenUrl?: string;
}

export interface StreakFollower {
  readonly snapshot: StreakSnapshot;
  /** Now by the bridge's clock, in epoch milliseconds. */
  now(): number;
  /** Connect anew with a new token. */
  reconnect(): void;
  close(): void;
}

export function followStreak(options: FollowOptions, onChange?: (snapshot: StreakSnapshot) => void): StreakFollower;

/** Texts; `{count}` and `{time}` are filled in. */
export interface StreakLabels {
  title: string;
  best: string;
  nextMilestone: string;
  toGo: string;
  doneToday: string;
  notYetToday: string;
  lapsed: string;
  noStreak: string;
  startToday: string;
  startAgain: string;
  timeLeft: string;
  safeFor: string;
  lessThanAMinute: string;
  connecting: string;
  offline: string;
  offlineEmpty: string;
  delayed: string;
  refused: string;
  noAccess: string;
  backOnline: string;
}

export class StreakWidget extends HTMLElement {
  bridgeUrl: string;
  userId: string;
  tokenUrl: string;
  tokenProvider: StreakTokenProvider | null;
  theme: string;
  locale: string;
  heading: string;
  get labels(): Readonly<StreakLabels>;
  set labels(value: Partial<StreakLabels> | null);
  readonly streak: Streak | null;
  readonly state: StreakState;
  reconnect(): void;
}

export interface StreakWidgetEvents {
  /** The streak differs; the first one has `previous: null`. */
  "streak-change": CustomEvent<{ streak: Streak; previous: Streak | null; event: StreakEventName }>;
  "streak-milestone": CustomEvent<{ streak: Streak; milestone: number }>;
  "streak-lapsed": CustomEvent<{ streak: Streak; previous: Streak }>;
  "streak-state": CustomEvent<{ state: StreakState; previous: StreakState; code: string | null; reason: string | null }>;
}

declare global {
  interface HTMLElementTagNameMap {
    "streak-widget": StreakWidget;
  }
  interface HTMLElementEventMap extends StreakWidgetEvents {}
}
