-- What of the scopes the user has let the workload use. What was there before was in use.
ALTER TABLE grants ADD COLUMN consented TEXT NOT NULL DEFAULT '';
UPDATE grants SET consented = scopes;

-- When the user logged in with whose login the tokens came, for session policies. Of earlier ones, the last refresh.
ALTER TABLE grants ADD COLUMN authenticated_at BIGINT NOT NULL DEFAULT 0;
UPDATE grants SET authenticated_at = issued_at;
CREATE INDEX grants_authenticated ON grants (issuer, authenticated_at);

-- Who may act for whom while they are away: the pods of a ServiceAccount (delegate), with what the user consented
-- to at a workload (tenant), as far as it is among these scopes. Times are milliseconds since 1970.
CREATE TABLE delegations (
  delegate     TEXT NOT NULL,
  tenant       TEXT NOT NULL,
  user_issuer  TEXT NOT NULL,
  user_subject TEXT NOT NULL,
  resource     TEXT NOT NULL,
  scopes       TEXT NOT NULL,
  ends_at      BIGINT NOT NULL,
  -- When it was last noted that it is used.
  used_at      BIGINT NOT NULL,
  PRIMARY KEY (delegate, user_subject, user_issuer, resource, tenant)
);

CREATE INDEX delegations_user ON delegations (tenant, user_issuer, user_subject);
CREATE INDEX delegations_ends ON delegations (ends_at);
