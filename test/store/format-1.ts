/** What the first format of the embedded database held: the stores of its users are migrated from there. */
export const FORMAT_1 = `
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('format', 1), ('generation', 1), ('beats', 0);

CREATE TABLE spent (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE key_pins (
  evidence TEXT PRIMARY KEY, thumbprint TEXT NOT NULL, expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX key_pins_expiry ON key_pins (expires_at);

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
`
