// Lines over steps as SVG: read by eye, by pointer, by arrow keys and as a table.

import { el, number, t } from "./common.js";

const SVG = "http://www.w3.org/2000/svg", COLOURS = 7, DASHES = 6, ROWS = 60, NAMES = 8, LETTERS = 24;
const W = 520, H = 240, LEFT = 56, RIGHT = 10, TOP = 8, BOTTOM = 26, LINE = 14, LETTER = 6.5;

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

// What a line has at a step: nothing before its first or after its last.
function value(line, step) {
  return step < line.steps[0] || step > line.steps.at(-1) ? null : line.drawn[nearest(line.steps, step)];
}

// The parts in which some labels differ, each as a text.
function telling(labels) {
  return labels.map((label) => label.filter((part) => !labels.every((other) => other.includes(part))).join(" · ") || label.join(" · "));
}

// Lines that can be told apart: by colour, and by dashes where several have one, or there are more than colours.
function dressed(lines, smooth) {
  const names = telling(lines.map((line) => line.label)), dashes = 1 + Math.max(0, ...lines.map((line) => line.dash ?? 0));
  return lines.map((line, i) => {
    const colour = line.colour ?? i, dash = (line.dash ?? 0) + dashes * Math.floor(colour / COLOURS);
    return { ...line, name: line.label.join(" · "), short: names[i], look: `c${colour % COLOURS} d${dash % DASHES}`, drawn: smooth ? smoothed(line.values, smooth) : line.values };
  });
}

// A figure; `draw(lines, {log, smooth})` shows lines [{label, steps, values}] in it, a label being
// a list of parts, and may be called again.
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
    return svg("path", { d: dot ? `${d}h.01` : d, class: `line ${dot ? "dot" : kind} ${line.look}`, "stroke-linecap": "round" });
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

  // Names where lines end, those that find room there: all are in the key.
  function labels() {
    if (lines.length < 2 || lines.length > NAMES) return [];
    const placed = [];
    for (const line of lines) {
      const i = line.drawn.findLastIndex((v) => !how.log || v > 0);
      if (i < 0) continue;
      const text = line.short.length > LETTERS ? `${line.short.slice(0, LETTERS - 1)}…` : line.short, end = x(line.steps[i]), wide = LETTER * text.length;
      const late = end > (LEFT + W) / 2, left = late ? end - wide - 2 : end + 4, wanted = y(line.drawn[i]) - 4;
      const free = (at) => at > TOP && at < H - BOTTOM && placed.every((p) => Math.abs(p.at - at) >= LINE || p.left > left + wide || left > p.left + p.wide);
      const at = [wanted, wanted - LINE, wanted + LINE].find(free);
      if (at !== undefined) placed.push({ text, left, wide, at, x: late ? end - 2 : left, anchor: late ? "end" : "start" });
    }
    return placed.map(({ text, at, x: place, anchor }) => {
      const made = svg("text", { x: place, y: at, "text-anchor": anchor, class: "name" });
      made.textContent = text;
      return made;
    });
  }

  function legend() {
    key.replaceChildren(...lines.map((line) => {
      const swatch = svg("svg", { viewBox: "0 0 24 4", "aria-hidden": "true" }, svg("path", { d: "M0 2h24", class: `line ${line.look}` }));
      return el("li", {}, swatch, el("bdi", {}, line.name), el("b", {}, number(at === null ? line.drawn.at(-1) : value(line, at))));
    }), ...(at === null ? [] : [el("li", {}, t("step {step}", { step: at.toLocaleString("en") }))]));
  }

  function told(step) {
    return [t("step {step}", { step }), ...lines.map((line) => `${line.name} ${number(value(line, step))}`)].join(", ");
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
        lines.map((line) => el("td", {}, number(value(line, step)))))))));
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
    lines = dressed(given.filter((line) => line.steps.length), how.smooth);
    steps = [...new Set(lines.flatMap((line) => line.steps))].sort((a, b) => a - b);
    const bounds = scales();
    canvas.replaceChildren(...grid(bounds),
      ...(how.smooth ? lines.map((line) => path(line, line.values, "raw")) : []), ...lines.map((line) => path(line, line.drawn, "")), ...labels());
    about.textContent = lines.map((line) => t("{name}: {count} points, from {first} to {last}", {
      name: line.name, count: line.steps.length, first: number(line.values[0]), last: number(line.values.at(-1)) })).join("; ");
    picture.setAttribute("aria-valuemin", steps[0] ?? 0);
    picture.setAttribute("aria-valuemax", steps.at(-1) ?? 0);
    cursor(at === null || !steps.length ? null : steps[nearest(steps, at)]);
    fill();
  };
  return box;
}
