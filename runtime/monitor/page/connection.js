// The WebSocket. It is closed after SILENCE ms without a message, and opened again after every loss.

const SILENCE = 3500; // the server sends a message every second
const RETRIES = [500, 1000, 2000, 3000];

/**
 * @typedef {object} Handlers
 * @property {(message: import("../messages").Message) => void} message
 * @property {(frame: ArrayBuffer) => void} frame
 * @property {(state: "open" | "lost", reason?: string) => void} state
 */

export class Connection {
  heard = 0;
  /** @type {WebSocket | null} */
  socket = null;

  /** @param {Handlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.attempt = 0;
    this.open();
    setInterval(() => this.watch(), 500);
  }

  open() {
    this.heard = performance.now();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/stream`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.heard = performance.now();
      if (typeof event.data !== "string") return this.handlers.frame(event.data);
      if (this.attempt >= 0) {
        this.attempt = -1;
        this.handlers.state("open");
      }
      this.handlers.message(JSON.parse(event.data));
    };
    socket.onclose = (event) => this.lost(socket, event.reason);
  }

  /** @param {import("../messages").Acknowledge} message */
  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  watch() {
    if (performance.now() - this.heard > SILENCE && this.socket) {
      const socket = this.socket;
      this.lost(socket, "");
      socket.close();
    }
  }

  lost(socket, reason) {
    if (socket !== this.socket) return;
    this.socket = null;
    this.attempt = Math.min(this.attempt + 1, RETRIES.length - 1);
    this.handlers.state("lost", reason);
    setTimeout(() => this.open(), RETRIES[this.attempt]);
  }
}
