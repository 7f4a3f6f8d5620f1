// The page asks the same program that runs in a terminal, by the same options: `sipobs pcap --html - FILE…`.

const at = (id) => document.getElementById(id);
const [form, input, state, progress, said, result] = ["ask", "files", "state", "progress", "said", "result"].map(at);
const workerUrl = URL.createObjectURL(new Blob([at("worker").textContent], { type: "text/javascript" }));
/** How the packets are called that the program writes. */
const PACKETS = "packets.pcapng";
let program;
let running;
/** What the report was asked for, and what it was given. */
let last;

/** The program, unpacked and compiled once. */
async function compiled() {
  const packed = Uint8Array.from(atob(at("program").textContent.trim()), (c) => c.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return WebAssembly.compile(await new Response(unpacked).arrayBuffer());
}

/** The browser's time zone as POSIX has it, as it was when the captures were written: east of UTC is negative there. */
function zone(files) {
  const minutes = new Date(Math.min(...files.map((file) => file.lastModified))).getTimezoneOffset();
  const time = (all) => `${Math.floor(all / 60)}`.padStart(2, "0") + ":" + `${all % 60}`.padStart(2, "0");
  const name = `${minutes > 0 ? "-" : "+"}${time(Math.abs(minutes)).replace(":", "")}`;
  return `<${name}>${minutes < 0 ? "-" : ""}${time(Math.abs(minutes))}`;
}

/** Each file by a name of its own. */
function named(files) {
  const names = new Map();
  for (const file of files) {
    let name = ["-", PACKETS].includes(file.name) ? `file ${file.name}` : file.name;
    for (let n = 2; names.has(name); n++) name = `${file.name} (${n})`;
    names.set(name, file);
  }
  return [...names];
}

/** Runs the program over `files`; `seen` hears of each byte that it reads. */
async function run(options, files, seen) {
  program ??= compiled().catch((error) => {
    program = undefined;
    throw error;
  });
  const module = await program;
  const worker = new Worker(workerUrl);
  running = worker;
  const all = named(files);
  const args = ["sipobs", "pcap", ...options, "--", ...all.map(([name]) => name)];
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if ("read" in data) return seen(data.read);
      worker.terminate();
      return data.failed ? reject(new Error(data.failed)) : resolve(data);
    };
    worker.onerror = (error) => reject(new Error(error.message));
    worker.postMessage({ module, args, env: [`TZ=${zone(files)}`], files: all });
  });
}

function asked() {
  const options = [];
  for (const id of ["number", "call"]) {
    if (at(id).value.trim()) options.push(`--${id}=${at(id).value.trim()}`);
  }
  if (at("failed").checked) options.push("--failed");
  return options;
}

const mask = () => (at("unmask").checked ? ["--mask=full"] : []);

/** Does it while the page says so, and tells what the program said. */
async function busy(what, files, work) {
  const size = files.reduce((sum, file) => sum + file.size, 0);
  let read = 0;
  document.querySelectorAll("button").forEach((button) => (button.disabled = true));
  const cancel = at("cancel");
  [cancel.hidden, cancel.disabled, progress.hidden, said.hidden] = [false, false, false, true];
  state.textContent = `${what} …`;
  const seen = (bytes) => {
    read += bytes;
    // Files are read again for what belongs to the calls that are told in full.
    const round = Math.max(1, Math.ceil(read / Math.max(1, size)));
    progress.value = Math.min(1, read / Math.max(1, size) - (round - 1));
    if (round > 1) state.textContent = `${what}, reading number ${round} …`;
  };
  try {
    const { code, out, made, err } = await work(seen);
    [said.textContent, said.hidden] = [err.trim(), !err.trim()];
    state.textContent = code === 0 ? "Done." : "Not all of it could be done: see below.";
    return made.get(PACKETS) ?? out;
  } catch (error) {
    [said.textContent, said.hidden] = [`${error.message}`, false];
    state.textContent = "It failed.";
    return undefined;
  } finally {
    running = undefined;
    [cancel.hidden, progress.hidden] = [true, true];
    document.querySelectorAll("button").forEach((button) => (button.disabled = false));
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  last = { files: [...input.files], options: asked(), mask: mask() };
  result.hidden = true;
  const out = await busy("Reading", last.files, (seen) => run(["--html=-", ...last.options, ...last.mask], last.files, seen));
  if (!out || out.size === 0) return;
  last.report = out;
  at("report").srcdoc = await out.text();
  result.hidden = false;
});

at("cancel").addEventListener("click", () => {
  running?.terminate();
  running?.onerror({ message: "stopped" });
});

const SAVED = {
  report: { name: "sipobs-report.html", type: "text/html" },
  text: { name: "sipobs-report.md", type: "text/markdown", options: ["--md=-"], masks: true },
  packets: { name: "sipobs.pcapng", type: "application/x-pcapng", options: ["-w", PACKETS] },
  redacted: { name: "sipobs-redacted.pcapng", type: "application/x-pcapng", options: ["-w", PACKETS, "--redact"] },
};

document.querySelector(".keep").addEventListener("click", async ({ target }) => {
  const what = SAVED[target.dataset?.save];
  if (!what) return;
  const options = () => [...what.options, ...last.options, ...(what.masks ? last.mask : [])];
  const bytes = what.options ? await busy("Writing", last.files, (seen) => run(options(), last.files, seen)) : last.report;
  if (!bytes || bytes.size === 0) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: what.type }));
  link.download = what.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});

function tell() {
  const names = [...input.files].map((file) => file.name);
  const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
  at("chosen").textContent = names.length ? names.slice(0, 3).join(", ") + more : "Choose captures, or drop them here";
}

input.addEventListener("change", tell);
for (const kind of ["dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") {
      input.files = event.dataTransfer.files;
      tell();
    }
  });
}
