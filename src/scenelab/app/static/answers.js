// Predictions, attribution maps, and attacks on the chosen image, for one or two networks side by side.

import { again, ask, bars, card, choice, COLORS, download, h, imagePath, loadImage, network, percent, plain,
  saveButton, set, sides, slider, soft, state } from "./page.js";
import { Chart } from "./plot.js";

/** A column per network; `fill` fills it and may fail for each on its own. */
function columns(view, fill) {
  return Promise.all(sides().map(async run => {
    const wait = soft("Computing …"), column = card(run, wait);
    view.append(column);
    try { await fill(column, run); } catch (error) {
      if (error.name !== "AbortError") column.append(h("p.bad", error.message));
    }
    wait.remove();
  }));
}
const sideBySide = view => view.appendChild(h("div.sides"));

export function predict(view, signal) {
  return columns(sideBySide(view), async (column, run) => {
    column.append(bars(await ask("api/predict", { body: { run, image: state.image }, signal })));
  });
}

/** Save a map over the gray image as PNG. */
async function saveOverlay(name, gray, map, opacity) {
  const canvas = h("canvas", { width: 512, height: 512 }), pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  if (opacity) pen.filter = "grayscale(1)";
  pen.drawImage(await loadImage(gray), 0, 0, 512, 512);
  Object.assign(pen, { filter: "none", globalAlpha: opacity });
  pen.drawImage(await loadImage(map), 0, 0, 512, 512);
  canvas.toBlob(blob => download(name, blob));
}

export async function explain(view, signal) {
  const known = await network(state.run), maps = [];
  const opacity = () => +(state.opacity ?? 70) / 100;
  const paint = () => maps.forEach(([gray, map]) => {
    gray.classList.toggle("gray", opacity() > 0);
    map.style.opacity = opacity();
  });
  const change = changes => again(view, explain, signal, changes);
  const classes = [["", "the predicted class"], ...known.categories.map(name => [name, plain(name)])];
  view.append(h("div.card", h("div.row",
    choice("Class to explain", classes, state.category || "", category => change({ category })),
    slider("Opacity", { min: 0, max: 100, value: state.opacity ?? 70, unit: " %" }, value => {
      set({ opacity: value });
      paint();
    }),
    h("label.inline", h("input", { type: "checkbox", checked: state.faithful === "1",
      onchange: event => change({ faithful: event.target.checked ? 1 : null }) }), "measure how faithful each map is")),
  soft("One scale for all: each map divided by its mean. Dark blue is 0, yellow is 4 times an even spread or more.")));
  await columns(sideBySide(view), async (column, run) => {
    const { methods } = await network(run), grid = h("div.grid"), curves = [];
    const chart = new Chart("Deletion: probability as pixels turn gray", { xLabel: "pixels, %", yRange: [0, 1] });
    column.append(grid);
    for (const [method, description] of Object.entries(methods)) {
      const question = { category: state.category || null, faithfulness: state.faithful === "1" };
      const body = { run, image: state.image, method, ...question }, image = imagePath(run, state.image);
      const answer = await ask("api/explain", { body, signal });
      const name = `map by ${method} for ${plain(answer.category)}`;
      const gray = h("img", { src: image, alt: "" }), map = h("img", { src: answer.map, alt: name });
      const save = saveButton("PNG", () => saveOverlay(`${method}.png`, image, answer.map, opacity()));
      grid.append(h("figure", h("h3", method), h("div.picture", gray, map), h("figcaption",
        h("div.head", `for ${plain(answer.category)}`, save), description,
        answer.is_empty && "; this map is empty", answer.area != null && `; deletion area ${answer.area.toFixed(3)}`)));
      maps.push([gray, map]);
      paint();
      if (!answer.deletion) continue;
      const points = answer.deletion.map((value, i) => [100 * i / (answer.deletion.length - 1), value]);
      curves.push({ name: method, color: COLORS[curves.length % COLORS.length], points });
      column.append(chart.element);
      chart.update(curves);
    }
    if (curves.length) column.append(soft("The most important pixels turn gray first, so a faithful map makes the "
      + "probability fall early and has a small area."));
  });
}

const ATTACKS = [["pgd", "PGD"], ["fgsm", "FGSM, one step"], ["apgd", "Auto-PGD"], ["square", "Square, no gradient"]];
const TARGETED = ["pgd", "fgsm"];

/** Read server-sent events until the end. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const [, kind, data] = part.match(/^event: (\w+)\ndata: (.*)$/s);
      yield [kind, JSON.parse(data)];
    }
  }
}

function verdict(answer, target) {
  const [[before, p], [after, q]] = [answer.before[0], answer.after[0]];
  const missed = target && before !== after ? `The class changed, but not to ${plain(target)}.` : "The attack failed.";
  const outcome = { succeeded: "The attack succeeded.", failed: missed,
    "fooled before": `It is taken for ${plain(before)} without an attack; choose another target.` }[answer.outcome];
  return [h(answer.outcome === "succeeded" ? "strong.bad" : "strong.good", {}, outcome),
    ` ${plain(before)} ${percent(p)} → ${plain(after)} ${percent(q)}, without averaging over the mirror image. `
    + `Largest change ${Math.round(255 * answer.largest)}/255, ${answer.passes} forward passes.`];
}

function showAttack(column, answer) {
  const notes = { original: "", adversarial: "", difference: `, ${answer.amplified.toFixed(0)} times as strong` };
  const chart = new Chart("Probabilities", { xLabel: "forward pass", yRange: [0, 1] });
  column.append(h("div.three", Object.entries(notes).map(([name, note]) => h("figure",
    h("div.picture", h("img", { src: answer[name], alt: name })),
    h("figcaption.head", name + note, saveButton("PNG", () => download(`${name}.png`, answer[name])))))),
  h("div.two", h("div", h("h3", "before"), bars(answer.before)), h("div", h("h3", "after"), bars(answer.after))),
  chart.element);
  const scale = (answer.passes - 1) / Math.max(1, answer.path.length - 1);
  const lines = [...new Set(answer.categories)].map((name, place) =>
    ({ name: plain(name), color: COLORS[place], points: answer.path.map((pair, i) => [i * scale, pair[place]]) }));
  chart.update(lines);
}

export async function attack(view, signal) {
  const known = await network(state.run), results = sideBySide(h("div"));
  const settings = () => ({ method: state.method || "pgd", levels: +(state.epsilon ?? 4), steps: +state.steps || 10 });
  let control = new AbortController();
  signal.addEventListener("abort", () => control.abort());
  const start = h("button.main", { onclick: run }, "Attack");
  const halt = h("button", { type: "button", disabled: true, onclick: () => control.abort() }, "Stop");
  const targets = [["", "any other class"], ["least-likely", "the least likely class"],
    ...known.categories.map(name => [name, plain(name)])];
  const target = choice("Target", targets, state.target || "", value => set({ target: value }));
  const limit = () => { target.lastChild.disabled = !TARGETED.includes(settings().method); };
  limit();
  view.append(h("div.card.row", choice("Attack", ATTACKS, settings().method, method => { set({ method }); limit(); }),
    slider("ε", { min: 0, max: 32, value: settings().levels, unit: "/255" }, epsilon => set({ epsilon })),
    slider("Steps", { min: 1, max: 100, value: settings().steps }, steps => set({ steps })), target,
    h("div.buttons", start, halt)), results);

  async function one(column, run, mine) {
    const aimed = TARGETED.includes(settings().method) && state.target || null, status = h("p", { role: "status" });
    const body = { run, image: state.image, target: aimed, ...settings() };
    column.append(status);
    try {
      for await (const [kind, data] of events(await ask("api/attack", { body, signal: mine.signal, raw: true }))) {
        if (kind === "progress") status.textContent = `Running; forward passes: ${data}`;
        else if (kind === "error") status.textContent = data;
        else {
          status.replaceChildren(...verdict(data, aimed));
          showAttack(column, data);
        }
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      status.textContent = "Stopped.";
    }
  }
  async function run() {
    control.abort();
    const mine = control = new AbortController();
    halt.disabled = false;
    results.replaceChildren();
    await columns(results, (column, name) => one(column, name, mine));
    if (mine === control) halt.disabled = true;
  }
}
