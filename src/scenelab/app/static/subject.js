// The panel of the image and the networks that the other views look at.

import { ask, choice, complain, examples, h, imagePath, network, notify, options, place, plain, set, state }
  from "./page.js";

const MOST_BYTES = 20 * 2 ** 20;
const files = new Map(); // by name on the server, to send them again when it has forgotten them
const chosen = { example: "", category: "" };

/** Send an image file and look at it. */
async function upload(file) {
  if (!file) return;
  notify(file.size > MOST_BYTES ? "The file is too large; expected at most 20 MiB." : "");
  if (file.size > MOST_BYTES) return;
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
  set({ image: `val:${rows[random(rows.length)]}@${state.run}` }, { push: true });
}

/** What is known of the image: its true class, if it is a validation image. */
async function truth() {
  const [, kind, rest, run = state.run] = (state.image || "").match(/^(\w+):([^@:]*)[^@]*(?:@(.+))?$/) || [];
  if (kind === "upload") return files.has(state.image) ? files.get(state.image).name : "an upload";
  if (kind === "synthetic") return `a synthetic ${plain(rest)}`;
  if (kind === "example") return `example image: ${plain(rest)}`;
  const { categories, labels, split } = await network(run);
  return `a ${split} image of ${plain(categories[labels[rest]] ?? "?")}`;
}

/** Show the camera until a picture is taken. */
async function film(box, button, signal) {
  const media = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  const stop = () => media.getTracks().forEach(track => track.stop());
  if (signal.aborted) return stop();
  signal.addEventListener("abort", stop);
  const video = h("video", { srcObject: media, muted: true, playsInline: true, "aria-label": "the camera" });
  box.append(video);
  await video.play();
  box.nextSibling.textContent = "the camera";
  button.textContent = "Take the picture";
  button.onclick = () => {
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    stop();
    canvas.toBlob(blob => upload(new File([blob], "camera.png")));
  };
}

async function picture(box, caption, signal) {
  if (!state.run || !state.image) return;
  const image = h("img", { alt: "the image as the network sees it", src: imagePath(state.run, state.image) });
  image.onerror = async () => {
    if (signal.aborted) return;
    const file = files.get(state.image);
    image.onerror = null;
    if (file) return upload(file).then(() => { image.src += "&again"; });
    await ask(imagePath(state.run, state.image), { raw: true }).catch(error => notify(error.message));
  };
  box.append(image);
  const text = await truth().catch(() => "");
  if (!signal.aborted) caption.textContent = text;
}

/** Show the panel for a view of one network, of `networks`, or also of an image. */
export async function showSubject({ image, networks }, signal) {
  const panel = place("subject"), [runs, shipped] = await Promise.all([ask("api/runs", { signal }), examples]);
  const names = runs.filter(run => run.has_network).map(run => run.id);
  if (state.run && !names.includes(state.run)) names.unshift(state.run);
  const others = [["", "none"], ...names.filter(name => name !== state.run).map(name => [name, name])];
  panel.replaceChildren(choice("Network", names, state.run, run => set({ run }, { push: true })),
    networks && choice("Compared with", others, state.other || "", other => set({ other }, { push: true })) || "");
  if (!image) return;
  const input = h("input", { type: "file", accept: "image/*", id: "file", onchange: () => upload(input.files[0]) });
  const box = h("div.picture"), caption = h("p.soft", { id: "truth" });
  const drop = h("div.drop", input, h("label", { htmlFor: "file" }, "Choose, drop or paste an image"));
  const camera = h("button", { hidden: !navigator.mediaDevices }, "Camera");
  camera.onclick = () => film(box, camera, signal).catch(error => notify(`No camera: ${error.message}`));
  const listed = shipped.map(name => [name, plain(name.replace("synthetic:", "synthetic ").replace("example:", ""))]);
  const example = h("select", { onchange: () => { chosen.example = example.value; } }, options(listed, chosen.example));
  const show = () => set({ image: example.value.replace(/^synthetic:.*/, `$&:${random(100000)}`) }, { push: true });
  const category = h("select", { onchange: () => { chosen.category = category.value; } }, options([["", "any class"]]));
  const another = h("button", { onclick: () => valImage(category.value) }, "Another");
  panel.append(h("figure", box, caption), h("div.pair", drop, camera),
    h("div.pair", h("label", "Validation image", category), another),
    h("div.pair", h("label", "Example", example), h("button", { onclick: show }, "Show")));
  picture(box, caption, signal);
  if (state.run) network(state.run).then(known => {
    category.append(...options(known.categories.map(name => [name, plain(name)]), chosen.category));
    another.disabled = !known.labels.length;
    another.title = known.problem;
  }).catch(complain);
}

const takesImages = () => place("file") !== null;
addEventListener("paste", event => {
  const file = [...event.clipboardData.files].find(each => each.type.startsWith("image/"));
  if (file && takesImages()) upload(file);
});
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  if (takesImages()) upload(event.dataTransfer.files[0]);
});
