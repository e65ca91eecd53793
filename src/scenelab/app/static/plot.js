// A line chart as SVG, with values at the pointer or by the arrow keys, and downloads.

import { download, h, number, saveButton } from "./page.js";

const WIDEST = 500; // points of a line; more are thinned to the lowest and highest of each part
const EDGE = { left: 56, right: 12, top: 10, bottom: 34 };
const FONT = { "font-family": "sans-serif", "font-size": 12 };

function make(name, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(text);
  return element;
}

function ticks(low, high, log) {
  if (log) {
    const powers = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) powers.push(10 ** power);
    const all = powers.flatMap(power => powers.length > 3 ? [power] : [power, 2 * power, 5 * power]);
    return all.filter(value => value >= low && value <= high);
  }
  const power = 10 ** Math.floor(Math.log10((high - low) / 4));
  const step = [1, 2, 5, 10].map(digit => digit * power).find(value => value >= (high - low) / 4);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.max(0, Math.floor(high / step) - first + 1) }, (_, i) => (first + i) * step);
}

function thin(points) {
  const size = Math.max(1, Math.ceil(2 * points.length / WIDEST)), kept = [];
  if (points.length <= WIDEST) return points;
  for (let start = 0; start < points.length; start += size) {
    const part = points.slice(start, start + size);
    const low = part.reduce((a, b) => b[1] < a[1] ? b : a), high = part.reduce((a, b) => b[1] > a[1] ? b : a);
    kept.push(...(low[0] <= high[0] ? [low, high] : [high, low]));
  }
  return kept;
}

/** Exponential moving average without the bias of its start (Kingma & Ba 2015, section 3). */
export function smooth(points, share) {
  let mean = 0, weight = 0;
  return points.map(([x, y]) => {
    mean = share * mean + (1 - share) * y;
    weight = share * weight + 1 - share;
    return [x, mean / weight];
  });
}

function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1; else high = middle;
  }
  return low && x - points[low - 1][0] < points[low][0] - x ? points[low - 1] : points[low];
}

/** A chart of series {name, color, points, raw, dash, faint}; `update` shows others. */
export class Chart {
  constructor(title, { xLabel = "", yRange = null, height = 230 } = {}) {
    Object.assign(this, { title, xLabel, yRange, height, series: [], lines: [], log: false, cursor: null });
    this.file = title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    this.svg = make("svg", { role: "img", tabindex: 0, "aria-label": `${title}; arrow keys show values` });
    this.readout = h("div.readout");
    const save = { CSV: () => this.saveCsv(), SVG: () => this.saveSvg(), PNG: () => this.savePng() };
    const buttons = Object.entries(save).map(([name, action]) => saveButton(name, action));
    this.element = h("figure.chart.card", h("div.head", h("h3", title), h("span", buttons)), this.svg, this.readout);
    this.svg.addEventListener("pointermove", event => this.move(this.invert?.(event.offsetX)));
    this.svg.addEventListener("pointerleave", () => this.move(null));
    this.svg.addEventListener("keydown", event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step || !this.lines.length) return;
      event.preventDefault();
      const [low, high] = this.limits, from = this.cursor ?? (step > 0 ? low : high);
      this.move(from + step * (high - low) / 50);
    });
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }
  update(series, changes = {}) {
    Object.assign(this, changes, { series });
    this.draw();
  }
  draw() {
    const width = this.svg.clientWidth || 400, height = this.height, value = this.log ? Math.log10 : v => v;
    const kept = ([x, y]) => Number.isFinite(x) && Number.isFinite(y) && (y > 0 || !this.log);
    this.lines = this.series.map(one => ({ ...one, points: one.points.filter(kept) })).filter(one => one.points.length);
    this.svg.replaceChildren();
    this.readout.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!this.lines.length) {
      this.svg.append(make("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no values yet"));
      return;
    }
    const range = axis => this.lines.flatMap(line => line.points).reduce(([low, high], point) =>
      [Math.min(low, point[axis]), Math.max(high, point[axis])], [Infinity, -Infinity]);
    let [x0, x1] = range(0), [y0, y1] = this.yRange || range(1);
    if (x0 === x1) [x0, x1] = [x0 - 1, x1 + 1];
    if (y0 === y1) [y0, y1] = this.log ? [y0 / 2, y1 * 2] : [y0 - 0.5, y1 + 0.5];
    const across = (width - EDGE.left - EDGE.right) / (x1 - x0), bottom = height - EDGE.bottom;
    const up = (bottom - EDGE.top) / (value(y1) - value(y0));
    this.limits = [x0, x1];
    this.x = v => EDGE.left + (v - x0) * across;
    this.invert = pixel => x0 + (pixel - EDGE.left) / across;
    this.y = v => bottom - (value(v) - value(y0)) * up;
    const line = (name, y) => make("line", { class: name, x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y });
    const text = (x, y, anchor, content) => make("text", { x, y, "text-anchor": anchor }, content);
    for (const v of ticks(y0, y1, this.log))
      this.svg.append(line("grid-line", this.y(v)), text(EDGE.left - 6, this.y(v) + 4, "end", number(v)));
    for (const v of ticks(x0, x1)) this.svg.append(text(this.x(v), bottom + 16, "middle", number(v)));
    this.svg.append(line("cursor", bottom), text(width - EDGE.right, height - 4, "end", this.xLabel));
    for (const { points, color, dash, faint } of this.lines) {
      const path = thin(points).map(([x, y]) => `${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`).join("L");
      const look = { fill: "none", stroke: color, "stroke-width": faint ? 1 : 2, opacity: faint ? 0.3 : 1 };
      this.svg.append(make("path", { d: `M${path}`, "stroke-dasharray": dash || "none", ...look }));
      if (points.length < 40 && !faint) this.svg.append(...points.map(([x, y]) => this.dot(x, y, 2.5, color)));
    }
    this.marks = make("g", {});
    this.svg.append(this.marks);
    this.show();
  }
  dot(x, y, r, fill) { return make("circle", { cx: this.x(x), cy: this.y(y), r, fill }); }
  move(x) {
    if (!this.lines.length) return;
    this.cursor = x == null ? null : Math.max(this.limits[0], Math.min(this.limits[1], x));
    this.show();
  }
  show() {
    const shown = this.lines.filter(line => !line.faint), x = this.cursor == null ? null : this.x(this.cursor);
    const at = shown.map(line => x == null ? line.points.at(-1) : nearest(line.points, this.cursor));
    this.marks.replaceChildren();
    if (x != null) this.marks.append(
      make("line", { class: "cursor", x1: x, x2: x, y1: EDGE.top, y2: this.height - EDGE.bottom }),
      ...at.map((point, i) => this.dot(...point, 4, shown[i].color)));
    const where = x == null ? "last values" : `${this.xLabel.split(",")[0]} ${number(this.cursor)}`;
    this.readout.replaceChildren(h("span.soft", where), ...shown.map(({ name, color, dash }, i) => {
      const swatch = h("span.swatch");
      swatch.style.background = dash ? `repeating-linear-gradient(90deg, ${color} 0 4px, transparent 4px 6px)` : color;
      return h("span", swatch, `${name} `, h("strong", number(at[i][1])));
    }));
  }
  saveCsv() {
    const quote = text => `"${text.replaceAll('"', '""').replace(/^[=+\-@]/, "'$&")}"`;
    const rows = this.series.filter(one => !one.faint).flatMap(({ name, raw, points }) =>
      (raw || points).map(([x, y]) => `${quote(name)},${x},${y}`));
    download(`${this.file}.csv`, [`series,${this.xLabel.split(",")[0]},value`, ...rows, ""].join("\n"), "text/csv");
  }
  /** The chart as an SVG file, with its colors in it and a legend. */
  drawing() {
    const copy = this.svg.cloneNode(true), look = getComputedStyle(document.documentElement);
    const size = { width: this.svg.clientWidth, height: this.height }, color = name => look.getPropertyValue(name);
    const write = (to, values) => Object.entries(values).forEach(([key, value]) => to.setAttribute(key, value));
    write(copy, { xmlns: "http://www.w3.org/2000/svg", ...size });
    for (const text of copy.querySelectorAll("text")) write(text, { fill: color("--soft"), ...FONT });
    for (const line of copy.querySelectorAll("line"))
      write(line, { stroke: color(line.classList.contains("grid-line") ? "--grid" : "--strong") });
    copy.prepend(make("rect", { ...size, fill: color("--card") }));
    copy.append(...this.lines.filter(line => !line.faint).map((line, i) => make("text",
      { x: EDGE.left + 8, y: EDGE.top + 12 + 14 * i, fill: line.color, ...FONT }, line.name)));
    return new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
  }
  saveSvg() { download(`${this.file}.svg`, this.drawing()); }
  async savePng() {
    const canvas = h("canvas", { width: 2 * this.svg.clientWidth, height: 2 * this.height }), image = new Image();
    image.src = URL.createObjectURL(this.drawing());
    await image.decode();
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(blob => download(`${this.file}.png`, blob));
  }
}
