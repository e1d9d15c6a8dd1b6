"use strict";
const about = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg", CENTRE = 250, INNER = 135, OUTER = 185, LINE = 19, CELLS = 128, LETTERS = 80;
const MOMENTS = 600, LINES = 150, FRAMES = 150, COUNTERS = "8.2.3.23.";
const STILL_TO_COME = "Waiting for the first moment…";
const OWNERS = {
    P: "owned by the program", g: "released by the program; the next sync gives it to the NIC", N: "owned by the NIC",
    d: "finished by the NIC; the next sync gives it to the program",
    "-": "unused, so that a full ring differs from an empty one", D: "owned by the driver or the NIC",
};
const moments = [];  // consecutive; each has its rings
let shown = null, following = true, ended = "", wanted = 0, drawn = null;
const byId = name => document.getElementById(name);
const ownerClass = letter => letter === "-" ? "none" : letter;

function add(parent, kind, attributes, text) {
    const inSvg = kind === "svg" || parent.namespaceURI === SVG;
    const made = inSvg ? document.createElementNS(SVG, kind) : document.createElement(kind);
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
}

// ---- moments ----

function take(batch) {
    for (const moment of batch) {
        const last = moments[moments.length - 1];
        if (last && moment.n <= last.n) continue;
        if (!moment.rings) moment.rings = last ? last.rings : [];
        moments.push(moment);
    }
    if (moments.length > MOMENTS) moments.splice(0, moments.length - MOMENTS);
    if (wanted) go(wanted);
    else if (following) show(moments[moments.length - 1]);
    else showPlace();
}

function go(number) {
    const first = moments[0], last = moments[moments.length - 1];
    if (!last) { wanted = number; return; }
    wanted = 0;
    following = false;
    if (number < first.n || number > last.n) {
        say(`Moment ${number} is not kept. Kept are the moments ${first.n} to ${last.n}.`);
        number = number < first.n ? first.n : last.n;
    }
    show(moments[number - first.n]);
}

function step(by) {
    if (shown) goTo(Math.max(moments[0].n, Math.min(moments[moments.length - 1].n, shown.n + by)));
}

function goTo(number) {
    say("");
    go(number);
    history.replaceState(null, "", `#${number}`);
}

function goLive() {
    following = true;
    wanted = 0;
    say("");
    history.replaceState(null, "", location.pathname);
    if (moments.length) show(moments[moments.length - 1]);
    showPlace();
}

function follow(hash) {
    const number = Number(hash.slice(1));
    if (Number.isInteger(number) && number > 0) go(number);
}

// ---- drawing ----

function show(moment) {
    shown = moment;
    showPlace();
    if (drawn === moment) return;
    drawn = moment;
    const at = moments.indexOf(moment);
    showState(moment);
    showRings(moment, at > 0 ? moments[at - 1] : null);
    showRegisters(at);
    showFrames(at);
    showBroken(at);
}

function showPlace() {
    const range = byId("at");
    if (!moments.length) return;
    const last = moments[moments.length - 1].n;
    range.min = moments[0].n;
    range.max = last;
    if (shown) range.value = shown.n;
    byId("live").setAttribute("aria-pressed", String(following));
    byId("link").textContent = `moment ${shown ? shown.n : last}`;
    byId("link").href = `#${shown ? shown.n : last}`;
    byId("when").textContent = shown ? `of ${last}, after ${shown.s.toFixed(2)} s` : "";
}

function showState(moment) {
    const state = moment.state;
    const words = [ended ? `Ended: ${ended}` : state.paused ? "Paused" : following ? "Live" : "Running"];
    if (state.program) words.push(state.program);
    if (state.link) words.push(state.link);
    byId("state").textContent = `${words.join(" · ")}.`;
    if (!about.acts) return;
    byId("pause").textContent = state.paused ? "Run" : "Pause";
    byId("pause").disabled = Boolean(ended);
    byId("step").disabled = !state.paused || Boolean(ended);
    byId("clock").textContent = state.paused ? `NIC's clock: ${(state.clock_ns / 1e9).toFixed(9)} s` : "";
    for (const button of byId("faults").children) {
        button.setAttribute("aria-pressed", String(state.faults.includes(button.dataset.fault)));
        button.disabled = Boolean(ended);
    }
}

function point(turn, radius) {
    const angle = 2 * Math.PI * turn;
    return [CENTRE + radius * Math.sin(angle), CENTRE - radius * Math.cos(angle)].map(each => each.toFixed(1));
}

function segment(from, to) {
    const [a, b, c, d] = [point(from, OUTER), point(to, OUTER), point(to, INNER), point(from, INNER)];
    return `M${a} A${OUTER} ${OUTER} 0 0 1 ${b} L${c} A${INNER} ${INNER} 0 0 0 ${d} Z`;
}

function showRings(moment, before) {
    const area = byId("rings"), seen = new Set();
    moment.rings.forEach((ring, index) => {
        const key = `${index} ${ring.name}`;
        let figure = [...area.children].find(each => each.dataset.key === key);
        if (!figure) {
            figure = add(area, "figure");
            figure.dataset.key = key;
            add(figure, "figcaption", {}, ring.name);
            add(figure, "svg", {viewBox: "-110 -50 720 610", role: "img"});
            const details = add(figure, "details");
            add(details, "summary", {}, "Slots and descriptors");
            add(details, "ol", {class: "slots", tabindex: 0, "aria-label": `slots of ${ring.name}`});
        }
        drawRing(figure, ring, before && before.rings[index] && before.rings[index].name === ring.name
            ? before.rings[index] : null);
        seen.add(key);
    });
    for (const figure of [...area.children]) if (!seen.has(figure.dataset.key)) figure.remove();
    byId("no-rings").hidden = moment.rings.length > 0;
    showLegend(new Set(moment.rings.flatMap(ring => [...new Set(ring.owners)])));
}

function cellOwner(owners, from, to) {  // the owner of most slots
    const counts = {};
    for (const letter of owners.slice(from, to)) counts[letter] = (counts[letter] || 0) + 1;
    return Object.entries(counts).sort((one, other) => other[1] - one[1])[0][0];
}

function drawRing(figure, ring, before) {
    const svg = figure.querySelector("svg"), size = ring.owners.length, cells = Math.min(CELLS, size);
    svg.replaceChildren();
    const pointers = Object.entries(ring.pointers).map(([name, slot]) => `${name} ${slot}`).join(", ");
    svg.setAttribute("aria-label", `${ring.name}: ${size} slots; ${pointers}`);
    for (let cell = 0; cell < cells; cell++) {
        const from = Math.floor(cell * size / cells), to = Math.floor((cell + 1) * size / cells);
        const owner = cellOwner(ring.owners, from, to);
        const changed = before && before.owners.slice(from, to) !== ring.owners.slice(from, to);
        const path = add(svg, "path", {d: segment(cell / cells, (cell + 1) / cells),
            class: `slot own-${ownerClass(owner)}${changed ? " changed" : ""}`});
        add(path, "title", {}, `slot ${from}${to - from > 1 ? ` to ${to - 1}` : ""}: ${OWNERS[owner]}`);
        if (cells <= LETTERS) {
            const [x, y] = point((cell + .5) / cells, (INNER + OUTER) / 2);
            add(svg, "text", {x, y, class: `letter${owner === "-" ? " on-none" : ""}`}, owner);
        }
    }
    add(svg, "text", {x: CENTRE, y: CENTRE - 6 - 10 * Object.keys(ring.pointers).length, "text-anchor": "middle"},
        `${size} slots`);
    Object.entries(ring.pointers).forEach(([name, slot], row) => add(svg, "text",
        {x: CENTRE, y: CENTRE + 18 + 20 * row - 10 * Object.keys(ring.pointers).length, "text-anchor": "middle"},
        `${name} ${slot}`));
    drawPointers(svg, ring, size);
    const list = figure.querySelector("ol"), inside = list.parentElement;
    if (!inside.open) { list.replaceChildren(); inside.ontoggle = () => inside.open && listSlots(list, ring); return; }
    listSlots(list, ring);
}

function listSlots(list, ring) {
    list.replaceChildren(...ring.slots.map(([index, buffer, length, flags, descriptor]) => {
        const line = document.createElement("li");
        add(line, "code", {}, `${ring.owners[index]} ${index}`);
        line.append(` buf_idx ${buffer}, len ${length}, flags 0x${flags.toString(16)}. ${descriptor}`);
        return line;
    }));
    if (ring.slots.length < ring.owners.length) {
        add(list, "li", {}, `Of ${ring.owners.length} slots, at most 64 that carry a frame are listed.`);
    }
}

function drawPointers(svg, ring, size) {
    const names = new Map();  // slot -> names of its pointers
    for (const [name, index] of Object.entries(ring.pointers)) names.set(index, [...(names.get(index) || []), name]);
    let last = -1, far = 0, lines = 0;
    for (const [index, here] of [...names].sort((one, other) => one[0] - other[0])) {
        const turn = (index + .5) / size, right = turn < .5, top = turn < .25 || turn > .75;
        // Names of close neighbours are drawn further out.
        far = last >= 0 && turn - last < .06 ? far + LINE * lines + 8 : OUTER + 12;
        [last, lines] = [turn, here.length];
        const [x1, y1] = point(turn, OUTER + 2), [x2, y2] = point(turn, far).map(Number);
        add(svg, "line", {x1, y1, x2, y2});
        here.forEach((name, row) => {
            const y = y2 + (top ? -LINE * (here.length - 1 - row) : LINE * row + 8);
            add(svg, "text", {x: x2 + (right ? 4 : -4), y, "text-anchor": right ? "start" : "end"}, name);
        });
    }
}

function showLegend(letters) {
    const legend = byId("legend"), key = [...letters].sort().join("");
    if (legend.dataset.key === key) return;
    legend.dataset.key = key;
    legend.replaceChildren();
    for (const letter of Object.keys(OWNERS).filter(each => letters.has(each))) {
        const entry = add(legend, "span");
        const box = add(entry, "svg", {viewBox: "0 0 20 20", "aria-hidden": "true"});
        add(box, "rect", {width: 20, height: 20, rx: 3, class: `own-${ownerClass(letter)}`});
        add(box, "text", {x: 10, y: 11, class: `letter${letter === "-" ? " on-none" : ""}`}, letter);
        entry.append(OWNERS[letter]);
    }
}

// ---- lists, the newest first ----

function lines(list, at, most, entriesOf, fill) {
    const made = [];
    for (let index = at; index >= 0 && made.length < most; index--) {
        const entries = entriesOf(moments[index]);
        for (let entry = entries.length - 1; entry >= 0 && made.length < most; entry--) {
            const line = document.createElement("li");
            if (index === at) line.className = "now";
            fill(line, entries[entry], moments[index]);
            made.push(line);
        }
    }
    list.replaceChildren(...made);
    return made.length;
}

function showRegisters(at) {
    const filter = byId("filter").value.trim().toUpperCase();
    const counters = byId("counters").checked;
    const of = moment => (moment.registers || []).filter(each => each.name.toUpperCase().includes(filter) &&
        (counters || !each.section.startsWith(COUNTERS)));
    lines(byId("registers"), at, LINES, of, fillRegister);
    const missed = total(at, "registers_missed");
    byId("registers-missed").textContent = missed
        ? `${missed} accesses or changes came faster than they are shown, or while no page was open.` : "";
}

function total(at, name) {
    return moments.slice(0, at + 1).reduce((sum, each) => sum + (each[name] || 0), 0);
}

function fillRegister(line, entry, moment) {
    add(line, "span", {class: "who"}, entry.who ? `${entry.who} ` : entry.text);
    if (!entry.who) return;
    add(line, "strong", {}, entry.name);
    add(line, "code", {}, ` ${entry.value} `);
    if (entry.times > 1) line.append(`× ${entry.times} `);
    if (entry.fields.length) {
        entry.fields.forEach(([name, before, now, meaning], number) => {
            if (number) line.append(", ");
            add(line, "span", {class: "changed-field", title: meaning}, `${name} ${before} → ${now}`);
            if (meaning) add(line, "span", {class: "soft"}, ` (${meaning})`);
        });
    } else {
        line.append(entry.text || `= ${parseInt(entry.value, 16)}`);
    }
    add(line, "div", {class: "soft"}, [entry.long, entry.section && `82599 ${entry.section}`, `moment ${moment.n}`]
        .filter(Boolean).join(" · "));
}

function showFrames(at) {
    lines(byId("wire"), at, FRAMES, moment => moment.frames || [], (line, frame) => {
        const data = add(line, "div", {title: frame.bytes});
        data.append(`${frame.leaves ? "→" : "←"} `);
        add(data, "strong", {}, frame.text);
        data.append(` ${frame.length} bytes`);
        add(line, "div", {class: "soft"}, `${(frame.ns / 1e9).toFixed(9)} s of the NIC's clock`);
    });
    const missed = total(at, "frames_missed");
    byId("frames-missed").textContent = missed ? `${missed} frames came faster than they are shown.` : "";
}

function showBroken(at) {
    const found = lines(byId("broken"), at, LINES, moment => moment.broken || [], (line, rule) => {
        add(line, "strong", {}, `${rule.register} `);
        line.append(rule.text);
    });
    byId("broken").hidden = !found;
    const older = moments[at].state.broken - found;
    byId("broken-missed").textContent = older > 0 ? `${older} more were broken before those that are kept.` : "";
    byId("no-broken").hidden = found > 0 || older > 0;
}

// ---- orders ----

function say(text) {
    byId("message").textContent = text;
}

async function order(what) {
    say("");
    try {
        const answer = await fetch("do",
            {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(what)});
        if (!answer.ok) { say((await answer.text()).trim()); return; }
        if (!following) goLive();
    } catch {
        say("ixrings glass does not answer any more.");
    }
}

const pause = () => order({do: moments.length && moments[moments.length - 1].state.paused ? "go" : "pause"});
const oneStep = () => order({do: "step", frames: Number(byId("frames").value), ns: Number(byId("ns").value)});

byId("name").textContent = document.title = about.name;
document.title = `${about.name}: ixrings glass`;
byId("about").textContent = about.about;
byId("state").textContent = STILL_TO_COME;
byId("acts").hidden = byId("faults-section").hidden = !about.acts;
for (const fault of about.faults) {
    const button = add(byId("faults"), "button", {type: "button", "aria-pressed": "false", "data-fault": fault}, fault);
    button.addEventListener("click", () => order({do: "fault", name: fault,
        on: button.getAttribute("aria-pressed") !== "true"}));
}
byId("pause").addEventListener("click", pause);
byId("step").addEventListener("click", oneStep);
byId("back").addEventListener("click", () => step(-1));
byId("forward").addEventListener("click", () => step(1));
byId("live").addEventListener("click", goLive);
byId("at").addEventListener("input", event => goTo(Number(event.target.value)));
byId("filter").addEventListener("input", () => shown && showRegisters(moments.indexOf(shown)));
byId("counters").addEventListener("input", () => shown && showRegisters(moments.indexOf(shown)));
byId("link").addEventListener("click", event => { event.preventDefault(); if (shown) goTo(shown.n); });
window.addEventListener("hashchange", () => follow(location.hash));
document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey || /INPUT|SELECT/.test(event.target.tagName)) return;
    const act = {ArrowLeft: () => step(-1), ArrowRight: () => step(1), l: goLive,
        ...(about.acts ? {p: pause, s: () => byId("step").disabled || oneStep()} : {})}[event.key];
    if (act) { event.preventDefault(); act(); }
});
follow(location.hash);

const events = new EventSource("events");
events.addEventListener("open", () => say(""));
events.addEventListener("message", event => take(JSON.parse(event.data)));
events.addEventListener("ended", event => {
    events.close();
    ended = JSON.parse(event.data);
    byId("state").textContent = `Ended: ${ended}. The moments up to here stay on this page.`;
    if (shown) showState(shown);
});
events.addEventListener("error", () => {
    if (ended) return;
    say(events.readyState === EventSource.CLOSED
        ? "ixrings glass refuses this page: its token is wrong, or too many pages are open."
        : "The connection is lost. This page tries again; the moments up to here stay on it.");
});
