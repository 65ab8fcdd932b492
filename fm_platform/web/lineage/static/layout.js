// Where everything stands: stages are columns, days are rows, what has no days is a card.
//
// Places are given to every artifact that the project ever had, so nothing moves while a person
// goes through time.

export const HEAD = 58;
export const GUTTER = 84;
const FOOT = 34;
const CARD = { most: 58, least: 15, gap: 10 };
const ROW = { most: 44, least: 1.5 };

export class Layout {
  constructor(graph, extent) {
    this.graph = graph;
    this.days = extent.days;
    this.columns = columns(extent.artifacts);
    this.place(graph);
  }

  // Fit the places into a picture; a part of it is seen, as `view` tells.
  fitInto(width, height, view) {
    this.width = width;
    this.height = height;
    this.room = Math.max(60, height - HEAD - FOOT);
    const fit = this.days.length ? this.room / this.days.length : ROW.most;
    this.fit = Math.min(ROW.most, Math.max(ROW.least, fit));
    this.row = Math.min(44, Math.max(this.fit, this.fit * view.zoom));
    this.tall = this.row * this.days.length;
    this.mostY = Math.max(0, this.tall - this.room);
    this.widen(width);
    this.mostX = Math.max(0, this.wide - width);
    view.x = Math.min(this.mostX, Math.max(0, view.x));
    view.y = Math.min(this.mostY, Math.max(0, view.y));
    this.view = view;
    this.stack();
    return this;
  }

  // Which node is where: a cell by column, name and day, a card by column.
  place(graph) {
    const byKind = new Map(this.columns.map((column) => [column.kind, column]));
    const ofKind = graph.kinds.map((kind) => byKind.get(kind));
    const dayAt = new Map(this.days.map((day, k) => [day, k]));
    const lineOf = graph.days.map((day) => dayAt.get(day) ?? -1);
    this.column = new Array(graph.size).fill(null);
    this.sub = new Int32Array(graph.size);
    this.line = new Int32Array(graph.size).fill(-1);
    for (const column of this.columns) {
      column.cards = [];
      column.grid = new Int32Array(column.daily ? column.names.length * this.days.length : 0).fill(-1);
      column.subOf = graph.names.map((name) => column.subs.get(name) ?? 0);
    }
    for (let i = 0; i < graph.size; i += 1) {
      const column = ofKind[graph.kind[i]];
      if (!column) continue;
      this.column[i] = column;
      if (column.daily && graph.day[i] >= 0) {
        const sub = (this.sub[i] = column.subOf[graph.name[i]]);
        const line = (this.line[i] = lineOf[graph.day[i]]);
        const at = sub * this.days.length + line;
        if (column.grid[at] < 0 || graph.stateOf(i) !== "replaced") column.grid[at] = i;
      } else {
        column.cards.push(i);
      }
    }
    for (const column of this.columns) {
      const order = (i) => column.subs.get(graph.nameOf(i)) ?? 1e6;
      column.cards.sort((a, b) => order(a) - order(b) || graph.number[b] - graph.number[a]);
    }
  }

  // The node of a column at a name and a day, or -1.
  cell(column, sub, line) {
    return line < 0 || line >= this.days.length ? -1 : column.grid[sub * this.days.length + line] ?? -1;
  }

  // Call paint(i, x, y, width, height) for the cells that are seen; with `same(i, j)`, cells that
  // are too thin to be told apart and look the same are painted as one.
  eachSeen(same, paint) {
    const thin = this.gap() === 0;
    const first = Math.max(0, Math.floor((this.view.y - 2) / this.row));
    const last = Math.min(this.days.length, Math.ceil((this.view.y + this.room + 2) / this.row));
    for (const column of this.columns) {
      for (let sub = 0; column.daily && sub < column.names.length; sub += 1) {
        for (let line = first; line < last; line += 1) {
          const i = this.cell(column, sub, line);
          if (i < 0) continue;
          const [x, y, w, h] = this.box(i);
          let tall = h;
          for (let next; thin && (next = this.cell(column, sub, line + 1)) >= 0 && line + 1 < last && same(i, next);) {
            tall += this.row;
            line += 1;
          }
          paint(i, x, y, w, tall);
        }
      }
    }
  }

  gap() {
    return this.row > 6 ? 2 : this.row > 3 ? 1 : 0;
  }

  widen(width) {
    const narrow = width < 700;
    let gap = narrow ? 20 : 24;
    for (const column of this.columns) titleWidth(column);
    const wanted = this.columns.map((column) => {
      if (!column.daily) return narrow ? 126 : 142;
      return Math.max(titleWidth(column), column.names.length * 11);
    });
    const least = this.columns.map((column, i) =>
      column.daily ? Math.max(titleWidth(column), column.names.length * 7) : narrow ? 122 : 96);
    const crowded = (wide) => wide.reduce((a, b) => a + b, 0) + gap * (wide.length - 1) + GUTTER + 18 > width;
    if (!narrow && crowded(least)) gap = 12;
    const gaps = gap * (this.columns.length - 1) + GUTTER + 18;
    const sum = wanted.reduce((a, b) => a + b, 0);
    const small = least.reduce((a, b) => a + b, 0);
    const share = sum + gaps <= width ? 1
      : Math.max(0, Math.min(1, (width - gaps - small) / Math.max(1, sum - small)));
    const widths = wanted.map((w, i) => least[i] + (w - least[i]) * share);
    const spare = width - gaps - widths.reduce((a, b) => a + b, 0);
    const between = gap + (spare > 0 ? Math.min(48, spare / Math.max(1, this.columns.length - 1)) : 0);
    let x = GUTTER;
    this.columns.forEach((column, i) => {
      column.x = x;
      column.w = widths[i];
      column.cell = column.daily ? Math.min(26, widths[i] / column.names.length) : widths[i];
      x += widths[i] + between;
    });
    this.wide = x - between + 18;
  }

  stack() {
    this.cardY = new Map();
    const room = Math.min(this.room, Math.max(this.tall, 300));
    for (const column of this.columns) {
      const n = column.cards.length;
      if (!n) continue;
      const each = Math.min(CARD.most + CARD.gap, Math.max(CARD.least, this.room / n));
      const top = HEAD + Math.max(0, (room - each * n) / 2);
      column.card = Math.max(8, each - Math.min(CARD.gap, each * 0.25));
      column.cards.forEach((i, k) => this.cardY.set(i, top + k * each));
    }
  }

  // The box of a node on the screen: [x, y, width, height]
  box(i) {
    const column = this.column[i];
    if (!column) return null;
    const left = column.x - this.view.x;
    if (this.line[i] < 0) {
      const y = this.cardY.get(i);
      return y === undefined ? null : [left, y, column.w, column.card];
    }
    const gap = this.gap();
    const side = column.cell > 5 ? 2 : 1;
    return [
      left + this.sub[i] * column.cell + side / 2,
      HEAD + this.line[i] * this.row - this.view.y + gap / 2,
      column.cell - side,
      Math.max(1, this.row - gap),
    ];
  }

  // The node under a point, or -1; near misses count where cells are small.
  hit(x, y, reach = 6) {
    for (const [i, top] of this.cardY) {
      const column = this.column[i];
      const left = column.x - this.view.x;
      if (x >= left && x <= left + column.w && y >= top && y <= top + column.card) return i;
    }
    if (y < HEAD || y > HEAD + this.room + 4 || x < GUTTER - 6) return -1;
    const line = Math.floor((y - HEAD + this.view.y) / this.row);
    for (const column of this.columns) {
      const left = column.x - this.view.x;
      const inside = x - left;
      const wide = column.cell * column.names.length;
      if (!column.daily || inside < -reach || inside > wide + reach) continue;
      const sub = Math.min(column.names.length - 1, Math.max(0, Math.floor(inside / column.cell)));
      const off = Math.ceil(reach / 2 / this.row);
      for (let away = 0; away <= off; away += 1) {
        for (const at of away ? [line - away, line + away] : [line]) {
          const found = this.cell(column, sub, at);
          if (found >= 0) return found;
        }
      }
    }
    return -1;
  }

  // The node one step away, as arrow keys go; the same node where there is none.
  step(i, dx, dy) {
    if (i < 0 || !this.column[i]) return this.first();
    const column = this.column[i];
    if (dy) {
      if (this.line[i] < 0) {
        const at = column.cards.indexOf(i) + dy;
        return column.cards[at] ?? i;
      }
      for (let at = this.line[i] + dy; at >= 0 && at < this.days.length; at += dy) {
        const found = this.cell(column, this.sub[i], at);
        if (found >= 0) return found;
      }
      return i;
    }
    const [, y, , h] = this.box(i);
    let [number, sub] = [column.number, (this.line[i] < 0 ? 0 : this.sub[i]) + dx];
    while (number >= 0 && number < this.columns.length) {
      const now = this.columns[number];
      if (!now.daily || now.cards.length) {
        if (number !== column.number && now.cards.length) return this.nearest(now, y + h / 2);
      } else {
        for (; sub >= 0 && sub < now.names.length; sub += dx) {
          const found = this.beside(now, sub, this.line[i] < 0 ? this.lineAt(y) : this.line[i]);
          if (found >= 0) return found;
        }
      }
      number += dx;
      sub = dx > 0 ? 0 : (this.columns[number]?.names.length ?? 1) - 1;
    }
    return i;
  }

  lineAt(y) {
    return Math.min(this.days.length - 1, Math.max(0, Math.floor((y - HEAD + this.view.y) / this.row)));
  }

  beside(column, sub, line) {
    for (let away = 0; away < this.days.length; away += 1) {
      for (const at of [line - away, line + away]) {
        const found = this.cell(column, sub, at);
        if (found >= 0) return found;
      }
    }
    return -1;
  }

  nearest(column, y) {
    const away = (i) => Math.abs(this.cardY.get(i) + column.card / 2 - y);
    return column.cards.reduce((a, b) => (away(b) < away(a) ? b : a));
  }

  first() {
    const last = [...this.columns].reverse().find((column) => column.cards.length);
    return last ? last.cards[0] : this.graph.size - 1;
  }

  // Move the view so that a node is seen; true where it moved.
  reveal(i) {
    const box = this.box(i);
    if (!box) return false;
    const [x, y, w, h] = box;
    const before = [this.view.x, this.view.y];
    if (x < GUTTER) this.view.x -= GUTTER + 20 - x;
    if (x + w > this.width - 12) this.view.x += x + w + 20 - this.width;
    if (this.line[i] >= 0) {
      if (y < HEAD) this.view.y -= HEAD + 30 - y;
      if (y + h > HEAD + this.room) this.view.y += y + h + 30 - HEAD - this.room;
    }
    this.view.x = Math.min(this.mostX, Math.max(0, this.view.x));
    this.view.y = Math.min(this.mostY, Math.max(0, this.view.y));
    return before[0] !== this.view.x || before[1] !== this.view.y;
  }
}

const pen = document.createElement("canvas").getContext("2d");
pen.font = "600 12px system-ui, sans-serif";

function titleWidth(column) {
  column.title_px ??= Math.ceil(pen.measureText(column.title).width) + 4;
  return column.title_px;
}

function columns(artifacts) {
  const found = new Map();
  for (const { kind, name, daily } of artifacts) {
    if (!found.has(kind)) {
      found.set(kind, { kind, title: kind.replaceAll("_", " "), names: [], daily: false, number: found.size });
    }
    const column = found.get(kind);
    column.names.push(name);
    column.daily = column.daily || daily;
  }
  for (const column of found.values()) {
    column.subs = new Map(column.names.map((name, k) => [name, k]));
  }
  return [...found.values()];
}
