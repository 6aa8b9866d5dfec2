// The board: a table of runs, the page of one, several side by side. What is shown is told by the address after #.

import { Refused, ask, clock, date, dialog, el, follow, get, hasToken, interval, language, mib, named, number, patch, post, read, request, speak, t, why } from "./common.js";
import { plot } from "./plot.js";

const PAGE = 100, POINTS = 3000, MOST = 12; // runs of a page, points of a line, runs that are compared
const STATES = ["running", "finished", "failed", "interrupted", "damaged"];
const KEYS = ["started", "name", "state", "seconds", "size"], RISING = ["name", "state"]; // to sort by, beside metrics
const main = document.getElementById("main");
let ending = new AbortController(), remarks = null;
const chosen = new Set(); // names of the runs that are to be compared
const list = { search: "", state: "", tag: "", sort: "started", reverse: false, start: 0 };
const drawn = { log: false, smooth: 0 };

const of = (name, rest = "") => `/api/runs/${encodeURIComponent(name)}${rest}`;
const count = (n) => n.toLocaleString("en");
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
  const change = async () => {
    await speak(other);
    show();
    document.getElementById("language").focus();
  };
  return el("button", { class: "end", id: "language", lang: other === "zh" ? "zh-Hans" : "en", onclick: change }, other === "zh" ? "中文" : "English");
}

// The top of a page, with the one place where it is said what is wrong.
function frame(title, ...more) {
  document.title = `${title} · Jichu`;
  remarks = el("div", { role: "alert" });
  return [el("div", { class: "top" }, el("h1", {}, el("bdi", {}, title)), ...more), remarks];
}

const remarked = (lines) => (lines.length ? el("ul", { class: "remarks" }, lines.map((line) => el("li", {}, line))) : null);
const remark = (...lines) => patch(remarks, remarked(lines));

// --- all runs

// The figure that is sorted by, or the first of the result, or of what was logged last.
function headline(run) {
  const shown = [...Object.entries(run.headline).map(([name, figure]) => [name, interval(figure)]), ...Object.entries(run.latest).map(([name, value]) => [name, number(value)])];
  const first = shown.find(([name]) => name === list.sort) ?? shown[0];
  return first ? [el("bdi", {}, named(first[0])), " ", first[1]] : [];
}

function listed(signal) {
  const body = el("tbody"), head = el("tr"), lead = el("p", { class: "lead", role: "status" }), about = t("Runs");
  const search = el("input", { type: "search", placeholder: t("Search, or a condition: accuracy > 0.9"), "aria-label": t("Search names, stages, tags; or a condition such as accuracy > 0.9"), value: list.search });
  const byState = el("select", { "aria-label": t("State") }), byTag = el("select", { "aria-label": t("Tag") });
  const bySort = el("select", { "aria-label": t("Sort by") }), turned = el("button", { onclick: () => choose({ reverse: !list.reverse }) });
  const compare = el("button", { class: "mark", onclick: () => { location.hash = `#/compare/${[...chosen].map(encodeURIComponent).join(",")}`; } });
  const back = el("button", { onclick: () => turn(-PAGE) }, t("Back")), on = el("button", { onclick: () => turn(PAGE) }, t("Next")), range = el("span", { class: "note" });
  const table = scroll(about, el("table", { class: "runs" }, el("thead", {}, head), body));
  const pages = el("div", { class: "bar" }, back, range, on), instead = el("p", { class: "note", role: "status" });
  let found = null, asked = 0;

  main.replaceChildren(...frame(about, switches()), lead, el("div", { class: "bar" }, search, byState, byTag, bySort, turned, compare), instead, table, pages);

  function choose(what) {
    Object.assign(list, { start: 0 }, what);
    look().catch((error) => { if (!signal.aborted) remark(why(error)); });
  }

  function turn(by) {
    choose({ start: Math.max(0, list.start + by) });
    main.focus();
    scrollTo(0, 0);
  }

  function options(select, values, current) {
    patch(select, values.map(([value, text]) => el("option", { value, "data-key": value }, text)));
    if (select.value !== current) select.value = current;
  }

  const rises = () => RISING.includes(list.sort) !== list.reverse;

  function column(key, text, kind) {
    const sorted = list.sort === key;
    const press = () => choose({ sort: key, reverse: list.sort === key && !list.reverse });
    return el("th", { scope: "col", class: kind, "aria-sort": sorted ? (rises() ? "ascending" : "descending") : null },
      el("button", { class: "plain", onclick: press }, text, sorted ? (rises() ? " ↑" : " ↓") : ""));
  }

  function pick(event, name) {
    if (event.target.checked) chosen.add(name);
    else chosen.delete(name);
    draw();
  }

  function row(run) {
    const picked = chosen.has(run.name);
    return el("tr", { "data-key": run.name },
      el("td", {}, el("input", { type: "checkbox", checked: picked, disabled: !picked && chosen.size >= MOST, "aria-label": t("Compare {name}", { name: run.name }), onchange: (event) => pick(event, run.name) })),
      el("td", { class: "name" }, el("a", { href: link(run.name) }, el("bdi", {}, run.name)), el("div", {}, tags(run)), run.why ? el("span", { class: "why" }, run.why) : null),
      el("td", {}, state(run)), el("td", { class: "result" }, headline(run)),
      el("td", { class: "wide" }, el("bdi", {}, run.stage), run.step === null ? "" : ` ${count(run.step)}`),
      el("td", { class: "number" }, date(run.started)), el("td", { class: "number wide" }, clock(run.seconds)), el("td", { class: "number wide" }, mib(run.bytes)));
  }

  function draw() {
    const last = found.start + found.runs.length;
    const choices = (counts, all, text) => [["", all], ...Object.entries(counts).map(([name, n]) => [name, `${text(name)} (${count(n)})`])];
    patch(lead, el("bdi", {}, found.folder), " · ", t("{found} of {all} runs", { found: count(found.found), all: count(found.all) }));
    options(byState, choices(found.states, t("every state"), (name) => said[name]()), list.state);
    options(byTag, choices(found.tags, t("every tag"), (name) => name), list.tag);
    const metrics = [...new Set([...found.metrics, list.sort])].filter((name) => !KEYS.includes(name));
    options(bySort, [["started", t("started")], ["name", t("name")], ["state", t("state")], ["seconds", t("took")], ["size", t("size")], ...metrics.map((name) => [name, named(name)])], list.sort);
    patch(turned, rises() ? `↑ ${t("rising")}` : `↓ ${t("falling")}`);
    patch(compare, chosen.size < MOST ? `${t("Compare")}${chosen.size ? ` (${chosen.size})` : ""}` : t("Compare ({count}, the most)", { count: MOST }));
    compare.disabled = chosen.size < 2;
    patch(head, el("th", { scope: "col" }, el("span", { class: "hidden" }, t("Compare"))), column("name", t("run")), column("state", t("state")),
      KEYS.includes(list.sort) ? el("th", { scope: "col" }, t("result")) : column(list.sort, named(list.sort)),
      el("th", { scope: "col", class: "wide" }, t("stage")), column("started", t("started"), "number"), column("seconds", t("took"), "number wide"), column("size", "MiB", "number wide"));
    patch(body, found.runs.map(row));
    insteadOf(found.found ? "" : found.all ? t("Nothing matches.") : t("No runs here yet; {command} makes one.", { command: "jichu run" }));
    range.textContent = t("{first} to {last} of {all}", { first: count(found.start + 1), last: count(last), all: count(found.found) });
    [back.disabled, on.disabled] = [found.start === 0, last >= found.found];
  }

  // Why there is no list, in its place.
  function insteadOf(text) {
    if (instead.textContent !== text) instead.textContent = text;
    [instead.hidden, table.hidden, pages.hidden] = [!text, text !== "", text !== "" || found.found <= PAGE];
  }

  async function look() {
    const query = new URLSearchParams({ sort: list.sort, reverse: list.reverse, start: list.start, most: PAGE });
    query.append(/[=<>]/.test(list.search) ? "where" : "search", list.search);
    for (const key of ["state", "tag"]) if (list[key]) query.append(key, list[key]);
    for (const name of chosen) query.append("picked", name);
    const mine = ++asked, told = await get(`/api/runs?${query}`, signal).catch((error) => {
      if (!(error instanceof Refused) || error.status !== 400) throw error;
      return { refused: error.message }; // a condition that is still being written, or one that nobody understands
    });
    if (mine !== asked) return;
    remark();
    if (told.refused) return insteadOf(told.refused);
    if (told === found && instead.hidden) return;
    found = told;
    for (const name of chosen) if (query.getAll("picked").includes(name) && !found.picked.includes(name)) chosen.delete(name);
    draw();
    if (found.start >= found.found && found.start) choose({ start: Math.floor(Math.max(0, found.found - 1) / PAGE) * PAGE });
  }

  search.oninput = () => choose({ search: search.value });
  byState.onchange = () => choose({ state: byState.value });
  byTag.onchange = () => choose({ tag: byTag.value });
  bySort.onchange = () => choose({ sort: bySort.value, reverse: false });
  return follow(look, signal);
}

// --- curves

// So many points of a line at most: the first and the last, and of as many stretches of its steps as can be the least and the
// greatest, so that no peak is lost.
function thinned({ steps, values }, most) {
  const stretches = Math.max(1, Math.floor(most / 2) - 1), wide = (steps.at(-1) - steps[0]) / stretches || 1, found = new Map();
  values.forEach((value, i) => {
    const stretch = Math.floor((steps[i] - steps[0]) / wide), ends = found.get(stretch);
    if (!ends) found.set(stretch, [i, i]);
    else if (value < values[ends[0]]) ends[0] = i;
    else if (value > values[ends[1]]) ends[1] = i;
  });
  const kept = [...new Set([0, ...[...found.values()].flat(), steps.length - 1])].sort((a, b) => a - b);
  return { steps: kept.map((i) => steps[i]), values: kept.map((i) => values[i]) };
}

// The rows of a file of a run as they come: only what is new is asked for.
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
    return true;
  }

  add(stages) {
    for (const [stage, lines] of Object.entries(stages)) {
      const here = (this.stages[stage] ??= Object.create(null));
      for (const [name, [steps, values]] of Object.entries(lines)) {
        const line = (here[name] ??= { steps: [], values: [] });
        line.steps.push(...steps);
        line.values.push(...values);
        if (line.steps.length > POINTS) here[name] = thinned(line, POINTS / 2);
      }
    }
  }
}

// Figures of several feeds: one for each name that is logged, `share/data` among those of `share`, in it a line for each run
// and stage: of one run each in its colour, of several a colour for each run.
function figures(feeds, place, only = () => true) {
  const made = new Map();
  return () => {
    const found = new Map(), many = feeds.length > 1;
    feeds.forEach((feed, colour) => {
      const stages = Object.entries(feed.stages), seen = new Map(); // lines of this run in each figure
      for (const [stage, lines] of stages) {
        for (const [name, line] of Object.entries(lines)) {
          if (!only(name)) continue;
          const [group, ...part] = name.split("/");
          if (!found.has(group)) found.set(group, []);
          const label = [many && feed.name, (!many || stages.length > 1) && stage, ...part.map(named)].filter(Boolean);
          const dash = seen.get(group) ?? 0;
          seen.set(group, dash + 1);
          found.get(group).push({ ...line, label, ...(many ? { colour, dash } : {}) });
        }
      }
    });
    for (const [name, lines] of found) {
      if (!made.has(name)) {
        made.set(name, plot(named(name)));
        place.append(made.get(name));
      }
      made.get(name).draw(lines, drawn);
    }
    return found.size > 0;
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
  if (!answer.ok) await read(answer);
  const address = URL.createObjectURL(await answer.blob());
  const box = dialog({ class: "viewer", "aria-label": title },
    el("div", { class: "bar" }, el("strong", {}, title), el("button", { class: "end", onclick: () => box.close() }, t("Close"))),
    el("iframe", { sandbox: "", src: address, title }));
  box.addEventListener("close", () => URL.revokeObjectURL(address));
}

function pages(run) {
  return run.pages.map((page) => {
    const open = (event) => {
      if (!hasToken()) return; // an address can carry no token, and none is to stand in one
      event.preventDefault();
      view(run.name, page, said[page]()).catch((error) => remark(why(error)));
    };
    return el("li", {}, el("a", { href: `/files/${encodeURIComponent(run.name)}/${page}`, target: "_blank", rel: "noopener", onclick: open }, said[page]()));
  });
}

function sample(run, name, signal) {
  const place = el("li", {}, el("span", {}, name));
  request(`/files/${encodeURIComponent(run.name)}/examples/${encodeURIComponent(name)}`, { signal }).then(async (answer) => {
    if (!answer.ok) return;
    const address = URL.createObjectURL(await answer.blob());
    signal.addEventListener("abort", () => URL.revokeObjectURL(address));
    place.prepend(name.endsWith(".png") ? el("img", { src: address, alt: "" }) : el("audio", { src: address, controls: true }));
  }, () => {});
  return place;
}

function cards(run) {
  return Object.entries(run.headline).map(([name, figure], i) => el("div", { class: i ? "card" : "card first" }, el("span", {}, el("bdi", {}, named(name))), el("b", {}, number(figure.value)),
    el("span", {}, figure.low === null ? "" : `[${number(figure.low)}, ${number(figure.high)}]`)));
}

function stop(run) {
  ask(t("Stop"), el("p", {}, t("Stop {name}? It ends after this step and can be gone on with by --resume.", { name: run.name })), t("Stop it"), () => post(of(run.name, "/stop")), "stop");
}

function label(run) {
  const field = el("input", { id: "tags", value: run.tags.join(" ") });
  ask(t("Tags"), [el("label", { for: "tags" }, t("Tags, with blanks between them")), field], t("Keep"), () => {
    const wanted = field.value.split(/\s+/).filter(Boolean);
    return post(of(run.name, "/tags"), { add: wanted.filter((tag) => !run.tags.includes(tag)), remove: run.tags.filter((tag) => !wanted.includes(tag)) });
  });
}

const missing = (name, known) => (known ? t("The run {name} is gone; what is shown is what was last known of it.", { name }) : t("There is no run {name} here.", { name }));

function leading(run) {
  const step = run.step === null ? "" : ` ${count(run.step)}${run.steps ? ` / ${count(run.steps)}` : ""}`;
  const bar = run.state === "running" && run.steps && run.step !== null ? el("progress", { max: run.steps, value: run.step, "aria-label": t("progress") }) : null;
  const parts = [state(run), run.stage || step ? [el("bdi", {}, run.stage), step, " ", bar] : null, date(run.started), clock(run.seconds), `${mib(run.bytes)} MiB`];
  return [parts.filter(Boolean).map((part, i) => [i ? " · " : "", el("span", {}, part)]), " ", tags(run)];
}

const unfolding = (title, text) => el("details", { "data-key": title }, el("summary", {}, title), el("pre", { tabindex: "0" }, text));

function one(name, signal) {
  const metrics = new Feed(name, "metrics"), timing = new Feed(name, "timing"), samples = new Map();
  const lead = el("p", { class: "lead" }), top = el("div"), note = el("p", { class: "note" }), plots = el("div", { class: "plots" }), speed = el("div", { class: "plots" });
  const stages = el("div"), strip = el("ul", { class: "samples" }), made = el("div");
  const drawMetrics = figures([metrics], plots), drawSpeed = figures([timing], speed, (key) => key === "samples_per_second" || key.startsWith("share/"));
  const trained = el("section", { hidden: true }, el("h2", {}, t("While training")), controls(() => { drawMetrics(); drawSpeed(); }), plots, note);
  const fast = el("section", { hidden: true }, el("h2", {}, t("Speed")), speed);
  const sampled = el("section", { hidden: true }, el("h2", {}, t("Samples")), strip);
  const ender = el("button", { class: "stop", hidden: true, onclick: () => stop(shown) }, t("Stop")), tagging = el("button", { hidden: true, onclick: () => label(shown) }, t("Tags"));
  let shown = null;

  main.replaceChildren(el("p", {}, el("a", { href: "#/" }, t("All runs"))), ...frame(name, el("span", {}, ender, " ", tagging, " ", switches())), lead, top, trained, fast, stages, sampled, made);

  function draw(run) {
    shown = run;
    [ender.hidden, tagging.hidden] = [run.state !== "running", false];
    patch(lead, leading(run));
    patch(top, Object.keys(run.headline).length ? el("div", { class: "cards" }, cards(run)) : null, remarked([run.why, ...run.damaged, ...run.warnings].filter(Boolean)),
      run.pages.length ? el("nav", { "aria-label": t("Pages of this run") }, el("ul", {}, pages(run))) : null);
    const told = run.stages.map((stage) => [stage.name, clock(stage.seconds), number(stage.samples_per_second), stage.utilisation === null ? "–" : `${(100 * stage.utilisation).toFixed(1)}%`]);
    patch(stages, told.length ? [el("h2", {}, t("Stages")), table(t("Stages"), [t("stage"), t("took"), t("rows a second"), t("utilisation")], told)] : null);
    for (const file of run.examples) if (!samples.has(file)) samples.set(file, sample(run, file, signal));
    patch(strip, run.examples.map((file) => samples.get(file)));
    sampled.hidden = !run.examples.length;
    patch(made, el("h2", {}, t("How it was made")), unfolding(t("Recipe"), run.recipe), unfolding(t("Environment"), JSON.stringify(run.environment, null, 2)));
  }

  async function look() {
    const run = await get(of(name), signal);
    if (run !== shown) draw(run);
    const moved = await metrics.read(signal), logged = Object.keys(metrics.stages).length > 0;
    if (moved) drawMetrics();
    note.textContent = metrics.damaged ? t("{count} damaged rows are left out.", { count: metrics.damaged }) : logged ? "" : t("Nothing is logged yet.");
    trained.hidden = !logged && !metrics.damaged && run.state !== "running";
    if (await timing.read(signal)) fast.hidden = !drawSpeed();
    remark();
  }

  return follow(() => look().catch((error) => {
    if (error.status !== 404) throw error;
    remark(missing(name, shown));
  }), signal);
}

// --- several

function compared(every, signal) {
  const names = every.slice(0, MOST), feeds = names.map((name) => new Feed(name, "metrics")), query = new URLSearchParams(names.map((name) => ["run", name]));
  const plots = el("div", { class: "plots" }), draw = figures(feeds, plots), facts = el("div"), rows = el("div");
  const trained = el("section", { hidden: true }, el("h2", {}, t("While training")), controls(draw), plots);
  const most = every.length > MOST ? [t("At most {count} runs are compared at once; these are the first.", { count: MOST })] : [];
  let refused = null, told = false;
  main.replaceChildren(el("p", {}, el("a", { href: "#/" }, t("All runs"))), ...frame(t("Compare"), switches()),
    el("p", { class: "lead" }, names.flatMap((name, i) => [i ? " · " : "", el("a", { href: link(name) }, el("bdi", {}, name))])), facts, rows, trained);

  function sideBySide(found) {
    const text = (value) => (value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value));
    const metrics = Object.entries(found.metrics).map(([name, each]) => [named(name), ...each.map(interval)]);
    const recipes = Object.entries(found.recipes).map(([key, values]) => [key, ...values.map(text)]);
    patch(facts, metrics.length ? [el("h2", {}, t("Results")), table(t("Results"), [t("metric"), ...found.runs], metrics)] : null, el("h2", {}, t("What differs in the recipes")),
      recipes.length ? table(t("What differs in the recipes"), [t("key"), ...found.runs], recipes) : el("p", { class: "note" }, t("Nothing differs.")));
    patch(rows, el("button", { onclick: () => byRows(query, rows, signal) }, t("Compare row by row")));
  }

  async function look() {
    const gone = new Set();
    const moved = await Promise.all(feeds.map((feed) => feed.read(signal).catch((error) => {
      if (error.status !== 404) throw error;
      gone.add(feed);
    })));
    if (moved.some(Boolean)) trained.hidden = !draw();
    if (!told && !gone.size) {
      try {
        sideBySide(await get(`/api/compare?${query}`, signal));
        refused = null;
      } catch (error) {
        if (!(error instanceof Refused) || error.status >= 500) throw error;
        refused = error.message;
      }
      told = true;
    }
    if (gone.size) told = false;
    remark(...most, ...[...gone].map((feed) => missing(feed.name, feed.last)), ...(refused ? [refused] : []));
  }
  return follow(look, signal);
}

async function byRows(query, place, signal) {
  patch(place, el("p", { class: "note", role: "status" }, t("Comparing …")));
  const found = await get(`/api/compare/rows?${query}`, signal).catch((error) => ({ why: why(error) }));
  if (found.why) return patch(place, el("p", { class: "note", role: "status" }, t("These runs cannot be compared row by row: {why}", { why: found.why })));
  patch(place, found.comparisons.flatMap((c) => [el("h3", {}, t("{one} against {two} on the same {rows} rows", { one: c.one, two: c.two, rows: count(c.rows) })),
    table(c.column, [c.column, t("better by"), ""], Object.entries(c.metrics).map(([name, m]) =>
      [named(name), interval(m.better_by), m.better_by.low > 0 || m.better_by.high < 0 ? t("more than chance") : t("no more than chance")]))]));
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
  const names = [...new Set(rest.split(",").filter(Boolean).map(plain))], signal = ending.signal;
  const shown = kind === "run" && names.length ? one(plain(rest), signal) : kind === "compare" && names.length ? compared(names, signal) : listed(signal);
  shown.catch((error) => { if (!signal.aborted) remark(why(error)); });
}

await speak();
addEventListener("hashchange", () => { show(); main.focus(); scrollTo(0, 0); });
addEventListener("languagechange", show);
show();
