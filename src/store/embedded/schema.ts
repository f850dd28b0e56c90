/** What the embedded database file holds. A change of it is a new FORMAT with a migration. */

export const FORMAT = 13

const JOINING = `
CREATE TABLE join_tokens (
  digest TEXT PRIMARY KEY, client_id TEXT NOT NULL, expires_at INTEGER NOT NULL, made_by TEXT NOT NULL, used_by TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE joined_keys (
  client_id TEXT NOT NULL, kid TEXT NOT NULL, jwk TEXT NOT NULL, joined_at INTEGER NOT NULL, made_by TEXT NOT NULL,
  PRIMARY KEY (client_id, kid)
) STRICT, WITHOUT ROWID;
`

const PLATFORM_AGENTS = `
CREATE TABLE platform_agents (
  client_id TEXT PRIMARY KEY, platform TEXT NOT NULL, sub TEXT NOT NULL, first_seen INTEGER NOT NULL,
  last_seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX platform_agents_seen ON platform_agents (platform, last_seen);
`

/** Pins are swept by a walk round their table: each would cost a second insert here. */
const NO_EXPIRY_OF_PINS = 'DROP INDEX IF EXISTS key_pins_expiry;'

/** By subject: a user has one. */
const SIGN_OUTS = `
CREATE TABLE sign_outs (
  subject TEXT PRIMARY KEY, before INTEGER NOT NULL, settled INTEGER, keep_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`

/** Last among the columns, as a migration adds it. */
const SUSPENDED = `
ALTER TABLE tasks ADD COLUMN suspended_by TEXT;
CREATE INDEX tasks_suspended ON tasks (id) WHERE state = 'suspended';
`

/** What else an entry of the log says, as JSON. */
const CONTAINED = `
ALTER TABLE tasks ADD COLUMN contained TEXT;
ALTER TABLE revocations ADD COLUMN more TEXT;
`

/** Previews that a revocation may be made of. */
const BULK = `
CREATE TABLE bulk_pins (
  digest TEXT PRIMARY KEY, made_by TEXT NOT NULL, expires_at INTEGER NOT NULL, pin TEXT NOT NULL,
  reason TEXT, done INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`

/** To each receiver of security events, and what waits for it; what was acknowledged gives up its place for good. */
const SIGNAL_STREAMS = `
CREATE TABLE signal_streams (
  id TEXT PRIMARY KEY, receiver TEXT NOT NULL UNIQUE, settings TEXT NOT NULL,
  generation INTEGER NOT NULL, sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE signal_queue (
  position INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, jti TEXT NOT NULL, claims TEXT NOT NULL,
  UNIQUE (stream, jti)
) STRICT;
CREATE INDEX signal_queue_order ON signal_queue (stream, position);
`

/** Every release that was registered, with its components; and revocations that wait for a second person. */
const COMPONENTS_AND_TWO_PEOPLE = `
CREATE TABLE releases (id TEXT PRIMARY KEY, packed TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE pending_revocations (
  id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL, pending TEXT NOT NULL, confirmed_by TEXT, done INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`

/** A change takes a new place: whoever asks since a place is told of it. */
const STATUS_INDEXES = `
CREATE TABLE status_indexes (
  place INTEGER PRIMARY KEY AUTOINCREMENT, list TEXT NOT NULL, idx INTEGER NOT NULL, until INTEGER NOT NULL,
  record TEXT NOT NULL, named TEXT NOT NULL, UNIQUE (list, idx)
) STRICT;
CREATE INDEX status_indexes_until ON status_indexes (until);
`

/** An administrator's seal: there is one or none. */
const SEALS = `
CREATE TABLE seals (one INTEGER PRIMARY KEY CHECK (one = 1), by TEXT NOT NULL, reason TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
`

/** Which index a token has, for a revocation by its id. */
const STATUS_TOKENS = `
CREATE TABLE status_tokens (
  jti TEXT PRIMARY KEY, list TEXT NOT NULL, idx INTEGER NOT NULL, until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX status_tokens_until ON status_tokens (until);
`

/** From each older format to the next. */
export const MIGRATIONS: Readonly<Record<number, string>> = {
  1: JOINING,
  2: PLATFORM_AGENTS,
  3: NO_EXPIRY_OF_PINS,
  4: SIGN_OUTS,
  5: SUSPENDED,
  6: CONTAINED,
  7: BULK,
  8: SIGNAL_STREAMS,
  9: COMPONENTS_AND_TWO_PEOPLE,
  10: STATUS_INDEXES,
  11: SEALS,
  12: STATUS_TOKENS,
}

export const SCHEMA = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('format', ${FORMAT}), ('generation', 1), ('beats', 0);

CREATE TABLE spent (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE key_pins (
  evidence TEXT PRIMARY KEY, thumbprint TEXT NOT NULL, expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE principals (
  spiffe_id TEXT PRIMARY KEY, client_id TEXT NOT NULL, since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE signing_keys (
  kid TEXT PRIMARY KEY, purpose TEXT NOT NULL, state TEXT NOT NULL, prepared_at INTEGER NOT NULL,
  activated_at INTEGER, retiring_at INTEGER, retired_at INTEGER,
  alg TEXT NOT NULL, public_jwk TEXT NOT NULL, sealed TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_active_key ON signing_keys (purpose) WHERE state = 'active';

CREATE TABLE subject_keys (ref TEXT PRIMARY KEY, sealed TEXT) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
  id TEXT PRIMARY KEY, parent TEXT, root TEXT NOT NULL, depth INTEGER NOT NULL,
  agent TEXT NOT NULL, subject TEXT NOT NULL, state TEXT NOT NULL,
  created_at INTEGER NOT NULL, deadline INTEGER NOT NULL,
  heartbeat_seconds INTEGER, heartbeat_by INTEGER, ended_at INTEGER, ended_reason TEXT,
  calls INTEGER NOT NULL, exchanges INTEGER NOT NULL, cost INTEGER NOT NULL,
  fixed TEXT NOT NULL
) STRICT;
CREATE INDEX tasks_tree ON tasks (root, depth);
CREATE INDEX tasks_parent ON tasks (parent) WHERE parent IS NOT NULL;
CREATE INDEX tasks_newest ON tasks (created_at);
CREATE INDEX tasks_of_agent ON tasks (agent, created_at);
CREATE INDEX tasks_of_subject ON tasks (subject, created_at);
CREATE INDEX tasks_deadline ON tasks (deadline) WHERE state IN ('active', 'suspended');
CREATE INDEX tasks_heartbeat ON tasks (heartbeat_by) WHERE state = 'active' AND heartbeat_by IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (deadline) WHERE state NOT IN ('active', 'suspended');

CREATE TABLE reservations (
  task TEXT NOT NULL, operation_id TEXT NOT NULL,
  calls INTEGER NOT NULL, exchanges INTEGER NOT NULL, cost INTEGER NOT NULL,
  PRIMARY KEY (task, operation_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE revocations (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL, id TEXT NOT NULL UNIQUE,
  match TEXT NOT NULL, mode TEXT NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL, at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL, ban_until INTEGER, absolute INTEGER NOT NULL,
  readmitted_at INTEGER, readmitted_by TEXT, readmitted_reason TEXT
) STRICT;
CREATE INDEX revocations_bans ON revocations (sequence) WHERE mode = 'ban' AND readmitted_at IS NULL;
CREATE INDEX revocations_expiry ON revocations (expires_at);

CREATE TABLE idempotency (
  key TEXT PRIMARY KEY, digest TEXT NOT NULL, claimed_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,
  log_index INTEGER, log_id TEXT, response TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);
${JOINING}${PLATFORM_AGENTS}${SIGN_OUTS}${SUSPENDED}${CONTAINED}${BULK}${SIGNAL_STREAMS}${COMPONENTS_AND_TWO_PEOPLE}${STATUS_INDEXES}${SEALS}${STATUS_TOKENS}`
