"""Recorded rings as one self-contained HTML page: SVG drawings, stepped through with the arrow keys."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ixrings.hw.output import FileKind

from ..ring_view import Owner, RingView, Step


def page(steps: Sequence[Step]) -> str:
    """The page as HTML. Names and captions are data, never markup. Raises ValueError if there is no step."""
    if not steps:
        raise ValueError("there is no step to show; record one first with recording.look(...)")
    seen = {slot.owner for step in steps for ring in step.port.rings for slot in ring.slots}
    data = {
        "owners": {owner.letter: {"colour": owner.colour, "words": owner.words} for owner in Owner if owner in seen},
        "steps": [
            {"caption": step.caption, "port": step.port.name, "rings": [ring_data(ring) for ring in step.port.rings]}
            for step in steps
        ],
    }
    text = json.dumps(data, separators=(",", ":"))
    return PAGE.replace("DATA", text.replace("<", "\\u003c"))  # so that no name can end the script


def ring_data(ring: RingView) -> dict[str, object]:
    """A ring as the page's script reads it."""
    return {
        "name": ring.name,
        "tx": ring.transmits,
        "pointers": dict(ring.pointers),
        "owners": "".join(slot.owner.letter for slot in ring.slots),
        "slots": [[slot.buf_idx, slot.len, slot.flags, slot.descriptor] for slot in ring.slots],
    }


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>ixrings: rings, step by step</title>
<style>
body { font: 15px/1.4 sans-serif; margin: 1.5em auto; max-width: 1100px; padding: 0 1em; color: #222;
       background: #fff; }
#caption { font-size: 1.15em; min-height: 3em; }
#rings { display: flex; flex-wrap: wrap; justify-content: space-around; }
figure { margin: 0; flex: 1 1 480px; max-width: 540px; }
svg { width: 100%; height: auto; }
svg text { font: 13px sans-serif; fill: #222; }
svg text.name { font-weight: bold; font-size: 15px; }
path.slot { stroke: #fff; stroke-width: 1; cursor: pointer; }
path.changed { stroke: #222; stroke-width: 2; }
pre { min-height: 3em; white-space: pre-wrap; background: #f4f4f4; padding: .5em; margin: 0 1em; }
#legend span { display: inline-block; margin-right: 1.2em; }
#legend i { display: inline-block; width: 1em; height: 1em; margin-right: .4em; vertical-align: -2px; }
#at { width: 100%; }
button { font-size: 1em; }
</style>
</head>
<body>
<p><button id="back">&#9664; back</button> <button id="forward">forward &#9654;</button>
<span id="number"></span> (use the arrow keys; point at a slot to see its content)</p>
<input id="at" type="range" min="0" value="0" aria-label="step">
<p id="caption"></p>
<div id="rings"></div>
<p id="legend"></p>
<script>
"use strict";
const data = DATA;
const SVG = "http://www.w3.org/2000/svg", CENTRE = 250, INNER = 130, OUTER = 175;
const LINE = 15;
const byId = name => document.getElementById(name);
let step = 0;

function add(parent, kind, attributes, text) {
    const inSvg = kind === "svg" || parent.namespaceURI === SVG;
    const made = inSvg ? document.createElementNS(SVG, kind) : document.createElement(kind);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
}

function point(turn, radius) {
    const angle = 2 * Math.PI * turn;
    return [CENTRE + radius * Math.sin(angle), CENTRE - radius * Math.cos(angle)];
}

function segment(from, to) {
    const [a, b, c, d] = [point(from, OUTER), point(to, OUTER), point(to, INNER), point(from, INNER)];
    return `M${a} A${OUTER} ${OUTER} 0 0 1 ${b} L${c} A${INNER} ${INNER} 0 0 0 ${d} Z`;
}

function describe(ring, index) {
    const [buffer, length, flags, descriptor] = ring.slots[index];
    const owner = data.owners[ring.owners[index]].words, words = `buf_idx ${buffer}, len ${length}`;
    return `slot ${index}: ${owner}\\n${words}, flags 0x${flags.toString(16)}\\n${descriptor}`;
}

function drawRing(ring, before) {
    const figure = add(byId("rings"), "figure");
    const svg = add(figure, "svg", {viewBox: "-50 -20 600 540", role: "img"}), detail = add(figure, "pre");
    const size = ring.owners.length;
    for (let index = 0; index < size; index++) {
        const changed = before && before.owners[index] !== ring.owners[index] && size <= 256;
        const slot = add(svg, "path", {d: segment(index / size, (index + 1) / size),
                                       fill: data.owners[ring.owners[index]].colour,
                                       class: changed ? "slot changed" : "slot"});
        slot.addEventListener("pointerenter", () => { detail.textContent = describe(ring, index); });
    }
    drawPointers(svg, ring, size);
    detail.textContent = describe(ring, ring.pointers.head);
    add(svg, "text", {x: CENTRE, y: CENTRE - 55, "text-anchor": "middle", class: "name"}, ring.name);
    Object.entries(ring.pointers).forEach(([name, index], row) =>
        add(svg, "text", {x: CENTRE, y: CENTRE - 25 + 20 * row, "text-anchor": "middle"}, `${name} ${index}`));
}

function drawPointers(svg, ring, size) {
    const names = new Map();  // slot -> names of its pointers
    for (const [name, index] of Object.entries(ring.pointers)) names.set(index, [...(names.get(index) || []), name]);
    let last = -1, far = 0, lines = 0;
    for (const [index, here] of [...names].sort((one, other) => one[0] - other[0])) {
        const turn = (index + .5) / size, right = turn < .5, top = turn < .25 || turn > .75;
        // Names of close neighbours are drawn further out.
        far = last >= 0 && turn - last < .06 ? far + LINE * lines : OUTER + 12;
        [last, lines] = [turn, here.length];
        const [x1, y1] = point(turn, OUTER + 2), [x2, y2] = point(turn, far);
        add(svg, "line", {x1, y1, x2, y2, stroke: "#222"});
        here.forEach((name, row) => {
            const y = y2 + (top ? -LINE * (here.length - 1 - row) : LINE * row + 8);
            add(svg, "text", {x: x2 + (right ? 4 : -4), y, "text-anchor": right ? "start" : "end"}, name);
        });
    }
}

function show(number) {
    step = Math.max(0, Math.min(data.steps.length - 1, number));
    const now = data.steps[step], before = step ? data.steps[step - 1] : null;
    byId("number").textContent = `step ${step + 1} of ${data.steps.length}`;
    byId("caption").textContent = now.caption;
    byId("at").value = step;
    byId("rings").replaceChildren();
    now.rings.forEach((ring, index) => drawRing(ring, before && before.port === now.port ? before.rings[index] : null));
}

for (const owner of Object.values(data.owners)) {
    const entry = add(byId("legend"), "span");
    add(entry, "i", {style: `background: ${owner.colour}`});
    entry.append(owner.words);
}
byId("at").max = data.steps.length - 1;
byId("at").addEventListener("input", event => show(Number(event.target.value)));
byId("back").addEventListener("click", () => show(step - 1));
byId("forward").addEventListener("click", () => show(step + 1));
document.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
        event.preventDefault();
        show(step + (event.key === "ArrowLeft" ? -1 : 1));
    }
});
show(Number(location.hash.slice(1)) - 1 || 0);
</script>
</body>
</html>
"""

HTML = FileKind("a page of ixrings ring", (PAGE.partition("<style>")[0].encode(),))
