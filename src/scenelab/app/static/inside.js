// What a network sees: filters, feature maps, receptive fields, exciting patches; and convolution by hand.

import { ask, choice, h, imagePath, loadImage, network, notify, number, plain, runPath, set, slider, state } from "./page.js";

/** Draw values (rows of numbers, or three channels of them) in gray or color, from their smallest to their largest. */
function draw(canvas, channels, low, high) {
  const [height, width] = [channels[0].length, channels[0][0].length], pen = canvas.getContext("2d");
  Object.assign(canvas, { width, height });
  const pixels = pen.createImageData(width, height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < 4; c++) {
        const value = (channels[Math.min(c, channels.length - 1)] ?? channels[0])[y][x];
        pixels.data[4 * (y * width + x) + c] = c === 3 ? (value == null ? 0 : 255) : 255 * (value - low) / (high - low || 1);
      }
  pen.putImageData(pixels, 0, 0);
  return canvas;
}
const range = channels => { const all = channels.flat(2); return [Math.min(...all), Math.max(...all)]; };
const filterImage = weights => draw(h("canvas"), weights, ...range(weights));

export async function look(view, signal) {
  const run = state.run, known = await network(run), layer = known.layers.some(([name]) => name === state.layer) ? state.layer : known.layers[0][0];
  const names = known.layers.map(([name, channels, side]) => [name, `${name}: ${channels} maps of ${side}×${side}`]);
  const again = value => { set({ layer: value }); view.replaceChildren(); look(view, signal).catch(error => notify(error.message)); };
  const detail = h("div.card", {}, h("p.soft", {}, "Choose a map: its units, what they see of the image, and the image parts that excite it most."));
  const tiles = h("div.grid.small"), count = h("p.soft");
  view.append(h("div.card.row", {}, choice("Layer", names, layer, again)),
    h("div.sides", {}, h("div.card", {}, h("h2", {}, "Feature maps"), count, tiles), detail));
  const answer = await ask("api/features", { body: { run, image: state.image, layer }, signal });
  const atlas = await loadImage(answer.atlas), side = answer.side;
  count.textContent = `${answer.channels.length} of ${answer.of} maps, those with the largest values first; each from its smallest value in black to its largest in white.`;
  const cut = index => {
    const canvas = h("canvas", { width: side, height: side });
    canvas.getContext("2d").drawImage(atlas, index % 8 * side, Math.floor(index / 8) * side, side, side, 0, 0, side, side);
    return canvas;
  };
  tiles.append(...answer.channels.map((channel, index) => h("button.tile", { type: "button", "aria-pressed": "false",
    "aria-label": `map ${channel}`, onclick: event => open(event.currentTarget, channel, index) }, cut(index), String(channel))));

  function open(tile, channel, index) {
    for (const other of tiles.children) other.setAttribute("aria-pressed", other === tile);
    let [x, y] = [side >> 1, side >> 1];
    const field = h("div.field"), unit = h("div.field"), text = h("p.soft", { role: "status" });
    const map = h("div.picture", { tabindex: 0, role: "application", "aria-label": `units of map ${channel}; arrow keys move` }, cut(index), unit);
    const frame = (box, x0, x1, y0, y1, of) => Object.assign(box.style, { left: `${100 * x0 / of}%`, top: `${100 * y0 / of}%`,
      width: `${100 * (x1 - x0) / of}%`, height: `${100 * (y1 - y0) / of}%` });
    function move(nx, ny) {
      [x, y] = [nx, ny].map(v => Math.max(0, Math.min(side - 1, v)));
      const [[x0, x1], [y0, y1]] = [answer.fields[x], answer.fields[y]];
      frame(unit, x, x + 1, y, y + 1, side);
      frame(field, x0, x1 + 1, y0, y1 + 1, known.size);
      text.textContent = `The unit in row ${y}, column ${x} sees rows ${y0} to ${y1} and columns ${x0} to ${x1} of ${known.size}.`;
    }
    map.onclick = event => move(Math.floor(event.offsetX / map.clientWidth * side), Math.floor(event.offsetY / map.clientHeight * side));
    map.onkeydown = event => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (step) { event.preventDefault(); move(x + step[0], y + step[1]); }
    };
    const patches = h("div.grid.thumbs"), [low, high] = answer.ranges[index];
    const search = h("button", { type: "button", onclick: () => excite(search, patches, channel) }, "Find the nine image parts that excite it most");
    detail.replaceChildren(h("h2", {}, `Map ${channel} of ${layer}`), h("p.soft", {}, `values from ${number(low)} to ${number(high)}`),
      h("div.grid", {}, map, h("div.picture", {}, h("img", { src: imagePath(run, state.image), alt: "receptive field on the image" }), field)),
      text, search, patches);
    move(x, y);
  }

  async function excite(button, patches, channel) {
    button.disabled = true;
    try {
      const found = await ask("api/features", { body: { run, image: state.image, layer, channel }, signal });
      for (const { row, y, x, value } of found.patches) {
        const [[x0, x1], [y0, y1]] = [answer.fields[x], answer.fields[y]], canvas = h("canvas", { width: x1 - x0 + 1, height: y1 - y0 + 1 });
        const image = await loadImage(imagePath(run, `val:${row}`));
        canvas.getContext("2d").drawImage(image, x0, y0, canvas.width, canvas.height, 0, 0, canvas.width, canvas.height);
        patches.append(h("button.tile", { type: "button", onclick: () => set({ image: `val:${row}` }, { push: true }) }, canvas,
          `${plain(known.categories[known.labels[row]])} ${number(value)}`));
      }
    } catch (error) { notify(error.message); }
    button.disabled = false;
  }
}

const KERNELS = {
  "vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], "horizontal edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
  "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
};
const blur = k => Array.from({ length: k }, () => Array(k).fill(1 / (k * k)));
const SIDE = 28; // pixels of the image that is convolved by hand

export async function convolve(view, signal) {
  const run = state.run, network = await ask(runPath(run, "filters"), { signal });
  const picture = await loadImage(imagePath(run, state.image)), canvas = h("canvas", { width: SIDE, height: SIDE });
  canvas.getContext("2d").drawImage(picture, 0, 0, SIDE, SIDE);
  const pixels = canvas.getContext("2d").getImageData(0, 0, SIDE, SIDE).data;
  const plane = make => Array.from({ length: SIDE }, (_, y) => Array.from({ length: SIDE }, (_, x) => make(4 * (y * SIDE + x))));
  const gray = [plane(i => (pixels[i] + pixels[i + 1] + pixels[i + 2]) / 765)];
  const color = [0, 1, 2].map(c => plane(i => (pixels[i + c] / 255 - network.mean[c]) / network.std[c]));
  const names = [...Object.keys(KERNELS), "blur", ...network.weights.map((_, i) => `first layer, filter ${i}`)];
  let at = [0, 0], timer = null, seen = new Map();
  const input = h("div.picture", { tabindex: 0, role: "application", "aria-label": "the image; arrow keys move the filter" });
  const output = h("div.picture"), sum = h("p.sum", { role: "status" }), tables = h("div.row"), size = h("p.soft");
  const kernelSize = slider("Kernel", { min: 1, max: 7, step: 2, value: state.kernel ?? 3 }, kernel => change({ kernel }));
  const stride = slider("Stride", { min: 1, max: 4, value: state.stride ?? 1 }, value => change({ stride: value }));
  const padding = slider("Padding", { min: 0, max: 3, value: state.padding ?? 0 }, value => change({ padding: value }));
  const play = h("button.main", { type: "button", onclick: toggle }, "Slide over the image");
  view.append(h("div.card.row", {}, choice("Filter", names, state.filter1 || names[0], value => change({ filter1: value })), kernelSize, stride, padding, play),
    h("div.sides", {}, h("div.card", {}, h("h2", {}, "Image"), input), h("div.card", {}, h("h2", {}, "Output map"), output, size)),
    h("div.card", {}, h("h2", {}, "At this place"), sum, tables));

  function setup() {
    const name = state.filter1 || names[0], index = name.startsWith("first layer") ? +name.split(" ").at(-1) : null;
    const free = name === "blur", weights = index == null ? [free ? blur(+(state.kernel ?? 3)) : KERNELS[name] ?? KERNELS["vertical edges"]] : network.weights[index];
    kernelSize.querySelector("input").disabled = !free;
    const [s, p, k] = [+(state.stride ?? 1), +(state.padding ?? 0), weights[0].length];
    return { weights, bias: index == null ? 0 : network.bias[index], planes: index == null ? gray : color, s, p, k,
      n: Math.max(1, Math.floor((SIDE + 2 * p - k) / s) + 1), channels: index == null ? ["gray"] : ["red", "green", "blue"] };
  }
  let now = setup();
  const value = (plane, y, x) => plane[y]?.[x] ?? 0;
  const products = (row, column) => now.weights.map((kernel, c) => kernel.map((line, i) => line.map((w, j) =>
    [value(now.planes[c], row * now.s - now.p + i, column * now.s - now.p + j), w])));
  const total = cells => now.bias + cells.flat(2).reduce((all, [x, w]) => all + x * w, 0);

  function change(changes) {
    set(changes);
    now = setup();
    [at, seen] = [[0, 0], new Map()];
    show();
  }
  function show() {
    const [row, column] = at, cells = products(row, column), { n, k, s, p } = now, whole = SIDE + 2 * p;
    seen.set(row * n + column, total(cells));
    const padded = now.planes.map(plane => Array.from({ length: whole }, (_, y) => Array.from({ length: whole }, (_, x) => value(plane, y - p, x - p))));
    const field = h("div.field"), cell = h("div.field");
    Object.assign(field.style, { left: `${100 * column * s / whole}%`, top: `${100 * row * s / whole}%`, width: `${100 * k / whole}%`, height: `${100 * k / whole}%` });
    Object.assign(cell.style, { left: `${100 * column / n}%`, top: `${100 * row / n}%`, width: `${100 / n}%`, height: `${100 / n}%` });
    const map = Array.from({ length: n }, (_, y) => Array.from({ length: n }, (_, x) => seen.get(y * n + x) ?? null));
    const found = [...seen.values()];
    input.replaceChildren(draw(h("canvas"), padded, ...range(padded)), field);
    output.replaceChildren(draw(h("canvas"), [map], Math.min(...found), Math.max(...found)), cell);
    size.textContent = `⌊(${SIDE} + 2·${p} − ${k}) / ${s}⌋ + 1 = ${n}, so ${n}×${n} numbers; ${seen.size} computed`;
    sum.textContent = `row ${row}, column ${column}: the sum of ${cells.flat(2).length} products`
      + `${now.bias ? ` and the bias ${number(now.bias)}` : ""} is ${total(cells).toFixed(3)}`;
    tables.replaceChildren(...cells.map((channel, c) => h("div", {}, h("h3", {}, `${now.channels[c]}: pixel × weight`),
      h("table.numbers", {}, h("tbody", {}, channel.map(line => h("tr", {}, line.map(([x, w]) =>
        h("td", { title: `= ${(x * w).toFixed(3)}` }, `${x.toFixed(2)} × ${w.toFixed(2)}`)))))))));
  }
  function move(row, column) {
    at = [row, column].map(v => Math.max(0, Math.min(now.n - 1, v)));
    show();
  }
  function toggle() {
    if (timer) { clearInterval(timer); timer = null; }
    else timer = setInterval(() => {
      const next = at[0] * now.n + at[1] + 1;
      if (next >= now.n * now.n || signal.aborted) return toggle();
      move(Math.floor(next / now.n), next % now.n);
    }, 40);
    play.textContent = timer ? "Stop" : "Slide over the image";
  }
  const point = event => {
    const whole = SIDE + 2 * now.p, to = v => Math.round((v * whole - now.k / 2) / now.s);
    const box = input.getBoundingClientRect();
    move(to((event.clientY - box.top) / box.height), to((event.clientX - box.left) / box.width));
  };
  input.addEventListener("pointerdown", point);
  input.addEventListener("pointermove", event => { if (event.buttons || event.pointerType === "mouse") point(event); });
  input.addEventListener("keydown", event => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (step) { event.preventDefault(); move(at[0] + step[0], at[1] + step[1]); }
  });
  show();
}
