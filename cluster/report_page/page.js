// Draws the figures and runs the browser over rollouts. Text of the run is only ever set as text, never as markup.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);

  function make(tag, className, ...children) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  // ---- figures ----

  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function themed(layout) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line") };
    return {
      ...layout,
      font: { family: "system-ui, sans-serif", size: 12, color: colour("--ink-soft") },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
      xaxis: { ...layout.xaxis, ...axis, showgrid: false },
      yaxis: { ...layout.yaxis, ...axis },
    };
  }

  function drawAll() {
    for (const [name, plot] of Object.entries(data.plots)) {
      const options = { displayModeBar: false, responsive: true };
      Plotly.react(byId(`plot-${name}`), plot.data, themed(plot.layout), options);
    }
  }

  // ---- parts of a group ----

  function badge(outcome) {
    const dot = make("span", "dot");
    dot.style.background = data.colours[outcome];
    return make("span", "badge", dot, outcome.replaceAll("_", " "));
  }

  function code(text) {
    return make("pre", "sql", text);
  }

  const isWhole = (result) =>
    result.rows.length === result.num_rows && result.columns.length === result.num_columns;

  // `other` is the result beside it: a row that it lacks is marked, where both are shown whole.
  function resultTable(title, result, other) {
    const box = make("div", "result", make("h5", "", title));
    if (!result) {
      box.append(make("p", "caption", "not run for this page"));
    } else if (result.fault !== undefined) {
      box.append(make("p", "caption", result.fault));
    } else {
      const marks = other && !other.fault && isWhole(result) && isWhole(other);
      const known = new Set(marks ? other.rows.map((row) => JSON.stringify(row)) : []);
      const head = make("tr", "", ...result.columns.map((name) => make("th", "", name)));
      const rows = result.rows.map((row) => {
        const cells = row.map((cell) => (cell === null ? make("td", "null", "NULL") : make("td", "", cell)));
        return make("tr", marks && !known.has(JSON.stringify(row)) ? "differs" : "", ...cells);
      });
      const table = make("table", "", make("thead", "", head), make("tbody", "", ...rows));
      box.append(make("div", "scroll", table), make("p", "caption", sizeOf(result)));
    }
    return box;
  }

  function sizeOf(result) {
    const rows = `${result.num_rows} ${result.num_rows === 1 ? "row" : "rows"}`;
    const first = result.rows.length < result.num_rows ? `, the first ${result.rows.length} shown` : "";
    const columns = result.columns.length < result.num_columns
      ? `; ${result.columns.length} of ${result.num_columns} columns` : "";
    return rows + first + columns;
  }

  const resultAt = (index) => (index === null ? null : data.results[index]);

  const goldResult = (question) => (question.golds.length ? resultAt(question.golds[0].result) : null);

  function beside(title, result, question) {
    const gold = goldResult(question);
    return make("div", "pair", resultTable(title, result, gold), resultTable("rows of the gold", gold, result));
  }

  function goldPart(question) {
    const part = make("div", "gold");
    if (!question.golds.length) {
      part.append(make("p", "caption", "The gold is not at hand."));
    }
    for (const gold of question.golds) {
      part.append(make("h4", "", "Gold"), code(gold.sql));
    }
    return part;
  }

  function candidatePart(candidate, question) {
    const count = candidate.samples.length;
    const reward = candidate.reward === null ? "no reward" : `reward ${candidate.reward}`;
    const tokens = `${candidate.tokens} tokens${candidate.truncated ? `, ${candidate.truncated} cut at the limit` : ""}`;
    const samples = `sample${count > 1 ? "s" : ""} ${candidate.samples.join(", ")}`;
    const part = make(
      "section", "candidate",
      make("p", "line", make("strong", "times", `${count} ×`), badge(candidate.outcome), make("span", "", reward),
        make("span", "caption", `${tokens}; ${samples}`)),
      candidate.sql === null ? make("p", "caption", "no SQL in the completion") : code(candidate.sql),
    );
    part.style.borderLeftColor = data.colours[candidate.outcome];
    if (candidate.message) part.append(make("p", "message", candidate.message));
    const result = resultAt(candidate.result);
    if (result) {
      const rows = make("details", "", make("summary", "", "Result rows beside the gold's"));
      rows.open = candidate.outcome !== "match";
      rows.append(beside("rows of this SQL", result, question));
      part.append(rows);
    }
    if (candidate.completion !== undefined) {
      part.append(make("details", "", make("summary", "", "Completion"), code(candidate.completion)));
    }
    return part;
  }

  // ---- what got better and worse ----

  function changePart(change) {
    const question = data.questions[change.question];
    const part = make(
      "details", "change",
      make("summary", "", question.text, make("span", "caption", ` ${question.database}, ${question.id}`)),
    );
    // Filled when first opened: a hundred tables would be made for nobody.
    part.addEventListener("toggle", () => {
      if (!part.open || part.childElementCount > 1) return;
      part.append(goldPart(question));
      for (const [name, answer] of [["Before", change.before], ["After", change.after]]) {
        part.append(make("h4", "", `${name} `, badge(answer.outcome)));
        part.append(answer.sql === null ? make("p", "caption", "no SQL") : code(answer.sql));
        if (answer.result !== null) part.append(beside("rows of this SQL", resultAt(answer.result), question));
      }
    });
    return part;
  }

  function showChanges() {
    for (const name of ["gained", "lost"]) {
      const place = byId(name);
      if (place) place.append(...data.changes[name].map(changePart));
      if (place && !data.changes[name].length) place.append(make("p", "caption", "None."));
    }
  }

  // ---- the browser over rollouts ----

  function shares(group) {
    const bar = make("span", "shares");
    for (const outcome of Object.keys(data.colours).filter((name) => name in group.outcomes)) {
      const count = group.outcomes[outcome];
      const piece = make("span", "");
      piece.style.flexGrow = count;
      piece.style.background = data.colours[outcome];
      piece.title = `${count} ${outcome}`;
      bar.append(piece);
    }
    return bar;
  }

  const numCandidates = (group) => Object.values(group.outcomes).reduce((sum, count) => sum + count, 0);

  function showGroup(group, button) {
    const question = data.questions[group.question];
    for (const other of byId("groups").querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    const facts = [
      `step ${group.step}`, `database ${question.database}`, `question ${question.id}`,
      `adapter version ${group.adapter}`, `${numCandidates(group)} candidates, ${group.candidates.length} different`,
    ];
    const schema = data.schemas[question.database];
    const parts = [
      make("h3", "", question.text),
      question.evidence ? make("p", "", question.evidence) : null,
      make("p", "caption", facts.join(" · ")),
      goldPart(question),
      schema ? make("details", "", make("summary", "", "Schema"), code(schema)) : null,
      make("h4", "", "Candidates, grouped by identical SQL"),
      ...group.candidates.map((candidate) => candidatePart(candidate, question)),
    ];
    byId("group").replaceChildren(...parts.filter((part) => part !== null));
    byId("group").scrollTop = 0;
  }

  function groupButton(group) {
    const question = data.questions[group.question];
    const button = make(
      "button", "",
      make("span", "caption", `step ${group.step} · ${question.database}`,
        make("span", "right", `${group.outcomes.match || 0} of ${numCandidates(group)} right`)),
      make("span", "text", question.text),
      shares(group),
    );
    button.type = "button";
    button.addEventListener("click", () => showGroup(group, button));
    return button;
  }

  function options(select, values) {
    for (const value of values) {
      const option = make("option", "", String(value));
      option.value = String(value);
      select.append(option);
    }
  }

  function runBrowser() {
    const list = byId("groups");
    const entries = data.groups.map((group) => {
      const question = data.questions[group.question];
      const texts = [question.text, question.id, ...group.candidates.map((candidate) => candidate.sql || "")];
      return { group, question, item: make("li", "", groupButton(group)), text: texts.join("\n").toLowerCase() };
    });
    list.append(...entries.map((entry) => entry.item));
    options(byId("filter-step"), [...new Set(data.groups.map((group) => group.step))]);
    options(byId("filter-database"), [...new Set(data.questions.map((question) => question.database))].sort());

    function isShown({ group, question, text }) {
      const [sort, value] = byId("filter-outcome").value.split(":");
      const step = byId("filter-step").value;
      const database = byId("filter-database").value;
      const words = byId("filter-text").value.toLowerCase().split(/\s+/);
      return (sort !== "kind" || group.kind === value)
        && (sort !== "outcome" || value in group.outcomes)
        && (step === "" || String(group.step) === step)
        && (database === "" || question.database === database)
        && words.every((word) => text.includes(word));
    }

    function filter() {
      let numShown = 0;
      for (const entry of entries) {
        entry.item.hidden = !isShown(entry);
        numShown += !entry.item.hidden;
      }
      byId("count").textContent = `${numShown} of ${entries.length} groups`;
      const current = list.querySelector("li:not([hidden]) button[aria-current]");
      const first = current || list.querySelector("li:not([hidden]) button");
      if (!first) byId("group").replaceChildren(make("p", "caption", "No group is left by the filters."));
      else if (!current) first.click();
    }

    for (const event of ["input", "change"]) byId("filters").addEventListener(event, filter);
    byId("filters").addEventListener("reset", () => setTimeout(filter));
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    list.addEventListener("keydown", (event) => {
      const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!way) return;
      event.preventDefault();
      const shown = [...list.querySelectorAll("li:not([hidden]) button")];
      const next = shown[shown.indexOf(document.activeElement) + way];
      if (next) {
        next.focus();
        next.click();
      }
    });
    filter();
  }

  drawAll();
  dark.addEventListener("change", drawAll);
  showChanges();
  if (byId("groups")) runBrowser();
})();
