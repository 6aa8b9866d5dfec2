// What comes of a question: answers, what they come from, what they are like, and what would change them.

import { el, number, t } from "./common.js";

const BARS = 8; // classes that are shown at once

// Neither all nor nothing is said of what is merely near it.
function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1 %";
  if (share < 1 && share > 0.999) return "> 99.9 %";
  return `${(100 * share).toFixed(share === 0 || share === 1 || (share >= 0.0995 && share < 0.9905) ? 0 : 1)} %`;
}

function bar(name, share, best) {
  return el("li", { class: best ? "best" : "" }, el("span", { class: "name", title: name }, el("bdi", {}, name)),
    el("span", { class: "track" }, el("span", { class: "fill", "data-share": share.toFixed(4) })), el("span", { class: "share" }, percent(share)));
}

// Widths cannot stand in the markup: the page allows no inline styles.
export function drawn(element) {
  for (const fill of element.querySelectorAll(".fill[data-share]")) fill.style.setProperty("width", `${100 * Math.min(1, Math.abs(fill.dataset.share))}%`);
  return element;
}

function bars(scores, is) {
  const ranked = Object.entries(scores).sort((a, b) => b[1] - a[1]), rest = ranked.slice(BARS);
  const list = (some) => el("ul", { class: "bars" }, some.map(([name, share]) => bar(name, share, is(name))));
  return [list(ranked.slice(0, BARS)), rest.length ? el("details", {}, el("summary", {}, t("{count} more", { count: rest.length })), list(rest.slice(0, 1000))) : null];
}

function quantiles(found) {
  const ends = Object.entries(found);
  return el("p", { class: "note" }, ends.map(([share, value]) => `${number(100 * share)} %: ${number(value)}`).join(" · "));
}

function one(answer) {
  if ("label" in answer) {
    return [el("p", { class: "said" }, el("bdi", {}, answer.label), el("small", {}, percent(answer.score))), bars(answer.scores, (name) => name === answer.label)];
  }
  if ("tags" in answer) {
    const said = answer.tags.length ? answer.tags.flatMap((tag) => [el("span", { class: "tag" }, tag), " "]) : [t("none of the tags")];
    return [el("p", { class: "said" }, said), bars(answer.scores, (name) => answer.tags.includes(name))];
  }
  if ("value" in answer) return [el("p", { class: "said" }, number(answer.value)), answer.quantiles ? quantiles(answer.quantiles) : null];
  if ("text" in answer) return [el("pre", {}, answer.text)];
  return [el("pre", {}, JSON.stringify(answer, null, 2).slice(0, 20000))];
}

// Whether probabilities are what they say.
function sureness(model) {
  const classes = Object.values(model.predicts).filter(({ task }) => task === "classification");
  if (!classes.length) return null;
  return el("p", { class: "note" }, classes.every(({ calibrated }) => calibrated)
    ? t("Calibrated: the model is right about as often as it is sure.")
    : t("Not calibrated: how sure the model is need not be how often it is right."));
}

// An answer of a model: of one target, or by column under a heading.
export function told(model, answer, heading) {
  const { rules, ...said } = answer, columns = Object.keys(model.predicts);
  const several = columns.length > 1 && columns.every((column) => column in said);
  const parts = several ? columns.map((column) => el("section", {}, el(heading, {}, el("bdi", {}, column)), one(said[column]))) : one(said);
  return drawn(el("div", { class: "answer" }, parts, sureness(model), rules ? el("p", { class: "note" }, t("Rules: {said}", { said: JSON.stringify(rules) })) : null));
}

// What is said of a row in a line: its class, tags or number.
export function short(answer) {
  if (answer === null || answer === undefined) return "–";
  if (typeof answer !== "object") return typeof answer === "number" ? number(answer) : `${answer}`;
  if (Array.isArray(answer)) return answer.join(", ") || "–";
  for (const key of ["label", "tags", "value"]) if (key in answer) return short(answer[key]);
  return Object.values(answer).map(short).join(" · ");
}

// --- rows of the data

export function shown(row, most = 160) {
  if (row.image) return el("img", { src: row.image, alt: t("row {row}", { row: row.row }), loading: "lazy" });
  if (row.texts) return el("p", { class: "excerpt" }, row.texts.map((text) => text.slice(0, most) + (text.length > most ? " …" : "")).join(" ‖ "));
  if (row.cells) return el("p", { class: "excerpt" }, Object.entries(row.cells).slice(0, 6).map(([name, value]) => `${name} ${value ?? "–"}`).join(" · "));
  return el("p", { class: "excerpt" }, t("row {row}", { row: row.row }));
}

export function truth(row) {
  const known = Object.values(row.truth ?? {});
  return known.length ? known.map(short).join(" · ") : null;
}

export function rows(some, about, open) {
  return el("ul", { class: "rows" }, some.map((row) => el("li", {}, el("button", { class: "row", onclick: () => open(row) },
    shown(row), el("span", { class: "caption" }, about(row))))));
}

// --- what an answer comes from

const FOR = [213, 94, 0], AGAINST = [0, 114, 178]; // orange and blue, which everybody can tell apart

function largest(worth) {
  return worth.flat(2).reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
}

function overlay(found) {
  const worth = found.kind === "audio" ? transposed(found.worth) : found.worth, most = largest(worth);
  const canvas = el("canvas", { width: worth[0].length, height: worth.length, role: "img", "aria-label": t("Where the answer comes from: orange speaks for it, blue against it") });
  const pen = canvas.getContext("2d"), image = pen.createImageData(canvas.width, canvas.height);
  worth.flat().forEach((value, i) => image.data.set([...(value > 0 ? FOR : AGAINST), 230 * Math.abs(value / most) ** 0.7], 4 * i));
  pen.putImageData(image, 0, 0);
  return el("div", { class: "overlay" }, found.picture ? el("img", { src: found.picture, alt: "" }) : null, canvas);
}

const transposed = (worth) => (Array.isArray(worth[0]) ? worth[0].map((_, band) => worth.map((frame) => frame[band])).reverse() : [worth]);

function marked(found) {
  const most = largest(found.worth);
  const spans = found.places.map((place, i) => {
    const made = el("span", {}, place), share = Math.round(70 * Math.abs(found.worth[i] / most));
    made.style.setProperty("background", `color-mix(in srgb, rgb(${(found.worth[i] > 0 ? FOR : AGAINST).join(" ")}) ${share}%, transparent)`);
    return made;
  });
  return el("p", { class: "marked" }, spans);
}

function weighed(found) {
  const most = largest(found.worth), ranked = found.places.map((place, i) => [place, found.worth[i]]).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 20);
  return drawn(el("ul", { class: "bars" }, ranked.map(([name, worth]) => el("li", { class: worth < 0 ? "against" : "" }, el("span", { class: "name", title: name }, el("bdi", {}, name)),
    el("span", { class: "track" }, el("span", { class: "fill", "data-share": (worth / most).toFixed(4) })), el("span", { class: "share" }, number(worth, 2))))));
}

export function explained(found) {
  const draw = { image: overlay, audio: overlay, text: marked, table: weighed }[found.kind] ?? weighed;
  return [draw(found), el("p", { class: "note" }, t("Orange speaks for {answer}, blue against it ({method}). It tells of the model, and not of the world.", { answer: found.answer ?? found.column, method: found.method }))];
}

// --- what would change it

const turned = (by) => ({ mean: t("their mean colour instead"), blur: t("blurred"), silence: t("silent") }[by] ?? by);

function change(one) {
  const turn = (before, after) => [el("del", {}, `${before ?? "–"}`), " → ", after === "" ? t("left out") : el("ins", {}, `${after ?? "–"}`)];
  if ("column" in one) return el("li", {}, el("bdi", {}, `${one.column} `), turn(one.from, one.to));
  if ("box" in one) return el("li", {}, t("pixels {left} to {right} across, {top} to {bottom} down: {by}", { left: one.box[0], top: one.box[1], right: one.box[2], bottom: one.box[3], by: turned(one.by) }));
  if ("seconds" in one) return el("li", {}, t("from {start} to {end} s: {by}", { start: number(one.seconds[0]), end: number(one.seconds[1]), by: turned(one.by) }));
  return el("li", {}, turn(one.from, one.to));
}

// Moments that follow each other are one.
function joined(changes) {
  const found = [];
  for (const one of changes) {
    const last = found.at(-1);
    if (one.seconds && last?.by === one.by && Math.abs(last.seconds[1] - one.seconds[0]) < 1e-9) found[found.length - 1] = { ...last, seconds: [last.seconds[0], one.seconds[1]] };
    else found.push(one);
  }
  return found;
}

export function changed(found, open) {
  const places = joined(found.changes);
  const said = found.found ? t("{before} becomes {after} by these changes ({count}), each of them needed:", { before: short(found.before), after: short(found.after), count: places.length })
    : t("Nothing was found in {tries} tries that makes it another answer than {before}.", { tries: found.tries, before: short(found.before) });
  return [el("p", {}, said), el("ul", {}, places.slice(0, 50).map(change)), found.changed.image ? el("img", { class: "changed", src: found.changed.image, alt: t("The picture as it would have to be") }) : null,
    found.changed.sound ? el("audio", { src: found.changed.sound, controls: true }) : null,
    found.changed.texts ? el("p", { class: "marked" }, found.changed.texts.join(" ‖ ")) : null,
    found.like ? [el("h2", {}, t("The nearest training row of another class")), rows([found.like], (row) => truth(row) ?? "", open)] : null].flat();
}
