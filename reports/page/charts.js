// Draws each <figure data-chart> from the Vega specification in its <script>.
//
// Runs after Vega's modules. page.js says by the events "mneme:filter" and
// "mneme:focus" on document which variants are filtered out or pointed at.

// Vega's own bundle would fill the table of transforms like this.
Object.assign(
    modules["vega-dataflow"].transforms, modules["vega-transforms"],
    modules["vega-view-transforms"], modules["vega-encode"],
    modules["vega-label"]);

const {View} = modules["vega-view"];
const {parse} = modules["vega-parser"];
// Expressions are interpreted: compiling them would need eval, which the
// page's content security policy forbids.
const {expressionInterpreter} = modules["vega-interpreter"];

const SERIES_COLORS = 6;

const darkScheme = matchMedia("(prefers-color-scheme: dark)");

// The page's present colours, by the names the specifications give them.
function theme() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    ink: value("--ink"),
    muted: value("--muted"),
    rule: value("--rule"),
    paper: value("--paper"),
    colors: Array.from({length: SERIES_COLORS}, (_, i) => value(`--series-${i}`)),
  };
}

function config() {
  const font = getComputedStyle(document.body).fontFamily;
  return {
    axis: {
      labelFont: font,
      titleFont: font,
      labelFontSize: 11.5,
      titleFontSize: 12,
      titleFontWeight: "normal",
      titlePadding: 10,
    },
    text: {font},
  };
}

class Chart {
  constructor(figure) {
    this.room = figure.querySelector(".chart");
    const spec = JSON.parse(figure.querySelector("script").textContent);
    this.padding = spec.padding.left + spec.padding.right;
    const height = spec.height + spec.padding.top + spec.padding.bottom;
    this.room.style.height = `${height}px`;
    this.view = new View(parse(spec, config(), {ast: true}), {
      container: this.room,
      expr: expressionInterpreter,
      renderer: "svg",
    });
    this.set({...theme(), width: this.width()});
    this.listen(figure);
    // One picture with the description that Vega took from the specification;
    // its hundreds of marks mean nothing one by one, and the table has them.
    this.room.setAttribute("role", "img");
    this.room.querySelector("svg").setAttribute("aria-hidden", "true");
  }

  // What a reader may choose beside the chart sets one of its signals.
  listen(figure) {
    for (const input of figure.querySelectorAll("input[data-signal]")) {
      input.closest("fieldset").hidden = false;
      input.addEventListener("change", () => {
        this.set({[input.dataset.signal]: Number(input.value)});
      });
    }
  }

  width() {
    return Math.max(200, this.room.clientWidth - this.padding);
  }

  // Vega queues runs, so that quick successions of changes are drawn in order.
  set(signals) {
    for (const [name, value] of Object.entries(signals)) {
      this.view.signal(name, value);
    }
    this.view.runAsync();
  }
}

function draw(figure) {
  try {
    return [new Chart(figure)];
  } catch (error) {
    // The same data stand in the table below the chart.
    console.error(error);
    figure.querySelector(".chart").textContent =
        "This browser cannot draw the chart.";
    const table = figure.querySelector("details");
    if (table !== null) table.open = true;
    return [];
  }
}

const charts =
    [...document.querySelectorAll("figure[data-chart]")].flatMap(draw);

function setAll(signals) {
  for (const chart of charts) chart.set(signals);
}

darkScheme.addEventListener("change", () => setAll(theme()));
addEventListener("resize", () => {
  for (const chart of charts) chart.set({width: chart.width()});
});
document.addEventListener(
    "mneme:filter", (event) => setAll({hidden: event.detail}));
document.addEventListener(
    "mneme:focus", (event) => setAll({focus: event.detail}));

// Paper is white whatever the screen is; page.css knows this class.
for (const [event, printing] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => {
    document.documentElement.classList.toggle("printing", printing);
    for (const chart of charts) {
      for (const [name, value] of Object.entries(theme())) {
        chart.view.signal(name, value);
      }
      chart.view.run();
    }
  });
}
