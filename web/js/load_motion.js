// An upload button on Load Motion: ComfyUI's own upload widgets know images, sounds, videos and 3-D models only.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const NODE = "VividTalk_LoadMotion";
const BUTTON = "choose a motion file to upload";
const KINDS = ".npz,.json,.csv";

async function upload(file) {
  const body = new FormData();
  body.append("image", file); // the server's only route for input files; it takes any kind
  body.append("type", "input");
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.statusText}`);
  const { name, subfolder } = await answer.json();
  return subfolder ? `${subfolder}/${name}` : name;
}

function say(text) {
  const toast = app.extensionManager?.toast;
  if (toast) toast.add({ severity: "error", summary: "Load Motion", detail: text, life: 8000 });
  else alert(text);
}

async function take(node, file) {
  const widget = node.widgets.find((known) => known.name === "file");
  try {
    const name = await upload(file);
    const values = widget.options.values ?? [];
    if (!values.includes(name)) widget.options.values = [...values, name];
    widget.value = name;
    widget.callback?.(name);
    node.graph?.setDirtyCanvas?.(true, true);
  } catch (error) {
    say(`${file.name} could not be uploaded: ${error.message}`);
  }
}

function choose(node) {
  const input = document.createElement("input");
  Object.assign(input, { type: "file", accept: KINDS });
  input.addEventListener("change", () => input.files.length && take(node, input.files[0]));
  input.click();
}

app.registerExtension({
  name: "VividTalk.LoadMotion",
  nodeCreated(node) {
    if ((node.comfyClass ?? node.constructor?.comfyClass) !== NODE) return;
    const button = node.addWidget("button", BUTTON, null, () => choose(node), { serialize: false });
    button.serialize = false;
    node.onDragOver = (event) => [...(event.dataTransfer?.items ?? [])].some((item) => item.kind === "file");
    node.onDragDrop = (event) => {
      const file = [...event.dataTransfer.files].find((known) => KINDS.split(",").some((end) => known.name.toLowerCase().endsWith(end)));
      if (file) take(node, file);
      return Boolean(file);
    };
  },
});
