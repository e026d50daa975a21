-- What the login must have that the issuer asks for, as JSON.
ALTER TABLE grants ADD COLUMN requirements TEXT;

-- A start ends the leases of whoever was there before, the status counts, and what is unused is found, at a cost
-- that does not grow with what is stored beside.
CREATE INDEX grants_leased ON grants (lease_until) WHERE lease_until > 0;
CREATE INDEX grants_state ON grants (state);
CREATE INDEX grants_used ON grants (used_at);
