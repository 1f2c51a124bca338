// Shapes of the data block and of the script's state. Types only: nothing of this file is in a report.

export type Unit = "per-second" | "ns" | "bytes" | "count" | "share";
/** What a value is shown as; `cpus` is a share of CPUs. */
export type ShownUnit = Unit | "cpus";

export interface Range {
  from: number;
  to: number;
}

export interface Grid {
  /** When it begins: 0, or where the window of a dump does. */
  from_ns: number;
  duration_ns: number;
  width_ns: number;
  bins: number;
}

export type Values = ReadonlyArray<number | null>;

export interface Curve {
  name: string;
  unit: Unit;
  is_limit: boolean;
  values: Values;
}

export interface Panel {
  kind: string;
  series: Curve[];
  empty: string | null;
}

export interface Gap {
  from_ns: number;
  to_ns: number;
  count: number;
  kind: string;
  cause: string;
}

export interface Span {
  from_ns: number;
  to_ns: number;
  kind: string;
  rank: number | null;
  text: string;
}

export interface Stretch {
  from_ns: number;
  to_ns: number;
  state: "running" | "runnable" | "blocked" | "calling";
  call: string | null;
  on: string | null;
  errno: string | null;
}

export interface Lane {
  tid: number;
  tgid: number;
  comm: string;
  role: string;
  from_ns: number;
  to_ns: number;
  calls: number;
  spent: [number, number, number] | null;
  stretches: Stretch[];
  mixed: [number, number, number, number][];
  left_out: number;
}

export interface Event {
  id: string;
  t: number;
  d: number;
  tid: number;
  tgid: number;
  comm: string;
  role: string;
  type: string;
  call: string | null;
  errno: string | null;
  peer: string | null;
  text: string;
}

export interface Trace {
  name: string;
  label: string;
  start_realtime_ns: string;
  grid: Grid;
  panels: Panel[];
  gaps: Gap[];
  spans: Span[];
  lanes: { rows: Lane[]; left_out: number };
  sample: { of: number; events: Event[] };
}

export interface Data {
  schema: number;
  traces: Trace[];
  first_divergence: { a_ns: number | null; b_ns: number | null } | null;
}

/** What is filtered by. `null`: by nothing. Thread and process ids are those of `trace`. */
export interface Filter {
  window: Range | null;
  trace: number | null;
  tid: number | null;
  tgid: number | null;
  call: string | null;
  errno: string | null;
  peer: string | null;
  text: string;
}

export type Theme = "auto" | "light" | "dark";

export interface State extends Filter {
  /** The time axis: of a dump it begins where its window does. */
  axis: Range;
  /** How many traces there are. */
  traces: number;
  /** What part of the time axis is shown; `null`: all of it. */
  view: Range | null;
  /** The event that is shown in full, and its trace. */
  event: { trace: number; id: string } | null;
  /** Where the shared cursor was put. */
  cursor: number | null;
  /** Where the pointer is, which the shared cursor follows. */
  hover: number | null;
  /** Curves that were switched on or off, by `panel/name`. */
  curves: Readonly<Record<string, boolean>>;
  /** The curve that is brought out, as `panel/name`. */
  bold: string | null;
  /** What is unfolded: tables of panels, long legends. */
  open: Readonly<Record<string, boolean>>;
  /** The lane and the moment in it that is told. */
  lane: { trace: number; tid: number; at: number | null } | null;
  theme: Theme;
  /** Parts of a link that meant nothing. */
  ignored: readonly string[];
}

export type Action =
  | { do: "filter"; set: Partial<Filter>; event?: State["event"] }
  | { do: "clear" }
  | { do: "load"; set: Partial<State>; ignored: string[] }
  | { do: "brush"; from: number; to: number }
  | { do: "move"; by: number; extend: boolean }
  | { do: "cursor"; at: number | null }
  | { do: "hover"; at: number | null }
  | { do: "zoom"; factor: number }
  | { do: "pan"; by: number }
  | { do: "view"; view: Range | null }
  | { do: "escape" }
  | { do: "event"; event: State["event"] }
  | { do: "curve"; key: string; on: boolean }
  | { do: "bold"; key: string | null }
  | { do: "open"; key: string }
  | { do: "lane"; lane: State["lane"] }
  | { do: "theme" }
  | { do: "noted" };

export interface Store {
  get(): State;
  update(action: Action): void;
  subscribe(listener: (now: State, before: State) => void): () => void;
}

/** What a row or a button of the page stands for; several values of one kind: any of them. */
export interface Dims {
  from: number | null;
  to: number | null;
  trace: number | null;
  tid: readonly number[];
  tgid: readonly number[];
  call: readonly string[];
  errno: readonly string[];
  peer: readonly string[];
}

export interface Colours {
  ink: string;
  faint: string;
  grid: string;
  paper: string;
  loss: string;
  brush: string;
  limit: string;
  bad: string;
  running: string;
  runnable: string;
  blocked: string;
  calling: string;
  curves: string[];
}

/** One curve as it is drawn. */
export interface Line {
  key: string;
  name: string;
  values: Values;
  grid: Grid;
  isLimit: boolean;
  colour: number;
  dash: readonly number[];
}

/** One canvas of a panel: one trace, or the difference. */
export interface Strip {
  title: string;
  /** The trace; `null`: the difference. */
  trace: number | null;
  lines: Line[];
}

/** A panel of one unit, with its strips. */
export interface Plot {
  key: string;
  title: string;
  unit: ShownUnit;
  strips: Strip[];
  empty: string | null;
}

/** What parts of the script share. */
export interface App {
  data: Data;
  store: Store;
  /** Of the theme that is on. */
  colours(): Colours;
  /** Pixels of the screen in a CSS pixel. */
  density(): number;
  /** Tells those who hear the page. */
  say(text: string): void;
}

/** A part of the page that the script draws. */
export interface Part {
  /** @param before what was drawn last; `null`: everything has to be drawn */
  draw(now: State, before: State | null): void;
}
