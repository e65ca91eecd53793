// What all views share: elements, the state in the link, requests, numbers, downloads.
export const COLORS = ["#3b82f6", "#e8590c", "#2f9e44", "#ae3ec9", "#e03131", "#1098ad", "#b08900", "#7c8798"];
/** Set attributes of an element. */
export const write = (element, values) => Object.entries(values).forEach(pair => element.setAttribute(...pair));
/** Make an element: h("p.soft", {title: "…"}, "text", child); options and children may be left out or false. */
export function h(kind, ...children) {
  const [name, ...classes] = kind.split("."), element = document.createElement(name);
  const options = children[0]?.constructor === Object ? children.shift() : {};
  if (classes.length) element.className = classes.join(" ");
  if (name === "button") element.type = "button";
  for (const [key, value] of Object.entries(options)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter(child => child !== false && child != null));
  return element;
}
export const card = (title, ...children) => h("div.card", h("h2", title), ...children);
export const soft = (...text) => h("p.soft", ...text);
export const place = name => document.getElementById(name);
export const notify = text => { place("notice").textContent = text; };
/** Show an error, unless it is that of a request that is no longer wanted. */
export const complain = error => { if (error.name !== "AbortError") notify(error.message); };

// The state is in the link, so that a link can be sent to somebody on this machine.
export let state = read();
function read() { return Object.fromEntries(new URLSearchParams(location.hash.slice(1))); }
function changed() {
  state = read();
  dispatchEvent(new Event("state"));
}
export const link = changes => "#" + new URLSearchParams(Object.entries({ ...state, ...changes })
  .filter(([, value]) => value != null && value !== ""));
export function set(changes, { push = false } = {}) {
  const address = link(changes);
  if (address === location.hash) return;
  history[push ? "pushState" : "replaceState"](null, "", address);
  changed();
}
addEventListener("hashchange", changed);
/** Ask the server; a refusal becomes an Error with the server's reason. */
export async function ask(path, { body, signal, raw = false } = {}) {
  const json = body && !(body instanceof Blob);
  const options = { method: body ? "POST" : "GET", body: json ? JSON.stringify(body) : body, signal };
  let response;
  try { response = await fetch(path, options); } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The explorer does not answer; it may have been stopped.");
  }
  if (!response.ok) {
    let reason = `The explorer refused this (${response.status}).`;
    try { reason = (await response.json()).error || reason; } catch { /* no JSON */ }
    throw new Error(reason);
  }
  return raw ? response : response.json();
}
export const runPath = (run, what) => `api/runs/${encodeURIComponent(run)}/${what}`;
export const imagePath = (run, image) => "api/image?" + new URLSearchParams({ run, image });
/** Names of images that ship with the package, and of kinds of scenes that are drawn. */
export const examples = ask("api/images").catch(() => []);
const networks = new Map();
/** What a run's network is; asked once per page. */
export function network(run) {
  if (!networks.has(run)) {
    const answer = ask(runPath(run, "network"));
    networks.set(run, answer);
    answer.catch(() => networks.delete(run));
  }
  return networks.get(run);
}
export const percent = (share, digits = 1) => share == null ? "–" : `${(100 * share).toFixed(digits)} %`;
export const plain = name => name.replaceAll("_", " ").replaceAll("/", " ").trim();
export function number(value, digits) {
  if (value == null || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000 || digits === 0) return Math.round(value).toLocaleString("en");
  return size && size < 0.001 ? value.toExponential(1) : String(+value.toPrecision(4));
}
export const duration = seconds => seconds == null ? "–" : seconds < 60 ? `${Math.round(seconds)} s`
  : seconds < 3600 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
export function download(name, content, type) {
  const url = typeof content === "string" && content.startsWith("data:") ? content
    : URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
export const saveButton = (label, onclick) => h("button.tiny", { onclick }, label);
export const options = (items, value) => items.map(item => [item].flat()).map(([key, label = key]) =>
  h("option", { value: key, selected: key === value }, label));
export function choice(label, items, value, change) {
  return h("label", label, h("select", { onchange: event => change(event.target.value) }, options(items, value)));
}
/** A slider with its value in its label; `change` is called while it moves. */
export function slider(label, { min, max, step = 1, value, unit = "" }, change) {
  const text = h("span"), input = h("input", { type: "range", min, max, step, value });
  const show = () => { text.textContent = `${label}: ${input.value}${unit}`; };
  input.addEventListener("input", () => { show(); change(+input.value); });
  show();
  return h("label", text, input);
}
export function bars(guesses) {
  return h("div.bars", guesses.map(([category, share]) =>
    h("div.bar", h("span", plain(category)), h("span", percent(share)),
      h("progress", { max: 1, value: share, "aria-label": `probability of ${plain(category)}` }))));
}
export async function loadImage(source) {
  const image = h("img", { src: source });
  await image.decode().catch(() => { throw new Error("The image could not be shown."); });
  return image;
}
/** The networks that are looked at: one, or two side by side. */
export const sides = () => [...new Set([state.run, state.other].filter(Boolean))];
/** Put a frame around a part of a square of a size. */
export function frame(box, y0, y1, x0, x1, size) {
  const [top, height, left, width] = [y0, y1 - y0, x0, x1 - x0].map(v => `${100 * v / size}%`);
  Object.assign(box.style, { top, height, left, width });
  return box;
}
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
/** Let arrow keys and the pointer choose one of count() × count() cells of a square; return a function that does. */
export function walk(element, name, count, show, locate = share => Math.floor(share * count())) {
  let at = [0, 0];
  const go = (...cell) => {
    at = cell.map(v => Math.max(0, Math.min(count() - 1, v)));
    show(...at);
  };
  const point = event => {
    const box = element.getBoundingClientRect();
    go(locate((event.clientY - box.top) / box.height), locate((event.clientX - box.left) / box.width));
  };
  write(element, { tabindex: 0, role: "application", "aria-label": `${name}; arrow keys move` });
  element.addEventListener("pointerdown", point);
  element.addEventListener("pointermove", event => { if (event.buttons) point(event); });
  element.addEventListener("keydown", event => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    go(at[0] + step[0], at[1] + step[1]);
  });
  return go;
}
/** Show a view anew after its settings have changed; what an earlier call still adds goes into a detached element. */
export async function again(view, show, signal, changes) {
  set(changes);
  const fresh = view.cloneNode();
  view.replaceWith(fresh);
  await show(fresh, signal).catch(complain);
}
