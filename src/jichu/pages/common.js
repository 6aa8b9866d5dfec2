// What every page of ours needs: words, elements, the token, and a server that may go away and come back.

const CHOSEN = "jichu.language", TOKEN = "jichu.token", AGAIN = 3000; // milliseconds
let spoken = {}, tongue = "en", wish = null;

// --- words: sentences stand in English where they are said; the server has them in other languages

export function t(sentence, values = {}) {
  return (spoken[sentence] ?? sentence).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

// What people call a metric or another name of ours; names of their own they find as they wrote them.
export const named = (name) => (Object.hasOwn(spoken, name) ? spoken[name] : name.replaceAll("_", " "));

export const language = () => tongue;

function kept(store, key, value) {
  try {
    if (value !== undefined) window[store].setItem(key, value);
    return window[store].getItem(key);
  } catch {
    return null; // a browser that keeps nothing
  }
}

// Speak a language: the one that is chosen, or was, or the browser's. English where its words cannot be had; they are asked
// for again, and `languagechange` tells that they have come.
export async function speak(chosen) {
  wish = chosen ?? wish ?? new URLSearchParams(location.search).get("language");
  if (wish === "en" || wish === "zh") kept("localStorage", CHOSEN, wish);
  const said = wish ?? kept("localStorage", CHOSEN) ?? navigator.language ?? "en";
  tongue = said.toLowerCase().startsWith("zh") ? "zh" : "en";
  try {
    spoken = tongue === "en" ? {} : await get(`/words/${tongue}.json`);
  } catch {
    [spoken, tongue] = [{}, "en"];
    setTimeout(async () => {
      if (tongue !== "en") return;
      await speak();
      if (tongue !== "en") dispatchEvent(new Event("languagechange"));
    }, AGAIN);
  }
  document.documentElement.lang = tongue === "zh" ? "zh-Hans" : "en";
}

// --- elements: whatever is given is text, never HTML

const there = (part) => part !== null && part !== undefined && part !== false;

export function el(name, about = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(about)) {
    if (!there(value)) continue;
    if (key.startsWith("on") || key === "value" || key === "checked") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...inside.flat(Infinity).filter(there));
  return made;
}

// Make what is in a place as it is wanted by changing what differs alone: what somebody reads, marks, holds or has opened
// there stays the same element. In a list, `data-key` tells which is which.
export function patch(place, ...wanted) {
  const before = [...place.childNodes];
  const after = wanted.flat(Infinity).filter(there).map((part) => {
    const made = part instanceof Node ? part : document.createTextNode(part);
    const found = before.includes(made) ? made : before.find((each) => each.nodeName === made.nodeName && each.dataset?.key === made.dataset?.key);
    if (!found) return made;
    before.splice(before.indexOf(found), 1);
    if (found !== made) alter(found, made);
    return found;
  });
  before.forEach((part) => part.remove());
  let at = place.firstChild;
  for (const part of after) {
    while (at && at !== part && part.contains(document.activeElement)) { // moved itself, it would lose the focus
      const next = at.nextSibling;
      place.append(at);
      at = next;
    }
    if (at === part) at = at.nextSibling;
    else place.insertBefore(part, at);
  }
}

function alter(here, made) {
  if (here.nodeType === Node.TEXT_NODE) {
    if (here.data !== made.data) here.data = made.data;
    return;
  }
  for (const { name, value } of made.attributes) if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  for (const { name } of [...here.attributes]) if (!made.hasAttribute(name) && name !== "open") here.removeAttribute(name);
  [here.onclick, here.onchange] = [made.onclick, made.onchange];
  if (here.checked !== made.checked) here.checked = made.checked;
  patch(here, ...made.childNodes);
}

export function dialog(about, ...inside) {
  const made = el("dialog", about, ...inside);
  const before = document.activeElement;
  document.body.append(made);
  made.addEventListener("close", () => {
    made.remove();
    before?.focus?.();
  });
  made.showModal();
  return made;
}

// A question whose answer is a deed: the dialog stays, and says what is wrong, until the deed is done or given up.
export function ask(title, inside, yes, deed, mark = "mark") {
  const wrong = el("p", { class: "bad", role: "alert" });
  const form = el("form", {}, inside, wrong,
    el("div", { class: "bar" }, el("button", { type: "button", onclick: () => box.close() }, t("Cancel")), el("button", { class: mark }, yes)));
  form.onsubmit = async (event) => {
    event.preventDefault();
    try {
      await deed();
      box.close();
    } catch (error) {
      wrong.textContent = why(error);
    }
  };
  const box = dialog({ "aria-label": title }, form);
}

// --- what goes wrong

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// The server was not reached: what is asked again may succeed.
export class Away extends TypeError {}

// What is to be said of an error; one that is a fault of ours is thrown on.
export function why(error) {
  if (error instanceof Refused || error instanceof Away) return error.message;
  throw error;
}

const wrong = { away: "", ours: "" };

function tell(kind, text) {
  const line = document.getElementById("status");
  wrong[kind] = text;
  const said = Object.values(wrong).filter(Boolean).join(" ");
  if (line.textContent !== said) line.textContent = said;
}

function fault(error) {
  if (error instanceof Away || error?.name === "AbortError") return;
  console.error(error);
  tell("ours", error instanceof Refused ? error.message : t("Something went wrong on this page: {why}", { why: error?.message ?? error }));
}

addEventListener("error", (event) => fault(event.error ?? event.message));
addEventListener("unhandledrejection", (event) => { event.preventDefault(); fault(event.reason); });
addEventListener("hashchange", () => tell("ours", ""));

// --- the server

const SENT = /^[\x21-\x7e]+$/; // what a header can carry
let token = kept("sessionStorage", TOKEN), asking = null;
const known = new Map(); // address → [mark, value] of the latest answers

export const hasToken = () => token !== null;

function askToken(wrong) {
  asking ??= new Promise((resolve) => {
    const field = el("input", { type: "password", autocomplete: "off", required: true, id: "token", name: "token" });
    const box = dialog({ "aria-label": t("Token") },
      el("form", { method: "dialog" },
        el("label", { for: "token" }, wrong ? t("This token is not known here.") : t("This server asks for a token.")), field,
        el("div", { class: "bar" }, el("button", { class: "mark", value: "yes" }, t("Go on")))));
    box.addEventListener("cancel", (event) => event.preventDefault());
    box.addEventListener("close", () => {
      const given = field.value.trim();
      asking = null;
      if (!SENT.test(given)) return resolve(askToken(given !== ""));
      token = given;
      kept("sessionStorage", TOKEN, token);
      resolve();
    });
  });
  return asking;
}

const away = (is) => tell("away", is ? t("The server does not answer; trying again …") : "");

// The response to a request; asks for a token where one is wanted. Away where there is none.
export async function request(address, more = {}) {
  for (;;) {
    const sent = token, headers = { "X-Jichu-Board": "1", ...more.headers };
    if (sent) headers.Authorization = `Bearer ${sent}`;
    let answer;
    try {
      answer = await fetch(address, { ...more, headers, redirect: "error", credentials: "omit" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      away(true);
      throw new Away(t("The server does not answer."));
    }
    away(answer.status === 502); // of a proxy; 503 is an answer: to come again
    if (answer.status !== 401) return answer;
    if (sent === token) await askToken(sent !== null);
  }
}

// What a response says; Refused where it is an error, Away where it was cut off.
export async function read(answer) {
  const told = await answer.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return null;
  });
  if (!answer.ok) throw new Refused(answer.status, told?.error?.message ?? `${answer.status}`);
  if (told === null) throw new Away(t("The server does not answer."));
  return told;
}

// What is at an address; the same object as before where nothing has changed.
export async function get(address, signal) {
  const before = known.get(address);
  const answer = await request(address, { signal, headers: before ? { "If-None-Match": before[0] } : {} });
  if (answer.status === 304 && before) return before[1];
  const value = await read(answer);
  known.delete(address);
  known.set(address, [answer.headers.get("ETag"), value]);
  if (known.size > 50) known.delete(known.keys().next().value);
  return value;
}

export async function post(address, value = {}, signal = null) {
  return read(await request(address, { method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" }, signal }));
}

// Call again and again until the signal ends it: later where the server is away, and not while nobody looks.
export async function follow(call, signal, every = 2000) {
  let wait = every;
  while (!signal.aborted) {
    try {
      await call();
      wait = every;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status < 500 && error.status !== 429) throw error;
      if (!(error instanceof Refused)) fault(error);
      wait = Math.min(wait * 1.5, 15000);
    }
    await new Promise((resolve) => {
      const timer = setTimeout(done, wait);
      function done() {
        if (document.hidden && !signal.aborted) return document.addEventListener("visibilitychange", done, { once: true });
        clearTimeout(timer);
        resolve();
      }
      signal.addEventListener("abort", done, { once: true });
    });
  }
}

// --- figures

// A share that is nearly one is not one: it gets more digits.
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (value < 1 && digits < 8 && Number(value.toPrecision(digits)) === 1) return number(value, digits + 1);
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e12)) return value.toExponential(2);
  return Math.abs(value) >= 1e4 ? Math.round(value).toLocaleString("en") : `${Number(value.toPrecision(digits))}`;
}

export function interval(figure) {
  if (!figure) return "–";
  const ends = figure.low === null || figure.low === undefined ? "" : ` [${number(figure.low, 3)}, ${number(figure.high, 3)}]`;
  return number(figure.value, 3) + ends;
}

export function clock(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.round(seconds), pad = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(s / 3600), minutes = Math.floor(s / 60) % 60;
  return hours ? `${hours}:${pad(minutes)}:${pad(s % 60)}` : `${minutes}:${pad(s % 60)}`;
}

export function date(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const d = new Date(seconds * 1000), pad = (n) => String(n).padStart(2, "0");
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}`;
}

export const mib = (bytes) => (bytes === null || bytes === undefined ? "–" : (bytes / 2 ** 20).toFixed(1));
