// What is asked: a text or two, a picture, a sound, the row of a table, or a table of a series.

import { el, t } from "./common.js";
import { parsed, series } from "./series.js";

const LARGEST = 24 * 2 ** 20, LONGEST = 8 * 2 ** 20; // bytes of a file; as base64 it has to fit into a request; of a table

// What people still have to say before something can be asked.
export class Wanting extends Error {}

// A field for what a model reads: `value()` is the item as the server takes it, Wanting where it is none; `set` shows a row of
// the data, `file` takes one. What stands in it is kept in `state.raw`, and stands in it again. `changed` is called when it
// is another, with true when a whole file is, `wrong` with what is the matter with a file.
export function input(model, state, changed, wrong) {
  const make = { text: texts, image: media, audio: media, table: cells, series: moments }[model.reads];
  return make(model, state, changed, wrong);
}

function area(id, label, rows) {
  return [el("label", { for: id }, label), el("textarea", { id, rows, spellcheck: "false" })];
}

// The file, if it is not too large.
function fitting(file, most, wrong) {
  if (file.size <= most) return file;
  wrong(t("{name} has {mib} MiB; expected {most} at most", { name: file.name, mib: (file.size / 2 ** 20).toFixed(0), most: most / 2 ** 20 }));
  return null;
}

// A place to choose a file by, or to drop one on; what is dropped beside it is the page's to take.
function drop(accept, take, ...about) {
  const chosen = el("input", { type: "file", id: "file", accept, class: "hidden", onchange: () => { if (chosen.files[0]) take(chosen.files[0]); chosen.value = ""; } });
  return [chosen, el("label", { for: "file", class: "drop" }, about)];
}

function texts(model, state, changed) {
  const fields = model.pair ? [area("first", t("First text"), 3), area("second", t("Second text"), 3)] : [area("text", t("Text"), 5)];
  const boxes = fields.map(([, box]) => box), keep = () => { state.raw = boxes.map((box) => box.value); };
  const fill = (given) => boxes.forEach((box, i) => { box.value = given?.[i] ?? ""; });
  boxes.forEach((box) => box.addEventListener("input", () => { keep(); changed(); }));
  fill(state.raw);
  return {
    element: el("div", { class: "fields" }, fields.flat()), set: (row) => { fill(row.texts); keep(); },
    value: () => {
      if (!boxes.some((box) => box.value.trim())) throw new Wanting(t("Write a text first."));
      return model.pair ? boxes.map((box) => box.value) : boxes[0].value;
    },
  };
}

function media(model, state, changed, wrong) {
  const picture = model.reads === "image", place = el("div", { class: "preview" });

  function show(address, name) {
    state.raw = address;
    if (!address) return;
    if (!picture) return place.replaceChildren(el("audio", { src: address, controls: true }));
    const image = el("img", { src: address, alt: t("The picture that is asked") });
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 128)); // whose pixels are to be seen
    image.addEventListener("error", () => image.replaceWith(el("p", { class: "note" }, t("{name}: no picture that this browser can show", { name: name ?? "" }))));
    place.replaceChildren(image);
  }

  function take(chosen) {
    if (!fitting(chosen, LARGEST, wrong)) return;
    const reader = new FileReader();
    reader.addEventListener("load", () => { show(reader.result, chosen.name); changed(true); });
    reader.addEventListener("error", () => wrong(t("{name} cannot be read", { name: chosen.name })));
    reader.readAsDataURL(chosen);
  }

  show(state.raw);
  return {
    element: el("div", { class: "fields" }, drop(picture ? "image/*" : "audio/*", take, el("strong", {}, picture ? t("Choose a picture") : t("Choose a sound")), " ", t("or drop or paste one here")), place),
    file: take, set: (row) => show(picture ? row.image : row.sound),
    value: () => {
      if (!state.raw) throw new Wanting(picture ? t("Choose a picture first.") : t("Choose a sound first."));
      return state.raw;
    },
  };
}

function cell(name, column, id) {
  if (column.classes) {
    return el("select", { id, name }, el("option", { value: "" }, "–"), column.classes.map((each) => el("option", { value: each }, each)));
  }
  return el("input", { id, name, autocomplete: "off", inputmode: column.kind === "number" ? "decimal" : null });
}

function cells(model, state, changed) {
  const fields = Object.entries(model.columns).map(([name, column], i) => [name, column, cell(name, column, `cell${i}`)]);
  const keep = () => { state.raw = Object.fromEntries(fields.map(([name, , field]) => [name, field.value])); };

  function fill(given) {
    for (const [name, column, field] of fields) {
      const value = `${given?.[name] ?? ""}`;
      if (column.classes && value && !column.classes.includes(value)) field.append(el("option", { value }, value)); // which the model has not met
      field.value = value;
    }
  }

  function value(name, column, text) {
    const number = Number(text);
    if (column.kind !== "number" || !text.trim() || Number.isNaN(number)) return text || null; // of what is no number the server tells
    if (!Number.isFinite(number)) throw new Wanting(t("{column}: {found} is too large a number", { column: name, found: text }));
    return number;
  }

  fields.forEach(([, , field]) => field.addEventListener("input", () => { keep(); changed(); }));
  fill(state.raw);
  return {
    element: el("div", { class: "cells" }, fields.map(([name, , field]) => el("div", {}, el("label", { for: field.id }, el("bdi", {}, name)), field))),
    set: (row) => { fill(row.cells); keep(); },
    value: () => {
      if (fields.every(([, , field]) => field.value === "")) throw new Wanting(t("Fill in a field first."));
      return Object.fromEntries(fields.map(([name, column, field]) => [name, value(name, column, field.value)]));
    },
  };
}

function moments(model, state, changed, wrong) {
  const [label, box] = area("moments", t("The latest rows of the table, with its head (CSV or JSON)"), 8);
  const wanted = [...new Set([model.series.time, model.series.by, ...Object.keys(model.columns)])].filter(Boolean);
  let read = [null, null];

  function put(text) {
    box.value = state.raw = text;
  }

  async function take(file) {
    if (!fitting(file, LONGEST, wrong)) return;
    put(await file.text());
    changed(true);
  }

  function value() {
    if (!box.value.trim()) throw new Wanting(t("Choose or paste a table first."));
    if (read[0] !== box.value) {
      try {
        read = [box.value, series(model, parsed(box.value))];
      } catch (error) {
        throw new Wanting(t("This is no such table: {why}", { why: error.message }));
      }
    }
    if (!read[1].length) throw new Wanting(t("Choose or paste a table first."));
    return read[1];
  }

  box.addEventListener("input", () => { state.raw = box.value; changed(); });
  put(state.raw ?? "");
  return {
    element: el("div", { class: "fields" }, drop(".csv,.tsv,.txt,.json,text/csv", take, el("strong", {}, t("Choose a table")), " ", t("or drop one here")), label, box,
      el("p", { class: "note" }, t("Columns: {columns}. The model looks at the last {steps} rows.", { columns: wanted.join(", "), steps: model.series.steps }))),
    file: take, set: () => {}, value,
  };
}
