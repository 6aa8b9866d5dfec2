// Rows on a plane, to wander through: by pointer, by wheel and fingers, by arrow keys, by buttons.

import { el, t } from "./common.js";
import { short } from "./answers.js";

const COLOURS = 7, KEY = 24; // that everybody can tell apart, in play.css; classes that are named
const NEAR = 14, PICTURED = 120, MARGIN = 0.06, EDGE = 40; // pixels; pictures at once, else there are dots; share of the side; pixels that stay around a row

const coloured = (i) => (i < COLOURS ? `var(--c${i})` : `hsl(${(i * 137.5) % 360} 50% var(--light))`);

export function map(found, column, open) {
  const count = found.rows.length, labels = (found.truth[column] ?? found.prediction[column] ?? []).map(short), said = found.prediction[column]?.map(short);
  const names = [...new Set(labels)].sort(), number = new Map(names.map((name, i) => [name, i]));
  const canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": t("A map of {count} rows; arrow keys go from row to row, Enter opens one", { count }) });
  const about = el("p", { class: "note", role: "status" }), pen = canvas.getContext("2d");
  const seen = { scale: 1, x: 0, y: 0 };
  let at = -1, sheet = null, own = null, asked = false, held = null, pinched = null, inks = null;

  if (found.sprites) {
    sheet = new Image();
    sheet.addEventListener("load", draw);
    sheet.src = found.sprites.image;
  }

  const along = (share, length) => ((share * (1 - 2 * MARGIN) + MARGIN) * length) * seen.scale;
  const spot = ([x, y]) => [along(x, canvas.width) + seen.x, along(y, canvas.height) + seen.y];
  const place = (i) => spot([found.x[i], found.y[i]]);

  const key = el("ul", { class: "key" }, names.slice(0, KEY).map((name, i) => {
    const spot = el("span");
    spot.style.setProperty("background", coloured(i));
    return el("li", {}, spot, el("bdi", {}, name));
  }), names.length > KEY ? el("li", {}, t("… and {count} more", { count: names.length - KEY })) : null);

  // Colours as the page's style has them now, light or dark.
  function computed(colours) {
    const probe = el("span");
    key.append(probe);
    const found = colours.map((colour) => {
      probe.style.setProperty("color", colour);
      return getComputedStyle(probe).color;
    });
    probe.remove();
    return found;
  }

  function circle(x, y, radius) {
    pen.beginPath();
    pen.arc(x, y, radius * devicePixelRatio, 0, 7);
  }

  // White within dark, so that it is seen on whatever picture.
  function ring(x, y, radius) {
    for (const [width, colour] of [[5, "#000"], [2.5, "#fff"]]) {
      circle(x, y, radius);
      Object.assign(pen, { lineWidth: width * devicePixelRatio, strokeStyle: colour });
      pen.stroke();
    }
  }

  function paint() {
    const dot = devicePixelRatio, inside = [];
    inks ??= computed(["var(--edge)", ...names.map((_, i) => coloured(i))]);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < count; i++) {
      const [x, y] = place(i);
      if (x > -EDGE && y > -EDGE && x < canvas.width + EDGE && y < canvas.height + EDGE) inside.push([i, x, y]);
    }
    const pictures = sheet?.complete && inside.length <= PICTURED, { across, side } = found.sprites ?? {};
    const size = pictures ? Math.min(48, 24 + 2 * seen.scale) * dot : 0;
    Object.assign(pen, { lineWidth: dot, strokeStyle: inks[0] });
    for (const [i, x, y] of inside) {
      pen.fillStyle = inks[1 + (number.get(labels[i]) ?? 0)] ?? inks[0];
      if (pictures) {
        pen.fillRect(x - size / 2 - 3, y - size / 2 - 3, size + 6, size + 6);
        pen.drawImage(sheet, (i % across) * side, Math.floor(i / across) * side, side, side, x - size / 2, y - size / 2, size, size);
      } else {
        circle(x, y, 3.6);
        pen.fill();
        pen.stroke();
      }
    }
    if (at >= 0) ring(...place(at), pictures ? size / dot / 1.3 : 9);
    if (own) {
      ring(...spot(own), 13);
      ring(...spot(own), 4);
    }
  }

  function draw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      if (canvas.isConnected) paint();
    });
  }

  const within = (where, length) => Math.max(0, EDGE - where) + Math.min(0, length - EDGE - where); // how far to go to be in sight

  function tell(i, follow = false) {
    at = i;
    about.textContent = i < 0 ? "" : [t("row {row}", { row: found.rows[i] }), labels[i], said && said[i] !== labels[i] ? t("the model says {said}", { said: said[i] }) : ""].filter(Boolean).join(" · ");
    if (follow) {
      const [x, y] = place(i);
      move(within(x, canvas.width), within(y, canvas.height));
    }
    draw();
  }

  function nearest(x, y, most = Infinity, only = () => true) {
    let best = -1, least = most ** 2;
    for (let i = 0; i < count; i++) {
      const [px, py] = place(i), far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least && only(px - x, py - y, i)) [best, least] = [i, far];
    }
    return best;
  }

  function move(x, y) {
    Object.assign(seen, { x: seen.x + x, y: seen.y + y });
    draw();
  }

  function zoom(x, y, by) {
    const scale = Math.max(1, Math.min(60, seen.scale * by)), share = scale / seen.scale;
    Object.assign(seen, { scale, x: x - (x - seen.x) * share, y: y - (y - seen.y) * share });
    draw();
  }

  const middle = () => (at >= 0 ? place(at) : [canvas.width / 2, canvas.height / 2]);

  function pointed(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * devicePixelRatio, (event.clientY - box.top) * devicePixelRatio];
  }

  // The wheel and one finger are the page's; with Ctrl, and two fingers, they are the map's.
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(...pointed(event), Math.exp(-event.deltaY / 400));
  }, { passive: false });
  canvas.addEventListener("touchstart", () => { pinched = null; }, { passive: true });
  canvas.addEventListener("touchmove", (event) => {
    if (event.touches.length !== 2) return;
    if (event.cancelable) event.preventDefault();
    const [[ax, ay], [bx, by]] = [...event.touches].map(pointed), now = { x: (ax + bx) / 2, y: (ay + by) / 2, far: Math.hypot(ax - bx, ay - by) };
    if (pinched) {
      move(now.x - pinched.x, now.y - pinched.y);
      zoom(now.x, now.y, now.far / (pinched.far || 1));
    }
    pinched = now;
    held = null;
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    held = event.isPrimary ? { at: pointed(event), moved: 0 } : null;
    if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = pointed(event);
    if (!held) return event.pointerType === "touch" ? undefined : tell(nearest(...now, NEAR * devicePixelRatio));
    const by = [now[0] - held.at[0], now[1] - held.at[1]];
    held = { at: now, moved: held.moved + Math.hypot(...by) };
    if (event.pointerType !== "touch") move(...by);
  });
  canvas.addEventListener("pointercancel", () => { held = null; });
  canvas.addEventListener("pointerup", (event) => {
    const hit = held && held.moved < 6 * devicePixelRatio ? nearest(...pointed(event), NEAR * devicePixelRatio) : -1;
    held = null;
    if (hit >= 0) { tell(hit); open(found.rows[hit]); }
  });

  const TO = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const [x, y] = middle(), way = TO[event.key];
    if (way) {
      const ahead = (dx, dy, i) => i !== at && dx * way[0] + dy * way[1] > Math.abs(dx * way[1] - dy * way[0]);
      const next = nearest(x, y, Infinity, at < 0 ? undefined : ahead);
      if (next >= 0) tell(next, true);
    }
    else if (event.key === "+" || event.key === "=") zoom(x, y, 1.5);
    else if (event.key === "-") zoom(x, y, 1 / 1.5);
    else if (event.key === "Enter" && at >= 0) open(found.rows[at]);
    else return;
    event.preventDefault();
  });

  new ResizeObserver(() => {
    [canvas.width, canvas.height] = [canvas.clientWidth * devicePixelRatio, canvas.clientHeight * devicePixelRatio];
    draw();
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { inks = null; draw(); });

  const button = (sign, name, by) => el("button", { type: "button", "aria-label": name, title: name, onclick: () => zoom(...middle(), by) }, sign);
  const element = el("div", { class: "map" }, el("div", { class: "bar" }, button("+", t("Nearer"), 1.5), button("−", t("Farther"), 1 / 1.5), about), canvas, key);
  return { element, mark: (where) => { own = where; draw(); } };
}
