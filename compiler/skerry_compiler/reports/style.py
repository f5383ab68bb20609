"""The page's style: the palettes of the dashboard, light and dark by the reader's own setting; no colour stands without
its word, every text is at least 4.5 : 1 on its ground.
"""

CSS = """
:root {
  color-scheme: light dark;
  --ground: #f6f5f1; --card: #fff; --ink: #182427; --soft: #56646a; --line: #dcd9d0; --track: #ebe8e0;
  --sea: #0b6470; --sea-fill: #1b8896; --sea-soft: #8cc3ca; --good: #22663a; --bad: #a8261c; --bad-fill: #cf4436;
  --warn: #7d5200; --warn-ground: #fdf3dc; --calm: #8a9595; --calm-fill: #bcc4c3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1517; --card: #172023; --ink: #e5ebea; --soft: #9fadb0; --line: #2b373b; --track: #222d31;
    --sea: #66cbd7; --sea-fill: #3aa3b1; --sea-soft: #2c6570; --good: #83d6a0; --bad: #ff9a8f; --bad-fill: #e0604f;
    --warn: #f0bf63; --warn-ground: #2b2412; --calm: #76878b; --calm-fill: #4a5a5e;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.5rem 3rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; font-weight: 650; overflow-wrap: anywhere; }
h1 span { font-weight: 400; color: var(--soft); }
h2 { font-size: 1.1rem; margin: 0 0 .2rem; font-weight: 650; }
h3 { font-size: .95rem; margin: 1.3rem 0 .2rem; font-weight: 650; overflow-wrap: anywhere; }
p { margin: .3rem 0; overflow-wrap: anywhere; max-width: 46rem; }
.brand { margin: 0 0 .3rem; font-size: .85rem; color: var(--sea); font-weight: 600; letter-spacing: .02em; }
.lede { font-size: 1.05rem; margin: .45rem 0 1.4rem; color: var(--soft); max-width: 56rem; }
.lede b { color: var(--ink); font-weight: 600; }
.note { color: var(--soft); font-size: .9rem; margin-bottom: .7rem; max-width: 54rem; }
.alarm { background: var(--warn-ground); color: var(--warn); border: 1px solid currentColor; border-radius: .6rem;
  padding: .7rem 1rem; margin: 0 0 1.1rem; max-width: none; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1.1rem 1.25rem;
  margin: 1.1rem 0; min-width: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.1rem;
  margin: 1.1rem 0; align-items: start; }
.pair section { margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .8rem; margin: 0 0 1.1rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1.05rem; }
.tile h2 { font-size: .85rem; font-weight: 500; color: var(--soft); margin: 0; }
.tile b { display: block; font-size: 2.1rem; line-height: 1.2; font-weight: 600; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; }
.tile b small { font-size: 1rem; font-weight: 500; letter-spacing: 0; }
.tile p { margin: 0; font-size: .85rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.tile p b { display: inline; font-size: inherit; color: var(--ink); }
svg { display: block; overflow: visible; max-width: 100%; }
svg text { fill: var(--ink); font-size: 13px; }
svg .tick, svg .axis { fill: var(--soft); font-size: 12px; }
svg .middle { text-anchor: middle; } svg .end { text-anchor: end; }
svg .value { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .front { stroke: var(--sea-fill); stroke-width: 1.5; stroke-dasharray: 5 4; }
svg .whisker { stroke: var(--soft); stroke-width: 1.5; }
svg .limit { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; }
.track { fill: var(--track); }
.chosen { fill: var(--sea-fill); } .ships { fill: var(--sea-soft); } .passed { fill: var(--calm-fill); }
.original { fill: var(--ink); } .out { fill: var(--card); stroke: var(--bad-fill); stroke-width: 2; }
rect.out { fill: var(--bad-fill); stroke: none; fill-opacity: .35; }
circle.chosen, circle.ships, circle.passed, rect.original { stroke: var(--card); stroke-width: 1.5; }
.strong { font-weight: 600; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .6rem 0 0; padding: 0; list-style: none;
  font-size: .85rem; color: var(--soft); }
.key li { display: flex; align-items: center; gap: .4rem; }
.key svg { flex: none; }
.scroll { overflow-x: auto; margin: .6rem -1.25rem -.2rem; padding: 0 1.25rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .82rem; padding: .3rem .75rem .3rem 0;
  border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: bottom; }
td { padding: .42rem .75rem .42rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
th:last-child, td:last-child { padding-right: 0; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { white-space: nowrap; }
.soft { color: var(--soft); }
.why { min-width: 11rem; color: var(--soft); font-size: .88rem; overflow-wrap: anywhere; }
.pill { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .5rem; font-size: .8rem;
  font-weight: 550; white-space: nowrap; color: var(--soft); }
.pill.chosen { color: var(--sea); } .pill.ships { color: var(--sea); } .pill.out { color: var(--bad); }
.star { color: var(--sea); }
code { font: .88em ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
pre { margin: .5rem 0 .2rem; padding: .6rem .8rem; background: var(--ground); border-radius: .4rem; overflow-x: auto;
  font-size: .88rem; }
pre code { overflow-wrap: normal; font-size: 1em; }
details { margin: .4rem 0; }
summary { cursor: pointer; color: var(--sea); }
:focus-visible { outline: 3px solid var(--sea); outline-offset: 2px; border-radius: .2rem; }
details ul { margin: .3rem 0; padding-left: 1.2rem; font-size: .88rem; columns: 2 18rem; }
.facts td { overflow-wrap: anywhere; }
.facts td:first-child { color: var(--soft); width: 1%; white-space: nowrap; overflow-wrap: normal; }
footer { color: var(--soft); font-size: .85rem; }
@media (max-width: 40rem) {
  main { padding: 1.1rem .9rem 2rem; }
  section { padding: .95rem 1rem; }
  .scroll { margin: .5rem -1rem -.2rem; padding: 0 1rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .tile { padding: .7rem .8rem; }
  .tile b { font-size: 1.6rem; }
}
@media print {
  :root { --ground: #fff; }
  main { max-width: none; padding: 0; }
  section, .tile { break-inside: avoid; }
}
"""
