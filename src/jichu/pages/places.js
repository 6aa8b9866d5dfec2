// A place of the page, and what is awaited there.

import { Away, Refused, el, t } from "./common.js";

const AGAIN = 1500; // milliseconds
const latest = new WeakMap(); // place → what gives up the call it waits for

export const trouble = (why) => el("p", { class: "bad", role: "alert" }, why);

// Give up what a place waits for.
export function leave(place) {
  latest.get(place)?.abort();
  place.removeAttribute("aria-busy");
}

const pause = (signal) => new Promise((resolve) => {
  setTimeout(resolve, AGAIN);
  signal.addEventListener("abort", resolve, { once: true });
});

// Put in a place what `show` makes of what `ask` finds. The latest call alone writes there: the one before is given up. What
// fails for want of a server, or one that is not ready, is asked `again`.
export async function into(place, signal, ask, show, again = true) {
  leave(place);
  const mine = new AbortController(), until = AbortSignal.any([mine.signal, signal]);
  latest.set(place, mine);
  place.setAttribute("aria-busy", "true");
  let found;
  for (;;) {
    try {
      found = await ask(until);
      break;
    } catch (error) {
      if (until.aborted) return;
      const away = error instanceof Away, later = again && (away || error.status === 503);
      const why = away ? (again ? t("The server does not answer; trying again …") : t("The server does not answer.")) : error.message;
      if (place.textContent !== why) place.replaceChildren(trouble(why));
      if (!later) {
        place.removeAttribute("aria-busy");
        if (!away && !(error instanceof Refused)) throw error;
        return;
      }
      await pause(until);
    }
    if (until.aborted) return;
  }
  if (until.aborted) return;
  place.removeAttribute("aria-busy");
  place.replaceChildren(...[show(found)].flat(Infinity).filter(Boolean));
}
