// The list of alerts, newest first.

import * as api from "./api.js";
import { fill, h, toast } from "./dom.js";
import { live } from "./live.js";
import { atShort, lasting, named, score, t } from "./text.js";

const MOST = 100;

/** Opens the newest alert that nobody judged, but not the one that is open. */
export async function next(open) {
  try {
    const other = (await api.get("alerts?verdict=none&most=2")).find((one) => one.alert_id !== open);
    if (other) location.hash = `#/alert/${encodeURIComponent(other.alert_id)}`;
    else toast(t("all_judged"));
  } catch (error) {
    toast(error.message);
  }
}

export function row(one) {
  return h("tr", {}, h("td", {}, h("a", { href: `#/alert/${encodeURIComponent(one.alert_id)}` }, atShort(one.raised_s))),
    h("td", {}, h("a", { href: `#/camera/${encodeURIComponent(one.camera)}` }, one.camera)),
    h("td", {}, one.ended_s === null ? h("span", { class: "badge raised" }, `▲ ${t("raised")}`) : lasting(one.ended_s - one.raised_s)),
    h("td", { class: "n" }, score(one.peak_score)),
    h("td", {}, one.verdict ? `${named("verdict", one.verdict.verdict)}${one.verdict.category ? ` · ${named("category", one.verdict.category)}` : ""}` : t("unjudged")),
    h("td", { class: "wide" }, one.verdict ? `${one.verdict.who}${one.verdict.note ? `: ${one.verdict.note}` : ""}` : ""));
}

export function table(list) {
  return h("div", { class: "scroll", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {},
    ["raised_at", "camera", "lasted", "peak", "verdict", "said_by"].map((key, i) => h("th", { scope: "col", class: i === 5 ? "wide" : null }, t(key))))),
    h("tbody", {}, list.map(row))));
}

export function alerts(view, state, asked) {
  if (asked) state.verdict = asked;
  let gone = false, list = [];
  const place = h("div");
  const which = h("select", { "aria-label": t("show"), onchange: () => { state.verdict = which.value; load(); } },
    ["", "none", "real", "false", "unsure"].map((value) => h("option", { value, selected: value === (state.verdict ?? "") },
      value === "" ? t("all_alerts") : value === "none" ? t("unjudged") : named("verdict", value))));
  const more = h("button", { type: "button", hidden: true, onclick: () => load(list.at(-1)?.alert_id) }, t("more"));
  fill(view, h("h1", {}, t("alerts")), h("div", { class: "bar" }, which,
    h("a", { class: "button", href: api.address("catalogue.csv"), download: "catalogue.csv" }, t("export"))), place, more);

  async function load(before) {
    try {
      const query = [`most=${MOST}`, state.verdict ? `verdict=${state.verdict}` : "", before ? `before=${encodeURIComponent(before)}` : ""].filter(Boolean).join("&");
      const found = await api.get(`alerts?${query}`);
      if (gone) return;
      list = before ? [...list, ...found] : found;
      more.hidden = found.length < MOST;
      fill(place, list.length ? table(list) : h("p", { class: "empty" }, t("none")));
    } catch (error) {
      toast(error.message);
    }
  }

  const onChange = (event) => {
    if (event.detail.news.length && list.length <= MOST) setTimeout(() => gone || load(), 1200);
  };
  live.addEventListener("change", onChange);
  load();
  return {
    leave() {
      gone = true;
      live.removeEventListener("change", onChange);
    },
  };
}
