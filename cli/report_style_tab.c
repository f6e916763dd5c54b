/* report_style_tab.c: the style sheet of report_html.h. Colours are named once, for light and dark; paper is light. */
#include "cli/report_html.h"

const char *const qn_report_style[] = {
    ":root{color-scheme:light dark;--paper:#fcfcfb;--card:#fff;--ink:#1c1b19;--soft:#66635d;--rule:#e3e0da;--one:#2565c7;--two:#c2571a;--three:#8b8780;"
    "--good:#1d7a3d;--bad:#b3261e;--odd:#8a6100}\n",
    "@media (prefers-color-scheme:dark){:root{--paper:#161614;--card:#1f1f1c;--ink:#eceae4;--soft:#a5a198;--rule:#383631;--one:#7aabf5;--two:#f0945a;"
    "--three:#8d8981;--good:#6cc98b;--bad:#f28b82;--odd:#e6be5a}}\n",
    "@media print{:root{color-scheme:light;--paper:#fff;--card:#fff;--ink:#000;--soft:#444;--rule:#ccc;--one:#1a4f9f;--two:#a84300;--three:#777;--good:#145f2d;"
    "--bad:#8f1c16;--odd:#6b4b00}body{max-width:none}figure,tr,.tile{break-inside:avoid}details>*{display:block}}\n",
    "*{box-sizing:border-box}body{margin:0 auto;max-width:1040px;padding:24px 20px 60px;background:var(--paper);color:var(--ink);"
    "font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif;overflow-wrap:break-word}\n",
    "h1{font-size:1.45rem;line-height:1.25;margin:0 0 4px}h2{font-size:1.1rem;margin:36px 0 10px}p{margin:0 0 10px}.soft,figcaption,.key,dt{color:var(--soft)}\n",
    ".badge{display:inline-block;padding:2px 12px;border-radius:999px;border:1.5px solid currentColor;font-weight:600;margin-bottom:10px}"
    ".pass{color:var(--good)}.fail{color:var(--bad)}.inconclusive{color:var(--odd)}.skipped{color:var(--soft)}\n",
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(168px,1fr));gap:12px;margin:18px 0}.tile{background:var(--card);border:1px solid var(--rule);"
    "border-radius:10px;padding:12px 14px}.tile b{display:block;font-size:1.4rem;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums}"
    ".tile span{color:var(--soft);font-size:.85rem;display:block}\n",
    ".plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}figure{margin:0;background:var(--card);border:1px solid var(--rule);"
    "border-radius:10px;padding:12px 14px}figcaption{font-size:.9rem;margin-bottom:6px}figcaption b{color:var(--ink);font-weight:600}svg{display:block;width:100%;height:auto}\n",
    "svg text{font:12px system-ui,-apple-system,\"Segoe UI\",\"DejaVu Sans\",sans-serif;fill:var(--soft)}svg .axis{font-size:12px}svg .grid{stroke:var(--rule)}"
    "svg .base,svg .notch{stroke:var(--soft)}svg .dot{fill:var(--one);fill-opacity:.75}svg .dot.other{fill:var(--two)}svg .dot.base-dot{fill:var(--three)}"
    "svg .bar{fill:var(--one)}svg .line{fill:none;stroke:var(--one);stroke-width:2}svg .own-line{stroke:var(--two)}svg .base-line{stroke:var(--three);stroke-dasharray:5 4}"
    "svg .mark{stroke:var(--two);stroke-width:1.5;stroke-dasharray:4 3}\n",
    ".key{font-size:.85rem;margin:6px 0 0}.chip{display:inline-block;width:10px;height:10px;border-radius:50%;margin:0 5px 0 8px}.key .chip:first-child{margin-left:0}"
    ".one{background:var(--one)}.two{background:var(--two)}.three{background:var(--three)}\n",
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}th{text-align:left;color:var(--soft);"
    "font-weight:500}th,td{padding:5px 12px 5px 0;border-bottom:1px solid var(--rule);vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap}"
    "td.name{min-width:11em}td,th{overflow-wrap:normal}td.pass,td.fail,td.inconclusive{font-weight:600}\n",
    ".bars{display:grid;grid-template-columns:max-content 1fr max-content;gap:4px 12px;align-items:center;font-size:.9rem}.bars .track{height:14px}.bars .track i{display:block;height:100%;"
    "border-radius:3px;min-width:2px}.bars .head{grid-column:1/-1;color:var(--soft);margin-top:10px}.bars .v{text-align:right;font-variant-numeric:tabular-nums}\n",
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;font-size:.85rem;margin:0}dd{margin:0;font-variant-numeric:tabular-nums}summary{cursor:pointer;color:var(--soft)}"
    "@media (max-width:640px){.stack th{display:none}.stack tr{display:grid;grid-template-columns:auto 1fr;gap:0 10px;border-bottom:1px solid var(--rule);padding:6px 0}"
    ".stack td{border:0;padding:0}.stack td:nth-child(n+3){grid-column:1/-1}}@media (max-width:520px){body{padding:16px 12px 40px}dl{grid-template-columns:1fr}dd{margin-bottom:6px}svg text{font-size:14px}td,th{padding-right:8px}}\n",
    NULL,
};
