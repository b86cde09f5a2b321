// One beamtime in full, as a tab on its DAG and on its runs.

import { BurnDown } from "./burndown.js";
import { address, useAnswer } from "./data.js";
import { Copy, Countdown, Data, State, Step, Trouble, Verification } from "./pieces.js";
import { at, bytes, count, day, lasted, number } from "./words.js";

const { createElement: h } = globalThis.React;
const { Link } = globalThis.ReactRouterDOM;

const PREFIX = "beamtime_";

const part = (title, ...inside) => h("section", { className: "bf-part" }, h("h2", null, title), ...inside);

const table = (name, heads, rows) =>
  h("div", { className: "bf-scroll", tabIndex: 0, role: "region", "aria-label": name },
    h("table", { className: "bf-table", "data-bf": name },
      h("thead", null, h("tr", null, heads.map((head) => h("th", { key: head, scope: "col" }, head)))),
      h("tbody", null, rows.map((cells, index) => h("tr", { key: index }, cells.map((cell, place) => h("td", { key: place }, cell)))))));

function Head({ found }) {
  const about = [found.facility_name, found.instrument, found.pi, `ended ${day(found.ended)}`].filter(Boolean).join(" · ");
  return h("header", { className: "bf-head" },
    h("h1", { dir: "auto" }, found.id, found.title && h("span", { className: "bf-subtitle", dir: "auto" }, ` ${found.title}`)),
    h("p", { className: "bf-facts" }, h("span", null, about)),
    h("p", { className: "bf-summary" }, h(State, { state: found.state }), h("span", { "data-bf": "headline" }, found.headline)));
}

// The three questions, in the order in which they are asked.
function Answers({ found }) {
  const safe = found.verification?.sentence ?? "Both ends were not compared yet, so nobody can say.";
  const when = found.state === "safe" ? "It is home." : found.forecast ? `Forecast: ${found.forecast}.` : "Nobody can say yet.";
  const trouble = found.problem;
  return h("div", { className: "bf-answers" },
    h("div", { className: "bf-panel" }, h("h2", null, "Is my data safe?"), h(Verification, { row: found, now: found.now }), h("p", null, safe)),
    h("div", { className: "bf-panel" }, h("h2", null, "When will it be?"), h("p", null, when), h(Data, { row: found }), h(Countdown, { row: found })),
    h("div", { className: "bf-panel" }, h("h2", null, "What must I do?"),
      trouble && h("p", { className: "bf-wrong" }, `${trouble.problem}.`),
      h("p", null, found.next_step.sentence),
      // The certificate is on this very page.
      found.next_step.kind !== "certificate" && h(Step, { row: found })));
}

function speed(found) {
  const measured = found.rates.filter(([, rate]) => rate > 0);
  const best = measured.reduce((most, [, rate]) => Math.max(most, rate), 0);
  if (found.rate !== null) {
    const each = found.streams > 1 ? `, ${bytes(Math.round(found.rate / found.streams))}/s for each of ${count(found.streams, "stream")}` : "";
    return `${bytes(found.rate)}/s now${each}; at best ${bytes(Math.max(best, found.rate))}/s.`;
  }
  if (!best) return null;
  const each = found.streams > 1 ? ` over ${count(found.streams, "stream")}` : "";
  return `At best ${bytes(best)}/s${each}.`;
}

function Certificate({ found }) {
  const { certificate, urls } = found;
  if (certificate === null) return h("p", null, "None was written yet: it comes with the first run that ends.");
  return h("div", { "data-bf": "certificate" },
    h("p", null, `Issued ${at(certificate.issued_at, found.site.time_zone)}; on RDS in `, h("code", null, certificate.folder), ". ",
      urls.certificate && h("a", { className: "bf-button bf-quiet", href: address(urls.certificate), download: "" }, "Download")),
    certificate.text === null
      ? h("p", null, "Airflow keeps no copy of this one; read it on RDS.")
      : h("pre", { className: "bf-paper", tabIndex: 0 }, certificate.text));
}

function Whole({ found }) {
  const zone = found.site.time_zone;
  const differences = found.differences;
  return [
    h(Head, { found }),
    h(Answers, { found }),
    part("How it came home", h(BurnDown, { found }), speed(found) && h("p", null, speed(found))),
    differences?.counts.length > 0 && part("Differences found",
      h("ul", null, differences.counts.map((one) => h("li", { key: one.kind }, one.text))),
      differences.examples.length > 0 && h("ul", { className: "bf-names" }, differences.examples.map((name, index) => h("li", { key: index }, h("code", { dir: "auto" }, name))))),
    part("Certificate", h(Certificate, { found })),
    found.folders !== null && part("Folders at the facility",
      table("folders", ["Folder", "Size", "Files"], found.folders.map((one) => [h("code", { key: "name", dir: "auto" }, one.name), bytes(one.bytes), number(one.files)]))),
    part("Runs", found.runs.length
      ? table("runs", ["Started", "What", "State", "Took"], found.runs.map((run) => [
        h(Link, { key: "run", to: run.url }, run.start ? at(run.start, zone) : "not yet"), run.mode, run.state, lasted(run.start, run.end)]))
      : h("p", null, "No run yet.")),
    part("Exact commands", h("p", { className: "bf-small" }, "What a run executes on RDS-SSH. To repeat a step by hand, log in there first."),
      h("div", { "data-bf": "commands" }, found.commands.map((one) => h("details", { key: one.title },
        h("summary", null, one.title), h("pre", { className: "bf-command", tabIndex: 0 }, one.text), h(Copy, { text: one.text }))))),
  ].map((one, index) => one && h("div", { key: index, className: "bf-block" }, one));
}

function OneBeamtime({ name }) {
  const { found, trouble, again } = useAnswer(`beamferry/api/beamtimes/${encodeURIComponent(name)}`);
  const state = found ? ` bf-is-${found.state}` : "";
  return h("article", { className: `bf-root bf-one${state}`, "data-bf": "beamtime", "data-key": name, "data-state": found?.state },
    h(Trouble, { trouble, found, zone: found?.site.time_zone, again }),
    !found && !trouble && h("p", { className: "bf-facts" }, "Asking Airflow…"),
    found && h(Whole, { found }));
}

export function Beamtime({ dagId }) {
  if (!dagId?.startsWith(PREFIX)) return h("p", { className: "bf-root" }, "This DAG is no beamtime's.");
  return h(OneBeamtime, { name: dagId.slice(PREFIX.length), key: dagId });
}
