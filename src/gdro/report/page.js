"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const places = [...document.querySelectorAll(".plot")];
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const config = { displaylogo: false, displayModeBar: false, responsive: true, scrollZoom: false };
  const touch = matchMedia("(pointer: coarse)").matches;

  // "var(--c0)" becomes the colour that the current theme gives it.
  function themed(value, style) {
    if (typeof value === "string") {
      const name = /^var\((--[a-z0-9]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((v) => themed(v, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, style)]));
  }

  function draw(place, printing) {
    const { layout, frames, at } = plots[place.dataset.plot];
    let { data } = plots[place.dataset.plot];
    if (frames.length && at !== undefined) data = data.map((trace, i) => ({ ...trace, y: frames[at][i] }));
    const style = getComputedStyle(root);
    const frame = themed(layout, style);
    frame.dragmode = touch ? false : "zoom";
    if (printing) {
      // On paper three panels stand in one column, everything else in two.
      frame.width = place.closest(".panels-3") ? 660 : 320;
      frame.height *= 10 / frame.font.size;
      frame.font.size = 10;
    } else {
      frame.autosize = true;
    }
    const { tickmode, type, tickvals } = frame.xaxis;
    if (tickmode === "array" && type !== "log" && (frame.width ?? place.clientWidth) < 40 * tickvals.length) {
      // Where bins stand too close for their names, every other one is named.
      for (const key of ["tickvals", "ticktext"]) frame.xaxis[key] = frame.xaxis[key].filter((_, i) => i % 2 === 0);
    }
    place.style.height = `${frame.height}px`;
    Plotly.react(place, themed(data, style), frame, config);
    place.dataset.drawn = "";
  }

  const drawAll = (printing) => places.forEach((place) => draw(place, printing));

  // One by one, so that the page answers while it draws. It is open when the first screen is
  // drawn, ready when all is: milliseconds since the navigation.
  function drawNext(i) {
    if (i >= places.length) {
      root.dataset.ready = Math.round(performance.now());
      return;
    }
    draw(places[i]);
    const next = places[i + 1];
    if (!next || next.getBoundingClientRect().top > innerHeight) root.dataset.open ??= Math.round(performance.now());
    setTimeout(drawNext, 0, i + 1);
  }

  // A slider moves every panel of its figure.
  function move(slider) {
    const own = [...slider.closest("figure").querySelectorAll(".plot")].map((place) => plots[place.dataset.plot]);
    for (const plot of own) plot.at = Number(slider.value);
    slider.parentElement.querySelector("output").textContent = own[0].steps[own[0].at];
  }
  const sliders = [...document.querySelectorAll(".slider input")];
  for (const slider of sliders) {
    slider.addEventListener("input", () => {
      move(slider);
      slider.closest("figure").querySelectorAll(".plot").forEach((place) => draw(place));
    });
  }

  const modes = ["system", "light", "dark"];
  let mode = 0;
  function theme() {
    button.textContent = `Theme: ${modes[mode]}`;
    if (modes[mode] === "system") delete root.dataset.theme;
    else root.dataset.theme = modes[mode];
  }
  button.addEventListener("click", () => {
    mode = (mode + 1) % modes.length;
    theme();
    drawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll());
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    for (const part of document.querySelectorAll("details:not(.text)")) part.open = true;
    drawAll(true);
  });
  addEventListener("afterprint", () => {
    theme();
    drawAll();
  });

  // A page that loads itself again (--watch) stays as its reader left it: theme, and sliders that
  // stood before the end. A frame that forbids storage shows it anew.
  let storage = null;
  try {
    storage = sessionStorage;
  } catch {}
  const key = `gdro ${location.pathname}`;
  const left = JSON.parse(storage?.getItem(key) ?? '{"mode":0,"at":{}}');
  mode = left.mode;
  theme();
  for (const slider of sliders) {
    const at = left.at[slider.closest("figure").id];
    if (at === undefined) continue;
    slider.value = Math.round(at * slider.max);
    move(slider);
  }
  addEventListener("pagehide", () => {
    const moved = sliders.filter((slider) => slider.value !== slider.max);
    const at = moved.map((slider) => [slider.closest("figure").id, slider.value / slider.max]);
    storage?.setItem(key, JSON.stringify({ mode, at: Object.fromEntries(at) }));
  });

  drawNext(0);
})();
