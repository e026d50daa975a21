-- Seeds, wrapped by keys that are not in the database.
CREATE TABLE seeds (
  id      TEXT PRIMARY KEY NOT NULL,
  wrapped BLOB NOT NULL
) STRICT;

-- One row for what one user let one workload do at one resource server. Times are milliseconds since 1970.
CREATE TABLE grants (
  id                 TEXT PRIMARY KEY NOT NULL,
  tenant             TEXT NOT NULL,
  user_issuer        TEXT NOT NULL,
  user_subject       TEXT NOT NULL,
  issuer             TEXT NOT NULL,
  client_id          TEXT NOT NULL,
  resource           TEXT NOT NULL,
  kind               TEXT NOT NULL,
  scopes             TEXT NOT NULL,
  state              TEXT NOT NULL,
  reason             TEXT,
  version            INTEGER NOT NULL,
  -- Tokens, sealed, all under one key; the digests name refresh tokens without showing them.
  key_id             TEXT NOT NULL,
  refresh_token      BLOB,
  access_token       BLOB,
  token_digest       BLOB,
  parent_digest      BLOB,
  sent_at            INTEGER NOT NULL,
  issued_at          INTEGER NOT NULL,
  access_expires_at  INTEGER NOT NULL,
  -- The redemption that was begun and not yet seen to end.
  attempt_digest     BLOB,
  attempt_started_at INTEGER,
  attempt_tries      INTEGER,
  lease_until        INTEGER NOT NULL,
  -- Null where there is nothing to refresh.
  due_at             INTEGER,
  used_at            INTEGER NOT NULL,
  failures           INTEGER NOT NULL,
  failing_since      INTEGER,
  UNIQUE (tenant, user_issuer, user_subject, issuer, client_id, resource)
) STRICT;

CREATE INDEX grants_due ON grants (issuer, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX grants_key ON grants (key_id);

-- Sessions of users, by digest. A row with a pod is what one pod may use; one without is what the browser
-- holds, sealed, and what a pod of the same workload trades in.
CREATE TABLE sessions (
  digest       BLOB PRIMARY KEY NOT NULL,
  login        BLOB NOT NULL,
  tenant       TEXT NOT NULL,
  user_issuer  TEXT NOT NULL,
  user_subject TEXT NOT NULL,
  pod          TEXT,
  ends_at      INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_login ON sessions (login);
CREATE INDEX sessions_ends ON sessions (ends_at);

-- What may be used once: codes that were redeemed.
CREATE TABLE spent (
  digest  BLOB PRIMARY KEY NOT NULL,
  ends_at INTEGER NOT NULL
) STRICT;

-- Who did what: each row has the digest of the one before.
CREATE TABLE audit (
  seq    INTEGER PRIMARY KEY NOT NULL,
  digest BLOB NOT NULL,
  entry  TEXT NOT NULL
) STRICT;
