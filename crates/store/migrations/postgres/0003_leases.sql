-- Names that one node holds for a time. A row stays for good, so that no token of its name is given twice. Times are
-- milliseconds since 1970 on the clock of this server.
CREATE TABLE leases (
    name     TEXT   COLLATE "C" PRIMARY KEY,
    -- The number of the newest holder.
    token    BIGINT NOT NULL,
    -- When it was acquired or renewed.
    since_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL
);
