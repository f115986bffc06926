-- Whether others may know whether a user is there.
ALTER TABLE users ADD COLUMN shares_presence BOOLEAN NOT NULL DEFAULT TRUE;
