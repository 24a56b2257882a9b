// What a shift hands over, on the screen and on paper.

import { table } from "./alerts.js";
import * as api from "./api.js";
import { fill, h, toast } from "./dom.js";
import { live } from "./live.js";
import { atFull, atShort, lasting, named, t } from "./text.js";

const SPANS = [28800, 43200, 86400, 604800];

export function shift(view, state) {
  let gone = false;
  state.span ??= 28800;
  const place = h("div");
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

  /** The proof that what watches would see: a known clip, scored as it must be. */
  function watched(canary) {
    const times = { at: canary.passed_s === null ? "–" : atShort(canary.passed_s), s: canary.latency_s?.toFixed(1) ?? "–" };
    if (canary.state === "failed") return h("p", { class: "warn" }, `✕ ${t("canary_failed", { at: atShort(canary.checked_s), passed: times.at })}: ${canary.reason}`);
    return h("p", {}, canary.state === "passed" ? `● ${t("canary_passed", times)}` : t(canary.state === "off" ? "canary_off" : "canary_waiting"));
  }

  async function load() {
    for (const button of spans.children) if (button.dataset.span) button.setAttribute("aria-pressed", String(Number(button.dataset.span) === state.span));
    const asked = state.span, toS = Date.now() / 1000;
    let data, canary;
    try {
      [data, canary] = await Promise.all([api.get(`shift?from=${toS - asked}&to=${toS}`), api.get("canary")]);
    } catch (error) {
      toast(error.message);
      return;
    }
    if (gone || asked !== state.span) return;  // another span was chosen while this one was under way
    const share = data.false_share === null ? "–" : `${Math.round(data.false_share * 100)} %`;
    const trouble = [...live.cameras.values()].filter((camera) => !["ok", "disabled", "disarmed"].includes(camera.status));
    const open = live.raised();
    fill(place, h("p", { class: "handover" }, t("handover", { site: state.site, from: atFull(data.from_s), to: atFull(data.to_s) })),
      h("dl", { class: "figures" }, [["alerts", data.alerts.length], ["judged_n", data.judged], ["false_share", share],
        ["to_verdict", data.mean_to_verdict_s === null ? "–" : lasting(data.mean_to_verdict_s)],
        ["unjudged", data.alerts.filter((one) => !one.verdict).length], ["raised", live.live ? open.length : "–"]].map(([key, value]) =>
        h("div", {}, h("dt", {}, t(key)), h("dd", {}, String(value))))),
      h("section", {}, h("h2", {}, t("now")), !live.live ? h("p", { class: "warn" }, t("now_unknown")) : open.length || trouble.length ? h("ul", {},
        open.map((camera) => h("li", {}, `▲ ${camera.name}: ${t("raised")}`)),
        trouble.map((camera) => h("li", {}, `${camera.name}: ${named("status", camera.status)}, ${camera.reason}`))) : h("p", { class: "empty" }, t("nothing_wrong"))),
      h("section", { class: "canary" }, h("h2", {}, t("canary")), watched(canary)),
      h("div", { class: "columns" }, counts(t("by_camera"), t("camera"), "camera", data.cameras.slice(0, 30)), counts(t("by_day"), t("day"), "day", data.days),
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
  // What is raised now is only known once the wall was heard of.
  const known = () => load();
  live.addEventListener("state", known);
  load();
  return { keys: { p: () => print(), ...Object.fromEntries(SPANS.map((seconds, i) => [String(i + 1), () => span(seconds)])) }, leave() { gone = true; live.removeEventListener("state", known); } };
}
