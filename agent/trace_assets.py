# ruff: noqa: E501
"""What every trace page carries inside itself: its style and its script. Nothing is loaded from anywhere."""

from __future__ import annotations

STYLE = """
:root { --ink:#1d2129; --soft:#616a78; --line:#dfe3ea; --paper:#fff; --ground:#f4f6f9;
  --prompt:#4472c4; --sampled:#2e9e6b; --tool:#a855b9; --forced:#d68a00; --reused:#c3cfe4; --computed:#35506f; --bad:#c62828; --badbg:#fde3e1 }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ef; --soft:#9aa4b2; --line:#343b47; --paper:#1c2027;
  --ground:#13161b; --prompt:#7ea3ea; --sampled:#4fc48e; --tool:#cf8add; --forced:#f0b040; --reused:#3d4a63; --computed:#93b4dc; --bad:#ff8a80;
  --badbg:#4a2020 } }
* { box-sizing:border-box }
body { margin:0; background:var(--ground); color:var(--ink); font:15px/1.5 system-ui, sans-serif }
main { max-width:1080px; margin:0 auto; padding:24px 20px 60px }
h1 { font-size:26px; line-height:1.25; margin:0 0 6px; overflow-wrap:anywhere }
h2 { font-size:18px; margin:34px 0 4px }
h3 { font-size:14px; margin:22px 0 8px; color:var(--soft); font-weight:600 }
p.lead { color:var(--soft); margin:0 0 12px; max-width:80ch }
.card, details, .span { background:var(--paper); border:1px solid var(--line); border-radius:8px; padding:12px 16px;
  margin:8px 0; overflow-wrap:anywhere }
.text { white-space:pre-wrap; unicode-bidi:plaintext }
.answer { font-size:17px; border-left:5px solid var(--sampled) }
.span { border-left:5px solid var(--source) } details.span { padding:8px 16px }
.prompt { --source:var(--prompt) } .sampled { --source:var(--sampled) } .tool { --source:var(--tool) }
.forced { --source:var(--forced) }
.head { display:flex; gap:10px; flex-wrap:wrap; align-items:baseline } .head b { color:var(--source) }
.note { color:var(--soft); font-size:13px } summary { cursor:pointer } summary .head { display:inline-flex }
details .text { margin-top:8px } .thought { color:var(--soft); font-style:italic }
code { font:13px/1.5 ui-monospace, monospace } .query { font-weight:600 }
.figures { display:grid; grid-template-columns:repeat(auto-fit, minmax(124px, 1fr)); gap:10px; margin:16px 0 }
.figures div { background:var(--paper); border:1px solid var(--line); border-radius:8px; padding:10px 14px }
.figures b { display:block; font-size:22px } .figures span { color:var(--soft); font-size:13px }
table { border-collapse:collapse; width:100% } .turns td, .turns th { padding:6px 8px; text-align:right; white-space:nowrap;
  font-size:13px } .turns th { color:var(--soft); font-weight:600 } .turns td:nth-child(2), .turns th:nth-child(2) {
  width:46%; text-align:left } .bar { display:flex; height:20px; border-radius:4px; overflow:hidden }
.bar i { height:100% } .b-reused { background:var(--reused) } .b-computed { background:var(--computed) }
.b-sampled { background:var(--sampled) }
.strips { display:flex; gap:10px; align-items:center; margin:6px 0 } .strips .note { flex:0 0 32px }
.asked { white-space:normal !important; text-align:left !important; color:var(--soft); font-weight:600; padding-top:12px !important }
.found { font-size:14px; margin-top:12px } .found ul { margin:4px 0 0; padding-left:22px }
.strip { flex:1; display:flex; height:30px; border-radius:6px; overflow:hidden; border:1px solid var(--line) }
.strip a { display:block; min-width:4px; background:var(--source); border-right:1px solid var(--paper) }
.strip a:hover, .strip a:focus { filter:brightness(1.2) }
.key { display:flex; gap:18px; flex-wrap:wrap; margin:8px 0; font-size:13px; color:var(--soft) }
.key i { display:inline-block; width:12px; height:12px; border-radius:3px; margin-right:6px; vertical-align:-1px }
.k { background:var(--source) } .result { border-top:1px solid var(--line); padding:8px 0 4px; margin-top:8px }
.result .url, .url { color:var(--soft); font-size:13px; overflow-wrap:anywhere } .cited { color:var(--sampled); font-size:13px }
:target { outline:3px solid var(--sampled); outline-offset:4px; border-radius:4px }
a { color:var(--prompt) } a.cite { text-decoration:none; border-bottom:2px solid var(--sampled); color:inherit }
a.cite sup { color:var(--sampled); font-weight:700 } mark { background:var(--badbg); color:inherit;
  border-bottom:2px solid var(--bad); padding:0 2px } .bad { color:var(--bad) } .warn { border-left:5px solid var(--forced) }
.facts td { padding:3px 12px 3px 0; vertical-align:top; font-size:13px } .facts td:first-child { color:var(--soft) }
button { font:inherit; font-size:13px; border:1px solid var(--line); background:var(--paper); color:inherit; border-radius:6px;
  padding:3px 10px; cursor:pointer }
"""

SCRIPT = """
"use strict";
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target.scrollIntoView({ block: "center" });
}
addEventListener("hashchange", reveal);
addEventListener("DOMContentLoaded", function () {
  const button = document.getElementById("unfold");
  button.addEventListener("click", function () {
    const folds = document.querySelectorAll("details.span");
    const open = Array.prototype.some.call(folds, function (fold) { return !fold.open; });
    folds.forEach(function (fold) { fold.open = open; });
    button.textContent = open ? "fold all" : "unfold all";
  });
  reveal();
});
"""
