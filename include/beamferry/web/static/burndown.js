// The burn-down plot: bytes left over time, what was measured, what is foretold, and the day of the tape.

import { at, bytes } from "./words.js";

const { createElement: h } = globalThis.React;

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [720, 260, 74, 16, 18, 34];
const DAY = 86_400;

function ticks(most, parts) {
  const rough = most / parts;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((one) => one * power >= rough) * power;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => index * step);
}

export function BurnDown({ found }) {
  const { left, site } = found;
  if (left.length < 2) return h("p", { className: "bf-small" }, "Nothing was moved yet, so there is nothing to draw.");
  const zone = site.time_zone;
  const now = Date.parse(found.now) / 1000;
  const tape = Date.parse(found.deadline_at) / 1000;
  const [last, rest] = left.at(-1);
  const ends = found.ends_at && rest > 0 ? Date.parse(found.ends_at) / 1000 : null;
  const begin = left[0][0];
  // While anything is left, time goes on without another sample.
  const until = rest > 0 ? Math.max(now, last) : last;
  const reached = Math.max(until, ends ?? 0);
  // A tape day far ahead would press a transfer of an hour into a needle; words tell where it is then.
  const shows = tape > begin && tape - begin < 12 * Math.max(reached - begin, 1);
  const end = Math.max(reached, shows ? tape : 0, begin + 1);
  const most = Math.max(1, ...left.map(([, value]) => value));
  const x = (moment) => LEFT + ((moment - begin) / (end - begin)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
  const path = (points) => points.map(([moment, value], index) => `${index ? "L" : "M"}${x(moment).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const label = (text, options) => h("text", { className: "bf-tick", ...options }, text);
  const short = (moment) => new Date(moment * 1000).toLocaleString("en-GB", {
    timeZone: zone, ...(end - begin > 3 * DAY ? { day: "numeric", month: "short" } : { weekday: "short", hour: "2-digit", minute: "2-digit", ...(end - begin < 900 && { second: "2-digit" }) }),
  });
  const told = (moment) => at(new Date(moment * 1000).toISOString(), zone);
  const measured = path(until > last ? [...left, [until, rest]] : left);
  const sentence = `${bytes(rest)} of ${bytes(most)} left at ${told(last)}`
    + (ends ? `; at the measured rate it ends on ${at(found.ends_at, zone)}` : "")
    + `; tape begins on ${at(found.deadline_at, zone)}.`;
  return h("figure", { className: "bf-figure" },
    h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Bytes left over time: ${sentence}`, "data-bf": "burndown" },
      ticks(most, 4).map((value) => h("g", { key: value },
        h("line", { className: "bf-grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
        label(bytes(value), { x: LEFT - 8, y: y(value) + 4, textAnchor: "end" }))),
      [0, 1 / 3, 2 / 3, 1].map((share) => label(short(begin + share * (end - begin)), {
        key: share, x: x(begin + share * (end - begin)), y: HEIGHT - 10, textAnchor: share === 0 ? "start" : share === 1 ? "end" : "middle",
      })),
      shows && h("line", { className: "bf-tape", x1: x(tape), x2: x(tape), y1: TOP, y2: HEIGHT - BOTTOM }),
      shows && label("tape", { x: x(tape) - 6, y: TOP + 10, textAnchor: "end" }),
      h("path", { className: "bf-area", d: `${measured}L${x(until).toFixed(1)} ${y(0)}L${x(begin)} ${y(0)}Z` }),
      h("path", { className: "bf-line", d: measured }),
      ends && h("path", { className: "bf-ahead", d: path([[until, rest], [Math.max(ends, now), 0]]) })),
    h("figcaption", { className: "bf-small" }, sentence, ends && " Dashed: forecast."),
    h("details", null, h("summary", null, "The same as a table"),
      h("table", { className: "bf-table" },
        h("thead", null, h("tr", null, h("th", null, "When"), h("th", null, "Left"), h("th", null, "Rate until then"))),
        h("tbody", null, left.map(([moment, value], index) => h("tr", { key: moment },
          h("td", null, told(moment)), h("td", null, bytes(value)),
          h("td", null, index ? `${bytes(found.rates[index - 1][1])}/s` : "")))))));
}
