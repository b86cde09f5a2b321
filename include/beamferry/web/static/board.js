// What Airflow loads once: leaves the components under the names that the plugin registers.

import { Beamtime } from "./beamtime.js";
import { Board, Home } from "./rows.js";

const { createElement: h } = globalThis.React;
const { useLocation } = globalThis.ReactRouterDOM;

const NAV = "/plugin/beamtimes";

const sheet = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL("./board.css", import.meta.url).href });
document.head.append(sheet);

// The same name stands in the navigation and on the home page.
globalThis.Beamtimes = () => (useLocation().pathname.startsWith(NAV) ? h(Board) : h(Home));
globalThis.Beamtime = Beamtime;

// On every page: Airflow shows the tabs on every DAG, and this takes them from those that are no beamtime's.
const TABS = ["beamtime", "beamtime-run"].map((route) => `a[href*="/dags/"]:not([href*="/dags/beamtime_"])[href$="/plugin/${route}"]`);
globalThis.Beamferry = () => h("style", null, `${TABS.join(",")}{display:none!important}`);
