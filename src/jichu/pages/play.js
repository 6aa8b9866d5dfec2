// The playground: ask a model, see why it says so, look through its test set, wander over its map, talk with it. What is
// shown is told by the address after #: the model and one of its views.

import { el, follow, get, language, speak, t } from "./common.js";
import { rows, short, truth } from "./answers.js";
import { asking } from "./ask.js";
import { writing } from "./chat.js";
import { map } from "./map.js";
import { into, trouble } from "./places.js";

const PAGE = 24, LOOK = 5000; // rows of a page, milliseconds
const main = document.getElementById("main"), heading = el("h1"), version = el("p", { class: "lead", id: "version", role: "status" });
const held = new Map(); // model and view → what people have typed, asked and chosen there
let models = [], ending = new AbortController();
let shown = {}; // the model, its view, and what that view takes

const at = (model, view, rest = "") => `#/${encodeURIComponent(model)}/${view}${rest}`;

function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // of an address that somebody typed
  }
}

function state(model, view) {
  const key = JSON.stringify([model.id, view]);
  if (!held.has(key)) held.set(key, {});
  return held.get(key);
}

function views(model) {
  const asks = Object.keys(model.predicts).length > 0 && !model.writes;
  return [
    ["ask", t("Ask"), asks], ["rows", t("Test set"), asks && model.shows], ["map", t("Map"), model.shows && model.reads !== "series" && !model.writes],
    ["chat", t("Talk"), model.writes && model.chats], ["write", t("Go on with a text"), model.writes],
  ].filter(([, , there]) => there);
}

// --- the frame

// The model's name, or a choice of one.
function choice() {
  const { model, view } = shown, there = document.activeElement?.id === "model";
  const choose = el("select", { id: "model", "aria-label": t("Model"), onchange: () => { location.hash = at(choose.value, view); } }, models.map((each) => el("option", { value: each.id }, each.id)));
  choose.value = model.id;
  heading.replaceChildren(models.length > 1 ? choose : el("bdi", {}, model.id));
  if (there) choose.focus();
}

function frame() {
  const { model, view } = shown, other = language() === "en" ? "zh" : "en";
  document.title = `${model.id} · Jichu`;
  choice();
  version.replaceChildren(el("bdi", {}, model.system_fingerprint));
  return [
    el("div", { class: "top" }, heading, el("button", { class: "end", id: "other", lang: other === "zh" ? "zh-Hans" : "en", onclick: () => change(other) }, other === "zh" ? "中文" : "English")),
    version,
    el("nav", { class: "tabs", "aria-label": t("Views") }, views(model).map(([name, title]) => el("a", { href: at(model.id, name), "aria-current": name === view ? "page" : null }, title))),
  ];
}

async function change(other) {
  await speak(other);
  show();
  document.getElementById("other").focus();
}

// --- the views, each in the elements that it gives

const reach = (model) => ({ signal: ending.signal, of: (rest) => `/v1/models/${encodeURIComponent(model.id)}/${rest}`, open: (one) => { location.hash = at(model.id, "ask", `/${one.row}`); } });

function ask(model) {
  shown.takes = asking(model, state(model, "ask"), { models, ...reach(model) });
  return shown.takes.element;
}

function looking(model) {
  const { signal, of, open } = reach(model), look = state(model, "rows");
  Object.assign(look, { wrong: false, label: "", order: "row", start: 0, ...look });
  const classes = Object.values(model.predicts).find((target) => target.task === "classification")?.classes ?? [];
  const choose = (name, label, ...options) => {
    const made = el("select", { "aria-label": label, onchange: () => turn({ [name]: made.value }) }, options);
    made.value = look[name];
    return made;
  };
  const wrong = el("input", { type: "checkbox", checked: look.wrong, onchange: () => turn({ wrong: wrong.checked }) });
  const place = el("div"), lead = el("p", { class: "note", role: "status" });
  const page = (name, by) => el("button", { type: "button", onclick: (event) => { if (event.target.ariaDisabled !== "true") turn({ start: look.start + by }); } }, name);
  const back = page(t("Back"), -PAGE), on = page(t("Next"), PAGE);

  function caption(one) {
    const is = truth(one), said = short(one.prediction);
    return is === null || is === said ? said : el("span", { class: "bad" }, t("says {said}, is {truth}", { said, truth: is }));
  }

  function turn(how) {
    Object.assign(look, { start: 0, ...how });
    draw();
    if ("start" in how) lead.scrollIntoView({ block: "nearest" });
  }

  function draw() {
    const asked = new URLSearchParams({ start: look.start, count: PAGE, order: look.order, ...(look.wrong && { wrong: true }), ...(look.label && { label: look.label }) });
    into(place, signal, (until) => get(of(`samples?${asked}`), until), (found) => {
      const end = Math.min(look.start + PAGE, found.total);
      lead.textContent = found.total ? t("{first} to {last} of {total} rows, of {of} in all", { first: look.start + 1, last: end, total: found.total, of: found.of }) : t("There are no such rows.");
      back.ariaDisabled = `${look.start === 0}`; // and not disabled, which would lose who is there
      on.ariaDisabled = `${end >= found.total}`;
      return rows(found.samples, caption, open);
    });
  }

  if (!classes.includes(look.label)) look.label = "";
  draw();
  return [
    el("div", { class: "bar" }, classes.length ? [el("label", {}, wrong, t("wrong ones alone")),
      choose("label", t("Class"), el("option", { value: "" }, t("every class")), classes.map((each) => el("option", { value: each }, each))),
      choose("order", t("Order"), el("option", { value: "row" }, t("as in the data")), el("option", { value: "uncertain" }, t("the least certain first")))] : []),
    lead, place, el("div", { class: "bar" }, back, on)];
}

function wandering(model) {
  const place = el("div"), { signal, of, open } = reach(model);
  into(place, signal, (until) => get(of("map"), until), (found) => map(found, Object.keys(model.predicts)[0], (row) => open({ row })).element);
  return place;
}

const talking = (chats) => (model) => writing(model, chats, state(model, chats ? "chat" : "write"), ending.signal);
const DRAW = { ask, rows: looking, map: wandering, chat: talking(true), write: talking(false) };

// --- which of them

// What the address tells; what is awaited elsewhere is given up.
function show() {
  ending.abort();
  ending = new AbortController();
  const [, name, view] = location.hash.split("/").map(plain), model = models.find((each) => each.id === name) ?? models[0];
  if (!model) return main.replaceChildren(el("p", {}, t("No model is served here.")));
  const there = views(model).map(([each]) => each);
  shown = { model, view: there.includes(view) ? view : there[0] };
  const parts = [frame(), DRAW[shown.view]?.(model) ?? el("p", {}, t("This model gives features alone; there is nothing to ask it here."))];
  main.replaceChildren(...parts.flat(Infinity));
}

// The same, where somebody has come here: with the row of the data that the address names.
function come() {
  show();
  const row = location.hash.split("/")[3];
  if (row && shown.view === "ask") shown.takes.row(plain(row));
}

window.addEventListener("hashchange", () => {
  const chose = document.activeElement?.id === "model";
  come();
  (chose && document.getElementById("model") || main).focus({ preventScroll: true });
  scrollTo({ top: 0, behavior: "instant" });
});

// Files that are dropped or pasted anywhere: dropped beside a field they would take the page's place.
const files = (event) => [...(event.dataTransfer ?? event.clipboardData)?.items ?? []].some((each) => each.kind === "file");
const over = (is) => document.querySelector(".drop")?.classList.toggle("over", is);
document.addEventListener("paste", (event) => { if (files(event)) shown.takes?.file?.(event.clipboardData.files[0]); });
document.addEventListener("dragover", (event) => { if (files(event)) { event.preventDefault(); over(true); } });
document.addEventListener("dragleave", () => over(false));
document.addEventListener("drop", (event) => {
  if (!files(event)) return;
  event.preventDefault();
  over(false);
  shown.takes?.file?.(event.dataTransfer.files[0]);
});

// --- the models as they are now: one may be exchanged, and the server go away and come back, while the page is open

const form = ({ system_fingerprint, created, ...rest }) => JSON.stringify(rest);

// What the model before said is marked; where this one is asked otherwise, it goes.
function exchanged(old, model) {
  const alike = form(old) === form(model);
  shown.model = model;
  if (alike) {
    shown.takes?.old();
  } else {
    delete state(model, "ask").asked;
    show();
  }
  version.replaceChildren(el("bdi", {}, model.system_fingerprint), " · ", alike ? t("This model was exchanged: what is shown was said by the one before.") : t("This model was exchanged: ask it anew."));
}

async function known() {
  const before = models;
  models = (await get("/v1/models")).data;
  if (models === before || JSON.stringify(models) === JSON.stringify(before)) return;
  const old = before.find((each) => each.id === shown.model?.id), model = models.find((each) => each.id === old?.id);
  if (!model) return come();
  choice();
  shown.takes?.among(models);
  if (old.system_fingerprint !== model.system_fingerprint || form(old) !== form(model)) exchanged(old, model);
}

addEventListener("languagechange", () => { if (models.length) show(); }); // the words have come
await speak();
try {
  await follow(known, new AbortController().signal, LOOK);
} catch (error) {
  main.replaceChildren(trouble(error.message));
}
