// What pages do besides htmx: they show times in the viewer's zone, and stop
// asking for news in a hidden tab. All reading works without this.
"use strict";

// The server's clock minus this machine's, in milliseconds.
const ahead = new Date(document.body.dataset.now) - Date.now();

// When all moments were written last.
let writtenAt = new Date(Date.now() + ahead);

function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function far(moment, now) {
  const time = moment.toLocaleTimeString();
  const isToday = moment.toDateString() === now.toDateString();
  return isToday ? time : `${moment.toLocaleDateString()} ${time}`;
}

function write(element, now) {
  const moment = new Date(element.dateTime);
  if (moment > writtenAt && moment <= now) wake();
  const seconds = (moment - now) / 1000;
  let text;
  if (element.dataset.kind === "near" && Math.abs(seconds) < 86400) {
    text = seconds > 0.5 ? `in ${span(seconds)}` : `${span(-seconds)} ago`;
  } else {
    text = far(moment, now);
  }
  if (element.textContent !== text) element.textContent = text;
}

function clock(moment) {
  const milliseconds = String(moment.getMilliseconds()).padStart(3, "0");
  return `${moment.toLocaleTimeString("en-GB")}.${milliseconds}`;
}

function writeAll() {
  const now = new Date(Date.now() + ahead);
  for (const element of document.querySelectorAll("[data-clock]")) {
    element.textContent = clock(new Date(element.dataset.clock));
  }
  for (const element of document.querySelectorAll("time")) write(element, now);
  writtenAt = now;
}

writeAll();
setInterval(() => document.hidden || writeAll(), 1000);
document.addEventListener("htmx:afterSettle", writeAll);

// What needs this script is hidden without it.
for (const each of document.querySelectorAll("[data-script]")) each.hidden = false;
document.getElementById("page")?.addEventListener("change", ({ target }) => {
  for (const each of document.getElementsByName("id")) each.checked = target.checked;
});

document.addEventListener("click", ({ target }) => {
  const copied = document.getElementById(target.dataset?.copy);
  if (!copied || !navigator.clipboard) return;
  navigator.clipboard.writeText(copied.textContent);
  target.textContent = "Copied";
});

// A page that sends a form asks for no news, and takes none: to be loaded anew
// by them would stop the form.
let isLeaving = false;
document.addEventListener("submit", () => { isLeaving = true; });
window.addEventListener("pageshow", () => { isLeaving = false; });

// An element with data-rests asks for news. While there are none, it leaves out
// 1 question after the first, then 3, then 7 after each. It leaves out none once
// a moment that the page shows comes, or somebody touches the page.
const MOST_LEFT_OUT = 7;
function rest({ dataset }, isNew) {
  const before = Number(dataset.rests);
  dataset.rests = isNew ? 0 : Math.min(2 * before + 1, MOST_LEFT_OUT);
  dataset.left = dataset.rests;
}
function isResting({ dataset }) {
  if (!(Number(dataset.left) > 0)) return false;
  dataset.left -= 1;
  return true;
}
function wake() {
  for (const each of document.querySelectorAll("[data-rests]")) rest(each, true);
}
for (const name of ["pointermove", "keydown", "visibilitychange"]) {
  document.addEventListener(name, wake, { passive: true });
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden || isLeaving || isResting(event.detail.elt)) event.preventDefault();
});
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (isLeaving) event.preventDefault();
});

// A part that has not changed is answered by 304, and stays as it is.
document.addEventListener("htmx:configRequest", (event) => {
  const tag = event.target.dataset.tag;
  if (tag) event.detail.headers["If-None-Match"] = tag;
});

let answeredAt = new Date();
document.addEventListener("htmx:afterRequest", (event) => {
  const { elt, xhr } = event.detail;
  const isStale = xhr.status < 200 || xhr.status >= 400;
  const tag = xhr.getResponseHeader("ETag");
  if (!isStale) answeredAt = new Date();
  if (!isStale && tag) elt.dataset.tag = tag;
  if (elt.dataset.rests) rest(elt, xhr.status !== 204 && xhr.status !== 304);
  const stale = document.getElementById("stale");
  stale.hidden = !isStale;
  stale.querySelector("span").textContent = `at ${answeredAt.toLocaleTimeString()}`;
});
