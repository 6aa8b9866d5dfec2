// Series in time: a table that is pasted or dropped, and what is forecast after it as lines.

import { el, t } from "./common.js";
import { plot } from "./plot.js";

const DRAWN = 12, SERIES = 12, KEPT = 400; // plots of a series, series of a table, steps before a forecast

// Rows of a table of text: fields between commas, semicolons or tabs, quoted where they hold one.
function cells(text) {
  const first = text.split("\n", 1)[0], marks = [",", ";", "\t"].map((mark) => [first.split(mark).length, mark]).sort((a, b) => b[0] - a[0]), mark = marks[0][1];
  const found = [];
  let row = [], field = "", quoted = false;
  const close = () => { row.push(field.trim()); field = ""; };
  const end = () => { close(); if (row.length > 1 || row[0]) found.push(row); row = []; };
  for (let i = 0; i < text.length; i++) {
    const sign = text[i];
    if (quoted) {
      if (sign !== '"') field += sign;
      else if (text[i + 1] === '"') field += text[++i];
      else quoted = false;
    } else if (sign === '"' && !field.trim()) quoted = true;
    else if (sign === mark) close();
    else if (sign === "\n") end();
    else if (sign !== "\r") field += sign;
  }
  end();
  return [found, mark];
}

const EMPTY = /^(|na|nan|null|none|-)$/i;

function value(text, mark) {
  if (EMPTY.test(text)) return null;
  const said = mark === ";" ? text.replace(/^([-+]?\d+),(\d+)$/, "$1.$2") : text, number = Number(said);
  return Number.isFinite(number) ? number : text;
}

// Objects, one a row, of a table with a head, or of JSON. Error where it is neither.
export function parsed(text) {
  if (/^\s*[[{]/.test(text)) return [JSON.parse(text)].flat();
  const [[head, ...rows], mark] = cells(text.replace(/^\ufeff/, ""));
  const odd = rows.findIndex((row) => row.length !== head.length);
  if (odd >= 0) throw new Error(t("row {row} has {found} fields; expected {expected}", { row: odd + 1, found: rows[odd].length, expected: head.length }));
  return rows.map((row) => Object.fromEntries(row.map((field, i) => [head[i], value(field, mark)])));
}

function when(time) {
  return typeof time === "number" ? time : Date.parse(time);
}

// The first of so many series (`among`) of a table: the name of each, and the latest of so many rows (`of`) in the order of
// their times. Error where a value is no number.
export function series(model, rows) {
  const { time, by, steps } = model.series, groups = new Map();
  rows.forEach((row, i) => {
    for (const column of Object.keys(model.columns)) {
      if (typeof (row[column] ?? 0) !== "number") throw new Error(t("row {row}: {column} is {found}; expected a number", { row: i + 1, column, found: `${row[column]}` }));
    }
    const name = by ? `${row[by] ?? ""}` : "";
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  });
  return [...groups].slice(0, SERIES).map(([name, mine]) => {
    const ordered = time && mine.every((row) => !Number.isNaN(when(row[time]))) ? mine.sort((a, b) => when(a[time]) - when(b[time])) : mine;
    return { name, among: groups.size, of: ordered.length, rows: ordered.slice(-Math.max(KEPT, steps)) };
  });
}

function line(name, first, values) {
  const there = values.map((value, i) => [first + i, value]).filter(([, value]) => typeof value === "number");
  return { label: [name], steps: there.map(([step]) => step), values: there.map(([, value]) => value) };
}

// What is known, and after it what is forecast: a figure for each column, those that are forecast first.
function figures(model, { of, rows }, answer) {
  const columns = [...new Set([...Object.keys(answer), ...Object.keys(model.columns)])];
  const shown = rows.slice(-Math.max(model.series.steps, 4 * Object.values(answer)[0].length)), first = of - shown.length + 1;
  const made = columns.slice(0, DRAWN).map((column) => {
    const figure = plot(column), lines = [line(t("known"), first, shown.map((row) => row[column]))];
    figure.draw(answer[column] ? [...lines, line(t("forecast"), of + 1, answer[column])] : lines, {});
    return figure;
  });
  return [el("div", { class: "plots" }, made), columns.length > DRAWN ? el("p", { class: "note" }, t("{count} more columns are not drawn.", { count: columns.length - DRAWN })) : null];
}

// The answers of a model to some series, under headings.
export function forecast(model, answers, heading, asked) {
  const title = (one, i) => el(heading, {}, t("The next {count} steps", { count: Object.values(answers[i])[0].length }), one.name ? [" · ", el("bdi", {}, one.name)] : null);
  const left = asked[0].among - asked.length;
  return [asked.map((one, i) => el("section", {}, title(one, i), figures(model, one, answers[i]))), left ? el("p", { class: "note" }, t("{count} more series are not shown.", { count: left })) : null];
}
