// The web page: reads the form, calls /v1 for each selected method and shows the results.
// Everything from the service or a file is inserted as text, never as markup.
import { curlCommand } from "./curl.js";
import { candidateCard, make, picture } from "./results.js";

const $ = id => document.getElementById(id);
const files = { source: [], candidates: [] };
const OPTIONS = ["requirement", "temperature", "seed", "num_passes"];
const OF_METHOD = { composite: name => name === "composite", principles: name => /verifier|composite/.test(name) };
let running = null; // the AbortController of the last request

const headers = () => ($("key").value ? { Authorization: `Bearer ${$("key").value}` } : {});
const chosen = () => [...$("methods").querySelectorAll(":checked")].map(box => box.value);
const say = text => { $("problem").textContent = text; };

function take(name, list) {
  const images = [...list].filter(file => file.type.startsWith("image/"));
  files[name] = images;
  const box = $(`drop-${name}`).querySelector(".pictures");
  box.querySelectorAll("img").forEach(image => URL.revokeObjectURL(image.src));
  box.replaceChildren(...images.map(file => picture(file)));
}

for (const name of ["source", "candidates"]) {
  const zone = $(`drop-${name}`);
  $(name).onchange = () => take(name, $(name).files);
  zone.ondragover = event => { event.preventDefault(); zone.classList.add("over"); };
  zone.ondragleave = () => zone.classList.remove("over");
  zone.ondrop = event => { event.preventDefault(); zone.classList.remove("over"); take(name, event.dataTransfer.files); };
}
document.onpaste = event => {
  const pasted = [...event.clipboardData.files];
  if (!pasted.length) return;
  if (files.source.length) take("candidates", [...files.candidates, ...pasted]);
  else take("source", pasted);
};

/** The text fields of one method's request as [name, value] pairs; empty ones are omitted, so the service's defaults apply. */
function fields(method) {
  const found = [["instruction", $("instruction").value.trim()], ["task", $("task").value], ["method", method]];
  for (const name of OPTIONS) found.push([name, $(name).value.trim()]);
  for (const [name, belongs] of Object.entries(OF_METHOD)) if (belongs(method)) found.push([name, $(name).value.trim()]);
  found.push(["reasoning", "true"]);
  const replaced = Boolean($("requirement").value.trim()); // it replaces the task's text
  return found.filter(([name, value]) => value && !(name === "task" && replaced));
}

function body(method) {
  const form = new FormData();
  for (const name of ["source", "candidates"]) for (const file of files[name]) form.append(name, file);
  for (const [name, value] of fields(method)) form.append(name, value);
  return form;
}

/** One response of the service; throws an Error with a readable message. */
async function ask(path, method, signal) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", body: body(method), headers: headers(), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(`no response from the service: ${error.message}`);
  }
  const found = await answer.json().catch(() => ({ detail: `the service answered ${answer.status}` }));
  if (!answer.ok) throw new Error(`${method}: ${found.detail}`);
  return found;
}

function missing() {
  if (!files.source.length) return "Choose the original image first.";
  if (!files.candidates.length) return "Choose at least one edited image.";
  if (!$("instruction").value.trim()) return "Enter the edit instruction.";
  if (!chosen().length) return "Choose at least one method.";
  return "";
}

$("form").onsubmit = async event => {
  event.preventDefault();
  say(missing());
  if ($("problem").textContent) return;
  running?.abort();
  const mine = (running = new AbortController());
  $("go").setAttribute("aria-busy", "true");
  const shown = [...files.candidates];
  const answers = await Promise.allSettled(chosen().map(method => ask("v1/score", method, mine.signal)));
  if (mine.signal.aborted) return; // a newer request owns the page now
  $("go").removeAttribute("aria-busy");
  say(answers.filter(one => one.status === "rejected").map(one => one.reason.message).join("\n"));
  show(shown, answers.filter(one => one.status === "fulfilled").map(one => one.value));
};

function show(candidates, answers) {
  $("results").querySelectorAll("img").forEach(image => URL.revokeObjectURL(image.src));
  const cards = answers.length ? candidates.map((file, index) => candidateCard(file, index, answers)) : [];
  const times = answers.map(one => `${one.method} ${one.timing_ms.total.toFixed(0)} ms`).join(", ");
  $("results").replaceChildren(...cards, ...(times ? [make("p", `${answers[0].model}: ${times}`, "timing")] : []));
}

function display(text) {
  $("text").querySelector("pre").textContent = text;
  $("text").showModal();
}

$("curl").onclick = async () => {
  say(missing());
  if ($("problem").textContent) return;
  const root = new URL(".", location.href).href;
  const text = chosen().map(method => curlCommand(root, files, fields(method), Boolean($("key").value))).join("\n\n");
  display(text);
  await navigator.clipboard?.writeText(text).catch(() => {}); // not every browser allows copying; the text is shown anyway
};

$("prompt").onclick = async () => {
  say(missing());
  if ($("problem").textContent) return;
  try {
    const prompts = await Promise.all(chosen().map(method => ask("v1/prompt", method)));
    display(prompts.map(one => `# ${one.method}\n${one.questions.map(question => question.text).join("\n---\n")}`).join("\n\n"));
  } catch (error) {
    say(error.message);
  }
};

async function describe() {
  let answer;
  try {
    answer = await fetch("v1/info", { headers: headers() });
  } catch {
    $("info").textContent = "the service does not respond";
    setTimeout(describe, 2000);
    return;
  }
  if (answer.status === 401) {
    $("key-field").hidden = false;
    $("key").onchange = describe;
    $("info").textContent = "this service requires an API key";
    return;
  }
  const info = await answer.json();
  $("info").textContent = `${info.model} on ${info.engine}${info.ready ? "" : " — not ready yet"}`;
  if (!$("methods").children.length) offer(info, await (await fetch("v1/methods", { headers: headers() })).json());
  if (!info.ready) setTimeout(describe, 1000);
}

function offer(info, methods) {
  $("task").replaceChildren(...info.tasks.map(name => new Option(name, name, name === "default", name === "default")));
  $("methods").replaceChildren(...methods.map((method, index) => {
    const label = make("label"), box = Object.assign(document.createElement("input"), { type: "checkbox", value: method.name });
    box.checked = index === 0;
    label.title = method.description;
    label.append(box, method.name);
    return label;
  }));
}

describe();
