// The panel of the image and the networks that the other views look at.

import { ask, choice, h, imagePath, network, notify, place, plain, set, state } from "./page.js";

const SCENES = ["bedroom", "coast", "corridor", "desert", "forest", "harbor", "highway", "library", "mountain", "skyscraper",
  "waterfall", "wheat_field"];
const files = new Map(); // by name on the server, to send them again when it has forgotten them
let chosen = { scene: "coast", category: "" }, generation = 0;

/** Send an image file and look at it. */
export async function upload(file) {
  if (!file) return;
  notify("");
  place("subject").setAttribute("aria-busy", "true");
  try {
    const { image } = await ask(`api/images?name=${encodeURIComponent(file.name || "pasted")}`, { body: file });
    files.set(image, file);
    set({ image }, { push: true });
  } catch (error) {
    set({ image: null });
    notify(error.message);
  } finally { place("subject").removeAttribute("aria-busy"); }
}

const random = count => Math.floor(Math.random() * count);

async function valImage(category) {
  const { categories, labels, problem } = await network(state.run);
  const rows = labels.flatMap((label, row) => !category || categories[label] === category ? [row] : []);
  if (!rows.length) return notify(problem || `There is no validation image of ${plain(category)}.`);
  set({ image: `val:${rows[random(rows.length)]}` }, { push: true });
}

/** What is known of the image: its true class, if it is a validation image. */
export async function truth() {
  const [kind, rest] = (state.image || "").split(":");
  if (kind === "upload") return files.has(state.image) ? files.get(state.image).name : "an upload";
  if (kind === "synthetic") return `a synthetic ${plain(rest)}`;
  const { categories, labels, split } = await network(state.run);
  return `a ${split} image of ${plain(categories[labels[rest]] ?? "?")}`;
}

async function picture(box, caption) {
  const mine = ++generation;
  box.replaceChildren();
  caption.textContent = "";
  if (!state.run || !state.image) return;
  const image = h("img", { alt: "the image as the network sees it", src: imagePath(state.run, state.image) });
  image.onerror = async () => {
    if (mine !== generation) return;
    const file = files.get(state.image);
    files.delete(state.image);
    if (file) return upload(file);
    const reason = await ask(imagePath(state.run, state.image), { raw: true }).catch(error => error.message);
    notify(typeof reason === "string" ? reason : "The image could not be shown.");
  };
  box.append(image);
  const text = await truth().catch(() => "");
  if (mine === generation) caption.textContent = text;
}

export function showSubject(kind, runs) {
  const panel = place("subject"), names = runs.map(run => run.id);
  if (state.run && !names.includes(state.run)) names.unshift(state.run);
  const first = choice("Network", names, state.run, run => set({ run }, { push: true }));
  const others = [["", "none"], ...names.filter(name => name !== state.run).map(name => [name, name])];
  const second = choice("Compared with", others, state.other || "", other => set({ other }, { push: true }));
  panel.replaceChildren(first, ...(kind === "network" ? [] : [second]));
  if (kind !== "image") return;
  const input = h("input", { type: "file", accept: "image/*", id: "file", onchange: event => upload(event.target.files[0]) });
  const box = h("div.picture"), caption = h("p.soft", { id: "truth" });
  const drop = h("div.drop", {
    ondragover: event => { event.preventDefault(); drop.classList.add("over"); },
    ondragleave: () => drop.classList.remove("over"),
    ondrop: event => { event.preventDefault(); drop.classList.remove("over"); upload(event.dataTransfer.files[0]); },
  }, input, h("label", { htmlFor: "file" }, "Choose, drop or paste an image"));
  const scene = choice("Synthetic scene", SCENES.map(name => [name, plain(name)]), chosen.scene,
    value => { chosen.scene = value; });
  const draw = () => set({ image: `synthetic:${chosen.scene}:${random(100000)}` }, { push: true });
  const category = h("select", { onchange: event => { chosen.category = event.target.value; } }, h("option", { value: "" }, "any class"));
  const another = h("button", { type: "button", onclick: () => valImage(chosen.category) }, "Another");
  panel.append(h("figure", {}, box, caption), drop, h("div", {}, h("label", {}, "Validation image", category), another),
    h("div", {}, scene, h("button", { type: "button", onclick: draw }, "Another scene")));
  picture(box, caption);
  if (state.run) network(state.run).then(known => {
    category.append(...known.categories.map(name => h("option", { value: name, selected: name === chosen.category }, plain(name))));
    another.disabled = !known.labels.length;
    another.title = known.problem;
  }).catch(error => notify(error.message));
}

addEventListener("paste", event => {
  const file = [...event.clipboardData.files].find(each => each.type.startsWith("image/"));
  if (file && state.view && !["watch", "mistakes", "compare"].includes(state.view)) upload(file);
});
