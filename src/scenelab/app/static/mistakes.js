// The mistakes of a network on its validation images, and two networks compared.

import { ask, card, COLORS, h, imagePath, number, percent, plain, runPath, set, soft, state, walk } from "./page.js";
import { Chart } from "./plot.js";

const MOST = 24, WIDTH = 640; // images of a list; pixels of the matrix
function thumbs(run, items, most = MOST) {
  return h("div.grid.thumbs", items.slice(0, most).map(([row, text]) => h("button.tile",
    { onclick: () => set({ view: "predict", image: `val:${row}@${run}` }, { push: true }) },
    h("img", { src: imagePath(run, `val:${row}`), alt: "" }), text)));
}

/** Draw the confusion matrix with the chosen cell, and counts if there is room. */
function drawMatrix(canvas, cells, row, column) {
  const pen = canvas.getContext("2d"), look = getComputedStyle(document.documentElement), cell = WIDTH / cells.length;
  pen.clearRect(0, 0, WIDTH, WIDTH);
  Object.assign(pen, { font: "15px system-ui, sans-serif", textAlign: "center", textBaseline: "middle", lineWidth: 3 });
  cells.forEach((line, y) => line.forEach((n, x) => {
    if (!n) return;
    pen.globalAlpha = 0.12 + 0.88 * Math.sqrt(n / line.reduce((a, b) => a + b));
    pen.fillStyle = look.getPropertyValue(x === y ? "--accent" : "--bad");
    pen.fillRect(cell * x + 1, cell * y + 1, cell - 2, cell - 2);
    Object.assign(pen, { globalAlpha: 1, fillStyle: look.getPropertyValue("--text") });
    if (cell > 28 && x !== y) pen.fillText(n, cell * (x + 0.5), cell * (y + 0.5));
  }));
  pen.strokeStyle = look.getPropertyValue("--text");
  pen.strokeRect(cell * column + 1, cell * row + 1, cell - 2, cell - 2);
}

export async function mistakes(view, signal) {
  const run = state.run, known = await ask(runPath(run, "mistakes"), { signal }), count = known.labels.length;
  const names = known.categories.map(plain), cells = names.map(() => names.map(() => 0));
  const rows = known.labels.map((label, row) => [row, label, known.guesses[row], known.confidences[row]])
    .filter(([, , guess]) => guess >= 0).sort((a, b) => b[3] - a[3]);
  for (const [, label, guess] of rows) cells[label][guess]++;
  const totals = cells.map(line => line.reduce((a, b) => a + b)), wrong = rows.filter(each => each[1] !== each[2]);
  const pairs = cells.flatMap((line, y) => line.flatMap((n, x) => n && x !== y ? [[y, x, n]] : []));
  pairs.sort((a, b) => b[2] - a[2]);
  const canvas = h("canvas.matrix", { width: WIDTH, height: WIDTH }), title = h("h2", { "aria-live": "polite" });
  const images = h("div"), go = walk(canvas, "confusion matrix", () => names.length, (y, x) => {
    set({ cell: `${y}-${x}` });
    drawMatrix(canvas, cells, y, x);
    title.textContent = `${cells[y][x]} of ${totals[y]} images of ${names[y]} are `
      + (x === y ? "recognized" : `taken for ${names[x]}`);
    const items = rows.filter(([, label, guess]) => label === y && guess === x);
    images.replaceChildren(thumbs(run, items.map(([row, , , share]) => [row, percent(share, 0)])));
  });
  const list = pairs.slice(0, 10).map(([y, x, n]) => h("li", h("button.tiny", { onclick: () => go(y, x) },
    `${names[y]} → ${names[x]}: ${n} of ${totals[y]}`)));
  const chart = new Chart("Calibration", { xLabel: "confidence, %", yRange: [0, 100] });
  const interval = known.interval.map(v => v.toFixed(1)).join(" to ");
  view.append(card(`${known.top1.toFixed(1)} % top-1`, soft(`95 % interval ${interval} %, ${count} ${known.split} `
    + `images, ${wrong.length} mistakes; calibration error ${known.ece?.toFixed(1) ?? "–"} %`)),
  h("div.sides", card("Confusion matrix", soft("Rows are true classes, columns predicted ones, both in this order: "
    + `${names.slice(0, 20).join(", ")}${names.length > 20 ? ", …" : ""}. Blue is right.`), canvas),
    h("div.card", title, images)),
  h("div.sides", card("Most confused", h("ol", list)), chart.element),
  card("Most confident mistakes", thumbs(run, wrong.map(([row, label, guess, share]) =>
    [row, `${names[label]}; predicted ${names[guess]} ${percent(share, 0)}`]))));
  chart.update([{ name: "accuracy, %", color: COLORS[0], points: known.reliability },
    { name: "perfect", color: COLORS[7], dash: "4 4", points: [[0, 0], [100, 100]] }]);
  go(...(state.cell || "").match(/^(\d+)-(\d+)$/)?.slice(1).map(Number) ?? pairs[0] ?? [0, 0]);
}

export async function compare(view, signal) {
  const { run, other } = state;
  if (!other) return view.append(h("p.card.soft", "Choose a second network to compare with."));
  const known = await ask("api/compare?" + new URLSearchParams({ first: run, second: other }), { signal });
  const name = label => label < 0 ? "undefined" : plain(known.categories[label]), points = known.difference.toFixed(1);
  const numbers = { "both right": known.both, [`only ${run}`]: known.only_first, [`only ${other}`]: known.only_second,
    "both wrong": known.images - known.both - known.only_first - known.only_second };
  const [low, high] = known.interval, verdict = low > 0 || high < 0 ? "is more than" : "may be";
  view.append(h("div.card", h("p.big", `${known.difference > 0 ? "+" : ""}${points} percentage points`),
    h("p", `${other} compared with ${run}; 95 % interval ${low.toFixed(1)} to ${high.toFixed(1)}, paired on `
      + `${known.images} images. The difference ${verdict} chance.`)),
  h("div.grid", Object.entries(numbers).map(([text, n]) => h("div.card", h("p.big", number(n)), soft(text)))));
  const groups = { [`Only ${run} is right`]: ([, label, one]) => one === label,
    [`Only ${other} is right`]: ([, label, , two]) => two === label,
    "Both are wrong, in two ways": ([, label, one, two]) => one !== label && two !== label };
  for (const [title, keep] of Object.entries(groups))
    view.append(card(title, thumbs(run, known.disagreements.filter(keep)
      .map(([row, label, one, two]) => [row, `${name(label)}: ${name(one)} | ${name(two)}`]), 16)));
}
