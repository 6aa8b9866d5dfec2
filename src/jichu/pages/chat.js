// A conversation, or a text that is gone on with, as it is written.

import { Refused, el, request, t } from "./common.js";

const HELD = 2 ** 20; // characters of an answer that are kept on the page

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

// Text that grows: appended once a frame, so that a hundred thousand tokens do not stop the page.
function growing(place) {
  const text = document.createTextNode("");
  place.append(text);
  let waiting = "", asked = false;
  return (piece) => {
    waiting += piece;
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      const near = innerHeight + scrollY > document.documentElement.scrollHeight - 80;
      text.appendData(waiting.slice(0, Math.max(0, HELD - text.length)));
      if (text.length >= HELD && !place.dataset.full) {
        place.dataset.full = "1";
        place.append(el("p", { class: "note" }, t("More was written than is kept here.")));
      }
      [waiting, asked] = ["", false];
      if (near) scrollTo({ top: document.documentElement.scrollHeight });
    });
  };
}

export function writing(model, chats) {
  const log = el("div", { class: "log", role: "log", "aria-live": "polite", "aria-busy": "false" }), trouble = el("p", { class: "bad", role: "alert" });
  const box = el("textarea", { id: "prompt", rows: 3, required: true }), most = el("input", { id: "most", type: "number", min: 1, max: 100000, value: "200" });
  const warmth = el("input", { id: "warmth", type: "number", min: 0, max: 2, step: 0.1, value: "0.8" });
  const send = el("button", { class: "mark", type: "submit" }, chats ? t("Send") : t("Go on with it")), stop = el("button", { type: "button", class: "stop", hidden: true, onclick: () => ending?.abort() }, t("Stop"));
  const anew = el("button", { type: "button", onclick: () => { ending?.abort(); said.length = 0; log.replaceChildren(); box.focus(); } }, t("Begin anew"));
  const said = [];
  let ending = null;

  const form = el("form", { class: "fields", onsubmit: (event) => { event.preventDefault(); if (!ending) write(); } },
    el("label", { for: "prompt" }, chats ? t("Message") : t("Text to go on with")), box,
    el("div", { class: "bar" }, send, stop, anew, el("label", {}, t("tokens at most"), most), el("label", {}, t("temperature"), warmth)), trouble);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (chats && !event.shiftKey)) && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  function turn(role, text) {
    const body = el("div", { class: "written" }, text), name = { user: t("You"), assistant: model.id }[role];
    log.append(el("article", { class: role }, el("h3", {}, el("bdi", {}, name)), body));
    return body;
  }

  async function write() {
    const asked = box.value;
    if (!asked) return;
    trouble.textContent = "";
    ending = new AbortController();
    [send.disabled, stop.hidden] = [true, false];
    log.setAttribute("aria-busy", "true");
    if (chats) {
      said.push({ role: "user", content: asked });
      box.value = "";
    } else {
      log.replaceChildren();
    }
    turn("user", asked);
    let whole = "";
    const add = growing(turn("assistant", ""));
    try {
      const what = chats ? { messages: said } : { prompt: asked };
      const answer = await request(chats ? "/v1/chat/completions" : "/v1/completions", {
        method: "POST", signal: ending.signal, headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ model: model.id, ...what, max_tokens: Number(most.value) || 200, temperature: Number(warmth.value), stream: true }),
      });
      if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => null))?.error?.message ?? `${answer.status}`);
      for await (const piece of pieces(answer)) {
        if (piece.error) throw new Refused(500, piece.error.message);
        const text = piece.choices?.[0]?.delta?.content ?? piece.choices?.[0]?.text ?? "";
        whole += whole.length < HELD ? text : "";
        add(text);
      }
    } catch (error) {
      if (error.name !== "AbortError") trouble.textContent = error instanceof Refused ? error.message : t("The answer was cut off: {why}", { why: error.message });
    } finally {
      if (chats) said.push({ role: "assistant", content: whole });
      ending = null;
      [send.disabled, stop.hidden] = [false, true];
      log.setAttribute("aria-busy", "false");
      box.focus();
    }
  }

  return el("section", { class: "chat" }, log, form);
}
