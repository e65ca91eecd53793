// The views, and the picture and networks that they look at.

import { again, ask, h, link, notify, onstate, place, set, state } from "./page.js";
import { attack, explain, predict } from "./answers.js";
import { convolve, look } from "./inside.js";
import { compare, mistakes } from "./mistakes.js";
import { showSubject } from "./subject.js";
import { watch } from "./watch.js";

const VIEWS = {
  watch: { name: "Watch it learn", show: watch, lead: "Every run below this folder, also while it trains." },
  predict: { name: "Prediction", show: predict, image: true, networks: true,
    lead: "The five most likely classes, averaged over the image and its mirror image, as in scenelab predict." },
  explain: { name: "Where it looks", show: explain, image: true, networks: true,
    lead: "Each map shows which pixels change one score, by one method. Two methods may disagree." },
  attack: { name: "What fools it", show: attack, image: true, networks: true,
    lead: "Change each pixel by at most ε until the network is wrong. The saved PNG is exactly this image." },
  look: { name: "What it sees", show: look, image: true,
    lead: "The filters of the first layer, and what each layer makes of the image." },
  convolve: { name: "Convolution", show: convolve, image: true,
    lead: "One filter at one place: multiply, add up, write one number. Then move on." },
  mistakes: { name: "Its mistakes", show: mistakes,
    lead: "Every validation image, by its class and the predicted one." },
  compare: { name: "Two networks", show: compare, networks: true,
    lead: "Where two networks disagree on the same images." },
};
let shown = null, stop = () => {};

function show() {
  const name = state.view in VIEWS ? state.view : "watch", view = VIEWS[name], hasSubject = name !== "watch";
  for (const tab of place("views").children) {
    tab.href = link({ view: tab.dataset.view });
    tab.ariaCurrent = tab.dataset.view === name ? "page" : null;
    if (tab.ariaCurrent) tab.scrollIntoView({ block: "nearest", inline: "center" });
  }
  const key = [name, hasSubject && state.run, view.networks && state.other, view.image && state.image].join();
  if (key === shown) return;
  shown = key;
  stop();
  const control = new AbortController();
  stop = () => control.abort();
  notify("");
  place("title").textContent = view.name;
  document.title = `${view.name} · scenelab`;
  place("lead").textContent = view.lead;
  place("layout").classList.toggle("with-subject", hasSubject);
  place("subject").hidden = !hasSubject;
  place("subject").replaceChildren();
  if (hasSubject) showSubject(view).catch(error => notify(error.message));
  const missing = hasSubject && (!state.run ? "Choose a network; one appears here after its first evaluation."
    : view.image && !state.image && "Choose an image: drop or paste one, or take one of those offered.");
  if (missing) place("view").replaceChildren(h("p.card.soft", missing));
  else again(place("view"), view.show, control.signal, {});
}

async function begin() {
  place("views").append(...Object.entries(VIEWS).map(([name, view]) =>
    h("a", { href: link({ view: name }), "data-view": name }, view.name)));
  try {
    const first = (await ask("api/runs")).find(run => run.has_network);
    if (!state.run && first) set({ run: first.id, image: state.image || "synthetic:coast:1" });
  } catch (error) { notify(error.message); }
  onstate(show);
  show();
}
begin();
