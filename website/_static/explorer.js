// The front page's explorer: which script fits a GPU, and what changes between two scripts.
// Works from a file, without a network: what it knows is in the page (website/explorer.py) and in
// differences/ (website/build.py). What is chosen is in the address.
"use strict";

const element = (id) => document.getElementById(id);
const make = (name, text) => Object.assign(document.createElement(name), { textContent: text });
const stem = (script) => script.replace(/^.*\//, "").replace(/\.py$/, "");

// ------------------------------------------------------------------ does it fit (ladder/fits.py)

// "fits", "may not fit" (only if the prediction is right), "does not fit"; or why it cannot run.
function verdict(script, gpu, data) {
  if (script.bfloat16 && !gpu.bfloat16) return "needs bfloat16";
  const exact = gpu.memory - gpu.context;  // as limits() in vramcast/evidence.py
  const sure = (exact - data.kernels - script.groups * data.group) / (1 + script.margin);
  if (script.room <= sure) return "fits";
  return script.room <= exact ? "may not fit" : "does not fit";
}

// null if what stands in the box is no size.
function chosenGpu(data) {
  const known = data.gpus.find((gpu) => gpu.name === element("gpu").value);
  if (known) return known;
  const memory = Number(element("gb").value);
  if (!(memory > 0)) return null;
  return { name: `${memory} GB`, memory, context: data.context, bfloat16: true };
}

function answer(data) {
  const gpu = chosenGpu(data);
  element("gb").setAttribute("aria-invalid", String(!gpu));
  for (const script of data.scripts) {
    const told = gpu ? verdict(script, gpu, data) : "";
    const kind = { "": "", fits: "yes", "may not fit": "maybe" }[told] ?? "no";
    for (const mark of document.querySelectorAll(`[data-script="${CSS.escape(script.script)}"]`)) {
      mark.dataset.fits = kind;
      const cell = mark.querySelector(".fit");
      if (cell) cell.textContent = told;
    }
  }
  drawNeed(gpu, data);
  const shown = element("answer");
  const first = gpu ? firstThatFit(gpu, data) : [];
  shown.dataset.first = first.map(([, script]) => script).join(" ");
  if (!gpu) {
    const words = "Choose the GPU's name, or give its memory in GB: a number above 0.";
    return shown.replaceChildren(make("p", words));
  }
  const list = make("ul", "");
  for (const [what, script] of first) {
    const [item, link] = [make("li", `${what}: `), make("a", `python ${script}`)];
    link.href = `ladder/${encodeURIComponent(stem(script))}.html`;
    item.append(link);
    list.append(item);
  }
  const words = first.length ? `The first that fits ${gpu.name}:` : `No script fits ${gpu.name}.`;
  shown.replaceChildren(make("p", words), list);
}

// What it is, and the script, for each model, batch, and number of GPUs.
function firstThatFit(gpu, data) {
  // what learns nothing in the rehearsal is a lesson, not an answer; variants come last
  const fits = (one) => one.learns && verdict(one, gpu, data) === "fits";
  const firstOf = (some) => some.find((one) => !one.variant && fits(one)) || some.find(fits);
  const of = (family, several) =>
    data.scripts.filter((one) => one.family === family && one.ranks === several);
  const small = of("ViT-L/16", false);
  const found = [];
  for (const batch of [...new Set(small.map((one) => one.batch))].sort((a, b) => b - a)) {
    found.push([`ViT-L/16, batches of ${batch}`, firstOf(small.filter((one) => one.batch === batch))]);
  }
  for (const several of [false, true]) {
    const where = several ? "four of them" : "one";
    found.push([`ViT-H/14, on ${where}`, firstOf(of("ViT-H/14", several))]);
  }
  return found.filter(([, one]) => one).map(([what, one]) => [what, one.script]);
}

// The chosen GPU's line in the pictures of memory against FLOPs (ladder/pages/against_flops.py).
function drawNeed(gpu, data) {
  for (const picture of document.querySelectorAll(".picture[data-scale]")) {
    const need = picture.querySelector(".need");
    need.setAttribute("visibility", gpu ? "visible" : "hidden");
    if (!gpu) continue;
    const [top, bottom, most, least] = picture.dataset.scale.split(" ").map(Number);
    const room = gpu.memory - gpu.context - data.kernels;
    const share = room > 0 ? Math.log(most / room) / Math.log(most / least) : 1;
    const y = top + (bottom - top) * Math.min(Math.max(share, 0), 1);
    need.querySelector("path").setAttribute("transform", `translate(0 ${y.toFixed(1)})`);
    const beyond = share < 0 ? " ↑" : share > 1 ? " ↓" : "";
    need.querySelector("text").textContent =
      `― ${gpu.name}: ${Math.max(room, 0).toFixed(1)} GB for tensors${beyond}`;
  }
}

// -------------------------------------------------------------------------------- differences

const differences = {}; // by the script that they start from; its file fills them in

function load(from) {
  if (differences[from]) return Promise.resolve();
  return new Promise((loaded, failed) => {
    const file = Object.assign(document.createElement("script"), {
      src: `differences/${encodeURIComponent(from)}.js`, onload: loaded, onerror: failed,
    });
    document.head.append(file);
  });
}

async function showDifference() {
  const [from, to] = [element("from").value, element("to").value];
  const failed = await load(from).then(() => false, () => true);
  if (from !== element("from").value || to !== element("to").value) return; // chosen anew meanwhile
  const text = failed ? " The difference could not be loaded." : differences[from][to];
  const kinds = { "+": "added", "-": "removed", "@": "place" };
  const lines = (text || " no difference").split("\n").map((line) =>
    Object.assign(make("span", `${line}\n`), { className: kinds[line[0]] || "" }),
  );
  element("difference").replaceChildren(...lines);
}

// --------------------------------------------------------------------------------- the address

const chosen = () => ({
  gpu: element("gpu").value || element("gb").value,
  from: element("from").value,
  to: element("to").value,
});

function choose(values, data) {
  const known = data.gpus.find((gpu) => gpu.name === values.gpu);
  element("gpu").value = known ? known.name : "";
  element("gb").value = known ? known.gb : values.gpu;
  for (const id of ["from", "to"]) {
    const there = [...element(id).options].some((option) => option.value === values[id]);
    if (there) element(id).value = values[id];
  }
}

function keepInAddress(standard) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(chosen())) {
    if (value !== standard[key]) query.set(key, value);
  }
  const search = String(query) && `?${query}`;
  if (search === location.search) return;
  history.pushState(null, "", `${location.pathname}${search}${location.hash}`);
}

// ------------------------------------------------------------------------------------------- start

function start() {
  const holder = element("ladder-data");
  if (!holder) return; // another page
  const data = JSON.parse(holder.textContent);
  for (const id of ["gpu-form", "difference-form", "difference", "need"]) element(id).hidden = false;
  document.querySelectorAll(".fit").forEach((cell) => (cell.hidden = false));
  const standard = chosen();
  const restore = () => {
    choose({ ...standard, ...Object.fromEntries(new URLSearchParams(location.search)) }, data);
    answer(data);
    showDifference();
  };
  element("gpu").addEventListener("input", () => {
    const known = data.gpus.find((gpu) => gpu.name === element("gpu").value);
    if (known) element("gb").value = known.gb;
  });
  element("gb").addEventListener("input", () => (element("gpu").value = ""));
  element("gpu-form").addEventListener("input", () => answer(data));
  element("difference-form").addEventListener("input", showDifference);
  for (const id of ["gpu-form", "difference-form"]) {
    element(id).addEventListener("change", () => keepInAddress(standard));
    element(id).addEventListener("submit", (event) => event.preventDefault());
  }
  addEventListener("popstate", restore);
  for (const bar of document.querySelectorAll(".bar")) {
    const tell = () => (element("split").textContent = bar.getAttribute("aria-label"));
    bar.addEventListener("mouseenter", tell);
    bar.addEventListener("focus", tell);
  }
  restore();
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
