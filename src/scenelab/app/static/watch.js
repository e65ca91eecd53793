// Watch it learn: the table of runs, and the curves of the selected ones while they train.

import { ask, choice, COLORS, duration, h, link, notify, number, percent, runPath, set, slider, state }
  from "./page.js";
import { Chart, smooth } from "./plot.js";

const SECONDS = 2, MOST = 8; // between two looks; runs in the charts
const COLUMNS = [
  ["id", "run", run => run.id], ["state", "state", run => run.state], ["recipe", "recipe", run => run.recipe],
  ["model", "model", run => run.model], ["top1", "top-1, %", run => run.top1?.toFixed(1)],
  ["progress", "done", run => run.share == null ? null : percent(run.share, 0)],
  ["seconds", "time", run => run.seconds && duration(run.seconds)],
  ["seconds_left", "left", run => run.seconds_left == null ? null : duration(run.seconds_left)],
  ["rate", "images/s", run => run.rate && number(Math.round(run.rate))],
  ["memory", "memory", run => run.memory && `${number(Math.round(run.memory / 2 ** 20))} MiB`],
  ["parameters", "parameters", run => run.parameters && number(run.parameters)],
];
const STATES = { running: "span.good", unreadable: "span.bad", "broken off": "span.warn", finished: "span" };
const NUMBERS = new Set(["top1", "progress", "seconds", "seconds_left", "rate", "memory", "parameters"]);
const logs = new Map();

/** Lines of a growing file as objects; lines that are no JSON, such as those with NaN, are left out. */
function parse(text) {
  return text.split("\n").flatMap(line => { try { return [JSON.parse(line)]; } catch { return []; } });
}

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
      for (const row of parse(text)) {
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
function secondsAt({ times, clock }, step) {
  const last = times.at(-1);
  return clock.get(step) ?? (last ? step * last.training_seconds / last.step : NaN);
}

export async function watch(view, signal) {
  let runs = [], shown = "", order = state.sort || "id", selected = state.runs?.split("|").filter(Boolean);
  const charts = { loss: new Chart("Loss, nats"), top1: new Chart("Top-1 accuracy, %"),
    rate: new Chart("Speed, images/s"), lr: new Chart("Learning rate") };
  const body = h("tbody"), head = h("tr"), empty = h("p.soft");
  const table = h("div.table", { tabindex: 0, role: "region", "aria-label": "runs" },
    h("table", h("thead", head), body));
  const filter = h("input", { type: "search", value: state.find || "" });
  filter.addEventListener("input", () => apply({ find: filter.value }, list));
  const axes = [["step", "steps"], ["minute", "minutes"], ["image", "images"]];
  const controls = h("div.row", h("label", "Filter the runs", filter),
    choice("Axis", axes, state.axis || "step", axis => apply({ axis }, draw)),
    slider("Smoothing", { min: 0, max: 99, value: state.smooth ?? 60, unit: " %" }, smooth => apply({ smooth }, draw)),
    h("label.inline", h("input", { type: "checkbox", checked: state.log === "1",
      onchange: event => apply({ log: event.target.checked ? 1 : null }, draw) }), "logarithmic loss and rates"));
  view.append(h("div.card", controls), table, empty,
    h("div.grid.wide", Object.values(charts).map(chart => chart.element)));

  function apply(changes, show) {
    set(changes);
    show();
  }
  const color = name => COLORS[selected.indexOf(name) % COLORS.length];
  function toggle(name, on) {
    selected = on ? [...selected, name].slice(-MOST) : selected.filter(other => other !== name);
    set({ runs: selected.join("|") || "|" });
    list();
    look();
  }
  function list() {
    const key = order.replace("-", ""), sign = order.startsWith("-") ? -1 : 1;
    const words = filter.value.toLowerCase().split(/\s+/);
    const text = run => `${run.id} ${run.state} ${run.recipe} ${run.model}`.toLowerCase();
    const matches = run => words.every(word => text(run).includes(word));
    const value = run => key === "progress" ? run.share : run[key];
    const compare = (a, b) => value(a) == null ? 1 : value(b) == null ? -1
      : sign * (typeof value(a) === "string" ? value(a).localeCompare(value(b)) : value(a) - value(b));
    const focus = document.activeElement?.getAttribute("aria-label");
    head.replaceChildren(h("th", "show"), ...COLUMNS.map(([name, label]) => {
      const sorted = key === name ? (sign > 0 ? "ascending" : "descending") : "none";
      const arrow = { ascending: " ↑", descending: " ↓", none: "" }[sorted];
      return h(NUMBERS.has(name) ? "th.number" : "th", { "aria-sort": sorted },
        h("button", { "aria-label": `sort by ${label}`, onclick: () => {
          order = order === name ? `-${name}` : name;
          apply({ sort: order }, list);
        } }, label + arrow));
    }), h("th", "look inside"));
    const rows = runs.filter(matches).sort(compare);
    body.replaceChildren(...rows.map(run => {
      const on = selected.includes(run.id), swatch = h("span.swatch");
      if (on) swatch.style.background = color(run.id);
      const cells = COLUMNS.map(([name, , text]) => h(NUMBERS.has(name) ? "td.number" : "td", {},
        name === "id" ? [swatch, run.id] : name === "state" ? h(STATES[run.state], { title: run.problem }, run.state)
          : text(run) ?? "–"));
      const box = h("input", { type: "checkbox", checked: on, "aria-label": `show ${run.id}`,
        onchange: event => toggle(run.id, event.target.checked) });
      const target = link({ view: "predict", run: run.id, image: state.image || "synthetic:coast:1" });
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

  async function look() {
    await Promise.all(selected.map(name => read(name, signal).catch(error => {
      if (error.name === "AbortError") throw error;
      logs.delete(name); // it has vanished
    })));
    draw();
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
          selected = first.filter(run => run.state !== "unreadable").slice(0, 3).map(run => run.id);
        }
        if (JSON.stringify(runs) !== shown) list();
        shown = JSON.stringify(runs);
        await look();
        notify("");
      } catch (error) {
        if (error.name === "AbortError") return;
        notify(error.message);
      }
    }
    await new Promise(resolve => setTimeout(resolve, 1000 * SECONDS));
  }
}
