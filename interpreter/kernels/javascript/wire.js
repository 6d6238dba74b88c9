'use strict';
// Jupyter's messages: frames on a socket, signed. https://jupyter-client.readthedocs.io/en/stable/messaging.html

const { createHmac, randomUUID, timingSafeEqual } = require('node:crypto');

const DELIMITER = '<IDS|MSG>';
const VERSION = '5.4';

class Wire {
  constructor(key) {
    this.key = key;
    this.session = randomUUID();
  }

  sign(parts) {
    if (!this.key) return '';
    const hmac = createHmac('sha256', this.key);
    for (const part of parts) hmac.update(part);
    return hmac.digest('hex');
  }

  /** The message in `frames`; null when it is none, or not signed with the key. */
  parse(frames) {
    const at = frames.findIndex((frame) => frame.toString() === DELIMITER);
    if (at < 0 || frames.length < at + 6) return null;
    const parts = frames.slice(at + 2, at + 6);
    const expected = Buffer.from(this.sign(parts));
    const given = frames[at + 1];
    if (expected.length !== given.length || !timingSafeEqual(expected, given)) return null;
    const [header, parent, metadata, content] = parts.map((part) => JSON.parse(part.toString()));
    return { identities: frames.slice(0, at), header, parent, metadata, content };
  }

  /** Frames of a message of type `kind`, in answer to `to` (a parsed message, or null). */
  frames(kind, content, to, identities) {
    const header = {
      msg_id: randomUUID(),
      session: this.session,
      username: 'kernel',
      date: new Date().toISOString(),
      msg_type: kind,
      version: VERSION,
    };
    const parts = [header, to ? to.header : {}, {}, content].map((part) => JSON.stringify(part));
    return [...identities, DELIMITER, this.sign(parts), ...parts];
  }
}

module.exports = { Wire };
