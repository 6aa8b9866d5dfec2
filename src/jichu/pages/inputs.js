// What is asked: a text or two, a picture, a sound, the row of a table, or moments of a series.

import { el, t } from "./common.js";

const LARGEST = 24 * 2 ** 20; // bytes of a file; as base64 it has to fit into a request

// A field for what a model reads: `value()` is the item as the server takes it, null where there is none yet; `set` shows a
// row of the data. `changed` is called when something else is asked, `wrong` with what is the matter with a file.
export function input(model, changed, wrong) {
  const make = { text: texts, image: media, audio: media, table: cells }[model.reads] ?? moments;
  return make(model, changed, wrong);
}

function area(id, label, rows) {
  return [el("label", { for: id }, label), el("textarea", { id, rows, spellcheck: "false" })];
}

function texts(model, changed) {
  const fields = model.pair ? [area("first", t("First text"), 3), area("second", t("Second text"), 3)] : [area("text", t("Text"), 5)];
  const boxes = fields.map(([, box]) => box);
  const value = () => (boxes.some((box) => box.value.trim()) ? (model.pair ? boxes.map((box) => box.value) : boxes[0].value) : null);
  boxes.forEach((box) => box.addEventListener("input", changed));
  return {
    element: el("div", { class: "fields" }, fields.flat()), value,
    set: (row) => boxes.forEach((box, i) => { box.value = row.texts?.[i] ?? ""; }),
  };
}

function media(model, changed, wrong) {
  const picture = model.reads === "image";
  const file = el("input", { type: "file", id: "file", accept: picture ? "image/*" : "audio/*", class: "hidden" });
  const place = el("div", { class: "preview" });
  const drop = el("label", { for: "file", class: "drop" }, el("strong", {}, picture ? t("Choose a picture") : t("Choose a sound")), " ", t("or drop or paste one here"));
  let held = null;

  function show(address) {
    held = address;
    if (!picture) return place.replaceChildren(el("audio", { src: address, controls: true }));
    const image = el("img", { src: address, alt: t("The picture that is asked") });
    image.addEventListener("load", () => image.classList.toggle("small", image.naturalWidth < 128)); // whose pixels are to be seen
    place.replaceChildren(image);
  }

  function take(chosen) {
    if (!chosen) return;
    if (chosen.size > LARGEST) return wrong(t("{name} has {mib} MiB; expected {most} at most", { name: chosen.name, mib: (chosen.size / 2 ** 20).toFixed(0), most: LARGEST / 2 ** 20 }));
    const reader = new FileReader();
    reader.addEventListener("load", () => { show(reader.result); changed(); });
    reader.addEventListener("error", () => wrong(t("{name} cannot be read", { name: chosen.name })));
    reader.readAsDataURL(chosen);
  }

  file.addEventListener("change", () => take(file.files[0]));
  const element = el("div", { class: "fields" }, file, drop, place);
  element.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  element.addEventListener("dragleave", () => drop.classList.remove("over"));
  element.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); take(event.dataTransfer.files[0]); });
  return {
    element, value: () => held, paste: (event) => take(event.clipboardData?.files[0]),
    set: (row) => { if (picture ? row.image : row.sound) show(picture ? row.image : row.sound); },
  };
}

function cell(name, column, id) {
  if (column.classes) {
    return el("select", { id, name }, el("option", { value: "" }, "–"), column.classes.map((each) => el("option", { value: each }, each)));
  }
  return el("input", { id, name, autocomplete: "off", inputmode: column.kind === "number" ? "decimal" : null });
}

function cells(model, changed) {
  const fields = Object.entries(model.columns).map(([name, column], i) => [name, column, cell(name, column, `cell${i}`)]);
  const given = ([, column, field]) => (column.kind === "number" && field.value.trim() !== "" && !Number.isNaN(Number(field.value)) ? Number(field.value) : field.value);
  fields.forEach(([, , field]) => field.addEventListener("input", changed));
  return {
    element: el("div", { class: "cells" }, fields.map(([name, , field]) => el("div", {}, el("label", { for: field.id }, el("bdi", {}, name)), field))),
    value: () => {
      const known = fields.filter(([, , field]) => field.value !== "");
      return known.length ? Object.fromEntries(fields.map((each) => [each[0], each[2].value === "" ? null : given(each)])) : null;
    },
    set: (row) => fields.forEach(([name, , field]) => { field.value = row.cells?.[name] ?? ""; }),
  };
}

function moments(model, changed) {
  const [label, box] = area("moments", t("Rows of the latest moments, as JSON: one object for each, its values by column"), 8);
  box.addEventListener("input", changed);
  return {
    element: el("div", { class: "fields" }, label, box),
    value: () => {
      if (!box.value.trim()) return null;
      return JSON.parse(box.value);
    },
    set: () => {},
  };
}
