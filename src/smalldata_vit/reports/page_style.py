"""How a report looks: one style sheet, in light, in dark and on paper; no font, picture or script from elsewhere."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --ink: #1c2024; --muted: #6b7178; --rule: #e4e4de; --wash: #f3f3ee; --bad: #b0372b;
  --s1: #0d7068; --s2: #c8642b; --s3: #4c5cae; --s4: #a33d70; --s5: #8c7a1c; --s6: #2f7fae;
  --sans: "Inter", "Helvetica Neue", "Segoe UI", "Liberation Sans", Arial, sans-serif;
  --serif: "Charter", "Iowan Old Style", "Source Serif 4", "Liberation Serif", Georgia, serif;
  --mono: ui-monospace, "SF Mono", "Cascadia Mono", "Liberation Mono", Menlo, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181b; --ink: #e7e5e0; --muted: #979da5; --rule: #2e3236; --wash: #1e2124; --bad: #f08a7c;
    --s1: #4cc0b2; --s2: #f0985c; --s3: #97a6ff; --s4: #ea8ab7; --s5: #d3bf5d; --s6: #6fbdec;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 var(--sans); font-variant-numeric: tabular-nums; font-feature-settings: "kern", "liga";
}
main { max-width: 1080px; margin: 0 auto; padding: 56px 32px 96px; }
header { border-bottom: 1px solid var(--rule); padding-bottom: 28px; }
h1 { font: 400 34px/1.22 var(--serif); letter-spacing: -.012em; margin: 10px 0 26px; max-width: 26em;
  text-wrap: balance; }
h1 strong { font-weight: 600; color: var(--s1); white-space: nowrap; }
h2 { font: 600 21px/1.3 var(--serif); letter-spacing: -.005em; margin: 0 0 14px; }
h3 { font: 600 13px/1.4 var(--sans); margin: 28px 0 10px; }
h3 small { font-weight: 400; color: var(--muted); margin-left: .6em; font-size: 13px; }
section { padding-top: 44px; }
p { margin: 0 0 12px; max-width: 46em; }
a { color: inherit; text-decoration-color: var(--muted); text-underline-offset: 3px; }
.over { color: var(--muted); font-size: 13px; display: flex; gap: 10px; flex-wrap: wrap; align-items: baseline; }
.over b { color: var(--ink); font-weight: 600; }
.state { border: 1px solid currentColor; border-radius: 99px; padding: 0 9px; font-size: 12px; }
.state.good { color: var(--s1); } .state.bad { color: var(--bad); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(112px, 1fr)); gap: 14px 24px; margin: 0; }
.facts dt { color: var(--muted); font-size: 12px; }
.facts dd { margin: 0; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 14px 0 0; font-size: 13px; }
nav a { color: var(--muted); text-decoration: none; } nav a:hover { color: var(--ink); text-decoration: underline; }
.remark { border-left: 2px solid var(--s2); padding-left: 14px; }
.warning { border-left: 2px solid var(--bad); padding-left: 14px; }
.note { color: var(--muted); font-size: 13px; margin: 6px 0 14px; }
.scroll { overflow-x: auto; margin: 0 0 16px; }
table { border-collapse: collapse; font-size: 14px; }
th { text-align: left; font-weight: 400; color: var(--muted); font-size: 12.5px; border-bottom: 1px solid var(--ink);
  padding: 0 22px 6px 0; vertical-align: bottom; }
td { padding: 5px 22px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
th:last-child, td:last-child { padding-right: 0; }
.n { text-align: right; white-space: nowrap; }
.marked td { font-weight: 600; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 26px 28px;
  margin-bottom: 8px; }
figure { margin: 0; break-inside: avoid; min-width: 0; display: flex; flex-direction: column;
  justify-content: space-between; }
figure.wide { grid-column: 1 / -1; }
figcaption { font-size: 13px; font-weight: 600; margin-bottom: 8px; }
figcaption small { font-size: 12.5px; font-weight: 400; color: var(--muted); margin-left: .7em; }
.keys { display: flex; flex-wrap: wrap; gap: 0 14px; font-weight: 400; color: var(--muted); font-size: 12.5px; }
.key::before { content: ""; display: inline-block; width: 14px; margin-right: 5px; vertical-align: .26em;
  border-top: 2px solid var(--key); }
.key.dashed::before { border-top: 1px dashed var(--key); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-family: var(--sans); font-variant-numeric: tabular-nums; }
img { display: block; max-width: 100%; height: auto; }
img.sharp { image-rendering: pixelated; }
.views { display: grid; gap: 6px 22px; justify-content: start; overflow-x: auto; }
.views b { font-weight: 400; color: var(--muted); font-size: 12.5px; }
.strip { display: flex; gap: 4px; }
.strip img { max-width: none; border-radius: 2px; }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: 18px 16px;
  margin-top: 16px; }
.mistakes img { width: 100%; border-radius: 2px; margin-bottom: 5px; }
.mistakes div { font-size: 12.5px; line-height: 1.4; } .mistakes span { color: var(--muted); display: block; }
.confusion { border-collapse: separate; border-spacing: 2px; font-size: 12.5px; }
.confusion th { border: 0; padding: 2px 6px; text-align: center; color: var(--muted); }
.confusion tbody th { text-align: right; }
.confusion td { border: 0; padding: 0; width: 34px; min-width: 34px; height: 28px; text-align: center;
  vertical-align: middle;
  border-radius: 2px; background: color-mix(in srgb, var(--hue) calc(var(--share) * 88%), var(--wash));
  --hue: var(--s2); }
.confusion td.right { --hue: var(--s1); } .confusion td.dense { color: var(--paper);
  } .confusion td.none { color: transparent; }
.beside { display: grid; grid-template-columns: minmax(0, auto) minmax(0, 1fr); gap: 20px 48px; align-items: start; }
pre { background: var(--wash); border-radius: 6px; padding: 13px 16px; overflow-x: auto; font: 13px/1.55 var(--mono);
  white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 14px; }
details { margin: 10px 0; } summary { cursor: pointer; color: var(--muted); font-size: 13px; margin-bottom: 8px; }
@media (max-width: 720px) { main { padding: 32px 18px 64px; } h1 { font-size: 27px;
  } .beside { grid-template-columns: 1fr; } }
@media print {
  :root { color-scheme: light; --paper: #fff; --ink: #000; --muted: #555; --rule: #ddd; --wash: #f4f4f0;
    --s1: #0d7068; --s2: #c8642b; --s3: #4c5cae; --s4: #a33d70; --s5: #8c7a1c; --s6: #2f7fae; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; } nav { display: none; } section { padding-top: 26px; }
  h2, h3, figcaption { break-after: avoid; } tr, .mistakes div { break-inside: avoid; }
  body { font-size: 12px; } .panels { grid-template-columns: repeat(3, 1fr); }
}
"""
