// Numbers, times and names of things, for people.

const numbers = new Intl.NumberFormat(undefined);
const compact = new Intl.NumberFormat(undefined, { notation: "compact" });
const clockTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const hourTime = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayTime = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
const wholeDay = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

/** What can happen to a streak: a sign, so that colour is never the only mark, and a name. */
export const KINDS = {
  started: ["✦", "Started"],
  incremented: ["↑", "Increment"],
  milestone: ["★", "Milestone"],
  reset: ["↺", "Reset"],
  recovered: ["⤴", "Recovered"],
  lapsed: ["↓", "Lapsed"],
  imported: ["⇥", "Imported"],
  updated: ["·", "Updated"],
  deleted: ["✕", "Deleted"],
};

/** Change types of the database. */
export const CHANGE_TYPES = {
  FIRST_ACTIVITY: "started",
  STREAK_INCREMENT: "incremented",
  STREAK_RESET: "reset",
  STREAK_RECOVERED: "recovered",
  STREAK_LAPSED: "lapsed",
  STREAK_IMPORTED: "imported",
};

export const count = (value) => numbers.format(value);
/** The same with few digits, such as 1.2K. */
export const brief = (value) => compact.format(value);
export const days = (value) => `${numbers.format(value)} ${value === 1 ? "day" : "days"}`;
export const timeOfDay = (ms) => clockTime.format(ms);
export const hourOfDay = (ms) => hourTime.format(ms);
export const dateAndTime = (ms) => dayTime.format(ms);
/** A calendar day, given as YYYY-MM-DD. */
export const day = (text) => wholeDay.format(Date.parse(`${text}T00:00:00Z`));
export const shortId = (id) => id.slice(0, 8);

/** How long ago, in one or two words. */
export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 3) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** Time that is left: coarse while there is plenty, to the second at the end. */
export function left(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds < 600 ? `${minutes} min ${String(seconds % 60).padStart(2, "0")} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Milliseconds. */
export function duration(ms) {
  if (ms === 0) return "0";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

/** Today's date, YYYY-MM-DD, in a zone; in UTC where the browser does not know the zone. */
export function todayIn(zone, ms) {
  const parts = Object.fromEntries(formatterOf(zone).formatToParts(ms).map((part) => [part.type, part.value]));
  return `${parts.year}-${parts.month}-${parts.day}`;
}

/** An instant as a wall clock in a zone shows it. */
export function inZone(zone, ms) {
  const options = { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  try {
    return new Intl.DateTimeFormat(undefined, { ...options, timeZone: zone ?? "UTC" }).format(ms);
  } catch {
    return new Intl.DateTimeFormat(undefined, { ...options, timeZone: "UTC" }).format(ms);
  }
}

/** A colour that always belongs to the same user. */
export function hueOf(id) {
  return `hsl(${Number.parseInt(id.slice(0, 6), 16) % 360} 45% 55%)`;
}

const formatters = new Map();

function formatterOf(zone) {
  let formatter = formatters.get(zone);
  if (!formatter) {
    const options = { year: "numeric", month: "2-digit", day: "2-digit", calendar: "iso8601", numberingSystem: "latn" };
    try {
      formatter = new Intl.DateTimeFormat("en-CA", { ...options, timeZone: zone ?? "UTC" });
    } catch {
      formatter = new Intl.DateTimeFormat("en-CA", { ...options, timeZone: "UTC" });
    }
    formatters.set(zone, formatter);
  }
  return formatter;
}
