"""How soon the pages in the browser can be used, on loopback, by a Chromium that has nothing of them yet: bytes, requests,
milliseconds from the address to the first control; how long the longest task is while an answer of 100,000 tokens is
written; and 10,000 runs on the board. One or two minutes.

    python benchmarks/pages.py
"""

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import run_folders
import served
from browser import FOUND, Browser
from explored import Made
from jichu.tracking.board import server as board

TIMES, RUNS, TOKENS = 10, 10_000, 100_000
# when an element is there for the first time; tasks above 50 ms, as browsers tell them
WATCH = """
new MutationObserver((_, me) => {
  if (!document.querySelector(SELECTOR)) return;
  me.disconnect();
  requestAnimationFrame(() => { window.usable = performance.now(); });
}).observe(document, { childList: true, subtree: true });
window.tasks = [];
new PerformanceObserver((found) => window.tasks.push(...found.getEntries().map((entry) => entry.duration)))
  .observe({ entryTypes: ["longtask"] });
"""
LOADED = """[performance.getEntriesByType("navigation"), performance.getEntriesByType("resource")].flat()
  .map((entry) => entry.transferSize)"""
# an answer of so many tokens, 200 at a time, as fast as the page takes them
FAKED = """(() => {
  const real = window.fetch, piece = (i) => `data: ${JSON.stringify({ choices: [{ text: `word${i} ` }] })}\\n\\n`;
  window.fetch = (where, how) => {
    if (!`${where.url ?? where}`.includes("/v1/completions")) return real(where, how);
    let sent = 0;
    const body = new ReadableStream({ async pull(to) {
      if (sent >= TOKENS) { window.written = true; to.close(); return; }
      await new Promise((go) => setTimeout(go, 2));
      to.enqueue(new TextEncoder().encode(Array.from({ length: 200 }, (_, i) => piece(sent + i)).join("")));
      sent += 200;
    } });
    return Promise.resolve(new Response(body, { headers: { "Content-Type": "text/event-stream" } }));
  };
})()"""


def first_use(browser, address, selector):
    """Milliseconds, each time with nothing kept, and what was loaded."""
    watch = WATCH.replace("SELECTOR", repr(selector))
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=watch)["identifier"]
    browser.call("Network.setCacheDisabled", cacheDisabled=True)
    times = []
    for i in range(TIMES):
        browser.open(f"{address}/?language=en&{i}")
        browser.until("window.usable", 60)
        times.append(browser.value("window.usable"))
    sizes = browser.value(LOADED)
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    return {
        "value": statistics.median(times), "low": min(times), "high": max(times), "bytes": sum(sizes), "requests": len(sizes),
    }  # fmt: skip


def long_answer(browser, address):
    """Of a text that is written: the tasks above 50 ms, in milliseconds."""
    script = browser.call(
        "Page.addScriptToEvaluateOnNewDocument", source=WATCH.replace("SELECTOR", "'#prompt'")
    )
    browser.open(f"{address}/?language=en&long#/gpt/ask", width=390)
    browser.until("window.usable", 60)
    browser.value(FAKED.replace("TOKENS", str(TOKENS)))
    browser.value(
        "document.querySelector('#prompt').value = 'Once'; document.querySelector('.chat form').requestSubmit()"
    )
    browser.until("window.written", 300)
    time.sleep(1)
    tasks = browser.value("window.tasks")
    browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    return {
        "value": max(tasks, default=0.0), "low": min(tasks, default=0.0), "high": max(tasks, default=0.0), "tasks": len(tasks),
        "characters": browser.value("document.querySelector('.log').textContent.length"),
    }  # fmt: skip


def main():
    if FOUND is None:
        sys.exit("no Chromium here")
    place = Path(tempfile.mkdtemp())
    browser = Browser(place / "profile")
    rows = []
    runs = {"images": Made(place / "made")["images"], "gpt": served.make(place / "gpt", "gpt")}
    with served.server(runs, play=True) as found:
        rows.append(
            {"system": "playground, ms to the first control", **first_use(browser, found.address, "#file")}
        )
        rows.append(
            {"system": f"{TOKENS:,} tokens, the longest task in ms", **long_answer(browser, found.address)}
        )
    for i in range(RUNS):
        run_folders.make(place / "runs", f"run-{i:05}", accuracy=0.5 + i / 3 / RUNS, logged=20)
    made = board(place / "runs", port=0)
    thread = threading.Thread(target=made.run)
    thread.start()
    while not made.started:
        time.sleep(0.01)
    rows.append(
        {
            "system": f"board of {RUNS:,} runs, ms to the first row",
            **first_use(browser, made.address, "tbody tr"),
        }
    )
    made.end()
    thread.join()
    browser.close()
    results.write("pages", "pages in the browser, on loopback", rows)


if __name__ == "__main__":
    main()
