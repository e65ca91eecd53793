// Watch it learn: the table of runs, and the curves of the selected ones while they train.

import { ask, card, choice, COLORS, complain, duration, h, link, notify, number, percent, plain, runPath, set, slider,
  soft, state } from "./page.js";
import { Chart, smooth } from "./plot.js";

const SECONDS = 2, MOST = 8; // between two looks; runs in the charts
const COLUMNS = [
  ["id", "run", run => run.id], ["state", "state", run => run.state], ["recipe", "recipe", run => run.recipe],
  ["model", "model", run => run.model], ["top1", "top-1, %", run => run.top1?.toFixed(1)],
  ["share", "done", run => percent(run.share, 0)], ["seconds", "time", run => duration(run.seconds)],
  ["seconds_left", "left", run => duration(run.seconds_left)], ["rate", "images/s", run => number(run.rate, 0)],
  ["memory", "memory", run => run.memory && `${number(run.memory / 2 ** 20, 0)} MiB`],
  ["parameters", "parameters", run => number(run.parameters, 0)],
];
const STATES = { running: "span.good", unreadable: "span.bad", "broken off": "span.warn" };
const NUMBERS = new Set(COLUMNS.slice(4).map(([name]) => name));
const logs = new Map();

const parse = line => { try { return JSON.parse(line); } catch { return null; } }; // such as a line with NaN
/** Read what a run has written since the last time; a run that resumed writes some steps again. */
async function read(run, signal) {
  const log = logs.get(run) || { metrics: 0, timings: 0, steps: [], epochs: [], times: [], clock: new Map() };
  logs.set(run, log);
  for (const file of ["metrics", "timings"]) {
    for (;;) {
      const response = await ask(`${runPath(run, file)}?offset=${log[file]}`, { raw: true, signal });
      const start = +response.headers.get("x-offset"), text = await response.text();
      if (start !== log[file]) Object.assign(log, file === "metrics" ? { steps: [], epochs: [] } : { times: [] });
      log[file] = start + new TextEncoder().encode(text).length;
      for (const row of text.split("\n").map(parse).filter(Boolean)) {
        const list = log[file === "timings" ? "times" : "training_loss" in row ? "steps" : "epochs"];
        const again = other => other.step > row.step || (other.step === row.step && other.split === row.split);
        if (list.at(-1)?.step >= row.step) list.splice(0, list.length, ...list.filter(other => !again(other)));
        list.push(row);
        if (file === "timings") log.clock.set(row.step, row.training_seconds);
      }
      if (text.length < 2 ** 21) break;
    }
  }
  return log;
}

/** Seconds in training steps at a step; in proportion where they are not known, as in runs of earlier versions. */
const secondsAt = ({ times, clock }, step, last = times.at(-1)) =>
  clock.get(step) ?? (last ? step * last.training_seconds / last.step : NaN);

export async function watch(view, signal) {
  let runs = [], shown = "", detailed = "", selected = state.runs?.split("|").filter(Boolean);
  const charts = { loss: new Chart("Loss, nats"), top1: new Chart("Top-1 accuracy, %"),
    rate: new Chart("Speed, images/s"), lr: new Chart("Learning rate") };
  const body = h("tbody"), head = h("tr"), empty = h("p.soft"), details = h("div.grid.wide");
  const region = { tabindex: 0, role: "region", "aria-label": "runs" };
  const filter = h("input", { type: "search", value: state.find || "" });
  filter.addEventListener("input", () => apply({ find: filter.value }, list));
  const axes = [["step", "steps"], ["minute", "minutes"], ["image", "images"]];
  const controls = h("div.row", h("label", "Filter the runs", filter),
    choice("Axis", axes, state.axis || "step", axis => apply({ axis }, draw)),
    slider("Smoothing", { min: 0, max: 99, value: state.smooth ?? 60, unit: " %" }, smooth => apply({ smooth }, draw)),
    h("label.inline", h("input", { type: "checkbox", checked: state.log === "1",
      onchange: event => apply({ log: event.target.checked ? 1 : null }, draw) }), "logarithmic loss and rates"));
  view.append(h("div.card", controls), h("div.table", region, h("table", h("thead", head), body)), empty,
    h("div.grid.wide", Object.values(charts).map(chart => chart.element)), details);

  const apply = (changes, show) => { set(changes); show(); };
  const color = name => COLORS[selected.indexOf(name) % COLORS.length];
  function toggle(name, on) {
    selected = on ? [...selected, name].slice(-MOST) : selected.filter(other => other !== name);
    set({ runs: selected.join("|") || "|" });
    list();
    look();
  }
  function list() {
    const order = state.sort || "id", key = order.replace("-", ""), sign = order.startsWith("-") ? -1 : 1;
    const words = filter.value.toLowerCase().split(/\s+/);
    const text = run => `${run.id} ${run.state} ${run.recipe} ${run.model}`.toLowerCase();
    const matches = run => words.every(word => text(run).includes(word));
    const compare = ({ [key]: a }, { [key]: b }) => a == null ? 1 : b == null ? -1
      : sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    const focus = document.activeElement?.getAttribute("aria-label");
    head.replaceChildren(h("th", "show"), ...COLUMNS.map(([name, label]) => {
      const sorted = key === name ? (sign > 0 ? "ascending" : "descending") : "none";
      const arrow = { ascending: " ↑", descending: " ↓", none: "" }[sorted];
      return h(NUMBERS.has(name) ? "th.number" : "th", { "aria-sort": sorted },
        h("button", { "aria-label": `sort by ${label}`,
          onclick: () => apply({ sort: order === name ? `-${name}` : name }, list) }, label + arrow));
    }), h("th", "look inside"));
    const rows = runs.filter(matches).sort(compare);
    body.replaceChildren(...rows.map(run => {
      const on = selected.includes(run.id), swatch = h("span.swatch");
      if (on) swatch.style.background = color(run.id);
      const status = h(STATES[run.state] ?? "span", { title: run.problem }, run.state);
      const special = { id: [swatch, run.id], state: status };
      const cells = COLUMNS.map(([name, , text]) =>
        h(NUMBERS.has(name) ? "td.number" : "td", {}, special[name] ?? text(run) ?? "–"));
      const box = h("input", { type: "checkbox", checked: on, "aria-label": `show ${run.id}`,
        onchange: event => toggle(run.id, event.target.checked) });
      const target = link({ view: "predict", run: run.id });
      const inside = run.has_network ? h("a", { href: target, "aria-label": `take ${run.id} apart` }, "take apart")
        : h("span.soft", run.problem || "no network yet");
      return h("tr", h("td", box), cells, h("td", inside));
    }));
    if (focus) view.querySelector(`[aria-label="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
    empty.textContent = rows.length ? `${rows.length} of ${runs.length} runs; up to ${MOST} in the charts`
      : runs.length ? "No run matches the filter." : "No run yet; it appears here when its training begins.";
  }

  function draw() {
    const axis = state.axis || "step", share = (state.smooth ?? 60) / 100, log = state.log === "1";
    const series = { loss: [], top1: [], rate: [], lr: [] };
    for (const name of selected) {
      const data = logs.get(name), run = runs.find(each => each.id === name);
      if (!data || !run) continue;
      const x = row => axis === "minute" ? secondsAt(data, row.step) / 60
        : axis === "image" ? row.step * run.batch_size : row.step;
      const raw = data.steps.map(row => [x(row), row.training_loss]), look = { color: color(name) };
      series.loss.push({ ...look, name, points: raw, faint: true },
        { ...look, name: `${name}, training`, points: smooth(raw, share), raw });
      for (const split of new Set(data.epochs.filter(row => "top1" in row).map(row => row.split))) {
        const rows = data.epochs.filter(row => row.split === split), dash = split === "train" ? "5 4" : "";
        const line = key => rows.map(row => [x(row), row[key]]), title = `${name}, ${split}`;
        series.top1.push({ ...look, name: title, dash, points: line("top1") });
        if (split !== "train") series.loss.push({ ...look, name: title, dash: "2 3", points: line("loss") });
      }
      const rates = data.times.slice(1).map((row, i) => [x(row), (row.step - data.times[i].step) * run.batch_size
        / (row.training_seconds - data.times[i].training_seconds)]).filter(([, rate]) => rate > 0 && rate < Infinity);
      series.rate.push({ ...look, name, points: smooth(rates, share), raw: rates });
      series.lr.push({ ...look, name, points: data.steps.map(row => [x(row), row.learning_rate]) });
    }
    const xLabel = { step: "step", minute: "minute, in training steps", image: "image" }[axis];
    for (const [name, chart] of Object.entries(charts))
      chart.update(series[name], { xLabel, log: log && name !== "top1" });
  }

  /** The last batch and the most confused classes of the selected runs, as far as a run has them. */
  function detail() {
    const items = selected.map(name => [name, runs.find(run => run.id === name)?.batch_time,
      logs.get(name)?.epochs.findLast(row => row.confused)]).filter(([, time, epoch]) => time || epoch);
    if (JSON.stringify(items) === detailed) return;
    detailed = JSON.stringify(items);
    details.replaceChildren(...items.map(([name, time, epoch]) => card(name, time > 0 && h("figure",
      h("img", { src: `${runPath(name, "batch")}?${time}`, alt: `the last batch of ${name}` }),
      h("figcaption", "The last batch before a checkpoint, as it was augmented")),
    epoch && soft(`Most confused after epoch ${epoch.epoch}, ${epoch.split} images`),
    epoch && h("ol", epoch.confused.map(([label, guess, n]) => h("li", `${plain(label)} → ${plain(guess)}: ${n}`))))));
  }

  async function look() {
    await Promise.all(selected.map(name => read(name, signal).catch(error => {
      if (error.name === "AbortError") throw error;
      logs.delete(name); // it has vanished
    })));
    draw();
    detail();
  }

  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        runs = await ask("api/runs", { signal });
        for (const run of runs)
          run.share = run.state === "finished" ? 1 : run.steps ? run.step / run.steps
            : run.seconds_left == null ? null : run.seconds / (run.seconds + run.seconds_left);
        if (!selected) {
          const first = [...runs].sort((a, b) => (b.state === "running") - (a.state === "running"));
          selected = first.filter(run => run.step != null || run.state === "running").slice(0, 3).map(run => run.id);
        }
        if (JSON.stringify(runs) !== shown) list();
        shown = JSON.stringify(runs);
        await look();
        notify("");
      } catch (error) {
        complain(error);
      }
    }
    await new Promise(resolve => setTimeout(resolve, 1000 * SECONDS));
  }
}
