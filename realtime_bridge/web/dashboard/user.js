// One user's streak: how it stands, the year, the history. Its clock runs by itself, also while nothing is heard.

import { now } from "./clock.js";
import { $, el, setAttribute, setText } from "./dom.js";
import { CHANGE_TYPES, KINDS, count, dateAndTime, day, days, inZone, left, todayIn } from "./format.js";
import { heatmap } from "./heatmap.js";

/** The streak of somebody without a row, as the bridge tells it. */
const NONE = { current_streak: 0, longest_streak: 0, last_active_date: null, timezone: null, expires_at: null, version: 0 };
const LENGTHS = [7, 14, 30, 50, 100, 200, 365, 500, 1000];

export class UserView {
  userId = null;
  days = null;
  #streak = null;
  #told = 0;
  #shown = null;
  #yearOf = null;

  /** @param announce  tells those who do not see the page */
  constructor(announce) {
    this.announce = announce;
    this.milestones = LENGTHS;
  }

  /** Turn to a user; `own` if it is the one who looks. */
  open(userId, own) {
    if (this.userId === userId) return;
    this.close();
    this.userId = userId;
    setText($("user-title"), own ? "Your streak" : "Streak");
    setText($("user-id"), userId);
    $("hero").setAttribute("aria-busy", "true");
  }

  /** Forget the user, on the page too: the next one may be somebody else's to see. */
  close() {
    this.userId = null;
    this.days = null;
    this.#streak = null;
    this.#told = 0;
    this.#shown = null;
    this.#yearOf = null;
    for (const id of ["user-id", "hero-current", "hero-unit", "hero-today", "hero-left", "hero-next", "year-note"]) setText($(id), "");
    for (const id of ["facts", "year", "history"]) $(id).replaceChildren();
    $("history-empty").hidden = true;
  }

  /** Show the answer of /dashboard/user. */
  take(answer) {
    if (answer.user_id !== this.userId) return;
    $("hero").removeAttribute("aria-busy");
    this.#history(answer.history);
    this.days = new Map(answer.calendar.map((entry) => [entry.day, entry.kind]));
    this.#yearOf = null;
    // An answer may be older than what the stream told meanwhile.
    if (answer.streak.version >= this.#told) this.#streak = answer.streak;
    this.draw();
  }

  /** Show a streak that the stream brought; null: it was deleted. A row made anew begins at version 1 again. */
  hear(streak) {
    this.#streak = streak ?? NONE;
    this.#told = this.#streak.version;
    this.draw();
  }

  /** Draw what the time changes, too. */
  draw() {
    const streak = this.#streak;
    if (!streak) return;
    const at = now();
    const ends = streak.expires_at === null ? null : Date.parse(streak.expires_at);
    const alive = ends !== null && at < ends;
    const current = alive ? streak.current_streak : 0;
    const today = todayIn(streak.timezone, at);
    const done = streak.last_active_date !== null && streak.last_active_date >= today;
    this.#number(current);
    setAttribute($("hero"), "data-today", current === 0 ? "no" : done ? "yes" : "waiting");
    setText($("hero-today"), current === 0 ? (streak.last_active_date ? "The streak has lapsed." : "No streak yet.") : done ? "Active today." : "Not active today yet.");
    setText($("hero-left"), alive && current > 0 ? `${left(ends - at)} left, until ${inZone(streak.timezone, ends)} (${streak.timezone})` : "An activity starts a new one.");
    this.#progress(current);
    this.#facts(streak, current);
    if (this.days && this.#yearOf !== today) this.#year(today);
  }

  #number(current) {
    if (this.#shown === current) return;
    setText($("hero-current"), count(current));
    setText($("hero-unit"), current === 1 ? "day" : "days");
    if (this.#shown !== null) {
      this.announce(current === 0 ? "The streak has lapsed." : `The streak is now ${days(current)}.`);
      $("hero").classList.remove("bump");
      if (current > this.#shown) requestAnimationFrame(() => $("hero").classList.add("bump"));
    }
    this.#shown = current;
  }

  #progress(current) {
    const next = this.milestones.find((length) => length > current);
    $("hero-progress").hidden = !next;
    setText($("hero-next"), next ? `${days(next - current)} to the next milestone, ${count(next)}` : "Past every milestone.");
    if (!next) return;
    const before = this.milestones.filter((length) => length <= current).at(-1) ?? 0;
    setAttribute($("hero-progress"), "aria-valuemax", String(next - before));
    setAttribute($("hero-progress"), "aria-valuenow", String(current - before));
    $("hero-bar").style.width = `${(100 * (current - before)) / (next - before)}%`;
  }

  #facts(streak, current) {
    const facts = [
      ["Current streak", days(current)],
      ["Best streak", days(streak.longest_streak)],
      ["Last active day", streak.last_active_date ? day(streak.last_active_date) : "–"],
      ["Time zone", streak.timezone ?? "–"],
    ];
    if ($("facts").childElementCount !== facts.length) {
      $("facts").replaceChildren(...facts.map(([name]) => el("div", {}, el("dt", { text: name }), el("dd", {}))));
    }
    facts.forEach(([, value], index) => setText($("facts").children[index].lastChild, value));
  }

  #year(today) {
    this.#yearOf = today;
    const start = new Date(Date.parse(`${today}T00:00:00Z`) - 364 * 86_400_000).toISOString().slice(0, 10);
    const counted = [...this.days].filter(([date, kind]) => date >= start && kind !== "skipped").length;
    const summary = `${count(counted)} active ${counted === 1 ? "day" : "days"}`;
    setText($("year-note"), summary);
    $("year").replaceChildren(heatmap(this.days, today, `${summary} in the last year`));
    $("year").scrollLeft = $("year").scrollWidth;
  }

  #history(rows) {
    $("history-empty").hidden = rows.length > 0;
    $("history").replaceChildren(...rows.map(historyRow));
  }
}

function historyRow(row) {
  const [sign, label] = KINDS[CHANGE_TYPES[row.change_type] ?? "updated"];
  const step = row.old_current_streak === row.new_current_streak ? String(row.new_current_streak) : `${row.old_current_streak} → ${row.new_current_streak}`;
  return el(
    "tr",
    {},
    el("td", { text: dateAndTime(Date.parse(row.created_at)) }),
    el("td", {}, el("span", { class: `k k-${CHANGE_TYPES[row.change_type] ?? "updated"}`, "aria-hidden": "true", text: `${sign} ` }), label),
    el("td", { text: step }),
    el("td", { text: day(row.activity_date) }),
    el("td", { text: row.timezone }),
    el("td", { text: row.reason ?? "" }),
  );
}
