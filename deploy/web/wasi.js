// What the program asks of a system, as far as it asks: WASI preview 1 over the files that were chosen, which are only read, and
// over those that it makes, which are in memory. There is no network, and no clock but the browser's.

const SUCCESS = 0, BADF = 8, EXIST = 20, NOENT = 44, NOSYS = 52, ROFS = 69, SPIPE = 70;
const SOCKET = 6, DIRECTORY = 3, REGULAR = 4;
/** The folder in which the files lie. */
const FOLDER = 3;
/** Bytes that are read from a file at once. */
const CHUNK = 1 << 20;

/** The program has ended. */
class Exit {
  constructor(code) {
    this.code = code;
  }
}

/** A file that the program makes. */
class Made {
  constructor() {
    [this.room, this.size] = [new Uint8Array(CHUNK), 0];
  }

  get bytes() {
    return this.room.subarray(0, this.size);
  }

  write(at, bytes) {
    this.resize(Math.max(this.size, at + bytes.length));
    this.room.set(bytes, at);
  }

  resize(size) {
    if (size > this.room.length) {
      const room = new Uint8Array(Math.max(size, 2 * this.room.length));
      room.set(this.bytes);
      this.room = room;
    }
    this.room.fill(0, this.size, Math.max(this.size, size));
    this.size = size;
  }
}

class System {
  /**
   * @param {string[]} args
   * @param {string[]} env `NAME=value`
   * @param {Map<string, File>} files by the name under which they are opened
   * @param {{out: (bytes: Uint8Array) => void, err: (bytes: Uint8Array) => void, read: (bytes: number) => void}} to
   */
  constructor(args, env, files, to) {
    Object.assign(this, { args, env, files, to });
    this.made = new Map();
    this.open = new Map();
    this.next = FOLDER + 1;
    this.reader = new FileReaderSync();
  }

  /** Runs the program to its end, and gives its exit code. */
  run(module) {
    const names = WebAssembly.Module.imports(module).map(({ name }) => name);
    const calls = names.map((name) => [name, (...given) => this[name]?.(...given) ?? NOSYS]);
    const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: Object.fromEntries(calls) });
    this.memory = instance.exports.memory;
    try {
      instance.exports._start();
      return 0;
    } catch (error) {
      if (error instanceof Exit) return error.code;
      throw error;
    }
  }

  // Memory grows, and what looked into it before is void then.
  get view() {
    return new DataView(this.memory.buffer);
  }

  bytes(at, length) {
    return new Uint8Array(this.memory.buffer, at, length);
  }

  text(at, length) {
    return new TextDecoder().decode(this.bytes(at, length));
  }

  spans(at, count) {
    const { view } = this;
    return Array.from({ length: count }, (_, n) => [view.getUint32(at + 8 * n, true), view.getUint32(at + 8 * n + 4, true)]);
  }

  strings(all, list, buffer) {
    for (const one of all) {
      const bytes = new TextEncoder().encode(`${one}\0`);
      this.view.setUint32(list, buffer, true);
      this.bytes(buffer, bytes.length).set(bytes);
      list += 4;
      buffer += bytes.length;
    }
    return SUCCESS;
  }

  sizes(all, count, length) {
    this.view.setUint32(count, all.length, true);
    this.view.setUint32(length, new TextEncoder().encode(all.map((one) => `${one}\0`).join("")).length, true);
    return SUCCESS;
  }

  args_get(list, buffer) {
    return this.strings(this.args, list, buffer);
  }

  args_sizes_get(count, length) {
    return this.sizes(this.args, count, length);
  }

  environ_get(list, buffer) {
    return this.strings(this.env, list, buffer);
  }

  environ_sizes_get(count, length) {
    return this.sizes(this.env, count, length);
  }

  clock_time_get(clock, _precision, at) {
    const ms = clock === 0 ? Date.now() : performance.now();
    this.view.setBigUint64(at, BigInt(Math.round(ms * 1e6)), true);
    return SUCCESS;
  }

  random_get(at, length) {
    // No more is given at once.
    const most = 65536;
    for (let done = 0; done < length; done += most) {
      // Not into the memory itself, which may be shared.
      this.bytes(at + done, Math.min(most, length - done)).set(crypto.getRandomValues(new Uint8Array(Math.min(most, length - done))));
    }
    return SUCCESS;
  }

  fd_prestat_get(fd, at) {
    if (fd !== FOLDER) return BADF;
    this.view.setUint32(at, 0, true);
    this.view.setUint32(at + 4, 1, true);
    return SUCCESS;
  }

  fd_prestat_dir_name(fd, at, length) {
    if (fd !== FOLDER) return BADF;
    this.bytes(at, length).fill(".".charCodeAt(0));
    return SUCCESS;
  }

  kind(fd) {
    if (fd < FOLDER) return SOCKET;
    if (fd === FOLDER) return DIRECTORY;
    return this.open.has(fd) ? REGULAR : undefined;
  }

  fd_fdstat_get(fd, at) {
    const kind = this.kind(fd);
    if (kind === undefined) return BADF;
    this.bytes(at, 24).fill(0);
    this.view.setUint8(at, kind);
    this.view.setBigUint64(at + 8, ~0n & 0xffffffffffffffffn, true);
    this.view.setBigUint64(at + 16, ~0n & 0xffffffffffffffffn, true);
    return SUCCESS;
  }

  stat(at, kind, file, inode) {
    const { view } = this;
    this.bytes(at, 64).fill(0);
    view.setBigUint64(at + 8, BigInt(inode), true);
    view.setUint8(at + 16, kind);
    view.setBigUint64(at + 24, 1n, true);
    if (file) {
      view.setBigUint64(at + 32, BigInt(file.size), true);
      const modified = BigInt(Math.round(file.lastModified ?? 0)) * 1000000n;
      [40, 48, 56].forEach((field) => view.setBigUint64(at + field, modified, true));
    }
    return SUCCESS;
  }

  fd_filestat_get(fd, at) {
    const kind = this.kind(fd);
    return kind === undefined ? BADF : this.stat(at, kind, this.open.get(fd)?.file, this.open.get(fd)?.inode ?? 0);
  }

  name(path, length) {
    return this.text(path, length).replace(/^\.\//, "");
  }

  found(path, length) {
    const name = this.name(path, length);
    const file = this.made.get(name) ?? this.files.get(name);
    const inode = [...this.files.keys(), ...this.made.keys()].indexOf(name) + 1;
    return file && { file, inode };
  }

  path_filestat_get(_folder, _flags, path, length, at) {
    const found = this.found(path, length);
    return found ? this.stat(at, REGULAR, found.file, found.inode) : NOENT;
  }

  path_open(_folder, _follow, path, length, how, _rights, _inherited, _flags, at) {
    const CREATE = 1, EXCLUSIVE = 4, TRUNCATE = 8;
    let found = this.found(path, length);
    if (!found && !(how & CREATE)) return NOENT;
    if (found && how & EXCLUSIVE) return EXIST;
    if (found?.file instanceof File && how & (CREATE | TRUNCATE)) return ROFS;
    if (!found) {
      this.made.set(this.name(path, length), new Made());
      found = this.found(path, length);
    } else if (how & TRUNCATE) {
      found.file.resize(0);
    }
    const fd = this.next++;
    this.open.set(fd, { ...found, at: 0, chunk: new Uint8Array(), begins: 0 });
    this.view.setUint32(at, fd, true);
    return SUCCESS;
  }

  fd_close(fd) {
    return this.open.delete(fd) ? SUCCESS : BADF;
  }

  fd_read(fd, list, count, at) {
    if (fd < FOLDER) {
      this.view.setUint32(at, 0, true);
      return SUCCESS;
    }
    const one = this.open.get(fd);
    if (!one) return BADF;
    let read = 0;
    for (const [to, length] of this.spans(list, count)) {
      const bytes = this.ahead(one).subarray(0, length);
      this.bytes(to, bytes.length).set(bytes);
      one.at += bytes.length;
      read += bytes.length;
      if (bytes.length < length) break;
    }
    this.view.setUint32(at, read, true);
    return SUCCESS;
  }

  /** What is known of a file from where it is read on: some of it, if there is any. */
  ahead(one) {
    if (one.file instanceof Made) return one.file.bytes.subarray(Math.min(one.at, one.file.size));
    const known = () => one.chunk.subarray(Math.max(0, one.at - one.begins));
    if (one.at < one.begins || known().length === 0) {
      one.begins = one.at;
      one.chunk = new Uint8Array(this.reader.readAsArrayBuffer(one.file.slice(one.at, one.at + CHUNK)));
      this.to.read(one.chunk.length);
    }
    return known();
  }

  fd_seek(fd, offset, whence, at) {
    const one = this.open.get(fd);
    if (!one) return fd < FOLDER ? SPIPE : BADF;
    const from = [0, one.at, one.file.size][whence];
    one.at = from + Number(offset);
    this.view.setBigUint64(at, BigInt(one.at), true);
    return SUCCESS;
  }

  fd_write(fd, list, count, at) {
    const one = this.open.get(fd);
    if (one?.file instanceof File) return ROFS;
    const append = (bytes) => {
      one.file.write(one.at, bytes);
      one.at += bytes.length;
    };
    const to = { 1: this.to.out, 2: this.to.err }[fd] ?? (one && append);
    if (!to) return BADF;
    let written = 0;
    for (const [from, length] of this.spans(list, count)) {
      to(this.bytes(from, length).slice());
      written += length;
    }
    this.view.setUint32(at, written, true);
    return SUCCESS;
  }

  fd_sync(fd) {
    return this.open.has(fd) ? SUCCESS : BADF;
  }

  fd_filestat_set_size(fd, size) {
    const made = this.open.get(fd)?.file;
    if (!(made instanceof Made)) return BADF;
    made.resize(Number(size));
    return SUCCESS;
  }

  path_rename(_folder, path, length, _to, newPath, newLength) {
    const made = this.made.get(this.name(path, length));
    if (!made) return this.found(path, length) ? ROFS : NOENT;
    this.made.delete(this.name(path, length));
    this.made.set(this.name(newPath, newLength), made);
    return SUCCESS;
  }

  path_unlink_file(_folder, path, length) {
    if (this.made.delete(this.name(path, length))) return SUCCESS;
    return this.found(path, length) ? ROFS : NOENT;
  }

  proc_exit(code) {
    throw new Exit(code);
  }
}

// In a thread of its own, so that the page stays awake: one run for each message, and one message for its end.
onmessage = ({ data: { module, args, env, files } }) => {
  const out = [];
  let err = "";
  const decoder = new TextDecoder();
  const to = {
    out: (bytes) => out.push(bytes),
    err: (bytes) => (err += decoder.decode(bytes, { stream: true })),
    read: (bytes) => postMessage({ read: bytes }),
  };
  try {
    const system = new System(args, env, new Map(files), to);
    const code = system.run(module);
    const made = [...system.made].map(([name, file]) => [name, new Blob([file.bytes])]);
    postMessage({ code, out: new Blob(out), made: new Map(made), err });
  } catch (error) {
    postMessage({ failed: `${err}${error}` });
  }
};
