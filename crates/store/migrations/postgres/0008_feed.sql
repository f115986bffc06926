-- What was committed, for who follows: when each commit was made and which events it brought, in the order of the feed.
-- Where two writers have given the same position, what they wrote has nothing to do with each other.
CREATE TABLE feed_commits (
    position BIGINT NOT NULL,
    writer   BIGINT NOT NULL,
    content  BYTEA  NOT NULL,
    PRIMARY KEY (position, writer)
);

-- At most one row: the place behind which nothing was dropped.
CREATE TABLE feed_kept (
    only_row   BOOLEAN PRIMARY KEY CHECK (only_row),
    from_place BIGINT  NOT NULL
);

-- Who follows, and how far each has got. Times are milliseconds since 1970.
CREATE TABLE feed_consumers (
    name        TEXT   COLLATE "C" PRIMARY KEY,
    consumer_id BIGINT NOT NULL UNIQUE,
    epoch       BIGINT NOT NULL,
    place       BIGINT NOT NULL,
    made_at_ms  BIGINT NOT NULL,
    moved_at_ms BIGINT NOT NULL
);

-- Whether what a writer commits is in the feed; of who does not know it, it is not.
ALTER TABLE chat_writers ADD COLUMN is_fed BOOLEAN NOT NULL DEFAULT FALSE;
