"use strict";
// Moves through an episode: the slider's step decides what is shown, and one moment of the past may be chosen beside it.
(() => {
  const data = JSON.parse(document.getElementById("explored").textContent);
  const byId = (id) => document.getElementById(id);
  const plot = byId("plot"), slider = byId("step"), play = byId("play");
  const last = data.first + data.steps - 1;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const paper = window.matchMedia("print");
  const traces = { arc: [], reading: [], scale: [] };
  data.figure.data.forEach((trace, place) => traces[trace.meta.kind]?.push(place));

  let now = data.first;
  let chosen = null; // {kind, number} of an event, or null
  let shownArcs = ""; // which opacities the arcs have, so that they change only when they must
  let timer = null;

  const digits = (value) => (value === null || value === undefined ? "-" : String(Number(value.toPrecision(3))));
  const theme = () => (dark.matches && !paper.matches ? "dark" : "light");
  const readings = data.readings.map(([step, source, weight]) => ({ step, source, weight }));
  const eventOf = ({ kind, number }) => (kind === "arc" ? data.arcs[number] : readings[number]);

  // What belongs to a step: replays of its window, then what it reads, the strongest first.
  function eventsAt(step) {
    const here = (list, kind, inside) =>
      list.map((event, number) => ({ kind, number, event })).filter(({ event }) => inside(event));
    const arcs = here(data.arcs, "arc", (arc) => arc.begin <= step && step <= arc.end);
    const reads = here(readings, "reading", (reading) => reading.step === step);
    arcs.sort((a, b) => b.event.credit - a.event.credit);
    reads.sort((a, b) => b.event.weight - a.event.weight);
    return [...arcs, ...reads];
  }

  function facts(list, step) {
    const rows = data.series.map(({ name, values }) => [name, digits(values[step - data.first])]);
    if (data.actions.length) rows.unshift(["action", data.actions[step - data.first]]);
    list.replaceChildren(
      ...rows.flatMap(([name, value]) => {
        const term = document.createElement("dt"), told = document.createElement("dd");
        term.textContent = name;
        told.textContent = value;
        return [term, told];
      })
    );
  }

  function moment(side, step, title) {
    const image = byId(`${side}-frame`), none = byId(`${side}-none`);
    byId(`${side}-title`).textContent = title;
    const url = step === null ? undefined : data.frames[data.frameOf[step - data.first]];
    image.hidden = !url;
    none.hidden = Boolean(url);
    if (url) {
      image.src = url;
      image.alt = `The environment at step ${step}`;
    } else {
      image.removeAttribute("src");
      none.textContent = step === null ? "nothing is recalled or replayed here" : "no picture of this step";
    }
    if (step === null) byId(`${side}-facts`).replaceChildren();
    else facts(byId(`${side}-facts`), step);
  }

  function told({ kind, event }) {
    const what = kind === "arc" ? `step ${event.step} replayed step ${event.source}` : `reads step ${event.source}`;
    const credit = kind === "arc" ? `, credit ${digits(event.credit)}` : "";
    return `${what}${credit}, weight ${digits(event.weight)}`;
  }

  function list(events) {
    byId("events-title").textContent = events.length ? "In this window and step" : "Nothing is recalled or replayed here";
    byId("events").replaceChildren(
      ...events.slice(0, 8).map((item) => {
        const line = document.createElement("li"), button = document.createElement("button");
        const swatch = document.createElement("span");
        swatch.className = "swatch";
        swatch.style.background = item.kind === "arc" ? data.colours[theme()][item.number] : "var(--blue)";
        button.type = "button";
        button.setAttribute("aria-pressed", String(same(item, chosen)));
        button.append(swatch, told(item));
        button.addEventListener("click", () => choose(item));
        line.append(button);
        return line;
      })
    );
  }

  const same = (a, b) => Boolean(a && b && a.kind === b.kind && a.number === b.number);

  // An event is seen from the step that recalled, with the recalled moment beside it.
  function choose(item) {
    chosen = { kind: item.kind, number: item.number };
    now = eventOf(chosen).step;
    slider.value = now;
    show();
  }

  function moveTo(step) {
    now = Math.max(data.first, Math.min(last, step));
    chosen = eventsAt(now)[0] ?? null;
    slider.value = now;
    show();
  }

  function show() {
    const events = eventsAt(now), event = chosen && eventOf(chosen);
    byId("where").textContent = `${now} of ${data.first} to ${last}`;
    moment("now", now, `Now: step ${now}`);
    moment("then", event ? event.source : null, event ? `Then: step ${event.source}, ${now - event.source} before` : "Then");
    list(events);
    byId("heard").textContent = `Step ${now}. ${event ? told({ ...chosen, event }) : "Nothing is recalled or replayed here."}`;
    draw(event);
  }

  // The plot

  // What the present step reads: half ellipses above the line, in a few widths by weight.
  function readingLines() {
    const lines = Array.from({ length: data.band }, () => ({ x: [], y: [], text: [], customdata: [] }));
    readings.forEach((reading, number) => {
      if (reading.step !== now) return;
      const line = lines[Math.min(data.band - 1, Math.floor(reading.weight * data.band))];
      const lag = reading.step - reading.source;
      for (let i = 0; i <= 40; i++) {
        const angle = (Math.PI * i) / 40;
        line.x.push((reading.step + reading.source) / 2 + (lag / 2) * Math.cos(angle));
        line.y.push(Math.sqrt(lag) * Math.sin(angle));
        line.text.push(`<b>step ${reading.step} reads step ${reading.source}</b><br>weight ${digits(reading.weight)}`);
        line.customdata.push(number);
      }
      for (const column of Object.values(line)) column.push(null);
    });
    return lines;
  }

  function draw(event) {
    const update = { "shapes[0].x0": now, "shapes[0].x1": now, "shapes[1].visible": Boolean(event) };
    if (event) Object.assign(update, { "shapes[1].x0": event.source, "shapes[1].x1": event.source });
    Plotly.relayout(plot, update);
    const lines = readingLines();
    const columns = ["x", "y", "text", "customdata"];
    Plotly.restyle(plot, Object.fromEntries(columns.map((name) => [name, lines.map((line) => line[name])])), traces.reading);
    const opacity = data.arcs.map((arc, number) => {
      if (same({ kind: "arc", number }, chosen)) return 1;
      if (arc.begin <= now && now <= arc.end) return 0.9;
      return arc.end < now ? 0.4 : 0.14;
    });
    if (opacity.length && String(opacity) !== shownArcs) {
      shownArcs = String(opacity);
      Plotly.restyle(plot, { opacity }, traces.arc);
    }
  }

  function paint() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const layout = { "font.color": colour("text"), "shapes[0].line.color": colour("text"), "shapes[1].line.color": colour("mark") };
    for (const axis of Object.keys(plot.layout).filter((name) => /^[xy]axis/.test(name))) {
      layout[`${axis}.gridcolor`] = layout[`${axis}.zerolinecolor`] = colour("line");
    }
    layout["yaxis.zerolinecolor"] = colour("quiet");
    Plotly.relayout(plot, layout);
    if (data.arcs.length) {
      Plotly.restyle(plot, { "line.color": data.colours[theme()] }, traces.arc);
      const scales = data.figure.data[traces.scale[0]].meta.scales;
      Plotly.restyle(plot, { "marker.colorscale": [scales[theme()]] }, traces.scale);
    }
    show();
  }

  function clicked({ points: [point] }) {
    const meta = point.data.meta;
    if (meta.kind === "arc") choose({ kind: "arc", number: meta.number });
    else if (meta.kind === "reading") choose({ kind: "reading", number: point.customdata });
    else moveTo(Math.round(point.x));
  }

  function setPlaying(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => (now < last ? moveTo(now + 1) : setPlaying(false)), 400) : null;
    play.textContent = on ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(on));
  }

  slider.addEventListener("input", () => moveTo(Number(slider.value)));
  play.addEventListener("click", () => {
    if (!timer && now === last) moveTo(data.first);
    setPlaying(!timer);
  });
  byId("explorer").addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.target === slider || !(event.key in moves)) return;
    event.preventDefault();
    moveTo(now + moves[event.key]);
  });
  plot.style.height = `${data.figure.layout.height}px`;
  Plotly.newPlot(plot, data.figure.data, data.figure.layout, { responsive: true, displayModeBar: false }).then(() => {
    plot.on("plotly_click", clicked);
    for (const media of [dark, paper]) media.addEventListener("change", paint);
    paint();
    // What a reader meets first should show something: the step of the replay with the greatest credit.
    const best = data.arcs.reduce((most, arc) => (!most || arc.credit > most.credit ? arc : most), null);
    moveTo(best ? best.step : data.first);
    plot.dataset.ready = "true";
  });
})();
