// A chat server as one would write it with Socket.IO and SQLite: a message is stored, then told to the other end and
// acknowledged. What comes within a few milliseconds is stored by one commit, which is on the disk before anybody
// hears of it. One process, as it comes; `node server.mjs FOLDER` serves on a free port until it is told to stop.

import { createServer } from 'node:http';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { Server } from 'socket.io';

/** How long the first message of a commit waits for others. */
const COMMIT_DELAY_MS = 2;
/** How many messages wait for a commit at most; more are refused. */
const WAITING_MAX = 100_000;

const [folder] = process.argv.slice(2);
const database = new Database(join(folder, 'messages.sqlite'));
database.pragma('journal_mode = WAL');
database.pragma('synchronous = FULL');
database.exec(`
  CREATE TABLE IF NOT EXISTS messages (
    chat_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    sender_id INTEGER NOT NULL,
    written_ms INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (chat_id, seq)
  ) WITHOUT ROWID`);
const insert = database.prepare(
  'INSERT INTO messages (chat_id, seq, sender_id, written_ms, text) VALUES (?, ?, ?, ?, ?)',
);
const newest = database.prepare('SELECT max(seq) AS seq FROM messages WHERE chat_id = ?');

/** The newest place in each chat. */
const heads = new Map();
/** Who is connected, by user. */
const sockets = new Map();
let waiting = [];

const store = database.transaction((messages) => {
  for (const { chatId, seq, senderId, writtenMs, text } of messages) {
    insert.run(chatId, seq, senderId, writtenMs, text);
  }
});

function commit() {
  const messages = waiting;
  waiting = [];
  store(messages);
  for (const { recipientId, text, seq, acknowledge } of messages) {
    sockets.get(recipientId)?.emit('message', text);
    acknowledge(seq);
  }
}

function nextSeq(chatId) {
  const head = heads.get(chatId) ?? newest.get(chatId).seq ?? 0;
  heads.set(chatId, head + 1);
  return head + 1;
}

const http = createServer();
const io = new Server(http, { transports: ['websocket'], serveClient: false });

io.on('connection', (socket) => {
  const { seat: senderId, other: recipientId } = socket.handshake.auth;
  const chatId = Math.min(senderId, recipientId);
  sockets.set(senderId, socket);
  socket.on('disconnect', () => {
    if (sockets.get(senderId) === socket) sockets.delete(senderId);
  });
  socket.on('message', (text, acknowledge) => {
    if (waiting.length >= WAITING_MAX) {
      acknowledge('full');
      return;
    }
    if (waiting.length === 0) setTimeout(commit, COMMIT_DELAY_MS);
    const seq = nextSeq(chatId);
    waiting.push({ chatId, seq, senderId, recipientId, writtenMs: Date.now(), text, acknowledge });
  });
});

http.listen(0, '127.0.0.1', () => {
  const { address, port } = http.address();
  console.log(`socketio: ready at ${address}:${port}`);
});

process.on('SIGTERM', () => {
  io.close(() => {
    database.close();
    process.exit(0);
  });
});
