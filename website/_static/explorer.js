// The front page's explorer: which script fits a GPU, and what changes between two scripts.
// Works from a file, without a network; all it knows is in the page (website/explorer.py).
"use strict";

const element = (id) => document.getElementById(id);
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

function chosenGpu(data) {
  const known = data.gpus.find((gpu) => gpu.name === element("gpu").value);
  if (known) return known;
  const memory = Number(element("gb").value);
  return { name: `${memory} GB`, memory, context: data.context, bfloat16: true };
}

function answer(data) {
  const gpu = chosenGpu(data);
  for (const script of data.scripts) {
    const row = document.querySelector(`tr[data-script="${script.script}"]`);
    const told = verdict(script, gpu, data);
    row.querySelector(".fit").textContent = told;
    row.dataset.fits = told === "fits" ? "yes" : told === "may not fit" ? "maybe" : "no";
  }
  // what learns nothing in the rehearsal is a lesson, not an answer; variants come last
  const fits = (one) => one.learns && verdict(one, gpu, data) === "fits";
  const firstOf = (some) => some.find((one) => !one.variant && fits(one)) || some.find(fits);
  const of = (family, several) =>
    data.scripts.filter((one) => one.family === family && one.ranks === several);
  const small = of("ViT-L/16", false);
  const batches = [...new Set(small.map((one) => one.batch))].sort((a, b) => b - a);
  const first = batches
    .map((batch) => firstOf(small.filter((one) => one.batch === batch)))
    .filter(Boolean);
  const told = first.length
    ? [`The first that fits ${gpu.name}:`]
    : [`No script for ViT-L/16 fits ${gpu.name}.`];
  for (const one of first) told.push(`ViT-L/16, batches of ${one.batch}:  python ${one.script}`);
  for (const several of [false, true]) {
    const large = firstOf(of("ViT-H/14", several));
    if (large) told.push(`ViT-H/14, on ${several ? "four of them" : "one"}:  python ${large.script}`);
  }
  element("answer").textContent = told.join("\n");
  element("answer").dataset.first = first.map((one) => one.script).join(" ");
}

// ------------------------------------- differences, as Python's difflib.unified_diff finds them

function longestMatch(a, places, alo, ahi, blo, bhi) {
  let [besti, bestj, size, before] = [alo, blo, 0, new Map()];
  for (let i = alo; i < ahi; i++) {
    const now = new Map();
    for (const j of places.get(a[i]) || []) {
      if (j < blo) continue;
      if (j >= bhi) break;
      const length = (before.get(j - 1) || 0) + 1;
      now.set(j, length);
      if (length > size) [besti, bestj, size] = [i - length + 1, j - length + 1, length];
    }
    before = now;
  }
  return [besti, bestj, size];
}

function matchingBlocks(a, b) {
  const places = new Map();
  b.forEach((line, j) => places.set(line, [...(places.get(line) || []), j]));
  const queue = [[0, a.length, 0, b.length]];
  const found = [];
  while (queue.length) {
    const [alo, ahi, blo, bhi] = queue.pop();
    const [i, j, size] = longestMatch(a, places, alo, ahi, blo, bhi);
    if (!size) continue;
    found.push([i, j, size]);
    if (alo < i && blo < j) queue.push([alo, i, blo, j]);
    if (i + size < ahi && j + size < bhi) queue.push([i + size, ahi, j + size, bhi]);
  }
  found.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  const joined = [];
  for (const [i, j, size] of found) {
    const last = joined[joined.length - 1];
    if (last && last[0] + last[2] === i && last[1] + last[2] === j) last[2] += size;
    else joined.push([i, j, size]);
  }
  return [...joined, [a.length, b.length, 0]];
}

function changes(a, b) {
  const codes = [];
  let [i, j] = [0, 0];
  for (const [ai, bj, size] of matchingBlocks(a, b)) {
    if (i < ai || j < bj) codes.push(["change", i, ai, j, bj]);
    [i, j] = [ai + size, bj + size];
    if (size) codes.push(["equal", ai, i, bj, j]);
  }
  return codes;
}

function groups(codes, around) {
  if (!codes.some(([kind]) => kind !== "equal")) return [];
  const cut = codes.map((code) => [...code]);
  const [first, last] = [cut[0], cut[cut.length - 1]];
  if (first[0] === "equal") {
    first[1] = Math.max(first[1], first[2] - around);
    first[3] = Math.max(first[3], first[4] - around);
  }
  if (last[0] === "equal") {
    last[2] = Math.min(last[2], last[1] + around);
    last[4] = Math.min(last[4], last[3] + around);
  }
  const all = [];
  let group = [];
  for (const [kind, i1, i2, j1, j2] of cut) {
    if (kind === "equal" && i2 - i1 > 2 * around) {
      group.push([kind, i1, Math.min(i2, i1 + around), j1, Math.min(j2, j1 + around)]);
      all.push(group);
      group = [[kind, Math.max(i1, i2 - around), i2, Math.max(j1, j2 - around), j2]];
    } else group.push([kind, i1, i2, j1, j2]);
  }
  if (group.length && !(group.length === 1 && group[0][0] === "equal")) all.push(group);
  return all;
}

function range(start, stop) {
  const length = stop - start;
  if (length === 1) return `${start + 1}`;
  return `${length ? start + 1 : start},${length}`;
}

function unifiedDiff(a, b, from, to) {
  const lines = [];
  for (const group of groups(changes(a, b), 3)) {
    if (!lines.length) lines.push(`--- ${from}`, `+++ ${to}`);
    const last = group[group.length - 1];
    lines.push(`@@ -${range(group[0][1], last[2])} +${range(group[0][3], last[4])} @@`);
    for (const [kind, i1, i2, j1, j2] of group) {
      if (kind === "equal") lines.push(...a.slice(i1, i2).map((line) => ` ${line}`));
      else {
        lines.push(...a.slice(i1, i2).map((line) => `-${line}`));
        lines.push(...b.slice(j1, j2).map((line) => `+${line}`));
      }
    }
  }
  return lines;
}

function showDifference(data) {
  const [from, to] = ["from", "to"].map((id) =>
    data.scripts.find((one) => one.script === element(id).value),
  );
  const lines = unifiedDiff(from.code, to.code, from.script, to.script);
  const shown = element("difference");
  shown.replaceChildren();
  for (const line of lines.length ? lines : [" no difference"]) {
    const span = document.createElement("span");
    span.textContent = `${line}\n`;
    if (line.startsWith("+")) span.className = "added";
    if (line.startsWith("-")) span.className = "removed";
    if (line.startsWith("@@")) span.className = "place";
    shown.append(span);
  }
}

// ------------------------------------------------------------------------------------------- start

function start() {
  const holder = element("ladder-data");
  if (!holder) return; // another page
  const data = JSON.parse(holder.textContent);
  for (const hidden of ["gpu-form", "difference-form", "difference"]) element(hidden).hidden = false;
  document.querySelectorAll(".fit").forEach((cell) => (cell.hidden = false));
  for (const id of ["gpu-form", "difference-form"]) {
    element(id).addEventListener("submit", (event) => event.preventDefault());
  }
  element("gpu").addEventListener("input", () => {
    const known = data.gpus.find((gpu) => gpu.name === element("gpu").value);
    if (known) element("gb").value = known.gb;
    answer(data);
  });
  element("gb").addEventListener("input", () => {
    element("gpu").value = "";
    answer(data);
  });
  for (const id of ["from", "to"]) element(id).addEventListener("input", () => showDifference(data));
  for (const bar of document.querySelectorAll(".bar")) {
    const tell = () => (element("split").textContent = bar.getAttribute("aria-label"));
    bar.addEventListener("mouseenter", tell);
    bar.addEventListener("focus", tell);
  }
  answer(data);
  showDifference(data);
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
