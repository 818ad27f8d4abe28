// Colours of the VividTalk sockets and links. A colour palette of the front end has none for types of a pack.
import { app } from "../../../scripts/app.js";

const COLOURS = {
  VIVIDTALK_MODEL: "#9aa7c7",
  VIVIDTALK_FACE: "#f2a65a",
  VIVIDTALK_AUDIO_FEATURES: "#5ec8c0",
  VIVIDTALK_EXPRESSION: "#ff7eb6",
  VIVIDTALK_HEAD_POSE: "#8ecf5a",
  VIVIDTALK_MESH: "#e6d35c",
  VIVIDTALK_NCC: "#5aa9f2",
  VIVIDTALK_MOTION: "#b48cf2",
  VIVIDTALK_FRAMES: "#f26d6d",
};

// Loading a palette writes "" for each type that it does not know: an empty value leaves the colour as it is.
function keepColour(colours, type) {
  let colour = colours[type] || COLOURS[type];
  Object.defineProperty(colours, type, {
    configurable: true,
    enumerable: true,
    get: () => colour,
    set: (value) => {
      colour = value || COLOURS[type];
    },
  });
}

app.registerExtension({
  name: "VividTalk.SocketColours",
  setup() {
    // nodes on the canvas: the dots of sockets, then links
    const maps = [app.canvas?.default_connection_color_byType, app.canvas?.constructor?.link_type_colors];
    for (const colours of maps) {
      if (colours) for (const type of Object.keys(COLOURS)) keepColour(colours, type);
    }
    // nodes as HTML ("Nodes 2.0"): the dots take their colour from a CSS variable
    const rules = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
    const style = document.createElement("style");
    style.textContent = `:root { ${rules.join(" ")} }`;
    document.head.append(style);
  },
});
