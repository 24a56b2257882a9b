// The frame around the pages: who is there, what is live, which page, which key.

import { alert } from "./alert.js";
import { alerts, next } from "./alerts.js";
import * as api from "./api.js";
import { camera } from "./camera.js";
import { forgetColours } from "./chart.js";
import { dialog, fill, h, say, toast } from "./dom.js";
import { live } from "./live.js";
import { shift } from "./shift.js";
import { listen, sound, toggle, waits } from "./sound.js";
import { LANGUAGES, atShort, atTime, language, sentence, speak, t } from "./text.js";
import { wall } from "./wall.js";

const PAGES = { wall, camera, alert, alerts, shift };
const view = document.getElementById("view"), head = document.getElementById("head"), notLive = document.getElementById("not-live");
const states = {};
const common = { role: null, pictures: true };
let me = null, page = null, liveSign = null, tally = null, unjudged = null, sounds = null, faults = null;
let expired = false, byPointer = false, asking = null;
const SILENT_S = 5;

function theme(wanted) {
  if (wanted === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = wanted;
  localStorage.setItem("vad.theme", wanted);
  forgetColours();
  page?.redraw?.();
}

function header() {
  liveSign = h("span", { class: "live", id: "live" });
  tally = h("a", { class: "tally", href: "#/wall", id: "tally" });
  unjudged = h("a", { class: "tally", href: "#/alerts/none", id: "unjudged", hidden: true });
  sounds = h("button", { type: "button", class: "plain", id: "sound", onclick: noise });
  faults = h("span", { class: "warn", id: "faults" });
  const link = (name, key) => h("a", { href: `#/${name}`, "data-page": name }, t(name), h("kbd", {}, key));
  fill(head, h("strong", { class: "site" }, me.site), h("nav", { "aria-label": t("pages") }, link("wall", "w"), link("alerts", "l"), link("shift", "h")),
    tally, unjudged, h("span", { class: "grow" }), faults, liveSign, sounds,
    h("select", { "aria-label": t("theme"), id: "theme", onchange: (event) => theme(event.target.value) }, ["auto", "light", "dark"].map((value) =>
      h("option", { value, selected: value === (localStorage.getItem("vad.theme") ?? "auto") }, t(`theme_${value}`)))),
    h("select", { "aria-label": t("language"), id: "language", onchange: async (event) => {
      localStorage.setItem("vad.language", event.target.value);
      await speak(event.target.value);
      header();
      route();
    } }, Object.entries(LANGUAGES).map(([value, name]) => h("option", { value, lang: value, selected: value === language }, name))),
    h("button", { type: "button", class: "plain", id: "help", "aria-label": t("help"), onclick: help }, "?"),
    me.open ? null : h("button", { type: "button", class: "plain", id: "logout", onclick: logOut }, t("log_out", { name: me.name })));
  say(document.getElementById("skip"), t("skip"));
  showLive();
  count();
  noiseSign();
  health();
}

function noise() {
  toast(toggle() ? t("sound_on") : t("sound_off"));
  noiseSign();
}

function noiseSign() {
  if (!sounds) return;
  fill(sounds, sound.on ? (waits() ? t("sound_waits") : t("sound_is_on")) : t("sound_is_off"), h("kbd", {}, "m"));
  sounds.setAttribute("aria-pressed", String(sound.on));
}

function showLive() {
  if (!liveSign) return;
  say(liveSign, live.live ? `● ${t("live")}` : `○ ${t("not_live")}`);
  liveSign.classList.toggle("off", !live.live);
  document.body.classList.toggle("stale", !live.live);
  notLive.hidden = live.live || me === null;
  if (!live.live) say(notLive, `⚠ ${t("not_live_since", { at: atTime(live.sinceS) })}`);
}

function count() {
  if (!tally) return;
  const raised = live.raised();
  // Calm is only said of what is heard of now, and never of cameras that nobody watches.
  const blind = live.unwatched().length, impaired = live.impaired().length, shelved = live.shelved().length;
  const told = [raised.length ? `▲ ${t("raised_now", { n: raised.length })}` : null, shelved ? `⏸ ${t("raised_shelved", { n: shelved })}` : null];
  if (!raised.length && !shelved) told.push(live.live ? t("calm") : "–");
  told.push(blind ? `✕ ${t("blind", { n: blind })}` : null, impaired ? `◐ ${t("impaired", { n: impaired })}` : null);
  say(tally, told.filter(Boolean).join(" · "));
  tally.classList.toggle("raised", raised.length > 0);
  document.title = `${live.live || !me ? "" : "⚠ "}${raised.length ? `▲${raised.length} ` : ""}${me?.site ?? ""} · vad-monitor`;
}

async function health() {
  if (!me || !faults) return;
  try {
    const [state, canary] = await Promise.all([api.get("history"), api.get("canary")]);
    if (!faults) return;
    const told = [state.fault ? sentence(state.fault) : state.dropped ? t("dropped", { n: state.dropped }) : null,
      canary.state === "failed" ? t("canary_failed", { at: atShort(canary.checked_s), passed: canary.passed_s === null ? "–" : atShort(canary.passed_s) }) : null];
    say(faults, told.filter(Boolean).map((one) => `⚠ ${one}`).join(" "));
    unjudged.hidden = !state.unjudged;
    say(unjudged, state.unjudged ? t("unjudged_n", { n: state.unjudged }) : "");
  } catch (error) {  // no answer at all: the sign of life says it
    if (faults && error.status >= 500) say(faults, `⚠ ${error.message}`);
  }
}

function route() {
  if (!me) return;
  const [, name, ...rest] = location.hash.split("/");
  const which = PAGES[name] ? name : "wall";
  page?.leave?.();
  window.scrollTo(0, 0);
  states[which] ??= {};
  Object.assign(states[which], common);
  const asked = rest.join("/");
  let what = asked;
  try { what = decodeURIComponent(what); } catch { /* as it is */ }
  page = PAGES[which](view, states[which], what, asked);
  for (const link of head.querySelectorAll("[data-page]"))
    link.dataset.page === which ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
}

function help() {
  const keys = [["w", "wall"], ["l", "alerts"], ["h", "shift"], ["/", "search"], ["← ↑ ↓ →", "key_move"], ["Enter", "key_open"], ["Esc", "key_back"],
    ["r f u", "key_verdict"], ["a", "acknowledge"], ["s", "shelve"], ["n", "next_unjudged"], ["Space", "key_play"], ["← →", "key_alerts"],
    ["1 … 5", "range"], ["m", "key_sound"], ["x", "key_full"], ["p", "print"], ["?", "help"]];
  dialog(t("help"), t("close"), h("dl", { class: "keys" }, keys.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(what))])));
}

const everywhere = {
  w: () => (location.hash = "#/wall"), l: () => (location.hash = "#/alerts"), h: () => (location.hash = "#/shift"),
  n: () => next(), m: noise, "?": help,
  Escape: () => (location.hash.startsWith("#/wall") || !location.hash ? view.focus() : history.length > 1 ? history.back() : (location.hash = "#/wall")),
};

document.addEventListener("keydown", (event) => {
  if (!me || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const field = event.target.closest("input, select, textarea");
  if (field) {
    if (event.key === "Escape" || (event.key === "Enter" && field.matches("input"))) field.blur();
    return;
  }
  if (event.key === " " && event.target.closest("button, a, video")) return;
  const call = page?.keys?.[event.key] ?? everywhere[event.key] ?? page?.keys?.[event.key.toLowerCase()];
  if (!call) return;
  event.preventDefault();
  if (!event.repeat || event.key.startsWith("Arrow")) call();  // a key that is held is one verdict
});
// What was chosen with the pointer is chosen: the next key is the page's, and not the first letter of another choice.
document.addEventListener("pointerdown", () => (byPointer = true));
document.addEventListener("keydown", (event) => { if (event.key === "Tab") byPointer = false; }, true);
document.addEventListener("change", (event) => { if (byPointer && event.target.matches("select")) event.target.blur(); });

async function logOut() {
  await api.remove("session").catch(() => {});
  away();
}

function away() {
  if (me === null) return;
  me = null;
  live.stop();
  page?.leave?.();
  page = null;
  fill(head);
  liveSign = tally = unjudged = sounds = faults = null;
  logIn();
}

function logIn() {
  notLive.hidden = true;
  const name = h("input", { id: "name", autocomplete: "username", required: true }), password = h("input", { id: "password", type: "password", autocomplete: "current-password", required: true });
  const wrong = h("p", { class: "warn", role: "alert" });
  fill(view, h("form", { class: "login", onsubmit: async (event) => {
    event.preventDefault();
    say(wrong, "");
    try {
      begin(await api.post("session", { name: name.value, password: password.value }));
    } catch (error) {
      say(wrong, error.message);
      password.select();
    }
  } }, h("h1", {}, "vad-monitor"), h("label", { for: "name" }, t("name")), name, h("label", { for: "password" }, t("password")), password,
    h("button", { type: "submit" }, t("log_in")), wrong));
  name.focus();
}

function begin(who) {
  me = who;
  expired = false;
  common.role = me.role;
  common.pictures = me.pictures;
  common.site = me.site;
  header();
  live.start();
  route();
}

live.addEventListener("state", () => { showLive(); count(); });
live.addEventListener("whole", count);
live.addEventListener("change", (event) => {
  count();
  if (event.detail.news.length && !asking) asking = setTimeout(() => { asking = null; health(); }, 1500);
});
live.addEventListener("retry", () => { if (me) api.get("cameras").catch(() => {}); });
document.addEventListener("logged-out", () => { if (me) { expired = true; away(); } });
window.addEventListener("hashchange", route);
setInterval(health, 15000);
setInterval(noiseSign, 2000);
listen(() => expired || (me && !live.live && api.now() - live.sinceS > SILENT_S) ? "silent"
  : live.raised().some((one) => !one.acknowledged) ? "raised" : null);

async function start() {
  theme(localStorage.getItem("vad.theme") ?? "auto");
  let asked = api.get("session");  // beside the words, not after them
  asked.catch(() => {});
  await speak(localStorage.getItem("vad.language") ?? navigator.language.slice(0, 2));
  for (;;) {
    try {
      const who = await asked;
      return who.name === null ? logIn() : begin(who);
    } catch (error) {
      fill(view, h("p", { class: "empty" }, error.message));
      await new Promise((done) => setTimeout(done, 2000));
      asked = api.get("session");
    }
  }
}

start();
