// Shows the text that a VividTalk node returns on the node itself: warnings of the last run, and where a file was saved.
// Works in the front ends 1.27 to 1.58, which draw nodes on a canvas or as HTML.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const PREFIX = "VividTalk_";
const NAME = "notes"; // of the widget
const TYPE = "vividtalk_notes"; // one that no front end draws by itself
const LINE_PX = 16;
const PADDING_PX = 12;
const CHARACTER_PX = 6.2; // mean width of a character at 11 px, to reserve the height before the text is laid out

function textBox() {
  const box = document.createElement("div");
  box.className = "vividtalk-notes";
  Object.assign(box.style, {
    boxSizing: "border-box",
    padding: "6px 8px",
    borderRadius: "4px",
    borderLeft: "3px solid #e0a030",
    background: "rgba(224, 160, 48, 0.12)",
    color: "var(--input-text, #ddd)",
    font: `11px/${LINE_PX}px sans-serif`,
    overflow: "auto",
    whiteSpace: "pre-wrap",
    overflowWrap: "anywhere",
    userSelect: "text",
  });
  return box;
}

function height(node, lines) {
  const perLine = Math.max(10, (node.size[0] - 50) / CHARACTER_PX);
  const rows = lines.reduce((sum, line) => sum + Math.ceil(Math.max(1, line.length) / perLine), 0);
  return PADDING_PX + rows * LINE_PX;
}

function clear(node) {
  const index = node.widgets?.findIndex((widget) => widget.name === NAME) ?? -1;
  if (index < 0) return;
  const [widget] = node.widgets.splice(index, 1);
  widget.onRemove?.();
  widget.element?.remove();
  fit(node);
}

function fit(node) {
  const [width] = node.size;
  node.setSize([width, node.computeSize()[1]]);
  node.graph?.setDirtyCanvas?.(true, true);
}

function show(node, lines) {
  clear(node);
  if (!lines.length) return;
  const box = textBox();
  box.textContent = lines.join("\n");
  const rows = () => height(node, lines);
  const widget = node.addDOMWidget(NAME, TYPE, box, {
    serialize: false, // neither in the saved graph nor in the prompt
    getValue: () => "",
    setValue: () => {},
    getMinHeight: rows,
    getMaxHeight: rows,
  });
  widget.serialize = false;
  fit(node);
}

// The node of an execution id: "7", or "12:7" for node 7 of the subgraph that node 12 stands for.
function nodeOf(id) {
  let graph = app.rootGraph ?? app.graph;
  let node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node;
}

app.registerExtension({
  name: "VividTalk.Notes",
  setup() {
    // a node that is taken from the cache is not executed: its notes still hold
    api.addEventListener("executing", ({ detail }) => {
      const id = detail?.node ?? detail;
      const node = id == null ? undefined : nodeOf(id);
      if (node?.type?.startsWith(PREFIX)) clear(node);
    });
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith(PREFIX)) return;
    const { onExecuted } = nodeType.prototype;
    nodeType.prototype.onExecuted = function (output, ...rest) {
      onExecuted?.apply(this, [output, ...rest]);
      show(this, (output?.text ?? []).map(String));
    };
  },
});
