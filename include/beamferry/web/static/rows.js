// All beamtimes: one sentence, then a row each, the most urgent first.

import { useAnswer } from "./data.js";
import { Countdown, Data, State, Step, Trouble, Verification } from "./pieces.js";
import { ORDERS, SHOWN, matches, summary } from "./words.js";

const { Fragment, createElement: h, memo, useDeferredValue, useEffect, useMemo, useState } = globalThis.React;
const { Link } = globalThis.ReactRouterDOM;

const PATH = "beamferry/api/beamtimes";
const ON_HOME_PAGE = 5;
const AT_ONCE = 20;

// What a person has to know before the next step makes sense.
function why(row) {
  if (row.problem) return `${row.problem.problem}. `;
  return row.verification?.outcome === "different" ? `${row.verification.sentence} ` : "";
}

const Row = memo(function Row({ row, now }) {
  const about = [row.facility_name, row.instrument, row.pi].filter(Boolean).join(" · ");
  return h("li", { className: `bf-row bf-is-${row.state}`, "data-bf": "row", "data-key": row.key, "data-state": row.state },
    h("div", { className: "bf-cell bf-who" },
      h(Link, { to: row.urls.beamtime, className: "bf-name", "data-bf": "open", dir: "auto" }, row.id),
      h("span", { className: "bf-small" }, about),
      row.title && h("span", { className: "bf-small bf-title", dir: "auto", title: row.title }, row.title)),
    h("div", { className: "bf-cell bf-answer" },
      h(State, { state: row.state }),
      h("strong", { "data-bf": "headline" }, row.headline),
      h("span", { className: "bf-small" }, why(row), row.next_step.sentence)),
    h(Countdown, { row }),
    h(Data, { row }),
    h(Verification, { row, now }),
    h("div", { className: "bf-cell bf-do" }, h(Step, { row })));
});

// What fits on a screen is painted at once, and the others right after it.
const Rows = memo(function Rows({ rows, now }) {
  const [all, show] = useState(false);
  useEffect(() => {
    const later = setTimeout(() => show(rows.length > 0));
    return () => clearTimeout(later);
  }, [rows.length > 0]);
  const seen = all ? rows : rows.slice(0, AT_ONCE);
  return h("ul", { className: "bf-rows", "aria-label": "Beamtimes" }, seen.map((row) => h(Row, { key: row.key, row, now })));
});

function Surroundings({ found }) {
  const { alerts, space, registry } = found;
  const flaws = registry.problems.length + registry.hidden;
  return h(Fragment, null,
    h("p", { className: "bf-facts" },
      h("span", { className: alerts.ok ? "" : "bf-wrong" }, alerts.ok ? "✓ " : "⚠ ", alerts.sentence),
      h("span", null, space.sentence)),
    flaws > 0 && h("details", { className: "bf-trouble", open: registry.problems.length > 0 && flaws < 4 },
      h("summary", null, `The registry has ${flaws} problem${flaws === 1 ? "" : "s"}: beamtimes may be missing here, and nobody fetches them.`),
      h("ul", null,
        registry.problems.map((one, index) => h("li", { key: index }, h("code", null, one.place), ` ${one.sentence} `, h("em", null, one.remedy))),
        registry.hidden > 0 && h("li", null, `${registry.hidden} not shown: ask who keeps the registry.`))));
}

// Filters live in the address, so that a view can be sent to somebody. The router is not told: it would have Airflow make
// the page anew, and whoever filters by keyboard would lose the place.
function useFilters() {
  const [query, set] = useState(() => new URLSearchParams(location.search));
  const told = (name, known) => (Object.hasOwn(known, query.get(name) ?? "") ? query.get(name) : Object.keys(known)[0]);
  return {
    search: query.get("q") ?? "",
    facility: query.get("facility") ?? "",
    show: told("show", SHOWN),
    order: told("sort", ORDERS),
    change: (name, value) => set((before) => {
      const next = new URLSearchParams(before);
      if (value) next.set(name, value);
      else next.delete(name);
      const search = next.size ? `?${next}` : "";
      history.replaceState(history.state, "", `${location.pathname}${search}${location.hash}`);
      return next;
    }),
  };
}

const select = (label, value, options, change) =>
  h("label", { className: "bf-field" }, label,
    h("select", { value, onChange: (event) => change(event.target.value) },
      options.map(([key, name]) => h("option", { key, value: key }, name))));

function Filters({ rows, filters }) {
  const facilities = useMemo(() => [...new Map(rows.map((row) => [row.facility, row.facility_name]))], [rows]);
  return h("div", { className: "bf-filters", role: "search" },
    h("div", { className: "bf-chips", role: "group", "aria-label": "Show" },
      Object.entries(SHOWN).map(([key, { name, has }]) => h("button", {
        key, type: "button", className: "bf-chip", "aria-pressed": filters.show === key,
        onClick: () => filters.change("show", key === "all" ? "" : key),
      }, `${name} ${rows.filter(has).length}`))),
    h("label", { className: "bf-field" }, "Search",
      h("input", { type: "search", value: filters.search, placeholder: "name, title, instrument", onChange: (event) => filters.change("q", event.target.value) })),
    select("Facility", filters.facility, [["", "all"], ...facilities], (value) => filters.change("facility", value)),
    select("Sort by", filters.order, Object.entries(ORDERS).map(([key, { name }]) => [key, name]), (value) => filters.change("sort", value)));
}

function chosen(rows, { search, facility, show, order }) {
  const found = rows.filter((row) => SHOWN[show].has(row) && (!facility || row.facility === facility) && (!search.trim() || matches(row, search.trim())));
  return ORDERS[order].by === null ? found : found.toSorted(ORDERS[order].by);
}

export function Board() {
  const { found, trouble, again } = useAnswer(PATH);
  const filters = useFilters();
  const search = useDeferredValue(filters.search);
  const rows = found?.beamtimes ?? [];
  const seen = useMemo(
    () => chosen(rows, { ...filters, search }),
    [rows, search, filters.facility, filters.show, filters.order],
  );
  return h("section", { className: "bf-root", "data-bf": "board", "aria-busy": !found && !trouble },
    h("h1", null, "Beamtimes"),
    h(Trouble, { trouble, found, zone: found?.site.time_zone, again }),
    !found && !trouble && h("p", { className: "bf-facts" }, "Asking Airflow…"),
    found && h("p", { className: "bf-summary", "data-bf": "summary" }, summary(rows)),
    found && h(Surroundings, { found }),
    rows.length > 0 && h(Filters, { rows, filters }),
    rows.length > 0 && !seen.length && h("p", { className: "bf-empty" }, "No beamtime fits these filters. ",
      h("button", { type: "button", className: "bf-button bf-quiet", onClick: () => ["q", "facility", "show"].forEach((name) => filters.change(name, "")) }, "Show all")),
    found && !rows.length && h("p", { className: "bf-empty" }, "Add one with ", h("code", null, "beamferry add"), "; it appears here within a minute."),
    h(Rows, { rows: seen, now: found?.now.slice(0, 16) }));
}

// On Airflow's home page: the sentence, and whom nobody helps.
export function Home() {
  const { found, trouble, again } = useAnswer(PATH);
  const rows = found?.beamtimes ?? [];
  const needy = rows.filter(SHOWN.needs.has).slice(0, ON_HOME_PAGE);
  // Nobody who uses Airflow for other things wants an empty box there.
  if (!trouble && !rows.length) return null;
  return h("section", { className: "bf-root bf-panel", "data-bf": "home", "aria-label": "Beamtimes" },
    h(Trouble, { trouble, found, zone: found?.site.time_zone, again }),
    found && h("p", { className: "bf-summary", "data-bf": "summary" }, summary(rows), " ", h(Link, { to: "/plugin/beamtimes" }, "All beamtimes")),
    h(Rows, { rows: needy, now: found?.now.slice(0, 16) }));
}
