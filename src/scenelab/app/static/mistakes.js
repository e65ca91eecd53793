// The mistakes of a network on its validation images, and two networks compared.

import { ask, COLORS, h, imagePath, number, percent, plain, runPath, set, state } from "./page.js";
import { Chart } from "./plot.js";

const MOST = 24; // images of a list
const open = row => set({ view: "predict", image: `val:${row}` }, { push: true });
function thumbs(run, items) {
  return h("div.grid.thumbs", {}, items.slice(0, MOST).map(([row, text]) => h("button.tile", { type: "button", onclick: () => open(row) },
    h("img", { src: imagePath(run, `val:${row}`), alt: "", loading: "lazy" }), text)));
}

export async function mistakes(view, signal) {
  const run = state.run, known = await ask(runPath(run, "mistakes"), { signal }), { categories, labels, guesses, confidences } = known;
  const count = categories.length, cells = Array.from({ length: count }, () => Array(count).fill(0));
  const rows = labels.map((label, row) => ({ row, label, guess: guesses[row], share: confidences[row] })).filter(each => each.guess >= 0);
  for (const { label, guess } of rows) cells[label][guess]++;
  const totals = cells.map(line => line.reduce((a, b) => a + b, 0)), wrong = rows.filter(each => each.label !== each.guess);
  const pairs = cells.flatMap((line, label) => line.flatMap((n, guess) => n && label !== guess ? [[label, guess, n]] : [])).sort((a, b) => b[2] - a[2]);
  let [label, guess] = state.cell ? state.cell.split("-").map(Number) : pairs[0] || [0, 0];

  const canvas = h("canvas.matrix", { width: 16 * count, height: 16 * count, tabindex: 0, role: "application",
    "aria-label": "confusion matrix: rows are true classes, columns predicted ones; arrow keys move" });
  const title = h("p", { role: "status" }), images = h("div");
  function draw() {
    const pen = canvas.getContext("2d"), look = getComputedStyle(document.documentElement);
    pen.fillStyle = look.getPropertyValue("--card");
    pen.fillRect(0, 0, canvas.width, canvas.height);
    cells.forEach((line, y) => line.forEach((n, x) => {
      if (!n) return;
      pen.globalAlpha = 0.12 + 0.88 * Math.sqrt(n / totals[y]);
      pen.fillStyle = look.getPropertyValue(x === y ? "--accent" : "--bad");
      pen.fillRect(16 * x + 1, 16 * y + 1, 14, 14);
    }));
    Object.assign(pen, { globalAlpha: 1, strokeStyle: look.getPropertyValue("--text"), lineWidth: 2 });
    pen.strokeRect(16 * guess + 1, 16 * label + 1, 14, 14);
  }
  function select(y, x) {
    [label, guess] = [y, x].map(v => Math.max(0, Math.min(count - 1, v)));
    set({ cell: `${label}-${guess}` });
    draw();
    title.replaceChildren(h("strong", {}, `${cells[label][guess]} of ${totals[label]} images of ${plain(categories[label])} `
      + (label === guess ? "are recognized" : `are taken for ${plain(categories[guess])}`)));
    const items = rows.filter(each => each.label === label && each.guess === guess).sort((a, b) => b.share - a.share);
    images.replaceChildren(thumbs(run, items.map(each => [each.row, percent(each.share, 0)])));
  }
  canvas.onclick = event => select(Math.floor(event.offsetY / canvas.clientHeight * count), Math.floor(event.offsetX / canvas.clientWidth * count));
  canvas.onkeydown = event => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (step) { event.preventDefault(); select(label + step[0], guess + step[1]); }
  };
  const chart = new Chart("Calibration", { xLabel: "confidence, %", yRange: [0, 100] });
  const buttons = pairs.slice(0, 10).map(([y, x, n]) => h("li", {}, h("button.tiny", { type: "button", onclick: () => select(y, x) },
    `${plain(categories[y])} → ${plain(categories[x])}: ${n} of ${totals[y]}`)));
  const sure = [...wrong].sort((a, b) => b.share - a.share);
  view.append(h("div.card", {}, h("p.big", {}, `${known.top1.toFixed(1)} % top-1`), h("p.soft", {}, `95 % interval ${known.interval.map(v => v.toFixed(1)).join(" to ")} %, `
    + `${labels.length} ${known.split} images, ${wrong.length} mistakes; calibration error ${number(known.ece)} %`)),
  h("div.sides", {}, h("div.card", {}, h("h2", {}, "Confusion matrix"), h("p.soft", {}, "Rows are true classes, columns predicted ones, in order of their names."), canvas),
    h("div.card", {}, title, images, h("h2", {}, "Most confused"), h("ol", {}, buttons))),
  h("div.sides", {}, h("div.card", {}, h("h2", {}, "Most confident mistakes"),
    thumbs(run, sure.map(each => [each.row, `${plain(categories[each.label])}, not ${plain(categories[each.guess])} ${percent(each.share, 0)}`]))), chart.element));
  chart.update([{ name: "accuracy, %", color: COLORS[0], points: known.reliability.map(bin => [100 * bin.confidence, 100 * bin.accuracy]) },
    { name: "perfect", color: COLORS[7], dash: "4 4", points: [[0, 0], [100, 100]] }]);
  select(label, guess);
}

export async function compare(view, signal) {
  if (!state.other) { view.append(h("p.card.soft", {}, "Choose a second network to compare with.")); return; }
  const known = await ask("api/compare?" + new URLSearchParams({ first: state.run, second: state.other }), { signal });
  const name = label => label < 0 ? "undefined" : plain(known.categories[label]), [low, high] = known.interval, neither = known.images - known.both - known.only_first - known.only_second;
  const clear = low > 0 || high < 0;
  const numbers = [["both right", known.both], [`only ${state.run}`, known.only_first], [`only ${state.other}`, known.only_second], ["both wrong", neither]];
  view.append(h("div.card", {}, h("p.big", {}, `${known.difference > 0 ? "+" : ""}${known.difference.toFixed(1)} percentage points`),
    h("p", {}, `${state.other} compared with ${state.run}; 95 % interval ${low.toFixed(1)} to ${high.toFixed(1)}, paired on ${known.images} images. `
      + (clear ? "The difference is more than chance." : "The difference may be chance."))),
  h("div.grid", {}, numbers.map(([text, n]) => h("div.card", {}, h("p.big", {}, number(n)), h("p.soft", {}, text)))));
  const groups = [[`Only ${state.run} is right`, ([, label, one]) => one === label], [`Only ${state.other} is right`, ([, label, , two]) => two === label],
    ["Both are wrong, in two ways", ([, label, one, two]) => one !== label && two !== label]];
  for (const [title, keep] of groups)
    view.append(h("div.card", {}, h("h2", {}, title), thumbs(state.run, known.disagreements.filter(keep)
      .map(([row, label, one, two]) => [row, `${name(label)}: ${name(one)} | ${name(two)}`]))));
}
