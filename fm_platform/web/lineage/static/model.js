// A graph as it came from the server, with the questions that the drawing asks of it.

export const STATES = ["fresh", "stale", "unbuilt", "replaced"];

export class Graph {
  constructor(told) {
    Object.assign(this, told);
    this.size = told.id.length;
    this.from = new Int32Array(told.edges.length / 2).map((_, e) => told.edges[2 * e]);
    this.to = new Int32Array(told.edges.length / 2).map((_, e) => told.edges[2 * e + 1]);
    this.reads = grouped(this.to, this.from, this.size);
    this.readers = grouped(this.from, this.to, this.size);
  }

  kindOf(i) { return this.kinds[this.kind[i]]; }
  nameOf(i) { return this.names[this.name[i]]; }
  dayOf(i) { return this.day[i] < 0 ? null : this.days[this.day[i]]; }
  stateOf(i) { return STATES[this.state[i]]; }
  whyOf(i) { return this.why[i] < 0 ? "" : this.whys[this.why[i]]; }
  aliasesOf(i) { return this.aliases[this.id[i]] || []; }
  decidedOf(i) { return this.decided[this.id[i]] || null; }

  // The reference of a slot, e.g. votes/vader/2026-01-05
  label(i) {
    const [kind, name] = [this.kindOf(i), this.nameOf(i)];
    const said = kind === name ? [name] : [kind, name];
    const day = this.dayOf(i);
    return (day ? [...said, day] : said).join("/");
  }

  // The reference that stays with this version, e.g. votes/vader/2026-01-05#2
  ref(i) {
    return `${this.label(i)}#${this.number[i]}`;
  }

  find(ref) {
    if (!this.byRef) {
      this.byRef = new Map();
      for (let i = 0; i < this.size; i += 1) this.byRef.set(this.ref(i), i);
    }
    return this.byRef.get(ref) ?? -1;
  }

  // All that `start` is made from (follow: reads) or that is made from it (readers), itself too.
  closure(start, follow) {
    const seen = new Uint8Array(this.size);
    const todo = [start];
    seen[start] = 1;
    while (todo.length) {
      for (const other of follow.of(todo.pop())) {
        if (!seen[other]) {
          seen[other] = 1;
          todo.push(other);
        }
      }
    }
    return seen;
  }

  tell(i) {
    const day = this.dayOf(i);
    const parts = [
      `${this.kindOf(i)} ${this.nameOf(i) === this.kindOf(i) ? "" : this.nameOf(i)}`.trim(),
      day, `version ${this.number[i]}`, this.stateOf(i),
    ];
    if (this.rows[i] !== null) parts.push(`${this.rows[i]} rows`);
    parts.push(...this.aliasesOf(i));
    if (this.decidedOf(i)) parts.push(this.decidedOf(i)[0]);
    return parts.filter(Boolean).join(", ");
  }
}

// Neighbours in one array: `of(i)` gives those of node i.
function grouped(keys, values, size) {
  const start = new Int32Array(size + 1);
  for (let e = 0; e < keys.length; e += 1) start[keys[e] + 1] += 1;
  for (let i = 0; i < size; i += 1) start[i + 1] += start[i];
  const next = start.slice();
  const flat = new Int32Array(keys.length);
  for (let e = 0; e < keys.length; e += 1) {
    flat[next[keys[e]]] = values[e];
    next[keys[e]] += 1;
  }
  return { of: (i) => flat.subarray(start[i], start[i + 1]) };
}
