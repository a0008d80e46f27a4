// SPDX-License-Identifier: MIT
// node_end.js: one end of dgperf on Node's dgram. dgperf carries this text and runs it with
// `node -e`; node.c is its other side and tells what the records on stdin and stdout mean.
//
// Owns the sockets. Never counts and never checks: each datagram's size and number go to dgperf.
'use strict';
const dgram = require('dgram');
const fs = require('fs');

const { role, family, bind, sockets, size, sizes, peers, buffer } = JSON.parse(process.argv[1]);
const [SENT, ELAPSED, FAILED, OPENED] = [0xffffff01, 0xffffff02, 0xffffff03, 0xffffff10];
const RECORD = 16;
const RECORDS = 512; // at most in one write
const TELL_MS = 20;
const RING = 1024; // payloads that may be with libuv at a time

// ---- Records for dgperf ------------------------------------------------------------------------

const bytes = Buffer.alloc(RECORDS * RECORD);
const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
let used = 0;
let seen = 0;
let waiting = false;

function flush() {
  if (used > 0) fs.writeSync(1, bytes, 0, used * RECORD);
  used = seen = 0;
}

// Writes once nothing more comes, so that a write carries many records.
function flushWhenQuiet() {
  waiting = used > seen;
  seen = used;
  if (waiting) setImmediate(flushWhenQuiet);
  else flush();
}

// Room for a record; the place of its number in `bytes`.
function record(kind, value) {
  if (used === RECORDS) flush();
  words[used * 4] = kind;
  words[used * 4 + 1] = value;
  return used++ * RECORD + 8;
}

function tell(kind, value, number) {
  bytes.writeBigUInt64LE(BigInt(number), record(kind, value));
}

// The same of a time as a double, which is exact for three months, in cheaper words.
function tellElapsed(nanoseconds) {
  const place = record(ELAPSED, 0) / 4;
  words[place] = nanoseconds >>> 0;
  words[place + 1] = Math.floor(nanoseconds / 4294967296);
}

function fail(error) {
  const text = Buffer.from(String(error.message));
  tell(FAILED, text.length, 0);
  fs.writeSync(1, Buffer.concat([bytes.subarray(0, used * RECORD), text])); // at once: one read
  process.exit(1);
}

// ---- Receiving ---------------------------------------------------------------------------------

const sentAt = new Map(); // a client's requests under way

function onMessage(socket, index, message, from) {
  if (role === 'server') socket.send(message, from.port, from.address, onSent);
  if (role === 'client' && message.length >= 8) {
    const at = sentAt.get(message.readUInt32LE(0));
    sentAt.delete(message.readUInt32LE(0));
    if (at !== undefined) tell(ELAPSED, 0, process.hrtime.bigint() - at);
  }
  if (role === 'collector' && message.length >= 16) {
    const [seconds, nanoseconds] = process.hrtime();
    const sent = message.readUInt32LE(12) * 4294967296 + message.readUInt32LE(8);
    tellElapsed(seconds * 1e9 + nanoseconds - sent);
  }
  const place = record(index, message.length);
  for (let i = 0; i < 8; i++) bytes[place + i] = message[i];
  if (!waiting && role !== 'collector') {
    waiting = true;
    setImmediate(flushWhenQuiet);
  }
}

// What a collector costs is to be the receiving: it tells in bulk.
if (role === 'collector') setInterval(flush, TELL_MS);

// Addresses are never names: nothing to look up.
const lookup = (address, version, callback) => callback(null, address, version);

function open(index) {
  const socket = dgram.createSocket({ type: family === 6 ? 'udp6' : 'udp4', lookup });
  socket.on('error', fail);
  if (role !== 'source') socket.on('message', (m, from) => onMessage(socket, index, m, from));
  socket.bind(bind.port, bind.address, () => {
    try {
      socket.setRecvBufferSize(buffer);
    } catch { /* granted as far as allowed */ }
    tell(OPENED + index, socket.address().port, socket.getRecvBufferSize());
    flush();
  });
  return socket;
}

const all = Array.from({ length: sockets }, (_, index) => open(index));

// ---- Sending -----------------------------------------------------------------------------------

const ring = Array.from({ length: peers.length > 0 ? RING : 0 }, () => Buffer.alloc(size));
const jobs = [];
let sent = 0;

// Without a callback an error is told nobody; a fifth of the sender's time is too much for each, so
// that only the last of a round has it.
function onSent(error) {
  if (error) fail(error);
}

function sendSome(job) {
  const count = Math.min(job.count, RING);
  for (let i = 0; i < count; i++) {
    const length = sizes[(job.low + job.peer) & (sizes.length - 1)];
    const payload = length === size ? ring[i] : ring[i].subarray(0, length);
    payload.writeUInt32LE(job.low, 0);
    payload.writeUInt32LE(job.high, 4);
    if (role === 'client') sentAt.set(job.low, process.hrtime.bigint());
    const { port, address } = peers[job.peer];
    all[0].send(payload, port, address, i + 1 === count ? onSent : undefined);
    if (++job.peer === peers.length) {
      job.peer = 0;
      job.low = (job.low + 1) >>> 0;
      if (job.low === 0) job.high++;
    }
  }
  job.count -= count;
  sent += count;
}

// While libuv has queued some, the ring's payloads are not ours.
function work() {
  while (jobs.length > 0) {
    if (all[0].getSendQueueCount?.() > 0) return setImmediate(work);
    sendSome(jobs[0]);
    if (jobs[0].count === 0) jobs.shift();
    tell(SENT, 0, sent);
    flush();
  }
}

let rest = Buffer.alloc(0);
process.stdin.on('data', (chunk) => {
  const data = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
  const idle = jobs.length === 0;
  let at = 0;
  for (; at + RECORD <= data.length; at += RECORD) {
    const first = data.readBigUInt64LE(at);
    const number = first / BigInt(peers.length);
    jobs.push({
      low: Number(number & 0xffffffffn),
      high: Number(number >> 32n),
      peer: Number(first % BigInt(peers.length)),
      count: data.readUInt32LE(at + 8),
    });
  }
  rest = data.subarray(at);
  if (idle) work();
});
process.stdin.on('end', () => process.exit(0));
