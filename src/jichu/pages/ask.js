// A model is asked, its answer looked into, and corrected.

import { el, get, number, post, t } from "./common.js";
import { changed, explained, rows, told, truth } from "./answers.js";
import { Wanting, input } from "./inputs.js";
import { map } from "./map.js";
import { into, leave } from "./places.js";
import { forecast } from "./series.js";

const LIKE = 8, NEAR = 1e-3; // rows; a distance that says nothing to people

const splits = () => ({ train: t("training data"), validation: t("validation data"), test: t("test data") });
const same = (a, b) => a === b || JSON.stringify(a) === JSON.stringify(b);

// A part that is asked for when it is opened, and anew when something else was asked while it is open; whether it is, `opened`
// tells of its name.
function part(name, title, opened, signal, ask, show) {
  const place = el("div", { class: "part" }), made = el("details", { open: opened[name] }, el("summary", {}, title), place);
  let stale = true;
  function fill() {
    if (!made.open || !stale) return;
    stale = false;
    into(place, signal, ask, show);
  }
  made.addEventListener("toggle", () => { opened[name] = made.open; fill(); });
  function again() {
    stale = true;
    leave(place);
    if (!made.open) place.replaceChildren();
    fill();
  }
  return { element: made, again };
}

// What a model says of an item; of series, of the end of each.
async function predict(model, item, signal) {
  const ask = async (inputs) => (await post("/v1/predict", { model: model.id, inputs }, signal)).predictions[0];
  return model.reads === "series" ? Promise.all(item.map((each) => ask(each.rows.slice(-model.series.steps)))) : ask([item]);
}

// What is typed, asked and chosen is kept in `state`, from which it is shown again. It takes a `row` of the data, a `file`
// that is dropped or pasted, which models there are now (`among`), and that its model is another (`old`).
export function asking(model, state, { models, signal, of, open }) {
  const result = el("div", { class: "results", "aria-live": "polite" }), trouble = el("div", { role: "alert", class: "bad" }), known = el("p", { class: "note", role: "status" }), older = el("p", { class: "note", role: "status" });
  const more = el("div", { class: "parts", hidden: true });
  const field = input(model, state, edited, (why) => trouble.replaceChildren(why));
  const beside = el("select", { id: "beside", onchange: () => { state.beside = beside.value; if (state.asked !== undefined) go(); } }), choice = el("label", { for: "beside" }, t("beside"), beside);
  let others = [];

  const one = (path, how, until) => post(path, { model: model.id, inputs: [state.asked], ...how }, until);
  const about = (name, title, ask, show) => part(name, title, (state.open ??= {}), signal, ask, show);
  const parts = [
    model.explains && about("explain", t("Why it says so"), (until) => one("/v1/explain", { picture: true }, until), (found) => explained(found.explanations[0])),
    model.shows && about("like", t("What is like it in the training data"), (until) => one("/v1/neighbours", { k: LIKE }, until),
      (found) => rows(found.neighbours[0], (near) => [truth(near), near.distance < NEAR ? t("very near") : t("distance {far}", { far: number(near.distance, 2) })].filter(Boolean).join(" · "), open)),
    model.shows && about("map", t("Where it lies on the map"), async (until) => [await one("/v1/neighbours", { k: 1, place: true }, until), await get(of("map"), until)], ([near, plane]) => {
      const drawn = map(plane, Object.keys(model.predicts)[0], (row) => open({ row }));
      drawn.mark(near.places[0]);
      return drawn.element;
    }),
    model.shows && model.classes && about("change", t("What would change the answer"), (until) => one("/v1/counterfactual", {}, until), (found) => changed(found.counterfactuals[0], open)),
    model.keeps && model.reads !== "series" && about("correct", t("Correct it"), async () => null, () => correcting(model, signal, () => state.asked)),
  ].filter(Boolean);
  more.append(...parts.map((each) => each.element));

  // Whether the answer is one to what stands in the field; else it cannot be looked into, nor corrected.
  function current(is) {
    [result, more].forEach((each) => each.classList.toggle("old", !is));
    more.inert = !is;
  }

  function stands() {
    try {
      return same(field.value(), state.asked);
    } catch {
      return false;
    }
  }

  function edited(whole) {
    leave(trouble);
    trouble.replaceChildren();
    known.replaceChildren();
    if (whole) return go();
    const is = state.asked === undefined || stands(), text = is ? "" : t("The answer is to what stood here before.");
    if (older.textContent !== text) older.textContent = text;
    current(is);
  }

  function go() {
    let item;
    try {
      item = field.value();
    } catch (error) {
      if (!(error instanceof Wanting)) throw error;
      return trouble.replaceChildren(error.message);
    }
    [trouble, older].forEach((each) => each.replaceChildren());
    const some = [model, ...others.filter((each) => each.id === beside.value)];
    current(same(item, state.asked));
    into(result, signal, (until) => Promise.all(some.map((each) => predict(each, item, until))), (found) => {
      state.asked = item;
      more.hidden = false;
      parts.forEach((each) => each.again());
      current(stands());
      const alone = some.length === 1;
      return found.map((answer, i) => el("section", { class: "result" }, alone ? null : el("h2", {}, el("bdi", {}, some[i].id)),
        (model.reads === "series" ? forecast : told)(some[i], answer, alone ? "h2" : "h3", item)));
    });
  }

  function take(find) {
    return into(trouble, signal, find, ({ sample }) => {
      const about = { row: sample.row, split: splits()[sample.split] ?? sample.split, truth: truth(sample) };
      field.set(sample);
      known.textContent = about.truth === null ? t("Row {row} of the data ({split}).", about) : t("Row {row} of the data ({split}), which is {truth}.", about);
      go();
    });
  }

  async function any(until) {
    const page = await get(of("samples?count=1"), until);
    const { samples } = await get(of(`samples?count=1&start=${Math.floor(Math.random() * page.total)}`), until);
    return get(of(`samples?row=${samples[0].row}`), until);
  }

  function among(found) {
    others = found.filter((each) => each.id !== model.id && each.reads === model.reads && !each.writes && Object.keys(each.predicts).length);
    beside.replaceChildren(el("option", { value: "" }, "–"), ...others.map((each) => el("option", { value: each.id }, each.id)));
    beside.value = others.some((each) => each.id === state.beside) ? state.beside : "";
    choice.hidden = !others.length;
  }

  among(models);
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); go(); } }, field.element, trouble,
    el("div", { class: "bar" }, el("button", { class: "mark", type: "submit" }, t("Ask")),
      model.shows ? el("button", { type: "button", onclick: () => take(any) }, t("Any row of the test set")) : null, choice), known, older);
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    go();
  });
  if (state.asked !== undefined) go();
  return {
    element: [el("div", { class: "asking" }, form, result), more], among, file: field.file, old: () => current(false),
    row: (number_) => take((until) => get(of(`samples?row=${encodeURIComponent(number_)}`), until)),
  };
}

// --- what is right instead

function correcting(model, signal, item) {
  const columns = Object.entries(model.predicts), required = columns.length === 1;
  const fields = columns.map(([column, target], i) => {
    const id = `right${i}`, number_ = target.task === "regression", choose = target.classes.length && target.task !== "multilabel";
    return [column, target, choose ? el("select", { id, required }, el("option", { value: "" }, ""), target.classes.map((each) => el("option", { value: each }, each)))
      : el("input", { id, required, autocomplete: "off", ...(number_ ? { type: "number", step: "any" } : {}) })];
  });
  const tags = (text) => text.split(",").map((tag) => tag.trim()).filter((tag) => tag && tag !== "–" && tag !== "-");
  const value = ([, target, box]) => (target.task === "multilabel" ? tags(box.value) : target.task === "regression" ? box.valueAsNumber : box.value);
  const note = el("input", { id: "remark", maxlength: 2000 }), done = el("div", { class: "note", role: "status" });

  function keep(event) {
    event.preventDefault();
    const given = fields.filter(([, , box]) => box.value.trim() !== "");
    const answer = required ? value(given[0] ?? fields[0]) : Object.fromEntries(given.map((each) => [each[0], value(each)]));
    into(done, signal, (until) => post("/v1/feedback", { model: model.id, input: item(), answer, note: note.value || null }, until), () => {
      form.reset();
      return t("Kept; the next fine-tuning can learn from it.");
    }, false); // else it might be kept twice
  }
  const form = el("form", { class: "fields", onsubmit: keep }, fields.map(([column, target, box]) => [
    el("label", { for: box.id }, t("What is right"), " (", el("bdi", {}, column), target.task === "multilabel" ? `, ${t("tags with commas between them, – for none")}` : "", ")"), box]).flat(),
    el("label", { for: "remark" }, t("Remark")), note, el("div", { class: "bar" }, el("button", { class: "mark" }, t("Keep"))), done);
  return form;
}
