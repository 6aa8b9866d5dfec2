// The board: a table of runs, the page of one, several side by side. What is shown is told by the address after #.

import { Refused, ask, clock, date, dialog, el, follow, get, hasToken, interval, language, mib, number, post, request, speak, t } from "./common.js";
import { plot } from "./plot.js";

const PAGE = 100, POINTS = 3000, STATES = ["running", "finished", "failed", "interrupted", "damaged"];
const main = document.getElementById("main");
let ending = new AbortController();
const chosen = new Set(); // names of the runs that are to be compared
const list = { search: "", state: "", tag: "", sort: "started", reverse: false, start: 0 };
const drawn = { log: false, smooth: 0 };

const of = (name, rest = "") => `/api/runs/${encodeURIComponent(name)}${rest}`;
const link = (name) => `#/run/${encodeURIComponent(name)}`;
const said = { // names that the server gives, in the language of the page
  running: () => t("running"), finished: () => t("finished"), failed: () => t("failed"), interrupted: () => t("interrupted"),
  damaged: () => t("damaged"), report: () => t("Report"), data: () => t("Data"), card: () => t("Model card"), compression: () => t("Compression"),
};
const state = (run) => el("span", { class: `state ${STATES.includes(run.state) ? run.state : ""}` }, said[run.state]?.() ?? run.state);
const tags = (run) => run.tags.map((tag) => el("span", { class: "tag" }, tag));

function scroll(title, ...inside) {
  return el("div", { class: "scroll", role: "group", "aria-label": title, tabindex: "0" }, ...inside);
}

function table(title, heads, rows, kind = "differs") {
  return scroll(title, el("table", { class: kind },
    el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value) => el("td", {}, el("bdi", {}, value))))))));
}

function switches() {
  const other = language() === "en" ? "zh" : "en";
  return el("button", { class: "end", lang: other === "zh" ? "zh-Hans" : "en", onclick: async () => { await speak(other); show(); } }, other === "zh" ? "中文" : "English");
}

function frame(title, ...more) {
  document.title = `${title} · Jichu`;
  return el("div", { class: "top" }, el("h1", {}, el("bdi", {}, title)), ...more);
}

function trouble(error) {
  if (error instanceof Refused) main.append(el("ul", { class: "remarks" }, el("li", {}, error.message)));
  else throw error;
}

// --- all runs

function headline(run) {
  const [name, figure] = Object.entries(run.headline)[0] ?? [];
  if (name) return [el("bdi", {}, `${name} `), interval(figure)];
  const [logged, value] = Object.entries(run.latest)[0] ?? [];
  return logged ? [el("bdi", {}, `${logged} `), number(value)] : [];
}

function listed(signal) {
  const body = el("tbody"), head = el("tr"), lead = el("p", { class: "lead", role: "status" }), about = t("Runs");
  const search = el("input", { type: "search", placeholder: t("Search names, stages, tags"), "aria-label": t("Search names, stages, tags"), value: list.search });
  const byState = el("select", { "aria-label": t("State") }), byTag = el("select", { "aria-label": t("Tag") });
  const bySort = el("select", { "aria-label": t("Sort by") });
  const compare = el("button", { class: "mark", onclick: () => { location.hash = `#/compare/${[...chosen].map(encodeURIComponent).join(",")}`; } }, t("Compare"));
  const back = el("button", { onclick: () => turn(-PAGE) }, t("Back")), on = el("button", { onclick: () => turn(PAGE) }, t("Next"));
  let told = null, again = 0;

  main.replaceChildren(frame(about, switches()), lead,
    el("div", { class: "bar" }, search, byState, byTag, bySort, compare),
    scroll(about, el("table", { class: "runs" }, el("thead", {}, head), body)), el("div", { class: "bar" }, back, on));

  function turn(by) {
    list.start = Math.max(0, list.start + by);
    now();
    main.focus();
  }

  function options(select, values, current, all) {
    const key = JSON.stringify([values, current]);
    if (select.key === key) return;
    select.key = key;
    select.replaceChildren(...(all ? [el("option", { value: "" }, all)] : []), ...values.map(([value, text]) => el("option", { value }, text)));
    select.value = current;
  }

  function column(key, text, kind) {
    const sorted = list.sort === key;
    const up = list.reverse === (key !== "name" && key !== "state");
    const press = () => { list.reverse = sorted && !list.reverse; list.sort = key; list.start = 0; now(); };
    return el("th", { scope: "col", class: kind, "aria-sort": sorted ? (up ? "ascending" : "descending") : null },
      el("button", { class: "plain", onclick: press }, text, sorted ? (up ? " ↑" : " ↓") : ""));
  }

  function row(run) {
    const pick = el("input", { type: "checkbox", checked: chosen.has(run.name), "aria-label": t("Compare {name}", { name: run.name }), onchange: () => {
      if (pick.checked) chosen.add(run.name);
      else chosen.delete(run.name);
      compare.disabled = chosen.size < 2;
    } });
    return el("tr", {}, el("td", {}, pick),
      el("td", { class: "name" }, el("a", { href: link(run.name) }, el("bdi", {}, run.name)), el("div", {}, tags(run)), run.why ? el("span", { class: "why" }, run.why) : null),
      el("td", {}, state(run)), el("td", { class: "result" }, headline(run)),
      el("td", { class: "wide" }, el("bdi", {}, run.stage), run.step === null ? "" : ` ${run.step.toLocaleString("en")}`),
      el("td", { class: "number" }, date(run.started)), el("td", { class: "number wide" }, clock(run.seconds)), el("td", { class: "number wide" }, mib(run.bytes)));
  }

  function draw(found) {
    const moved = found !== told;
    told = found;
    if (!moved) return;
    lead.replaceChildren(el("bdi", {}, found.folder), " · ", t("{found} of {all} runs", { found: found.found.toLocaleString("en"), all: found.all.toLocaleString("en") }));
    options(byState, Object.entries(found.states).map(([name, count]) => [name, `${said[name]()} (${count.toLocaleString("en")})`]), list.state, t("every state"));
    options(byTag, Object.entries(found.tags).map(([name, count]) => [name, `${name} (${count.toLocaleString("en")})`]), list.tag, t("every tag"));
    const keys = [["started", t("newest first")], ["name", t("name")], ["state", t("state")], ["seconds", t("took")], ["size", t("size")], ...found.metrics.map((name) => [name, name])];
    if (!keys.some(([key]) => key === list.sort)) keys.push([list.sort, list.sort]);
    options(bySort, keys, list.sort);
    head.replaceChildren(el("th", { scope: "col" }, el("span", { class: "hidden" }, t("Compare"))), column("name", t("run")), column("state", t("state")), el("th", { scope: "col" }, t("result")),
      el("th", { scope: "col", class: "wide" }, t("stage")), column("started", t("started"), "number"), column("seconds", t("took"), "number wide"), column("size", "MiB", "number wide"));
    const focused = document.activeElement?.closest?.("tr"), index = focused?.parentNode === body ? [...body.children].indexOf(focused) : -1;
    const inside = index >= 0 ? [...focused.querySelectorAll("a, input")].indexOf(document.activeElement) : -1;
    body.replaceChildren(...found.runs.map(row));
    if (inside >= 0) body.children[index]?.querySelectorAll("a, input")[inside]?.focus();
    compare.disabled = chosen.size < 2;
    back.disabled = found.start === 0;
    on.disabled = found.start + found.runs.length >= found.found;
  }

  const now = () => look().catch((error) => { if (error instanceof Refused && !signal.aborted) trouble(error); });

  async function look() {
    const asked = new URLSearchParams({ search: list.search, sort: list.sort, reverse: list.reverse, start: list.start, most: PAGE });
    if (list.state) asked.append("state", list.state);
    if (list.tag) asked.append("tag", list.tag);
    const mine = ++again, found = await get(`/api/runs?${asked}`, signal);
    if (mine === again) draw(found);
  }

  const changed = (key, input) => () => { list[key] = input.value; list.start = 0; if (key === "sort") list.reverse = false; now(); };
  search.addEventListener("input", changed("search", search));
  byState.addEventListener("change", changed("state", byState));
  byTag.addEventListener("change", changed("tag", byTag));
  bySort.addEventListener("change", changed("sort", bySort));
  return follow(look, signal);
}

// --- curves

// The rows of a file of a run as they come: only what is new is asked for, all of it anew when that has become too much.
class Feed {
  constructor(name, file) {
    Object.assign(this, { name, file });
    this.forget();
  }

  // Names are those of a run: an object without a prototype takes any.
  forget() {
    Object.assign(this, { at: "", stages: Object.create(null), damaged: 0, last: null });
  }

  async read(signal) {
    for (let more = true; more;) {
      const told = await get(of(this.name, `/${this.file}?after=${this.at}`), signal);
      if (told === this.last) return false;
      const moved = told.at !== this.at;
      if (told.anew || !told.at) this.forget();
      this.last = told;
      this.at = told.at;
      this.damaged += moved ? told.damaged : 0;
      if (moved) this.add(told.stages);
      more = told.more;
    }
    if (this.longest() > POINTS && !this.anew) {
      this.forget();
      this.anew = true;
      await this.read(signal);
    }
    this.anew = false;
    return true;
  }

  add(stages) {
    for (const [stage, lines] of Object.entries(stages)) {
      const here = (this.stages[stage] ??= Object.create(null));
      for (const [name, [steps, values]] of Object.entries(lines)) {
        const line = (here[name] ??= { steps: [], values: [] });
        line.steps.push(...steps);
        line.values.push(...values);
      }
    }
  }

  longest() {
    return Math.max(0, ...Object.values(this.stages).flatMap((lines) => Object.values(lines).map((line) => line.steps.length)));
  }
}

// Figures of several feeds: one for each name that is logged, `share/data` among those of `share`, in it a line for each run
// and stage.
function figures(feeds, place, only = () => true) {
  const made = new Map();
  return () => {
    const found = new Map();
    feeds.forEach((feed, number_) => {
      for (const [stage, lines] of Object.entries(feed.stages)) {
        for (const [name, line] of Object.entries(lines)) {
          if (!only(name)) continue;
          const [group, ...part] = name.split("/"), many = feeds.length > 1;
          if (!found.has(group)) found.set(group, []);
          const label = [many ? feed.name : "", !many || Object.keys(feed.stages).length > 1 ? stage : "", ...part].filter(Boolean).join(" · ");
          found.get(group).push({ ...line, name: label, colour: many ? number_ : undefined });
        }
      }
    });
    for (const [name, lines] of found) {
      if (!made.has(name)) {
        made.set(name, plot(name));
        place.append(made.get(name));
      }
      made.get(name).draw(lines, drawn);
    }
  };
}

function controls(redraw) {
  const log = el("input", { type: "checkbox", checked: drawn.log, onchange: () => { drawn.log = log.checked; redraw(); } });
  const smooth = el("input", { type: "range", min: "0", max: "0.98", step: "0.02", value: drawn.smooth, oninput: () => { drawn.smooth = Number(smooth.value); redraw(); } });
  return el("div", { class: "bar" }, el("label", {}, log, t("logarithmic")), el("label", {}, t("smoothing"), smooth));
}

// --- one run

async function view(name, page, title) {
  const answer = await request(`/files/${encodeURIComponent(name)}/${page}`);
  if (!answer.ok) return;
  const address = URL.createObjectURL(await answer.blob());
  const box = dialog({ class: "viewer", "aria-label": title },
    el("div", { class: "bar" }, el("strong", {}, title), el("button", { class: "end", onclick: () => box.close() }, t("Close"))),
    el("iframe", { sandbox: "", src: address, title }));
  box.addEventListener("close", () => URL.revokeObjectURL(address));
}

function pages(run) {
  return run.pages.map((page) => {
    const title = said[page](), made = el("a", { href: `/files/${encodeURIComponent(run.name)}/${page}`, target: "_blank", rel: "noopener" }, title);
    made.addEventListener("click", (event) => {
      if (!hasToken()) return; // an address can carry no token, and none is to stand in one
      event.preventDefault();
      view(run.name, page, title);
    });
    return el("li", {}, made);
  });
}

function sample(run, name) {
  const place = el("li", {}, el("span", {}, name));
  request(`/files/${encodeURIComponent(run.name)}/examples/${encodeURIComponent(name)}`).then(async (answer) => {
    if (!answer.ok) return;
    const address = URL.createObjectURL(await answer.blob());
    place.prepend(name.endsWith(".png") ? el("img", { src: address, alt: "" }) : el("audio", { src: address, controls: true }));
  }, () => {});
  return place;
}

function cards(run) {
  return Object.entries(run.headline).map(([name, figure], i) => el("div", { class: i ? "card" : "card first" }, el("span", {}, el("bdi", {}, name)), el("b", {}, number(figure.value)),
    el("span", {}, figure.low === null ? "" : `[${number(figure.low)}, ${number(figure.high)}]`)));
}

async function stop(run) {
  if (!(await ask(t("Stop {name}? It ends after this step and can be gone on with by --resume.", { name: run.name }), t("Stop it"), "stop"))) return;
  try {
    await post(of(run.name, "/stop"));
  } catch (error) {
    trouble(error);
  }
}

async function label(run, add, remove) {
  try {
    await post(of(run.name, "/tags"), { add, remove });
  } catch (error) {
    trouble(error);
  }
}

function one(name, signal) {
  const metrics = new Feed(name, "metrics"), timing = new Feed(name, "timing");
  const lead = el("p", { class: "lead" }), top = el("div"), note = el("p", { class: "note" });
  const plots = el("div", { class: "plots" }), speed = el("div", { class: "plots" }), rest = el("div");
  const drawMetrics = figures([metrics], plots), drawSpeed = figures([timing], speed, (key) => key === "samples_per_second" || key.startsWith("share/"));
  const redraw = () => { drawMetrics(); drawSpeed(); };
  const tagging = el("button", { onclick: tagIt }, t("Tags")), ender = el("button", { class: "stop", hidden: true, onclick: () => stop(shown) }, t("Stop"));
  let shown = null;

  main.replaceChildren(el("p", {}, el("a", { href: "#/" }, t("All runs"))), frame(name, el("span", {}, ender, " ", tagging, " ", switches())), lead, top,
    el("h2", {}, t("While training")), controls(redraw), plots, note, el("h2", {}, t("Speed")), speed, rest);

  async function tagIt() {
    const field = el("input", { id: "tags", value: shown.tags.join(" ") });
    const box = dialog({ "aria-label": t("Tags") }, el("form", { method: "dialog" }, el("label", { for: "tags" }, t("Tags, with blanks between them")), field,
      el("div", { class: "bar" }, el("button", { value: "", type: "button", onclick: () => box.close() }, t("Cancel")), el("button", { class: "mark", value: "yes" }, t("Keep")))));
    box.addEventListener("close", () => {
      const wanted = field.value.split(/\s+/).filter(Boolean);
      if (box.returnValue === "yes") label(shown, wanted.filter((tag) => !shown.tags.includes(tag)), shown.tags.filter((tag) => !wanted.includes(tag))).then(tell);
    });
  }

  async function tell() {
    const run = await get(of(name), signal);
    if (run === shown) return;
    shown = run;
    ender.hidden = run.state !== "running";
    lead.replaceChildren(state(run), " · ", el("bdi", {}, run.stage), run.step === null ? "" : ` ${run.step.toLocaleString("en")}${run.steps ? ` / ${run.steps.toLocaleString("en")}` : ""}`,
      run.state === "running" && run.steps && run.step !== null ? el("span", {}, " ", el("progress", { max: run.steps, value: run.step, "aria-label": t("progress") })) : "",
      ` · ${date(run.started)} · ${clock(run.seconds)} · ${mib(run.bytes)} MiB `, ...tags(run));
    top.replaceChildren(...(run.headline && Object.keys(run.headline).length ? [el("div", { class: "cards" }, cards(run))] : []),
      ...(run.why || run.damaged.length || run.warnings.length ? [el("ul", { class: "remarks" }, [run.why, ...run.damaged, ...run.warnings].filter(Boolean).map((text) => el("li", {}, text)))] : []),
      ...(run.pages.length ? [el("nav", { "aria-label": t("Pages of this run") }, el("ul", {}, pages(run)))] : []));
    const open = [...rest.querySelectorAll("details")].map((part) => part.open);
    rest.replaceChildren(
      ...(run.stages.length ? [el("h2", {}, t("Stages")), table(t("Stages"), [t("stage"), t("took"), t("rows a second"), t("utilisation")], run.stages.map((stage) =>
        [stage.name, clock(stage.seconds), number(stage.samples_per_second), stage.utilisation === null ? "–" : `${(100 * stage.utilisation).toFixed(1)}%`]))] : []),
      ...(run.examples.length ? [el("h2", {}, t("Samples")), el("ul", { class: "samples" }, run.examples.map((file) => sample(run, file)))] : []),
      el("h2", {}, t("How it was made")), el("details", {}, el("summary", {}, t("Recipe")), el("pre", { tabindex: "0" }, run.recipe)),
      el("details", {}, el("summary", {}, t("Environment")), el("pre", { tabindex: "0" }, JSON.stringify(run.environment, null, 2))));
    rest.querySelectorAll("details").forEach((part, i) => { part.open = open[i] ?? false; });
  }

  return follow(async () => {
    await tell();
    if (await metrics.read(signal)) drawMetrics();
    if (await timing.read(signal)) drawSpeed();
    const empty = !Object.keys(metrics.stages).length ? t("Nothing is logged yet.") : "";
    note.textContent = metrics.damaged ? t("{count} damaged rows are left out.", { count: metrics.damaged }) : empty;
  }, signal).catch((error) => gone(error, name));
}

function gone(error, name) {
  if (!(error instanceof Refused) || error.status !== 404) return trouble(error);
  main.prepend(el("ul", { class: "remarks", role: "alert" }, el("li", {}, t("The run {name} is gone; what is shown is what was last known of it.", { name }))));
}

// --- several

async function compared(names, signal) {
  const feeds = names.map((name) => new Feed(name, "metrics"));
  const plots = el("div", { class: "plots" }), draw = figures(feeds, plots), facts = el("div"), rows = el("div");
  main.replaceChildren(el("p", {}, el("a", { href: "#/" }, t("All runs"))), frame(t("Compare"), switches()),
    el("p", { class: "lead" }, names.flatMap((name, i) => [i ? " · " : "", el("a", { href: link(name) }, el("bdi", {}, name))])), facts, rows, el("h2", {}, t("While training")), controls(draw), plots);
  const query = new URLSearchParams(names.map((name) => ["run", name]));
  get(`/api/compare?${query}`, signal).then((found) => {
    const metrics = Object.entries(found.metrics).map(([name, told]) => [name, ...told.map(interval)]);
    const recipes = Object.entries(found.recipes).map(([key, told]) => [key, ...told.map((value) => (value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value)))]);
    facts.replaceChildren(el("h2", {}, t("Results")), table(t("Results"), [t("metric"), ...found.runs], metrics),
      el("h2", {}, t("What differs in the recipes")), recipes.length ? table(t("What differs in the recipes"), [t("key"), ...found.runs], recipes) : el("p", { class: "note" }, t("Nothing differs.")));
    rows.append(el("button", { onclick: () => byRows(query, rows, signal) }, t("Compare row by row")));
  }).catch((error) => (error instanceof Refused ? trouble(error) : null));
  return follow(async () => {
    const moved = await Promise.all(feeds.map((feed) => feed.read(signal)));
    if (moved.some(Boolean)) draw();
  }, signal).catch((error) => gone(error, names.join(", ")));
}

async function byRows(query, place, signal) {
  place.replaceChildren(el("p", { class: "note", role: "status" }, t("Comparing …")));
  const found = await get(`/api/compare/rows?${query}`, signal).catch((error) => ({ why: error.message }));
  if (found.why) return place.replaceChildren(el("p", { class: "note" }, t("These runs cannot be compared row by row: {why}", { why: found.why })));
  place.replaceChildren(...found.comparisons.flatMap((c) => [el("h3", {}, t("{one} against {two} on the same {rows} rows", { one: c.one, two: c.two, rows: c.rows.toLocaleString("en") })),
    table(c.column, [c.column, t("better by"), ""], Object.entries(c.metrics).map(([name, m]) =>
      [name, interval(m.better_by), m.better_by.low > 0 || m.better_by.high < 0 ? t("more than chance") : t("no more than chance")]))]));
}

// --- which

function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function show() {
  ending.abort();
  ending = new AbortController();
  const [, kind, rest = ""] = location.hash.split("/");
  const names = rest.split(",").filter(Boolean).map(plain), signal = ending.signal;
  const shown = kind === "run" && names.length ? one(plain(rest), signal) : kind === "compare" && names.length ? compared(names, signal) : listed(signal);
  shown.catch((error) => { if (!signal.aborted) trouble(error); });
}

await speak();
addEventListener("hashchange", () => { show(); main.focus(); scrollTo(0, 0); });
show();
