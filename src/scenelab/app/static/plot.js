// A line chart as SVG, with values at the pointer or by the arrow keys, and downloads.

import { download, h, number, saveButton } from "./page.js";

const WIDEST = 500; // points of a line; more are thinned to the lowest and highest of each part
const FONT = { "font-family": "sans-serif", "font-size": 12 };
const EDGE = { left: 56, right: 12, top: 10, bottom: 34 };

function make(name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text != null) element.textContent = text;
  return element;
}

export function ticks(low, high, log) {
  if (log) {
    const all = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const digit of [1, 2, 5]) all.push(digit * 10 ** power);
    const inside = all.filter(value => value >= low * 0.999 && value <= high * 1.001);
    return inside.length > 7 ? inside.filter(value => /^1(e|0*$|\.0*$)|^0\.0*1$/.test(String(value))) : inside;
  }
  const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(digit => digit * power).find(value => value >= raw);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.max(0, Math.floor(high / step) - first + 1) }, (_, i) => (first + i) * step);
}

export function thin(points) {
  if (points.length <= WIDEST) return points;
  const kept = [], size = 2 * points.length / WIDEST;
  for (let start = 0; start < points.length; start += size) {
    const part = points.slice(Math.floor(start), Math.floor(start + size));
    if (!part.length) continue;
    const low = part.reduce((a, b) => b[1] < a[1] ? b : a), high = part.reduce((a, b) => b[1] > a[1] ? b : a);
    kept.push(...(low[0] <= high[0] ? [low, high] : [high, low]));
  }
  return kept;
}

/** Exponential moving average without the bias of its start (Kingma & Ba 2015, section 3). */
export function smooth(points, share) {
  let mean = 0, weight = 0;
  return share ? points.map(([x, y]) => {
    mean = share * mean + (1 - share) * y;
    weight = share * weight + 1 - share;
    return [x, mean / weight];
  }) : points;
}

function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1; else high = middle;
  }
  return low && x - points[low - 1][0] < points[low][0] - x ? points[low - 1] : points[low];
}

/** A chart of series {name, color, points, dash, faint}; `update` shows others. */
export class Chart {
  constructor(title, { xLabel = "", yRange = null, height = 230 } = {}) {
    Object.assign(this, { title, xLabel, yRange, height, series: [], log: false, cursor: null });
    this.svg = make("svg", { role: "img", tabindex: 0, "aria-label": `${title}; arrow keys show values` });
    this.readout = h("div.readout");
    const save = h("span", {}, saveButton("CSV", () => this.saveCsv()), " ", saveButton("SVG", () => this.saveSvg()), " ",
      saveButton("PNG", () => this.savePng()));
    this.element = h("figure.chart.card", {}, h("div.head", {}, h("h3", {}, title), save), this.svg, this.readout);
    this.svg.addEventListener("pointermove", event => this.point(event.offsetX));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("keydown", event => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  update(series, changes = {}) {
    Object.assign(this, changes, { series });
    this.draw();
  }

  draw() {
    const width = this.svg.clientWidth || 400, height = this.height;
    const kept = this.log ? ([, y]) => y > 0 : ([, y]) => Number.isFinite(y);
    this.lines = this.series.map(each => ({ ...each, points: each.points.filter(kept) })).filter(one => one.points.length);
    const all = this.lines.flatMap(line => line.points);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!all.length) {
      this.svg.append(make("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no values yet"));
      this.readout.replaceChildren();
      return;
    }
    const range = axis => all.reduce(([a, b], point) => [Math.min(a, point[axis]), Math.max(b, point[axis])],
      [Infinity, -Infinity]);
    let [x0, x1] = range(0), [y0, y1] = this.yRange || range(1);
    if (x0 === x1) [x0, x1] = [x0 - 1, x1 + 1];
    if (y0 === y1) [y0, y1] = this.log ? [y0 / 2, y1 * 2] : [y0 - 0.5, y1 + 0.5];
    const value = this.log ? Math.log10 : v => v;
    this.x = v => EDGE.left + (v - x0) / (x1 - x0) * (width - EDGE.left - EDGE.right);
    this.invert = pixel => x0 + (pixel - EDGE.left) / (width - EDGE.left - EDGE.right) * (x1 - x0);
    this.y = v => height - EDGE.bottom
      - (value(v) - value(y0)) / (value(y1) - value(y0)) * (height - EDGE.top - EDGE.bottom);
    this.limits = [x0, x1];
    this.axes(ticks(x0, x1), ticks(y0, y1, this.log), width, height);
    for (const line of this.lines) {
      const path = thin(line.points).map(([x, y], i) => `${i ? "L" : "M"}${this.x(x).toFixed(1)} ${this.y(y).toFixed(1)}`);
      const look = { fill: "none", stroke: line.color, "stroke-width": line.faint ? 1 : 2, opacity: line.faint ? 0.3 : 1 };
      this.svg.append(make("path", { d: path.join(""), "stroke-dasharray": line.dash || "none", ...look }));
      if (line.points.length < 40 && !line.faint)
        for (const [x, y] of line.points)
          this.svg.append(make("circle", { cx: this.x(x), cy: this.y(y), r: 2.5, fill: line.color }));
    }
    this.marks = make("g", {});
    this.svg.append(this.marks);
    this.show();
  }

  axes(columns, rows, width, height) {
    const bottom = height - EDGE.bottom;
    for (const v of rows) {
      this.svg.append(make("line", { class: "grid-line", x1: EDGE.left, x2: width - EDGE.right, y1: this.y(v), y2: this.y(v) }),
        make("text", { x: EDGE.left - 6, y: this.y(v) + 4, "text-anchor": "end" }, number(v)));
    }
    for (const v of columns)
      this.svg.append(make("text", { x: this.x(v), y: bottom + 16, "text-anchor": "middle" }, number(v)));
    this.svg.append(make("line", { class: "cursor", x1: EDGE.left, x2: width - EDGE.right, y1: bottom, y2: bottom }),
      make("text", { x: width - EDGE.right, y: height - 4, "text-anchor": "end" }, this.xLabel));
  }

  point(pixel) {
    if (!this.invert) return;
    this.cursor = pixel == null ? null : Math.max(this.limits[0], Math.min(this.limits[1], this.invert(pixel)));
    this.show();
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !this.limits) return;
    event.preventDefault();
    const [low, high] = this.limits;
    this.cursor = Math.max(low, Math.min(high, (this.cursor ?? (step > 0 ? low : high)) + step * (high - low) / 50));
    this.show();
  }

  show() {
    if (!this.lines?.length) return;
    const shown = this.lines.filter(line => !line.faint);
    const at = shown.map(line => this.cursor == null ? line.points.at(-1) : nearest(line.points, this.cursor));
    this.marks.replaceChildren();
    if (this.cursor != null) {
      const x = this.x(this.cursor);
      this.marks.append(make("line", { class: "cursor", x1: x, x2: x, y1: EDGE.top, y2: this.height - EDGE.bottom }));
      at.forEach(([px, py], i) =>
        this.marks.append(make("circle", { cx: this.x(px), cy: this.y(py), r: 4, fill: shown[i].color })));
    }
    const where = this.cursor == null ? "last values" : `${this.xLabel.split(",")[0]} ${number(this.cursor)}`;
    this.readout.replaceChildren(h("span.soft", {}, where), ...shown.map((line, i) => {
      const swatch = h("span.swatch");
      swatch.style.background = line.dash ? `repeating-linear-gradient(90deg, ${line.color} 0 4px, transparent 4px 6px)`
        : line.color;
      return h("span", {}, swatch, `${line.name} `, h("strong", {}, number(at[i][1])));
    }));
  }

  get file() { return this.title.toLowerCase().replace(/[^a-z0-9]+/g, "-"); }

  saveCsv() {
    const quote = text => `"${String(text).replaceAll('"', '""').replace(/^[=+\-@]/, "'$&")}"`;
    const rows = this.series.filter(one => !one.faint || !this.series.some(other => !other.faint && other.name === one.name))
      .flatMap(one => (one.raw || one.points).map(([x, y]) => `${quote(one.name)},${x},${y}`));
    download(`${this.file}.csv`, [`series,${this.xLabel.split(",")[0]},value`, ...rows].join("\n") + "\n", "text/csv");
  }

  drawing() {
    const copy = this.svg.cloneNode(true), look = getComputedStyle(document.documentElement);
    const [width, height] = [this.svg.clientWidth, this.height];
    for (const [key, value] of Object.entries({ xmlns: "http://www.w3.org/2000/svg", width, height }))
      copy.setAttribute(key, value);
    for (const text of copy.querySelectorAll("text"))
      for (const [key, value] of Object.entries({ fill: look.getPropertyValue("--soft"), ...FONT }))
        text.setAttribute(key, value);
    for (const line of copy.querySelectorAll("line"))
      line.setAttribute("stroke", look.getPropertyValue(line.classList.contains("grid-line") ? "--grid" : "--strong"));
    copy.prepend(make("rect", { width, height, fill: look.getPropertyValue("--card") }));
    this.lines.filter(line => !line.faint).forEach((line, i) => copy.append(make("text",
      { x: EDGE.left + 8, y: EDGE.top + 12 + 14 * i, fill: line.color, ...FONT }, line.name)));
    return new XMLSerializer().serializeToString(copy);
  }

  saveSvg() { if (this.lines?.length) download(`${this.file}.svg`, this.drawing(), "image/svg+xml"); }

  savePng() {
    if (!this.lines?.length) return;
    const image = new Image(), canvas = h("canvas", { width: 2 * this.svg.clientWidth, height: 2 * this.height });
    image.onload = () => {
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(blob => download(`${this.file}.png`, blob));
    };
    image.src = URL.createObjectURL(new Blob([this.drawing()], { type: "image/svg+xml" }));
  }
}
