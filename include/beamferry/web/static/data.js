// What the API answers, asked again while somebody looks.

const { useCallback, useEffect, useRef, useState } = globalThis.React;

const SOON = 5_000;
const LATER = 60_000;

// Airflow may stand below a path of its own; its page says where.
export const address = (path) => new URL(path.replace(/^\//, ""), document.baseURI).href;

export const logIn = () => `${address("api/v2/auth/login")}?next=${encodeURIComponent(location.href)}`;

class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function ask(path, signal) {
  const answer = await fetch(address(path), { credentials: "same-origin", signal });
  if (answer.ok) return answer.json();
  const told = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, typeof told.detail === "string" ? told.detail : answer.statusText);
}

// What was seen last is shown at once when a page is opened again, until the new answer is there.
const seen = new Map();

const moves = (found) => (found?.beamtimes ?? [found]).some((row) => ["queued", "running"].includes(row?.run?.state));

// Returns what was answered last, and what went wrong since: {found, trouble: {status, detail, since}, again}.
export function useAnswer(path) {
  const [held, hold] = useState(() => ({ found: seen.get(path) ?? null, trouble: null }));
  const timer = useRef(0);
  const under = useRef(null);

  const again = useCallback(async () => {
    clearTimeout(timer.current);
    under.current?.abort();
    const mine = (under.current = new AbortController());
    let next = LATER;
    try {
      const found = await ask(path, mine.signal);
      seen.set(path, found);
      hold((before) => ({ found: kept(before.found, found), trouble: null }));
      if (moves(found)) next = SOON;
    } catch (error) {
      if (mine.signal.aborted) return;
      const status = error instanceof Refused ? error.status : 0;
      const since = new Date().toISOString();
      hold((before) => ({ ...before, trouble: { status, detail: error.message, since: before.trouble?.since ?? since } }));
      // A log-in that is over, and a page that is not for this user, do not come back by asking.
      if ([401, 403, 404].includes(status)) return;
      next = SOON * 2;
    }
    if (!document.hidden) timer.current = setTimeout(again, next);
  }, [path]);

  useEffect(() => {
    const look = () => (document.hidden ? clearTimeout(timer.current) : again());
    again();
    document.addEventListener("visibilitychange", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      clearTimeout(timer.current);
      under.current?.abort();
    };
  }, [again]);

  return { ...held, again };
}

// Rows that did not change stay the same objects, so that React leaves their part of the page alone.
function kept(before, found) {
  if (!before?.beamtimes) return found;
  const known = new Map(before.beamtimes.map((row) => [row.key, row]));
  const same = (row) => {
    const old = known.get(row.key);
    return old && JSON.stringify(old) === JSON.stringify(row) ? old : row;
  };
  return { ...found, beamtimes: found.beamtimes.map(same) };
}
