// A conversation, or a text that is gone on with, as it is written.

import { Refused, el, request, t } from "./common.js";
import { trouble } from "./places.js";

const HELD = 2 ** 20, BLOCK = 4000; // characters of an answer that are kept on the page, and that are laid out together

// The pieces of a stream of events, each the JSON after `data:`.
async function* pieces(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      yield JSON.parse(line.slice(6));
    }
  }
}

// Text that grows: put in once a frame, in blocks of which only those in sight are laid out, so that a hundred thousand tokens
// do not stop the page.
function growing(place, log) {
  let waiting = "", length = 0, asked = false, block = null;

  // A block ends after a line, else after a word, else anywhere.
  function put(text) {
    if (!block) place.append(el("div", { class: "block" }, block = document.createTextNode("")));
    const after = (mark, blocks) => text.indexOf(mark, Math.max(0, blocks * BLOCK - block.length)) + 1 || Infinity;
    const end = Math.min(after("\n", 1), after(" ", 2), after("", 3));
    block.appendData(text.slice(0, end));
    if (end > text.length) return;
    block = null;
    if (end < text.length) put(text.slice(end));
  }

  function draw() {
    const near = log.scrollTop + log.clientHeight > log.scrollHeight - 80;
    put(waiting);
    length += waiting.length;
    [waiting, asked] = ["", false];
    if (length >= HELD) place.append(el("p", { class: "note" }, t("More was written than is kept here.")));
    if (near) log.scrollTop = log.scrollHeight;
  }
  return (piece) => {
    waiting += piece.slice(0, Math.max(0, HELD - length - waiting.length));
    if (asked || !waiting) return;
    asked = true;
    requestAnimationFrame(draw);
  };
}

// What was said, and what is being typed, is kept in `state`, and is there again.
export function writing(model, chats, state, signal) {
  Object.assign(state, { said: [], prompt: "", most: "200", warmth: "0.8", ...state });
  const log = el("div", { class: "log", role: "log", tabindex: "0", "aria-label": t("What was written"), "aria-live": "polite", "aria-busy": "false" });
  const keep = (name) => ({ value: state[name], oninput: (event) => { state[name] = event.target.value; } });
  const box = el("textarea", { id: "prompt", rows: 3, required: true, ...keep("prompt") }), most = el("input", { id: "most", type: "number", min: 1, max: 100000, ...keep("most") });
  const warmth = el("input", { id: "warmth", type: "number", min: 0, max: 2, step: 0.1, ...keep("warmth") });
  const send = el("button", { class: "mark", type: "submit" }, chats ? t("Send") : t("Go on with it")), stop = el("button", { type: "button", class: "stop", hidden: true, onclick: () => ending.abort() }, t("Stop"));
  const anew = el("button", { type: "button", onclick: () => { ending?.abort(); end(); state.said = []; log.replaceChildren(); box.focus(); } }, t("Begin anew"));
  let ending = null; // what ends the answer that is being written

  const form = el("form", { class: "fields", onsubmit: (event) => { event.preventDefault(); if (!ending && box.value) write(box.value); } },
    el("label", { for: "prompt" }, chats ? t("Message") : t("Text to go on with")), box,
    el("div", { class: "bar" }, send, stop, anew, el("label", {}, t("tokens at most"), most), el("label", {}, t("temperature"), warmth)));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (chats && !event.shiftKey)) && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  function turn(role, text) {
    const body = el("div", { class: "written" }), name = { user: t("You"), assistant: model.id }[role];
    const element = el("article", { class: role }, el("h2", {}, el("bdi", {}, name)), body), add = growing(body, log);
    log.append(element);
    add(text);
    return { element, add };
  }

  function begin() {
    ending = new AbortController();
    send.setAttribute("aria-disabled", "true"); // and not disabled, which would lose who is there
    stop.hidden = false;
    log.setAttribute("aria-busy", "true");
    return ending;
  }

  function end() {
    if (stop.contains(document.activeElement)) box.focus();
    ending = null;
    send.removeAttribute("aria-disabled");
    stop.hidden = true;
    log.setAttribute("aria-busy", "false");
  }

  function ask(messages, until) {
    const what = chats ? { messages } : { prompt: messages.at(-1).content };
    return request(chats ? "/v1/chat/completions" : "/v1/completions", {
      method: "POST", signal: until, headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ model: model.id, ...what, max_tokens: Number(most.value) || 200, temperature: Number(warmth.value), stream: true }),
    });
  }

  // A question and its answer belong to what was said from the answer's first piece on, and no longer if it fails.
  async function write(content) {
    log.querySelectorAll(chats ? ".failed" : "article").forEach((each) => each.remove());
    if (!chats) state.said = [];
    const mine = begin(), until = AbortSignal.any([mine.signal, signal]), said = state.said;
    const pair = [{ role: "user", content }, { role: "assistant", content: "" }], sent = [...said, pair[0]];
    const turns = [turn("user", content), turn("assistant", "")];
    log.scrollTop = log.scrollHeight;
    box.value = chats ? "" : content;
    let why = null;
    try {
      const answer = await ask(sent, until);
      if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => null))?.error?.message ?? `${answer.status}`);
      for await (const piece of pieces(answer)) {
        if (piece.error) throw new Refused(500, piece.error.message);
        const text = piece.choices?.[0]?.delta?.content ?? piece.choices?.[0]?.text ?? "";
        if (!said.includes(pair[1])) said.push(...pair);
        if (pair[1].content.length < HELD) pair[1].content += text;
        if (chats && box.value === "") state.prompt = "";
        turns[1].add(text);
      }
    } catch (error) {
      if (!until.aborted) why = error instanceof Refused ? error.message : t("The answer was cut off: {why}", { why: error.message });
    }
    if (ending === mine) end();
    if (why === null && said.includes(pair[1])) return;
    if (said.includes(pair[1])) said.splice(said.indexOf(pair[0]), 2);
    turns.forEach(({ element }) => element.classList.add("failed"));
    if (why !== null) turns[1].element.append(trouble(why));
    log.scrollTop = log.scrollHeight;
    if (state.said === said && box.value === "") box.value = state.prompt = content;
  }

  state.said.forEach(({ role, content }) => turn(role, content));
  return el("section", { class: "chat" }, log, form);
}
