// Everybody's streaks: counters, the feed, the leaderboard, who is at risk, and two charts.

import { LineChart } from "./chart.js";
import { now } from "./clock.js";
import { $, el, setAttribute, setText } from "./dom.js";
import { KINDS, ago, brief, count, days, duration, hourOfDay, hueOf, left, shortId } from "./format.js";
import { VirtualList } from "./virtual-list.js";

const ROW = 44;
const CHART_SECONDS = 180;
const SOON_MS = 3_600_000;
const LATENCY_WINDOW = 10;
const COUNTERS = [
  ["active", "Active streaks"],
  ["active_today", "Active today"],
  ["started", "Started"],
  ["incremented", "Increments"],
  ["reset", "Resets"],
  ["recovered", "Recoveries"],
  ["lapsed", "Lapses"],
];

// A change can leave a streak at nothing: an activity of a past day that joins no streak alive, or a user who is gone.
const PAST = { deleted: "", lapsed: "0" };

export class Overview {
  #paused = null;
  #added = 0;
  #latency = { p50: [], p95: [] };

  constructor(model) {
    this.model = model;
    this.values = new Map();
    for (const [name, label] of COUNTERS) $("counters").append(this.#counter(name, label));
    this.feed = new VirtualList($("feed"), { rowHeight: ROW, key: (entry) => entry.number, create: feedRow, update: (row, entry, isNew) => this.#feedRow(row, entry, isNew) });
    this.board = new VirtualList($("board"), { rowHeight: ROW, key: (entry) => entry.user_id, create: boardRow, update: (row, entry) => this.#boardRow(row, entry) });
    this.risk = new VirtualList($("risk"), { rowHeight: ROW, key: (entry) => entry.user_id, create: riskRow, update: (row, entry) => this.#riskRow(row, entry) });
    this.rate = new LineChart($("rate-chart"), { lines: 1, least: 2, format: (value) => (Number.isInteger(value) ? count(value) : value.toFixed(1)) });
    this.delivery = new LineChart($("latency-chart"), { lines: 2, least: 500, format: duration });
    $("pause").addEventListener("click", () => this.#pause());
  }

  /** Start over, for somebody else. */
  reset() {
    this.#paused = null;
    this.#added = 0;
    this.#latency = { p50: [], p95: [] };
    setAttribute($("pause"), "aria-pressed", "false");
    // What an operator saw is not for whoever signs in next, hidden or not.
    for (const list of [this.feed, this.board, this.risk]) list.clear();
    for (const { value, note } of this.values.values()) {
      setText(value, "–");
      setText(note, "\u00a0");
    }
    for (const id of ["board-note", "risk-note"]) setText($(id), "");
  }

  /** Draw what changes with every message; called a few times a second at most. */
  drawLists() {
    if (!this.#paused) {
      this.feed.show(this.model.feed, this.model.added - this.#added);
      this.#added = this.model.added;
    }
    setText($("pause"), this.#paused ? `Resume (${count(this.model.added - this.#added)} new)` : "Pause");
    empty("feed", this.model.feed.length === 0 && this.model.summary);
    if (this.model.settleBoard() || this.model.board) this.#drawBoard();
    if (this.model.risks) this.#drawRisks();
  }

  /** Draw what changes with the time; called every second. */
  drawClocks() {
    const { summary } = this.model;
    this.#latencyStep();
    if (!summary) return;
    this.#drawCounters(summary);
    this.#drawCharts(summary);
  }

  #counter(name, label) {
    const sign = KINDS[name];
    const value = el("dd", { class: "value", "data-counter": name, text: "–" });
    const note = el("dd", { class: "note", text: "\u00a0" });
    this.values.set(name, { value, note });
    const icon = sign ? [el("span", { class: `k k-${name}`, "aria-hidden": "true", text: sign[0] })] : [];
    return el("div", { class: "counter" }, el("dt", {}, ...icon, label), value, note);
  }

  #drawCounters({ counts, minute, hour, since }) {
    const put = (name, value, note) => {
      setText(this.values.get(name).value, count(value));
      setText(this.values.get(name).note, note);
    };
    const share = counts.active ? Math.round((100 * counts.active_today) / counts.active) : 0;
    put("active", counts.active, this.model.risks ? `${count(this.model.risks.total)} at risk` : "\u00a0");
    put("active_today", counts.active_today, `${share}% of active`);
    const whole = now() - Date.parse(since) > 3_590_000;
    for (const name of ["started", "incremented", "reset", "recovered", "lapsed"]) {
      put(name, hour[name] ?? 0, `${whole ? "last hour" : `since ${hourOfDay(Date.parse(since))}`} · ${brief(minute[name] ?? 0)}/min`);
    }
  }

  #drawCharts({ per_second: rates }) {
    const shown = rates.slice(-CHART_SECONDS);
    const mean = shown.slice(-60).reduce((sum, value) => sum + value, 0) / 60;
    const note = `${mean.toFixed(1)}/s over a minute, peak ${count(Math.max(0, ...shown))}/s`;
    setText($("rate-note"), note);
    this.rate.draw([shown], { from: "3 min ago", label: `Updates a second, last three minutes: ${note}` });
    const { p50, p95 } = this.#latency;
    const recent = this.model.latency(60, 0.5, 0.95);
    const text = recent ? `p50 ${duration(recent[0])} · p95 ${duration(recent[1])}` : "no change in the last minute";
    setText($("p50"), recent ? `p50 ${duration(recent[0])}` : "p50");
    setText($("p95"), recent ? `p95 ${duration(recent[1])}` : "p95");
    this.delivery.draw([p50, p95].map(padded), { from: "3 min ago", label: `From the database to this page, last minute: ${text}` });
  }

  #latencyStep() {
    const [p50, p95] = this.model.latency(LATENCY_WINDOW, 0.5, 0.95) ?? [null, null];
    this.#latency.p50.push(p50);
    this.#latency.p95.push(p95);
    for (const series of [this.#latency.p50, this.#latency.p95]) if (series.length > CHART_SECONDS) series.shift();
  }

  #pause() {
    this.#paused = this.#paused ? null : true;
    setAttribute($("pause"), "aria-pressed", String(Boolean(this.#paused)));
    this.drawLists();
  }

  #drawBoard() {
    const { board } = this.model;
    this.board.show(board);
    empty("board", board.length === 0);
    setText($("board-note"), board.length ? `${board.length >= 1000 ? "best " : ""}${count(board.length)}` : "");
  }

  #drawRisks() {
    const at = now();
    const alive = this.model.risks.streaks.filter((entry) => Date.parse(entry.expires_at) > at);
    this.risk.show(alive);
    empty("risk", alive.length === 0);
    setText($("risk-note"), `${count(this.model.risks.total)} in the next ${this.model.risks.hours} h`);
  }

  #feedRow(row, entry, isNew) {
    const { who, kind, step, when } = row.parts;
    if (isNew || row.kind !== entry.kind || row.old !== entry.old) {
      showUser(who, entry.user_id);
      const [sign, label] = KINDS[entry.kind] ?? KINDS.updated;
      kind.firstChild.className = `k k-${entry.kind}`;
      setText(kind.firstChild, sign);
      setText(kind.lastChild, label);
      const isStep = entry.old !== null && entry.old !== entry.new;
      const isPast = !isStep && entry.new === 0;
      setText(step.firstChild, isStep ? `${entry.old} → ` : isPast ? PAST[entry.kind] ?? "past" : "");
      setText(step.lastChild, isPast ? "" : String(entry.new));
      row.kind = entry.kind;
      row.old = entry.old;
    }
    if (isNew) row.classList.toggle("fresh", entry.fresh && now() - entry.at < 2000);
    setText(when, ago(now() - entry.at));
  }

  #boardRow(row, entry) {
    const { rank, move, who, current, best } = row.parts;
    row.classList.toggle("top", entry.rank === 1);
    setText(rank, String(entry.rank));
    setText(move, entry.move ? `${entry.move > 0 ? "▲" : "▼"}${Math.abs(entry.move)}` : "");
    move.className = entry.move > 0 ? "move up" : "move down";
    if (entry.move) setAttribute(move, "title", entry.move > 0 ? `rose by ${entry.move}` : `fell by ${-entry.move}`);
    showUser(who, entry.user_id);
    setText(current, days(entry.current_streak));
    setText(best, `best ${count(entry.longest_streak)}`);
    row.classList.toggle("fresh", now() - (entry.changedAt ?? 0) < 1200);
  }

  #riskRow(row, entry) {
    const { who, current, rest } = row.parts;
    const remaining = Date.parse(entry.expires_at) - now();
    showUser(who, entry.user_id);
    setText(current, days(entry.current_streak));
    setText(rest, left(remaining));
    row.classList.toggle("soon", remaining < SOON_MS);
  }
}

/** Say that a list is empty, in its place. */
function empty(name, isEmpty) {
  $(name).hidden = Boolean(isEmpty);
  $(`${name}-empty`).hidden = !isEmpty;
}

function feedRow() {
  const kind = el("span", { class: "kind" }, el("span", { class: "k", "aria-hidden": "true" }), el("span", {}));
  const step = el("span", { class: "step" }, el("span", { class: "old" }), el("span", {}));
  return withParts({ who: userLink(), kind, step, when: el("span", { class: "when" }) });
}

function boardRow() {
  return withParts({
    rank: el("span", { class: "rank" }),
    move: el("span", { class: "move" }),
    who: userLink(),
    current: el("span", { class: "days" }),
    best: el("span", { class: "best" }),
  });
}

function riskRow() {
  return withParts({ who: userLink(), current: el("span", { class: "days" }), rest: el("span", { class: "left" }) });
}

function withParts(parts) {
  const row = el("div", { class: "row" }, ...Object.values(parts));
  row.parts = parts;
  return row;
}

function userLink() {
  return el("a", { class: "who" }, el("i", { "aria-hidden": "true" }), el("span", {}));
}

function showUser(link, id) {
  if (link.dataset.user === id) return;
  link.dataset.user = id;
  link.href = `#/user/${id}`;
  link.title = id;
  link.firstChild.style.setProperty("--hue", hueOf(id));
  setText(link.lastChild, shortId(id));
}

function padded(series) {
  return [...Array(Math.max(0, CHART_SECONDS - series.length)).fill(null), ...series];
}
