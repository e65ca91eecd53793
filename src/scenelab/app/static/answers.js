// Predictions, attribution maps, and attacks on the chosen image, for one or two networks side by side.

import { ask, bars, choice, COLORS, download, h, imagePath, loadImage, network, notify, number, percent, plain, saveButton, set,
  sides, slider, state } from "./page.js";
import { Chart } from "./plot.js";

/** A column per network; `fill` fills it and may fail for each on its own. */
function columns(view, signal, fill) {
  const all = sides().map(run => {
    const column = h("div.card", {}, h("h2", {}, run));
    Promise.resolve(fill(column, run)).catch(error => {
      if (error.name !== "AbortError") column.append(h("p.bad", {}, error.message));
    });
    return column;
  });
  view.append(h("div.sides", {}, all));
}

export function predict(view, signal) {
  columns(view, signal, async (column, run) => {
    column.append(bars(await ask("api/predict", { body: { run, image: state.image }, signal })));
  });
}

/** Draw layers over each other at a size and save the result as PNG. */
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
  const again = changes => { set(changes); view.replaceChildren(); explain(view, signal).catch(error => notify(error.message)); };
  const classes = [["", "the predicted class"], ...known.categories.map(name => [name, plain(name)])];
  view.append(h("div.card.row", {}, choice("Class to explain", classes, state.category || "", category => again({ category })),
    slider("Opacity", { min: 0, max: 100, value: state.opacity ?? 70, unit: " %" }, value => { set({ opacity: value }); paint(); }),
    h("label.inline", {}, h("input", { type: "checkbox", checked: state.faithful === "1",
      onchange: event => again({ faithful: event.target.checked ? 1 : null }) }), "measure how faithful each map is"),
    h("p.soft", {}, "One scale for all: each map is divided by its mean; dark blue is 0, yellow is 6 times an even spread or more.")));
  columns(view, signal, async (column, run) => {
    const { methods } = await network(run), grid = h("div.grid"), image = imagePath(run, state.image);
    column.append(grid);
    for (const [method, description] of Object.entries(methods)) {
      const box = h("div.picture"), text = h("figcaption", {}, "…");
      grid.append(h("figure", {}, h("h3", {}, method), box, text));
      const body = { run, image: state.image, method, category: state.category || null, faithfulness: state.faithful === "1" };
      const answer = await ask("api/explain", { body, signal });
      const gray = h("img", { src: image, alt: "" }), map = h("img", { src: answer.map, alt: `map by ${method} for ${plain(answer.category)}` });
      box.append(gray, map);
      maps.push([gray, map]);
      paint();
      const save = saveButton("PNG", () => saveOverlay(`${method}.png`, image, answer.map, opacity()));
      text.replaceChildren(h("div.head", {}, `for ${plain(answer.category)}`, save), description, answer.is_empty ? "; this map is empty" : "");
      if (!answer.deletion) continue;
      const chart = new Chart(`Deletion, area ${answer.area.toFixed(3)}`, { xLabel: "% of pixels made gray", yRange: [0, 1], height: 150 });
      grid.lastChild.append(chart.element);
      chart.svg.style.height = "150px";
      const points = answer.deletion.map((value, i) => [100 * i / (answer.deletion.length - 1), value]);
      chart.update([{ name: "probability; low is faithful", color: COLORS[0], points }]);
    }
  });
}

const ATTACKS = [["pgd", "PGD"], ["fgsm", "FGSM, one step"], ["apgd", "Auto-PGD"], ["square", "Square, no gradient"]];

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
  const outcome = answer.outcome === "fooled before" ? `The image is taken for ${plain(before)} without an attack; choose another target.`
    : answer.outcome === "succeeded" ? "The attack succeeded."
      : target && before !== after ? `The class changed, but not to ${plain(target)}.` : "The attack failed.";
  return [h("strong", { className: answer.outcome === "succeeded" ? "bad" : "good" }, outcome), ` ${plain(before)} ${percent(p)} → ${plain(after)} `
    + `${percent(q)}, without averaging over the mirror image. Largest change ${Math.round(255 * answer.largest)}/255, `
    + `${answer.passes} forward passes.`];
}

export async function attack(view, signal) {
  const known = await network(state.run), method = state.method || "pgd";
  let control = new AbortController();
  signal.addEventListener("abort", () => control.abort());
  const results = h("div");
  const start = h("button.main", { type: "button", onclick: run }, "Attack");
  const halt = h("button", { type: "button", disabled: true, onclick: () => control.abort() }, "Stop");
  const targets = [["", "any other class"], ["least-likely", "the least likely class"], ...known.categories.map(name => [name, plain(name)])];
  const target = choice("Target", targets, state.target || "", value => set({ target: value }));
  const limit = (kind) => { target.querySelector("select").disabled = !["pgd", "fgsm"].includes(kind); };
  limit(method);
  view.append(h("div.card.row", {}, choice("Attack", ATTACKS, method, value => { set({ method: value }); limit(value); }),
    slider("ε", { min: 0, max: 32, value: state.epsilon ?? 2, unit: "/255" }, epsilon => set({ epsilon })),
    slider("Steps", { min: 1, max: 100, value: state.steps ?? 10 }, steps => set({ steps })), target, start, halt), results);

  async function one(column, run) {
    const aimed = ["pgd", "fgsm"].includes(state.method || "pgd") ? state.target || null : null;
    const body = { run, image: state.image, method: state.method || "pgd", levels: +(state.epsilon ?? 2), steps: +(state.steps ?? 10), target: aimed };
    const status = h("p", { role: "status" }, "Waiting …");
    column.append(status);
    try {
      for await (const [kind, data] of events(await ask("api/attack", { body, signal: control.signal, raw: true }))) {
        if (kind === "progress") status.textContent = `Running; forward passes: ${data}`;
        else if (kind === "error") status.textContent = data;
        else show(column, status, data, aimed);
      }
    } catch (error) {
      if (error.name !== "AbortError") throw error;
      status.textContent = "Stopped.";
    }
  }
  function show(column, status, answer, aimed) {
    status.replaceChildren(...verdict(answer, aimed));
    const pictures = { original: "", adversarial: "", difference: `, ${answer.amplified.toFixed(0)} times as strong` };
    column.append(h("div.grid", {}, Object.entries(pictures).map(([name, note]) => h("figure", {},
      h("div.picture", {}, h("img", { src: answer[name], alt: name })),
      h("figcaption.head", {}, name + note, saveButton("PNG", () => download(`${name}.png`, answer[name])))))));
    const chart = new Chart("Probabilities during the attack", { xLabel: "forward pass", yRange: [0, 1] });
    const total = answer.passes - 1, line = (place) => answer.path.map((pair, i) => [i * total / Math.max(1, answer.path.length - 1), pair[place]]);
    const names = answer.categories.map(plain);
    column.append(h("div.sides", {}, h("div", {}, h("h3", {}, "before"), bars(answer.before)), h("div", {}, h("h3", {}, "after"), bars(answer.after))),
      chart.element);
    chart.update([{ name: names[0], color: COLORS[0], points: line(0) },
      ...(names[0] === names[1] ? [] : [{ name: names[1], color: COLORS[1], points: line(1) }])]);
  }
  async function run() {
    control.abort();
    control = new AbortController();
    const mine = control;
    halt.disabled = false;
    results.replaceChildren();
    const jobs = [];
    columns(results, mine.signal, (column, name) => { const job = one(column, name); jobs.push(job); return job; });
    await Promise.allSettled(jobs);
    if (mine === control) halt.disabled = true;
  }
}
