// What every page of ours needs: words, elements, the token, and a server that may go away and come back.

const CHOSEN = "jichu.language", TOKEN = "jichu.token";
let spoken = {}, tongue = "en";

// --- words: sentences stand in English where they are said; the server has them in other languages

export function t(sentence, values = {}) {
  return (spoken[sentence] ?? sentence).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export const language = () => tongue;

function kept(store, key, value) {
  try {
    if (value !== undefined) store.setItem(key, value);
    return store.getItem(key);
  } catch {
    return null; // a browser that keeps nothing
  }
}

export async function speak(chosen) {
  const asked = chosen ?? new URLSearchParams(location.search).get("language");
  if (asked === "en" || asked === "zh") kept(localStorage, CHOSEN, asked);
  const said = kept(localStorage, CHOSEN) ?? asked ?? navigator.language ?? "en";
  tongue = said.toLowerCase().startsWith("zh") ? "zh" : "en";
  spoken = tongue === "en" ? {} : await (await fetch(`/words/${tongue}.json`)).json();
  document.documentElement.lang = tongue === "zh" ? "zh-Hans" : "en";
}

// --- elements: whatever is given is text, never HTML

export function el(name, about = {}, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(about)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...inside.flat(Infinity).filter((part) => part !== null && part !== undefined));
  return made;
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

export function ask(question, yes, mark = "mark") {
  return new Promise((resolve) => {
    const box = dialog({ "aria-label": question },
      el("form", { method: "dialog" }, el("p", {}, question),
        el("div", { class: "bar" }, el("button", { value: "" }, t("Cancel")), el("button", { class: mark, value: "yes" }, yes))));
    box.addEventListener("close", () => resolve(box.returnValue === "yes"));
  });
}

// --- the server

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const hasToken = () => kept(sessionStorage, TOKEN) !== null;
const known = new Map(); // address → [mark, value] of the latest answers
let asking = null;

function askToken(wrong) {
  asking ??= new Promise((resolve) => {
    const field = el("input", { type: "password", autocomplete: "off", required: true, id: "token", name: "token" });
    const box = dialog({ "aria-label": t("Token") },
      el("form", { method: "dialog" },
        el("label", { for: "token" }, wrong ? t("This token is not known here.") : t("This server asks for a token.")), field,
        el("div", { class: "bar" }, el("button", { class: "mark", value: "yes" }, t("Go on")))));
    box.addEventListener("cancel", (event) => event.preventDefault());
    box.addEventListener("close", () => {
      kept(sessionStorage, TOKEN, field.value.trim());
      asking = null;
      resolve();
    });
  });
  return asking;
}

function away(is) {
  const line = document.getElementById("status"), text = is ? t("The server does not answer; trying again …") : "";
  if (line.textContent !== text) line.textContent = text;
}

// The response to a request; asks for a token where one is wanted.
export async function request(address, more = {}) {
  for (;;) {
    const token = kept(sessionStorage, TOKEN), headers = { "X-Jichu-Board": "1", ...more.headers };
    if (token) headers.Authorization = `Bearer ${token}`;
    let answer;
    try {
      answer = await fetch(address, { ...more, headers, redirect: "error", credentials: "omit" });
    } catch (error) {
      if (error.name !== "AbortError") away(true);
      throw error;
    }
    away(answer.status === 502); // of a proxy; 503 is an answer: to come again
    if (answer.status !== 401) return answer;
    await askToken(token !== null);
  }
}

// What a response says; Refused where it is an error.
export async function read(answer) {
  const told = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(answer.status, told?.error?.message ?? `${answer.status}`);
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

export async function post(address, value = {}) {
  return read(await request(address, { method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" } }));
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

export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
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
