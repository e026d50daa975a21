-- Services of other issuers that users are about to connect. Secrets are sealed; times are milliseconds since 1970.
CREATE TABLE flows (
  -- Of the state, or of a name that nobody is told.
  digest        BYTEA PRIMARY KEY NOT NULL,
  -- The login that began it, and ends it.
  login         BYTEA NOT NULL,
  tenant        TEXT NOT NULL,
  user_issuer   TEXT NOT NULL,
  user_subject  TEXT NOT NULL,
  issuer        TEXT NOT NULL,
  client_id     TEXT NOT NULL,
  resource      TEXT NOT NULL,
  scopes        TEXT NOT NULL,
  sealed        BYTEA NOT NULL,
  ends_at       BIGINT NOT NULL,
  -- When the issuer is asked next whether the user has entered the code; null where it is the browser that comes back.
  poll_at       BIGINT,
  poll_interval BIGINT NOT NULL,
  is_refused    BIGINT NOT NULL
);

CREATE INDEX flows_login ON flows (login);
CREATE INDEX flows_ends ON flows (ends_at);
CREATE INDEX flows_poll ON flows (poll_at) WHERE poll_at IS NOT NULL;

-- As whom, where the issuer is another than that of the login, and says so.
ALTER TABLE grants ADD COLUMN account TEXT;
