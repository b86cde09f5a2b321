// What both pages are made of: symbols, bars, the next step's button, what went wrong.

import { logIn } from "./data.js";
import { STATES, age, at, bytes, count, countdown, day, number, sum, verdict } from "./words.js";

const { createElement: h, useState } = globalThis.React;
const { Link, useNavigate } = globalThis.ReactRouterDOM;

// One shape a state, so that nobody has to tell them apart by colour.
const SHAPES = {
  overdue: ["M8 2h8l6 6v8l-6 6H8l-6-6V8z", "M12 7v6M12 16.5v.5"],
  late: ["M12 2.5 22.5 21h-21z", "M12 9v6M12 17.5v.5"],
  action: ["M12 1.5 22.5 12 12 22.5 1.5 12z", "M12 7v6M12 16.5v.5"],
  moving: ["M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z", "M12 7v10M8 13l4 4 4-4"],
  new_data: ["M3 3h18v18H3z", "M12 7.5v9M7.5 12h9"],
  waiting: ["M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20z", "M12 7v5.5l3.5 2"],
  safe: ["M12 1.8 21 5v7c0 5.2-3.7 8.7-9 10.4C6.7 20.7 3 17.2 3 12V5z", "M7.5 12l3.2 3.2 5.8-6.4"],
};

function Mark({ state }) {
  const [outline, inner] = SHAPES[state] ?? SHAPES.waiting;
  return h("svg", { className: "bf-mark", viewBox: "0 0 24 24", "aria-hidden": true },
    h("path", { d: outline, className: "bf-shape" }), h("path", { d: inner, className: "bf-sign" }));
}

export const State = ({ state }) =>
  h("span", { className: "bf-state" }, h(Mark, { state }), STATES[state]?.name ?? state);

function Bar({ share, label, kind }) {
  // Down, not to the nearest: 100 is only all of it.
  const percent = Math.floor(Math.min(1, Math.max(0, share)) * 1000) / 10;
  return h("span", {
    className: `bf-bar bf-bar-${kind}`, role: "meter", "aria-label": label,
    "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": percent,
  }, h("span", { style: { width: `${percent}%` } }));
}

export function Countdown({ row }) {
  return h("div", { className: "bf-cell" },
    h("strong", null, countdown(row)),
    h(Bar, { kind: "days", share: 1 - row.days_left / Math.max(1, row.retention_days), label: `Days used of ${row.retention_days}` }),
    h("span", { className: "bf-small" }, `tape day ${day(row.tape_day)}`));
}

export function Data({ row }) {
  const known = row.bytes_total !== null;
  const share = known && row.bytes_total > 0 ? row.bytes_done / row.bytes_total : known ? 1 : 0;
  const files = row.files_total === null ? "" : `${number(row.files_done)} of ${count(row.files_total, "file")}`;
  const rate = row.rate === null ? "" : `${bytes(row.rate)}/s`;
  return h("div", { className: "bf-cell" },
    h("strong", { "data-bf": "done" }, sum(row)),
    known && h(Bar, { kind: "data", share, label: "Bytes at RDS" }),
    h("span", { className: "bf-small" }, [files, rate].filter(Boolean).join(" · ")));
}

export function Verification({ row, now }) {
  const found = row.verification;
  const kind = found === null ? "none" : found.outcome;
  const sign = { verified: "✓ ", different: "≠ ", changing: "~ " }[kind] ?? "– ";
  return h("div", { className: "bf-cell" },
    h("span", { className: `bf-badge bf-badge-${kind}`, "data-bf": "verification", title: found?.sentence },
      h("span", { "aria-hidden": true }, sign), verdict(found)),
    h("span", { className: "bf-small" },
      [found && `checked ${age(found.at, now)}`, row.last_sync && `last sync ${age(row.last_sync, now)}`].filter(Boolean).join(" · ")));
}

const COPY = "Copy";

export function Copy({ text }) {
  const [said, say] = useState(COPY);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied");
    } catch {
      // Without TLS a browser gives no clipboard.
      say("Select it and press Ctrl+C");
    }
    setTimeout(() => say(COPY), 2500);
  };
  return h("button", { type: "button", className: "bf-button bf-quiet", onClick: copy }, said);
}

// Airflow has no address for its trigger form: the button on the DAG's page opens it.
function openForm() {
  const find = () => document.querySelector('[data-testid="trigger-dag-button"]');
  const stop = Date.now() + 8000;
  const look = setInterval(() => {
    const button = find();
    if (!button && Date.now() < stop) return;
    clearInterval(look);
    button?.click();
  }, 100);
}

export function Step({ row }) {
  const step = row.next_step;
  const go = useNavigate();
  const [open, toggle] = useState(false);
  if (!step.allowed || step.kind === "none") return null;
  if (step.kind === "log_in") {
    return h("div", { className: "bf-login" },
      h("button", { type: "button", className: "bf-button", "data-bf": "step", "aria-expanded": open, onClick: () => toggle(!open) }, step.label),
      open && h("pre", { className: "bf-command" }, step.command),
      open && h(Copy, { text: step.command }));
  }
  if (!step.url?.startsWith("/")) return null;
  const starts = step.kind === "trigger";
  const press = (event) => {
    if (!starts || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(step.url);
    openForm();
  };
  // What may be done stands back behind what must be done.
  const quiet = STATES[row.state]?.needs ? "" : " bf-quiet";
  return h(Link, { to: step.url, className: `bf-button${quiet}`, "data-bf": "step", onClick: press }, step.label);
}

export function Trouble({ trouble, found, zone, again }) {
  if (!trouble) return null;
  const { status, detail, since } = trouble;
  let said = `Airflow cannot be asked (${detail}).`;
  if (status === 401) said = "Your log-in is over.";
  else if (status === 403) said = "Airflow does not let you see this beamtime.";
  else if (status === 404) said = detail;
  const old = found ? ` What you see is from before ${at(since, zone ?? "UTC")}.` : "";
  return h("div", { className: "bf-trouble", role: "alert", "data-bf": "trouble" }, said, old, " ",
    status === 401
      ? h("a", { href: logIn() }, "Log in")
      : h("button", { type: "button", className: "bf-button bf-quiet", onClick: again }, "Try again"));
}
