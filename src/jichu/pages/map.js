// Rows on a plane, to wander through: by pointer, by wheel and fingers, by arrow keys.

import { el, t } from "./common.js";
import { short } from "./answers.js";

const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8a6d3b"]; // which everybody can tell apart
const NEAR = 14, PICTURED = 120, MARGIN = 0.06; // pixels; pictures at once, else there are dots; share of the side

const coloured = (i) => COLOURS[i] ?? `hsl(${(i * 137.5) % 360} 45% 55%)`;

export function map(found, column, open) {
  const count = found.rows.length, labels = (found.truth[column] ?? found.prediction[column] ?? []).map(short), said = found.prediction[column]?.map(short);
  const names = [...new Set(labels)].sort(), colours = new Map(names.map((name, i) => [name, coloured(i)])), colour = (i) => colours.get(labels[i]) ?? coloured(0);
  const canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": t("A map of {count} rows; arrow keys go from row to row, Enter opens one", { count }) });
  const about = el("p", { class: "note", role: "status" }), pen = canvas.getContext("2d");
  const seen = { scale: 1, x: 0, y: 0 }, fingers = new Map();
  let at = -1, sheet = null, own = null, asked = false;

  if (found.sprites) {
    sheet = new Image();
    sheet.addEventListener("load", draw);
    sheet.src = found.sprites.image;
  }

  const along = (share, length) => ((share * (1 - 2 * MARGIN) + MARGIN) * length) * seen.scale;
  const place = (i) => [along(found.x[i], canvas.width) + seen.x, along(found.y[i], canvas.height) + seen.y];

  function draw() {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      const dot = devicePixelRatio, inside = [];
      pen.clearRect(0, 0, canvas.width, canvas.height);
      for (let i = 0; i < count; i++) {
        const [x, y] = place(i);
        if (x > -40 && y > -40 && x < canvas.width + 40 && y < canvas.height + 40) inside.push([i, x, y]);
      }
      const pictures = sheet?.complete && inside.length <= PICTURED, { across, side: pixels } = found.sprites ?? {};
      const size = pictures ? Math.min(48, 24 + 2 * seen.scale) * dot : 0;
      for (const [i, x, y] of inside) {
        pen.fillStyle = colour(i);
        if (pictures) {
          pen.fillRect(x - size / 2 - 2, y - size / 2 - 2, size + 4, size + 4);
          pen.drawImage(sheet, (i % across) * pixels, Math.floor(i / across) * pixels, pixels, pixels, x - size / 2, y - size / 2, size, size);
        } else {
          pen.globalAlpha = 0.75;
          pen.beginPath();
          pen.arc(x, y, (i === at ? 6 : 3.2) * dot, 0, 7);
          pen.fill();
          pen.globalAlpha = 1;
        }
      }
      const ink = getComputedStyle(canvas).color, ring = (x, y, r) => { pen.strokeStyle = ink; pen.lineWidth = 2 * dot; pen.beginPath(); pen.arc(x, y, r * dot, 0, 7); pen.stroke(); };
      if (at >= 0) ring(...place(at), pictures ? size / dot / 1.3 : 9);
      if (own) {
        found.x[count] = own[0];
        found.y[count] = own[1];
        const [x, y] = place(count);
        ring(x, y, 11);
        ring(x, y, 4);
      }
    });
  }

  function tell(i) {
    at = i;
    about.textContent = i < 0 ? "" : [t("row {row}", { row: found.rows[i] }), labels[i], said && said[i] !== labels[i] ? t("the model says {said}", { said: said[i] }) : ""].filter(Boolean).join(" · ");
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

  function zoom(x, y, by) {
    const scale = Math.max(1, Math.min(60, seen.scale * by)), share = scale / seen.scale;
    Object.assign(seen, { scale, x: x - (x - seen.x) * share, y: y - (y - seen.y) * share });
    draw();
  }

  const spot = (event) => [event.offsetX * devicePixelRatio, event.offsetY * devicePixelRatio];
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(...spot(event), Math.exp(-event.deltaY / 400)); }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, [...spot(event), 0]); });
  canvas.addEventListener("pointermove", (event) => {
    const now = spot(event), before = fingers.get(event.pointerId);
    if (!before) return tell(nearest(...now, NEAR * devicePixelRatio));
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, where]) => where), far = (one) => Math.hypot(one[0] - other[0], one[1] - other[1]);
      zoom((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, far(now) / (far(before) || 1));
    } else {
      Object.assign(seen, { x: seen.x + now[0] - before[0], y: seen.y + now[1] - before[1] });
      draw();
    }
    fingers.set(event.pointerId, [...now, before[2] + Math.hypot(now[0] - before[0], now[1] - before[1])]);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => {
      const [x, y, moved] = fingers.get(event.pointerId) ?? [0, 0, 99];
      fingers.delete(event.pointerId);
      const hit = moved < 6 && end === "pointerup" ? nearest(x, y, NEAR * devicePixelRatio) : -1;
      if (hit >= 0) { tell(hit); open(found.rows[hit]); }
    });
  }

  const TO = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const [x, y] = at >= 0 ? place(at) : [canvas.width / 2, canvas.height / 2], way = TO[event.key];
    if (way) {
      const ahead = (dx, dy, i) => i !== at && dx * way[0] + dy * way[1] > Math.abs(dx * way[1] - dy * way[0]);
      const next = nearest(x, y, Infinity, at < 0 ? undefined : ahead);
      if (next >= 0) tell(next);
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

  const key = el("ul", { class: "key" }, names.slice(0, 12).map((name, i) => {
    const spot = el("span");
    spot.style.setProperty("background", coloured(i));
    return el("li", {}, spot, el("bdi", {}, name));
  }));
  return { element: el("div", { class: "map" }, canvas, about, key), mark: (where) => { own = where; draw(); } };
}
