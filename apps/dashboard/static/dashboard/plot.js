// The plot of the page Now, made of the table beside it: drag to zoom.
"use strict";

const plot = (() => {
  const place = document.getElementById("plot");
  const minutes = document.getElementById("minutes");
  const NAMES = [["half", "ok"], ["99 %", "wait"], ["latest", "bad"]];

  // Colours are the style sheet's, in light and dark.
  const probe = place.appendChild(document.createElement("i"));
  function colour(name) {
    probe.className = name;
    return () => {
      probe.className = name;
      return getComputedStyle(probe).color;
    };
  }

  function read() {
    const rows = [...minutes.querySelectorAll("tr[data-minute]")].reverse();
    const number = (cell) => (cell.dataset.ms ? Number(cell.dataset.ms) : null);
    return [
      rows.map((row) => Number(row.dataset.minute)),
      ...[1, 2, 3].map((column) => rows.map((row) => number(row.cells[column + 1]))),
    ];
  }

  const text = (value) => (value === null ? "–" : `${value.toFixed(1)} ms`);
  const axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 } };
  const size = () => ({ width: place.clientWidth, height: 240 });

  place.hidden = false;
  const drawn = new uPlot({
    ...size(),
    scales: { y: { distr: 3 } },
    axes: [axis, { ...axis, size: 64, values: (_, splits) => splits.map((value) => value === null ? null : `${value} ms`) }],
    series: [
      { value: (_, value) => (value ? new Date(value * 1000).toLocaleTimeString() : "–") },
      ...NAMES.map(([label, name]) => ({ label, stroke: colour(name), width: 1.5, value: (_, value) => text(value) })),
    ],
  }, read(), place);
  minutes.classList.add("plotted");

  let isZoomed = false;
  drawn.hooks.setScale = [(_, key) => {
    const [first, last] = [drawn.data[0][0], drawn.data[0].at(-1)];
    if (key === "x") isZoomed = drawn.scales.x.min > first || drawn.scales.x.max < last;
  }];
  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.target === minutes) drawn.setData(read(), !isZoomed);
  });
  window.addEventListener("resize", () => drawn.setSize(size()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.redraw());
  return drawn;
})();
