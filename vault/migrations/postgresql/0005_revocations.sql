-- Tokens that were taken back here, and not yet at their issuer; sealed as they were in their grant. Times are
-- milliseconds since 1970.
CREATE TABLE revocations (
  id            TEXT PRIMARY KEY NOT NULL,
  grant_id      TEXT NOT NULL,
  tenant        TEXT NOT NULL,
  user_issuer   TEXT NOT NULL,
  user_subject  TEXT NOT NULL,
  issuer        TEXT NOT NULL,
  client_id     TEXT NOT NULL,
  resource      TEXT NOT NULL,
  key_id        TEXT NOT NULL,
  refresh_token BYTEA,
  access_token  BYTEA,
  -- When it is tried next, how often it was, and when nobody tries any more.
  due_at        BIGINT NOT NULL,
  attempts      BIGINT NOT NULL,
  ends_at       BIGINT NOT NULL
);

CREATE INDEX revocations_due ON revocations (due_at);
CREATE INDEX revocations_key ON revocations (key_id);
