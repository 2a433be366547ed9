// What the page knows: every streak that the stream told of, the feed, the leaderboard, who is at risk, the rates.
// Messages are taken in at once and cheaply, also while nobody looks; drawing is the views' business.

import { now } from "./clock.js";

const FEED_LENGTH = 1000;
const KEPT = 4000;
const STREAKS = 50_000;
const SAME_MS = 60_000;
const MOVE_MS = 60_000;
const SAMPLES = 20_000;

export class Model {
  streaks = new Map();
  feed = [];
  board = null;
  risks = null;
  summary = null;
  lastChange = null;
  /** How often the feed has grown, and by how much in all: views that are scrolled keep their place by it. */
  added = 0;
  boardStale = false;
  samples = [];
  #number = 0;
  #byKey = new Map();
  #journal = new Map();
  #arrivals = new Map();
  #ranks = new Map();
  #lives = new Map();

  /** Take in one message of the stream; returns the user whose streak changed. */
  hear(message) {
    if (message.type === "reset") {
      this.streaks.clear();
      return null;
    }
    if (message.type === "snapshot") this.#know(message.user_id, message.streak);
    else if (message.type === "change") this.#change(message);
    else if (message.type === "delete") this.#gone(message.user_id);
    else return null;
    return message.user_id;
  }

  /** Take in the answer of /dashboard/summary; `fill` if what the stream did not tell belongs into the feed, too. */
  takeSummary(summary, fill) {
    this.summary = summary;
    const missing = [];
    for (const entry of summary.entries) {
      const key = this.#keyOf(entry);
      entry.at = Date.parse(entry.at);
      this.#journal.set(key, entry);
      const shown = this.#byKey.get(key);
      if (shown) this.#correct(shown, entry);
      else if (fill && !this.#toldAsLapse(entry) && !this.#toldBeforeDeletion(entry)) missing.push(entry);
      if (this.#arrivals.has(key)) this.#sample(key, entry);
      this.lastChange = Math.max(this.lastChange ?? 0, entry.at);
    }
    trim(this.#journal, KEPT);
    for (const entry of missing) this.#push({ ...entry, fresh: false });
    if (missing.length) this.feed.sort((one, other) => other.at - one.at || other.number - one.number);
  }

  /** Take in the leaderboard and note who rose or fell. */
  takeBoard(streaks) {
    this.board = streaks;
    this.boardStale = false;
    this.#rank();
  }

  takeRisks(answer) {
    this.risks = answer;
  }

  forget() {
    Object.assign(this, new Model());
    this.#byKey.clear();
    this.#journal.clear();
    this.#arrivals.clear();
    this.#ranks.clear();
    this.#lives.clear();
  }

  /** Delivery times (milliseconds) of the last seconds at the percentiles given, or null. */
  latency(seconds, ...percentiles) {
    const since = now() - seconds * 1000;
    const values = [];
    for (let index = this.samples.length - 1; index >= 0 && this.samples[index].at > since; index -= 1) {
      values.push(this.samples[index].ms);
    }
    if (!values.length) return null;
    values.sort((one, other) => one - other);
    return percentiles.map((part) => values[Math.min(values.length - 1, Math.floor(part * values.length))]);
  }

  #know(userId, streak) {
    this.streaks.set(userId, streak);
    trim(this.streaks, STREAKS);
    this.#patchBoard(userId, streak);
    this.#patchRisks(userId, streak);
  }

  #change({ user_id: userId, event, streak }) {
    const before = this.streaks.get(userId);
    const at = now();
    const entry = {
      user_id: userId,
      kind: event,
      old: before ? before.current_streak : guess(event, streak),
      new: streak.current_streak,
      version: streak.version,
      at,
      fresh: true,
    };
    this.#know(userId, streak);
    this.lastChange = at;
    const key = this.#keyOf(entry);
    const written = this.#journal.get(key);
    if (event === "lapsed") {
      // The bridge's own clock tells a lapse: no line of the log belongs to it.
      this.#push(entry);
      return;
    }
    const told = this.#byKey.get(key);
    if (told) return; // after a resume a message may come twice
    if (written) this.#correct(entry, written);
    this.#arrivals.set(key, at);
    trim(this.#arrivals, KEPT);
    if (written) this.#sample(key, written);
    this.#push(entry);
  }

  #gone(userId) {
    const before = this.streaks.get(userId);
    this.streaks.delete(userId);
    // A row made anew counts its versions from 1 again: they are other changes than those that were told.
    this.#lives.set(userId, (this.#lives.get(userId) ?? 0) + 1);
    trim(this.#lives, STREAKS);
    this.lastChange = now();
    if (this.board) this.board = this.board.filter((one) => one.user_id !== userId);
    if (this.risks) this.risks.streaks = this.risks.streaks.filter((one) => one.user_id !== userId);
    this.#push({ user_id: userId, kind: "deleted", old: before?.current_streak ?? null, new: 0, version: -1, at: now(), fresh: true });
  }

  #push(entry) {
    entry.number = this.#number += 1;
    this.feed.unshift(entry);
    this.added += 1;
    if (entry.kind !== "lapsed" && entry.version >= 0) {
      entry.key = this.#keyOf(entry);
      this.#byKey.set(entry.key, entry);
    }
    if (this.feed.length > FEED_LENGTH) this.#byKey.delete(this.feed.pop().key);
  }

  #keyOf({ user_id: userId, version }) {
    return `${userId}:${version}:${this.#lives.get(userId) ?? 0}`;
  }

  /** The change log knows the streak before, and the kind, whatever this page had heard. */
  #correct(shown, entry) {
    shown.old = entry.old;
    if (shown.kind === "updated" || shown.kind === "started") shown.kind = entry.kind;
  }

  #toldAsLapse(entry) {
    return entry.kind === "lapsed" && this.feed.some((one) => one.kind === "lapsed" && one.user_id === entry.user_id && one.version === entry.version - 1);
  }

  #toldBeforeDeletion(entry) {
    if (!this.#lives.has(entry.user_id)) return false;
    return this.feed.some((one) => one.user_id === entry.user_id && one.version === entry.version && Math.abs(one.at - entry.at) < SAME_MS);
  }

  #sample(key, entry) {
    const arrived = this.#arrivals.get(key);
    this.#arrivals.delete(key);
    this.samples.push({ at: arrived, ms: Math.max(0, arrived - entry.at) });
    if (this.samples.length > SAMPLES) this.samples.splice(0, SAMPLES / 2);
  }

  #patchBoard(userId, streak) {
    if (!this.board) return;
    const entry = this.#ranks.get(userId)?.entry;
    if (entry) {
      if (entry.current_streak === streak.current_streak && entry.is_active_today === streak.is_active_today) return;
      entry.current_streak = streak.current_streak;
      entry.longest_streak = streak.longest_streak;
      entry.is_active_today = streak.is_active_today;
      entry.changedAt = now();
      this.boardDirty = true;
    } else if (streak.current_streak > 0 && streak.current_streak >= (this.board.at(-1)?.current_streak ?? 0)) {
      // Who opted out is not on the board, and only the database knows: ask it.
      this.boardStale = true;
    }
  }

  /** Order the leaderboard anew after changes; returns whether there were any. */
  settleBoard() {
    if (!this.boardDirty) return false;
    this.boardDirty = false;
    this.board = this.board.filter((entry) => entry.current_streak > 0);
    this.board.sort((one, other) => other.current_streak - one.current_streak || (one.user_id < other.user_id ? -1 : 1));
    this.#rank();
    return true;
  }

  #rank() {
    const before = this.#ranks;
    const at = now();
    this.#ranks = new Map();
    let rank = 0;
    this.board.forEach((entry, index) => {
      if (index === 0 || entry.current_streak !== this.board[index - 1].current_streak) rank = index + 1;
      const known = before.get(entry.user_id);
      entry.rank = rank;
      entry.changedAt ??= known?.entry.changedAt;
      let { move = 0, movedAt = 0 } = known ?? {};
      if (at - movedAt > MOVE_MS) move = 0;
      if (known && known.rank !== rank) {
        move += known.rank - rank;
        movedAt = at;
      }
      entry.move = move;
      this.#ranks.set(entry.user_id, { rank, move, movedAt, entry });
    });
  }

  #patchRisks(userId, streak) {
    if (!this.risks) return;
    const index = this.risks.streaks.findIndex((one) => one.user_id === userId);
    if (index < 0) return;
    const entry = this.risks.streaks[index];
    if (streak.current_streak > 0 && Date.parse(streak.expires_at) === Date.parse(entry.expires_at)) return;
    this.risks.streaks = this.risks.streaks.toSpliced(index, 1);
    this.risks.total -= 1;
  }
}

/** The streak before a change of somebody this page knew nothing of; the change log corrects it in a moment. */
function guess(event, streak) {
  if (event === "started") return 0;
  return event === "incremented" ? streak.current_streak - 1 : null;
}

function trim(map, size) {
  if (map.size <= size) return;
  for (const key of map.keys()) {
    map.delete(key);
    if (map.size <= size / 2) return;
  }
}
