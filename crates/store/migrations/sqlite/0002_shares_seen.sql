-- Whether others may know what a user has seen.
ALTER TABLE users ADD COLUMN shares_seen INTEGER NOT NULL DEFAULT 1;
