// The playground: ask a model, see why it says so, look through its test set, wander over its map, talk with it. What is
// shown is told by the address after #: the model and one of its views.

import { Refused, el, follow, get, language, number, post, read, request, speak, t } from "./common.js";
import { changed, explained, rows, short, shown, told, truth } from "./answers.js";
import { writing } from "./chat.js";
import { input } from "./inputs.js";
import { map } from "./map.js";

const PAGE = 24, LOOK = 5000, AGAIN = 1500; // rows of a page, milliseconds
const main = document.getElementById("main");
let models = [], ending = new AbortController(), paste = null;

const at = (model, view, rest = "") => `#/${encodeURIComponent(model)}/${view}${rest}`;
const of = (model, rest) => `/v1/models/${encodeURIComponent(model.id)}/${rest}`;

function views(model) {
  const asks = Object.keys(model.predicts).length > 0 && !model.writes;
  return [
    ["ask", t("Ask"), asks], ["rows", t("Test set"), asks && model.shows], ["map", t("Map"), model.shows && model.reads !== "series" && !model.writes],
    ["chat", t("Talk"), model.writes && model.chats], ["write", t("Go on with a text"), model.writes],
  ].filter(([, , there]) => there);
}

function frame(model, view) {
  const other = language() === "en" ? "zh" : "en";
  const choose = el("select", { "aria-label": t("Model"), onchange: () => { location.hash = at(choose.value, view); } }, models.map((each) => el("option", { value: each.id }, each.id)));
  choose.value = model.id;
  document.title = `${model.id} · Jichu`;
  return [
    el("div", { class: "top" }, el("h1", {}, models.length > 1 ? choose : el("bdi", {}, model.id)),
      el("button", { class: "end", lang: other === "zh" ? "zh-Hans" : "en", onclick: async () => { await speak(other); show(); } }, other === "zh" ? "中文" : "English")),
    el("p", { class: "lead", id: "version" }, el("bdi", {}, model.system_fingerprint)),
    el("nav", { class: "tabs", "aria-label": t("Views") }, views(model).map(([name, title]) => el("a", { href: at(model.id, name), "aria-current": name === view ? "page" : null }, title))),
  ];
}

// What is awaited, or what went wrong with it, in a place.
async function into(place, call) {
  place.setAttribute("aria-busy", "true");
  try {
    place.replaceChildren(...[await call()].flat().filter(Boolean));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 503) setTimeout(() => place.isConnected && into(place, call), AGAIN);
    place.replaceChildren(el("p", { class: "bad", role: "alert" }, error instanceof Refused ? error.message : t("The server does not answer; trying again …")));
    if (!(error instanceof Refused) && !(error instanceof TypeError)) throw error;
  } finally {
    place.removeAttribute("aria-busy");
  }
}

// --- ask

async function predicted(model, item) {
  const answer = await request("/v1/predict", { method: "POST", body: JSON.stringify({ model: model.id, inputs: [item] }), headers: { "Content-Type": "application/json" }, signal: ending.signal });
  return (await read(answer)).predictions[0];
}

// A part that is asked for when it is opened, and anew when something else is asked while it is open.
function part(title, call) {
  const place = el("div", { class: "part" }), made = el("details", {}, el("summary", {}, title), place);
  let stale = true;
  const fill = () => { if (made.open && stale) { stale = false; into(place, call); } };
  made.addEventListener("toggle", fill);
  return { element: made, again: () => { stale = true; place.replaceChildren(); fill(); } };
}

function asking(model, row) {
  const result = el("div", { class: "results", "aria-live": "polite" }), trouble = el("p", { class: "bad", role: "alert" }), known = el("p", { class: "note" });
  const field = input(model, () => { trouble.textContent = ""; known.textContent = ""; if (model.reads === "image" || model.reads === "audio") go(); }, (why) => { trouble.textContent = why; });
  const others = models.filter((each) => each.id !== model.id && each.reads === model.reads && !each.writes && Object.keys(each.predicts).length);
  const beside = el("select", { id: "beside", onchange: () => asked !== null && go() }, el("option", { value: "" }, "–"), others.map((each) => el("option", { value: each.id }, each.id)));
  const more = el("div", { hidden: true });
  let asked = null;

  const parts = [
    model.explains && part(t("Why it says so"), async () => {
      const found = await post("/v1/explain", { model: model.id, inputs: [asked], picture: true });
      return explained(found.explanations[0]);
    }),
    model.shows && model.reads !== "series" && part(t("What is like it in the training data"), async () => {
      const found = await post("/v1/neighbours", { model: model.id, inputs: [asked], k: 8 });
      return rows(found.neighbours[0], (one) => `${truth(one) ?? ""} (${number(one.distance, 2)})`, open);
    }),
    model.shows && model.reads !== "series" && part(t("Where it lies on the map"), async () => {
      const near = await post("/v1/neighbours", { model: model.id, inputs: [asked], k: 1, place: true });
      const drawn = map(await get(of(model, "map"), ending.signal), Object.keys(model.predicts)[0], (each) => open({ row: each }));
      drawn.mark(near.places[0]);
      return drawn.element;
    }),
    model.shows && model.classes && part(t("What would change the answer"), async () => {
      const found = await post("/v1/counterfactual", { model: model.id, inputs: [asked] });
      return changed(found.counterfactuals[0], open);
    }),
    model.keeps && part(t("Correct it"), async () => correcting(model, () => asked)),
  ].filter(Boolean);
  more.append(...parts.map((each) => each.element));

  async function go() {
    let item = null;
    try {
      item = field.value();
    } catch (error) {
      trouble.textContent = t("This is no JSON: {why}", { why: error.message });
      return;
    }
    if (item === null) return;
    asked = item;
    const some = [model, ...others.filter((each) => each.id === beside.value)];
    await into(result, async () => {
      const found = await Promise.all(some.map((each) => predicted(each, item)));
      return found.map((answer, i) => el("section", { class: "result" }, some.length > 1 ? el("h2", {}, el("bdi", {}, some[i].id)) : null, told(some[i], answer)));
    });
    more.hidden = false;
    parts.forEach((each) => each.again());
  }

  async function take(number_) {
    const one = (await get(of(model, `samples?row=${number_}`), ending.signal)).sample;
    field.set(one);
    known.textContent = truth(one) === null ? t("Row {row} of the data ({split}).", { row: one.row, split: one.split }) : t("Row {row} of the data ({split}), which is {truth}.", { row: one.row, split: one.split, truth: truth(one) });
    await go();
  }

  async function any() {
    const page = await get(of(model, "samples?count=1"), ending.signal);
    const one = await get(of(model, `samples?count=1&start=${Math.floor(Math.random() * page.total)}`), ending.signal);
    await take(one.samples[0].row);
  }

  const open = (one) => { location.hash = at(model.id, "ask", `/${one.row}`); };
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); go(); } }, field.element, trouble,
    el("div", { class: "bar" }, el("button", { class: "mark", type: "submit" }, t("Ask")),
      model.shows ? el("button", { type: "button", onclick: () => into(trouble, any) }, t("Any row of the test set")) : null,
      others.length ? el("label", { for: "beside" }, t("beside"), beside) : null), known);
  form.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); go(); } });
  paste = field.paste ?? null;
  main.append(el("div", { class: "asking" }, form, result), more);
  if (row) into(trouble, () => take(row));
}

function correcting(model, item) {
  const fields = Object.entries(model.predicts).map(([column, target], i) => {
    const id = `right${i}`, box = target.classes.length && target.task !== "multilabel" ? el("select", { id }, target.classes.map((each) => el("option", { value: each }, each))) : el("input", { id });
    return [column, target, box];
  });
  const value = ([, target, box]) => (target.task === "multilabel" ? box.value.split(",").map((tag) => tag.trim()).filter(Boolean) : target.task === "regression" ? Number(box.value) : box.value);
  const note = el("input", { id: "remark", maxlength: 2000 }), done = el("p", { class: "note", role: "status" });

  async function keep(event) {
    event.preventDefault();
    const answer = fields.length > 1 ? Object.fromEntries(fields.map((each) => [each[0], value(each)])) : value(fields[0]);
    await into(done, async () => {
      await post("/v1/feedback", { model: model.id, input: item(), answer, note: note.value || null });
      return t("Kept; the next fine-tuning can learn from it.");
    });
  }
  return el("form", { class: "fields", onsubmit: keep }, fields.map(([column, target, box]) => [
    el("label", { for: box.id }, t("What is right"), " (", el("bdi", {}, column), target.task === "multilabel" ? `, ${t("tags with commas between them")}` : "", ")"), box]).flat(),
    el("label", { for: "remark" }, t("Remark")), note, el("div", { class: "bar" }, el("button", { class: "mark" }, t("Keep"))), done);
}

// --- the test set

const look = { wrong: false, label: "", order: "row", start: 0 };

function looking(model) {
  const classes = Object.values(model.predicts).find((target) => target.task === "classification")?.classes ?? [];
  const wrong = el("input", { type: "checkbox", checked: look.wrong, onchange: () => turn(0, { wrong: wrong.checked }) });
  const label = el("select", { "aria-label": t("Class"), onchange: () => turn(0, { label: label.value }) }, el("option", { value: "" }, t("every class")), classes.map((each) => el("option", { value: each }, each)));
  const order = el("select", { "aria-label": t("Order"), onchange: () => turn(0, { order: order.value }) }, el("option", { value: "row" }, t("as in the data")), el("option", { value: "uncertain" }, t("the least certain first")));
  [label.value, order.value] = [classes.includes(look.label) ? look.label : "", look.order];
  const place = el("div"), lead = el("p", { class: "note", role: "status" });
  const back = el("button", { onclick: () => turn(Math.max(0, look.start - PAGE)) }, t("Back")), on = el("button", { onclick: () => turn(look.start + PAGE) }, t("Next"));

  function turn(start, more = {}) {
    Object.assign(look, more, { start });
    draw();
  }

  function draw() {
    const asked = new URLSearchParams({ start: look.start, count: PAGE, order: look.order });
    if (look.wrong) asked.set("wrong", "true");
    if (label.value) asked.set("label", label.value);
    return into(place, async () => {
      const found = await get(of(model, `samples?${asked}`), ending.signal);
      lead.textContent = t("{total} of {of} rows", { total: found.total, of: found.of });
      [back.disabled, on.disabled] = [look.start === 0, look.start + PAGE >= found.total];
      return rows(found.samples, (one) => {
        const is = truth(one), said = short(one.prediction);
        return is === null || is === said ? said : [el("del", {}, said), " ", is];
      }, (one) => { location.hash = at(model.id, "ask", `/${one.row}`); });
    });
  }

  main.append(el("div", { class: "bar" }, classes.length ? [el("label", {}, wrong, t("wrong ones alone")), label, order] : []), lead, place, el("div", { class: "bar" }, back, on));
  return draw();
}

function wandering(model) {
  const place = el("div");
  main.append(place);
  return into(place, async () => {
    const found = await get(of(model, "map"), ending.signal);
    return map(found, Object.keys(model.predicts)[0], (row) => { location.hash = at(model.id, "ask", `/${row}`); }).element;
  });
}

// --- which of them

function show() {
  ending.abort();
  ending = new AbortController();
  paste = null;
  const [, name, view, row] = location.hash.split("/").map((each) => decodeURIComponent(each));
  const model = models.find((each) => each.id === name) ?? models[0];
  if (!model) return main.replaceChildren(el("p", {}, t("No model is served here.")));
  const there = views(model), chosen = (there.find(([each]) => each === view) ?? there[0])?.[0];
  main.replaceChildren(...frame(model, chosen));
  const draw = { ask: () => asking(model, row), rows: () => looking(model), map: () => wandering(model), chat: () => main.append(writing(model, true)), write: () => main.append(writing(model, false)) }[chosen];
  if (draw) draw();
  else main.append(el("p", {}, t("This model gives features alone; there is nothing to ask it here.")));
}

document.addEventListener("paste", (event) => paste?.(event));
window.addEventListener("hashchange", show);

// The models as they are now: one may be exchanged, and the server go away and come back, while the page is open.
async function known() {
  const first = models.length === 0, shown = (each) => JSON.stringify([each.id, each.shows, each.keeps]), before = models.map(shown).join();
  models = (await get("/v1/models")).data;
  if (first || models.map(shown).join() !== before) return show();
  const model = models.find((each) => document.title.startsWith(`${each.id} ·`));
  if (model) document.getElementById("version").textContent = model.system_fingerprint;
}

await speak();
try {
  await follow(known, new AbortController().signal, LOOK);
} catch (error) {
  main.replaceChildren(el("p", { class: "bad", role: "alert" }, error.message));
}
