// Lines over steps as SVG: read by eye, by pointer, by arrow keys and as a table.

import { el, number, t } from "./common.js";

const SVG = "http://www.w3.org/2000/svg", COLOURS = 7, ROWS = 60;
const W = 520, H = 240, LEFT = 56, RIGHT = 10, TOP = 8, BOTTOM = 26;

function svg(name, about = {}, ...inside) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(about)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

// Exponential moving average, the bias of its beginning taken out.
export function smoothed(values, share) {
  let mean = 0, weight = 0;
  return values.map((value) => {
    mean = share * mean + (1 - share) * value;
    weight = share * weight + (1 - share);
    return mean / weight;
  });
}

function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1, unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5, 10].find((n) => n * unit >= rough) ?? 10), found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return found;
}

function ends(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  const room = (high - low) * 0.04 || Math.abs(low) * 0.05 || 0.5;
  return [low - room, high + room];
}

function nearest(steps, step) {
  let low = 0, high = steps.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (steps[middle] <= step) low = middle;
    else high = middle - 1;
  }
  return low + 1 < steps.length && steps[low + 1] - step < step - steps[low] ? low + 1 : low;
}

// A figure; `draw(lines, {log, smooth})` shows lines [{name, steps, values}] in it, and may be called again.
export function plot(title) {
  const heading = svg("title"), about = svg("desc"), canvas = svg("g");
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "slider", tabindex: "0", "aria-label": title, "aria-orientation": "horizontal" }, heading, about, canvas);
  const key = el("ul", { class: "key" }), table = el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title });
  const behind = el("details", {}, el("summary", {}, t("As a table")), table);
  const box = el("div", { class: "plot" }, el("h3", {}, title), picture, key, behind);
  let lines = [], steps = [], at = null, x = null, y = null, how = {};
  heading.textContent = title;

  function scales() {
    const shown = how.log ? lines.flatMap((line) => line.drawn.filter((v) => v > 0).map(Math.log10)) : lines.flatMap((line) => line.drawn);
    const [low, high] = ends(shown), first = steps[0] ?? 0, last = steps.at(-1) ?? 1, wide = last - first || 1;
    x = (step) => LEFT + ((step - first) / wide) * (W - LEFT - RIGHT);
    y = (value) => H - BOTTOM - (((how.log ? Math.log10(value) : value) - low) / (high - low)) * (H - TOP - BOTTOM);
    return [low, high, first, first + wide];
  }

  function path(line, values, kind) {
    let d = "", pen = "M";
    values.forEach((value, i) => {
      if (how.log && value <= 0) return (pen = "M");
      d += `${pen}${x(line.steps[i]).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    });
    const dot = values.length === 1 && d;
    return svg("path", { d: dot ? `${d}h.01` : d, class: `line ${dot ? "dot" : kind} c${line.colour}`, "stroke-linecap": "round" });
  }

  function grid([low, high, first, last]) {
    const made = [];
    for (const value of ticks(low, high)) {
      const place = H - BOTTOM - ((value - low) / (high - low)) * (H - TOP - BOTTOM);
      const label = svg("text", { x: LEFT - 6, y: place + 4, "text-anchor": "end" });
      label.textContent = number(how.log ? 10 ** value : value);
      made.push(svg("line", { x1: LEFT, x2: W - RIGHT, y1: place, y2: place, class: "grid" }), label);
    }
    for (const step of ticks(first, last).filter(Number.isInteger)) {
      const label = svg("text", { x: x(step), y: H - 8, "text-anchor": x(step) > W - 40 ? "end" : "middle" });
      label.textContent = step.toLocaleString("en");
      made.push(label);
    }
    return made;
  }

  function legend() {
    key.replaceChildren(...lines.map((line) => {
      const i = at === null ? line.steps.length - 1 : nearest(line.steps, at);
      return el("li", {}, el("i", { class: `c${line.colour}` }), el("bdi", {}, line.name), el("b", {}, number(line.drawn[i])));
    }), ...(at === null ? [] : [el("li", {}, t("step {step}", { step: at.toLocaleString("en") }))]));
  }

  function told(step) {
    return [t("step {step}", { step }), ...lines.map((line) => `${line.name} ${number(line.drawn[nearest(line.steps, step)])}`)].join(", ");
  }

  function cursor(step) {
    at = step;
    canvas.querySelector(".cursor")?.remove();
    if (at !== null) canvas.append(svg("line", { x1: x(at), x2: x(at), y1: TOP, y2: H - BOTTOM, class: "cursor" }));
    const now = at ?? steps.at(-1) ?? 0;
    picture.setAttribute("aria-valuenow", now);
    picture.setAttribute("aria-valuetext", told(now));
    legend();
  }

  function fill() {
    if (!behind.open) return;
    const every = Math.max(1, Math.ceil(steps.length / ROWS));
    const chosen = steps.filter((_, i) => i % every === 0 || i === steps.length - 1);
    table.replaceChildren(el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, t("step")), lines.map((line) => el("th", { scope: "col" }, line.name)))),
      el("tbody", {}, chosen.map((step) => el("tr", {}, el("td", {}, step.toLocaleString("en")),
        lines.map((line) => el("td", {}, number(line.drawn[nearest(line.steps, step)]))))))));
  }

  picture.addEventListener("pointermove", (event) => {
    const place = picture.getBoundingClientRect();
    const wanted = ((event.clientX - place.left) / place.width) * W;
    const share = (wanted - LEFT) / (W - LEFT - RIGHT), first = steps[0] ?? 0;
    if (steps.length) cursor(steps[nearest(steps, first + share * (steps.at(-1) - first))]);
  });
  picture.addEventListener("pointerleave", () => cursor(null));
  picture.addEventListener("blur", () => cursor(null));
  picture.addEventListener("keydown", (event) => {
    const here = at === null ? steps.length - 1 : nearest(steps, at), jump = Math.max(1, Math.round(steps.length / 20));
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, ArrowDown: here - 1, ArrowUp: here + 1, PageUp: here - jump, PageDown: here + jump, Home: 0, End: steps.length - 1 }[event.key];
    if (to === undefined || !steps.length) return;
    event.preventDefault();
    cursor(steps[Math.min(steps.length - 1, Math.max(0, to))]);
  });
  behind.addEventListener("toggle", fill);

  box.draw = (given, options) => {
    how = options;
    lines = given.filter((line) => line.steps.length).map((line, i) => ({
      ...line, colour: (line.colour ?? i) % COLOURS, drawn: how.smooth ? smoothed(line.values, how.smooth) : line.values }));
    steps = [...new Set(lines.flatMap((line) => line.steps))].sort((a, b) => a - b);
    const bounds = scales();
    canvas.replaceChildren(...grid(bounds),
      ...(how.smooth ? lines.map((line) => path(line, line.values, "raw")) : []), ...lines.map((line) => path(line, line.drawn, "")));
    about.textContent = lines.map((line) => t("{name}: {count} points, from {first} to {last}", {
      name: line.name, count: line.steps.length, first: number(line.values[0]), last: number(line.values.at(-1)) })).join("; ");
    picture.setAttribute("aria-valuemin", steps[0] ?? 0);
    picture.setAttribute("aria-valuemax", steps.at(-1) ?? 0);
    cursor(at === null || !steps.length ? null : steps[nearest(steps, at)]);
    fill();
  };
  return box;
}
