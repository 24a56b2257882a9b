// What a shift hands over, on the screen and on paper.

import { table } from "./alerts.js";
import * as api from "./api.js";
import { fill, h, toast } from "./dom.js";
import { live } from "./live.js";
import { isTrouble } from "./status.js";
import { atDate, atFull, atShort, atZone, lasting, named, sentence, t } from "./text.js";

const SPANS = [28800, 43200, 86400, 604800];

export function shift(view, state) {
  let gone = false, waiting = null;
  state.span ??= 28800;
  const place = h("div"), present = h("div"), open = h("dd");
  const spans = h("div", { class: "tools noprint", role: "group", "aria-label": t("range") }, SPANS.map((seconds, i) =>
    h("button", { type: "button", "data-span": seconds, onclick: () => span(seconds) }, lasting(seconds), h("kbd", {}, String(i + 1)))),
    h("button", { type: "button", onclick: () => print() }, t("print"), h("kbd", {}, "p")));
  fill(view, h("h1", {}, t("shift")), spans, place);

  function counts(title, first, key, rows) {
    const most = Math.max(...rows.map((row) => row.alerts), 1);
    return h("section", {}, h("h2", {}, title), rows.length ? h("div", { class: "scroll", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {},
      [first, t("alerts"), named("verdict", "real"), named("verdict", "false"), named("verdict", "unsure"), t("unjudged")].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((row) => { const bar = h("i", { class: "bar-in" }); bar.style.width = `${row.alerts / most * 100}%`;
        return h("tr", {}, h("th", { scope: "row" }, row[key]), h("td", { class: "n" }, String(row.alerts), bar),
          ["real", "false", "unsure", "none"].map((said) => h("td", { class: "n" }, String(row[said])))); })))) : h("p", { class: "empty" }, t("none")));
  }

  /** How it stands at this moment, whenever the rest was asked for. */
  function now() {
    const raised = live.raised(), all = [...live.cameras.values()];
    const trouble = all.filter((camera) => isTrouble(camera.status));
    const off = ["disarmed", "disabled"].map((status) => [status, all.filter((camera) => camera.status === status).length]).filter(([, n]) => n);
    open.textContent = live.live ? String(raised.length) : "–";
    if (!live.live) return void fill(present, h("p", { class: "warn" }, t("now_unknown")));
    const told = [raised.map((camera) => `▲ ${camera.name}: ${t("raised")}`),
      live.shelved().map((camera) => `⏸ ${camera.name}: ${t("raised")}, ${t("shelved_until", { at: atShort(camera.shelf.until_s) })}: ${camera.shelf.reason}`),
      trouble.map((camera) => `${camera.name}: ${named("status", camera.status)}, ${sentence(camera.reason)}`),
      off.map(([status, n]) => `${named("status", status)}: ${n}`)].flat();
    fill(present, told.length ? h("ul", {}, told.map((text) => h("li", {}, text))) : h("p", { class: "empty" }, t("nothing_wrong")));
  }

  /** By the days of who reads it: the monitor's own midnight may be in the middle of the shift. */
  function days(alerts) {
    const found = new Map();
    for (const one of [...alerts].reverse()) {
      const day = atDate(one.raised_s), row = found.get(day) ?? { day, alerts: 0, real: 0, false: 0, unsure: 0, none: 0 };
      row.alerts++;
      row[one.verdict?.verdict ?? "none"]++;
      found.set(day, row);
    }
    return [...found.values()];
  }

  /** The proof that what watches would see: a known clip, scored as it must be. */
  function watched(canary) {
    const times = { at: canary.passed_s === null ? "–" : atShort(canary.passed_s), s: canary.latency_s?.toFixed(1) ?? "–" };
    if (canary.state === "failed") return h("p", { class: "warn" }, `✕ ${t("canary_failed", { at: atShort(canary.checked_s), passed: times.at })}: ${sentence(canary.reason)}`);
    return h("p", {}, canary.state === "passed" ? `● ${t("canary_passed", times)}` : t(canary.state === "off" ? "canary_off" : "canary_waiting"));
  }

  async function load() {
    for (const button of spans.children) if (button.dataset.span) button.setAttribute("aria-pressed", String(Number(button.dataset.span) === state.span));
    const asked = state.span, toS = api.now();
    let data, canary;
    try {
      [data, canary] = await Promise.all([api.get(`shift?from=${toS - asked}&to=${toS}`), api.get("canary")]);
    } catch (error) {
      toast(error.message);
      return;
    }
    if (gone || asked !== state.span) return;  // another span was chosen while this one was under way
    const share = data.false_share === null ? "–" : `${Math.round(data.false_share * 100)} %`;
    now();
    fill(place, h("p", { class: "handover" }, t("handover", { site: state.site, from: atFull(data.from_s), to: atFull(data.to_s), zone: atZone(data.to_s) })),
      h("dl", { class: "figures" }, [["alerts", data.alerts.length], ["judged_n", data.judged], ["false_share", share],
        ["to_verdict", data.mean_to_verdict_s === null ? "–" : lasting(data.mean_to_verdict_s)],
        ["unjudged", data.alerts.filter((one) => !one.verdict).length], ["raised", open]].map(([key, value]) =>
        h("div", {}, h("dt", {}, t(key)), value === open ? open : h("dd", {}, String(value))))),
      h("section", {}, h("h2", {}, t("now")), present),
      h("section", { class: "canary" }, h("h2", {}, t("canary")), watched(canary)),
      h("div", { class: "columns" }, counts(t("by_camera"), t("camera"), "camera", data.cameras.slice(0, 30)), counts(t("by_day"), t("day"), "day", days(data.alerts)),
        h("section", {}, h("h2", {}, t("unseen")), data.unseen.length ? h("ul", {}, data.unseen.slice(0, 30).map((one) => h("li", {}, `${one.camera}: ${lasting(one.seconds)}`))) : h("p", { class: "empty" }, t("none")),
          h("h2", {}, t("shelves")), data.shelves.length ? h("ul", {}, data.shelves.map((one) => h("li", {},
            `${one.camera}: ${atShort(one.at_s)} – ${atShort(one.until_s)}, ${one.who}: ${one.reason}`))) : h("p", { class: "empty" }, t("none")))),
      h("section", {}, h("h2", {}, t("alerts")), data.alerts.length ? table(data.alerts) : h("p", { class: "empty" }, t("none"))),
      h("div", { class: "sign-off" }, h("p", {}, t("handed_over_by")), h("p", {}, t("taken_over_by"))));
  }

  function span(seconds) {
    state.span = seconds;
    load();
  }
  /** Asked again for news, but not under the fingers of who moves among its links. */
  function later() {
    waiting ??= setTimeout(() => {
      waiting = null;
      if (!gone && !place.contains(document.activeElement)) load();
    }, 1500);
  }

  function onChange({ detail }) {
    now();
    if (detail.news.length) later();
  }
  live.addEventListener("state", now);
  live.addEventListener("whole", now);
  live.addEventListener("change", onChange);
  const timer = setInterval(later, 60000);
  load();
  return {
    keys: { p: () => print(), ...Object.fromEntries(SPANS.map((seconds, i) => [String(i + 1), () => span(seconds)])) },
    leave() {
      gone = true;
      clearInterval(timer);
      clearTimeout(waiting);
      live.removeEventListener("state", now);
      live.removeEventListener("whole", now);
      live.removeEventListener("change", onChange);
    },
  };
}
