// Numbers, times and states as people say them. Nothing here touches the page.

export const STATES = {
  overdue: { name: "Past its tape day", needs: true },
  late: { name: "Will be late", needs: true },
  action: { name: "Needs you", needs: true },
  moving: { name: "On its way" },
  new_data: { name: "New data" },
  waiting: { name: "Waits for its run" },
  safe: { name: "Safe" },
};

export const SHOWN = {
  all: { name: "All", has: () => true },
  needs: { name: "Needs you", has: (row) => Boolean(STATES[row.state]?.needs) },
  coming: { name: "On its way", has: (row) => !STATES[row.state]?.needs && row.state !== "safe" },
  safe: { name: "Safe", has: (row) => row.state === "safe" },
};

// The server's own order is the most urgent first; null as order keeps it.
export const ORDERS = {
  urgency: { name: "Most urgent", by: null },
  days: { name: "Days to tape", by: (a, b) => a.days_left - b.days_left },
  left: { name: "Most left to fetch", by: (a, b) => left(b) - left(a) },
  sync: { name: "Last sync", by: (a, b) => moment(b.last_sync) - moment(a.last_sync) },
  name: { name: "Name", by: (a, b) => a.id.localeCompare(b.id, "en", { numeric: true }) },
};

const left = (row) => (row.bytes_total === null ? -1 : row.bytes_total - row.bytes_done);
const moment = (text) => (text ? Date.parse(text) : 0);

export function bytes(size) {
  if (size < 1000) return count(size, "byte");
  let value = size;
  for (const unit of ["kB", "MB", "GB", "TB"]) {
    value /= 1000;
    if (Number(value.toFixed(1)) < 1000) return `${value.toFixed(1)} ${unit}`;
  }
  return `${(value / 1000).toFixed(1)} PB`;
}

export const number = (value) => value.toLocaleString("en-GB");

export const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

export function age(then, now) {
  const seconds = Math.max(0, (moment(now) - moment(then)) / 1000);
  if (seconds < 90) return "just now";
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${count(Math.round(seconds / 86_400), "day")} ago`;
}

export function countdown(row) {
  if (row.days_left > 0) return `${count(row.days_left, "day")} to tape`;
  if (row.days_left === 0) return "goes to tape today";
  return `tape day was ${count(-row.days_left, "day")} ago`;
}

// A bare date is a day of the calendar, whatever zone the reader is in.
export function day(text) {
  return new Date(`${text}T12:00:00Z`).toLocaleDateString("en-GB", {
    weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC",
  });
}

export function at(text, zone) {
  const told = { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" };
  return new Date(text).toLocaleString("en-GB", { ...told, timeZone: zone });
}

export function lasted(start, end) {
  if (!start || !end) return "";
  const seconds = Math.round((moment(end) - moment(start)) / 1000);
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function sum(row) {
  if (row.bytes_total === null) return "Not counted yet";
  const [done, total] = [bytes(row.bytes_done), bytes(row.bytes_total)];
  // What is rounded must not look like all of it.
  return done === total && left(row) > 0 ? `All but ${bytes(left(row))} of ${total}` : `${done} of ${total}`;
}

const VERDICTS = { verified: "Verified", changing: "Source was changing", different: "Copy differs" };
const LEVELS = { sizes: "by size", sampled: "by size and samples", full: "byte by byte", listed: "by list" };

export function verdict(found) {
  if (found === null) return "Not verified yet";
  return `${VERDICTS[found.outcome] ?? found.outcome} ${found.outcome === "verified" ? LEVELS[found.level] ?? "" : ""}`.trim();
}

export function summary(rows) {
  if (!rows.length) return "No beamtime is in the registry, or none that you may read.";
  const needy = rows.filter(SHOWN.needs.has);
  const safe = rows.filter(SHOWN.safe.has).length;
  const known = rows.filter((row) => row.state !== "safe" && row.bytes_total !== null);
  const rest = known.reduce((all, row) => all + left(row), 0);
  const tail = rest > 0 ? ` ${bytes(rest)} ${known.length === 1 ? "is" : "are"} left to fetch.` : "";
  if (!needy.length) {
    const all = safe === rows.length;
    const what = all ? "Every beamtime is home and verified." : "Nothing waits for you.";
    return `${what} ${safe} of ${rows.length} safe.${all ? "" : tail}`;
  }
  const verb = needy.length === 1 ? "needs" : "need";
  const [one] = needy;
  const days = /tape/.test(one.headline) ? "" : ` (${countdown(one)})`;
  const first = `Most urgent: ${one.id}, ${lower(one.headline)}${days}.`;
  return `${needy.length} of ${count(rows.length, "beamtime")} ${verb} you. ${first}${tail}`;
}

// A sentence's first letter inside another sentence; abbreviations such as FTP stay as they are.
const lower = (text) => (/^[A-Z][a-z ]/.test(text) ? text[0].toLowerCase() + text.slice(1) : text);

export function matches(row, search) {
  const text = [row.id, row.title, row.pi, row.instrument, row.facility_name, row.headline].join(" ").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
