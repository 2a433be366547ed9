// A year of days, a column for each week.

import { svg } from "./dom.js";
import { day } from "./format.js";

const CELL = 11;
const STEP = 13;
const TOP = 16;
const SIDE = 28;
const WEEKS = 53;
const DAY_MS = 86_400_000;
const NAMES = { active: "active", repaired: "repaired", skipped: "covered, no activity needed" };
const month = new Intl.DateTimeFormat(undefined, { month: "short", timeZone: "UTC" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short", timeZone: "UTC" });

/** Draw the year that ends on `today` (YYYY-MM-DD); `days` maps a date to its kind. */
export function heatmap(days, today, summary) {
  const last = Date.parse(`${today}T00:00:00Z`);
  const sinceMonday = (new Date(last).getUTCDay() + 6) % 7;
  const start = last - (sinceMonday + (WEEKS - 1) * 7) * DAY_MS;
  const root = svg("svg", { viewBox: `0 0 ${SIDE + WEEKS * STEP} ${TOP + 7 * STEP}`, role: "img", "aria-label": summary });
  for (const row of [0, 2, 4]) {
    root.append(svg("text", { x: 0, y: TOP + row * STEP + 9, text: weekday.format(start + row * DAY_MS) }));
  }
  let shown = -1;
  for (let at = start; at <= last; at += DAY_MS) {
    const date = new Date(at).toISOString().slice(0, 10);
    const index = Math.round((at - start) / DAY_MS);
    const column = Math.floor(index / 7);
    if (index % 7 === 0 && new Date(at).getUTCMonth() !== shown) {
      shown = new Date(at).getUTCMonth();
      // A month that ends in this column would be written over by the next.
      if (column < WEEKS - 1 && (column || new Date(at).getUTCDate() < 15)) root.append(svg("text", { x: SIDE + column * STEP, y: 10, text: month.format(at) }));
    }
    const kind = days.get(date);
    root.append(
      svg(
        "rect",
        {
          class: `cell ${kind ?? "none"}${at === last ? " today" : ""}`,
          x: SIDE + column * STEP,
          y: TOP + (index % 7) * STEP,
          width: CELL,
          height: CELL,
          rx: 2.5,
        },
        svg("title", { text: `${day(date)}: ${NAMES[kind] ?? "no activity"}` }),
      ),
    );
  }
  return root;
}
