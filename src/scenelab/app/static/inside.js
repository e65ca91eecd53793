// What a network sees: filters, feature maps, receptive fields, exciting image parts; and convolution by hand.

import { again, ask, card, choice, complain, frame, h, imagePath, loadImage, network, number, plain, runPath, set,
  slider, soft, state, walk } from "./page.js";

/** Draw one plane of values in gray, or three in color, from a lowest to a highest value; null is transparent. */
function draw(planes, low = Math.min(...planes.flat(2)), high = Math.max(...planes.flat(2))) {
  const [height, width] = [planes[0].length, planes[0][0].length], canvas = h("canvas", { width, height });
  const pen = canvas.getContext("2d"), pixels = pen.createImageData(width, height);
  for (let i = 0; i < 4 * width * height; i++) {
    const [pixel, c] = [i >> 2, i & 3], value = (planes[c] ?? planes[0])[Math.floor(pixel / width)][pixel % width];
    pixels.data[i] = c === 3 ? 255 * (value != null) : 255 * (value - low) / (high - low || 1);
  }
  pen.putImageData(pixels, 0, 0);
  return canvas;
}
function cut(image, x, y, width, height) {
  const canvas = h("canvas", { width, height });
  canvas.getContext("2d").drawImage(image, x, y, width, height, 0, 0, width, height);
  return canvas;
}
const tile = (canvas, text, onclick) => h("button.tile", { onclick }, canvas, text);

export async function look(view, signal) {
  const run = state.run, known = await network(run), first = known.layers[0];
  if (!first) throw new Error(`${run} has no feature maps.`);
  const layer = known.layers.some(([name]) => name === state.layer) ? state.layer : first[0];
  const names = known.layers.map(([name, channels, side]) => [name, `${name}: ${channels} maps of ${side}×${side}`]);
  const detail = h("div.card.stay", soft("Choose a map: what its units see of the image, and what excites it."));
  const tiles = h("div.grid.small"), count = soft("Computing …"), filters = h("div.grid.small");
  view.append(h("div.card.row", choice("Layer", names, layer, value => again(view, look, signal, { layer: value }))),
    h("div.sides", card("Feature maps", count, tiles), detail),
    card("Filters of the first layer", filters));
  ask(runPath(run, "filters"), { signal }).then(({ weights }) => filters.append(...weights.map((filter, i) =>
    tile(draw(filter), String(i), () => set({ view: "convolve", filter: i }, { push: true }))))).catch(() => {});
  const answer = await ask("api/features", { body: { run, image: state.image, layer }, signal });
  const atlas = await loadImage(answer.atlas), side = answer.side;
  count.textContent = `${answer.channels.length} of ${answer.of}, those with the largest values first; each from its `
    + "smallest value in black to its largest in white.";
  const map = index => cut(atlas, index % 8 * side, Math.floor(index / 8) * side, side, side);
  tiles.append(...answer.channels.map((channel, i) => tile(map(i), String(channel), () => open(channel, i))));

  function open(channel, index) {
    [...tiles.children].forEach((other, place) => other.setAttribute("aria-pressed", place === index));
    const [field, unit, parts] = [h("div.field"), h("div.field"), h("div.grid.thumbs")];
    const text = h("p.soft", { role: "status" });
    const units = h("div.picture", map(index), unit), [low, high] = answer.ranges[index];
    const go = walk(units, `units of map ${channel}`, () => side, (y, x) => {
      const [[y0, y1], [x0, x1]] = [answer.fields[y], answer.fields[x]];
      frame(unit, y, y + 1, x, x + 1, side);
      frame(field, y0, y1 + 1, x0, x1 + 1, known.size);
      text.textContent = `The unit in row ${y}, column ${x} sees rows ${y0} to ${y1} and columns ${x0} to ${x1} of `
        + `${known.size}.`;
    });
    const image = h("img", { src: imagePath(run, state.image), alt: "the receptive field on the image" });
    detail.replaceChildren(h("h2", `Map ${channel} of ${layer}`), soft(`values from ${number(low)} to ${number(high)}`),
      h("div.two", units, h("div.picture", image, field)), text,
      h("button", { onclick: event => excite(event.target, parts, channel).catch(complain) },
        "Find what excites it most"), parts);
    go(side >> 1, side >> 1);
  }
  async function excite(button, parts, channel) {
    button.disabled = true;
    const { patches } = await ask("api/features", { body: { run, image: state.image, layer, channel }, signal });
    for (const { row, y, x, value } of patches) {
      const [[y0, y1], [x0, x1]] = [answer.fields[y], answer.fields[x]], name = `val:${row}@${state.run}`;
      const part = cut(await loadImage(imagePath(run, name)), x0, y0, x1 - x0 + 1, y1 - y0 + 1);
      parts.append(tile(part, `${plain(known.categories[known.labels[row]])} ${number(value)}`,
        () => set({ image: name }, { push: true })));
    }
  }
}

const SIDE = 28; // pixels of the image that is convolved by hand
const KERNELS = {
  vertical: ["vertical edges", [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]],
  horizontal: ["horizontal edges", [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]],
  sharpen: ["sharpen", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]],
};
const list = (length, make) => Array.from({ length }, (_, i) => make(i));
const plane = (side, value) => list(side, y => list(side, x => value(y, x)));

export async function convolve(view, signal) {
  const run = state.run, layer = await ask(runPath(run, "filters"), { signal });
  const pen = h("canvas", { width: SIDE, height: SIDE }).getContext("2d");
  pen.drawImage(await loadImage(imagePath(run, state.image)), 0, 0, SIDE, SIDE);
  const { data } = pen.getImageData(0, 0, SIDE, SIDE), pixel = (y, x, c) => data[4 * (y * SIDE + x) + c] / 255;
  const gray = [plane(SIDE, (y, x) => (pixel(y, x, 0) + pixel(y, x, 1) + pixel(y, x, 2)) / 3)];
  const color = [0, 1, 2].map(c => plane(SIDE, (y, x) => (pixel(y, x, c) - layer.mean[c]) / layer.std[c]));
  const names = [...Object.entries(KERNELS).map(([key, [name]]) => [key, name]), ["mean", "mean (any kernel)"],
    ...layer.weights.map((_, i) => [String(i), `first layer, filter ${i}`])];
  const input = h("div.picture"), output = h("div.picture"), sum = h("p.sum", { role: "status" });
  const tables = h("div.row"), size = h("p.soft");
  const kernel = slider("Kernel", { min: 1, max: 7, step: 2, value: state.kernel ?? 3 }, k => change({ kernel: k }));
  const play = h("button.main", { onclick: toggle }, "Slide over the image");
  let now, seen, timer = null, at = [0, 0];
  view.append(h("div.card.row", choice("Filter", names, state.filter || "vertical", filter => change({ filter })),
    kernel,
    slider("Stride", { min: 1, max: 4, value: state.stride ?? 1 }, stride => change({ stride })),
    slider("Padding", { min: 0, max: 3, value: state.padding ?? 0 }, padding => change({ padding })), play),
  h("div.sides", card("Image", input), card("Output map", output, size)),
  card("At this place", sum, tables));

  function change(changes) {
    set(changes);
    const [s, p, size] = [+(state.stride ?? 1), +(state.padding ?? 0), +(state.kernel ?? 3)];
    const trained = layer.weights[state.filter], fixed = (KERNELS[state.filter || "vertical"] || [])[1];
    const weights = trained || [fixed || plane(size, () => 1 / size ** 2)], k = weights[0].length;
    kernel.lastChild.disabled = Boolean(trained || fixed);
    now = { s, p, k, weights, bias: trained ? layer.bias[state.filter] : 0, planes: trained ? color : gray,
      names: trained ? ["red", "green", "blue"] : ["gray"], n: Math.floor((SIDE + 2 * p - k) / s) + 1 };
    seen = new Map();
    go(0, 0);
  }
  const value = (values, y, x) => values[y]?.[x] ?? 0;
  function show(row, column) {
    const { n, k, s, p, planes, weights, bias } = now, whole = SIDE + 2 * p;
    at = [row, column];
    const terms = weights.map((kernel, c) => kernel.map((line, i) => line.map((w, j) =>
      [value(planes[c], row * s - p + i, column * s - p + j), w])));
    const total = terms.flat(2).reduce((all, [x, w]) => all + x * w, bias);
    seen.set(row * n + column, total);
    input.replaceChildren(draw(planes.map(each => plane(whole, (y, x) => value(each, y - p, x - p)))),
      frame(h("div.field"), row * s, row * s + k, column * s, column * s + k, whole));
    const map = plane(n, (y, x) => seen.get(y * n + x)), found = [...seen.values()];
    output.replaceChildren(draw([map], Math.min(...found), Math.max(...found)),
      frame(h("div.field"), row, row + 1, column, column + 1, n));
    size.textContent = `⌊(${SIDE} + 2·${p} − ${k}) / ${s}⌋ + 1 = ${n}: ${n}×${n} numbers, ${seen.size} computed`;
    sum.textContent = `row ${row}, column ${column}: the sum of ${terms.flat(2).length} products`
      + `${bias ? ` and the bias ${number(bias)}` : ""} is ${signed(total, 3)}`;
    tables.replaceChildren(...terms.map((lines, c) => h("div", h("h3", `${now.names[c]}: pixel × weight = product`),
      h("table.numbers", h("tbody", lines.map(line => h("tr", line.map(([x, w]) =>
        h("td", h("span.soft", `${signed(x)} × ${signed(w)}`), h("br"), signed(x * w, 3))))))))));
  }
  const signed = (v, digits = 2) => v.toFixed(digits).replace("-", "−");
  const go = walk(input, "the place of the filter on the image", () => now.n, show,
    share => Math.round((share * (SIDE + 2 * now.p) - now.k / 2) / now.s));
  function toggle() {
    const end = () => { clearInterval(timer); timer = null; play.textContent = "Slide over the image"; };
    if (timer) return end();
    play.textContent = "Stop";
    timer = setInterval(() => {
      const next = at[0] * now.n + at[1] + 1;
      if (next >= now.n ** 2 || signal.aborted) end(); else go(Math.floor(next / now.n), next % now.n);
    }, 40);
  }
  change({});
}
