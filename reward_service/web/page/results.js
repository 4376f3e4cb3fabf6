// Renders the service's responses as elements.

export function make(tag, text = "", cls = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className: cls });
}

export function picture(file) {
  const figure = make("figure"), image = make("img");
  image.src = URL.createObjectURL(file);
  image.alt = file.name;
  image.onload = () => image.classList.toggle("tiny", image.naturalWidth < 128);
  figure.append(image, make("figcaption", file.name));
  return figure;
}

/** One candidate with a cell for each method's answer. */
export function candidateCard(file, index, answers) {
  const card = make("article", "", "candidate"), cells = make("div", "", "methods");
  cells.append(...answers.map(answer => cell(answer, answer.results[index])));
  card.append(picture(file), cells);
  return card;
}

function cell(answer, result) {
  const box = make("section", "", "cell"), head = make("h3", answer.method);
  box.append(head);
  if (result.status === "error") {
    box.append(make("p", result.error.message, "problem"));
    return box;
  }
  if (isBest(answer, result)) head.append(make("span", "best", "best"));
  const meter = Object.assign(document.createElement("meter"), { min: 0, max: 1, value: result.score });
  meter.setAttribute("aria-label", `score of ${answer.method}`);
  box.append(make("div", result.score.toFixed(3), "score"), meter);
  const { details } = result;
  if (result.distribution) box.append(bars(result.distribution));
  if (details.parts && !details.components) box.append(named(details.parts));
  if (details.components) box.append(named(Object.fromEntries(Object.entries(details.components).map(([name, one]) => [name, one.score]))));
  if (details.principles) box.append(principles(details.principles));
  if (result.score_mass !== null) box.append(mass(result));
  if (result.reasoning) box.append(make("p", result.reasoning, "note"));
  return box;
}

function isBest(answer, result) {
  const scores = answer.results.filter(one => one.status === "ok").map(one => one.score);
  return scores.length > 1 && result.score === Math.max(...scores) && Math.min(...scores) < result.score;
}

function bars(distribution) {
  const box = make("div", "", "bars");
  for (const [label, share] of Object.entries(distribution)) {
    const bar = make("div", "", "bar"), fill = make("i");
    fill.style.height = `${65 * share}%`;
    bar.append(make("span", share.toFixed(2)), fill, make("b", label));
    box.append(bar);
  }
  return box;
}

const named = values =>
  make("p", Object.entries(values).map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toFixed(3)}`).join("\n"), "note");

function principles(list) {
  const box = make("ul", "", "principles");
  box.append(...list.map(one => {
    const line = make("li"), question = make("span", one.question);
    question.append(make("small", ` ${one.category}`));
    line.append(make("b", one.verdict ? "✓" : "✗", one.verdict ? "yes" : "no"), make("span", one.score.toFixed(2)), question);
    return line;
  }));
  return box;
}

function mass(result) {
  const low = result.details.low_score_mass;
  const warning = low ? " — low: the judge probably did not intend to answer with a label" : "";
  return make("p", `score mass ${result.score_mass.toFixed(4)}${warning}`, low ? "note warn" : "note");
}
